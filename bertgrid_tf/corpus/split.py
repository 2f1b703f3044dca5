"""Parts of a corpus that look like the whole: whole dialogues, stratified by class, decided by a seed."""

from collections.abc import Sequence

import numpy as np

from bertgrid_tf.corpus.dialogue import Dialogue, label_counts
from bertgrid_tf.errors import UserError

# Each pass toggles every dialogue once; the distance stops falling after two or three.
_PASSES = 10


def hold_out(
    dialogues: Sequence[Dialogue], share: float, seed: int
) -> tuple[tuple[Dialogue, ...], tuple[Dialogue, ...]]:
    """Splits `dialogues` in (kept, held), each in the given order.

    Independent texts: the held part has the share of each class exactly, to within one text. Dialogues: the
    share of each class as closely as whole dialogues allow. Every class keeps at least one utterance in the
    kept part.

    Args:
        dialogues: What to split.
        share: The held part of the utterances, between 0 and 1.
        seed: Decides which dialogues are held.

    Raises:
        UserError: The share is not between 0 and 1, or there are too few dialogues to leave both parts some.
    """
    if not 0 < share < 1:
        raise UserError(f"The held-out share is {share}; it must lie between 0 and 1.")
    counts = _class_counts(dialogues)
    held = _choose(counts, share * counts.sum(axis=0), seed, leave_some=True)
    if not held.any() or held.all():
        raise UserError(
            f"{len(dialogues)} dialogues with {int(counts.sum())} utterances are too few to hold out a share "
            f"of {share}; give more, or a dev split of its own."
        )
    return _take(dialogues, ~held), _take(dialogues, held)


def limit(dialogues: Sequence[Dialogue], n_utterances: int, seed: int) -> tuple[Dialogue, ...]:
    """Some of the dialogues, in the given order: about `n_utterances` utterances with the classes' shares
    kept.

    Every class keeps at least one utterance, so that there may be more than `n_utterances` where that is few;
    all dialogues are taken where they have no more than `n_utterances`.

    Raises:
        UserError: `n_utterances` is less than 1.
    """
    if n_utterances < 1:
        raise UserError(f"The limit of training utterances is {n_utterances}; it must be at least 1.")
    counts = _class_counts(dialogues)
    total = counts.sum()
    if n_utterances >= total:
        return tuple(dialogues)
    return _take(dialogues, _choose(counts, counts.sum(axis=0) * n_utterances / total, seed, cover=True))


def _take(dialogues: Sequence[Dialogue], chosen: np.ndarray) -> tuple[Dialogue, ...]:
    return tuple(dialogues[index] for index in np.flatnonzero(chosen).tolist())


def _class_counts(dialogues: Sequence[Dialogue]) -> np.ndarray:
    """Utterances per dialogue and class: int64 `[dialogues, classes]`."""
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


def _choose(
    counts: np.ndarray, targets: np.ndarray, seed: int, *, leave_some: bool = False, cover: bool = False
) -> np.ndarray:
    """Which dialogues to choose so that the chosen ones' class counts are close to `targets`.

    Args:
        counts: Utterances per dialogue and class, `[dialogues, classes]`.
        targets: Utterances wanted per class, `[classes]`.
        seed: Decides among equals.
        leave_some: Leave at least one utterance of every class unchosen.
        cover: Choose at least one utterance of every class.

    Returns:
        bool `[dialogues]`.
    """
    least = np.full(counts.shape[1], int(cover))
    most = counts.sum(axis=0) - int(leave_some)
    order = np.random.default_rng(seed).permutation(len(counts))
    if (counts.sum(axis=1) == 1).all():
        return _choose_texts(counts, _round_to_total(targets, least, most), order)
    return _choose_dialogues(counts, targets, least, most, order)


def _round_to_total(targets: np.ndarray, least: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Whole numbers within (least, most) that add up to the rounded sum of `targets`: largest remainders
    first."""
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


def _choose_dialogues(
    counts: np.ndarray, targets: np.ndarray, least: np.ndarray, most: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Local search: covers what must be covered, rarest class first, then toggles what brings it closer.

    The distance is chi-square's, so that an utterance of a rare class weighs more than one of a common class.
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
