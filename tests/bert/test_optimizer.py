import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bertgrid_tf.bert.optimizer import (
    BETA_1,
    BETA_2,
    EPSILON,
    AdamW,
    LossScale,
    StepUpdate,
    UsedEmbeddingRows,
    cooldown_rates,
    learning_rates,
)


def test_the_rate_rises_to_its_peak_and_falls_to_nearly_nothing():
    rates = learning_rates(1.0, 10, 2, "linear")
    np.testing.assert_allclose(rates, [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_a_constant_schedule_stays_at_its_peak_after_the_warm_up():
    np.testing.assert_allclose(learning_rates(2.0, 5, 2, "constant"), [1, 2, 2, 2, 2])


@given(
    peak=st.floats(1e-7, 1e-2),
    steps=st.integers(1, 300),
    rising=st.integers(0, 300),
    schedule=st.sampled_from(["linear", "constant", "inverse_sqrt"]),
)
def test_every_rate_is_positive_and_none_is_above_the_peak(peak, steps, rising, schedule):
    rates = learning_rates(peak, steps, min(rising, steps), schedule)
    for of in (rates, cooldown_rates(rates)):
        assert of.shape == (steps,)
        assert (of > 0).all()
        assert (of <= np.float32(peak) * (1 + 1e-6)).all()


def test_the_inverse_square_root_and_a_constant_rate_do_not_depend_on_how_many_steps_follow():
    for schedule in ("constant", "inverse_sqrt"):
        assert np.array_equal(learning_rates(1.0, 40, 5, schedule), learning_rates(1.0, 80, 5, schedule)[:40])


def test_one_horizon_makes_one_schedule_however_early_a_run_stops():
    whole = learning_rates(1.0, 40, 4, "linear")
    longer = learning_rates(1.0, 80, 8, "linear")
    assert not np.allclose(whole, longer[:40])


def update(
    step: int, rate: float, decay: float = 0.0, clip: float = 1.0, rows: UsedEmbeddingRows | None = None
) -> StepUpdate:
    return StepUpdate(tf.constant(step), *(tf.constant(value, tf.float32) for value in (rate, decay, clip)), rows)


def apply(variables, gradients, steps=1, rate=0.1, decay=0.0, clip=1e9):
    optimizer = AdamW(variables)
    for step in range(steps):
        norm = optimizer.apply(gradients, update(step, rate, decay, clip))
    return optimizer, float(norm)


def test_an_update_is_adam_with_decoupled_decay():
    start = np.array([1.0, -2.0, 3.0], np.float32)
    gradient = np.array([0.1, -0.2, 0.3], np.float32)
    kernel = tf.Variable(start, name="dense/kernel")
    apply([kernel], [tf.constant(gradient)], steps=3, rate=0.1, decay=0.5)
    expected, first, second = start.astype(np.float64), np.zeros(3), np.zeros(3)
    for step in range(1, 4):
        first = BETA_1 * first + (1 - BETA_1) * gradient
        second = BETA_2 * second + (1 - BETA_2) * gradient**2
        corrected = (first / (1 - BETA_1**step)) / (np.sqrt(second / (1 - BETA_2**step)) + EPSILON)
        expected = expected - 0.1 * 0.5 * expected - 0.1 * corrected
    np.testing.assert_allclose(kernel.numpy(), expected, rtol=1e-5)


def test_every_layer_has_the_rate_of_the_layer_above_times_the_decay():
    start, gradient = np.array([[1.0], [-2.0], [3.0]], np.float32), tf.constant([[0.1], [-0.2], [0.3]])
    depths, scales = (2, 0, 1, 2), (0.25, 1, 0.5, 0.25)
    names = ("embeddings/weight", "classifier/kernel", "layer_._0/kernel", "layer_._0/bias")
    ours, theirs = ([tf.Variable(start, name=name) for name in names] for _ in range(2))
    rows = UsedEmbeddingRows.of(np.array([0, 2], np.int32), 3)
    layered = AdamW(ours, table=ours[0], depths=depths)
    plain = [AdamW([one], table=one if one is theirs[0] else None) for one in theirs]
    rates = np.array([0.1, 0.05, 0.02], np.float32)
    for step, rate in enumerate(rates):
        given_ = update(step, rate, decay=0.3, clip=1e9, rows=rows)
        layered.apply([gradient] * 4, given_._replace(layer_decay=tf.constant(0.5)))
        for optimizer, scale in zip(plain, scales, strict=True):
            optimizer.apply([gradient], given_._replace(rate=tf.constant(rate * np.float32(scale))))
    layered.decay_others(rows, rates, 0.3, 0.5)
    plain[0].decay_others(rows, rates * np.float32(0.25), 0.3)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.name)


def test_biases_and_layer_norms_are_not_decayed():
    names = ("dense/bias", "LayerNorm/gamma", "LayerNorm/beta", "dense/kernel")
    variables = [tf.Variable([1.0], name=name) for name in names]
    apply(variables, [tf.constant([0.0])] * 4, rate=0.1, decay=1.0)
    assert [float(v[0]) for v in variables] == [1.0, 1.0, 1.0, np.float32(0.9)]


def test_gradients_are_clipped_by_their_common_norm():
    big, small = tf.Variable([0.0], name="big/kernel"), tf.Variable([0.0], name="small/kernel")
    optimizer, norm = apply([big, small], [tf.constant([30.0]), tf.constant([40.0])], clip=1.0)
    assert norm == 50
    np.testing.assert_allclose([slot.numpy()[0] for slot in optimizer.first], [0.06, 0.08], rtol=1e-5)
    optimizer, _ = apply([big, small], [tf.constant([30.0]), tf.constant([40.0])], clip=51.0)
    np.testing.assert_allclose([slot.numpy()[0] for slot in optimizer.first], [3, 4], rtol=1e-5)


def test_a_sparse_gradient_counts_as_its_dense_sum():
    table = tf.Variable(np.zeros((3, 2), np.float32), name="embeddings/weight")
    rows = tf.IndexedSlices(tf.constant([[3.0, 0.0], [1.0, 0.0]]), tf.constant([1, 1]), tf.constant([3, 2]))
    _, norm = apply([table], [rows])
    assert norm == 4


def test_reset_forgets_the_moments():
    variable = tf.Variable([1.0], name="dense/kernel")
    optimizer, _ = apply([variable], [tf.constant([1.0])])
    assert any(slot.numpy().any() for slot in optimizer.slots)
    optimizer.reset()
    assert not any(slot.numpy().any() for slot in optimizer.slots)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=5), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_updating_used_rows_alone_is_the_dense_update(batches, decay):
    start = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    dense, sparse = (tf.Variable(start, name="embeddings/weight") for _ in range(2))
    plain, by_rows = AdamW([dense]), AdamW([sparse], table=sparse)
    rows = UsedEmbeddingRows.of(np.concatenate([np.array(ids, np.int32) for ids in batches]), 10)
    rates = np.linspace(0.1, 0.02, len(batches)).astype(np.float32)
    for step, ids in enumerate(batches):
        values = np.random.default_rng(step).normal(size=(len(ids), 3)).astype(np.float32)
        gradient = tf.IndexedSlices(tf.constant(values), tf.constant(ids, tf.int32), tf.constant([10, 3]))
        # Summed over the micro-batches, the gradient of a table is dense.
        given_ = gradient if step % 2 else tf.convert_to_tensor(gradient)
        norm = by_rows.apply([given_], update(step, rates[step], decay, rows=rows))
        np.testing.assert_allclose(norm, plain.apply([gradient], update(step, rates[step], decay)), rtol=1e-5)
    by_rows.decay_others(rows, rates, decay)
    np.testing.assert_allclose(sparse.numpy(), dense.numpy(), rtol=1e-5, atol=1e-5)
    for one, other in zip(by_rows.slots, plain.slots, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


def test_a_step_that_overflowed_is_left_out_where_it_is_to_be():
    variable = tf.Variable([1.0], name="dense/kernel")
    optimizer = AdamW([variable], skips=True)
    assert not np.isfinite(optimizer.apply([tf.constant([np.inf])], update(0, 0.1, 0.5)))
    assert [float(one[0]) for one in (variable, *optimizer.slots)] == [1.0, 0.0, 0.0]
    optimizer.apply([tf.constant([1.0])], update(0, 0.1, 0.5))
    assert variable[0] < 1


def test_the_loss_scale_falls_at_an_overflow_and_rises_after_2000_good_steps():
    scale = LossScale()
    first = float(scale.value)

    def after(finite: bool) -> tuple[float, int]:
        scale.update(tf.constant(finite))
        return float(scale.value), int(scale.state[1])

    scale.state[1].assign(1500)
    assert after(False) == (first / 2, 0)
    assert after(True) == (first / 2, 1)
    for factor in (1, 2):
        scale.state[1].assign(1998)
        assert after(True) == (first * factor / 2, 1999)
        assert after(True) == (first * factor, 0)
    assert after(True) == (first * 2, 1)
    # It stays within 1 and 2^24.
    for value, finite in ((2.0**24, True), (1.0, False)):
        scale.value.assign(value)
        scale.state[1].assign(1999)
        assert after(finite) == (value, 0)
    scale.reset()
    assert [float(one) for one in scale.state] == [first, 0]
