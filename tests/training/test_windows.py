"""Texts in windows: each counts once in training, and has one row in every prediction."""

import numpy as np
import pytest
from tiny_study import corpus_of, tiny

from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.encoding import CorpusEncoder
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.training.workload_estimator import WorkloadEstimator
from bertgrid_tf.trial_config import FINAL, TrialConfig


def windowed(**overrides: object) -> Recipe:
    return tiny(**{"truncation": "windows", "max_length": 6, "sweeps": {}, "final.model": "none"} | overrides)


@pytest.mark.parametrize("settings", [{}, {"class_weights": "balanced", "label_smoothing": 0.1}])
def test_the_windows_of_a_text_share_its_weight_and_the_mean_weight_stays_1(settings):
    recipe = windowed(oversample_ratio=0.5, **settings)
    encoder = CorpusEncoder(corpus_of(recipe))
    train = encoder.training_set(TrialConfig(recipe.hyperparameters, 1, 1, recipe.seed))
    cut = recipe.hyperparameters.model_copy(update={"truncation": "head"})
    whole = encoder.training_set(TrialConfig(cut, 1, 1, recipe.seed))
    windows = train.texts.windows
    assert len(train.labels) == len(train.targets) == len(train.texts) > len(windows) == len(whole.labels)
    begins = np.cumsum(windows) - windows
    assert np.array_equal(train.labels[begins], whole.labels)
    targets = np.eye(train.targets.shape[1])[whole.labels] if whole.targets is None else whole.targets
    sums = np.add.reduceat(train.targets, begins)
    np.testing.assert_allclose(sums, targets * len(train.texts) / len(windows), rtol=1e-5)
    np.testing.assert_allclose(train.targets.sum(axis=1).mean(), targets.sum(axis=1).mean(), rtol=1e-5)


def test_an_epoch_is_estimated_with_all_windows():
    recipe = windowed()
    encoder = CorpusEncoder(corpus_of(recipe))
    config = TrialConfig(recipe.hyperparameters, 2, 2)
    work = WorkloadEstimator(encoder, recipe.seed).epoch(config)
    train = encoder.training_set(TrialConfig(recipe.hyperparameters, 1, 1, recipe.seed)).texts
    assert work.steps == -(-len(train) // int(recipe.hyperparameters.batch_size))
    assert work.tokens == pytest.approx(train.lengths.sum())
    dev = encoder.split(recipe.hyperparameters, "dev").texts
    assert work.evaluated_tokens == pytest.approx(dev.lengths.sum())


def test_a_text_is_scored_and_predicted_by_the_mean_of_its_windows(tmp_path):
    recipe, study = windowed(focal_gamma=1.0), StudyFolder(tmp_path / "study")
    corpus = corpus_of(recipe)
    runner = TrialRunner(corpus, recipe, study.predictions)
    config = TrialConfig(recipe.hyperparameters, 1, 1, recipe.seed, FINAL)
    (tmp_path / "final").mkdir()
    metrics = list(runner.run(config, tmp_path / "final", study.model))
    dev = runner.encoder.split(recipe.hyperparameters, "dev")
    scored = read_predictions(predictions_file(study.predictions, "final", 1), corpus.labels).probabilities
    assert len(scored) == len(dev.labels) < len(dev.texts)
    trainer = runner.models.trainer(config.hyperparameters, 1)
    of_inputs = trainer.probabilities(dev.texts.take(np.arange(len(dev.texts))))
    np.testing.assert_allclose(scored, dev.texts.mean_of_texts(of_inputs), atol=1e-5)
    counts = {split: dict.fromkeys(corpus.labels, 1) for split in ("train", "dev")}
    study.write_recipe(recipe)
    study.write_metadata(StudyMetadata("0" * 16, corpus.labels, runner.encoder._speakers, {}, {}, classes=counts))
    study.write_final(FinalTrial(config.hyperparameters, 1, metrics))
    np.testing.assert_allclose(Predictor(study).probabilities(corpus.splits["dev"]), scored, atol=1e-5)


def test_a_head_that_is_retrained_on_all_windows_is_refused():
    with pytest.raises(UserError, match="head_retraining would count a text once for each window"):
        windowed(head_retraining="refit")
    with pytest.raises(UserError, match="head_retraining would count a text once for each window"):
        windowed(truncation="head", sweeps={"truncation": ["head", "windows"]}, head_retraining="smote")
