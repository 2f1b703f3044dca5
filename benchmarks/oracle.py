"""What a search's bookkeeping costs, and whether it grows with the number of trials: ours and KerasTuner's.

    python -m benchmarks.oracle [--trials 10,1000,10000]

Every oracle is given so many ended trials of two epochs (without writing them), then some more in earnest: timed are
a report of an epoch (`update_trial`), and a new trial (`create_trial` and `end_trial` together), with all the files
that they write. Ours flushes each to the disk (fsync), so that a power cut loses nothing; KerasTuner does not, so that
flushing is left out but in the line that says so. Nothing is trained. Medians, in microseconds.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import keras_tuner
from rich.console import Console
from rich.table import Table

from benchmarks.command import whole_numbers
from tuners import CasualGridOracle

MEASURED = 60
FLUSHED = "ours, grid, flushed to disk"
OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")


def ours(trials: int) -> CasualGridOracle:
    """A grid of so many learning rates."""
    return CasualGridOracle(OBJECTIVE, [1e-6 * (1 + rate) for rate in range(trials + MEASURED)], 2, seed=1)


def ours_climbing(trials: int) -> CasualGridOracle:
    """So many trials in a sweep, then a climb."""
    rates = [1e-6 * 1.1**rate for rate in range(8 * MEASURED)]
    return CasualGridOracle(OBJECTIVE, rates, 2, {"level": list(range(trials))}, search="climb", seed=1, examples=1000)


def two_parameters(trials: int) -> keras_tuner.HyperParameters:
    """Two hyperparameters with enough combinations, of a short description."""
    levels = 1 + int((trials + MEASURED) ** 0.5)
    made = keras_tuner.HyperParameters()
    for name in ("learning_rate", "batch_size"):
        made.Int(name, 1, levels)
    return made


def grid_search(trials: int) -> keras_tuner.Oracle:
    """KerasTuner's GridSearch."""
    return keras_tuner.oracles.GridSearchOracle(OBJECTIVE, None, 1, two_parameters(trials))


def random_search(trials: int) -> keras_tuner.Oracle:
    """KerasTuner's RandomSearch."""
    return keras_tuner.oracles.RandomSearchOracle(OBJECTIVE, trials + MEASURED, 1, two_parameters(trials))


ORACLES: dict[str, Callable[[int], keras_tuner.Oracle]] = {
    "ours, grid": ours,
    "ours, climb after a sweep": ours_climbing,
    FLUSHED: ours,
    "KerasTuner GridSearch": grid_search,
    "KerasTuner RandomSearch": random_search,
}


def run_trial(oracle: keras_tuner.Oracle, number: int) -> tuple[float, float] | None:
    """Seconds of the reports (their mean) and of everything else of one trial; None where no trial is left."""
    began = time.perf_counter()
    trial = oracle.create_trial("tuner0")
    new = time.perf_counter() - began
    if trial.status != "RUNNING":
        return None
    began = time.perf_counter()
    for epoch in (1, 2):
        oracle.update_trial(trial.trial_id, {"val_accuracy": 0.5 + (number * 7919 % 1000) / 4000 + 1e-4 * epoch}, epoch)
    report = (time.perf_counter() - began) / 2
    began = time.perf_counter()
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    return report, new + time.perf_counter() - began


def measure(make: Callable[[int], keras_tuner.Oracle], trials: int) -> tuple[float, float]:
    """Median seconds per report and per new trial, after so many trials."""
    oracle: Any = make(trials)
    oracle.verbose = 0
    with tempfile.TemporaryDirectory() as folder:
        oracle._set_project_dir(folder, "study")
        Path(folder, "study").mkdir()
        saving = oracle._save_trial, oracle.save
        oracle._save_trial, oracle.save = (lambda trial: None), (lambda: None)
        for number in range(trials):
            run_trial(oracle, number)
        oracle._save_trial, oracle.save = saving
        found = [run_trial(oracle, number) for number in range(MEASURED)]
    timed = [one for one in found if one is not None]
    return median(report for report, _ in timed), median(new for _, new in timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=whole_numbers, default=[10, 1000, 10_000], help="as 10,1000,10000")
    asked = parser.parse_args()
    table = Table("oracle", "trials before", "µs per report", "µs per new trial")
    console = Console()
    with console.status("Measuring …"):
        for name, make in ORACLES.items():
            for trials in asked.trials:
                with nullcontext() if name == FLUSHED else patch("os.fsync"):
                    report, new = measure(make, trials)
                table.add_row(name, f"{trials:,}", f"{1e6 * report:,.0f}", f"{1e6 * new:,.0f}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
