"""A head refitted to features, balanced or not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from bertgrid_tf.bert.head import balance, refit

WIDTH = 6
HEADS = pytest.mark.parametrize("head", ["smote", "rose"])


def clouds(*sizes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """So many texts of each class in a cloud of its own, shuffled: features float32 [n, WIDTH] and labels int32 [n]."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int32)
    centres = np.eye(len(sizes), WIDTH)
    return (centres[labels] + 0.5 * random.standard_normal((len(labels), WIDTH))).astype(np.float32), labels


def rows(features: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in features}


@HEADS
@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 12), min_size=2, max_size=4), seed=st.integers(0, 2**60))
def test_every_class_becomes_as_large_as_the_largest_however_few_texts_it_has(head, sizes, seed):
    features, labels = clouds(*sizes)
    made, of_class = balance(features, labels, head, seed)
    assert np.bincount(of_class).tolist() == [max(sizes)] * len(sizes)
    assert rows(features) <= rows(made) and made.dtype == np.float32
    kernel, bias = refit(features, labels, head, seed)
    assert kernel.shape == (WIDTH, len(sizes)) and bias.shape == (len(sizes),)
    assert kernel.dtype == bias.dtype == np.float32
    assert np.isfinite(kernel).all() and np.isfinite(bias).all()


def test_smote_stays_between_the_texts_of_a_class_and_rose_goes_around_them():
    features, labels = clouds(200, 8)
    rare = features[labels == 1]

    def new(head: str) -> np.ndarray:
        made, of_class = balance(features, labels, head, 1)
        found = made[of_class == 1]
        return found[[row.tobytes() not in rows(rare) for row in found]]

    between, around = new("smote"), new("rose")
    assert len(between) == len(around) == 192
    assert (between >= rare.min(axis=0)).all() and (between <= rare.max(axis=0)).all()
    assert (around < rare.min(axis=0)).any() and (around > rare.max(axis=0)).any()
    np.testing.assert_allclose(around.mean(axis=0), rare.mean(axis=0), atol=0.25)


def test_smote_s_points_lie_between_a_text_and_any_of_its_five_nearest():
    features, labels = clouds(200, 12)
    rare = features[labels == 1]
    made, of_class = balance(features, labels, "smote", 1)
    nearest = np.linalg.norm(rare[:, None] - rare, axis=2).argsort(axis=1)[:, 1:]
    between = set()
    for point in made[of_class == 1]:
        if point.tobytes() in rows(rare):
            continue
        # On the line between two texts, the distances to them add up to theirs.
        from_point = np.linalg.norm(rare - point, axis=1)
        detour = from_point[:, None] + from_point - np.linalg.norm(rare[:, None] - rare, axis=2)
        np.fill_diagonal(detour, 1)
        one, other = np.unravel_index(detour.argmin(), detour.shape)
        assert detour[one, other] < 1e-5
        between.add(min(list(nearest[one]).index(other), list(nearest[other]).index(one)))
    assert between == {0, 1, 2, 3, 4}


@HEADS
def test_rare_classes_are_found_more_often_than_by_a_fit_to_the_classes_as_they_are(head):
    features, labels = clouds(400, 20, 20)
    unseen, truth = clouds(300, 300, 300, seed=1)

    def recalls(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        found = (unseen @ kernel + bias).argmax(axis=1)
        return np.array([(found[truth == label] == label).mean() for label in range(3)])

    plain = LogisticRegression().fit(features, labels)
    before, after = recalls(plain.coef_.T, plain.intercept_), recalls(*refit(features, labels, head, 0))
    assert (after[1:] > before[1:] + 0.1).all()
    assert after.mean() > before.mean() + 0.05


def test_without_new_points_it_is_the_fit_to_the_classes_as_they_are():
    features, labels = clouds(60, 9, 4)
    expected = LogisticRegression(max_iter=1_000).fit(features, labels)
    for seed in (0, 1):
        kernel, bias = refit(features, labels, "refit", seed)
        np.testing.assert_allclose(features @ kernel + bias, expected.decision_function(features), atol=1e-4)


@pytest.mark.parametrize("head", ["refit", "smote", "rose"])
def test_of_two_classes_each_has_a_column_and_their_log_odds_are_the_fit_s(head):
    features, labels = clouds(30, 30)
    scores = np.subtract.reduce((features @ refit(features, labels, head, 0)[0])[:, ::-1], axis=1)
    bias = refit(features, labels, head, 0)[1]
    expected = LogisticRegression(max_iter=1_000).fit(features, labels)
    np.testing.assert_allclose(scores + bias[1] - bias[0], expected.decision_function(features), atol=1e-4)


@HEADS
def test_the_seed_decides_the_head(head):
    features, labels = clouds(60, 9)
    first, again, other = (refit(features, labels, head, seed)[0] for seed in (2**40, 2**40, 2**40 + 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
