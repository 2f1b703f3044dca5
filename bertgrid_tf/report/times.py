"""A study's time table: what every stage took, and how far off the predictions were."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Column, Table

from bertgrid_tf.budget.plan import LATER
from bertgrid_tf.budget.time_estimator import START
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report.format import duration
from bertgrid_tf.results import StageTime


def times_table(times: Sequence[StageTime], searched: Recipe, ended: bool) -> RenderableType:
    """Return a table of what every stage took and was predicted to take, with the error in percent of what it took.

    Where only an upper bound was predicted (what comes after the search before its winner was known, a search that
    leaves cells out), and of a stage that is not over, there is no error.

    Args:
        times: Of the stages in order.
        searched: The recipe, or what of it fitted the budget.
        ended: Whether the study has ended.
    """
    grid = Table(
        Column("stage", overflow="fold"),
        *(Column(name, justify="right") for name in ("took", "predicted when it began", "after the first epoch")),
        title="Time",
        title_justify="left",
    )
    shown = [time for time in times if time.measured]
    for number, time in enumerate(shown, start=1):
        over = ended or number < len(shown)
        climbed = time.stage == "grid" and searched.search != "grid"
        grid.add_row(
            "before and between" if time.stage == START else time.stage,
            duration(time.measured),
            _predicted(time.at_beginning, time.measured, climbed, over),
            _predicted(time.after_first_epoch, time.measured, climbed or time.stage in LATER, over),
        )
    grid.add_section()
    grid.add_row("in all", duration(sum(time.measured for time in times)))
    return grid


def _predicted(seconds: float | None, measured: float, at_most: bool, over: bool) -> str:
    if seconds is None:
        return ""
    if at_most:
        return f"≤ {duration(seconds)}"
    return duration(seconds) + (f" ({seconds / measured - 1:+.0%})" if over else "")
