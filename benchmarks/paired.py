"""Whether two ways of training differ, from runs that share their seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its confidence interval; the ends are NaN where one number alone was seen."""

    mean: float
    low: float
    high: float


def interval(differences: Sequence[float], confidence: float = 0.95) -> Interval:
    """The mean of paired differences and Student's t interval around it."""
    values = np.asarray(differences, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"))
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)
