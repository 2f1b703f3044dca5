"""What recorded studies suggest for a new task: learning rates, epochs, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bertgrid_tf.bank.card import MetaFeatures
from bertgrid_tf.bank.studies import RecordedStudy
from bertgrid_tf.errors import UserError

Array = npt.NDArray[np.float64]

RATES = 1e-4 * 2.0 ** np.arange(-9, 8)
"""The learning rates of the lattice, float64 [17]: 2e-7 to 1.28e-2 by factors of 2."""
EPOCHS = 10
"""The epochs of the lattice."""
_LOGARITHMIC = ("texts", "steps", "classes", "tokens_mean", "layers", "width", "batch_size", "vector_variance")
_LINEAR = ("label_entropy", "tokens_std", "vector_mean", "warmup_ratio")
_WORDS = ("pretrained", "family", "script", "lr_schedule")
"""Features whose difference is 1 or 0."""
BANDWIDTH = 1.0
"""Distance at which the weight of a study falls to exp(−½)."""
TIME_BANDWIDTH = 0.3
"""Likewise for the time of an epoch, which checkpoints of other sizes say little about."""
UNLIKE = 0.2
"""Weight of the hypothesis that no study tells, under which the best cell may be anywhere."""
COVERED = 0.9
"""The share of the posterior that the suggested cells are to have."""
MOST_RATES = 7
LEAST_SHARE = 0.3
"""The share of the weights that studies of like checkpoints need for a score to be expected."""
_LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class Neighbour:
    """A recorded study that a suggestion rests on.

    Attributes:
        study: The study.
        distance: Root mean square of the standardised differences of the features.
        weight: Its share of the suggestion.
        learning_rate: The learning rate of its best cell; None where no scores are known.
        epoch: The epoch of its best cell; None likewise.
    """

    study: RecordedStudy
    distance: float
    weight: float
    learning_rate: float | None
    epoch: int | None


@dataclass(frozen=True)
class Suggestion:
    """Where to search on a new task.

    Attributes:
        features: The task and the checkpoint that it is for.
        learning_rates: Rows to try, falling by factors of 2.
        epochs: Columns to try.
        learning_rate: The likeliest row.
        epoch: The likeliest column of that row.
        probability: Probability that the best cell of the lattice is among `learning_rates` × `epochs`.
        row_probability: Probability that it is in the row of `learning_rate`.
        max_length: Tokens that 99 % of the texts fit into, rounded up; None if unknown.
        batch_size: Texts of a step that most of the neighbours were recorded with.
        warmup_ratio: Their warm-up.
        score: Expected best score with its standard deviation, as the metric of the features; None if unknown.
        epoch_seconds: Seconds of an epoch on this machine; None where no neighbour was recorded on it.
        neighbours: The most alike studies, up to three.
        unlike: Share of the suggestion that rests on no study, from 0 to 1.
    """

    features: MetaFeatures
    learning_rates: tuple[float, ...]
    epochs: int
    learning_rate: float
    epoch: int
    probability: float
    row_probability: float
    max_length: int | None
    batch_size: int
    warmup_ratio: float
    score: tuple[float, float] | None
    epoch_seconds: float | None
    neighbours: tuple[Neighbour, ...]
    unlike: float


def suggest(features: MetaFeatures, studies: Sequence[RecordedStudy], machine: str | None = None) -> Suggestion:
    """Suggest learning rates, epochs and other settings.

    Every study says where its best cell lay, at a learning rate that is scaled by the sizes of the checkpoints; the
    answers are averaged with weights that fall with the distance of the features, exp(−½(distance / BANDWIDTH)²).

    Args:
        features: The new task and checkpoint.
        studies: The bank, of which tables of a single learning rate say nothing.
        machine: This machine (`system.host.description`), for the time; None for no time.

    Raises:
        UserError: The bank is empty.
    """
    # A single row is the best of its table whatever its learning rate.
    studies = [study for study in studies if len(study.rates) > 1]
    if not studies:
        raise UserError("The bank of studies is empty: nothing can be suggested.")
    away = distances(features, [study.card for study in studies])
    kernels = np.exp(-0.5 * (away / BANDWIDTH) ** 2)
    weights = kernels / (kernels.sum() + UNLIKE)
    unlike = float(1 - weights.sum())
    cells = np.tensordot(weights, scaled_cells(features, studies), axes=1) + unlike / (len(RATES) * EPOCHS)
    row = int(cells.sum(axis=1).argmax())
    low, high = _window(cells.sum(axis=1), row)
    inside = cells[low:high].sum(axis=0).cumsum()
    epochs = min(int(np.searchsorted(inside, COVERED * inside[-1])) + 1, EPOCHS)
    order = np.argsort(away, kind="stable")
    of_batch = _likeliest([study.card.batch_size for study in studies], weights)
    of_warmup = _likeliest([study.card.warmup_ratio for study in studies], weights)
    return Suggestion(
        features=features,
        learning_rates=tuple(float(f"{rate:.3g}") for rate in RATES[low:high][::-1]),
        epochs=epochs,
        learning_rate=float(f"{RATES[row]:.3g}"),
        epoch=int(cells[row, :epochs].argmax()) + 1,
        probability=float(inside[epochs - 1]),
        row_probability=float(cells[row].sum()),
        max_length=_max_length(features),
        batch_size=int(of_batch or 32),
        warmup_ratio=0.2 if of_warmup is None else float(of_warmup),
        score=_score(features, studies, weights),
        epoch_seconds=None if machine is None else _seconds(features, studies, away, machine),
        neighbours=tuple(_neighbour(studies[i], float(away[i]), float(weights[i])) for i in order[:3]),
        unlike=unlike,
    )


def distances(one: MetaFeatures, others: Sequence[MetaFeatures]) -> Array:
    """Return the distances of one study's features to others', float64 [others].

    The distance is the root mean square of the differences over the features that `one` knows: of a number by its
    deviation over `others`, sizes as logarithms; of a word 0 or 1. What the other does not know counts as 1.
    """
    rows = np.array([_numbers(features) for features in (one, *others)])
    deviation = np.ones(rows.shape[1])
    known = (~np.isnan(rows[1:])).sum(axis=0) > 1
    deviation[known] = np.nanstd(rows[1:, known], axis=0)
    deviation[deviation < 1e-9] = 1.0
    numbers = np.nan_to_num(rows[1:] - rows[0], nan=1.0) / np.where(np.isnan(rows[1:]), 1.0, deviation)
    words = np.array([[getattr(one, name) != getattr(other, name) for name in _WORDS] for other in others])
    knows = np.array([*~np.isnan(rows[0]), *(getattr(one, name) is not None for name in _WORDS)])
    differences = np.hstack([numbers, words])[:, knows]
    return np.asarray(np.sqrt(np.mean(differences**2, axis=1))) if knows.any() else np.ones(len(others))


def _numbers(features: MetaFeatures) -> list[float]:
    values = {name: getattr(features, name) for name in (*_LOGARITHMIC, *_LINEAR)}
    return [
        np.nan if value is None else float(np.log2(max(value, 1e-9))) if name in _LOGARITHMIC else float(value)
        for name, value in values.items()
    ]


def best_cells(study: RecordedStudy) -> Array:
    """Return where the best cell of a study lies, as probabilities on the lattice, float64 [RATES, EPOCHS].

    A score that is behind the best by d has a likelihood of exp(−½(d/σ)²), σ half the noise of the best score. A row
    between two rates of the lattice is shared by them; in a range without scores all cells are alike.
    """
    likely = study.tried.astype(np.float64)
    if not np.isnan(study.scores).all():
        behind = (np.nanmax(study.mean) - study.mean) / (0.5 * study.noise)
        likely = np.nan_to_num(np.exp(-0.5 * behind**2))
    cells = np.zeros((len(RATES), EPOCHS))
    epochs = min(likely.shape[1], EPOCHS)
    for place, row in zip(np.log2(study.rates / RATES[0]).clip(0, len(RATES) - 1), likely, strict=True):
        low = min(int(place), len(RATES) - 2)
        for at, share in ((low, low + 1 - place), (low + 1, place - low)):
            cells[at, :epochs] = np.maximum(cells[at, :epochs], share * row[:epochs])
    # A best row may as well lie half a step away, where no row was tried.
    smooth = np.apply_along_axis(np.convolve, 0, np.pad(cells, ((1, 1), (0, 0))), [0.25, 0.5, 0.25], "same")[1:-1]
    return np.asarray(smooth / smooth.sum())


def size_exponent(studies: Sequence[RecordedStudy]) -> float:
    """Return the exponent of layers × width by which the best learning rate changes; 0 where nothing tells.

    It is that of a least-squares line of the logarithms with a ridge of 1, every size weighing the same.
    """
    known = [study for study in studies if study.card.layers and study.card.width]
    sizes = np.array([_log_size(study.card) for study in known])
    if not known or np.ptp(sizes) < 1e-9:
        return 0.0
    rows = np.array([best_cells(study).sum(axis=1) for study in known])
    best = rows @ np.log2(RATES)
    weights = 1 / (sizes[:, None] == sizes).sum(axis=1)
    sizes, best = (values - np.average(values, weights=weights) for values in (sizes, best))
    weights /= weights.sum()
    return float((weights * sizes * best).sum() / ((weights * sizes**2).sum() + 1))


def _log_size(features: MetaFeatures) -> float:
    return float(np.log2((features.layers or 1) * (features.width or 1)))


def scaled_cells(features: MetaFeatures, studies: Sequence[RecordedStudy]) -> Array:
    """Return the best cells of every study, at the rates that a checkpoint of the size of `features` would have."""
    exponent = size_exponent(studies)
    scaled = []
    for study in studies:
        cells = best_cells(study)
        if None not in (features.layers, features.width, study.card.layers, study.card.width):
            octaves = exponent * (_log_size(features) - _log_size(study.card))
            places = np.arange(len(RATES)) - octaves
            cells = np.column_stack([np.interp(places, np.arange(len(RATES)), column) for column in cells.T])
            cells /= cells.sum()
        scaled.append(cells)
    return np.array(scaled)


def _window(rows: Array, start: int) -> tuple[int, int]:
    """Return the rows from `low` up to `high` that have the share to be covered, grown to the likelier side."""
    low, high = start, start + 1
    while rows[low:high].sum() < COVERED and high - low < MOST_RATES:
        below = rows[low - 1] if low > 0 else -1.0
        above = rows[high] if high < len(rows) else -1.0
        low, high = (low - 1, high) if below > above else (low, high + 1)
    return low, high


def _likeliest(values: Sequence[float | None], weights: Array) -> float | None:
    known = {value: 0.0 for value in values if value is not None}
    for value, weight in zip(values, weights, strict=True):
        if value is not None:
            known[value] += float(weight)
    return max(known, key=lambda value: known[value], default=None)


def _max_length(features: MetaFeatures) -> int | None:
    longest = features.tokens_p99
    return None if longest is None else next((length for length in _LENGTHS if length >= longest), _LENGTHS[-1])


def _score(features: MetaFeatures, studies: Sequence[RecordedStudy], weights: Array) -> tuple[float, float] | None:
    """Expect the share of the way from the baseline to 1 that the best cells of like checkpoints went."""
    ways, shares = [], []
    for study, weight in zip(studies, weights, strict=True):
        card = study.card
        if (card.metric, card.pretrained) == (features.metric, features.pretrained) and card.baseline is not None:
            ways.append((float(np.nanmax(study.mean)) - card.baseline) / max(1 - card.baseline, 1e-9))
            shares.append(float(weight))
    if features.baseline is None or sum(shares) < LEAST_SHARE:
        return None
    way = np.average(ways, weights=shares)
    spread = np.sqrt(np.average((np.array(ways) - way) ** 2, weights=shares))
    return float(features.baseline + (1 - features.baseline) * way), float((1 - features.baseline) * spread)


def _seconds(features: MetaFeatures, studies: Sequence[RecordedStudy], away: Array, machine: str) -> float | None:
    """Scale the seconds of the same machine's epochs by the products of a token with the layers' weights."""
    own = _products(features)
    seconds, squares = [], []
    for study, distance in zip(studies, away, strict=True):
        its = _products(study.card)
        if study.card.machine == machine and study.card.seconds and its and own:
            seconds.append(np.log(study.card.seconds * own / its))
            squares.append((distance / TIME_BANDWIDTH) ** 2)
    # Less the least of the squares, so that the nearest has a weight however far it is.
    return float(np.exp(np.average(seconds, weights=np.exp(-0.5 * (squares - np.min(squares)))))) if squares else None


def _products(features: MetaFeatures) -> float | None:
    sizes = features.texts, features.tokens_mean, features.layers, features.width
    if any(size is None for size in sizes):
        return None
    texts, tokens, layers, width = (float(size) for size in sizes if size is not None)
    return (texts + (features.dev_texts or 0) / 3) * tokens * layers * width**2


def _neighbour(study: RecordedStudy, distance: float, weight: float) -> Neighbour:
    if np.isnan(study.mean).all():
        return Neighbour(study, distance, weight, None, None)
    row, column = np.unravel_index(np.nanargmax(study.mean), study.mean.shape)
    return Neighbour(study, distance, weight, float(study.rates[row]), int(column) + 1)
