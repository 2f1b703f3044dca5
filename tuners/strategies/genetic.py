"""Evolution over learning rate, epochs and the swept parameters together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from tuners.space import SearchSpace, Value
from tuners.strategies.strategy import WAIT, Progress, Tried, Wait

DRAWS = 100
"""After so many children that are all known there is, for practical purposes, nothing new left to try."""


@dataclass(frozen=True)
class Genetic:
    """Breeds configurations: two good runs are crossed, a gene changes, and the child is trained.

    The genes are the learning rate (a row), every swept parameter (a level) and how many epochs of the schedule are
    trained. The first individual is the start's, the rest of the first `population` are drawn. From then on each
    child has two parents, each the better of two runs drawn from the best `population`; it takes every gene from
    either, and each gene changes with a chance of one in the number of genes, the learning rate to a neighbouring
    row, the epochs by up to two, a parameter to any other level. A child whose epochs are known already, because its
    configuration was trained as far or further, is drawn anew. (A steady-state genetic algorithm: Whitley, "The
    GENITOR algorithm", 1989.)

    It trains at most `share` of the epochs of the sweeps and the grid, but half a row in any case. For parameters
    that depend on each other; where they do not, sweeps are cheaper.

    Attributes:
        share: The most of the epochs of sweeps and grid that it trains.
        population: How many of the best runs have children.
    """

    share: float = 0.25
    population: int = 6

    name: ClassVar[str] = "genetic"
    sweeps: ClassVar[bool] = False

    def propose(self, progress: Progress) -> Mapping[str, Value] | Wait | None:
        """See `Strategy`. Runs under way have no children yet, and nobody waits for them."""
        space = progress.space
        # A run under way will take what it was given.
        spent = sum(len(run.scores) if run.ended else int(run.values["stop_after"]) for run in progress.runs)
        left = self.most_epochs(space) - spent
        draw = np.random.default_rng([progress.seed, len(progress.runs)])
        parents = sorted((run for run in progress.runs if run.best_epoch), key=lambda run: -run.best)[: self.population]
        for _ in range(DRAWS if left > 0 else 0):
            if not progress.runs:
                child = {**{name: progress.start[name] for name in space.sweeps}, "stop_after": _half(space.epochs)}
                child["learning_rate"] = _nearest(space, float(progress.start["learning_rate"]))
            elif len(progress.runs) < self.population or not parents:
                child = _stranger(space, draw)
            else:
                child = _child(space, parents, draw)
            child["stop_after"] = min(int(child["stop_after"]), left)
            if not _known(progress, child):
                return child
        return None if all(run.ended for run in progress.runs) else WAIT

    def stops(self, progress: Progress, run: Tried) -> bool:
        """See `Strategy`: a gene says how long a run is."""
        return False

    def most_epochs(self, space: SearchSpace) -> int:
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
    return {**genes, "learning_rate": rate, "stop_after": int(draw.integers(1, space.epochs + 1))}


def _child(space: SearchSpace, parents: Sequence[Tried], draw: np.random.Generator) -> dict[str, Value]:
    # They stand in order, the best first: of two drawn the earlier is the better.
    couple = [parents[int(draw.integers(len(parents), size=2).min())] for _ in range(2)]
    rates = sorted(space.learning_rates)
    names = [*space.sweeps, "learning_rate", "stop_after"]
    child: dict[str, Value] = {}
    for name in names:
        parent = couple[int(draw.integers(2))]
        value = parent.best_epoch if name == "stop_after" else parent.values[name]
        if draw.random() < 1 / len(names):
            if name == "stop_after":
                value = min(max(int(value) + int(draw.choice([-1, 1, 2])), 1), space.epochs)
            elif name == "learning_rate":
                place = rates.index(float(value)) + int(draw.choice([-1, 1]))
                value = rates[min(max(place, 0), len(rates) - 1)]
            else:
                value = space.sweeps[name][draw.integers(len(space.sweeps[name]))]
        child[name] = value
    return child


def _known(progress: Progress, child: Mapping[str, Value]) -> bool:
    """Whether a run of this configuration went, or goes, as far or further."""
    genes = [name for name in child if name != "stop_after"]
    return any(
        all(run.values[name] == child[name] for name in genes)
        and int(run.values["stop_after"]) >= int(child["stop_after"])
        for run in progress.runs
    )
