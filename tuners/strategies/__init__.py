"""Strategies for the learning-rate × epoch search, one a module."""

from typing import Literal, get_args

from tuners.errors import TunerError
from tuners.strategies.asha import Asha
from tuners.strategies.bayesian_optimization import BayesianOptimization
from tuners.strategies.genetic import Genetic
from tuners.strategies.hill_climb import HillClimb
from tuners.strategies.strategy import IDLE, Idle, ObservedTrial, SearchState, Strategy

__all__ = [
    "IDLE",
    "Asha",
    "BayesianOptimization",
    "Genetic",
    "HillClimb",
    "Idle",
    "ObservedTrial",
    "Search",
    "SearchState",
    "Strategy",
    "strategy",
]

Search = Literal["grid", "climb", "asha", "bayes", "genetic"]


def strategy(search: str, examples: int | None = None) -> Strategy | None:
    """Get a strategy by name, with its default settings; None for "grid", which fills every cell.

    Args:
        search: Name out of `Search`.
        examples: Size of the dev split, where the objective is a share of it.

    Raises:
        TunerError: There is no strategy of that name.
    """
    known: dict[str, Strategy | None] = {
        "grid": None,
        "climb": HillClimb(examples=examples),
        "asha": Asha(),
        "bayes": BayesianOptimization(),
        "genetic": Genetic(),
    }
    if search not in known:
        raise TunerError(f"there is no search {search!r}: choose from {', '.join(get_args(Search))}")
    return known[search]
