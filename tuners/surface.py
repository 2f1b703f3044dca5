"""Made-up learning-rate × epoch surfaces with the noise of a dev split, to measure searches on."""

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

    How far a run has come is the sum of its learning rates so far, t = rate × (area under warm-up and linear decay up
    to the epoch). The accuracy rises with t towards `top`, falls with log t beyond `best_progress` (overfitting), and
    a rate above `best_rate` costs the square of its distance in log (noisy steps). From `collapse_rate` on a run never
    leaves the majority class.

    Attributes:
        top: The accuracy that nothing passes.
        majority: The accuracy of a run that has learnt nothing.
        best_rate: The rate above which quality is lost.
        best_progress: The t that is neither too little nor too much.
        rise: How many e-folds of what is missing to `top` are made up until `best_progress`.
        overfit: Accuracy lost when t is e times `best_progress`.
        coarse: Accuracy lost at a rate of e times `best_rate`.
        collapse_rate: Where training fails.
        epochs: The horizon of the schedule.
        warmup: Its share of warm-up.
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
        """The expected accuracy of a rate after each epoch, float64 [epochs]."""
        if rate >= self.collapse_rate:
            return np.full(self.epochs, self.majority)
        progress = rate * self._area / self.best_progress
        missing = (self.top - self.majority) * np.exp(-self.rise * progress**0.8)
        too_long = self.overfit * np.maximum(np.log(progress), 0.0)
        too_fast = self.coarse * max(math.log(rate / self.best_rate), 0.0) ** 2
        return np.maximum(self.top - missing - too_long - too_fast, self.majority)

    @cached_property
    def _area(self) -> npt.NDArray[np.float64]:
        """The area under the schedule after each epoch, in epochs at the full rate."""
        ends = np.arange(1, self.epochs + 1) / self.epochs
        warmup = max(self.warmup, 1e-9)
        rising = np.minimum(ends, warmup) ** 2 / (2 * warmup)
        falling = (1 - warmup) / 2 * (1 - ((1 - np.maximum(ends, warmup)) / (1 - warmup)) ** 2)
        return self.epochs * (rising + np.where(ends > warmup, falling, 0.0))


def draw_surface(rates: Sequence[float], epochs: int, seed: int) -> Surface:
    """A surface whose best row lies anywhere among `rates` (any but a little beyond them), drawn by `seed`."""
    draw = np.random.default_rng([seed, 1])
    low, high = math.log(min(rates)), math.log(max(rates))
    best_rate = math.exp(draw.uniform(low, high))
    top = draw.uniform(0.5, 0.95)
    # The best row has come far enough somewhere between its second epoch and its last.
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
    """What a dev split of so many examples makes of expected accuracies.

    An example is answered right where a normal number of its own is below the quantile of the run's expected
    accuracy, so a score is binomial. That number is made of three: one of the example (hard for every run), one of
    the example and the row (what a training run has learnt by chance), one of the example and the cell. Their shares
    say how much of the noise cells have in common.

    Attributes:
        examples: Of the dev split.
        row: The row's share of the variance.
        cell: The cell's share of the variance.
        seed: Decides all draws.
    """

    examples: int
    row: float = 0.015
    cell: float = 0.005
    seed: int = 0

    def observe(self, rate: float, accuracies: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The scores of one row, float64 [epochs], of its expected accuracies; the same for the same rate."""
        needed = ndtri(np.clip(np.asarray(accuracies, dtype=np.float64), 1e-9, 1 - 1e-9))
        draw = np.random.default_rng([self.seed, 2, *np.array([rate]).view(np.uint32).tolist()])
        own = math.sqrt(self.row) * draw.standard_normal(self.examples, dtype=np.float32)
        latent = math.sqrt(1 - self.row - self.cell) * self._examples + own
        cells = math.sqrt(self.cell) * draw.standard_normal((len(needed), self.examples), dtype=np.float32)
        return np.asarray((latent + cells < needed[:, None]).mean(axis=1), dtype=np.float64)

    @cached_property
    def _examples(self) -> npt.NDArray[np.float32]:
        return np.random.default_rng([self.seed, 3]).standard_normal(self.examples, dtype=np.float32)
