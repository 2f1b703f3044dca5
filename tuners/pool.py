"""The protocol of a pool of workers that train trials in parallel, and a pool of this process alone."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


class LocalPool:
    """A `Pool` of this process, which trains one trial at a time.

    Args:
        trainable: A `Trainable`.
    """

    size = 1

    def __init__(self, trainable: Callable[..., Iterable[Mapping[str, Any]]]) -> None:
        self._trainable = trainable

    def start(self, name: str, hyperparameters: Mapping[str, Value], folder: Path) -> None:
        """See `Pool`."""
        self._name, self._epoch, self._epochs = name, 0, epochs(self._trainable, hyperparameters, folder)

    def wait(self) -> Report:
        """See `Pool`."""
        metrics, failure = next_epoch(self._epochs)
        self._epoch += metrics is not None
        return Report(self._name, self._epoch, metrics, failure)

    def advance(self, name: str) -> None:
        """See `Pool`."""

    def stop(self, name: str) -> None:
        """See `Pool`."""
        self._epochs.close()


def train(
    pool: Pool,
    trials: Iterable[tuple[str, Mapping[str, Value], Path]],
    on_epoch_end: Callable[[str, int, Mapping[str, float]], bool],
) -> Iterator[tuple[str, str | None]]:
    """Train trials, as many at a time as the pool has workers; yield each one's name and failure when it has ended.

    Args:
        pool: A pool without trials.
        trials: The arguments of `Pool.start` for each, asked for when a worker is free for it.
        on_epoch_end: Called with a trial's name, the epoch and its metrics, once for every epoch even if workers are
            lost. Returns whether the trial goes on.
    """
    waiting, furthest = iter(trials), dict[str, int]()
    while True:
        while len(furthest) < pool.size and (trial := next(waiting, None)) is not None:
            furthest[trial[0]] = 0
            pool.start(*trial)
        if not furthest:
            return
        report = pool.wait()
        if report.metrics is not None:
            anew = report.epoch > furthest[report.name]
            furthest[report.name] = max(report.epoch, furthest[report.name])
            if not anew or on_epoch_end(report.name, report.epoch, report.metrics):
                pool.advance(report.name)
                continue
            pool.stop(report.name)
        del furthest[report.name]
        yield report.name, report.failure


def epochs(
    trainable: Callable[..., Iterable[Mapping[str, Any]]], hyperparameters: Mapping[str, Value], folder: Path
) -> Generator[Mapping[str, Any]]:
    """Yield the epochs of a trial; a trainable that is no generator function trains in the first `next_epoch`."""
    yield from trainable(hyperparameters, folder)


def next_epoch(running: Iterator[Mapping[str, Any]]) -> tuple[dict[str, float] | None, str | None]:
    """Train the next epoch; return its metrics, or None at the end, with the message of a failed trial."""
    try:
        metrics = next(running, None)
    except Exception as error:
        # Imported late: KerasTuner imports TensorFlow, which takes seconds.
        from keras_tuner.errors import FailedTrialError

        if not isinstance(error, FailedTrialError):
            raise
        return None, str(error) or "the trial failed"
    return None if metrics is None else {name: float(value) for name, value in metrics.items()}, None
