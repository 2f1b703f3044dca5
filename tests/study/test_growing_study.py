"""A study that grew equals one that was whole from the start, but for the ids of its trials."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny_study import SECONDS, corpus_of, run, tiny

from bertgrid_tf.analysis import analyze
from bertgrid_tf.budget.time_budget import Budget, BudgetLog
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.evaluate import evaluate_split
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report.answer import answer
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.growth import plan_missing
from bertgrid_tf.study.preparation import check_folder
from bertgrid_tf.trial_config import GRID, INTERACTIONS, SEEDS

SMALL = {
    "metric": "loss",
    "sweeps": {"context": ["current", "current+next"]},
    "learning_rates": [2e-3, 1e-3],
    "final.model": "scratch:1x32",
}
LARGE = SMALL | {
    "sweeps": {"context": ["current", "current+next", "current+previous"]},
    "learning_rates": [4e-3, 2e-3, 1e-3],
}
ONE_ROW = SMALL | {"sweeps": {}, "learning_rates": [2e-3], "epochs": 1, "final.model": "none"}
FREE = {"lr_schedule": "constant", "warmup_ratio": 0}
FOLLOWED_UP = {"n_seeds": 2, "check_interactions": True}


def numbers(folder: Path) -> dict[str, object]:
    """Everything in a study folder that the seed decides; a trial is named by its stage and its hyperparameters."""
    study = StudyFolder(folder)
    names = {
        record["trial_id"]: json.dumps(record["hyperparameters"]["values"], sort_keys=True)
        for record in study.read_trials()
    }
    texts = {name: (folder / name).read_text() for name in ("grid.csv", "recipe.yaml", "mistakes.csv", "lengths.csv")}
    texts["best.yaml"] = study.best_file.read_text().replace(str(folder), "FOLDER")
    for table in ("sweeps.csv", "cells.csv"):
        read = pd.read_csv(folder / table, dtype={"trial_id": str}).drop(columns=SECONDS, errors="ignore")
        texts[table] = read.assign(trial_id=read["trial_id"].map(names)).to_csv()
    for path in sorted(study.predictions.iterdir()):
        trial = re.fullmatch(r"trial_(\d+)(-\d+\.csv)", path.name)
        texts[f"{names[trial[1]]}{trial[2]}" if trial else path.name] = path.read_text()
    for path in (*study.follow_up.glob("*.json"), study.final_file):
        if path.exists():
            record = json.loads(path.read_text())
            record["epochs"] = [{**epoch, **dict.fromkeys(SECONDS)} for epoch in record["epochs"]]
            texts[path.name] = record
    if study.model.is_dir():
        texts["model"] = (study.model / "model.safetensors").read_bytes()
    return texts


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "study"
    run(folder, tiny(**SMALL))
    return folder


@pytest.fixture
def small(finished: Path, tmp_path: Path) -> Path:
    """A finished study that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "small"))


def missing(folder: Path, recipe: Recipe) -> dict[str, tuple[int, int]]:
    """Trials and epochs by stage that a study lacks of a recipe."""
    corpus, study = corpus_of(recipe), StudyFolder(folder)
    planned = plan_missing(study, check_folder(study, recipe, corpus, {}), corpus)
    return {stage.name: (stage.trials, stage.epochs) for stage in planned.stages}


def test_a_study_that_grew_equals_one_that_was_whole_and_its_former_final_model_is_retired(small, tmp_path):
    evaluate_split(StudyFolder(small), corpus_of(tiny()), "test")
    assert missing(small, tiny(**LARGE)) == {"sweep:context": (1, 1), GRID: (1, 2)}
    former = StudyFolder(small).read_final()
    recorder = run(small, tiny(**LARGE))
    assert recorder.stages == ["sweep:context", GRID]
    assert recorder.messages[-3] == f"The study in {small} grows: learning_rates 0.004; context current+previous."
    assert recorder.messages[-2].startswith("The winner has changed: the final model of the former one")
    assert recorder.messages[-1].startswith("The winner's weights were kept")
    assert StudyFolder(small).read_final().hyperparameters != former.hyperparameters
    assert analyze(StudyFolder(small)).test is None
    run(tmp_path / "whole", tiny(**LARGE))
    assert numbers(small) == numbers(tmp_path / "whole")
    # In another order it is the same study, which lacks nothing.
    assert missing(small, tiny(**LARGE | {"learning_rates": [1e-3, 2e-3, 4e-3]})) == {}


