r"""Measure the time of the learning-rate × epoch grid: bertgrid-tf, KerasTuner and Optuna fill the same cells.

    python -m benchmarks.grid --model DIR --max-train-samples 1600 --learning-rates 2e-4,1e-4,5e-5 --epochs 4 \
        [--csv FILE]

Contenders, one after another, each in a process of its own:

* KerasTuner's GridSearch as its guide shows it, a trial per cell: the model is built anew, trained for that many epochs
  on texts padded to the maximum length, and validated after each;
* the same with one trial of all epochs per learning rate, whose history has the cells: kinder than the usual way;
* Optuna's GridSampler over Hugging Face's Trainer in PyTorch, a trial per cell, dynamic padding;
* bertgrid-tf in fp32 and bf16, saving after every epoch.

Dev is limited to the share that train is limited to. Then the time is extrapolated to 7 × 10 cells and all of Friends:

    seconds = start + trials × setup + epochs × epoch × texts

with the three costs as measured. As a check, the costs measured at the first learning rate alone (a grid of one row)
predict the time of the whole grid.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import command
from benchmarks.contenders.process import Contender
from benchmarks.contenders.trials import Cost, Trial, epochs_of_cells, trials_of
from benchmarks.layout import limit_splits, our_request, their_request
from bertgrid_tf.corpus import Corpus, utterances
from bertgrid_tf.report.format import duration
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.system.host import readable

BASELINE, KINDER = "KerasTuner, trial per cell", "KerasTuner, trial per learning rate"
FULL_RATES, FULL_EPOCHS = 7, 10


@dataclass(frozen=True)
class Searched:
    """Time and memory of a search.

    Attributes:
        wall: Seconds from the start of its process to the end of the search.
        trials: Trials in their order.
        peak_bytes: Peak resident memory of its process.
    """

    name: str
    wall: float
    trials: tuple[Trial, ...]
    peak_bytes: int

    @property
    def epochs(self) -> int:
        """Number of epochs trained."""
        return sum(len(trial.epochs) for trial in self.trials)

    @property
    def start(self) -> float:
        """Seconds before the first trial."""
        return self.wall - sum(trial.seconds for trial in self.trials)

    def cost(self, learning_rate: float | None = None) -> Cost:
        """Estimate the cost from all trials, or from those of one learning rate."""
        seen = [trial for trial in self.trials if learning_rate in (None, trial.learning_rate)]
        return Cost.of(self.start, seen)

    def best(self) -> tuple[float, float, int]:
        """Return the best cell's accuracy, learning rate and epoch; of equal cells that of fewer epochs."""
        cells = [
            (accuracy, -epoch, trial.learning_rate)
            for trial in self.trials
            for epoch, accuracy in enumerate(trial.accuracy, start=1)
        ]
        accuracy, epoch, rate = max(cells)
        return accuracy, rate, -epoch


def search(contender: Contender, folder: Path) -> Searched:
    """Run a contender's whole search."""
    began = time.perf_counter()
    with contender.process(folder / f"{contender.module}.log") as process:
        reply = process.play()
        wall = time.perf_counter() - began
    return Searched(contender.name, wall, tuple(trials_of(reply)), reply["peak_bytes"])


def full_size(name: str) -> tuple[int, int]:
    """Return the trials and epochs of a contender on 7 × 10 cells."""
    cells = FULL_RATES * FULL_EPOCHS
    return (cells, epochs_of_cells(FULL_RATES, FULL_EPOCHS)) if "per cell" in name else (FULL_RATES, cells)


def contenders(flags: Any, corpus: Corpus, folder: Path) -> list[Contender]:
    """List the contenders, with the texts that the other libraries need written into the folder."""
    grid = {"learning_rates": flags.learning_rates, "epochs": flags.epochs}
    recipe = command.friends(flags, context="current+previous", **grid)
    theirs = (
        their_request(recipe, corpus, folder) | grid | {"precision": "fp32", "padding": "dynamic", "seed": recipe.seed}
    )
    dev_utterances = len(list(utterances(corpus.splits["dev"])))
    made = [
        Contender(BASELINE, "keras_tuner_search", "tensorflow", {**theirs, "search": "per-cell"}),
        Contender("Optuna + Trainer, trial per cell", "optuna_search", "torch", {**theirs, "search": "grid"}),
        Contender(KINDER, "keras_tuner_search", "tensorflow", {**theirs, "search": "per-rate"}),
    ]
    for precision in ("fp32", "bf16"):
        changed = command.friends(flags, context="current+previous", precision=precision, **grid)
        ours = our_request(flags, changed, folder) | {"dev_utterances": dev_utterances, "record": "epochs"}
        made.append(Contender(f"bertgrid-tf, {precision}", "ours_study", "tensorflow", ours))
    return made


