"""The forward pass without padding against transformers' own, and a step with it against the plain step."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bert import LABELS, OTHER, labelled, trial, without_dropout
from transformers import TFAutoModelForSequenceClassification as TFAutoClassifier

from bertgrid_tf.bert import dropout
from bertgrid_tf.bert.batches import training_order
from bertgrid_tf.bert.checkpoint import Checkpoint, load
from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.bert.head import refit
from bertgrid_tf.bert.trainer import EpochResult, Trainer
from bertgrid_tf.bert.unpadded import Unpadded, supports
from bertgrid_tf.errors import UserError
from bertgrid_tf.trial_config import TrialConfig

LENGTH = 24
CONFIG = trial(epochs=2, group_by_length="never")

Shape = dict[str, Any]
BERTS: dict[str, Shape] = {
    "heads as wide as BERT-base's": {
        "num_hidden_layers": 2,
        "hidden_size": 128,
        "num_attention_heads": 2,
        "intermediate_size": 512,
        "initializer_range": 0.1,
    },
    "one layer": {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64},
    "tanh gelu": {
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "hidden_act": "gelu_new",
    },
}
SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
# Positions are counted from 2.
ROBERTA = SMALL | {"max_position_embeddings": LENGTH + 2, "type_vocab_size": 1}
ALBERT = SMALL | {"embedding_size": 16, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
RELATIVES: dict[str, Shape] = {
    "electra": {"model": "Electra", **SMALL, "embedding_size": 16},
    "electra as wide as its embeddings": {"model": "Electra", **SMALL, "embedding_size": 32},
    "roberta": {"model": "Roberta", **ROBERTA},
    "xlm-roberta": {"model": "XLMRoberta", **ROBERTA, "classifier_dropout": 0.2},
    "camembert": {"model": "Camembert", **ROBERTA},
    "distilbert": {"model": "DistilBert", "n_layers": 2, "dim": 32, "n_heads": 2, "hidden_dim": 64},
    "albert": {"model": "Albert", **ALBERT},
    "albert with groups of layers": {
        "model": "Albert",
        **ALBERT | {"num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2, "embedding_size": 32},
    },
}
SHAPES = BERTS | RELATIVES
DISTINCT = ("electra", "roberta", "distilbert", "albert")
"""The relatives that differ in more than sizes."""


def config_of(name: str, **changes: Any) -> transformers.PretrainedConfig:
    shape = {"model": "Bert", "vocab_size": 200, "max_position_embeddings": LENGTH, "initializer_range": 0.2}
    shape |= SHAPES[name] | changes
    return getattr(transformers, f"{shape.pop('model')}Config")(**shape)


def built(config: transformers.PretrainedConfig) -> transformers.TFPreTrainedModel:
    tf_keras.utils.set_random_seed(0)
    model = TFAutoClassifier.from_config(config)
    model.build_in_name_scope()
    return model


@cache
def model(name: str) -> transformers.TFPreTrainedModel:
    """A classifier with weights far enough from 0 that every part of it shows in the logits."""
    return built(config_of(name, num_labels=3))


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


def own_logits(
    model: transformers.TFPreTrainedModel, inputs: tuple[tf.Tensor, ...], training: bool = False
) -> tf.Tensor:
    return Checkpoint("", None, model, [], frozenset()).logits(*inputs, training)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(2, LENGTH), min_size=1, max_size=9), st.integers(1, 2), st.integers(0, 3))
def test_logits_are_those_of_the_model_s_own_call(name, lengths, segments, padding):
    ours, plain = both_logits(name)(*batch(lengths, segments, min(padding, LENGTH - max(lengths))))
    assert ours.dtype == tf.float32
    np.testing.assert_allclose(ours, plain, atol=1e-4, rtol=1e-4)


def test_a_padding_token_inside_a_text_has_the_position_of_padding():
    ids, types, mask = batch([9, 4], 1, padding=2)
    ids = tf.tensor_scatter_nd_update(ids, [[0, 3], [0, 4], [1, 3]], [1, 1, 1])
    roberta = model("roberta")
    np.testing.assert_allclose(
        Unpadded(roberta)(ids, types, mask, False), own_logits(roberta, (ids, types, mask)), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("lengths", "rows"), [([24, 2, 9, 13, 5], (3, 26)), ([7] * 5, (5, 7)), ([24, 2, 2, 2], (2, 26)), ([9], (1, 9))]
)
def test_texts_share_rows_where_that_leaves_attention_less_to_compute(lengths, rows):
    texts = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    tokens, first_tokens = Unpadded(model("one layer"))._rows(*map(tf.constant, (lengths, texts, positions)))
    assert tuple(map(int, tokens.size)) == rows
    # The last layer's queries, those of a text in the row where its tokens are.
    assert tuple(map(int, first_tokens.size)) == (rows[0], 2)
    of_tokens, of_firsts = (
        [set(row[row > 0].astype(int)) for row in places.texts.numpy()] for places in (tokens, first_tokens)
    )
    assert of_firsts == of_tokens


def gradients(bert: transformers.TFPreTrainedModel, logits: object) -> tuple[float, list[np.ndarray]]:
    variables = bert.trainable_variables
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1, 2, 0, 1], logits=logits())
        loss = tf.reduce_mean(losses)
    found = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return float(loss), [tf.convert_to_tensor(gradient).numpy() for gradient in found]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("lengths", [[24, 2, 9, 13, 5], [7, 7, 7, 7, 7]], ids=["rows are shared", "a row each"])
def test_loss_and_every_gradient_are_those_of_the_model_s_own_call(name, lengths):
    bert, inputs = model(name), batch(lengths, 2)
    plain_loss, plain = gradients(bert, lambda: own_logits(bert, inputs))
    loss, ours = gradients(bert, lambda: Unpadded(bert)(*inputs, False))
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    largest = max(np.abs(gradient).max() for gradient in plain)
    for variable, one, other in zip(bert.trainable_variables, ours, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * largest, err_msg=variable.name)


def own_mean_logits(model: transformers.TFPreTrainedModel, inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
    """The logits of the model's own layers and head, where the mean over a text's tokens stands for its first one."""
    mask = tf.cast(inputs[2], tf.float32)[:, :, None]
    states = Checkpoint("", None, model, [], frozenset()).hidden_states(*inputs)
    mean = tf.reduce_sum(states * mask, axis=1) / tf.reduce_sum(mask, axis=1)
    kind = model.config.model_type
    if kind == "bert":
        return model.classifier(model.bert.pooler(mean[:, None]))
    if kind == "albert":
        return model.classifier(model.albert.pooler(mean))
    if kind == "distilbert":
        return model.classifier(model.pre_classifier(mean))
    return model.classifier(mean[:, None])


@pytest.mark.parametrize("name", ["one layer", "tanh gelu", *RELATIVES])
def test_with_mean_pooling_the_mean_over_a_text_s_tokens_stands_for_its_first(name):
    bert, inputs = model(name), batch([24, 2, 9, 13, 5], 2, padding=0)
    plain_loss, plain = gradients(bert, lambda: own_mean_logits(bert, inputs))
    ours = Unpadded(bert, pooling="mean")
    np.testing.assert_allclose(ours(*inputs, False), own_mean_logits(bert, inputs), atol=1e-4, rtol=1e-4)
    loss, own = gradients(bert, lambda: ours(*inputs, False))
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    largest = max(np.abs(gradient).max() for gradient in plain)
    for variable, one, other in zip(bert.trainable_variables, own, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * largest, err_msg=variable.name)
    assert np.abs(ours(*inputs, False) - Unpadded(bert)(*inputs, False)).max() > 1e-3


class Scaling:
    """The random generator of a Dropout layer, which multiplies what it is given instead of dropping some of it."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    def _maybe_init(self) -> None:
        """Keras calls this when it builds the layer."""

    def dropout(self, inputs: tf.Tensor, rate: float, noise_shape: object = None) -> tf.Tensor:
        return inputs * self._factor


