"""Runs beside one another: what a search asks of whatever carries them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuners.space import Value


@dataclass(frozen=True, slots=True)
class Report:
    """What a pool says of one run.

    Attributes:
        name: The run, as `Pool.start` named it.
        epoch: The epoch that has ended, counted from 1; a run that was begun again, elsewhere or after a
            loss, counts from 1 again.
        metrics: Of that epoch; None when the run has ended by itself or failed.
        failure: Why the run failed, as `FailedTrialError` says in one process; None if it did not.
    """

    name: str
    epoch: int
    metrics: Mapping[str, float] | None
    failure: str | None = None


class Pool(Protocol):
    """Carries up to `size` runs at a time.

    After every report of an epoch the run waits until it is told to `advance` or to `stop`; a report without
    metrics ends it. A run whose worker is lost is the pool's to begin again.
    """

    size: int

    def start(self, name: str, values: Mapping[str, Value], folder: Path) -> None:
        """Begins a run with the arguments of a `Trainable`; its first epoch will be reported."""

    def wait(self) -> Report:
        """The next report of any run; blocks, without costing the CPU, until there is one.

        Raises whatever a run raises but `FailedTrialError`.
        """

    def advance(self, name: str) -> None:
        """Lets a run that has reported train its next epoch."""

    def stop(self, name: str) -> None:
        """Ends a run that has reported."""


def follow(pool: Pool, name: str, values: Mapping[str, Value], folder: Path) -> Iterator[Mapping[str, float]]:
    """One run, carried by a pool that carries no other: yields every epoch once, whoever was lost on the way.

    Raises:
        keras_tuner.errors.FailedTrialError: the run failed.
    """
    pool.start(name, values, folder)
    told = 0
    while (report := pool.wait()).metrics is not None:
        if report.epoch > told:
            told = report.epoch
            yield report.metrics
        pool.advance(name)
    if report.failure is not None:
        # Only now, since KerasTuner brings TensorFlow along, for which a worker need not wait.
        from keras_tuner.errors import FailedTrialError

        raise FailedTrialError(report.failure)
