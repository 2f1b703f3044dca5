"""The strategy protocol: how learning rate × epoch is searched once the sweeps are decided."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, Protocol

from tuners.space import SearchSpace, Value


class Idle:
    """Type of `IDLE`."""


IDLE: Final = Idle()
"""Proposal of a strategy that needs the end of a running trial first."""


@dataclass(frozen=True, eq=False)
class ObservedTrial:
    """A trial of the learning-rate × epoch search, ended or running.

    Attributes:
        hyperparameters: Value of every parameter, with `stop_epoch`.
        scores: Objective after each epoch so far, negated where small is good, so that larger is better; NaN from
            where the trial diverged, and everywhere in a failed trial.
        ended: Whether no more epochs follow.
    """

    hyperparameters: Mapping[str, Value]
    scores: Sequence[float]
    ended: bool

    @property
    def rate(self) -> float:
        """Learning rate."""
        return float(self.hyperparameters["learning_rate"])

    @property
    def stop_epoch(self) -> int:
        """Largest number of epochs that the trial may train."""
        return int(self.hyperparameters["stop_epoch"])

    @cached_property
    def best_epoch(self) -> int:
        """First epoch with the best score, counted from 1; 0 without a score."""
        finite = [score for score in self.scores if not math.isnan(score)]
        return self.scores.index(max(finite)) + 1 if finite else 0

    @property
    def best(self) -> float:
        """Best score so far; minus infinity without one."""
        return self.scores[self.best_epoch - 1] if self.best_epoch else -math.inf


@dataclass(frozen=True)
class SearchState:
    """The state of a search, on which a strategy decides.

    Attributes:
        space: Search space.
        start: Value of every parameter as the sweeps left it, with the `learning_rate` to start from.
        trials: Trials so far, in the order of their start.
        seed: Seed of the strategy's random draws.
    """

    space: SearchSpace
    start: Mapping[str, Value]
    trials: Sequence[ObservedTrial]
    seed: int

    @property
    def epochs(self) -> int:
        """Number of epochs trained so far."""
        return sum(len(trial.scores) for trial in self.trials)


class Strategy(Protocol):
    """Decides which trials to start, and which of them to stop early.

    A strategy has no state of its own: its decisions depend on the `SearchState` alone, so that a killed search resumes
    as if it had not been killed, and a search with one trial at a time is reproducible.

    Attributes:
        name: Name on the command line.
        sweeps: Whether the sweeps run first; otherwise the strategy varies their parameters itself.
    """

    name: ClassVar[str]
    sweeps: ClassVar[bool]

    def propose(self, state: SearchState) -> Mapping[str, Value] | Idle | None:
        """Propose the next trial.

        Returns:
            The values that differ from `state.start`: the `learning_rate`, and `stop_epoch` where the trial is to train
            fewer than all epochs. `IDLE` where a running trial has to end first, None at the end of the search.
        """

    def should_stop(self, state: SearchState, trial: ObservedTrial) -> bool:
        """Return whether `trial`, one of `state.trials`, ends after the epoch that it has just reported."""

    def max_epochs(self, space: SearchSpace) -> int:
        """Return the upper bound of the epochs to train in a search space."""

    def describe(self) -> Mapping[str, Any]:
        """Return the settings in JSON's types; a study resumes under the same settings only."""


def standard_error(share: float, examples: int) -> float:
    """Return the binomial standard error √(p(1-p)/n) of a share p of n examples."""
    return math.sqrt(share * (1 - share) / examples)
