"""The forward pass without padding against transformers' own, and a step with it against the plain step."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import LABELS, labelled
from transformers import BertConfig, ElectraConfig, TFBertForSequenceClassification, TFElectraForSequenceClassification

from bertgrid_tf.bert.batches import training_order
from bertgrid_tf.bert.checkpoint import Checkpoint, load
from bertgrid_tf.bert.trainer import Trainer, TrainSettings
from bertgrid_tf.bert.unpadded import Unpadded, supports
from bertgrid_tf.errors import UserError

LENGTH = 24
SETTINGS = TrainSettings(learning_rate=1e-3, schedule_epochs=2, stop_epoch=2, batch_size=8, batching="random", seed=5)


SHAPES: dict[str, dict[str, object]] = {
    "base": {"num_hidden_layers": 2, "initializer_range": 0.05},
    "one layer": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "tanh gelu": {
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "hidden_act": "gelu_new",
    },
}


@cache
def model(name: str) -> TFBertForSequenceClassification:
    """A BERT with weights far enough from 0 that every part of it shows in the logits."""
    shape = {"initializer_range": 0.2} | SHAPES[name]
    config = BertConfig(vocab_size=200, max_position_embeddings=LENGTH, num_labels=3, **shape)
    tf_keras.utils.set_random_seed(0)
    built = TFBertForSequenceClassification(config)
    built.build_in_name_scope()
    return built


@cache
def both_logits(name: str) -> Any:
    """The two passes in one traced function."""
    bert, ours, tokens = model(name), Unpadded(model(name)), tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[tokens] * 3, autograph=False)
    def logits(ids, types, mask):
        return ours(ids, types, mask, False), own_logits(bert, (ids, types, mask))

    return logits


def batch(lengths: list[int], segments: int, padding: int = 0, seed: int = 0) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Random texts of these lengths: ids, types and mask, int32 [texts, longest + padding]."""
    shape = (len(lengths), max(lengths) + padding)
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int32)
    ids = np.random.default_rng(seed).integers(5, 200, shape).astype(np.int32) * mask
    types = (np.arange(shape[1]) >= np.array(lengths)[:, None] // 2).astype(np.int32) * mask * (segments - 1)
    return tf.constant(ids), tf.constant(types), tf.constant(mask)


def own_logits(bert: TFBertForSequenceClassification, inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
    ids, types, mask = inputs
    return bert({"input_ids": ids, "token_type_ids": types, "attention_mask": mask}, training=False).logits


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(2, LENGTH), min_size=1, max_size=9), st.integers(1, 2), st.integers(0, 3))
def test_logits_are_those_of_the_model_s_own_call(name, lengths, segments, padding):
    ours, plain = both_logits(name)(*batch(lengths, segments, min(padding, LENGTH - max(lengths))))
    assert ours.dtype == tf.float32
    np.testing.assert_allclose(ours, plain, atol=1e-4, rtol=1e-4)


def gradients(bert: TFBertForSequenceClassification, logits: object) -> tuple[float, list[np.ndarray]]:
    variables = bert.trainable_variables
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1, 2, 0, 1], logits=logits())
        loss = tf.reduce_mean(losses)
    return float(loss), [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, variables)]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("lengths", [[24, 2, 9, 13, 5], [7, 7, 7, 7, 7]], ids=["rows are shared", "a row each"])
def test_loss_and_every_gradient_are_those_of_the_model_s_own_call(name, lengths):
    bert, inputs = model(name), batch(lengths, 2)
    plain_loss, plain = gradients(bert, lambda: own_logits(bert, inputs))
    loss, found = gradients(bert, lambda: Unpadded(bert)(*inputs, False))
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    largest = max(np.abs(gradient).max() for gradient in plain)
    for variable, one, other in zip(bert.trainable_variables, found, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * largest, err_msg=variable.name)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.2), ("fp16", 0.03)])
def test_coarser_products_give_nearly_the_same_logits(precision, tolerance):
    inputs = batch([20, 3, 11], 2)
    plain = own_logits(model("base"), inputs).numpy()
    found = Unpadded(model("base"), precision)(*inputs, False).numpy()
    assert found.dtype == np.float32
    assert 0 < np.abs(found - plain).max() < tolerance * np.abs(plain).max()


def without_dropout(checkpoint: Checkpoint) -> Checkpoint:
    for layer in checkpoint.model._flatten_layers():
        if isinstance(layer, tf_keras.layers.Dropout):
            layer.rate = 0.0
    return checkpoint


@pytest.fixture(scope="module")
def calm(texts) -> Checkpoint:
    """The tiny checkpoint with two layers and without dropout."""
    return without_dropout(load("scratch:2x32", LABELS, texts=texts))


