import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.paired import interval


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
