"""A search on a recorded table: epochs spent, and regret."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tuners.space import SearchSpace
from tuners.strategies import ObservedTrial
from tuners.strategies.strategy import standard_error


@dataclass(frozen=True)
class Problem:
    """One table to search.

    Attributes:
        space: Learning rates and epochs, with the learning rate to start from.
        observed: Scores that the search sees, float64 [rates, epochs], larger is better; NaN where a row diverged.
        truth: True scores, float64 [rates, epochs]; minus infinity where a row diverges.
        examples: Size of the dev split.
        seed: Seed of the search.
    """

    space: SearchSpace
    observed: npt.NDArray[np.float64]
    truth: npt.NDArray[np.float64]
    examples: int
    seed: int

    def curve(self, rate: float) -> list[float]:
        """Observed scores of a learning rate, epoch by epoch."""
        return [float(score) for score in self.observed[self.space.learning_rates.index(rate)]]

    def regret(self, trials: Sequence[ObservedTrial]) -> float:
        """Simple regret of the best cell of these trials; infinity where no cell has a score."""
        best = max(trials, key=lambda trial: trial.best, default=None)
        if best is None or not best.best_epoch:
            return math.inf
        return float(self.truth.max() - self.truth[self.space.learning_rates.index(best.rate), best.best_epoch - 1])

    @property
    def standard_error(self) -> float:
        """Standard error of the best true score."""
        return standard_error(float(self.truth.max()), self.examples)


def trained_epochs(trials: Sequence[ObservedTrial]) -> int:
    """Return the epochs of all trials."""
    return sum(len(trial.scores) for trial in trials)
