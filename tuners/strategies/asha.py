"""Asynchronous successive halving, in its stopping variant.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys 2020); stopping instead of pausing
as in Ray Tune's and Syne Tune's implementations, so that no checkpoint has to be kept.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tuners.space import SearchSpace, Value
from tuners.strategies.strategy import IDLE, Idle, ObservedTrial, SearchState

REDUCTION_FACTOR = 2
"""Rows that reach a rung for each row that continues, and the ratio of two rungs."""


@dataclass(frozen=True)
class Asha:
    """Asynchronous successive halving: starts all rows, and stops the worse half at each rung.

    The row nearest to the start's learning rate is first, the others follow in random order. After 1, 2, 4, … epochs a
    row continues if it is in the better half of the rows that have reached that rung, itself included. Not for slow
    rows that win late: a low learning rate is behind at the first rungs.
    """

    name: ClassVar[str] = "asha"
    sweeps: ClassVar[bool] = True

    def propose(self, state: SearchState) -> Mapping[str, Value] | Idle | None:
        """See `Strategy`; no row waits for another."""
        tried = {trial.rate for trial in state.trials}
        for rate in shuffled_rates(state):
            if rate not in tried:
                return {"learning_rate": rate}
        return None if all(trial.ended for trial in state.trials) else IDLE

    def should_stop(self, state: SearchState, trial: ObservedTrial) -> bool:
        """See `Strategy`."""
        epoch = len(trial.scores)
        if epoch != REDUCTION_FACTOR ** round(math.log(epoch, REDUCTION_FACTOR)):
            return False
        # By the best epoch so far, since a row counts with its best epoch.
        reached = (other for other in state.trials if len(other.scores) >= epoch)
        rung = [ObservedTrial(other.hyperparameters, other.scores[:epoch], True) for other in reached]
        here = sorted((other.best for other in rung if other.best_epoch), reverse=True)
        return trial.best < here[max(len(here) // REDUCTION_FACTOR, 1) - 1]

    def max_epochs(self, space: SearchSpace) -> int:
        """See `Strategy`."""
        return len(space.learning_rates) * space.epochs

    def describe(self) -> Mapping[str, Any]:
        """See `Strategy`."""
        return {}


def shuffled_rates(state: SearchState) -> list[float]:
    """Return the space's rates, the nearest to the start's first, the others in random order."""
    start = math.log(float(state.start["learning_rate"]))
    rates = sorted(state.space.learning_rates, key=lambda rate: abs(math.log(rate) - start))
    order = np.random.default_rng(state.seed).permutation(np.arange(1, len(rates)))
    return [rates[0], *(rates[place] for place in order)]
