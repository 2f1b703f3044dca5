"""What a strategy is asked, and what it is told: how the coupled act, learning rate × epoch, is searched."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, Protocol

from tuners.space import SearchSpace, Value


class Wait:
    """What `Strategy.propose` answers where a running run has to end first."""


WAIT: Final = Wait()


@dataclass(frozen=True, eq=False)
class Tried:
    """A run of the coupled act, ended or under way.

    Attributes:
        values: Its configuration; `stop_after` is the most epochs that it may train.
        scores: The objective after each epoch so far, its sign turned where small is good, so that larger is
            better; NaN where the run diverged, and everywhere in a failed run.
        ended: Whether no more epochs come.
    """

    values: Mapping[str, Value]
    scores: Sequence[float]
    ended: bool

    @property
    def rate(self) -> float:
        """Its learning rate."""
        return float(self.values["learning_rate"])

    @cached_property
    def best_epoch(self) -> int:
        """The first epoch with the best score, counted from 1; 0 without a score."""
        finite = [score for score in self.scores if not math.isnan(score)]
        return self.scores.index(max(finite)) + 1 if finite else 0

    @property
    def best(self) -> float:
        """The best score so far; minus infinity without one."""
        return self.scores[self.best_epoch - 1] if self.best_epoch else -math.inf


@dataclass(frozen=True)
class Progress:
    """How far a search has come.

    Attributes:
        space: What is searched.
        start: The value of every parameter as the sweeps left it, and the `learning_rate` to start from.
        runs: The runs so far, in the order of their start.
        seed: Decides the draws of a strategy that draws.
    """

    space: SearchSpace
    start: Mapping[str, Value]
    runs: Sequence[Tried]
    seed: int

    @property
    def epochs(self) -> int:
        """Epochs trained so far."""
        return sum(len(run.scores) for run in self.runs)


class Strategy(Protocol):
    """Decides which runs of the coupled act to start, and which of them to stop early.

    A strategy has no state: what it answers depends on `progress` alone, so a search that was killed goes on
    as if it had not been, and a search with one run at a time repeats itself.

    Attributes:
        name: What it is called on the command line.
        sweeps: Whether the sweeps come first; otherwise the strategy varies their parameters itself.
    """

    name: ClassVar[str]
    sweeps: ClassVar[bool]

    def propose(self, progress: Progress) -> Mapping[str, Value] | Wait | None:
        """The values of the next run that differ from `progress.start`: its `learning_rate`, and where it is to
        train less than all epochs, its `stop_after`. WAIT where a running run has to end first, None at the end.
        """

    def stops(self, progress: Progress, run: Tried) -> bool:
        """Whether `run`, one of `progress.runs`, is to end after the epoch that it has just reported."""

    def most_epochs(self, space: SearchSpace) -> int:
        """The most epochs that it will train in this space."""

    def describe(self) -> Mapping[str, Any]:
        """Its settings in JSON's types; a study goes on under the same ones only."""


def score_noise(progress: Progress, examples: int | None, noise: float) -> float:
    """The standard error of the best score so far: √(p(1-p)/n) of a share of `examples`, else `noise`."""
    best = max((run.best for run in progress.runs), default=0.0)
    if examples is None or not 0 < best < 1:
        return noise
    return standard_error(best, examples)


def standard_error(share: float, examples: int) -> float:
    """Of a share that was seen among so many examples: √(p(1-p)/n)."""
    return math.sqrt(share * (1 - share) / examples)
