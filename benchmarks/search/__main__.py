"""Compare searches on a bank of recorded tables, each without those of its own task or source; nothing is trained.

    python -m benchmarks.search
    python -m benchmarks.search ~/.cache/bertgrid-tf/bank --table study-1f0c7a2b9d3e --share 0.3 --unlike

The bank is the package's, with the tables of further folders. Every table is searched from every row as the start, with
every seed of the table and `--seeds` seeds of the search. `surface` knows the tables of the other tasks, weighed by the
size of their checkpoint; with --unlike only those of checkpoints of other sizes. Every other search is cut off at the
epochs that `surface` spent on the same problem.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from benchmarks import command
from benchmarks.search.comparison import Problem, trained_epochs
from benchmarks.search.peers import Peer, peers, train_rows
from benchmarks.search.simulation import simulate_search
from benchmarks.suggest import task_of
from bertgrid_tf.bank.studies import SHIPPED, RecordedStudy, read_studies
from bertgrid_tf.bank.surfaces import full_tables, weigh
from tuners.space import SearchSpace
from tuners.strategies import Genetic, ObservedTrial, RecordedTable, SearchState, Surface

SUGGESTED, GENETIC = "suggested rows", "genetic"
RESAMPLES = 2000
"""Bootstrap samples of the tasks behind an interval."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the searches of one kind reached on one task.

    Attributes:
        shares: Share of the grid's epochs that each search trained, float64 [searches].
        regrets: Simple regret of each, a fraction, float64 [searches].
        tied: Whether its selection is within one standard error of the best, bool [searches].
    """

    shares: npt.NDArray[np.float64]
    regrets: npt.NDArray[np.float64]
    tied: npt.NDArray[np.bool_]


def problems(table: RecordedStudy, seeds: int) -> Iterator[Problem]:
    """Yield a table with every row as the start, every seed of the table, and as many seeds of the search."""
    rates, epochs = [float(rate) for rate in table.rates], table.scores.shape[2]
    truth = np.nan_to_num(table.mean, nan=-np.inf)
    assert table.card.dev_texts is not None
    for number, (start, observed, _) in enumerate(product(rates, table.scores, range(seeds)), start=1):
        space = SearchSpace.of(rates, epochs, start={"learning_rate": start})
        yield Problem(space, observed, truth, table.card.dev_texts, number)


def suggested_rows(tables: Sequence[RecordedTable]) -> Peer:
    """Return a search that trains whole rows, the best first on the mean of the tables by their weights."""

    def search(
        space: SearchSpace, curve: Callable[[float], Sequence[float]], seed: int, budget: int
    ) -> list[ObservedTrial]:
        octaves, expected = np.log2(space.learning_rates), np.zeros(len(space.learning_rates))
        for table in tables:
            order, best = np.argsort(table.rates), np.nan_to_num(table.scores, nan=table.baseline).max(axis=1)
            shares = (best - table.baseline) / max(float(best.max()) - table.baseline, 1e-9)
            expected += table.weight * np.interp(octaves, np.log2(table.rates[order]), shares[order])
        ranked = sorted(range(len(expected)), key=lambda row: -expected[row])
        return train_rows([space.learning_rates[row] for row in ranked], space, curve, budget)

    return search


def genetic(
    space: SearchSpace, curve: Callable[[float], Sequence[float]], seed: int, budget: int
) -> list[ObservedTrial]:
    """Search with the package's genetic algorithm."""
    return simulate_search(Genetic(1.0), space, curve, seed, budget)


