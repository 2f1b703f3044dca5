"""Measure the cost of a search's bookkeeping, and its growth with the number of trials: ours and KerasTuner's.

    python -m benchmarks.oracle [--trials 10,1000,10000]

Every oracle is given a number of ended trials of two epochs (without writing them), then 60 more: timed are
a report of an epoch (`update_trial`), and a new trial (`create_trial` and `end_trial` together), with all the files
that they write. Ours flushes each to the disk (fsync), so that a power cut loses nothing; KerasTuner does not, so that
flushing is left out of every line but one. Nothing is trained. Medians, in microseconds.
"""

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

from benchmarks import command
from tuners import CasualGridOracle

MEASURED = 60
FLUSHED = "ours, grid, flushed to disk"
OBJECTIVE = keras_tuner.Objective("val_accuracy", "max")


def ours(trials: int) -> CasualGridOracle:
    """Make an oracle whose trials are the rows of a grid."""
    return CasualGridOracle(OBJECTIVE, [1e-6 * (1 + rate) for rate in range(trials + MEASURED)], 2, seed=1)


def two_parameters(trials: int) -> keras_tuner.HyperParameters:
    """Declare two hyperparameters with enough combinations, and a short description."""
    levels = 1 + int((trials + MEASURED) ** 0.5)
    made = keras_tuner.HyperParameters()
    for name in ("learning_rate", "batch_size"):
        made.Int(name, 1, levels)
    return made


def grid_search(trials: int) -> keras_tuner.Oracle:
    """Make KerasTuner's GridSearch."""
    return keras_tuner.oracles.GridSearchOracle(OBJECTIVE, None, 1, two_parameters(trials))


def random_search(trials: int) -> keras_tuner.Oracle:
    """Make KerasTuner's RandomSearch."""
    return keras_tuner.oracles.RandomSearchOracle(OBJECTIVE, trials + MEASURED, 1, two_parameters(trials))


ORACLES: dict[str, Callable[[int], keras_tuner.Oracle]] = {
    "ours, grid": ours,
    FLUSHED: ours,
    "KerasTuner GridSearch": grid_search,
    "KerasTuner RandomSearch": random_search,
}


def run_trial(oracle: keras_tuner.Oracle, number: int) -> tuple[float, float] | None:
    """Return the mean seconds of a trial's reports, and the seconds of the rest; None where no trial is left."""
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
    """Return the median seconds per report and per new trial, after a number of trials."""
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
        measured = [run_trial(oracle, number) for number in range(MEASURED)]
    timed = [one for one in measured if one is not None]
    return median(report for report, _ in timed), median(new for _, new in timed)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = command.parser(__doc__, trains=False)
    parser.add_argument("--trials", type=command.whole_numbers, default=[10, 1000, 10_000], help="as 10,1000,10000")
    flags = parser.parse_args()
    table = Table("oracle", "trials before", "µs per report", "µs per new trial")
    console = Console()
    with console.status("Measuring …"):
        for name, make in ORACLES.items():
            for trials in flags.trials:
                with nullcontext() if name == FLUSHED else patch("os.fsync"):
                    report, new = measure(make, trials)
                table.add_row(name, f"{trials:,}", f"{1e6 * report:,.0f}", f"{1e6 * new:,.0f}")
    console.print(table)


if __name__ == "__main__":
    command.run(main)
