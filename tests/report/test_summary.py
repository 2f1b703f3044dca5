import io
from dataclasses import replace

import made_up_study
from made_up_study import right_in, write_trial
from rich.console import Console

from bertgrid_tf.analysis import analyze
from bertgrid_tf.report.summary import print_summary
from bertgrid_tf.storage.records import FollowUpTrial
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import INTERACTIONS, SEEDS, TrialConfig

CELLS = {(0.001, 1): right_in(0.5, 1), (0.001, 2): right_in(0.75, 2), (0.0005, 1): None}
LEVELS = [
    ("context", "current", right_in(0.5, 3), "COMPLETED"),
    ("context", "current+previous", right_in(0.625, 4), "COMPLETED*"),
    ("context", "current+next", right_in(0.62, 5), "COMPLETED"),
    ("speaker_format", "colon", None, "FAILED"),
    ("speaker_format", "none", None, "RUNNING"),
]
SWEEPS = {"context": ["current", "current+previous", "current+next"], "speaker_format": ["colon", "none"]}


def shown(study_folder: StudyFolder, width: int = 120) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_summary(console, study_folder, analyze(study_folder))
    return console.file.getvalue().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def ended(study_folder: StudyFolder) -> StudyFolder:
    study_folder.best_file.write_text(study_folder.recipe_file.read_text())
    return study_folder


def test_a_study_that_is_still_running_shows_what_it_has(tmp_path):
    study_folder = made_up_study.make(tmp_path / "study", CELLS, LEVELS, sweeps=SWEEPS)
    rows = [cells(line) for line in shown(study_folder) if line.startswith("│")]
    intervals = [row.pop(4) for row in rows[:3]]
    assert rows == [
        ["context", "current", "1", "50.00 %", ""],
        ["", "current+previous", "1", "62.50 %", "◀ chosen ≈"],
        ["", "current+next", "1", "62.00 %", "≈"],
        ["speaker_format", "colon", "", "failed", "", ""],
        ["", "none", "", "running", "", ""],
        ["0.001", "50.00", "75.00*"],
        ["0.0005", "diverged", "·"],
    ]
    low, high = map(float, intervals[0].split(" to "))
    assert low < 50 < high
    assert any(line.startswith("On dev so far: accuracy 75.00 % (") for line in shown(study_folder))
    assert "Best so far: learning_rate=0.001, context=current+previous, after epoch 2 of 2." in shown(study_folder)


def test_on_a_narrow_terminal_no_name_is_cut(tmp_path):
    study_folder = made_up_study.make(tmp_path / "study", CELLS, LEVELS, sweeps=SWEEPS)
    lines = [cells(line) for line in shown(study_folder, 72) if line.startswith("│")]
    assert "".join(row[1] for row in lines[:5]).startswith("currentcurrent+previouscurrent+next")
    assert not any("…" in line for line in shown(study_folder, 72))


