"""How the coupled act, learning rate × epoch, is searched: one strategy a file."""

from typing import Literal, get_args

from tuners.errors import TunerError
from tuners.strategies.asha import Asha
from tuners.strategies.bayes import Bayes
from tuners.strategies.climb import Climb
from tuners.strategies.genetic import Genetic
from tuners.strategies.strategy import WAIT, Progress, Strategy, Tried, Wait

__all__ = [
    "WAIT",
    "Asha",
    "Bayes",
    "Climb",
    "Genetic",
    "Progress",
    "Search",
    "Strategy",
    "Tried",
    "Wait",
    "strategy",
]

Search = Literal["grid", "climb", "asha", "bayes", "genetic"]


def strategy(search: str, examples: int | None = None) -> Strategy | None:
    """The strategy of that name with its default settings; None for "grid", which fills every cell.

    Args:
        search: See `Search`.
        examples: Size of the dev split, where the objective is a share of it.

    Raises:
        TunerError: there is none of that name.
    """
    known: dict[str, Strategy | None] = {
        "grid": None,
        "climb": Climb(examples=examples),
        "asha": Asha(),
        "bayes": Bayes(),
        "genetic": Genetic(),
    }
    if search not in known:
        raise TunerError(f"there is no search {search!r}: choose from {', '.join(get_args(Search))}")
    return known[search]
