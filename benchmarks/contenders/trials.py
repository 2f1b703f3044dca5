"""What a whole search did: its trials, their epochs, their seconds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, median
from time import perf_counter
from typing import Any, Self


@dataclass
class Trial:
    """One training run.

    Attributes:
        learning_rate: the peak.
        began: when, in seconds since the search began.
        ended: when the next trial began, or the search had ended.
        epochs: seconds of each, with its scoring on dev.
        accuracy: on dev after each, as a fraction of 1.
    """

    learning_rate: float
    began: float
    ended: float = 0.0
    epochs: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Recorder:
    """Writes a search down as it happens; one trial at a time. The search begins when it is made."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self._began = perf_counter()

    def begin(self, learning_rate: float) -> None:
        """A trial begins, which ends the one before."""
        now = self._now()
        if self.trials:
            self.trials[-1].ended = now
        self.trials.append(Trial(learning_rate, now))

    def epoch(self, seconds: float, accuracy: float) -> None:
        """An epoch of the trial has been trained and scored."""
        self.trials[-1].epochs.append(seconds)
        self.trials[-1].accuracy.append(accuracy)

    def end(self) -> dict[str, Any]:
        """The search has ended; what `trials_of` reads."""
        self.trials[-1].ended = self._now()
        return {"trials": [asdict(trial) for trial in self.trials]}

    def _now(self) -> float:
        return perf_counter() - self._began


def trials_of(reply: dict[str, Any]) -> list[Trial]:
    """The trials that a contender's process tells of."""
    return [Trial(**trial) for trial in reply["trials"]]


@dataclass(frozen=True)
class Cost:
    """What a search takes: seconds = start + trials × `setup` + epochs × `epoch`.

    Attributes:
        start: seconds before the first trial.
        setup: seconds of a trial beside its epochs: building, tracing, saving.
        epoch: seconds of an epoch, scored on dev.
    """

    start: float
    setup: float
    epoch: float

    @classmethod
    def of(cls, start: float, trials: Sequence[Trial]) -> Self:
        """From trials that ran: the epoch is the median of those that are no trial's first, since that one may trace
        functions; what is left of the trials is setup. A first epoch counts where there is no other."""
        later = [seconds for trial in trials for seconds in trial.epochs[1:]]
        epoch = median(later or [seconds for trial in trials for seconds in trial.epochs])
        return cls(start, mean(trial.seconds - len(trial.epochs) * epoch for trial in trials), epoch)

    def seconds(self, trials: int, epochs: int, texts: float = 1.0) -> float:
        """Of so many trials and epochs, on `texts` times as many texts."""
        return self.start + trials * self.setup + epochs * self.epoch * texts


def epochs_of_cells(rates: int, epochs: int) -> int:
    """Epochs of a grid with a trial per cell: 1 + 2 + … + `epochs` for each learning rate."""
    return rates * epochs * (epochs + 1) // 2
