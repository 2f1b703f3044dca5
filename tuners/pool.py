"""The protocol of a pool of workers that train trials in parallel."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuners.space import Value


@dataclass(frozen=True, slots=True)
class Report:
    """A pool's report of one trial.

    Attributes:
        name: Name of the trial, as given to `Pool.start`.
        epoch: Epoch that has ended; a trial that was restarted after the loss of its worker counts from 1.
        metrics: Metrics of that epoch; None when the trial has ended by itself or failed.
        failure: Message of the trial's `FailedTrialError`; None if it has not failed.
    """

    name: str
    epoch: int
    metrics: Mapping[str, float] | None
    failure: str | None = None


class Pool(Protocol):
    """Trains up to `size` trials at a time, and restarts a trial whose worker is lost.

    After every report of an epoch the trial waits for `advance` or `stop`; a report without metrics ends it.
    """

    size: int

    def start(self, name: str, hyperparameters: Mapping[str, Value], folder: Path) -> None:
        """Start a trial with the arguments of a `Trainable`; its first epoch will be reported."""

    def wait(self) -> Report:
        """Wait, without using the CPU, for the next report of any trial.

        Raises what a trainable raises, except `FailedTrialError`.
        """

    def advance(self, name: str) -> None:
        """Let a trial that has reported train its next epoch."""

    def stop(self, name: str) -> None:
        """End a trial that has reported."""


def follow(pool: Pool, name: str, hyperparameters: Mapping[str, Value], folder: Path) -> Iterator[Mapping[str, float]]:
    """Train one trial in a pool that has no other; yields every epoch once, even if workers are lost.

    Raises:
        keras_tuner.errors.FailedTrialError: The trial failed.
    """
    pool.start(name, hyperparameters, folder)
    last = 0
    while (report := pool.wait()).metrics is not None:
        if report.epoch > last:
            last = report.epoch
            yield report.metrics
        pool.advance(name)
    if report.failure is not None:
        # Imported late: KerasTuner imports TensorFlow, which takes seconds.
        from keras_tuner.errors import FailedTrialError

        raise FailedTrialError(report.failure)
