"""The protocol of a function that trains one trial."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tuners.space import Value


class Trainable(Protocol):
    """Trains one configuration, and yields its metrics after every epoch.

    Raise `keras_tuner.errors.FailedTrialError` for a configuration that cannot be trained, for example one that exceeds
    the memory: the trial fails and the search continues. Any other exception ends the search, which resumes with this
    trial, unless the oracle has `max_retries_per_trial`. A trial whose objective is not finite ends as diverged.

    Example:
        >>> def trainable(hyperparameters, folder):
        ...     for epoch in range(1, hyperparameters["stop_epoch"] + 1):
        ...         yield {"val_accuracy": 0.5 + epoch * hyperparameters["learning_rate"]}
    """

    def __call__(
        self, hyperparameters: Mapping[str, Value], folder: Path, *args: Any, **kwargs: Any
    ) -> Iterator[Mapping[str, float]]:
        """Train a configuration.

        Args:
            hyperparameters: Value of every parameter, with `learning_rate`, `schedule_epochs` (the horizon of the
                schedule) and `stop_epoch` (the epochs to train, at most `schedule_epochs`).
            folder: Existing folder of this trial alone. State saved there lets a later call resume: it yields the
                earlier epochs from the saved state first, then continues.
            *args: Positional arguments of `CasualGridSearch.search`.
            **kwargs: Keyword arguments of `CasualGridSearch.search`.

        Yields:
            The metrics of each epoch.
        """
