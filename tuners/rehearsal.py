"""A strategy's course on known scores: no trial, no file, no training."""

from collections.abc import Callable, Mapping, Sequence

from tuners.space import SearchSpace, Value
from tuners.strategies.strategy import Progress, Strategy, Tried, Wait


def rehearse(
    strategy: Strategy,
    space: SearchSpace,
    scores: Callable[[Mapping[str, Value]], Sequence[float]],
    start: Mapping[str, Value] | None = None,
    seed: int = 1,
    most_epochs: float = float("inf"),
) -> list[Tried]:
    """The runs that a search with one run at a time makes.

    Args:
        strategy: Whose course.
        space: What it searches; its sweeps count as decided.
        scores: The objective after each epoch of a run of these values, larger being better; NaN ends it.
        start: The values that the sweeps left, those of `space.start` if None.
        seed: The search's.
        most_epochs: Where the search is cut off, so that searches can be compared at equal cost.
    """
    start = dict(start or space.start)
    runs: list[Tried] = []
    spent = 0
    while spent < most_epochs:
        proposal = strategy.propose(Progress(space, start, runs, seed))
        if proposal is None or isinstance(proposal, Wait):
            break
        values = {**start, "epochs": space.epochs, "stop_after": space.epochs, **proposal}
        told: list[float] = []
        runs.append(Tried(values, told, False))
        for score in scores(values)[: int(values["stop_after"])]:
            told.append(float(score))
            spent += 1
            runs[-1] = Tried(values, tuple(told), False)
            diverged = told[-1] != told[-1]
            if diverged or spent >= most_epochs or strategy.stops(Progress(space, start, runs, seed), runs[-1]):
                break
        runs[-1] = Tried(values, tuple(told), True)
    return runs
