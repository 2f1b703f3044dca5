"""FLOPs and bytes of training, counted in TensorFlow's own graph and in a real model's variables."""

import operator

import pytest
import tensorflow as tf
from families import RELATIVES, Family
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf.bert import roofline
from bertgrid_tf.bert.checkpoint import Checkpoint
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.layers import layer_numbers
from bertgrid_tf.bert.roofline import activation_bytes, training_flops, update_bytes

LENGTHS = st.lists(st.integers(2, 64), min_size=1, max_size=20)
SIZE = Dimensions(layers=6, width=384, heads=12, intermediate=1536, vocabulary=30522, positions=512, types=2, classes=8)


def multiplied(graph: tf.Graph) -> int:
    """FLOPs of the matrix products that a graph's outputs need: two for each product of two numbers."""
    flops, needed, ahead = 0, set(), [output.op for output in graph.outputs]
    while ahead:
        if (op := ahead.pop()) not in needed:
            needed.add(op)
            ahead += [given.op for given in op.inputs]
    for op in needed:
        if op.type in ("MatMul", "BatchMatMulV2"):
            transposed = op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")
            inner = op.inputs[0].shape[-2 if transposed else -1]
            flops += 2 * op.outputs[0].shape.num_elements() * inner
    return flops


def check_products(checkpoint: Checkpoint) -> None:
    """Training takes three times the products of the model's own forward pass."""
    tokens = tf.TensorSpec([5, 7], tf.int32)
    forward = tf.function(lambda ids, types, mask: checkpoint.logits(ids, types, mask, False))
    graph = forward.get_concrete_function(tokens, tokens, tokens).graph
    size = Dimensions.of(checkpoint.model.config, 2)
    assert training_flops(size, [7] * 5) == 3 * multiplied(graph)


def test_training_takes_three_times_the_products_of_the_models_own_forward_pass(checkpoint):
    check_products(checkpoint)


@pytest.mark.parametrize("family", RELATIVES, ids=lambda family: family.name)
def test_a_relative_s_products_are_counted_too(family: Family):
    check_products(Checkpoint("", None, family.classifier(num_hidden_layers=2), [], frozenset()))


def test_the_six_layer_checkpoint_has_the_weights_that_are_known_of_it():
    assert SIZE.token_kernels == 10_616_832
    assert SIZE.text_kernels == 384 * (384 + 8)


@given(LENGTHS, LENGTHS)
def test_roofline_of_all_texts_are_those_of_the_parts(some, others):
    whole = training_flops(SIZE, some + others)
    assert abs(whole - training_flops(SIZE, some) - training_flops(SIZE, others)) < 1e-9 * whole


@given(LENGTHS, LENGTHS)
def test_bytes_of_all_texts_are_those_of_the_parts(some, others):
    whole = activation_bytes(SIZE, some + others)
    assert abs(whole - activation_bytes(SIZE, some) - activation_bytes(SIZE, others)) < 1e-9 * whole


@pytest.mark.parametrize("family", ["bert with one token type", "koelectra"])
def test_of_frozen_layers_the_forward_pass_alone_is_computed(family: str):
    model = next(one for one in RELATIVES if one.name == family).classifier(num_hidden_layers=3)
    numbers = layer_numbers(model.variables, model.base_model_prefix)
    trained = [variable for variable, number in zip(model.variables, numbers, strict=True) if number > 2]
    tokens, checkpoint = tf.TensorSpec([5, 7], tf.int32), Checkpoint("", None, model, [], frozenset())

    @tf.function
    def step(ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained)
            loss = tf.reduce_sum(checkpoint.logits(ids, types, mask, False))
        return loss, tape.gradient(loss, trained)

    graph = step.get_concrete_function(tokens, tokens, tokens).graph
    size = Dimensions.of(model.config, 2)
    assert training_flops(size, [7] * 5, frozen_layers=2) == multiplied(graph)
    assert size.trained_parameters(2) == sum(int(tf.size(variable)) for variable in trained)
    assert update_bytes(size, 5, "fp32", frozen_layers=2) == 28 * size.trained_parameters(2)
    casts = update_bytes(size, 5, "bf16", frozen_layers=2) - update_bytes(size, 5, "fp32", frozen_layers=2)
    kernels = [2 if number > 2 else 1 for number in numbers]
    sizes = [int(tf.size(variable)) * ("kernel" in variable.name) for variable in model.variables]
    assert casts == 6 * sum(map(operator.mul, kernels, sizes))
    assert activation_bytes(size, [7], frozen_layers=2) == activation_bytes(size, [7]) * 2 / 3


def test_an_update_passes_seven_times_over_the_trained_weights(checkpoint):
    model = checkpoint.model
    size = Dimensions.of(model.config, len(checkpoint.labels))
    weights = sum(int(tf.size(variable)) for variable in model.trainable_variables)
    width = model.config.hidden_size
    assert update_bytes(size, size.vocabulary, "fp32") == 28 * weights
    assert update_bytes(size, 5, "fp32") == 28 * (weights - (size.vocabulary - 5) * width)
    casts = update_bytes(size, 5, "bf16") - update_bytes(size, 5, "fp32")
    assert casts == 12 * sum(int(tf.size(v)) for v in model.trainable_variables if "kernel" in v.name)


def test_other_work_during_a_measurement_does_not_stay_the_machines_rate(monkeypatch):
    rates = iter([100.0, 210.0, 60.0, 300.0])
    monkeypatch.setattr(roofline, "matmul_rate", lambda dtype, seconds: next(rates))
    monkeypatch.setattr(roofline, "peak", roofline._best_so_far(roofline.peak.__wrapped__))
    assert [roofline.peak("fp32") for _ in range(5)] == [100, 210, 210, 210, 210]
    assert roofline.peak("bf16") == 300
