"""The final model that repeats the winner has the winner's weights, and is trained only where they were not kept."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_study import SECONDS, Recorder, corpus_of, run, tiny

from bertgrid_tf.analysis import analyze
from bertgrid_tf.inference.evaluate import evaluate_split
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.growth import plan_missing
from bertgrid_tf.trial_config import FINAL, GRID, TrialConfig

OWN = {"final.model": "scratch:1x32", "metric": "loss"}
NONE = OWN | {"final.model": "none"}
KEPT = "The winner's weights were kept: they are the final model, and nothing is trained."


class Watching(Recorder):
    """Lists the trials whose weights are kept as each trial begins."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.kept: list[list[str]] = []
        self._folder = folder

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        super().on_trial_begin(trial, config, steps)
        self.kept.append(sorted(file.parent.name for file in self._folder.glob("trial_*/weights-*")))


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Watching]:
    folder = tmp_path_factory.mktemp("adopted") / "study"
    return folder, run(folder, tiny(**NONE), callback=Watching(folder))  # type: ignore[return-value]


@pytest.fixture
def study(adopted: tuple[Path, Watching], tmp_path: Path) -> StudyFolder:
    """A finished study that a test may change."""
    return StudyFolder(Path(shutil.copytree(adopted[0], tmp_path / "study")))


def final(folder: Path) -> dict[str, object]:
    """The final model with its records, but for the times; its card names the folder."""
    study = StudyFolder(folder)
    files = [*study.model.iterdir(), *study.predictions.glob("final-*")]
    content: dict[str, object] = {file.name: file.read_bytes() for file in files if file.name != "README.md"}
    record = json.loads(study.final_file.read_text())
    record["epochs"] = [{**epoch, **dict.fromkeys(SECONDS)} for epoch in record["epochs"]]
    return content | {"final.json": record}


def left(folder: Path) -> list[Path]:
    return [*folder.glob("trial_*/weights-*"), *folder.glob("final")]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="rows"),
        # The epoch that wins is the first of its row, after which training goes on with another head.
        pytest.param(
            {"head_retraining": "refit", "learning_rates": [8e-3]}, id="a retrained head", marks=pytest.mark.slow
        ),
        pytest.param({"grid_schedule": "per-cell", "learning_rates": [2e-3]}, id="cells"),
        pytest.param({"soup": True}, id="a soup", marks=pytest.mark.slow),
    ],
)
def test_an_adopted_final_model_is_the_one_that_would_be_trained_bit_for_bit(tmp_path, changes):
    folder, recipe = tmp_path / "study", tiny(**{**OWN, "sweeps": {}, **changes})
    recorder = run(folder, recipe)
    assert (FINAL in recorder.stages, recorder.messages[-1], left(folder)) == (False, KEPT, [])
    expected = final(folder)
    shutil.rmtree(folder / "model")
    StudyFolder(folder).delete_predictions(FINAL)
    recorder = run(folder, recipe)
    assert recorder.stages == [FINAL]
    assert recorder.steps > 0
    assert final(folder) == expected


def test_the_weights_of_one_trial_are_kept_at_a_time_those_of_the_best(adopted):
    folder, recorder = adopted
    *_, second = recorder.kept
    assert recorder.stages[-1] == GRID
    assert all(len(kept) <= 1 for kept in recorder.kept)
    [cell] = {f"trial_{row['trial_id']}" for row in StudyFolder(folder).read_cells() if row["learning_rate"] == "0.002"}
    assert second == [cell]


def test_without_a_final_profile_a_study_ends_with_the_winner_s_model(adopted):
    folder, recorder = adopted
    study, corpus = StudyFolder(folder), corpus_of(tiny())
    assert (recorder.messages[-1], left(folder)) == (KEPT, [])
    scored = evaluate_split(study, corpus, "dev").metrics[FINAL]
    assert scored["loss"] == pytest.approx(float(study.read_table().best().score))
    epochs = len(study.read_final().epochs)
    read = read_predictions(predictions_file(study.predictions, FINAL, epochs), corpus.labels)
    predicted = Predictor(study).probabilities(corpus.splits["dev"])
    np.testing.assert_allclose(predicted, read.probabilities, atol=1e-5)


def test_adopted_epochs_count_once_and_are_no_run_of_their_own(adopted):
    folder, recorder = adopted
    analysis = analyze(StudyFolder(folder))
    assert analysis.ended
    assert analysis.cost.epochs == len(recorder.epochs)
    assert analysis.cost.stages[FINAL] > 0


@pytest.mark.slow
def test_a_study_that_adopted_its_winner_takes_another_final_model(study):
    weights = study.model / "model.safetensors"
    before = weights.stat().st_mtime_ns
    recorder = run(study.path, tiny(**OWN))
    assert (recorder.trials, weights.stat().st_mtime_ns) == ([], before)
    shutil.rmtree(study.model)
    run(study.path, tiny(**NONE))
    assert run(study.path, tiny(**OWN | {"final.model": "scratch:2x32"})).stages == [FINAL]
    assert study.read_final().model == "scratch:2x32"


def test_where_another_cell_than_the_best_wins_the_final_model_is_trained(tmp_path):
    cheapest = {"selection": "cheapest-equivalent", "sweeps": {}, "learning_rates": [5e-4], "metric": "accuracy"}
    recorder = run(tmp_path / "study", tiny(**NONE | cheapest))
    study = StudyFolder(tmp_path / "study")
    assert (study.read_table().best().epoch, len(study.read_final().epochs)) == (2, 1)
    assert recorder.stages == [GRID, FINAL]
    assert left(study.path) == []


def test_weights_that_are_damaged_are_trained_again(adopted, tmp_path):
    class Damaging(Recorder):
        def on_message(self, message: str) -> None:
            super().on_message(message)
            if message == KEPT:
                (tmp_path / "study" / "final" / "state.npz").write_bytes(b"PK")

    recorder = run(tmp_path / "study", tiny(**NONE), callback=Damaging())
    assert KEPT in recorder.messages
    assert final(tmp_path / "study") == final(adopted[0])


def test_a_study_that_only_lacks_a_row_will_adopt_its_winner(study):
    recipe = tiny(**NONE | {"learning_rates": [2e-3, 1e-3, 5e-4]})
    planned = plan_missing(study, recipe, corpus_of(recipe))
    assert [stage.name for stage in planned.stages] == [GRID]
