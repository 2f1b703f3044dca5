"""Searches without training: a recorded table in the place of runs, a simulated clock in that of workers."""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import keras_tuner

from tuners.errors import TunerError
from tuners.pool import Report
from tuners.space import Value
from tuners.table import Table
from tuners.tuner import Run


class Recorded:
    """A `Run` that trains nothing: its scores are a table's.

    Args:
        table: The scores by learning rate and epoch. A cell that was not tried, or has no score, is a diverged
            epoch.
        metric: The name to report them under.

    Raises:
        TunerError: when called with a learning rate or an epoch that the table does not have.
    """

    def __init__(self, table: Table, metric: str = "score") -> None:
        self.table = table
        self.metric = metric

    def __call__(self, values: Mapping[str, Value], folder: Path) -> Iterator[dict[str, float]]:
        rate, epochs = float(values["learning_rate"]), int(values["stop_after"])
        if rate not in self.table.learning_rates or epochs > self.table.epochs:
            raise TunerError(
                f"the table has no run of {epochs} epochs at learning rate {rate:g}: it has "
                f"{', '.join(f'{known:g}' for known in self.table.learning_rates)}, each of {self.table.epochs} epochs"
            )
        for score in self.table.scores[self.table.learning_rates.index(rate)][:epochs]:
            yield {self.metric: float(score)}


class SimulatedPool:
    """A `Pool` in this process whose clock is simulated: an epoch costs no time, and is charged for.

    Attributes:
        clock: Simulated seconds since the beginning.
        busy: Simulated seconds of all workers together, spent in epochs.

    Args:
        run: Carries every configuration.
        size: Workers.
        seconds: What an epoch takes, given the values and the epoch, counted from 1.
    """

    def __init__(self, run: Run, size: int, seconds: Callable[[Mapping[str, Value], int], float]) -> None:
        self.size = size
        self.clock = 0.0
        self.busy = 0.0
        self._run = run
        self._seconds = seconds
        self._values: dict[str, Mapping[str, Value]] = {}
        self._epochs: dict[str, Iterator[Mapping[str, float]]] = {}
        self._epoch: dict[str, int] = {}
        # Of epochs that end at the same time, the one that began first is reported first.
        self._ends: list[tuple[float, int, str]] = []
        self._begun = 0

    def start(self, name: str, values: Mapping[str, Value], folder: Path) -> None:
        """See `Pool`."""
        if len(self._epochs) == self.size:
            raise TunerError(f"a pool of {self.size} carries no more runs than that")
        self._values[name], self._epoch[name] = dict(values), 0
        self._epochs[name] = iter(self._run(values, folder))
        self.advance(name)

    def wait(self) -> Report:
        """See `Pool`."""
        end, _, name = heapq.heappop(self._ends)
        try:
            metrics = next(self._epochs[name], None)
        except keras_tuner.errors.FailedTrialError as error:
            return self._ended(name, str(error))
        if metrics is None:
            return self._ended(name, None)
        self._epoch[name] += 1
        self.busy += self._charge(name, self._epoch[name])
        self.clock = end
        return Report(name, self._epoch[name], metrics)

    def advance(self, name: str) -> None:
        """See `Pool`."""
        end = self.clock + self._charge(name, self._epoch[name] + 1)
        if self._epoch[name] == int(self._values[name]["stop_after"]):
            end = self.clock  # to say that it has ended takes no time
        self._begun += 1
        heapq.heappush(self._ends, (end, self._begun, name))

    def stop(self, name: str) -> None:
        """See `Pool`."""
        del self._epochs[name]

    def _ended(self, name: str, failure: str | None) -> Report:
        del self._epochs[name]
        return Report(name, self._epoch[name], None, failure)

    def _charge(self, name: str, epoch: int) -> float:
        seconds = self._seconds(self._values[name], epoch)
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise TunerError(f"an epoch cannot take {seconds} seconds")
        return seconds
