from dataclasses import replace

import pandas as pd
import pytest
from tiny_study import Recorder, run, tiny

from bertgrid_tf.analysis import CellAnalysis, LevelAnalysis, ScoreEstimate, SweepAnalysis, analyze
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.follow_up import audits, repeats

SCORE = ScoreEstimate(0.5, 0.4, 0.6)
AGAIN = {"repeats": 2, "audit": True, "final.model": "none"}


def cell(rate: float, epoch: int, tied: bool) -> CellAnalysis:
    return CellAnalysis(rate, epoch, SCORE, 0.5, tied, {})


def level(value: str, score: float | None, chosen: bool = False) -> LevelAnalysis:
    return LevelAnalysis(value, 1, score and replace(SCORE, value=score), 0.5, True, chosen, "COMPLETED")


def test_every_row_with_tied_cells_is_repeated_up_to_the_last_of_them():
    cells = [cell(1e-3, 1, True), cell(1e-3, 2, True), cell(1e-3, 3, False), cell(5e-4, 2, False), cell(2e-4, 3, True)]
    recipe = tiny(repeats=3, epochs=3, seed=7)
    found = repeats(recipe, {"context": "current", "schedule_epochs": 3}, cells)
    schedule = ("learning_rate", "schedule_epochs", "stop_epoch")
    assert [(run.seed, *(run.values[name] for name in schedule)) for run in found] == [
        (8, 1e-3, 3, 2),
        (8, 2e-4, 3, 3),
        (9, 1e-3, 3, 2),
        (9, 2e-4, 3, 3),
    ]
    assert len({run.name for run in found}) == 4
    independent = repeats(tiny(repeats=2, epochs=3, grid_schedule="per-cell"), {"schedule_epochs": 3}, cells)
    assert [(run.values["schedule_epochs"], run.values["stop_epoch"]) for run in independent] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]
    assert repeats(tiny(), {"schedule_epochs": 3}, cells) == []


def test_the_runner_up_is_the_best_level_that_was_not_chosen():
    sweeps = [
        SweepAnalysis("context", [level("a", 0.4), level("b", 0.7, True), level("c", 0.6), level("d", None)]),
        SweepAnalysis("model", [level("only", None, True)]),
    ]
    (found,) = audits(
        tiny(audit=True), {"context": "b", "model": "only", "schedule_epochs": 3, "stop_epoch": 2}, sweeps
    )
    assert (found.parameter, found.values) == (
        "context",
        {"context": "c", "model": "only", "schedule_epochs": 3, "stop_epoch": 2},
    )
    (found,) = audits(tiny(audit=True, metric="loss"), {"context": "b", "model": "only"}, sweeps)
    assert found.values["context"] == "a"
    assert audits(tiny(), {"context": "b"}, sweeps) == []


@pytest.fixture(scope="module")
def looked_at_again(tmp_path_factory):
    folder = tmp_path_factory.mktemp("follow_up") / "study"
    return StudyFolder(folder), run(folder, tiny(**AGAIN))


def told(study_folder: StudyFolder) -> list:
    """What the seed decides of the runs after the search."""
    return [
        (
            one.name,
            one.values,
            [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in one.epochs],
        )
        for one in study_folder.read_follow_ups()
    ]


def test_tied_rows_get_another_seed_and_sweeps_an_audit(looked_at_again):
    study_folder, recorder = looked_at_again
    analysis = analyze(study_folder)
    assert analysis.seed_repeats
    for repeat in analysis.seed_repeats:
        assert len(repeat.scores) == 2
    seeds = [values["seed"] for stage, values in recorder.runs if stage == "repeats"]
    assert set(seeds) == {2}
    (audit,) = analysis.interaction_checks
    assert {audit.chosen, audit.runner_up} == {"current", "current+previous"}
    assert [values["audited"] for stage, values in recorder.runs if stage == "audit"] == ["context"]
    # Another seed is another run.
    cells = pd.read_csv(study_folder.cells_file)
    for one in study_folder.read_follow_ups():
        if one.stage == "repeats":
            first = cells[(cells.learning_rate == one.values["learning_rate"]) & (cells.epoch == 1)]
            assert one.epochs[0]["train_loss"] != first["train_loss"].item()
    assert not [path for path in study_folder.follow_up.iterdir() if path.is_dir()]


def test_a_study_that_was_stopped_after_the_search_goes_on_from_there(looked_at_again, tmp_path):
    study_folder, recorder = looked_at_again
    searched = [number for number, (stage, _) in enumerate(recorder.runs) if stage == "repeats"]
    steps = sum(values["of_epochs"] * values["of_steps"] for _, values in recorder.runs[: searched[0]])

    class StoppedError(Exception):
        pass

    def stop() -> None:
        if stopping.steps == steps + 3:
            raise StoppedError

    stopping = Recorder(stop)
    with pytest.raises(StoppedError):
        run(tmp_path / "study", tiny(**AGAIN), callback=stopping)
    resumed = run(tmp_path / "study", tiny(**AGAIN))
    assert {stage for stage, _ in resumed.runs} == {"repeats", "audit"}
    assert told(StudyFolder(tmp_path / "study")) == told(study_folder)


def test_an_audit_can_be_asked_for_afterwards_and_nothing_else(tmp_path):
    folder = tmp_path / "study"
    run(folder, tiny())
    recorder = run(folder, tiny(audit=True))
    assert [stage for stage, _ in recorder.runs] == ["audit"]
    with pytest.raises(UserError, match="differ in repeats"):
        run(folder, tiny(audit=True, repeats=2))