class Trained:
    """What a run leaves: its losses, probabilities and weights."""

    def __init__(self, trainer: Trainer, folder: Path, settings: TrainSettings = SETTINGS) -> None:
        checkpoint = trainer.checkpoint
        folder.mkdir()
        self.losses: list[float] = []
        *_, last = trainer.run(
            labelled(checkpoint, 40, seed=2),
            labelled(checkpoint, 20, seed=3),
            settings,
            folder,
            lambda done, steps, loss: self.losses.append(loss),
        )
        self.probabilities = last.probabilities
        self.weights = [variable.numpy() for variable in checkpoint.model.variables]

    def is_close_to(self, other: "Trained", tolerance: float = 2e-4) -> bool:
        # Adam divides the gradients of the keys' biases, which are nothing but rounding, by their own size.
        return (
            np.allclose(self.losses, other.losses, rtol=0, atol=tolerance / 20)
            and np.allclose(self.probabilities, other.probabilities, rtol=0, atol=tolerance / 5)
            and all(np.allclose(a, b, rtol=0, atol=tolerance) for a, b in zip(self.weights, other.weights, strict=True))
        )


@pytest.fixture(scope="module")
def plain(calm, tmp_path_factory) -> Trained:
    """A run with the model's own forward pass."""
    return Trained(Trainer(calm, forward=calm.logits), tmp_path_factory.mktemp("plain") / "run")


def test_training_is_that_with_the_model_s_own_call(calm, plain, tmp_path):
    trainer = Trainer(calm)
    assert trainer.unpadded
    assert Trained(trainer, tmp_path / "run").is_close_to(plain)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_coarser_products_train_alike(calm, plain, tmp_path, precision):
    found = Trained(Trainer(calm, precision), tmp_path / "run")
    assert found.losses != plain.losses
    assert np.allclose(found.losses, plain.losses, rtol=0, atol=0.02)
    assert all(weight.dtype == np.float32 for weight in found.weights)


def out_of_memory_beyond(trainer: Trainer, texts: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has the trainer run out of memory where it computes more texts at a time; the sizes that did not."""
    sizes: list[int] = []

    def limited(step):
        def call(batches, *rest):
            size = int(tf.size(batches[0].labels))
            if size > texts:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            sizes.append(size)
            return step(batches, *rest)

        return call

    monkeypatch.setattr(trainer, "_step", limited(trainer._step))
    monkeypatch.setattr(trainer, "_add_part", limited(trainer._add_part))
    return sizes


@pytest.mark.parametrize("fit", [4, 3, 1])
def test_a_batch_beyond_the_memory_is_trained_in_parts_with_the_same_result(calm, plain, tmp_path, monkeypatch, fit):
    trainer = Trainer(calm)
    sizes = out_of_memory_beyond(trainer, fit, monkeypatch)
    assert Trained(trainer, tmp_path / "run").is_close_to(plain)
    assert max(sizes) <= fit
    assert sum(sizes) == 80


def test_a_single_text_beyond_the_memory_ends_the_run(calm, tmp_path, monkeypatch):
    trainer = Trainer(calm)
    out_of_memory_beyond(trainer, 0, monkeypatch)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        Trained(trainer, tmp_path / "run")


def test_parts_draw_masks_of_their_own(texts, tmp_path, monkeypatch):
    drawn = load("scratch:1x32", LABELS, texts=texts)
    whole, parts = Trainer(drawn), Trainer(drawn)
    out_of_memory_beyond(parts, 4, monkeypatch)
    one, other = Trained(whole, tmp_path / "whole"), Trained(parts, tmp_path / "parts")
    assert one.losses != other.losses
    np.testing.assert_allclose(np.mean(one.losses), np.mean(other.losses), atol=0.2)


def electra(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of an architecture that has its own forward pass alone."""
    config = ElectraConfig(
        vocab_size=checkpoint.tokenizer.vocab_size,
        embedding_size=32,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        id2label=dict(enumerate(LABELS)),
    )
    built = TFElectraForSequenceClassification(config)
    built.build_in_name_scope()
    initial = [variable.numpy() for variable in built.variables]
    return Checkpoint("electra", checkpoint.tokenizer, built, initial, frozenset())


def test_another_architecture_keeps_its_own_pass_in_grouped_batches(checkpoint, tmp_path, monkeypatch):
    other = electra(checkpoint)
    assert not supports(other.model)
    trainer = Trainer(other)
    groupings = []
    monkeypatch.setattr(
        "bertgrid_tf.bert.trainer.training_order", lambda *args: groupings.append(args[-1]) or training_order(*args)
    )
    for number, batching in enumerate(("auto", "random", "grouped")):
        run = TrainSettings(learning_rate=1e-3, schedule_epochs=1, stop_epoch=1, batch_size=8, batching=batching)
        assert np.isfinite(Trained(trainer, tmp_path / str(number), run).losses).all()
    assert groupings == [True, False, True]


def test_another_architecture_has_no_other_precision(checkpoint):
    with pytest.raises(UserError, match="Precision bf16 is for BERT; electra is of type 'electra': use fp32"):
        Trainer(electra(checkpoint), "bf16")