@pytest.mark.parametrize(
    ("name", "dropouts"),
    [
        ("tanh gelu", 1 + 3 * 3 + 1),
        ("electra", 1 + 2 * 3 + 1),
        ("roberta", 1 + 2 * 3 + 1),
        ("distilbert", 1 + 2 * 3 + 1),
        ("albert", 1 + 3 + 1),
        ("albert with groups of layers", 1 + 4 * 3 + 1),
    ],
)
def test_in_training_every_dropout_layer_stands_where_the_model_s_own_call_has_it(name, dropouts, monkeypatch):
    bert, inputs = model(name), batch([13, 2, 9], 2)
    layers = [layer for layer in bert._flatten_layers() if isinstance(layer, tf_keras.layers.Dropout)]
    assert len(layers) == dropouts
    for number, layer in enumerate(layers):
        # A factor of its own for each, so that no layer can stand in for another.
        monkeypatch.setattr(layer, "_random_generator", Scaling(1 + (number + 1) / 10))
    plain = own_logits(bert, inputs, training=True)
    assert np.abs(plain - own_logits(bert, inputs)).max() > 0.1
    np.testing.assert_allclose(Unpadded(bert)(*inputs, True), plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.2), ("fp16", 0.03)])
@pytest.mark.parametrize("name", ["heads as wide as BERT-base's", *DISTINCT])
def test_coarser_products_give_nearly_the_same_logits(name, precision, tolerance):
    inputs = batch([20, 3, 11], 2)
    plain = own_logits(model(name), inputs).numpy()
    ours = Unpadded(model(name), precision)(*inputs, False).numpy()
    assert ours.dtype == np.float32
    assert 0 < np.abs(ours - plain).max() < tolerance * np.abs(plain).max()


