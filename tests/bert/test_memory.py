"""The memory that training takes by estimate, and the batch that a curve allows."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tiny_bert import BASE

from bertgrid_tf.bert.memory import SHARE, Point, estimate, largest, predicted

LARGE = replace(BASE, layers=24, width=1024, heads=16, intermediate=4096)


def curve(fixed: float, per_text: float, batches: list[int]) -> list[Point]:
    return [Point(batch, fixed + per_text * batch, 1.0) for batch in batches]


def test_a_layer_keeps_of_a_text_what_is_known_of_it():
    """Korthikanti et al. 2023: 34 bytes for every value of the hidden state in 16 bits, dropout masks of a byte, and 5
    for every pair of tokens in every head. Rajbhandari et al. 2020, section 3.1: 16 bytes a parameter."""
    two, three = (estimate(replace(BASE, layers=n), 1, 64, "bf16", on_gpu=True) for n in (2, 3))
    weights = replace(BASE, layers=3).parameters - replace(BASE, layers=2).parameters
    theirs = 64 * 768 * (34 + 5 * 12 * 64 / 768)
    assert theirs < three - two - 20 * weights < 2.5 * theirs
    assert estimate(BASE, 1, 64, "fp32", on_gpu=True) > 16 * BASE.parameters


@pytest.mark.parametrize("dimensions", [BASE, LARGE])
@given(batch=st.integers(1, 2000), max_length=st.sampled_from([32, 128, 512]))
def test_the_estimate_grows_by_the_same_with_every_text_and_less_in_narrow_precisions(dimensions, batch, max_length):
    def per_text(precision: str) -> int:
        less, more = (estimate(dimensions, n, max_length, precision, on_gpu=True) for n in (batch, batch + 1))
        return more - less

    assert per_text("fp32") == estimate(dimensions, 2, max_length, "fp32", True) - estimate(
        dimensions, 1, max_length, "fp32", True
    )
    assert 0 < per_text("bf16") == per_text("fp16") < 0.85 * per_text("fp32")


def test_a_cpu_s_memory_holds_a_second_copy_of_the_weights():
    host, gpu = (estimate(LARGE, 8, 64, "fp32", on_gpu) for on_gpu in (False, True))
    assert host - gpu > 4 * LARGE.parameters


@given(most=st.integers(1, 2000))
def test_batches_are_multiples_of_2_and_from_16_up_of_8(most):
    sizes = [n for n in range(1, most + 1) if n == 1 or (n < 16 and n % 2 == 0) or n % 8 == 0]
    assert largest(curve(0, 1, [1, 2]), float("inf"), most) == sizes[-1]


@given(
    fixed=st.floats(0, 1e10),
    per_text=st.floats(1, 1e8),
    limit=st.floats(1e6, 1e11),
    most=st.integers(1, 2000),
    doublings=st.integers(1, 8),
)
def test_the_largest_batch_within_80_percent_is_chosen(fixed, per_text, limit, most, doublings):
    assume(fixed + per_text <= SHARE * limit)
    chosen = largest(curve(fixed, per_text, [2**i for i in range(doublings + 1)]), limit, most)
    slack = 1e-6 * limit
    assert fixed + per_text * chosen <= SHARE * limit + slack
    assert chosen > most - 8 or fixed + per_text * (chosen + 8) > SHARE * limit - slack


def test_frozen_layers_keep_nothing_and_have_no_moments():
    whole, upper = (estimate(BASE, 8, 64, "fp32", True, frozen_layers=frozen) for frozen in (0, 6))
    assert 4 * 4 * (BASE.parameters - BASE.trained_parameters(6)) < whole - upper < whole - 4 * BASE.parameters
    # Half of the layers keep half of what all of them do.
    more = [estimate(BASE, 9, 64, "fp32", True, frozen_layers=frozen) for frozen in (0, 6)]
    assert more[1] - upper == pytest.approx((more[0] - whole) / 2, rel=0.05)


def test_with_mean_pooling_the_last_layer_keeps_what_the_others_do():
    first, mean = (estimate(BASE, 8, 64, "fp32", True, pooling=pooling) for pooling in ("cls", "mean"))
    one, two = (estimate(replace(BASE, layers=n), 8, 64, "fp32", True) for n in (12, 13))
    weights = replace(BASE, layers=13).parameters - BASE.parameters
    assert 0 < mean - first < two - one - 20 * weights


def test_where_one_text_takes_more_than_80_percent_a_batch_that_takes_no_more_is_chosen():
    assert largest([Point(1, 90, 1), Point(2, 90, 1), Point(4, 90, 1), Point(8, 120, 1)], 100, 64) == 4
    assert largest(curve(80, 10, [1, 2, 4]), 100, 64) == 1


def test_beyond_the_last_point_the_curve_never_falls():
    assert predicted([Point(8, 866, 1), Point(10, 1009, 1), Point(16, 965, 1)], 32) > 965
    assert predicted([Point(1, 100, 1)], 2) == 100
    assert predicted([Point(1, 100, 1), Point(4, 130, 1)], 2) == 110
