from math import isnan

import pytest
from tiny_study import corpus_of, tiny

from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.training import trial_runner
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import TrialConfig


@pytest.mark.parametrize(("learning_rate", "diverges"), [(1e-3, False), (1e30, True)])
def test_a_metric_over_named_classes_is_that_of_the_epoch_s_predictions(tmp_path, learning_rate, diverges):
    metric = "micro_f1:anger,joy"
    recipe = tiny(metric=metric)
    corpus, folder = corpus_of(recipe), tmp_path / "trial"
    folder.mkdir()
    config = TrialConfig(recipe.hyperparameters, 1, 1).with_hyperparameters(learning_rate=learning_rate)
    (metrics,) = TrialRunner(corpus, recipe, tmp_path).run(config, folder)
    if diverges:
        assert isnan(metrics[metric])
        return
    dev = read_predictions(predictions_file(tmp_path, "trial", 1), corpus.labels)
    assert metrics[metric] == evaluate(dev.truth, dev.probabilities, corpus.labels, [metric])[metric]


def test_every_trial_begins_with_what_former_ones_freed_returned_to_the_system(tmp_path, monkeypatch):
    returned = []
    monkeypatch.setattr(trial_runner, "return_freed_memory", lambda: returned.append(True))
    recipe = tiny()
    runner = TrialRunner(corpus_of(recipe), recipe, tmp_path)
    for number in (1, 2):
        (folder := tmp_path / f"trial {number}").mkdir()
        list(runner.run(TrialConfig(recipe.hyperparameters, 1, 1, seed=number), folder))
        assert len(returned) == number
