"""How far workers help: the Friends recipe's search on 1 to 64 simulated workers, with the real oracle.

    python -m benchmarks.scaling [--figure docs/figures/scaling.png] [--csv FILE]

Nothing is trained: epochs take simulated seconds (log-normal around 10 minutes, 10 % spread, seeded by run and
epoch), and scores come from a made-up surface. What is real is the search: its barriers, its trials, its files. The
ideal is the larger of two bounds: all epochs divided by the workers, and the longest chain that no number of workers
shortens (of each stage the longest run). Oracle overhead is what the search itself takes per report, measured.
"""

import argparse
import csv
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.search.simulation import SimulatedPool
from bertgrid_tf import recipe as recipes
from bertgrid_tf.budget.plan import space
from tuners import CasualGridOracle
from tuners.parallel import ParallelSearch
from tuners.space import STAGE, SearchSpace, Value
from tuners.tuner import configuration

WORKERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
EPOCH_SECONDS = 600.0
SPREAD = 0.1


@dataclass(frozen=True)
class Measured:
    """One search on so many workers; seconds, those of the oracle real and all others simulated."""

    search: str
    workers: int
    wall: float
    ideal: float
    busy: float
    oracle_seconds_per_report: float

    @property
    def speedup(self) -> float:
        """Over one worker."""
        return self.busy / self.wall

    @property
    def of_ideal(self) -> float:
        """Share of what so many workers could do at best."""
        return self.ideal / self.wall


def draw(values: Mapping[str, Value], epoch: int) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr((sorted(values.items()), epoch)).encode()))


def seconds(values: Mapping[str, Value], epoch: int) -> float:
    return EPOCH_SECONDS * draw(values, epoch).lognormal(0, SPREAD)


def run(values: Mapping[str, Value], folder: Path) -> Iterator[dict[str, float]]:
    for epoch in range(1, int(values["stop_epoch"]) + 1):
        yield {"val_accuracy": float(draw(values, epoch).random())}


def measure(name: str, searched: SearchSpace, workers: int) -> Measured:
    oracle = CasualGridOracle.over(searched, "val_accuracy")
    oracle.verbose = 0
    pool = SimulatedPool(run, workers, seconds)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        ParallelSearch(pool, oracle, folder, "scaling").search()
        took = time.perf_counter() - began
    stages: dict[str, list[float]] = defaultdict(list)
    reports = 0
    for trial in oracle.trials.values():
        values = configuration(trial)
        epochs = range(1, int(values["stop_epoch"]) + 1)
        reports += len(epochs)
        stages[trial.hyperparameters.values[STAGE]].append(sum(seconds(values, epoch) for epoch in epochs))
    chain = sum(max(runs) for runs in stages.values())
    return Measured(name, workers, pool.clock, max(pool.busy / workers, chain), pool.busy, took / reports)


def searches() -> dict[str, SearchSpace]:
    friends = recipes.load_recipe("friends")
    return {
        "a run per row": space(friends),
        "a run per cell": space(friends.model_copy(update={"grid_schedule": "per-cell"})),
    }


def draw_figure(found: list[Measured], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for color, name in zip(("#1f6f8b", "#c8553d"), dict.fromkeys(one.search for one in found), strict=True):
        rows = [one for one in found if one.search == name]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, help="PNG to draw (needs matplotlib)")
    parser.add_argument("--csv", type=Path, help="file for the numbers")
    asked = parser.parse_args()
    found = [measure(name, searched, workers) for name, searched in searches().items() for workers in WORKERS]
    table = Table("7 × 10 grid", "workers", "hours", "ideal", "of ideal", "speed-up", "oracle per report")
    for one in found:
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
    overhead = median(one.oracle_seconds_per_report for one in found)
    console.print(f"Median oracle overhead per report: {1e3 * overhead:.1f} ms.")
    if asked.csv:
        with asked.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["search", "workers", "wall_s", "ideal_s", "oracle_s_per_report"])
            writer.writerows(
                [one.search, one.workers, one.wall, one.ideal, one.oracle_seconds_per_report] for one in found
            )
    if asked.figure:
        draw_figure(found, asked.figure)
        console.print(f"Drawn in {asked.figure}.")


if __name__ == "__main__":
    sys.exit(main())
