"""Hill climbing on the near-convex learning-rate × epoch surface."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from tuners.space import SearchSpace, Value
from tuners.strategies.strategy import IDLE, Idle, ObservedTrial, SearchState, score_noise

# Tuned on synthetic surfaces (`benchmarks.search.surfaces`); docs/search.md has the measurements.
PATIENCE = 2
"""Epochs without a better score after which a row is past its peak."""
TOLERANCE = 0.5
"""Standard errors within which two scores of one dev split are taken to be equal."""
STRIDE = math.log(2)
"""First step from a row to the next, in log learning rate; each further step in the same direction doubles."""
PATH_SHARE = 0.35
"""Share of the budget after which a row that still rises makes room for an untried faster one."""
WARM = 0.3
"""Share of the epochs during which a row may be warming up, so that its slope says nothing."""
FALL = 2.0
"""Fall below the row's best score, in tolerances, that ends the row without a second epoch."""
EARLY = 2
"""Last epoch in which a peak counts as early, so that slower rows are tried first."""


@dataclass(frozen=True)
class HillClimb:
    """Row-by-row ascent from a good guess of the learning rate.

    The first row is nearest to the start's learning rate. A row is stopped when it is past its peak (two epochs without
    a better score, or a clear fall), when it cannot reach the best row's score (a faster row that is behind at the same
    epoch; any row whose last gain, repeated once, does not suffice), or when it rises so slowly that an untried faster
    row is the better use of the remaining budget. Then the best row's neighbours are tried, the faster first unless the
    best row peaked early, as long as no row on that side is tried; the distance doubles while a direction wins. Rows in
    between come last, nearest the middle first. Scores are compared within half a standard error (`examples`).

    Not for surfaces with several peaks, nor for grids of a few rows and epochs, where a quarter shows too little.

    Example:
        >>> from tuners.space import SearchSpace
        >>> from tuners.strategies import HillClimb, ObservedTrial, SearchState
        >>> space = SearchSpace.of([8e-5, 4e-5, 2e-5], epochs=4, start={"learning_rate": 4e-5})
        >>> climb = HillClimb(share=0.5, examples=1000)
        >>> climb.propose(SearchState(space, space.start, [], seed=1))
        {'learning_rate': 4e-05}
        >>> first = ObservedTrial({"learning_rate": 4e-5}, [0.7, 0.8, 0.75], ended=False)
        >>> climb.should_stop(SearchState(space, space.start, [first], seed=1), first)
        True

    Attributes:
        share: Largest share of the grid's epochs to train; half a row is trained in any case.
        examples: Size of the dev split where the objective is a share p of it, with the standard error √(p(1-p)/n);
            None compares scores exactly.
    """

    share: float = 0.25
    examples: int | None = None

    name: ClassVar[str] = "climb"
    sweeps: ClassVar[bool] = True

    def propose(self, state: SearchState) -> Mapping[str, Value] | Idle | None:
        """See `Strategy`. The neighbours of a row may run beside it."""
        left = state.epochs < self.max_epochs(state.space)
        if left and (rate := self._next_rate(state)) is not None:
            return {"learning_rate": rate}
        return None if all(trial.ended for trial in state.trials) else IDLE

    def should_stop(self, state: SearchState, trial: ObservedTrial) -> bool:
        """See `Strategy`."""
        most = self.max_epochs(state.space)
        margin = TOLERANCE * score_noise(state, self.examples)
        epoch, score = len(trial.scores), trial.scores[-1]
        if state.epochs >= most or _past_peak(trial, margin):
            return True
        others = [other for other in state.trials if other is not trial and other.best_epoch]
        if others and _hopeless(trial, max(others, key=lambda other: other.best), margin):
            return True
        patient = max(math.ceil(WARM * state.space.epochs), round(PATH_SHARE * most), 2)
        # The remaining budget must take another row about as far.
        slow = epoch >= patient and score == trial.best and most - state.epochs >= 0.75 * epoch
        return slow and _untried_beyond(trial.rate, 1, state.space.learning_rates, _tried(state))

    def max_epochs(self, space: SearchSpace) -> int:
        """See `Strategy`."""
        return max(int(self.share * len(space.learning_rates) * space.epochs), math.ceil(space.epochs / 2))

    def describe(self) -> Mapping[str, Any]:
        """See `Strategy`."""
        return asdict(self)

    def _next_rate(self, state: SearchState) -> float | None:
        rates, tried = state.space.learning_rates, _tried(state)
        if not tried:
            return _nearest(rates, math.log(float(state.start["learning_rate"])))
        leader = max(state.trials, key=lambda trial: trial.best)
        if not leader.best_epoch:
            # No row has a score, and too high a rate is what makes rows diverge.
            lowest, highest = min(tried), max(tried)
            if _untried_beyond(lowest, -1, rates, tried):
                return _nearest([rate for rate in rates if rate < lowest], math.log(lowest) - STRIDE)
            return _nearest([rate for rate in rates if rate > highest], math.log(highest) + STRIDE)
        here = math.log(leader.rate)
        slower_first = leader.best_epoch <= EARLY and leader.best_epoch < len(leader.scores)
        directions = (-1, 1) if slower_first else (1, -1)
        for direction in directions:
            if _untried_beyond(leader.rate, direction, rates, tried):
                # Twice the distance between the leader and the row that it has beaten.
                came_from = [abs(math.log(rate) - here) for rate in tried if rate != leader.rate]
                step = max(STRIDE, 2 * min(came_from, default=0.0))
                return _nearest(_side(leader.rate, direction, rates), here + direction * step)
        for direction in directions:
            if (rate := _between(leader.rate, direction, rates, tried)) is not None:
                return rate
        if leader.best_epoch == 1:
            # Nothing was learned after the first epoch: the rate is most likely too high.
            untried = [rate for rate in rates if rate not in tried]
            return max([rate for rate in untried if rate < leader.rate] or untried, default=None)
        return None


