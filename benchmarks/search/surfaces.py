"""Synthetic learning-rate × epoch surfaces, with the noise of a dev split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri


@dataclass(frozen=True)
class Surface:
    """A near-convex surface of accuracies over log learning rate and epoch.

    Progress t is the sum of the learning rates so far: rate × the area under warm-up and linear decay up to the epoch.
    The accuracy rises with t towards `top`, falls with log t beyond `best_progress` (overfitting), and falls with the
    square of log(rate / `best_rate`) above `best_rate` (noisy steps). From `collapse_rate` on a row never leaves the
    majority class.

    Attributes:
        top: Upper bound of the accuracy.
        majority: Accuracy of the majority class.
        best_rate: Learning rate above which accuracy is lost.
        best_progress: Best t.
        rise: Number of e-folds by which the distance to `top` shrinks until `best_progress`.
        overfit: Accuracy lost when t is e times `best_progress`.
        coarse: Accuracy lost at a rate of e times `best_rate`.
        collapse_rate: Lowest learning rate at which training fails.
        epochs: Epochs of the schedule.
        warmup_ratio: Warm-up's share of the schedule.
    """

    top: float
    majority: float
    best_rate: float
    best_progress: float
    rise: float
    overfit: float
    coarse: float
    collapse_rate: float
    epochs: int
    warmup: float = 0.2

    def accuracies(self, rate: float) -> npt.NDArray[np.float64]:
        """Expected accuracy of a rate after each epoch, float64 [epochs]."""
        if rate >= self.collapse_rate:
            return np.full(self.epochs, self.majority)
        progress = rate * self._area / self.best_progress
        missing = (self.top - self.majority) * np.exp(-self.rise * progress**0.8)
        too_long = self.overfit * np.maximum(np.log(progress), 0.0)
        too_fast = self.coarse * max(math.log(rate / self.best_rate), 0.0) ** 2
        return np.maximum(self.top - missing - too_long - too_fast, self.majority)

    @cached_property
    def _area(self) -> npt.NDArray[np.float64]:
        """Area under the schedule after each epoch, in epochs at the peak rate."""
        ends = np.arange(1, self.epochs + 1) / self.epochs
        warmup = max(self.warmup, 1e-9)
        rising = np.minimum(ends, warmup) ** 2 / (2 * warmup)
        falling = (1 - warmup) / 2 * (1 - ((1 - np.maximum(ends, warmup)) / (1 - warmup)) ** 2)
        return self.epochs * (rising + np.where(ends > warmup, falling, 0.0))


def draw_surface(rates: Sequence[float], epochs: int, seed: int) -> Surface:
    """Draw a surface whose best rate lies between the lowest and the highest of `rates`."""
    draw = np.random.default_rng([seed, 1])
    low, high = math.log(min(rates)), math.log(max(rates))
    best_rate = math.exp(draw.uniform(low, high))
    top = draw.uniform(0.5, 0.95)
    # The best row peaks somewhere between its second epoch and its last.
    reached = draw.uniform(0.1, 0.45) * epochs
    return Surface(
        top=top,
        majority=top * draw.uniform(0.4, 0.8),
        best_rate=best_rate,
        best_progress=best_rate * reached,
        rise=draw.uniform(2.5, 4.5),
        overfit=draw.uniform(0.005, 0.03),
        coarse=draw.uniform(0.005, 0.03),
        collapse_rate=best_rate * math.exp(draw.uniform(1.0, 4.0)),
        epochs=epochs,
    )


@dataclass(frozen=True)
class Noise:
    """Binomial noise of a finite dev split, correlated between the cells of a table.

    An example is classified correctly where a standard normal number of its own is below the quantile of the expected
    accuracy. The number is the sum of three: one of the example (its difficulty), one of example and row (what one
    training run learned by chance), one of example and cell.

    Attributes:
        examples: Size of the dev split.
        row: Share of the variance that a row has to itself.
        cell: Share of the variance that a cell has to itself.
        seed: Seed of all draws.
    """

    examples: int
    row: float = 0.015
    cell: float = 0.005
    seed: int = 0

    def observe(self, rate: float, accuracies: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Scores of one row, float64 [epochs], given its expected accuracies; the same for the same rate."""
        needed = ndtri(np.clip(np.asarray(accuracies, dtype=np.float64), 1e-9, 1 - 1e-9))
        draw = np.random.default_rng([self.seed, 2, *np.array([rate]).view(np.uint32).tolist()])
        own = math.sqrt(self.row) * draw.standard_normal(self.examples, dtype=np.float32)
        latent = math.sqrt(1 - self.row - self.cell) * self._examples + own
        cells = math.sqrt(self.cell) * draw.standard_normal((len(needed), self.examples), dtype=np.float32)
        return np.asarray((latent + cells < needed[:, None]).mean(axis=1), dtype=np.float64)

    @cached_property
    def _examples(self) -> npt.NDArray[np.float32]:
        return np.random.default_rng([self.seed, 3]).standard_normal(self.examples, dtype=np.float32)
