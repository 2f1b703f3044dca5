"""When every training step of a search ended, and how much memory its process then had."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any

from bertgrid_tf.system.host import process_memory


class Steps:
    """Writes the steps of a search down, trial by trial.

    Attributes:
        ends: for each trial, when its steps ended, in seconds.
        resident: for each trial, the process's resident memory after its last step so far, in bytes.
    """

    def __init__(self) -> None:
        self.ends: list[list[float]] = []
        self.resident: list[int] = []

    def begin(self) -> None:
        """A trial begins."""
        self.ends.append([])
        self.resident.append(0)

    def step(self) -> None:
        """A step of the trial has ended."""
        self.ends[-1].append(perf_counter())
        self.resident[-1] = process_memory("VmRSS")

    def end(self) -> dict[str, Any]:
        """What a contender's process tells of the search."""
        return {"ends": self.ends, "resident": self.resident}


def step_seconds(ends: Sequence[Sequence[float]]) -> float:
    """A step's seconds: the median time from one to the next within a trial; trials have at least four steps."""
    return median(later - sooner for trial in ends for sooner, later in pairwise(trial))


def overheads(ends: Sequence[Sequence[float]]) -> list[float]:
    """Seconds between one trial's last step and the next one's first, for each trial but the first.

    That is from one's first step to the next one's, less what so many steps take; so it does not matter whether a
    step is told of at once or, as a GPU needs it, while the next one runs.
    """
    each = step_seconds(ends)
    return [later[0] - sooner[0] - len(sooner) * each for sooner, later in pairwise(ends)]


def growth(resident_bytes: Sequence[int], since: int = 5) -> float:
    """Growth of memory from the `since`-th trial (from 1) to the last, as a fraction of what it was then."""
    return resident_bytes[-1] / resident_bytes[since - 1] - 1
