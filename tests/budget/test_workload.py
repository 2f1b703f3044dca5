"""The workload of an epoch: what its time depends on."""

from dataclasses import replace

import pytest
from tiny_study import corpus_of, tiny

from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.budget.plan import plan, stage_works
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.encoding import CorpusEncoder, token_lengths
from bertgrid_tf.training.workload import UPDATE_TOKENS
from bertgrid_tf.training.workload_estimator import WorkloadEstimator
from bertgrid_tf.trial_config import TrialConfig


def whole_sample(**overrides: object) -> Recipe:
    return tiny(**{"max_train_samples": None} | overrides)


def estimator_of(recipe: Recipe) -> WorkloadEstimator:
    return WorkloadEstimator(CorpusEncoder(corpus_of(recipe)), recipe.seed)


def start_of(recipe: Recipe) -> TrialConfig:
    return TrialConfig(recipe.hyperparameters, recipe.epochs, recipe.epochs)


@pytest.mark.parametrize("context", ["current", "current+previous"])
@pytest.mark.parametrize("max_length", [12, 48])
def test_the_tokens_of_an_epoch_are_those_that_are_encoded(context, max_length):
    recipe = whole_sample(context=context, max_length=max_length)
    workload = estimator_of(recipe).epoch(start_of(recipe))
    lengths = token_lengths(corpus_of(recipe), recipe.hyperparameters)
    assert workload.tokens == pytest.approx(lengths["train"].clip(max=max_length).sum())
    assert workload.evaluated_tokens == pytest.approx(lengths["dev"].clip(max=max_length).sum())
    assert (workload.layers, workload.width, workload.steps) == (1, 32, -(-len(lengths["train"]) // 16))


def test_a_row_of_branches_takes_0_3_epochs_more_for_every_epoch_after_its_first():
    linear, branched = (
        whole_sample(lr_schedule=schedule, epochs=3, sweeps={}) for schedule in ("linear", "inverse_sqrt")
    )
    plain, work = (estimator_of(recipe).epoch(start_of(recipe)) for recipe in (linear, branched))
    branch = round(0.3 * plain.steps)
    assert (work.steps, work.kind) == (round(plain.steps + 2 / 3 * branch), plain.kind)
    assert work.tokens == pytest.approx(plain.tokens * (1 + 2 / 3 * branch / plain.steps))
    assert estimator_of(branched).epoch(replace(start_of(branched), stop_epoch=1)) == plain
    steps = {
        recipe.hyperparameters.lr_schedule: plan(recipe, corpus_of(recipe)).stages[0] for recipe in (linear, branched)
    }
    rows = len(linear.learning_rates)
    assert steps["linear"].steps == rows * 3 * plain.steps
    assert steps["inverse_sqrt"].steps == rows * (3 * plain.steps + 2 * branch)


def test_a_sample_of_the_dialogues_is_enough(monkeypatch):
    recipe = whole_sample()
    exact = estimator_of(recipe).epoch(start_of(recipe))
    monkeypatch.setattr("bertgrid_tf.training.encoding.SAMPLED_UTTERANCES", 200)
    sampled = estimator_of(recipe).epoch(start_of(recipe))
    assert sampled.tokens != exact.tokens
    assert sampled.tokens == pytest.approx(exact.tokens, rel=0.05)


def test_oversampling_is_more_work_of_the_same_kind_and_another_learning_rate_none():
    recipe = whole_sample()
    estimator, start = estimator_of(recipe), start_of(recipe)
    workload = estimator.epoch(start)
    more = estimator.epoch(start.with_hyperparameters(oversample_ratio=1.0))
    assert more.kind == workload.kind
    assert more.tokens > 1.2 * workload.tokens
    assert more.steps > workload.steps
    assert estimator.epoch(start.with_hyperparameters(learning_rate=0.5)) == workload
    assert estimator.epoch(start.with_hyperparameters(max_length=12)).kind != workload.kind


def test_frozen_layers_take_the_time_of_a_forward_pass_in_a_model_of_their_own():
    recipe = whole_sample(model="scratch:4x32")
    estimator, start = estimator_of(recipe), start_of(recipe)
    whole, frozen = (estimator.epoch(start.with_hyperparameters(frozen_layers=count)) for count in (0, 3))
    assert frozen.kind != whole.kind and frozen.model != whole.model
    # Three forward passes are the cost of a layer, but for its update.
    update = whole.steps * UPDATE_TOKENS * whole._token_cost
    assert frozen.training_cost == pytest.approx(2 * whole.training_cost / 4 - update)
    assert frozen.cost - frozen.training_cost == pytest.approx(whole.cost - whole.training_cost)


def test_several_gpus_share_the_tokens_of_the_final_model():
    recipe = whole_sample()
    estimator = estimator_of(recipe)
    *_, alone = stage_works(recipe, estimator.epoch, [], 1)
    *_, shared = stage_works(recipe, estimator.epoch, [], 4)
    assert alone.name == shared.name == "final"
    assert shared.trials[0][0].tokens == alone.trials[0][0].tokens / 4


def test_a_model_s_size_is_read_off_its_config(tmp_path):
    scratch = dimensions("scratch:3x64", classes=2)
    assert (scratch.layers, scratch.width) == (3, 64)
    (tmp_path / "config.json").write_text('{"model_type": "distilbert", "n_layers": 6, "dim": 96, "n_heads": 12}')
    (tmp_path / "vocab.txt").touch()
    (tmp_path / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")  # a file of no tensors
    distilled = dimensions(str(tmp_path), classes=2)
    assert (distilled.layers, distilled.width) == (6, 96)
    with pytest.raises(UserError, match="There is no checkpoint folder"):
        dimensions("./nowhere", classes=2)
