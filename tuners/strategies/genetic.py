"""Evolution over learning rate, epochs and the swept parameters together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from tuners.space import SearchSpace, Value
from tuners.strategies.strategy import IDLE, Idle, ObservedTrial, SearchState

POPULATION = 6
"""Number of the best trials that have children."""
MAX_DRAWS = 100
"""Number of successive known children after which the space counts as exhausted."""


@dataclass(frozen=True)
class Genetic:
    """A steady-state genetic algorithm over configurations.

    The genes are the learning rate (a row), every swept parameter (a level) and the number of epochs. The first
    individual is the start's, the rest of a population of six is random. Each later child has two parents, each the
    better of two drawn from the six best trials; it inherits every gene from either, and each gene mutates with
    probability 1 / number of genes: the learning rate to a neighbouring row, the epochs by up to two, a parameter to
    any level. A child whose configuration was trained as far or further is redrawn. For parameters that depend on each
    other; where they do not, sweeps are cheaper.

    Source: Whitley, "The GENITOR Algorithm and Selection Pressure" (ICGA 1989).

    Attributes:
        share: Largest share of the epochs of sweeps and grid to train; half a row is trained in any case.
    """

    share: float = 0.25

    name: ClassVar[str] = "genetic"
    sweeps: ClassVar[bool] = False

    def propose(self, state: SearchState) -> Mapping[str, Value] | Idle | None:
        """See `Strategy`; no trial waits for a running one."""
        space = state.space
        # A running trial trains all the epochs it was given.
        spent = sum(len(trial.scores) if trial.ended else trial.stop_epoch for trial in state.trials)
        left = self.max_epochs(space) - spent
        draw = np.random.default_rng([state.seed, len(state.trials)])
        parents = sorted((trial for trial in state.trials if trial.best_epoch), key=lambda trial: -trial.best)[
            :POPULATION
        ]
        for _ in range(MAX_DRAWS if left > 0 else 0):
            if not state.trials:
                child = {**{name: state.start[name] for name in space.sweeps}, "stop_epoch": _half(space.epochs)}
                child["learning_rate"] = _nearest(space, float(state.start["learning_rate"]))
            elif len(state.trials) < POPULATION or not parents:
                child = _stranger(space, draw)
            else:
                child = _child(space, parents, draw)
            child["stop_epoch"] = min(int(child["stop_epoch"]), left)
            if not _known(state, child):
                return child
        return None if all(trial.ended for trial in state.trials) else IDLE

    def should_stop(self, state: SearchState, trial: ObservedTrial) -> bool:
        """See `Strategy`; the length of a trial is a gene."""
        return False

    def max_epochs(self, space: SearchSpace) -> int:
        """See `Strategy`."""
        return max(int(self.share * space.plan().epochs), _half(space.epochs))

    def describe(self) -> Mapping[str, Any]:
        """See `Strategy`."""
        return asdict(self)


def _half(epochs: int) -> int:
    return -(-epochs // 2)


def _nearest(space: SearchSpace, rate: float) -> float:
    return min(space.learning_rates, key=lambda other: abs(np.log(other / rate)))


def _stranger(space: SearchSpace, draw: np.random.Generator) -> dict[str, Value]:
    genes: dict[str, Value] = {name: levels[draw.integers(len(levels))] for name, levels in space.sweeps.items()}
    rate = space.learning_rates[draw.integers(len(space.learning_rates))]
    return {**genes, "learning_rate": rate, "stop_epoch": int(draw.integers(1, space.epochs + 1))}


def _child(space: SearchSpace, parents: Sequence[ObservedTrial], draw: np.random.Generator) -> dict[str, Value]:
    # Sorted from the best on, so the smaller of two drawn indices is the better parent.
    couple = [parents[int(draw.integers(len(parents), size=2).min())] for _ in range(2)]
    rates = sorted(space.learning_rates)
    names = [*space.sweeps, "learning_rate", "stop_epoch"]
    child: dict[str, Value] = {}
    for name in names:
        parent = couple[int(draw.integers(2))]
        value = parent.best_epoch if name == "stop_epoch" else parent.hyperparameters[name]
        if draw.random() < 1 / len(names):
            if name == "stop_epoch":
                value = min(max(int(value) + int(draw.choice([-1, 1, 2])), 1), space.epochs)
            elif name == "learning_rate":
                place = rates.index(float(value)) + int(draw.choice([-1, 1]))
                value = rates[min(max(place, 0), len(rates) - 1)]
            else:
                value = space.sweeps[name][draw.integers(len(space.sweeps[name]))]
        child[name] = value
    return child


def _known(state: SearchState, child: Mapping[str, Value]) -> bool:
    """Return whether a trial of this configuration trains as many epochs or more."""
    genes = [name for name in child if name != "stop_epoch"]
    return any(
        all(trial.hyperparameters[name] == child[name] for name in genes)
        and trial.stop_epoch >= int(child["stop_epoch"])
        for trial in state.trials
    )
