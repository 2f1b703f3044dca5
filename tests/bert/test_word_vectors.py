import numpy as np
import pytest

from bertgrid_tf.bert.word_vectors import describe_vectors
from bertgrid_tf.errors import UserError


def test_vectors_are_described_as_often_as_texts_have_them(checkpoint, saved):
    ids = np.array([5, 5, 7, 9], np.int32)
    vectors = checkpoint.model.get_input_embeddings().weight.numpy()[ids]
    mean, variance = describe_vectors(str(saved), ids)
    assert mean == pytest.approx(np.sqrt(np.mean(vectors.mean(axis=0) ** 2)), rel=1e-5)
    assert variance == pytest.approx(np.mean(vectors.var(axis=0)), rel=1e-5)


def test_drawn_vectors_have_the_variance_of_their_draw(checkpoint, saved):
    _, variance = describe_vectors("scratch:1x32", np.arange(3))
    every = np.arange(checkpoint.tokenizer.vocab_size)
    assert describe_vectors(str(saved), every)[1] == pytest.approx(variance, rel=0.05)


def test_damaged_weights_are_refused(saved):
    (saved / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError):
        describe_vectors(str(saved), np.arange(3))
