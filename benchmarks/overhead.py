"""Measure the cost of a trial beside its steps, and the growth of memory from trial to trial.

    python -m benchmarks.overhead --model DIR [--max-train-samples 256] [--trials 50] [--csv FILE]

Each learning rate is trained for one epoch of a few steps: by bertgrid-tf, which puts one built model back,
and by KerasTuner's GridSearch as its guide shows it, which builds one for every trial. Overhead is the time from a
trial's last step to the next one's first: scoring on dev (as small a part of it as train's), saving, the search's own
work, building, tracing. Memory is the resident memory of the process after a trial's last step; the first trials, in
which pools fill, do not count.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import command
from benchmarks.contenders.process import Process
from benchmarks.contenders.steps import growth, overheads, step_seconds
from benchmarks.layout import limit_splits, our_request, their_request
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.system.host import readable

SINCE = 5
DEV_UTTERANCES = 32


@dataclass(frozen=True)
class Trials:
    """Steps of one contender, as in `contenders.steps`."""

    ends: list[list[float]]
    resident: list[int]


def play(module: str, request: Mapping[str, Any], folder: Path) -> Trials:
    """Run a contender's search."""
    with Process(module, "tensorflow", request, folder / f"{module}.log") as process:
        reply = process.play()
    return Trials(reply["ends"], reply["resident"])


def main() -> None:
    """Parse the command line, measure, print."""
    parser = command.parser(__doc__, csv="file for every trial")
    parser.set_defaults(max_train_samples=256)
    parser.add_argument("--trials", type=int, default=50)
    flags = parser.parse_args()
    # So low that no trial diverges, and no two alike.
    rates = [float(f"{rate:.6g}") for rate in np.geomspace(1e-6, 1e-5, flags.trials)]
    recipe = command.friends(flags, context="current+previous", learning_rates=rates, epochs=1)
    corpus = limit_splits(command.corpus(flags, recipe), DEV_UTTERANCES, recipe.seed)

    measured: dict[str, Trials] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = our_request(flags, recipe, folder) | {"dev_utterances": DEV_UTTERANCES, "record": "steps"}
        theirs = their_request(recipe, corpus, folder) | {"learning_rates": rates, "epochs": 1, "search": "per-rate"}
        for contender, module, request in (
            ("bertgrid-tf", "ours_study", ours),
            ("KerasTuner, model per trial", "keras_tuner_trials", theirs),
        ):
            measured[contender] = play(module, request, folder)
            print(f"{contender}: {len(measured[contender].ends)} trials", flush=True)

    table = Table(
        f"{flags.trials} trials",
        "step",
        "overhead, median",
        "longest",
        f"memory after trial {SINCE}",
        f"after trial {flags.trials}",
        "growth",
    )
    for contender, seen in measured.items():
        between = overheads(seen.ends)
        table.add_row(
            contender,
            f"{step_seconds(seen.ends):.3f} s",
            f"{median(between):.2f} s",
            f"{max(between):.2f} s",
            readable(seen.resident[SINCE - 1]),
            readable(seen.resident[-1]),
            f"{growth(seen.resident, SINCE):+.1%}",
        )
    console = Console(width=140)
    console.print(table)
    command.print_system(console)
    if flags.csv:
        rows = [
            {"name": contender, "trial": number, "overhead_s": overhead, "resident_bytes": memory}
            for contender, seen in measured.items()
            for number, (overhead, memory) in enumerate(
                zip([float("nan"), *overheads(seen.ends)], seen.resident, strict=True), start=1
            )
        ]
        write_table(flags.csv, pd.DataFrame(rows))


if __name__ == "__main__":
    command.run(main)