def evaluate(
    bank: Sequence[RecordedStudy],
    names: Sequence[str],
    share: float,
    seeds: int,
    unlike: bool,
    tables: Sequence[str] = (),
) -> tuple[dict[str, dict[str, Outcome]], npt.NDArray[np.float64]]:
    """Run every search on every task of the bank with four rows or more.

    Args:
        bank: The recorded tables.
        names: Searches beside `surface`.
        share: Largest share of the grid's epochs.
        seeds: Seeds of the search.
        unlike: Whether tables of checkpoints of the same size are left out too.
        tables: Names of the tables to search; none for all.

    Returns:
        The outcomes by search and task, and for every search of `surface` the probability of being tied that it states
        and whether it is, float64 [searches, 2].
    """
    rows: dict[str, dict[str, list[tuple[float, float, bool]]]] = {}
    stated = []
    for table in bank:
        card = table.card
        if len(table.rates) < 4 or not card.dev_texts or not card.layers or not card.width:
            continue
        if tables and table.name not in tables:
            continue
        others = [
            other
            for other in bank
            if task_of(other) != task_of(table)
            and not (unlike and (other.card.layers, other.card.width) == (card.layers, card.width))
        ]
        known = weigh(others, card.layers, card.width)
        searches: dict[str, Peer] = {SUGGESTED: suggested_rows(known), GENETIC: genetic, **peers()}
        for problem in problems(table, seeds):
            surface = Surface(share, problem.examples, known)
            found = {"surface": simulate_search(surface, problem.space, problem.curve, problem.seed)}
            budget = trained_epochs(found["surface"])
            for name in names:
                found[name] = searches[name](problem.space, problem.curve, problem.seed, budget)
            for name, trials in found.items():
                regret = problem.regret(trials)
                outcome = trained_epochs(trials) / problem.truth.size, regret, regret <= problem.standard_error
                rows.setdefault(name, {}).setdefault(card.task, []).append(outcome)
            state = SearchState(problem.space, problem.space.start, found["surface"], problem.seed)
            stated.append((surface.tied_probability(state), rows["surface"][card.task][-1][2]))
    outcomes = {
        name: {
            task: Outcome(*(np.array(column) for column in zip(*found, strict=True))) for task, found in tasks.items()
        }
        for name, tasks in rows.items()
    }
    return outcomes, np.array(stated, dtype=np.float64)


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of the tasks' values, float64 [tasks], by bootstrap over tasks."""
    drawn = np.random.default_rng(1).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def report(
    outcomes: dict[str, dict[str, Outcome]], stated: npt.NDArray[np.float64], bank: Sequence[RecordedStudy]
) -> RenderableType:
    """A table of the means over tasks with intervals, and one of the tasks."""
    names = ("search", "share", "regret: median", "mean", "90 %", "tied", "regret − surface's, mean")
    means = Table(*(Column(name, justify="left" if name == "search" else "right") for name in names))
    own = {task: float(outcome.regrets.mean()) for task, outcome in outcomes["surface"].items()}
    for name, tasks in outcomes.items():
        regrets = np.concatenate([outcome.regrets for outcome in tasks.values()])
        tied = np.array([outcome.tied.mean() for outcome in tasks.values()])
        mean = np.array([min(float(outcome.regrets.mean()), 1.0) for outcome in tasks.values()])
        behind = mean - np.array([own[task] for task in tasks])
        cells = [
            f"{np.mean([outcome.shares.mean() for outcome in tasks.values()]):.1%}",
            f"{100 * np.median([np.median(outcome.regrets) for outcome in tasks.values()]):.2f}",
            _with_interval(100 * mean, "{:.2f}"),
            f"{100 * float(np.quantile(regrets, 0.9, method='higher')):.2f}",
            _with_interval(100 * tied, "{:.0f} %"),
            "" if name == "surface" else _with_interval(100 * behind, "{:+.2f}"),
        ]
        means.add_row(name, *cells)
    seeds = {
        table.card.task: min(len(one.scores) for one in bank if one.card.task == table.card.task) for table in bank
    }
    by_task = Table("task", *(Column(name, justify="right") for name in outcomes))
    for task in outcomes["surface"]:
        found = [outcomes[name][task] for name in outcomes]
        cells = [f"{100 * np.median(one.regrets):.2f} {one.tied.mean():.0%}" for one in found]
        by_task.add_row(f"{task}{'' if seeds[task] > 1 else ' *'}", *cells)
    lines = [
        "Regrets in points of 100; means over tasks with 95 % intervals (bootstrap over tasks); by task the median",
        "regret and the share of searches that are tied with the best cell. * with a table of one seed, whose noise",
        "is in the truth.",
        f"surface states {stated[:, 0].mean():.0%} for being tied on average, and is in {stated[:, 1].mean():.0%}.",
    ]
    return Group(means, by_task, Text("\n".join(lines)))


def _with_interval(values: npt.NDArray[np.float64], form: str) -> str:
    low, high = interval(values)
    return f"{form.format(values.mean())} ({form.format(low)} to {form.format(high)})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, print."""
    known = [SUGGESTED, *peers(), GENETIC]
    parser = argparse.ArgumentParser(
        "python -m benchmarks.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", type=Path, nargs="*", help="further tables: NAME.json and NAME-seedN.csv")
    parser.add_argument("--table", action="append", default=[], help="name of one to search, repeatable; default all")
    parser.add_argument(
        "--search", action="append", metavar="NAME", choices=known, help=f"repeatable; default all: {'; '.join(known)}"
    )
    parser.add_argument("--share", type=command.share, default=0.15, help="largest share of the grid's epochs")
    parser.add_argument("--seeds", type=command.count, default=1, help="seeds of a search")
    parser.add_argument("--unlike", action="store_true", help="leave out tables of checkpoints of the same size too")
    flags = parser.parse_args(arguments)
    for folder in flags.folders:
        if not read_studies(folder):
            parser.error(f"argument folders: {folder} holds no NAME.json of a recorded table")
    bank = full_tables(study for folder in (SHIPPED, *flags.folders) for study in read_studies(folder))
    names = [table.name for table in bank]
    if unknown := [name for name in flags.table if name not in names]:
        parser.error(f"argument --table: {unknown[0]!r} is no full table: choose from {', '.join(names)}")
    settings = (flags.share, flags.seeds, flags.unlike, flags.table)
    outcomes, stated = evaluate(bank, flags.search or known, *settings)
    Console().print(report(outcomes, stated, bank), highlight=False)


if __name__ == "__main__":
    command.run(main)
