from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertgrid_tf.bert.batches import (
    Batch,
    _dataset,
    divide,
    equal_sizes,
    pipeline,
    sizes_within,
    training_order,
)
from bertgrid_tf.bert.encode import EncodedTexts


def encoded(lengths: list[int], pad_id: int = 0) -> EncodedTexts:
    """Text i holds i + 1 in every place."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.repeat(np.arange(1, len(lengths) + 1), lengths).astype(np.int32)
    return EncodedTexts(ids, ids % 2, starts, np.diff(starts), pad_id)


LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=300)


@given(LENGTHS, st.integers(1, 16), st.integers(0, 5), st.integers(1, 3), st.booleans())
def test_every_epoch_visits_every_text_once(lengths, batch_size, seed, epoch, grouped):
    order = training_order(np.array(lengths), batch_size, seed, epoch, grouped)
    assert sorted(order) == list(range(len(lengths)))


def test_the_order_is_decided_by_seed_and_epoch():
    lengths = np.arange(1, 101)
    for grouped in (False, True):
        first = training_order(lengths, 4, 1, 1, grouped)
        np.testing.assert_array_equal(first, training_order(lengths, 4, 1, 1, grouped))
        assert (first != training_order(lengths, 4, 1, 2, grouped)).any()
        assert (first != training_order(lengths, 4, 2, 1, grouped)).any()
        assert (training_order(lengths, 4, 1, 2, grouped) != training_order(lengths, 4, 2, 1, grouped)).any()


def test_grouped_batches_hold_less_padding_and_do_not_come_in_order_of_length():
    lengths = np.random.default_rng(0).integers(3, 64, 1000)

    def padded(grouped: bool) -> tuple[int, list[int]]:
        order = training_order(lengths, 10, 0, 1, grouped)
        longest = [int(lengths[order[i : i + 10]].max()) for i in range(0, 1000, 10)]
        return sum(longest), longest

    assert padded(True)[0] < 0.7 * padded(False)[0]
    assert padded(True)[1] != sorted(padded(True)[1], reverse=True)


@given(st.integers(1, 300), st.integers(1, 16), st.integers(1, 5))
def test_every_batch_is_divided_evenly_and_who_gets_no_text_has_no_share(texts, batch_size, replicas):
    starts, stops, shares = divide(equal_sizes(texts, batch_size), replicas)
    assert starts.shape == stops.shape == shares.shape == (-(-texts // batch_size), replicas)
    assert (stops > starts).all()
    counts = (stops - starts) * (shares > 0)
    np.testing.assert_allclose(shares, counts / counts.sum(axis=1, keepdims=True), rtol=1e-6)
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    # Replica after replica and batch after batch, every text comes once and in order.
    visited = [np.arange(a, b) for a, b, share in zip(starts.flat, stops.flat, shares.flat, strict=True) if share]
    assert np.concatenate(visited).tolist() == list(range(texts))
    assert (starts // batch_size == np.arange(len(starts))[:, None]).all()


@settings(max_examples=20)
@given(LENGTHS, st.integers(1, 9))
def test_the_mask_covers_the_tokens_and_nothing_else(lengths, batch_size):
    texts = encoded(lengths, pad_id=7)
    order = np.arange(len(lengths))[::-1]
    seen = []
    for (batch,) in pipeline(texts, np.arange(len(lengths)), order, equal_sizes(len(order), batch_size)):
        rows = batch.labels.numpy()
        assert batch.ids.shape == batch.types.shape == batch.mask.shape == (len(rows), max(lengths[i] for i in rows))
        np.testing.assert_array_equal(batch.types, batch.ids % 2 * batch.mask)
        for row, ids, mask in zip(rows, batch.ids.numpy(), batch.mask.numpy(), strict=True):
            assert mask.tolist() == [1] * lengths[row] + [0] * (len(mask) - lengths[row])
            assert (ids[mask == 1] == row + 1).all()
            assert (ids[mask == 0] == 7).all()
        seen += rows.tolist()
    assert seen == order.tolist()


@given(LENGTHS, st.integers(1, 300))
def test_batches_within_a_number_of_tokens_hold_every_text_and_no_more_than_that(lengths, tokens):
    longest_first = np.sort(lengths)[::-1]
    sizes = sizes_within(longest_first, tokens)
    assert sizes.sum() == len(lengths)
    firsts = np.cumsum(sizes) - sizes
    assert all(size == 1 or size * longest_first[first] <= tokens for first, size in zip(firsts, sizes, strict=True))
    # None could have held the next text too.
    assert all((size + 1) * longest_first[first] > tokens for first, size in zip(firsts[:-1], sizes[:-1], strict=True))


@settings(max_examples=10)
@given(LENGTHS, st.integers(1, 9), st.integers(1, 3))
def test_targets_go_with_their_texts(lengths, batch_size, replicas):
    order = np.random.default_rng(0).permutation(len(lengths))
    targets = np.arange(2 * len(lengths)).reshape(-1, 2)
    for batches in pipeline(encoded(lengths), targets, order, equal_sizes(len(order), batch_size), replicas):
        for batch in batches:
            rows = batch.ids.numpy()[:, 0] - 1
            assert batch.labels.dtype == np.float32
            np.testing.assert_array_equal(batch.labels, targets[rows])


def test_passes_at_the_same_time_have_their_own_texts_and_one_that_is_given_up_none_of_the_next():
    def pass_over(count: int) -> Iterator[tuple[Batch, ...]]:
        return pipeline(encoded([1] * count), np.arange(count), np.arange(count), np.ones(count, int))

    given_up, one, other = pass_over(9), pass_over(3), pass_over(2)
    next(given_up)
    first = next(one)
    assert [int(batch.labels[0]) for (batch,) in other] == [0, 1]
    assert [int(batch.labels[0]) for (batch,) in (first, *one)] == [0, 1, 2]
    given_up.close()
    del given_up
    assert [int(batch.labels[0]) for (batch,) in pass_over(2)] == [0, 1]
    assert list(pass_over(0)) == []


def test_no_pass_over_the_batches_ends_with_waiting_for_tensorflows_autotuner():
    assert _dataset(np.dtype(np.int32), (), 1).batches.options().autotune.enabled is False