@pytest.fixture(scope="module")
def calm(texts) -> Checkpoint:
    """The tiny checkpoint with two layers and without dropout."""
    return without_dropout(load("scratch:2x32", LABELS, texts=texts))


class Trained:
    """What a run leaves: its losses, probabilities, weights, and the sum of Adam's second moments."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        checkpoint = trainer.checkpoint
        folder.mkdir()
        self.losses: list[float] = []
        *_, last = trainer.run(
            labelled(checkpoint, 40, seed=2),
            labelled(checkpoint, 20, seed=3),
            CONFIG,
            folder,
            lambda done, steps, loss: self.losses.append(loss),
        )
        self.probabilities = last.probabilities
        self.weights = [variable.numpy() for variable in checkpoint.model.variables]
        self.second_moment = sum(float(tf.reduce_sum(slot)) for slot in trainer._optimizer.second)

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


@pytest.fixture(scope="module")
def trainers(calm) -> dict[str, Trainer]:
    """One for each precision, traced once for all tests."""
    return {precision: Trainer(calm, precision) for precision in ("fp32", "bf16", "fp16")}


def test_training_is_that_with_the_model_s_own_call(trainers, plain, tmp_path):
    assert trainers["fp32"].unpadded
    assert Trained(trainers["fp32"], tmp_path / "run").is_close_to(plain)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_coarser_products_train_alike(trainers, plain, tmp_path, precision):
    ours = Trained(trainers[precision], tmp_path / "run")
    assert ours.losses != plain.losses
    assert np.allclose(ours.losses, plain.losses, rtol=0, atol=0.02)
    assert all(weight.dtype == np.float32 for weight in ours.weights)
    # Adam divides by the size of the gradients, so that only its moments show a factor that is left in them.
    assert ours.second_moment == pytest.approx(plain.second_moment, rel=0.1)


def test_fp16_leaves_out_steps_that_overflow_and_resumes_with_the_scale_that_they_led_to(trainers, calm, tmp_path):
    trainer, scale = trainers["fp16"], trainers["fp16"]._loss_scale
    train, dev = labelled(calm, 40, seed=2), labelled(calm, 20, seed=3)

    def overflow(done: int, steps: int, loss: float) -> None:
        if done == 1:
            scale.value.assign(2.0**24)

    broken = trainer.run(train, dev, CONFIG, tmp_path, overflow)
    assert np.isfinite(next(broken).metrics["train_loss"])
    broken.close()
    kept = [float(one) for one in scale.state]
    assert kept[0] < 2**24
    assert all(np.isfinite(variable.numpy()).all() for variable in calm.model.variables)
    trainer.time_steps(train, CONFIG, 1)
    assert [float(one) for one in scale.state] == [2**15, 1]
    next(trainer.run(train, dev, CONFIG, tmp_path))
    assert [float(one) for one in scale.state] == kept


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
    monkeypatch.setattr(trainer, "_accumulate", limited(trainer._accumulate))
    return sizes


@pytest.mark.parametrize("fit", [4, 3, 1])
def test_a_batch_beyond_the_memory_is_trained_in_micro_batches_with_the_same_result(
    trainers, plain, tmp_path, monkeypatch, fit
):
    trainer = trainers["fp32"]
    sizes = out_of_memory_beyond(trainer, fit, monkeypatch)
    assert Trained(trainer, tmp_path / "run").is_close_to(plain)
    assert max(sizes) <= fit
    assert sum(sizes) == 80
    assert trainer.micro_batches == {4: 2, 3: 4, 1: 8}[fit]


def test_a_single_text_beyond_the_memory_ends_the_run(trainers, tmp_path, monkeypatch):
    out_of_memory_beyond(trainers["fp32"], 0, monkeypatch)
    with pytest.raises(tf.errors.ResourceExhaustedError):
        Trained(trainers["fp32"], tmp_path / "run")


# TensorFlow says that tf.data's own functions are traced all the same.
@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`")
@pytest.mark.parametrize(
    ("name", "micro_batches", "calls"),
    [
        # After the embeddings, in attention and after it, after the feed-forward layer, before the classes.
        ("bert", 1, 1 + 3 + 1),
        ("bert", 2, 1 + 3 + 1),
        # One layer twice before and after the head's dense layer, and layers that are shared.
        ("roberta", 1, 1 + 2 * 3 + 2),
        ("albert", 1, 1 + 2 * 3 + 1),
    ],
)
def test_every_call_of_a_layer_in_every_micro_batch_of_every_step_draws_a_mask_of_its_own(
    checkpoint, monkeypatch, name, micro_batches, calls
):
    masks: list[bytes] = []
    draw = dropout._mask

    def recorded(*args):
        mask = draw(*args)
        masks.append(mask.numpy().tobytes())
        return mask

    trainer = Trainer(checkpoint if name == "bert" else checkpoint_of(config_of(name), checkpoint))
    out_of_memory_beyond(trainer, 8 // micro_batches, monkeypatch)
    monkeypatch.setattr(dropout, "_mask", recorded)
    # Of equal texts every micro-batch's masks have the same shapes, so that equal keys would give equal masks.
    texts = labelled(checkpoint, 1, seed=2).texts.take(np.zeros(16, int))
    tf.config.run_functions_eagerly(True)
    try:
        trainer.time_steps(EncodedDataset(texts, np.arange(16, dtype=np.int32) % 2), CONFIG, 2)
    finally:
        tf.config.run_functions_eagerly(False)
    assert len(masks) == calls * micro_batches * 2
    assert len(set(masks)) == len(masks)


def checkpoint_of(config: transformers.PretrainedConfig, checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint of another architecture with the tiny one's tokenizer."""
    config.update({"id2label": dict(enumerate(LABELS)), "vocab_size": checkpoint.tokenizer.vocab_size})
    model = built(config)
    initial = [variable.numpy() for variable in model.variables]
    return Checkpoint(config.model_type, checkpoint.tokenizer, model, initial, frozenset())


