"""Bayesian optimization: a Gaussian process over log learning rate and epoch, asked for its upper confidence bound."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tuners.space import SearchSpace, Value
from tuners.strategies.climb import Climb
from tuners.strategies.strategy import WAIT, Progress, Tried, Wait


@dataclass(frozen=True)
class Bayes:
    """Starts the row, and trains it as far, as a Gaussian process expects something better than the best so far.

    The process (scikit-learn's, with KerasTuner's Matérn kernel of smoothness 2.5 and a noise term, both fitted to
    the cells seen) is asked for mean + `beta` standard deviations of every cell. The first row is the one nearest to
    the start's learning rate, the next that with the highest bound. A row is stopped when no later epoch's bound is
    above the best score so far. It trains at most `share` of the grid's epochs, but half a row in any case.

    Attributes:
        share: The most of the grid's epochs that it trains.
        beta: The larger, the more it explores.
    """

    share: float = 0.25
    beta: float = 1.0

    name: ClassVar[str] = "bayes"
    sweeps: ClassVar[bool] = True

    def propose(self, progress: Progress) -> Mapping[str, Value] | Wait | None:
        """See `Strategy`. It waits for a first score; later rows do not wait for those under way."""
        tried = {run.rate for run in progress.runs}
        left = [rate for rate in progress.space.learning_rates if rate not in tried]
        if not left or progress.epochs >= self.most_epochs(progress.space):
            return None if all(run.ended for run in progress.runs) else WAIT
        if not any(run.best_epoch for run in progress.runs):
            if not all(run.ended for run in progress.runs):
                return WAIT
            # Nothing is known of any row: nearest to the start.
            start = math.log(float(progress.start["learning_rate"]))
            return {"learning_rate": min(left, key=lambda rate: abs(math.log(rate) - start))}
        cells = [(rate, epoch) for rate in left for epoch in range(1, progress.space.epochs + 1)]
        bounds = self._bounds(progress, cells).reshape(len(left), -1)
        return {"learning_rate": left[int(bounds.max(axis=1).argmax())]}

    def stops(self, progress: Progress, run: Tried) -> bool:
        """See `Strategy`."""
        if progress.epochs >= self.most_epochs(progress.space):
            return True
        cells = [(run.rate, epoch) for epoch in range(len(run.scores) + 1, progress.space.epochs + 1)]
        # One epoch says nothing of the slope along a row.
        if len(run.scores) < 2 or not cells:
            return False
        best = max(other.best for other in progress.runs)
        return bool(self._bounds(progress, cells).max() <= best)

    def most_epochs(self, space: SearchSpace) -> int:
        """See `Strategy`."""
        return Climb(self.share).most_epochs(space)

    def describe(self) -> Mapping[str, Any]:
        """See `Strategy`."""
        return asdict(self)

    def _bounds(self, progress: Progress, cells: Sequence[tuple[float, int]]) -> npt.NDArray[np.float64]:
        """Upper confidence bounds, float64 [cells], of cells given as rate and epoch."""
        # scikit-learn takes a second to import.
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        seen = [(run.rate, epoch) for run in progress.runs for epoch in range(1, len(run.scores) + 1)]
        scores = np.array([score for run in progress.runs for score in run.scores], dtype=np.float64)
        # A diverged cell is as bad as the worst that was seen.
        scores = np.where(np.isnan(scores), np.nanmin(scores), scores)
        # In log rate and log epoch, a factor of 2 is a unit; length scales stay between that and the whole grid.
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern([2.0, 1.0], [(0.7, 6.0), (0.5, 4.0)], nu=2.5)
        process = GaussianProcessRegressor(
            kernel + WhiteKernel(0.01, (1e-4, 0.3)), normalize_y=True, random_state=progress.seed
        )
        with warnings.catch_warnings():
            # A scale at its bound is what few cells give.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(_places(seen), scores)
        mean, deviation = process.predict(_places(cells), return_std=True)
        return np.asarray(mean + self.beta * deviation, dtype=np.float64)


def _places(cells: Sequence[tuple[float, int]]) -> npt.NDArray[np.float64]:
    return np.log2(np.array(cells, dtype=np.float64))
