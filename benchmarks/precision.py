"""Whether bf16 costs accuracy: the same runs of Friends in fp32 and bf16, seed by seed.

    python -m benchmarks.precision --model DIR --set learning_rate=1e-4 --epochs 4 --seeds 1,2,3,4,5 --work DIR \\
        [--max-train-samples 2000] [--csv FILE]

A killed benchmark goes on in its work folder where it was. The settings are compared as the studies' own are
(`bertgrid_tf.metrics.compare`), after the last epoch; the runs share their seeds, and each seed's difference is shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import command
from benchmarks.paired import Interval, interval
from benchmarks.work import TimeLeft, Work
from bertgrid_tf.metrics.compare import difference
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.storage.files import write_table

PRECISIONS = ("fp32", "bf16")
METRICS = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class StudyScores:
    """The dev scores after one epoch of one run, as fractions of 1."""

    seed: int
    precision: str
    epoch: int
    accuracy: float
    macro_f1: float
    loss: float
    seconds: float


def run_name(seed: int, precision: str) -> str:
    return f"seed{seed}-{precision}"


def train(work: Work, seeds: Sequence[int]) -> Iterator[StudyScores]:
    """Every seed in both precisions; the order turns from seed to seed, so that few models are built."""
    for index, seed in enumerate(seeds):
        for precision in PRECISIONS if index % 2 == 0 else PRECISIONS[::-1]:
            for epoch, found in enumerate(work.train(run_name(seed, precision), seed, precision=precision), start=1):
                scores = (found["accuracy"], found["macro_f1"], found["loss"], found["seconds"])
                yield StudyScores(seed, precision, epoch, *scores)


def differences(found: pd.DataFrame, metric: str) -> pd.DataFrame:
    """bf16 less fp32 in points (percent of 1), by seed (rows) and epoch (columns); a seed of which one run diverged is
    left out."""
    first, second = (
        found[found["precision"] == precision].pivot(index="seed", columns="epoch", values=metric)
        for precision in PRECISIONS
    )
    return (100 * (second - first)).dropna(how="any")


def points(found: Interval) -> str:
    if isnan(found.low):
        return f"{found.mean:+.2f}"
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def show(console: Console, found: pd.DataFrame, metric: str, epochs: int) -> None:
    shown = Table(f"{metric} on dev", "precision", *(f"epoch {epoch}" for epoch in range(1, epochs + 1)))
    for (seed, precision), run in found.groupby(["seed", "precision"], sort=False):
        shown.add_row(f"seed {seed}", str(precision), *(score(metric, value) for value in run[metric]))
    apart = differences(found, metric)
    for seed, values in apart.iterrows():
        shown.add_row(f"seed {seed}", "bf16 − fp32, points", *(f"{value:+.2f}" for value in values))
    means = [points(interval(apart[epoch].tolist())) for epoch in apart.columns]
    shown.add_row("mean (95 % interval)", "bf16 − fp32, points", *means)
    console.print(shown)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--epochs", type=int, required=True, help="of every run")
    parser.add_argument("--seeds", type=command.whole_numbers, required=True, help="two runs each")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs' states")
    parser.add_argument("--csv", type=Path, help="file for the scores")
    flags = parser.parse_args()
    recipe = command.friends(flags, epochs=flags.epochs)
    work = Work(flags.work, recipe, command.corpus(flags, recipe))

    left = TimeLeft(len(PRECISIONS) * len(flags.seeds) * recipe.epochs)
    cells: list[StudyScores] = []
    for cell in train(work, flags.seeds):
        cells.append(cell)
        print(
            f"seed {cell.seed}  {cell.precision}  epoch {cell.epoch} of {recipe.epochs}  "
            f"accuracy {score('accuracy', cell.accuracy)}  macro-F1 {score('macro_f1', cell.macro_f1)}  "
            f"{duration(cell.seconds)}  ({left.after(cell.seconds)})",
            flush=True,
        )
    found = pd.DataFrame([asdict(cell) for cell in cells])
    if flags.csv:
        write_table(flags.csv, found)
    console = Console(width=max(120, 30 * recipe.epochs))
    for metric in METRICS:
        show(console, found, metric, recipe.epochs)
    fp32, bf16 = (
        work.candidate((run_name(seed, precision) for seed in flags.seeds), recipe.epochs) for precision in PRECISIONS
    )
    for metric in METRICS:
        apart = difference(work.split(run_name(flags.seeds[0], PRECISIONS[0])), bf16, fp32, metric)
        low, high = 100 * apart.low, 100 * apart.high
        console.print(
            f"{metric} after the last epoch, over dialogues and seeds: bf16 − fp32 {100 * apart.estimate:+.2f} points "
            f"({low:+.2f} to {high:+.2f}), p {apart.p:.2g}."
        )
    seconds = found.groupby("precision")["seconds"].median()
    console.print(f"Median epoch: fp32 {seconds['fp32']:.1f} s, bf16 {seconds['bf16']:.1f} s.")
    console.print(f"{command.machine()}; {command.versions()}")


if __name__ == "__main__":
    command.run(main)
