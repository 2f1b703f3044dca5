"""The weights of texts by the size of their class, and the shares of their raters' votes."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_sample_weight

from bertgrid_tf.corpus import Corpus, Dialogue, Utterance, read_emotionlines, utterances
from bertgrid_tf.corpus.balance import ClassWeights, class_weights
from bertgrid_tf.corpus.votes import vote_shares

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)


@given(LABELS, st.sampled_from(get_args(ClassWeights)))
def test_weights_are_one_for_each_class_and_1_in_the_mean(labels, kind):
    weights = class_weights(labels, kind)
    assert weights.dtype == np.float32 and weights.shape == labels.shape
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    sizes = np.bincount(labels)
    for label in np.unique(labels):
        of_class = np.unique(weights[labels == label])
        assert len(of_class) == 1
        smaller = weights[np.isin(labels, np.flatnonzero(sizes <= sizes[label]))]
        assert (smaller >= of_class[0]).all()


@given(LABELS)
def test_balanced_is_scikit_learn_s_and_none_is_1(labels):
    np.testing.assert_allclose(class_weights(labels, "balanced"), compute_sample_weight("balanced", labels), rtol=1e-5)
    assert (class_weights(labels, "none") == 1).all()


@pytest.mark.parametrize(
    ("kind", "ratio"), [("balanced", 100), ("sqrt", 10), ("effective", (1 - 0.999**1000) / 0.00995512)]
)
def test_a_class_of_ten_beside_one_of_a_thousand(kind, ratio):
    weights = class_weights(np.repeat([0, 1], [1000, 10]), kind)
    assert weights[-1] / weights[0] == pytest.approx(ratio, rel=1e-4)


def corpus(*train: Utterance) -> Corpus:
    """With a line of every class besides, so that all have an id."""
    classes = ("anger", "disgust", "fear", "joy", "neutral", "non-neutral", "sadness", "surprise")
    rest = tuple(Utterance("…", label, votes=(1,) * 7) for label in classes)
    return Corpus.from_splits("friends", {"train": [Dialogue(train + rest)], "dev": [Dialogue(rest)]})


def test_votes_become_shares_of_the_corpus_s_own_classes():
    friends = corpus(
        Utterance("Hi!", "joy", votes=(2, 3, 0, 0, 0, 0, 0)),
        Utterance("Oh.", "surprise", votes=(1, 0, 0, 0, 0, 3, 1)),
    )
    shares = [dict(zip(friends.labels, row.tolist(), strict=True)) for row in vote_shares(friends)[:2]]
    assert {label: share for label, share in shares[0].items() if share} == pytest.approx({"neutral": 0.4, "joy": 0.6})
    assert {label: share for label, share in shares[1].items() if share} == pytest.approx(
        {"neutral": 0.2, "surprise": 0.6, "disgust": 0.2}
    )


def test_a_label_that_nobody_could_vote_for_is_kept_whole():
    friends = corpus(Utterance("Hm.", "non-neutral", votes=(2, 2, 0, 0, 0, 1, 0)))
    assert vote_shares(friends)[0, friends.labels.index("non-neutral")] == 1


def test_votes_for_a_class_that_the_corpus_lacks_do_not_count():
    lines = (Utterance("Hi!", "joy", votes=(1, 3, 0, 1, 0, 0, 0)), Utterance("So.", "neutral", votes=(5,) + (0,) * 6))
    friends = Corpus.from_splits("friends", {"train": [Dialogue(lines)], "dev": [Dialogue(lines)]})
    np.testing.assert_allclose(vote_shares(friends), [[0.75, 0.25], [0, 1]])


@pytest.mark.parametrize("votes", [None, (), (1, 4)])
def test_a_text_without_votes_is_named(votes, refusal):
    friends = corpus(Utterance("Hi!", "joy", votes=votes))
    refusal(lambda: vote_shares(friends), "soft_label_weight", "friends", "'Hi!'", "leave it at 0")


def test_on_friends_the_label_has_the_largest_share_of_every_text(real_data):
    splits = {split: read_emotionlines(real_data / f"friends/friends_{split}.json") for split in ("train", "dev")}
    friends = Corpus.from_splits("friends", splits)
    shares = vote_shares(friends)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    labels = [line.label for line in utterances(friends.splits["train"])]
    assert [friends.labels[i] for i in shares.argmax(axis=1)] == labels
    # Raters disagreed on most lines, and a label has three of five votes at least.
    assert (shares.max(axis=1) < 1).mean() == pytest.approx(0.605, abs=1e-3)
    assert shares.max(axis=1).min() == pytest.approx(0.6)


def test_the_votes_are_the_train_split_s():
    friends = corpus(Utterance("Hi!", "joy", votes=(2, 3, 0, 0, 0, 0, 0)))
    without = {**friends.splits, "dev": (Dialogue((Utterance("Hi!", "joy"),)),)}
    np.testing.assert_array_equal(vote_shares(replace(friends, splits=without)), vote_shares(friends))