def slow(*values: str) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "precision"),
    [slow("electra", "bf16"), ("roberta", "fp16"), slow("distilbert", "bf16"), ("albert", "bf16")],
)
def test_a_relative_trains_as_with_its_own_call_and_alike_in_coarser_products(name, precision, checkpoint, tmp_path):
    relative = without_dropout(checkpoint_of(config_of(name, initializer_range=0.1), checkpoint))
    plain = Trained(Trainer(relative, forward=relative.logits), tmp_path / "plain")
    assert Trained(Trainer(relative), tmp_path / "fp32").is_close_to(plain)
    coarse = Trained(Trainer(relative, precision), tmp_path / "coarse")
    assert coarse.losses != plain.losses
    assert np.allclose(coarse.losses, plain.losses, rtol=0, atol=0.02)


@pytest.mark.parametrize("name", [slow("electra"), "roberta", slow("distilbert"), "albert"])
def test_a_relative_s_run_with_dropout_and_refitted_heads_resumes_bit_for_bit(name, checkpoint, train, dev, tmp_path):
    trainer = Trainer(checkpoint_of(config_of(name, initializer_range=0.1), checkpoint))
    config = trial(epochs=2, head_retraining="smote")

    def results(folder: str, config: TrialConfig = config) -> list[EpochResult]:
        (tmp_path / folder).mkdir(exist_ok=True)
        return list(trainer.run(train, dev, config, tmp_path / folder))

    whole = results("whole")
    broken = trainer.run(train, dev, config, tmp_path)
    next(broken)
    broken.close()
    results("another run in between", OTHER)
    for resumed, one in zip(results("."), whole, strict=True):
        assert resumed.metrics["train_loss"] == one.metrics["train_loss"]
        np.testing.assert_array_equal(resumed.probabilities, one.probabilities)
    kernel, bias = refit(trainer.features(train.texts), train.labels, "smote", config.seed)
    expected = tf.nn.softmax(trainer.features(dev.texts) @ kernel + bias)
    np.testing.assert_allclose(whole[-1].probabilities, expected, atol=1e-5)


@pytest.fixture(scope="module")
def mpnet(checkpoint) -> Checkpoint:
    """A checkpoint of an architecture that has its own forward pass alone."""
    config = transformers.MPNetConfig(**SMALL | {"num_hidden_layers": 1})
    return checkpoint_of(config, checkpoint)


def test_another_architecture_keeps_its_own_pass_in_grouped_batches(mpnet, train, monkeypatch):
    assert not supports(mpnet.model)
    trainer = Trainer(mpnet)
    groupings = []
    monkeypatch.setattr(
        "bertgrid_tf.bert.trainer.training_order", lambda *args: groupings.append(args[-1]) or training_order(*args)
    )
    for group_by_length in ("auto", "never", "always"):
        losses, _ = trainer.time_steps(train, trial(group_by_length=group_by_length), 2)
        assert np.isfinite(losses).all()
    assert groupings == [True, False, True]


def test_another_architecture_has_no_other_precision(mpnet):
    with pytest.raises(UserError, match="Precision bf16 is not for type 'mpnet', which mpnet is of: use fp32"):
        Trainer(mpnet, "bf16")
