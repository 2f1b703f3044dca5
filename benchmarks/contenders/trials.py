"""Record of a whole search: its trials, their epochs, their seconds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, median
from time import monotonic
from typing import Any


@dataclass
class Trial:
    """One trial.

    Attributes:
        learning_rate: Peak learning rate.
        began: Its beginning, in seconds since the search began.
        ended: The beginning of the next trial, or the end of the search.
        epochs: Seconds of each epoch, with its scoring on dev.
        accuracy: Accuracy on dev after each epoch, a fraction.
        scored: When each epoch had been scored on dev, in seconds since the search began.
        test: Accuracy on the test split after each epoch, where it is asked for.
    """

    learning_rate: float
    began: float
    ended: float = 0.0
    epochs: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    scored: list[float] = field(default_factory=list)
    test: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds from its beginning to its end."""
        return self.ended - self.began


class EpochRecorder:
    """Records a search with one trial at a time.

    Args:
        began: The beginning of the search by `time.monotonic`, as a request has it; None for now.
    """

    def __init__(self, began: float | None = None) -> None:
        self.trials: list[Trial] = []
        self._began = monotonic() if began is None else began

    def begin(self, learning_rate: float) -> None:
        """Begin a trial, and end the one before."""
        now = self._now()
        if self.trials:
            self.trials[-1].ended = now
        self.trials.append(Trial(learning_rate, now))

    def epoch(self, seconds: float, accuracy: float, test: Callable[[], float] | None = None) -> None:
        """Record an epoch of the trial that has been trained and scored.

        Args:
            seconds: Seconds that it took, with its scoring on dev.
            accuracy: Accuracy on dev, a fraction.
            test: Returns the model's accuracy on the test split, while the clock stands still.
        """
        trial = self.trials[-1]
        trial.epochs.append(seconds)
        trial.accuracy.append(accuracy)
        trial.scored.append(self._now())
        if test is not None:
            stopped = monotonic()
            trial.test.append(test())
            self._began += monotonic() - stopped

    def end(self) -> dict[str, Any]:
        """End the search; the reply that `trials_of` reads."""
        self.trials[-1].ended = self._now()
        return {"trials": [asdict(trial) for trial in self.trials]}

    def _now(self) -> float:
        return monotonic() - self._began


def trials_of(reply: dict[str, Any]) -> list[Trial]:
    """Read the trials of a reply."""
    return [Trial(**trial) for trial in reply["trials"]]


@dataclass(frozen=True)
class Cost:
    """Cost of a search: seconds = start + trials × `setup` + epochs × `epoch`.

    Attributes:
        start: Seconds before the first trial.
        setup: Seconds of a trial beside its epochs: building, tracing, saving.
        epoch: Seconds of an epoch, scored on dev.
    """

    start: float
    setup: float
    epoch: float

    @classmethod
    def of(cls, start: float, trials: Sequence[Trial]) -> "Cost":
        """Estimate the cost from trials.

        An epoch costs the median of those that are no trial's first, in which functions may be traced (of all where
        there is no other); the rest of the trials' seconds is setup.
        """
        later = [seconds for trial in trials for seconds in trial.epochs[1:]]
        epoch = median(later or [seconds for trial in trials for seconds in trial.epochs])
        return cls(start, mean(trial.seconds - len(trial.epochs) * epoch for trial in trials), epoch)

    def seconds(self, trials: int, epochs: int, texts: float = 1.0) -> float:
        """Predict the seconds of a search, on `texts` times as many texts."""
        return self.start + trials * self.setup + epochs * self.epoch * texts


def epochs_of_cells(rates: int, epochs: int) -> int:
    """Count the epochs of a grid with a trial per cell: 1 + 2 + … + `epochs` for each learning rate."""
    return rates * epochs * (epochs + 1) // 2