def show_measured(console: Console, searches: Mapping[str, Searched], size: str) -> None:
    """Print the measurements."""
    table = Table(size, "trials", "epochs", "wall", "× sooner", "than kinder", "peak memory", "best cell")
    for name, one in searches.items():
        accuracy, rate, epoch = one.best()
        table.add_row(
            name,
            str(len(one.trials)),
            str(one.epochs),
            duration(one.wall),
            f"{searches[BASELINE].wall / one.wall:.1f}",
            f"{searches[KINDER].wall / one.wall:.1f}",
            readable(one.peak_bytes),
            f"{rate:g}, epoch {epoch}: {100 * accuracy:.2f} %",
        )
    console.print(table)


def show_extrapolated(console: Console, searches: Mapping[str, Searched], texts: float, first_rate: float) -> None:
    """Print the extrapolation to 7 × 10 cells and all texts."""
    table = Table(
        f"{FULL_RATES} × {FULL_EPOCHS}, {texts:.1f} × the texts",
        "start s",
        "setup s",
        "epoch s",
        "trials",
        "epochs",
        "hours",
        "× sooner",
        "than kinder",
        "check: predicted / seen",
    )
    sizes = {name: full_size(name) for name in searches}
    costs = {name: one.cost() for name, one in searches.items()}
    hours = {name: costs[name].seconds(*size, texts) / 3600 for name, size in sizes.items()}
    for name, (trials, epochs) in sizes.items():
        one, cost = searches[name], costs[name]
        table.add_row(
            name,
            f"{cost.start:.1f}",
            f"{cost.setup:.1f}",
            f"{cost.epoch:.1f}",
            str(trials),
            str(epochs),
            f"{hours[name]:.2f}",
            f"{hours[BASELINE] / hours[name]:.1f}",
            f"{hours[KINDER] / hours[name]:.1f}",
            f"{one.cost(first_rate).seconds(len(one.trials), one.epochs) / one.wall:.2f}",
        )
    console.print("seconds = start + trials × setup + epochs × epoch × texts")
    console.print(table)


def every_trial(searches: Mapping[str, Searched]) -> pd.DataFrame:
    """Return a row for every trial of every contender."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "wall": one.wall,
                "peak_bytes": one.peak_bytes,
                "trial": number,
                "learning_rate": trial.learning_rate,
                "epochs": len(trial.epochs),
                "seconds": trial.seconds,
                "epoch_seconds": sum(trial.epochs),
                "best_accuracy": max(trial.accuracy),
            }
            for name, one in searches.items()
            for number, trial in enumerate(one.trials, start=1)
        ]
    )


def main() -> None:
    """Parse the command line, search, print."""
    parser = command.parser(__doc__, csv="file for every trial")
    command.add_grid(parser)
    flags = parser.parse_args()
    command.require("torch", "accelerate", "optuna")
    recipe = command.friends(flags, context="current+previous")
    corpus = command.corpus(flags, recipe)
    whole = command.corpus(flags, recipe.model_copy(update={"max_train_samples": None}))
    counts = [len(list(utterances(one.splits["train"]))) for one in (whole, corpus)]
    texts = counts[0] / counts[1]
    corpus = limit_splits(corpus, round(len(list(utterances(corpus.splits["dev"]))) / texts), recipe.seed)

    searches: dict[str, Searched] = {}
    with tempfile.TemporaryDirectory() as folder:
        for contender in contenders(flags, corpus, Path(folder)):
            one = searches[contender.name] = search(contender, Path(folder))
            print(f"{one.name}: {duration(one.wall)}, {len(one.trials)} trials, {one.epochs} epochs", flush=True)
            if flags.csv:
                write_table(flags.csv, every_trial(searches))
    console = Console(width=160)
    size = f"{len(flags.learning_rates)} × {flags.epochs}, {counts[1]} texts"
    show_measured(console, searches, size)
    show_extrapolated(console, searches, texts, flags.learning_rates[0])
    command.print_system(console)


if __name__ == "__main__":
    command.run(main)
