"""Record of a search's training steps: the end of each, and the memory of the process."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

from bertgrid_tf.system.host import process_memory


class StepRecorder:
    """Records the steps of a search, trial by trial.

    Attributes:
        ends: End of every step of each trial, in seconds.
        resident: Resident memory of the process after the last step of each trial, in bytes.
    """

    def __init__(self) -> None:
        self.ends: list[list[float]] = []
        self.resident: list[int] = []

    def begin(self) -> None:
        """Begin a trial."""
        self.ends.append([])
        self.resident.append(0)

    def step(self) -> None:
        """Record a step of the trial."""
        self.ends[-1].append(perf_counter())
        self.resident[-1] = process_memory("VmRSS")

    def end(self) -> dict[str, Any]:
        """Return the contender's reply."""
        return {"ends": self.ends, "resident": self.resident}


def step_seconds(ends: Sequence[Sequence[float]]) -> float:
    """Return the median seconds from one step to the next within a trial; trials have at least four steps."""
    return median(later - sooner for trial in ends for sooner, later in pairwise(trial))


def overheads(ends: Sequence[Sequence[float]]) -> list[float]:
    """Return the seconds between the last step of a trial and the first step of the next, for each trial but the first.

    That is the time from first step to first step, less the steps of one trial; so it does not matter whether the end
    of a step is recorded at once or, as a GPU needs it, while the next step runs.
    """
    each = step_seconds(ends)
    return [later[0] - sooner[0] - len(sooner) * each for sooner, later in pairwise(ends)]


def growth(resident_bytes: Sequence[int], since: int = 5) -> float:
    """Return the growth of memory from the `since`-th trial (from 1) to the last, a fraction."""
    return resident_bytes[-1] / resident_bytes[since - 1] - 1
