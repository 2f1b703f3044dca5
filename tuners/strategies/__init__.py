"""Strategies for the learning-rate × epoch search, one a module."""

from collections.abc import Sequence
from typing import Literal, get_args

from tuners.errors import TunerError
from tuners.strategies.asha import Asha as Asha
from tuners.strategies.bayesian_optimization import BayesianOptimization as BayesianOptimization
from tuners.strategies.genetic import Genetic as Genetic
from tuners.strategies.hill_climb import HillClimb as HillClimb
from tuners.strategies.strategy import IDLE as IDLE
from tuners.strategies.strategy import Idle as Idle
from tuners.strategies.strategy import ObservedTrial as ObservedTrial
from tuners.strategies.strategy import SearchState as SearchState
from tuners.strategies.strategy import Strategy as Strategy
from tuners.strategies.surface import RecordedTable as RecordedTable
from tuners.strategies.surface import Surface as Surface

Search = Literal["grid", "climb", "asha", "bayes", "genetic", "surface"]


def strategy(search: str, examples: int | None = None, tables: Sequence[RecordedTable] = ()) -> Strategy | None:
    """Return the strategy of a name with its default settings; None for "grid", which fills every cell.

    Args:
        search: Name out of `Search`.
        examples: Size of the dev split, where the objective is a share of it.
        tables: Tables of other studies, for "surface".

    Raises:
        TunerError: There is no strategy of that name.
    """
    strategies: tuple[Strategy, ...] = (
        HillClimb(examples=examples),
        Asha(),
        BayesianOptimization(),
        Genetic(),
        Surface(examples=examples, tables=tables),
    )
    known: dict[str, Strategy | None] = {"grid": None, **{strategy.name: strategy for strategy in strategies}}
    if search not in known:
        raise TunerError(f"there is no search {search!r}: choose from {', '.join(get_args(Search))}")
    return known[search]
