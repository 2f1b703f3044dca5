"""Simulate the Friends recipe's search on 1 to 64 workers, with the real oracle.

    python -m benchmarks.scaling [--figure docs/figures/scaling.png] [--csv FILE]

Nothing is trained: epochs take simulated seconds (log-normal around 10 minutes, 10 % spread, seeded by trial and
epoch), and scores are random. Real are the search's barriers, trials and files. The ideal is the larger of two bounds:
all epochs divided by the workers, and the longest chain that no number of workers shortens (of each stage the longest
trial). Oracle overhead is the measured time of the search itself per report.
"""

import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import command
from benchmarks.search.simulation import SimulatedPool
from bertgrid_tf.budget.plan import search_space
from bertgrid_tf.recipe import load_recipe
from bertgrid_tf.storage.files import write_table
from tuners import CasualGridOracle
from tuners.parallel import ParallelSearch
from tuners.space import STAGE, SearchSpace, Value
from tuners.tuner import configuration

WORKERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
EPOCH_SECONDS = 600.0
SPREAD = 0.1


@dataclass(frozen=True)
class Measurement:
    """One search on a number of workers, in seconds; those of the oracle are real, all others simulated."""

    search: str
    workers: int
    wall: float
    ideal: float
    busy: float
    oracle_seconds_per_report: float

    @property
    def speedup(self) -> float:
        """Speed-up over one worker."""
        return self.busy / self.wall

    @property
    def of_ideal(self) -> float:
        """Share of the ideal speed-up."""
        return self.ideal / self.wall


def draw(hyperparameters: Mapping[str, Value], epoch: int) -> np.random.Generator:
    """Make the random generator of an epoch."""
    return np.random.default_rng(zlib.crc32(repr((sorted(hyperparameters.items()), epoch)).encode()))


def seconds(hyperparameters: Mapping[str, Value], epoch: int) -> float:
    """Draw the seconds of an epoch."""
    return EPOCH_SECONDS * draw(hyperparameters, epoch).lognormal(0, SPREAD)


def train(hyperparameters: Mapping[str, Value], folder: Path) -> Iterator[dict[str, float]]:
    """Yield random scores."""
    for epoch in range(1, int(hyperparameters["stop_epoch"]) + 1):
        yield {"val_accuracy": float(draw(hyperparameters, epoch).random())}


def measure(name: str, searched: SearchSpace, workers: int) -> Measurement:
    """Run a search on simulated workers."""
    oracle = CasualGridOracle.over(searched, "val_accuracy")
    oracle.verbose = 0
    pool = SimulatedPool(train, workers, seconds)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        ParallelSearch(pool, oracle, folder, "scaling").search()
        took = time.perf_counter() - began
    stages: dict[str, list[float]] = defaultdict(list)
    reports = 0
    for trial in oracle.trials.values():
        hyperparameters = configuration(trial)
        epochs = range(1, int(hyperparameters["stop_epoch"]) + 1)
        reports += len(epochs)
        stages[trial.hyperparameters.values[STAGE]].append(sum(seconds(hyperparameters, epoch) for epoch in epochs))
    chain = sum(max(trials) for trials in stages.values())
    return Measurement(name, workers, pool.clock, max(pool.busy / workers, chain), pool.busy, took / reports)


def searches() -> dict[str, SearchSpace]:
    """Return the Friends search space with both kinds of grid."""
    friends = load_recipe("friends")
    return {
        "a trial per row": search_space(friends),
        "a trial per cell": search_space(friends.model_copy(update={"grid_schedule": "per-cell"})),
    }


def draw_figure(measured: list[Measurement], path: Path) -> None:
    """Draw hours over workers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for color, name in zip(("#1f6f8b", "#c8553d"), dict.fromkeys(one.search for one in measured), strict=True):
        rows = [one for one in measured if one.search == name]
        workers = [one.workers for one in rows]
        axes.plot(workers, [one.wall / 3600 for one in rows], "o-", color=color, label=name)
        axes.plot(workers, [one.ideal / 3600 for one in rows], "--", color=color, alpha=0.6, label="ideal")
    axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="hours (simulated epochs of 10 minutes)")
    axes.set_xticks(WORKERS, [str(count) for count in WORKERS])
    axes.minorticks_off()
    axes.set_yticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = command.parser(__doc__, csv="file for the numbers", trains=False)
    parser.add_argument("--figure", type=Path, help="PNG to draw (needs matplotlib)")
    flags = parser.parse_args()
    measured = [measure(name, searched, workers) for name, searched in searches().items() for workers in WORKERS]
    table = Table("7 × 10 grid", "workers", "hours", "ideal", "of ideal", "speed-up", "oracle per report")
    for one in measured:
        table.add_row(
            one.search,
            str(one.workers),
            f"{one.wall / 3600:.2f}",
            f"{one.ideal / 3600:.2f}",
            f"{one.of_ideal:.0%}",
            f"{one.speedup:.2f}",
            f"{1e3 * one.oracle_seconds_per_report:.1f} ms",
        )
    console = Console()
    console.print(table)
    overhead = median(one.oracle_seconds_per_report for one in measured)
    console.print(f"Median oracle overhead per report: {1e3 * overhead:.1f} ms.")
    if flags.csv:
        write_table(flags.csv, pd.DataFrame(measured))
    if flags.figure:
        draw_figure(measured, flags.figure)
        console.print(f"Drawn in {flags.figure}.")


if __name__ == "__main__":
    command.run(main)
