"""What a trial costs beside its steps, and whether memory grows from trial to trial.

    python -m benchmarks.overhead --model DIR [--max-train-samples 256] [--trials 50] [--csv FILE]

So many learning rates are trained for one epoch of a few steps each: by bertgrid-tf, which puts one built model back,
and by KerasTuner's GridSearch as its guide shows it, which builds one for every trial. Overhead is the time from a
trial's last step to the next one's first: scoring on dev (as small a part of it as train's), saving, the search's own
work, building, tracing. Memory is what the process has resident after a trial's last step; the first trials, in
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
from benchmarks.layout import limit_dev, padded
from bertgrid_tf.data import data_dirs
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.system.host import readable

SINCE = 5
DEV_UTTERANCES = 32


@dataclass(frozen=True)
class Trials:
    """What was seen of one contender; as in `contenders.steps`."""

    ends: list[list[float]]
    resident: list[int]


def play(module: str, asked: Mapping[str, Any], folder: Path) -> Trials:
    with Process(module, "tensorflow", asked, folder / f"{module}.log") as process:
        reply = process.play()
    return Trials(reply["ends"], reply["resident"])


def main() -> None:
    parser = command.parser(__doc__)
    parser.set_defaults(max_train_samples=256)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--csv", type=Path, help="file for every trial")
    flags = parser.parse_args()
    # So low that no trial diverges, and no two alike.
    rates = [float(f"{rate:.6g}") for rate in np.geomspace(1e-6, 1e-5, flags.trials)]
    recipe = command.friends(flags, context="current+previous", learning_rates=rates, epochs=1)
    corpus = limit_dev(command.corpus(flags, recipe), DEV_UTTERANCES, recipe.seed)

    found: dict[str, Trials] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = {
            "recipe": recipe.model_dump(mode="json"),
            "data_dirs": [str(directory) for directory in data_dirs(flags.data_dir)],
            "dev_utterances": DEV_UTTERANCES,
            "folder": name,
        }
        theirs: dict[str, Any] = {
            "model": recipe.hyperparameters.model,
            "classes": len(corpus.labels),
            "learning_rates": rates,
            "epochs": 1,
            "per_cell": False,
            "batch_size": recipe.hyperparameters.batch_size,
            "folder": name,
        }
        for split in ("train", "dev"):
            theirs[split] = str(folder / f"{split}.npz")
            padded(corpus, recipe.hyperparameters, split).save(folder / f"{split}.npz")
        for contender, module, asked in (
            ("bertgrid-tf", "ours_trials", ours),
            ("KerasTuner, model per trial", "keras_tuner_trials", theirs),
        ):
            found[contender] = play(module, asked, folder)
            print(f"{contender}: {len(found[contender].ends)} trials", flush=True)

    table = Table(
        f"{flags.trials} trials",
        "step",
        "overhead, median",
        "longest",
        f"memory after trial {SINCE}",
        f"after trial {flags.trials}",
        "growth",
    )
    for contender, seen in found.items():
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
    console.print(f"{command.machine()}; {command.versions()}")
    if flags.csv:
        rows = [
            {"name": contender, "trial": number, "overhead_s": overhead, "resident_bytes": memory}
            for contender, seen in found.items()
            for number, (overhead, memory) in enumerate(
                zip([float("nan"), *overheads(seen.ends)], seen.resident, strict=True), start=1
            )
        ]
        write_table(flags.csv, pd.DataFrame(rows))


if __name__ == "__main__":
    command.run(main)
