"""Bayesian optimization: a Gaussian process over log learning rate and log epoch with an upper confidence bound."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tuners.space import SearchSpace, Value
from tuners.strategies.hill_climb import HillClimb
from tuners.strategies.strategy import IDLE, Idle, ObservedTrial, SearchState

BETA = 1.0
"""Standard deviations of the upper confidence bound above the mean."""


@dataclass(frozen=True)
class BayesianOptimization:
    """Bayesian optimization over rows and epochs.

    A Gaussian process (KerasTuner's Matérn kernel of smoothness 2.5 and a noise term, fitted to the tried cells)
    predicts every cell; its upper confidence bound is one standard deviation above the mean. The first row is nearest
    to the start's learning rate, the next has the highest bound. A row is stopped when no later epoch's bound is above
    the best score so far.

    Attributes:
        share: Largest share of the grid's epochs to train; half a row is trained in any case.
    """

    share: float = 0.25

    name: ClassVar[str] = "bayes"
    sweeps: ClassVar[bool] = True

    def propose(self, state: SearchState) -> Mapping[str, Value] | Idle | None:
        """See `Strategy`; until a first score is known, the next row waits for the running ones."""
        tried = {trial.rate for trial in state.trials}
        left = [rate for rate in state.space.learning_rates if rate not in tried]
        if not left or state.epochs >= self.max_epochs(state.space):
            return None if all(trial.ended for trial in state.trials) else IDLE
        if not any(trial.best_epoch for trial in state.trials):
            if not all(trial.ended for trial in state.trials):
                return IDLE
            # No row has a score, so the start's learning rate is the best guess.
            start = math.log(float(state.start["learning_rate"]))
            return {"learning_rate": min(left, key=lambda rate: abs(math.log(rate) - start))}
        cells = [(rate, epoch) for rate in left for epoch in range(1, state.space.epochs + 1)]
        bounds = self._bounds(state, cells).reshape(len(left), -1)
        return {"learning_rate": left[int(bounds.max(axis=1).argmax())]}

    def should_stop(self, state: SearchState, trial: ObservedTrial) -> bool:
        """See `Strategy`."""
        if state.epochs >= self.max_epochs(state.space):
            return True
        cells = [(trial.rate, epoch) for epoch in range(len(trial.scores) + 1, state.space.epochs + 1)]
        # A single epoch has no slope.
        if len(trial.scores) < 2 or not cells:
            return False
        best = max(other.best for other in state.trials)
        return bool(self._bounds(state, cells).max() <= best)

    def max_epochs(self, space: SearchSpace) -> int:
        """See `Strategy`."""
        return HillClimb(self.share).max_epochs(space)

    def describe(self) -> Mapping[str, Any]:
        """See `Strategy`."""
        return asdict(self)

    def _bounds(self, state: SearchState, cells: Sequence[tuple[float, int]]) -> npt.NDArray[np.float64]:
        """Upper confidence bounds, float64 [cells], of cells given as learning rate and epoch."""
        # scikit-learn takes a second to import.
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        seen = [(trial.rate, epoch) for trial in state.trials for epoch in range(1, len(trial.scores) + 1)]
        scores = np.array([score for trial in state.trials for score in trial.scores], dtype=np.float64)
        # A diverged cell counts as the worst score seen.
        scores = np.where(np.isnan(scores), np.nanmin(scores), scores)
        # A factor of 2 is a unit in log rate and log epoch; length scales lie between that and the whole grid.
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern([2.0, 1.0], [(0.7, 6.0), (0.5, 4.0)], nu=2.5)
        process = GaussianProcessRegressor(
            kernel + WhiteKernel(0.01, (1e-4, 0.3)), normalize_y=True, random_state=state.seed
        )
        with warnings.catch_warnings():
            # With few cells a length scale ends at its bound.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(_places(seen), scores)
        mean, deviation = process.predict(_places(cells), return_std=True)
        return np.asarray(mean + BETA * deviation, dtype=np.float64)


def _places(cells: Sequence[tuple[float, int]]) -> npt.NDArray[np.float64]:
    return np.log2(np.array(cells, dtype=np.float64))
