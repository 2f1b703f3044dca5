"""Strategies for the learning-rate × epoch search, one a module."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from tuners.errors import TunerError
from tuners.strategies.genetic import Genetic as Genetic
from tuners.strategies.strategy import IDLE as IDLE
from tuners.strategies.strategy import Idle as Idle
from tuners.strategies.strategy import ObservedTrial as ObservedTrial
from tuners.strategies.strategy import SearchState as SearchState
from tuners.strategies.strategy import Strategy as Strategy
from tuners.strategies.surface import RecordedTable as RecordedTable
from tuners.strategies.surface import Surface as Surface

Search = Literal["grid", "genetic", "surface"]


def strategy(
    search: str, share: float | None = None, examples: int | None = None, tables: Sequence[RecordedTable] = ()
) -> Strategy | None:
    """Return the strategy of a name; None for "grid", which fills every cell.

    Args:
        search: Name out of `Search`.
        share: Largest share of the epochs to train; None for the strategy's own.
        examples: Size of the dev split, where the objective is a share of it.
        tables: Tables of other studies, for "surface".

    Raises:
        TunerError: There is no strategy of that name.
    """
    if search == "grid":
        return None
    if search == "genetic":
        return Genetic() if share is None else Genetic(share)
    if search == "surface":
        surface = Surface(examples=examples, tables=tables)
        return surface if share is None else replace(surface, share=share)
    raise TunerError(f"there is no search {search!r}: choose from {', '.join(get_args(Search))}")
