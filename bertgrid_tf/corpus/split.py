"""Stratified subsets of whole dialogues, decided by a seed."""

from collections.abc import Sequence

import numpy as np

from bertgrid_tf.corpus.dialogue import Dialogue, label_counts
from bertgrid_tf.errors import UserError

# Each pass toggles every dialogue once; the distance stops falling after two or three passes.
_PASSES = 10


def hold_out(
    dialogues: Sequence[Dialogue], share: float, seed: int
) -> tuple[tuple[Dialogue, ...], tuple[Dialogue, ...]]:
    """Hold out a share of the dialogues, stratified by class.

    Dialogues with the same texts stay on one side, so that no score is too good by them. Of independent texts, the
    held-out part has the share of each class to within one text, if equal texts allow it; a class with nothing but
    equal texts is divided all the same. Of longer dialogues, it has the share of each class as closely as whole
    dialogues allow. Every class has at least one utterance in the kept part.

    Args:
        dialogues: The dialogues to split.
        share: The share of utterances to hold out, between 0 and 1.
        seed: The seed that decides which dialogues are held out.

    Raises:
        UserError: The share is not between 0 and 1, or there are too few dialogues for two parts.

    Example:
        >>> from bertgrid_tf.corpus import Dialogue, Utterance, hold_out
        >>> texts = [Dialogue((Utterance("Great!", "joy"),)), Dialogue((Utterance("Oh no!", "anger"),))] * 10
        >>> kept, held_out = hold_out(texts, share=0.2, seed=0)
        >>> len(kept), len(held_out)
        (16, 4)
    """
    if not 0 < share < 1:
        raise UserError(f"The held-out share is {share}; it must lie between 0 and 1.")
    counts = _class_counts(dialogues)
    held = _choose(counts, share * counts.sum(axis=0), seed, leave_some=True, groups=_equal_dialogues(dialogues))
    if not held.any() or held.all():
        raise UserError(
            f"{len(dialogues)} dialogues with {int(counts.sum())} utterances are too few to hold out a share "
            f"of {share}; give more, or a dev split of its own."
        )
    return _take(dialogues, ~held), _take(dialogues, held)


def limit(dialogues: Sequence[Dialogue], n_utterances: int, seed: int) -> tuple[Dialogue, ...]:
    """Choose dialogues with about `n_utterances` utterances, stratified by class.

    Every class has at least one utterance in the result, which may exceed a very low limit.

    Raises:
        UserError: The limit `n_utterances` is less than 1.
    """
    if n_utterances < 1:
        raise UserError(f"The limit of training utterances is {n_utterances}; it must be at least 1.")
    counts = _class_counts(dialogues)
    total = counts.sum()
    if n_utterances >= total:
        return tuple(dialogues)
    return _take(dialogues, _choose(counts, counts.sum(axis=0) * n_utterances / total, seed, cover=True))


def text_folds(dialogues: Sequence[Dialogue], count: int, seed: int) -> np.ndarray:
    """Divide dialogues into folds, each with about the same number of utterances of every class.

    Dialogues with the same texts are in one fold. Of independent texts that all differ, the folds' numbers of a class
    are within one of each other.

    Args:
        dialogues: The dialogues.
        count: The number of folds.
        seed: The seed that decides between equivalent divisions.

    Returns:
        The fold of every utterance, from 0: int64 [utterances].

    Raises:
        UserError: There are fewer dialogues than folds.

    Example:
        >>> from bertgrid_tf.corpus import Dialogue, Utterance, text_folds
        >>> texts = [Dialogue((Utterance(text, "joy"),)) for text in ("Great!", "Hooray!", "Great!", "Yes!")]
        >>> text_folds(texts, count=2, seed=0).tolist()
        [0, 1, 0, 1]
    """
    groups, counts = _equal_dialogues(dialogues), _class_counts(dialogues)
    of_group = np.zeros((groups.max() + 1, counts.shape[1]), np.int64)
    np.add.at(of_group, groups, counts)
    if len(of_group) < count:
        raise UserError(f"{len(of_group)} dialogues that differ cannot be divided into {count} folds: give fewer.")
    weights, have = 1 / counts.sum(axis=0), np.zeros((count, counts.shape[1]))
    folds, sizes = np.empty(len(of_group), np.int64), of_group.sum(axis=1)
    order = np.random.default_rng(seed).permutation(len(of_group))
    for group in order[np.argsort(-sizes[order], kind="stable")]:  # small ones fill what large ones leave
        crowded = have @ (of_group[group] * weights)
        folds[group] = np.lexsort((have.sum(axis=1), crowded))[0]
        have[folds[group]] += of_group[group]
    return np.repeat(folds[groups], counts.sum(axis=1))


def _take(dialogues: Sequence[Dialogue], chosen: np.ndarray) -> tuple[Dialogue, ...]:
    return tuple(dialogues[index] for index in np.flatnonzero(chosen).tolist())


