"""What an epoch is, as far as its time goes."""

import pytest
from tiny_study import corpus_of, tiny

from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.budget.plan import stage_works
from bertgrid_tf.errors import UserError
from bertgrid_tf.training.trial_runner import TrialRunner, token_lengths


def runs(**overrides: object) -> TrialRunner:
    recipe = tiny(**{"max_train_samples": None} | overrides)
    return TrialRunner(corpus_of(recipe), recipe, None)


@pytest.mark.parametrize("context", ["current", "current+previous"])
@pytest.mark.parametrize("max_length", [12, 48])
def test_the_tokens_of_an_epoch_are_those_that_are_encoded(context, max_length):
    found = runs(context=context, max_length=max_length)
    work = found.work(found.recipe.hyperparameters.model_dump())
    lengths = token_lengths(found.corpus, found.recipe.hyperparameters)
    assert work.tokens == pytest.approx(lengths["train"].clip(max=max_length).sum())
    assert work.scored == pytest.approx(lengths["dev"].clip(max=max_length).sum())
    assert (work.layers, work.width, work.steps) == (1, 32, -(-len(lengths["train"]) // 16))


def test_a_sample_of_the_dialogues_is_enough(monkeypatch):
    values = tiny().hyperparameters.model_dump()
    exact = runs().work(values)
    monkeypatch.setattr("bertgrid_tf.training.trial_runner.SAMPLED_UTTERANCES", 200)
    sampled = runs().work(values)
    assert sampled.tokens != exact.tokens
    assert sampled.tokens == pytest.approx(exact.tokens, rel=0.05)


def test_oversampling_is_more_work_of_the_same_kind_and_another_learning_rate_none():
    found = runs()
    values = found.recipe.hyperparameters.model_dump()
    more = found.work(values | {"oversample_ratio": 1.0})
    assert more.kind == found.work(values).kind
    assert more.tokens > 1.2 * found.work(values).tokens
    assert more.steps > found.work(values).steps
    assert found.work(values | {"learning_rate": 0.5}) == found.work(values)
    assert found.work(values | {"max_length": 12}).kind != found.work(values).kind


def test_several_gpus_share_the_tokens_of_the_final_model():
    found = runs()
    *_, alone = stage_works(found.recipe, found.work, [], 1)
    *_, shared = stage_works(found.recipe, found.work, [], 4)
    assert alone.name == shared.name == "final"
    assert shared.runs[0][0].tokens == alone.runs[0][0].tokens / 4


def test_a_model_s_size_is_read_off_its_config(tmp_path):
    scratch = dimensions("scratch:3x64", classes=2)
    assert (scratch.layers, scratch.width) == (3, 64)
    (tmp_path / "config.json").write_text('{"model_type": "distilbert", "n_layers": 6, "dim": 96, "n_heads": 12}')
    (tmp_path / "vocab.txt").touch()
    (tmp_path / "model.safetensors").touch()
    distilled = dimensions(str(tmp_path), classes=2)
    assert (distilled.layers, distilled.width) == (6, 96)
    with pytest.raises(UserError, match="There is no checkpoint folder"):
        dimensions("./nowhere", classes=2)
