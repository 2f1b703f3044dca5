import numpy as np
import pytest
from tiny_study import Recorder, corpus_of, run, tiny

from bertgrid_tf.analysis import analyze
from bertgrid_tf.inference.predict import Predictor, evaluate_split
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.soup import SoupMember, kept
from bertgrid_tf.training.trial_runner import TrialRunner

SOUP = {"soup": True, "sweeps": {}}


@pytest.fixture(scope="module")
def cooked(tmp_path_factory) -> StudyFolder:
    folder = tmp_path_factory.mktemp("soup") / "study"
    run(folder, tiny(**SOUP))
    return StudyFolder(folder)


def test_the_soup_has_the_mean_of_the_weights_that_went_in_and_is_never_worse_than_the_best_row(tmp_path):
    recipe = tiny(**SOUP)
    runs = TrialRunner(corpus_of(recipe), recipe, tmp_path / "predictions")
    trainer = runs.trainer(recipe.hyperparameters)
    rows, weights = [], []
    for number, rate in enumerate((2e-3, 1e-3, 5e-4)):
        folder = tmp_path / str(number)
        folder.mkdir()
        values = recipe.hyperparameters.model_dump() | {"learning_rate": rate, "schedule_epochs": 2, "stop_epoch": 2}
        scores = [metrics["accuracy"] for metrics in runs(values, folder)]
        best = scores.index(max(scores)) + 1
        assert [file.name for file in folder.glob("weights-*")] == [f"weights-{best}.npz"]
        # The run has gone on since.
        with np.load(kept(folder, best)) as stored:
            weights.append([stored[name] for name in stored.files])
        rows.append(SoupMember(rate, best, max(scores), kept(folder, best)))
    chosen, metrics = runs.soup(recipe.hyperparameters, rows, tmp_path / "soup")
    assert chosen[0].score == max(row.score for row in rows)
    assert metrics["accuracy"] >= chosen[0].score
    went_in = [weights[rows.index(row)] for row in chosen]
    for variable, *members in zip(trainer.checkpoint.model.variables, *went_in, strict=True):
        np.testing.assert_allclose(variable.numpy(), np.mean(members, axis=0), rtol=1e-5, atol=1e-7)


def test_weights_are_kept_while_a_row_gets_better_and_not_told_again(tmp_path):
    recipe = tiny(**SOUP)
    runs = TrialRunner(corpus_of(recipe), recipe, tmp_path / "predictions")
    folder = tmp_path / "run"
    folder.mkdir()
    values = recipe.hyperparameters.model_dump() | {"schedule_epochs": 2, "stop_epoch": 2}
    list(runs(values, folder))
    (file,) = folder.glob("weights-*")
    file.unlink()
    # A resumed run tells of its epochs with later weights in place: they are not that epoch's.
    list(runs(values, folder))
    assert not list(folder.glob("weights-*"))


def test_a_study_tells_what_its_soup_gained_and_can_use_it(cooked):
    soup = cooked.read_soup()
    assert len(soup.cells) + len(soup.left_out) == 2
    gains = {gain.name: gain for gain in analyze(cooked).gains}
    labels = corpus_of(tiny()).labels
    found = read_predictions(predictions_file(cooked.predictions, "soup", 1), labels)
    assert gains["soup"].on_dev.after == pytest.approx((found.probabilities.argmax(axis=1) == found.truth).mean())
    assert gains["soup"].kept == (len(soup.cells) > 1)
    assert "ensemble" in gains
    assert not list(cooked.folder.glob("trial_*/weights-*"))
    dev = corpus_of(tiny()).splits["dev"]
    np.testing.assert_allclose(Predictor(cooked, soup=True).probabilities(dev), found.probabilities, atol=1e-5)
    metrics = evaluate_split(cooked, corpus_of(tiny()), "dev").metrics
    assert set(metrics) == {"final", "corrected", "soup"}
    assert metrics["soup"]["accuracy"] == pytest.approx(soup.metrics["accuracy"])


def test_a_study_that_goes_on_keeps_its_soup(cooked):
    before = cooked.soup_file.read_text()
    recorder: Recorder = run(cooked.folder, tiny(**SOUP))
    assert recorder.runs == []
    assert cooked.soup_file.read_text() == before
