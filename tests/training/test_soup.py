from pathlib import Path

import numpy as np
import pytest
from tiny_study import Recorder, corpus_of, run, tiny

from bertgrid_tf.analysis import analyze
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.evaluate import evaluate_split
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import StudyFolder, weights_file
from bertgrid_tf.training.soup import SoupMember
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import GRID, INTERACTIONS, TrialConfig

SOUP = {"soup": True, "sweeps": {}}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return tiny(**SOUP)


@pytest.fixture(scope="module")
def runner(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> TrialRunner:
    """A runner for several tests, so that its model is built and traced once."""
    return TrialRunner(corpus_of(recipe), recipe, tmp_path_factory.mktemp("runner") / "predictions")


@pytest.fixture(scope="module")
def cooked(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study whose sweeps leave weights too, which no soup needs."""

    class Watching(Recorder):
        def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
            super().on_trial_begin(trial, config, steps)
            if config.stage == GRID:
                kept.append(sorted(file.parent.name for file in folder.glob("trial_*/weights-*")))

    kept: list[list[str]] = []
    folder = tmp_path_factory.mktemp("soup") / "study"
    run(folder, tiny(soup=True), callback=Watching())
    # Those of a sweep go when the grid shows that they are none of its rows.
    assert kept == [[], ["trial_0002"]]
    return StudyFolder(folder)


def weights(folder: Path) -> list[str]:
    return [file.name for file in folder.glob("weights-*")]


def test_the_soup_has_the_mean_of_the_weights_that_went_in_and_is_never_worse_than_the_best_row(
    recipe, runner, tmp_path
):
    trainer = runner.models.trainer(recipe.hyperparameters)
    rows, kept = [], []
    for number, rate in enumerate((2e-3, 1e-3, 5e-4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        config = TrialConfig(recipe.hyperparameters, 2, 2, recipe.seed).with_hyperparameters(learning_rate=rate)
        scores = [metrics["accuracy"] for metrics in runner.run(config, folder)]
        best = scores.index(max(scores)) + 1
        assert weights(folder) == [f"weights-{best}.npz"]
        # The trial has gone on since.
        kept.append(trainer.load_weights(weights_file(folder, best), ""))
        rows.append(SoupMember(rate, best, max(scores), weights_file(folder, best)))
    whole = rows[0].file.read_bytes()
    rows[0].file.write_bytes(whole[:1000])
    with pytest.raises(UserError, match=r"weights-\d\.npz is damaged \(.*: delete it to average the other rows\."):
        runner.average_weights(recipe.hyperparameters, rows, tmp_path / "soup")
    rows[0].file.write_bytes(whole)
    chosen, metrics = runner.average_weights(recipe.hyperparameters, rows, tmp_path / "soup")
    assert chosen[0].score == max(row.score for row in rows)
    assert metrics["accuracy"] >= chosen[0].score
    went_in = [kept[rows.index(row)] for row in chosen]
    for variable, *members in zip(trainer.checkpoint.model.variables, *went_in, strict=True):
        np.testing.assert_allclose(variable.numpy(), np.mean(members, axis=0), rtol=1e-5, atol=1e-7)


def test_weights_are_kept_while_a_row_gets_better_and_not_when_it_is_restored(recipe, runner, tmp_path):
    folder = tmp_path / "trial"
    folder.mkdir()
    config = TrialConfig(recipe.hyperparameters, 2, 2, recipe.seed)
    list(runner.run(config, folder))
    (file,) = folder.glob("weights-*")
    file.unlink()
    # A resumed trial reports its epochs with later weights in place: they are not that epoch's.
    list(runner.run(config, folder))
    assert not weights(folder)


@pytest.mark.parametrize(
    ("stage", "epochs", "kept"),
    [
        (GRID, 1, True),
        # The grid takes such a trial as one of its rows, and trains none like it.
        ("sweep:context", 2, True),
        (INTERACTIONS, 2, False),
    ],
)
def test_weights_are_kept_for_trials_that_can_be_rows_of_the_grid(recipe, runner, tmp_path, stage, epochs, kept):
    config = TrialConfig(recipe.hyperparameters, epochs, epochs, recipe.seed, stage)
    list(runner.run(config, tmp_path))
    assert bool(weights(tmp_path)) == kept


def test_a_study_scores_what_its_soup_gained_and_can_use_it(cooked):
    soup = cooked.read_soup()
    assert len(soup.cells) + len(soup.left_out) == 2
    gains = {gain.name: gain for gain in analyze(cooked).gains}
    labels = corpus_of(tiny()).labels
    predictions = read_predictions(predictions_file(cooked.predictions, "soup", 1), labels)
    accuracy = (predictions.probabilities.argmax(axis=1) == predictions.truth).mean()
    assert gains["soup"].on_dev.after == pytest.approx(accuracy)
    assert gains["soup"].kept == (len(soup.cells) > 1)
    assert "ensemble" in gains
    assert not list(cooked.path.glob("trial_*/weights-*"))
    dev = corpus_of(tiny()).splits["dev"]
    np.testing.assert_allclose(Predictor(cooked, soup=True).probabilities(dev), predictions.probabilities, atol=1e-5)
    metrics = evaluate_split(cooked, corpus_of(tiny()), "dev").metrics
    assert set(metrics) == {"final", "corrected", "soup"}
    assert metrics["soup"]["accuracy"] == pytest.approx(soup.metrics["accuracy"])


def test_a_resumed_study_keeps_its_soup(cooked):
    before = cooked.soup_file.read_text()
    recorder: Recorder = run(cooked.path, tiny(soup=True))
    assert recorder.trials == []
    assert cooked.soup_file.read_text() == before


def test_a_study_whose_soup_was_deleted_goes_on_without_and_says_so(cooked):
    before = cooked.soup_file.read_bytes()
    cooked.soup_file.unlink()
    recorder: Recorder = run(cooked.path, tiny(soup=True))
    rates = ", ".join(f"{rate:g}" for rate in sorted(tiny().learning_rates, reverse=True))
    assert f"The soup is made without the learning rates {rates}, whose weights are missing." in recorder.messages
    assert not cooked.soup_file.exists()
    cooked.soup_file.write_bytes(before)
