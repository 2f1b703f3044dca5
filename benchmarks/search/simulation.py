"""Searches without training: known learning curves in the place of trials, a simulated clock in that of workers."""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tuners import Trainable, TunerError
from tuners.pool import Report, next_epoch
from tuners.space import SearchSpace, Value
from tuners.strategies import Idle, ObservedTrial, SearchState, Strategy


def simulate_search(
    strategy: Strategy,
    space: SearchSpace,
    curve: Callable[[float], Sequence[float]],
    seed: int = 1,
    max_epochs: float = math.inf,
) -> list[ObservedTrial]:
    """Simulate a search with one trial at a time, after the sweeps.

    Args:
        strategy: Strategy to simulate.
        space: Search space; its start counts as the incumbent.
        curve: Returns the scores of a learning rate, epoch by epoch, larger is better; NaN ends the trial.
        seed: Seed of the search.
        max_epochs: Epochs after which the search is cut off.

    Returns:
        The trials in the order of their start.
    """
    trials: list[ObservedTrial] = []
    spent = 0
    while spent < max_epochs:
        proposal = strategy.propose(SearchState(space, space.start, trials, seed))
        if proposal is None or isinstance(proposal, Idle):
            break
        hyperparameters = {**space.start, "schedule_epochs": space.epochs, "stop_epoch": space.epochs, **proposal}
        scores: list[float] = []
        trials.append(ObservedTrial(hyperparameters, scores, False))
        for score in curve(float(hyperparameters["learning_rate"]))[: int(hyperparameters["stop_epoch"])]:
            scores.append(float(score))
            spent += 1
            trials[-1] = ObservedTrial(hyperparameters, tuple(scores), False)
            if math.isnan(score) or spent >= max_epochs:
                break
            if strategy.should_stop(SearchState(space, space.start, trials, seed), trials[-1]):
                break
        trials[-1] = ObservedTrial(hyperparameters, tuple(scores), True)
    return trials


class SimulatedPool:
    """A `tuners.pool.Pool` in this process with a simulated clock: an epoch takes no time, and is charged for.

    Attributes:
        clock: Simulated seconds since the beginning.
        busy: Simulated seconds of all workers together, spent in epochs.

    Args:
        trainable: Yields the metrics of every trial.
        size: Number of workers.
        seconds: Returns the seconds of an epoch, given the configuration and the epoch, counted from 1.
    """

    def __init__(self, trainable: Trainable, size: int, seconds: Callable[[Mapping[str, Value], int], float]) -> None:
        self.size = size
        self.clock = 0.0
        self.busy = 0.0
        self._trainable = trainable
        self._seconds = seconds
        self._hyperparameters: dict[str, Mapping[str, Value]] = {}
        self._epochs: dict[str, Iterator[Mapping[str, float]]] = {}
        self._epoch: dict[str, int] = {}
        # Of epochs that end at the same time, the one that began first is reported first.
        self._ends: list[tuple[float, int, str]] = []
        self._begun = 0

    def start(self, name: str, hyperparameters: Mapping[str, Value], folder: Path) -> None:
        """See `Pool`."""
        if len(self._epochs) == self.size:
            raise TunerError(f"a pool of {self.size} workers carries no more trials than that")
        self._hyperparameters[name], self._epoch[name] = dict(hyperparameters), 0
        self._epochs[name] = iter(self._trainable(hyperparameters, folder))
        self.advance(name)

    def wait(self) -> Report:
        """See `Pool`."""
        end, _, name = heapq.heappop(self._ends)
        metrics, failure = next_epoch(self._epochs[name])
        if metrics is None:
            return self._ended(name, failure)
        self._epoch[name] += 1
        self.busy += self._charge(name, self._epoch[name])
        self.clock = end
        return Report(name, self._epoch[name], metrics)

    def advance(self, name: str) -> None:
        """See `Pool`."""
        end = self.clock + self._charge(name, self._epoch[name] + 1)
        if self._epoch[name] == int(self._hyperparameters[name]["stop_epoch"]):
            end = self.clock  # the report of the end takes no time
        self._begun += 1
        heapq.heappush(self._ends, (end, self._begun, name))

    def stop(self, name: str) -> None:
        """See `Pool`."""
        del self._epochs[name]

    def _ended(self, name: str, failure: str | None) -> Report:
        del self._epochs[name]
        return Report(name, self._epoch[name], None, failure)

    def _charge(self, name: str, epoch: int) -> float:
        seconds = self._seconds(self._hyperparameters[name], epoch)
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise TunerError(f"an epoch cannot take {seconds} seconds")
        return seconds