def test_eight_epochs_fit_a_terminal_of_eighty_columns(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = {(0.001, epoch): right_in(0.5 + epoch / 100, epoch) for epoch in range(1, 9)}
    study_folder = made_up_study.make(tmp_path / "study", rows, sweeps={}, learning_rates=[0.001], epochs=8)
    lines = [cells(line) for line in shown(study_folder, 80) if line.startswith("│")]
    assert [len(line) for line in lines] == [9]
    assert lines[0][0] == "0.001"


def test_the_score_stands_first_with_its_interval_then_the_winner_with_its_epoch(tmp_path):
    study_folder = ended(made_up_study.make(tmp_path / "study", CELLS, sweeps={}))
    (first,) = [number for number, line in enumerate(shown(study_folder)) if line.startswith("On dev:")]
    score, winner = shown(study_folder)[first : first + 2]
    assert score.startswith("On dev: accuracy 75.00 % (95 % interval 7")
    assert winner == "Winner: learning_rate=0.001, after epoch 2 of 2."
    assert f"Winner as a recipe: {study_folder.best_file}" in shown(study_folder)


def test_cells_that_are_tied_with_the_best_are_marked_and_the_cheapest_is_named(tmp_path):
    tied = {(0.001, 1): right_in(0.74, 1), (0.001, 2): right_in(0.75, 2), (0.0005, 2): right_in(0.5, 3)}
    lines = shown(ended(made_up_study.make(tmp_path / "study", tied, sweeps={})))
    assert ["0.001", "74.00≈", "75.00*"] in [cells(line) for line in lines if line.startswith("│")]
    sentence = (
        "2 of 3 cells are tied at the 5 % level (≈), the best included; the cheapest of them: learning rate 0.001, "
    )
    assert f"{sentence}epoch 1 (74.00 %)." in lines
    assert any(line.startswith("As the best of 3, this score is expected to be ") for line in lines)


def test_the_mean_of_several_seeds_and_interaction_checks_are_printed(tmp_path):
    study_folder = ended(
        made_up_study.make(tmp_path / "study", CELLS, LEVELS[:3], sweeps={"context": SWEEPS["context"]})
    )
    config = TrialConfig(study_folder.read_recipe().hyperparameters, 2, 2)
    checked = config.with_hyperparameters(context="current")
    for name, trial, reached in (
        ("seed2_0.001_2", replace(config, seed=2, stage=SEEDS), 0.7),
        ("interaction_context", replace(checked, stage=INTERACTIONS, parameter="context"), 0.9),
    ):
        metrics = [write_trial(study_folder, name, epoch, right_in(reached, 6)) for epoch in (1, 2)]
        study_folder.write_follow_up(FollowUpTrial(name, trial, metrics))
    lines = shown(study_folder)
    assert "The score of the best cell is the mean 72.50 % of 2 seeds, from 70.00 % to 75.00 %." in lines
    assert ["0.001", "60.00≈", "72.50*"] in [cells(line) for line in lines if line.startswith("│")]
    assert any("means over up to 2 seeds" in line for line in lines)
    (check,) = [line for line in lines if line.startswith("Interaction check")]
    start = "Interaction check of context: interacts; current+previous less current at the winner: -15.00 points ("
    assert check.startswith(start)
    assert check.endswith("Try --set context=current with the winner's learning rate and epochs.")


def test_a_sweep_s_run_that_beat_the_grid_is_pointed_out(tmp_path):
    given = {"sweeps": {"context": SWEEPS["context"]}, "sweep_epochs": 1}
    assert not [
        line
        for line in shown(ended(made_up_study.make(tmp_path / "study", CELLS, LEVELS[:3], **given)))
        if "scored better" in line
    ]
    better = [LEVELS[0], ("context", "current+previous", right_in(0.875), "COMPLETED*")]
    lines = shown(ended(made_up_study.make(tmp_path / "better", CELLS, better, **given)))
    (hint,) = [line for line in lines if "scored better" in line]
    assert hint.startswith(
        "The sweep's trial context=current+previous, 87.50 %, scored better: its schedule of 1 epochs"
    )
    assert hint.endswith("try --epochs 1, or --set grid_schedule=per-cell.")


def test_on_forty_columns_every_cell_is_whole_and_a_wide_grid_lies_on_its_side(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    study_folder = made_up_study.make(tmp_path / "study", CELLS, LEVELS, sweeps=SWEEPS)
    lines = [line for line in shown(study_folder, width=40) if line.startswith("│")]
    assert all(len(line) <= 40 for line in lines)
    folded = ["".join(row[i] for row in map(cells, lines) if len(row) == 6) for i in range(6)]
    assert "context" in folded[0]
    assert "currentcurrent+previouscurrent+nextcolonnone" in folded[1]
    assert "50.00 %62.50 %62.00 %" in folded[3]
    assert "…" not in "".join(lines)
    wide = made_up_study.make(tmp_path / "wide", {(0.001, epoch): right_in(0.5, epoch) for epoch in range(1, 7)})
    rows = [cells(line) for line in shown(wide, width=40) if line.startswith("│")]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert {len(row) for row in rows} == {2}


def test_what_is_kept_stands_with_the_number_that_decided_it(tmp_path):
    # Right in 70 % with a confidence of 75 %: at the fitted temperature the loss is hardly lower.
    study_folder = ended(made_up_study.make(tmp_path / "study", {(1e-3, 1): right_in(0.7)}, sweeps={}))
    temperature = next(gain for gain in analyze(study_folder).gains if gain.name == "temperature")
    (line,) = [line for line in shown(study_folder) if line.startswith("Post-hoc gain, temperature")]
    change = f"loss {temperature.on_dev.before:.4f} ▶ {temperature.on_dev.after:.4f}"
    kept = "kept" if temperature.on_dev.after < temperature.on_dev.before else "not kept"
    assert line.startswith(f"Post-hoc gain, temperature: {change}; {kept}. Temperature 1.")


def test_a_study_that_learned_nothing_says_so_before_its_winner(tmp_path):
    lines = shown(ended(made_up_study.make(tmp_path / "study", {(1e-3, 1): right_in(0.52)}, sweeps={})))
    first = next(number for number, line in enumerate(lines) if line.startswith("Not significantly better than"))
    assert lines[first].startswith("Not significantly better than always saying joy (50.00 % on dev): the winner has")
    assert lines[first + 1].startswith("On dev: ")
    assert lines[first + 1].endswith("; always joy 50.00 %, guessing by frequency 50.00 %.")
    assert lines[first + 2].startswith("Winner: ")
