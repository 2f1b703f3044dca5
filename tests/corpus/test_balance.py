from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf.corpus import parse_undersample, resample

LABELS = st.lists(st.sampled_from(["joy", "fear", "neutral"]), min_size=1, max_size=80)
RATIOS = st.floats(0, 1)
SEEDS = st.integers(0, 9)


def _counts(labels, indices):
    return Counter(labels[index] for index in indices)


@given(LABELS, RATIOS, SEEDS)
def test_oversampling_keeps_every_example_and_meets_the_size_exactly(labels, ratio, seed):
    indices = resample(labels, ratio, seed=seed)
    before = Counter(labels)
    largest = max(before.values())
    assert indices.dtype == np.int64
    assert set(indices) == set(range(len(labels)))
    assert _counts(labels, indices) == {
        label: round(count + ratio * (largest - count)) for label, count in before.items()
    }
    repeats = Counter(indices.tolist())
    for label in before:
        of_class = [repeats[index] for index, other in enumerate(labels) if other == label]
        assert max(of_class) - min(of_class) <= 1
    np.testing.assert_array_equal(indices, np.sort(indices))
    np.testing.assert_array_equal(indices, resample(labels, ratio, seed=seed))


@given(LABELS, SEEDS)
def test_ratio_0_changes_nothing_and_ratio_1_makes_all_classes_equal(labels, seed):
    np.testing.assert_array_equal(resample(labels, 0, seed=seed), np.arange(len(labels)))
    assert len(set(_counts(labels, resample(labels, 1, seed=seed)).values())) == 1


@given(LABELS, RATIOS, RATIOS, SEEDS)
def test_a_higher_ratio_draws_all_that_a_lower_one_draws(labels, one, other, seed):
    low, high = sorted([one, other])
    assert Counter(resample(labels, low, seed=seed).tolist()) <= Counter(resample(labels, high, seed=seed).tolist())


def test_another_seed_draws_others():
    labels = ["a"] * 100 + ["b"] * 10
    assert resample(labels, 0.3, seed=0).tolist() != resample(labels, 0.3, seed=1).tolist()
    assert resample(labels, 0, "a:0.5", seed=0).tolist() != resample(labels, 0, "a:0.5", seed=1).tolist()


@pytest.mark.parametrize(
    ("undersample", "expected"),
    [
        ("none", {"neutral": 50, "non-neutral": 20, "joy": 12, "fear": 3}),
        ("neutral", {"neutral": 20, "non-neutral": 20, "joy": 12, "fear": 3}),
        ("neutral:0.5", {"neutral": 25, "non-neutral": 20, "joy": 12, "fear": 3}),
        ("neutral+non-neutral", {"neutral": 12, "non-neutral": 12, "joy": 12, "fear": 3}),
        ("neutral+fear", {"neutral": 20, "non-neutral": 20, "joy": 12, "fear": 3}),
        ("neutral:0.1+fear:0.01", {"neutral": 5, "non-neutral": 20, "joy": 12, "fear": 1}),
    ],
)
def test_undersampling_takes_the_named_classes_down(undersample, expected):
    labels = ["neutral"] * 50 + ["non-neutral"] * 20 + ["joy"] * 12 + ["fear"] * 3
    indices = resample(labels, undersample=undersample)
    assert _counts(labels, indices) == expected
    assert len(set(indices.tolist())) == len(indices)


def test_oversampling_aims_at_the_largest_class_that_undersampling_left():
    labels = ["neutral"] * 50 + ["joy"] * 12 + ["fear"] * 3
    assert _counts(labels, resample(labels, 1, "neutral")) == {"neutral": 12, "joy": 12, "fear": 12}


def test_class_ids_are_drawn_as_their_names_would_be():
    names = np.array(["a", "b", "c"])
    ids = np.array([0] * 30 + [1] * 10 + [2] * 4)
    np.testing.assert_array_equal(resample(ids, 0.5, "0"), resample(names[ids], 0.5, "a"))


def test_a_class_may_have_a_colon_in_its_name():
    assert parse_undersample("a:b+a:b:c:0.5", ["a:b", "a:b:c", "d"]) == {"a:b": None, "a:b:c": 0.5}


@pytest.mark.parametrize(
    ("undersample", "parts"),
    [
        ("happy", ["'happy'", "fear, joy"]),
        ("", ["''", "fear, joy"]),
        ("happy:0.5", ["'happy'", "fear, joy"]),
        ("joy:0", ["'joy:0'", "share"]),
        ("joy:1.5", ["'joy:1.5'", "share"]),
        ("joy:nan", ["'joy:nan'", "share"]),
        ("joy:half", ["'joy:half'", "share"]),
        ("joy+joy:0.5", ["'joy'", "twice"]),
        ("joy+fear", ["every class"]),
    ],
)
def test_undersampling_that_cannot_be_read_is_refused(undersample, parts, refusal):
    refusal(lambda: resample(["joy", "fear", "joy"], undersample=undersample), *parts)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio, refusal):
    refusal(lambda: resample(["joy", "fear"], ratio), ratio)
