"""Treatment of class imbalance: undersampling, oversampling and class weights."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from bertgrid_tf.errors import UserError

NO_UNDERSAMPLING = "none"
ClassWeights = Literal["none", "balanced", "sqrt", "effective"]
EFFECTIVE_BETA = 0.999
"""The β of "effective" weights: (N - 1) / N for N = 1,000 distinct examples of a class."""


def resample(
    labels: Sequence[str] | Sequence[int] | np.ndarray,
    oversample_ratio: float = 0.0,
    undersample: str = NO_UNDERSAMPLING,
    seed: int = 0,
) -> np.ndarray:
    """Draw training examples so that the sizes of the classes come closer to each other.

    Undersampling comes first. Oversampling then brings a class of `n` examples to `round(n + r * (m - n))`, where `m`
    is the size of the largest class: it keeps every example, adds whole copies of the class, and draws the remainder
    without replacement. A higher ratio draws every example that a lower ratio draws.

    Args:
        labels: The class of every example, [examples].
        oversample_ratio: The ratio `r`, from 0 (no oversampling) to 1 (every class as large as the largest).
        undersample: "none", or classes joined by "+": `neutral` (reduce to the size of the largest class that is not
            named) or `neutral:0.5` (keep half); see `parse_undersample`.
        seed: The seed that decides which examples are drawn.

    Returns:
        The indices of the drawn examples in `labels`, ascending, int64 [drawn examples].

    Raises:
        UserError: The ratio is not within [0, 1], or `undersample` is invalid.

    Example:
        >>> from bertgrid_tf.corpus import resample
        >>> resample(["joy", "joy", "joy", "anger"], oversample_ratio=1).tolist()
        [0, 1, 2, 3, 3, 3]
        >>> len(resample(["joy", "joy", "joy", "anger"], undersample="joy"))
        2
    """
    if not 0 <= oversample_ratio <= 1:
        raise UserError(f"The oversampling ratio is {oversample_ratio}; it must lie between 0 and 1.")
    names, classes = np.unique(np.asarray(labels), return_inverse=True)
    shares = parse_undersample(undersample, [str(name) for name in names])
    sizes = np.bincount(classes, minlength=len(names))
    unnamed = [size for name, size in zip(names, sizes, strict=True) if str(name) not in shares]
    kept = []
    for label, name in enumerate(names):
        # A generator for each class: the examples drawn of a class do not depend on the other classes.
        generator = np.random.default_rng([seed, label])
        members = generator.permutation(np.flatnonzero(classes == label))
        if str(name) in shares:
            share = shares[str(name)]
            size = min(max(unnamed), len(members)) if share is None else max(1, round(share * len(members)))
            members = members[:size]
        kept.append((members, generator))
    largest = max((len(members) for members, _ in kept), default=0)
    drawn = [
        _enlarge(members, round(len(members) + oversample_ratio * (largest - len(members))), generator)
        for members, generator in kept
    ]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *drawn]))


def _enlarge(members: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    copies, remainder = divmod(size, len(members))
    return np.concatenate([np.tile(members, copies), generator.permutation(members)[:remainder]])


def class_weights(labels: np.ndarray, kind: ClassWeights) -> np.ndarray:
    """Compute the weight of every example from the size of its class.

    The weight of an example in a class of `n` examples is proportional to `1 / n` ("balanced", as in scikit-learn: all
    classes have the same total weight), to `1 / √n` ("sqrt"), or to `(1 - β) / (1 - β^n)`, the inverse of the class's
    effective number of examples ("effective", with β = 0.999: nearly `1 / n` for a few hundred examples, and constant
    for many thousands).

    Source: Cui et al. 2019, Class-balanced loss based on effective number of samples, arXiv 1901.05555, for
    "effective".

    Args:
        labels: The class of every example, [examples], after resampling.
        kind: The kind of weights; "none" gives every example the weight 1.

    Returns:
        The weight of every example, with a mean of 1, float32 [examples].

    Example:
        >>> import numpy as np
        >>> from bertgrid_tf.corpus.balance import class_weights
        >>> class_weights(np.array([0, 0, 0, 1]), "balanced").tolist()
        [0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0]
    """
    _, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    of_class = {
        "none": np.ones(len(sizes)),
        "balanced": 1 / sizes,
        "sqrt": 1 / np.sqrt(sizes),
        "effective": (1 - EFFECTIVE_BETA) / (1 - EFFECTIVE_BETA**sizes),
    }[kind]
    weights = of_class[classes]
    return (weights / weights.mean()).astype(np.float32)


def parse_undersample(undersample: str, classes: Sequence[str]) -> Mapping[str, float | None]:
    """Parse the classes to undersample.

    Args:
        undersample: "none", or terms `CLASS` or `CLASS:SHARE`, joined by "+".
        classes: The names of all classes.

    Returns:
        The share of examples to keep for each named class; None stands for the size of the largest class that is not
        named.

    Raises:
        UserError: A class is unknown or named twice, a share is not above 0 and at most 1, or no unnamed class is left
            to set the size.

    Example:
        >>> from bertgrid_tf.corpus import parse_undersample
        >>> parse_undersample("neutral:0.5+joy", ["neutral", "joy", "anger"])
        {'neutral': 0.5, 'joy': None}
    """
    if undersample == NO_UNDERSAMPLING:
        return {}
    shares: dict[str, float | None] = {}
    for part in undersample.split("+"):
        name, colon, kept = part.rpartition(":")
        # A class may have a colon in its own name.
        name, share = (part, None) if part in classes or not colon else (name, _share(kept, part))
        if name not in classes:
            raise UserError(
                f"Undersampling {undersample!r}: there is no class {name!r}; the classes are {', '.join(classes)}."
            )
        if name in shares:
            raise UserError(f"Undersampling {undersample!r} names the class {name!r} twice.")
        shares[name] = share
    if None in shares.values() and len(shares) == len(classes):
        raise UserError(
            f"Undersampling {undersample!r} names every class, so that none is left to set the size; "
            "give each a share, as in neutral:0.5."
        )
    return shares


def _share(text: str, part: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UserError(f"Undersampling {part!r}: the share must be a number above 0 and at most 1.")
    return share
