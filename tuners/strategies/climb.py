"""Climbs the near-convex learning-rate × epoch surface instead of filling it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from tuners.space import SearchSpace, Value
from tuners.strategies.strategy import WAIT, Progress, Tried, Wait, score_noise

# Found on synthetic surfaces (`benchmarks.search.surfaces`); see docs/search.md.
TOLERANCE = 0.5
"""Two scores of one dev split differ by chance about half as much as two of different ones."""
STRIDE = math.log(2)
"""The first step from a row to the next, in log learning rate; a further step in the same direction doubles."""
PATH_SHARE = 0.35
"""A row that still rises after this share of the budget makes room for a faster one, if there is an untried one."""
WARM = 0.3
"""Up to this share of the epochs a row may be warming up, and has not shown yet how slowly it rises."""
FALL = 2.0
"""A score that falls by so many tolerances below the row's best needs no second epoch to be believed."""
EARLY = 2
"""A row with its peak in this epoch or before was fast: slower ones are looked at first."""


@dataclass(frozen=True)
class Climb:
    """Starts at a good guess and goes where scores rise, row by row.

    The first row is the one nearest to the start's learning rate. A row is stopped when it is past its peak
    (`patience` epochs without a better score, or a clear fall), when it has no prospect of the best row's score
    (a faster row that is behind at the same epoch; any row whose last gain, made once more, would not reach it), or
    when it rises so slowly that a faster row, not tried yet, is the better use of what is left. Then the best row's
    neighbours are tried, the faster first unless the best row peaked early, as long as the nearest row on that side
    is untried; the distance doubles while a direction wins, and then rows in between are tried, nearest the middle.
    "Best" and "behind" are meant within half a standard error of a score (`examples` or `noise`).

    It trains at most `share` of the grid's epochs, but half a row in any case. Not for surfaces with several
    peaks, nor for grids of a few rows and epochs, where a quarter is too little to see anything: fill those.

    Attributes:
        share: The most of the grid's epochs that it trains.
        patience: Epochs without a better score after which a row is past its peak.
        examples: Size of the dev split behind a score p that is a share: its noise is √(p(1-p)/n).
        noise: The standard error of a score, in its own unit, where `examples` says nothing.
        between: Whether rows are tried that the recipe does not have, halfway in log learning rate between the best
            row and its neighbours, when those have been tried.
    """

    share: float = 0.25
    patience: int = 2
    examples: int | None = None
    noise: float = 0.0
    between: bool = False

    name: ClassVar[str] = "climb"
    sweeps: ClassVar[bool] = True

    def propose(self, progress: Progress) -> Mapping[str, Value] | Wait | None:
        """See `Strategy`. Neighbours may run beside the row that they are neighbours of."""
        left = progress.epochs < self.most_epochs(progress.space)
        if left and (rate := self._next_rate(progress)) is not None:
            return {"learning_rate": rate}
        return None if all(run.ended for run in progress.runs) else WAIT

    def stops(self, progress: Progress, run: Tried) -> bool:
        """See `Strategy`."""
        most = self.most_epochs(progress.space)
        margin = TOLERANCE * score_noise(progress, self.examples, self.noise)
        epoch, score = len(run.scores), run.scores[-1]
        if progress.epochs >= most or self._past_peak(run, margin):
            return True
        others = [other for other in progress.runs if other is not run and other.best_epoch]
        if others and _hopeless(run, max(others, key=lambda other: other.best), margin):
            return True
        patient = max(math.ceil(WARM * progress.space.epochs), round(PATH_SHARE * most), 2)
        # What is left must take another row about as far.
        slow = epoch >= patient and score == run.best and most - progress.epochs >= 0.75 * epoch
        return slow and _untried_beyond(run.rate, 1, progress.space.learning_rates, _tried(progress))

    def most_epochs(self, space: SearchSpace) -> int:
        """See `Strategy`."""
        return max(int(self.share * len(space.learning_rates) * space.epochs), math.ceil(space.epochs / 2))

    def describe(self) -> Mapping[str, Any]:
        """See `Strategy`."""
        return asdict(self)

    def _past_peak(self, run: Tried, margin: float) -> bool:
        fallen = run.scores[-1] < run.best - FALL * margin
        return fallen or len(run.scores) - run.best_epoch >= self.patience

    def _next_rate(self, progress: Progress) -> float | None:
        rates, tried = progress.space.learning_rates, _tried(progress)
        if not tried:
            return _nearest(rates, math.log(float(progress.start["learning_rate"])))
        leader = max(progress.runs, key=lambda run: run.best)
        if not leader.best_epoch:
            # Nothing has a score: too high a rate is what makes runs diverge.
            lowest, highest = min(tried), max(tried)
            if _untried_beyond(lowest, -1, rates, tried):
                return _nearest([rate for rate in rates if rate < lowest], math.log(lowest) - STRIDE)
            return _nearest([rate for rate in rates if rate > highest], math.log(highest) + STRIDE)
        here = math.log(leader.rate)
        slower_first = leader.best_epoch <= EARLY and leader.best_epoch < len(leader.scores)
        directions = (-1, 1) if slower_first else (1, -1)
        for direction in directions:
            if _untried_beyond(leader.rate, direction, rates, tried):
                # As far again as the leader is from the row before it, which it has beaten.
                came_from = [abs(math.log(rate) - here) for rate in tried if rate != leader.rate]
                step = max(STRIDE, 2 * min(came_from, default=0.0))
                return _nearest(_side(leader.rate, direction, rates), here + direction * step)
        for direction in directions:
            if (rate := self._between(leader.rate, direction, rates, tried)) is not None:
                return rate
        if leader.best_epoch == 1:
            # Nothing has been learned since: the way up has not been found, most likely below.
            untried = [rate for rate in rates if rate not in tried]
            return max([rate for rate in untried if rate < leader.rate] or untried, default=None)
        return None

    def _between(self, leader: float, direction: int, rates: Iterable[float], tried: set[float]) -> float | None:
        """A rate between the leader and its nearest tried neighbour on one side."""
        beyond = _side(leader, direction, tried)
        if not beyond:
            return None
        bound = _nearest(beyond, math.log(leader))
        assert bound is not None
        middle = (math.log(leader) + math.log(bound)) / 2
        low, high = sorted((leader, bound))
        inside = _nearest([rate for rate in rates if low < rate < high], middle)
        if inside is not None or not self.between or math.log(high / low) < STRIDE / 2:
            return inside
        return float(f"{math.exp(middle):.3g}")


def _tried(progress: Progress) -> set[float]:
    return {run.rate for run in progress.runs}


def _side(rate: float, direction: int, rates: Iterable[float]) -> list[float]:
    return [other for other in rates if direction * (other - rate) > 0]


def _untried_beyond(rate: float, direction: int, rates: Iterable[float], tried: set[float]) -> bool:
    """Whether there are rates on that side of `rate` and none of them was tried."""
    return bool(_side(rate, direction, rates)) and not _side(rate, direction, tried)


def _nearest(rates: Iterable[float], log_rate: float) -> float | None:
    return min(rates, key=lambda rate: abs(math.log(rate) - log_rate), default=None)


def _hopeless(run: Tried, leader: Tried, margin: float) -> bool:
    """Whether a row will not reach the best of the others; its first epoch, mostly warm-up, says too little."""
    epoch, score = len(run.scores), run.scores[-1]
    if epoch < 2 or run.best >= leader.best - margin:
        return False
    # A faster row is ahead at the same epoch or will never be.
    faster = run.rate > leader.rate and epoch <= len(leader.scores)
    if faster and score < leader.scores[epoch - 1] - margin:
        return True
    return score + max(score - run.scores[-2], 0.0) + margin < leader.best
