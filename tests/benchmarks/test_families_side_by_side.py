import numpy as np
import pytest
import tensorflow as tf

from benchmarks.families import OURS, PASSES, XLA, checkpoints, measure, padded
from bertgrid_tf.bert.checkpoint import Checkpoint
from bertgrid_tf.bert.unpadded import supports
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.encoding import CorpusEncoder
from bertgrid_tf.trial_config import TrialConfig


@pytest.fixture(scope="module")
def made(corpus: Corpus) -> list[Checkpoint]:
    return list(checkpoints("scratch:1x32", ("distilbert", "electra"), corpus))


def test_the_families_have_the_size_and_the_vocabulary_of_scratch(made):
    assert [type(one.model).__name__ for one in made] == [
        f"TF{kind}ForSequenceClassification" for kind in ("DistilBert", "Electra")
    ]
    for one in made:
        config = one.model.config
        assert supports(one.model)
        assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (32, 1, 1)
        assert getattr(config, "hidden_dim", config.intermediate_size) == 128
        assert config.vocab_size == one.tokenizer.vocab_size


def test_padding_to_the_maximum_length_changes_no_logits(made):
    for one in made:
        one.reset(0)
        ids = tf.constant([[2, 7, 3], [2, 3, 0]])
        inputs = (ids, tf.zeros_like(ids), tf.cast(ids > 0, tf.int32), False)
        for xla in (False, True):
            np.testing.assert_allclose(padded(one, 9, xla)(*inputs), one.logits(*inputs), atol=1e-5)


@pytest.mark.slow
def test_every_pass_trains_in_every_round(made, recipe: Recipe, corpus: Corpus):
    train = CorpusEncoder(corpus).training_set(TrialConfig(recipe.hyperparameters, 1, 1, 1))
    measured = measure(made[0], train, TrialConfig(recipe.hyperparameters, 1, 1), rounds=2, xla=True)
    assert tuple(measured) == (*PASSES, XLA)
    assert all(len(one.seconds) == 2 and min(one.seconds) > 0 for one in measured.values())
    assert measured[OURS].faster_than(measured[OURS]) == 1


@pytest.mark.parametrize(
    ("kinds", "refused"), [(("deberta",), "--families deberta: only albert, bert, camembert, .* compute no padding")]
)
def test_another_family_is_refused(kinds, refused, corpus):
    with pytest.raises(UserError, match=refused):
        next(checkpoints("scratch:1x32", kinds, corpus))
