"""Searches compared, on the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from bertgrid_tf.replay import Case, Measured


def replay_table(title: str, cases: Sequence[Case], found: Sequence[Measured]) -> RenderableType:
    """What each search spent and missed, and what the columns mean.

    Args:
        title: The table that was replayed.
        cases: What was searched.
        found: The searches in the order to be shown.
    """
    columns = ("epochs", "share", "regret 50 %", "90 %", "tied")
    grid = Table(
        Column("search", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in columns),
        title=escape(title),
        title_justify="left",
    )
    for one in found:
        regrets = (f"{100 * regret:.2f}" for regret in (one.median_regret, one.high_regret))
        grid.add_row(one.search, f"{one.epochs:.1f}", f"{one.share:.0%}", *regrets, f"{one.tied:.0%}")
    ties = sorted(100 * case.tie for case in cases)
    within = f"{ties[0]:.2f}" if ties[-1] - ties[0] < 0.005 else f"{ties[0]:.2f} to {ties[-1]:.2f}"
    lines = [
        f"{len(cases)} searches of {cases[0].truth.size} cells each.",
        "epochs, share: trained on average, and their share of the grid's.",
        "regret: what the picked cell's true score lacks to the best true score, in points of 100; median and 90th",
        "percentile. A recorded table's true scores are the means over its seeds.",
        f"tied: picks within one standard error of the best true score ({within} points,",
        f"{cases[0].examples:,} dev examples).",
    ]
    if any(one.cut_off for one in found):
        lines += ["cut: searches without a budget and other people's, cut off at what climb spent in the same case."]
    return Group(grid, Text("\n".join(lines)))
