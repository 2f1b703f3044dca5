import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.paired import interval, mcnemar

COUNTS = st.integers(0, 200)


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=10, unique=True))
def test_the_interval_ends_where_the_t_test_turns(differences):
    found = interval(differences)
    spread = max(differences) - min(differences)
    for end in (found.low, found.high):
        if spread > 1e-3:
            assert stats.ttest_1samp(differences, end).pvalue == pytest.approx(0.05, abs=1e-6)


def test_one_pair_says_nothing_of_the_spread():
    found = interval([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.low) and math.isnan(found.high)


def test_mcnemar_is_the_exact_binomial_test():
    # 2 × P(at most 2 of 12 at one half)
    assert mcnemar(10, 2) == pytest.approx(2 * (1 + 12 + 66) / 2**12)


@given(COUNTS, COUNTS)
def test_mcnemar_knows_no_first_or_second(first, second):
    assert mcnemar(first, second) == pytest.approx(mcnemar(second, first))
    assert mcnemar(first, first) == pytest.approx(1)
