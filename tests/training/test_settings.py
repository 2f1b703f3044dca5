"""All settings for small data in one trial: resumed, saved, and read by `predict`."""

import numpy as np
from tiny_study import corpus_of, tiny

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.encoding import training_texts
from bertgrid_tf.training.recipe_checks import check_recipe
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import FINAL, TrialConfig

SETTINGS = {
    "label_smoothing": 0.1,
    "layer_decay": 0.8,
    "reinit_layers": 1,
    "frozen_layers": 1,
    "hidden_dropout": "0.2",
    "attention_dropout": "0.0",
    "pooling": "mean",
    "truncation": "head+tail",
    "head_retraining": "refit",
}


def test_a_resumed_trial_equals_an_uninterrupted_one_and_its_model_predicts_what_was_scored(tmp_path):
    study, corpus = StudyFolder(tmp_path / "study"), corpus_of(tiny())
    held = load("scratch:2x32", corpus.labels, texts=training_texts(corpus))
    held.reset(0)
    held.save(tmp_path / "checkpoint")
    recipe = tiny(**SETTINGS, model=str(tmp_path / "checkpoint"), max_length=12, sweeps={}, **{"final.model": "none"})
    check_recipe(recipe, corpus)
    config = TrialConfig(recipe.hyperparameters, 2, 2, recipe.seed, FINAL).with_hyperparameters(learning_rate=1e-3)
    runner = TrialRunner(corpus, recipe, study.predictions)
    for name in ("final", "broken", "other"):
        (tmp_path / name).mkdir()

    def predictions(name: str) -> np.ndarray:
        return read_predictions(predictions_file(study.predictions, name, 2), corpus.labels).probabilities

    broken = runner.run(config, tmp_path / "broken")
    next(broken)
    broken.close()
    plain = config.with_hyperparameters(hidden_dropout="checkpoint", reinit_layers=0, layer_decay=1.0)
    list(runner.run(plain, tmp_path / "other"))
    list(runner.run(config, tmp_path / "broken"))
    metrics = list(runner.run(config, tmp_path / "final", study.model))
    assert np.array_equal(predictions("broken"), predictions("final"))
    assert not np.array_equal(predictions("other"), predictions("final"))

    counts = {split: dict.fromkeys(corpus.labels, 1) for split in ("train", "dev")}
    study.write_recipe(recipe)
    study.write_metadata(StudyMetadata("0" * 16, corpus.labels, runner.encoder._speakers, {}, {}, classes=counts))
    study.write_final(FinalTrial(config.hyperparameters, 2, metrics))
    predicted = Predictor(study).probabilities(corpus.splits["dev"])
    np.testing.assert_allclose(predicted, predictions("final"), atol=1e-5)
