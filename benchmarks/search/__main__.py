"""Compare searches on a recorded learning-rate × epoch table; nothing is trained.

python -m benchmarks.search results/friends/grid.csv --dev-size 1178
python -m benchmarks.search simulated --seeds 200
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from benchmarks import command
from benchmarks.search.comparison import (
    SIMULATED,
    SIMULATED_EXAMPLES,
    STRATEGIES,
    Comparison,
    Problem,
    compare,
    recorded,
    simulated,
)


def report(title: str, problems: Sequence[Problem], comparisons: Sequence[Comparison]) -> RenderableType:
    """A table of the comparisons, with what its columns mean."""
    columns = ("epochs", "share", "regret 50 %", "90 %", "tied")
    table = Table(
        Column("search", no_wrap=True),
        *(Column(name, justify="right", no_wrap=True) for name in columns),
        title=escape(title),
        title_justify="left",
    )
    for one in comparisons:
        regrets = (f"{100 * regret:.2f}" for regret in (one.median_regret, one.high_regret))
        table.add_row(one.search, f"{one.epochs:.1f}", f"{one.share:.0%}", *regrets, f"{one.tied:.0%}")
    errors = sorted(100 * problem.standard_error for problem in problems)
    within = " to ".join(dict.fromkeys(f"{error:.2f}" for error in (errors[0], errors[-1])))
    lines = [
        f"{len(problems)} searches of {problems[0].truth.size} cells each.",
        "epochs, share: trained on average, and their share of the grid's.",
        "regret: best true score minus the selected cell's, in points of 100; median and 90th percentile.",
        f"tied: selections within one standard error of the best true score ({within} points,",
        f"{problems[0].examples:,} dev examples).",
    ]
    if any(one.search.endswith(", cut") for one in comparisons):
        lines.append("cut: cut off at the epochs that climb spent on the same problem.")
    return Group(table, Text("\n".join(lines)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, print."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "table", metavar="TABLE", help=f"a grid.csv, a folder or stem with NAME-seedN.csv, or {SIMULATED}"
    )
    parser.add_argument(
        "--search", default="all", metavar="NAME[,NAME…]", help=f"{', '.join(STRATEGIES)}, or all with their peers"
    )
    parser.add_argument("--seeds", type=command.count, default=21, help="searches of each kind")
    parser.add_argument(
        "--budget-share", type=command.share, default=0.25, help="largest share of the grid's epochs to train"
    )
    parser.add_argument("--dev-size", type=command.count, help="dev examples behind a score")
    flags = parser.parse_args(arguments)
    names = STRATEGIES if flags.search == "all" else flags.search.split(",")
    if unknown := [name for name in names if name not in STRATEGIES]:
        parser.error(f"argument --search: no search {unknown[0]!r}: choose from {', '.join(STRATEGIES)}, or all")
    if flags.table == SIMULATED:
        problems = simulated(flags.seeds, flags.dev_size or SIMULATED_EXAMPLES)
    else:
        problems = recorded(Path(flags.table), flags.seeds, flags.dev_size)
    comparisons = compare(problems, names, flags.budget_share, peers=flags.search == "all")
    Console().print(report(flags.table, problems, list(comparisons)), highlight=False)


if __name__ == "__main__":
    command.run(main)