def _past_peak(trial: ObservedTrial, margin: float) -> bool:
    fallen = trial.scores[-1] < trial.best - FALL * margin
    return fallen or len(trial.scores) - trial.best_epoch >= PATIENCE


def _between(leader: float, direction: int, rates: Iterable[float], tried: set[float]) -> float | None:
    """Return the rate nearest the middle between the leader and its nearest tried neighbour on one side."""
    bound = _nearest(_side(leader, direction, tried), math.log(leader))
    if bound is None:
        return None
    low, high = sorted((leader, bound))
    return _nearest([rate for rate in rates if low < rate < high], (math.log(leader) + math.log(bound)) / 2)


def _tried(state: SearchState) -> set[float]:
    return {trial.rate for trial in state.trials}


def _side(rate: float, direction: int, rates: Iterable[float]) -> list[float]:
    return [other for other in rates if direction * (other - rate) > 0]


def _untried_beyond(rate: float, direction: int, rates: Iterable[float], tried: set[float]) -> bool:
    """Return whether there are rates on that side of `rate`, none of them tried."""
    return bool(_side(rate, direction, rates)) and not _side(rate, direction, tried)


def _nearest(rates: Iterable[float], log_rate: float) -> float | None:
    return min(rates, key=lambda rate: abs(math.log(rate) - log_rate), default=None)


def _hopeless(trial: ObservedTrial, leader: ObservedTrial, margin: float) -> bool:
    """Return whether a row cannot reach the leader; its first epoch is mostly warm-up, and does not count."""
    epoch, score = len(trial.scores), trial.scores[-1]
    if epoch < 2 or trial.best >= leader.best - margin:
        return False
    # A faster row that is behind at the same epoch stays behind.
    faster = trial.rate > leader.rate and epoch <= len(leader.scores)
    if faster and score < leader.scores[epoch - 1] - margin:
        return True
    return score + max(score - trial.scores[-2], 0.0) + margin < leader.best
