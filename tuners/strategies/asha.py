"""Asynchronous successive halving, in its stopping variant.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys 2020); stopping instead of pausing
as in Ray Tune's and Syne Tune's implementations, so that no checkpoint has to wait.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from tuners.space import SearchSpace, Value
from tuners.strategies.strategy import WAIT, Progress, Tried, Wait


@dataclass(frozen=True)
class Asha:
    """Starts every row, the start's first and the others in an order drawn by the seed, and stops the worse early.

    After 1, 2, 4, … epochs (the rungs, for a reduction factor of 2) a row goes on if it is among the better
    1/`reduction` of the rows that have come so far, counting itself. Not for slow rows that win late: a low
    learning rate is behind at the first rungs.

    Attributes:
        reduction: How many rows come to a rung for one that goes on, and the ratio of two rungs.
    """

    reduction: int = 2

    name: ClassVar[str] = "asha"
    sweeps: ClassVar[bool] = True

    def propose(self, progress: Progress) -> Mapping[str, Value] | Wait | None:
        """See `Strategy`. No row waits for another."""
        tried = {run.rate for run in progress.runs}
        for rate in shuffled_rates(progress):
            if rate not in tried:
                return {"learning_rate": rate}
        return None if all(run.ended for run in progress.runs) else WAIT

    def stops(self, progress: Progress, run: Tried) -> bool:
        """See `Strategy`."""
        epoch = len(run.scores)
        if epoch != self.reduction ** round(math.log(epoch, self.reduction)):
            return False
        # By the best epoch so far, which is what a row counts with in the end.
        come = [
            Tried(other.values, other.scores[:epoch], True) for other in progress.runs if len(other.scores) >= epoch
        ]
        here = sorted((other.best for other in come if other.best_epoch), reverse=True)
        return run.best < here[max(len(here) // self.reduction, 1) - 1]

    def most_epochs(self, space: SearchSpace) -> int:
        """See `Strategy`."""
        return len(space.learning_rates) * space.epochs

    def describe(self) -> Mapping[str, Any]:
        """See `Strategy`."""
        return asdict(self)


def shuffled_rates(progress: Progress) -> list[float]:
    """The recipe's rates: the nearest to the start's first, the others in an order that the seed draws."""
    start = math.log(float(progress.start["learning_rate"]))
    rates = sorted(progress.space.learning_rates, key=lambda rate: abs(math.log(rate) - start))
    order = np.random.default_rng(progress.seed).permutation(np.arange(1, len(rates)))
    return [rates[0], *(rates[place] for place in order)]