def _class_counts(dialogues: Sequence[Dialogue]) -> np.ndarray:
    """Count the utterances of each class in each dialogue, int64 [dialogues, classes]."""
    columns: dict[str | None, int] = {}
    cells = [
        (row, columns.setdefault(label, len(columns)), count)
        for row, dialogue in enumerate(dialogues)
        for label, count in label_counts([dialogue]).items()
    ]
    counts = np.zeros((len(dialogues), len(columns)), dtype=np.int64)
    for row, column, count in cells:
        counts[row, column] = count
    return counts


def _equal_dialogues(dialogues: Sequence[Dialogue]) -> np.ndarray:
    """Number the dialogues so that those with the same texts have the same number, int64 [dialogues]."""
    numbers: dict[tuple[str, ...], int] = {}
    return np.array([numbers.setdefault(dialogue.texts, len(numbers)) for dialogue in dialogues], np.int64)


def _choose(
    counts: np.ndarray,
    targets: np.ndarray,
    seed: int,
    *,
    leave_some: bool = False,
    cover: bool = False,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Choose dialogues whose class counts are close to `targets`.

    Args:
        counts: The number of utterances per dialogue and class, [dialogues, classes].
        targets: The desired number of utterances per class, [classes].
        seed: The seed that decides between equivalent dialogues.
        leave_some: Whether to leave at least one utterance of every class unchosen.
        cover: Whether to choose at least one utterance of every class.
        groups: The number of each dialogue's group, which is chosen as a whole, [dialogues]; None for no groups.
    """
    least = np.full(counts.shape[1], int(cover))
    most = counts.sum(axis=0) - int(leave_some)
    order = np.random.default_rng(seed).permutation(len(counts))
    alone = (counts.sum(axis=1) == 1).all()
    sizes = _round_to_total(targets, least, most) if alone else targets

    def choose_each() -> np.ndarray:
        if alone:
            return _choose_texts(counts, sizes, order)
        return _choose_dialogues(counts, sizes, least, most, order)

    if groups is None or len(np.unique(groups)) == len(groups):
        return choose_each()
    # A group takes the place of one dialogue in the order, so that few equal texts change little. The place of the
    # earliest would hold out frequent texts before rare ones.
    one_of_each = np.unique(groups, return_index=True)[1]
    group_order = np.argsort(np.argsort(order)[one_of_each])
    of_group = np.zeros((len(group_order), counts.shape[1]), np.int64)
    np.add.at(of_group, groups, counts)
    if alone:
        chosen = _choose_groups(of_group, sizes, group_order)[groups]
        missed = counts[chosen].sum(axis=0) == 0
        return chosen | _choose_texts(counts, sizes * missed, order)
    chosen = _choose_dialogues(of_group, sizes, least, most, group_order)[groups]
    return chosen if chosen.any() else choose_each()


def _round_to_total(targets: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Round the targets by largest remainders to the rounded total, within `least` and `most`, int64 [classes]."""
    whole = np.floor(targets).astype(np.int64)
    missing = round(targets.sum()) - whole.sum()
    whole[np.argsort(whole - targets, kind="stable")[:missing]] += 1
    return np.clip(whole, least, most)


def _choose_texts(counts: np.ndarray, sizes: np.ndarray, order: np.ndarray) -> np.ndarray:
    chosen = np.zeros(len(counts), dtype=bool)
    classes = counts.argmax(axis=1)[order]
    for label, size in enumerate(sizes):
        chosen[order[classes == label][:size]] = True
    return chosen


def _choose_groups(counts: np.ndarray, sizes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Choose groups of texts, each whose classes all have room left, in order."""
    chosen, room = np.zeros(len(counts), dtype=bool), sizes.copy()
    for index in order:
        if (counts[index] <= room).all():
            chosen[index] = True
            room -= counts[index]
            if not room.any():
                break
    return chosen


def _choose_dialogues(
    counts: np.ndarray, targets: np.ndarray, least: np.ndarray, most: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Choose dialogues by local search: cover the classes, rarest first, then toggle whatever lowers the distance.

    The distance is that of chi-square, in which an utterance of a rare class weighs more than one of a common class.
    """
    chosen = np.zeros(len(counts), dtype=bool)
    have = np.zeros(counts.shape[1], dtype=np.int64)
    for label in np.argsort(counts.sum(axis=0), kind="stable"):
        if have[label] < least[label]:
            index = next(index for index in order if counts[index, label])
            chosen[index] = True
            have += counts[index]
    distance = float(((have - targets) ** 2 / targets).sum())
    for _ in range(_PASSES):
        before = distance
        for index in order:
            after = have - counts[index] if chosen[index] else have + counts[index]
            if (after < least).any() or (after > most).any():
                continue
            candidate = float(((after - targets) ** 2 / targets).sum())
            if candidate < distance:
                chosen[index] = not chosen[index]
                have, distance = after, candidate
        if distance == before:
            break
    return chosen