def test_a_winner_that_stays_keeps_its_final_model(small):
    before = {path: path.stat().st_mtime_ns for path in (small / "model").glob("*.safetensors")}
    recorder = run(small, tiny(**SMALL | {"learning_rates": [2e-3, 1e-3, 1e-7]}))
    assert recorder.stages == [GRID]
    assert {path: path.stat().st_mtime_ns for path in (small / "model").glob("*.safetensors")} == before
    assert StudyFolder(small).read_best().learning_rates == [2e-3]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rates": [2e-3, 4e-3]}, r"\(learning_rates lacks 0\.001\): a study grows and never shrinks"),
        ({"epochs": 1, "sweeps": {}}, r"\(epochs is 1 instead of 2; sweeps\.context lacks current, current\+next\)"),
        (
            {"sweeps": SMALL["sweeps"] | {"batch_size": [8]}},
            r"\(sweeps\.batch_size lacks 16\)",
        ),
        (
            {"epochs": 3},
            r"a learning-rate schedule of 2 epochs, and 3 would need each of them anew \(6 epochs, about .+\): give "
            r"--study NAME for a study of that length; one with --set lr_schedule=inverse_sqrt or "
            r"grid_schedule=per-cell can grow to any\.$",
        ),
    ],
    ids=["rates", "epochs and levels", "a new sweep", "a horizon"],
)
def test_what_a_study_cannot_become_is_refused_and_nothing_is_written(finished, changes, sentence):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=sentence):
        run(finished, tiny(**SMALL | changes))
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_recipe_that_does_not_fit_leaves_the_study_as_it_was(finished):
    with pytest.raises(UserError, match="max_length 600 is beyond"):
        run(finished, tiny(**SMALL | {"sweeps": SMALL["sweeps"] | {"max_length": [48, 600]}}))
    assert "max_length" not in StudyFolder(finished).read_recipe().sweeps


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [FREE, {"lr_schedule": "inverse_sqrt"}], ids=["constant", "inverse_sqrt"])
def test_a_row_whose_schedule_has_no_horizon_goes_on(tmp_path, schedule):
    short = ONE_ROW | schedule | {"final.model": "scratch:1x32"}
    long = short | {"epochs": 3}
    run(tmp_path / "grown", tiny(**short))
    assert missing(tmp_path / "grown", tiny(**long))[GRID] == (1, 2)
    run(tmp_path / "grown", tiny(**long))
    run(tmp_path / "whole", tiny(**long))
    assert numbers(tmp_path / "grown") == numbers(tmp_path / "whole")


@pytest.mark.slow
def test_a_per_cell_grid_grows_by_epochs(tmp_path):
    per_cell = ONE_ROW | {"grid_schedule": "per-cell", "n_seeds": 2, "final.model": "scratch:1x32"}
    run(tmp_path / "grown", tiny(**per_cell))
    grown = per_cell | {"epochs": 3, "learning_rates": [2e-3, 4e-3]}
    assert missing(tmp_path / "grown", tiny(**grown))[GRID] == (5, 11)
    run(tmp_path / "grown", tiny(**grown))
    run(tmp_path / "whole", tiny(**grown))
    assert numbers(tmp_path / "grown") == numbers(tmp_path / "whole")


@pytest.mark.slow
def test_further_seeds_and_interaction_checks_are_those_of_the_grown_study(tmp_path):
    run(tmp_path / "grown", tiny(**SMALL | FOLLOWED_UP))
    recorder = run(tmp_path / "grown", tiny(**LARGE | FOLLOWED_UP))
    assert {SEEDS, INTERACTIONS} <= set(recorder.stages)
    run(tmp_path / "whole", tiny(**LARGE | FOLLOWED_UP))
    assert numbers(tmp_path / "grown") == numbers(tmp_path / "whole")
    # More seeds may change the winner of a study that has a final model.
    run(tmp_path / "grown", tiny(**LARGE | FOLLOWED_UP | {"n_seeds": 3}))
    run(tmp_path / "three", tiny(**LARGE | FOLLOWED_UP | {"n_seeds": 3}))
    assert numbers(tmp_path / "grown") == numbers(tmp_path / "three")


@pytest.mark.slow
def test_a_better_level_that_comes_later_is_named_and_changes_nothing(tmp_path):
    small = SMALL | {"sweeps": {"context": ["current", "current+previous"]}}
    run(tmp_path / "study", tiny(**small))
    former = numbers(tmp_path / "study")
    grown = tiny(**small | {"sweeps": {"context": ["current+previous", "current", "current+next"]}})
    assert run(tmp_path / "study", grown).stages == ["sweep:context"]
    assert numbers(tmp_path / "study")["best.yaml"] == former["best.yaml"]
    sentences = answer(analyze(StudyFolder(tmp_path / "study")))
    assert any("`context=current+next`" in one and "**would have been adopted**" in one for one in sentences)


@pytest.mark.slow
def test_a_study_with_a_budget_grows_within_it_or_a_larger_one(tmp_path):
    run(tmp_path / "study", tiny(**SMALL), budget=Budget.of("9h"))
    with pytest.raises(
        UserError, match="was cut down to --budget 9h when it began: go on with that or more or without"
    ):
        run(tmp_path / "study", tiny(**LARGE), budget=Budget.of("8h"))
    assert run(tmp_path / "study", tiny(**LARGE), budget=Budget.of("10h")).stages[:2] == ["sweep:context", GRID]
    log = BudgetLog(StudyFolder(tmp_path / "study").budget_file)
    assert (log.seconds, log.chosen(tiny(**LARGE))) == (36000, tiny(**LARGE))
    assert run(tmp_path / "study", tiny(**LARGE)).stages == []
