"""How much memory training takes by estimate, and which batch a curve allows."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_bert import BASE

from bertgrid_tf.bert import memory
from bertgrid_tf.bert.memory import LEAST_STEPS, SHARE, Point, estimate, largest, predicted, sizes

LARGE = replace(BASE, layers=24, width=1024, heads=16, intermediate=4096)
BATCHES = st.integers(1, 2000)


def curve(fixed: float, per_text: float, batches: list[int]) -> list[Point]:
    return [Point(batch, round(fixed + per_text * batch), 1.0) for batch in batches]


def test_fine_tuning_bert_takes_what_is_known_of_it():
    """Weights, gradients and Adam's moments are 16 bytes a parameter (Rajbhandari et al. 2020, section 3.1)."""
    one = estimate(BASE, 1, 64, "fp32", on_gpu=True)
    states = one.weights + one.moments + one.update / 2
    assert states == 16 * BASE.parameters
    # What a layer keeps of a text, by Korthikanti et al. 2023, is 34 bytes for every value of the hidden state in 16
    # bits, dropout masks of a byte, and 5 for every pair of tokens in every head.
    layers = [estimate(replace(BASE, layers=count), 1, 64, "bf16", on_gpu=True).activations for count in (2, 3)]
    theirs = 64 * 768 * (34 + 5 * 12 * 64 / 768)
    assert theirs < layers[1] - layers[0] < 2.5 * theirs


@pytest.mark.parametrize("dimensions", [BASE, LARGE])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@given(batch=BATCHES, max_length=st.sampled_from([32, 128, 512]))
def test_the_estimate_grows_with_every_text_by_the_same(dimensions, precision, batch, max_length):
    def peak(batch: int) -> int:
        return estimate(dimensions, batch, max_length, precision, on_gpu=True).peak

    assert peak(batch + 1) - peak(batch) == peak(2) - peak(1) > 0


@given(batch=st.integers(8, 512), max_length=st.sampled_from([64, 128, 512]))
def test_narrow_products_keep_less_and_a_gpu_has_no_copies_of_the_host(batch, max_length):
    wide, narrow = (estimate(LARGE, batch, max_length, p, on_gpu=True).activations for p in ("fp32", "bf16"))
    assert narrow < 0.85 * wide
    host, gpu = (estimate(LARGE, batch, max_length, "fp32", on_gpu) for on_gpu in (False, True))
    assert host.peak - gpu.peak == host.initial + host.process > host.weights


@given(most=BATCHES)
def test_batches_are_multiples_of_2_and_from_16_up_of_8(most):
    found = list(sizes(most))
    assert found == [n for n in range(1, most + 1) if n == 1 or (n < 16 and n % 2 == 0) or n % 8 == 0]


@given(texts=st.integers(1, 10**6))
def test_an_epoch_keeps_its_steps(texts):
    most = memory.most_texts(texts)
    assert most == 1 or texts / most >= LEAST_STEPS
    assert texts / (most + 1) < LEAST_STEPS


@given(
    fixed=st.floats(0, 1e10),
    per_text=st.floats(1, 1e8),
    limit=st.floats(1e6, 1e11),
    most=BATCHES,
    doublings=st.integers(1, 8),
)
def test_the_largest_batch_within_80_percent_is_chosen(fixed, per_text, limit, most, doublings):
    points = curve(fixed, per_text, [2**i for i in range(doublings + 1)])
    chosen = largest(points, limit, most)
    assert chosen in list(sizes(most))
    assume(points[0].peak <= SHARE * limit)
    slack = 2 * max(most, 1)  # bytes are whole numbers
    assert fixed + per_text * chosen <= SHARE * limit + slack
    larger = [n for n in sizes(most) if n > chosen]
    assert not larger or fixed + per_text * larger[0] > SHARE * limit - slack


def test_where_one_text_takes_more_than_80_percent_a_batch_that_takes_no_more_is_chosen():
    flat = [Point(1, 90, 1), Point(2, 90, 1), Point(4, 90, 1), Point(8, 120, 1)]
    assert largest(flat, 100, 64) == 4
    assert largest(curve(80, 10, [1, 2, 4]), 100, 64) == 1


def test_a_larger_batch_is_never_taken_to_need_less():
    dipped = [Point(8, 866, 1), Point(10, 1009, 1), Point(16, 965, 1)]
    assert [predicted(dipped, batch) for batch in (10, 13, 16)] == [1009, 1009, 1009]
    assert predicted(dipped, 32) > 1009
    assert predicted([Point(1, 100, 1)], 2) == 100


@given(limit=st.integers(10**9, 10**11), max_length=st.sampled_from([64, 512]), on_gpu=st.booleans())
def test_the_estimate_s_own_choice_fills_the_memory(limit, max_length, on_gpu):
    def peak(batch: int) -> int:
        return estimate(BASE, batch, max_length, "fp32", on_gpu).peak

    assume(peak(1) <= SHARE * limit)
    chosen = memory.largest_by_estimate(BASE, limit, 4000, max_length, "fp32", on_gpu)
    assert peak(chosen) <= SHARE * limit + 1
    assert chosen == 4000 or peak(chosen + 8) > SHARE * limit
