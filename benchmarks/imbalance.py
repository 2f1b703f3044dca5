"""What meets the imbalance of Friends' classes: the same runs with every method, seed by seed.

    python -m benchmarks.imbalance --model DIR --set learning_rate=1e-4 --set context=current+previous --epochs 3 \\
        --seeds 1,2,3 --work DIR [--max-train-samples 2000] [--csv FILE]

The scores are those on dev after the last epoch. Each method is compared with none on the same texts and seeds
(`bertgrid_tf.metrics.compare`); the p values are corrected for the number of methods (Holm). A killed benchmark goes on
in its work folder where it was, and takes further seeds there.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import command
from benchmarks.work import TimeLeft, Work
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.metrics.compare import Difference, Split, compare_with_best, difference, holm
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.storage.files import write_table

NONE = "none"
METHODS: dict[str, dict[str, Value]] = {
    NONE: {},
    "oversample_ratio 0.5": {"oversample_ratio": 0.5},
    "oversample_ratio 1": {"oversample_ratio": 1.0},
    "undersample neutral": {"undersample": "neutral"},
    "class_weights sqrt": {"class_weights": "sqrt"},
    "class_weights balanced": {"class_weights": "balanced"},
    "focal 2": {"focal_gamma": 2.0},
    "soft_label_weight 0.5": {"soft_label_weight": 0.5},
    "soft_label_weight 1": {"soft_label_weight": 1.0},
    "head refit": {"head": "refit"},
    "head smote": {"head": "smote"},
    "head rose": {"head": "rose"},
}
COMPARED = ("accuracy", "macro_f1")


def run_name(seed: int, method: str) -> str:
    return f"seed{seed}-{method.replace(' ', '-')}"


def train(
    work: Work, seeds: Sequence[int], methods: Mapping[str, Mapping[str, Value]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every method with every seed: after each epoch its number, and the run's seed and method with its dev metrics."""
    for seed in seeds:
        for method, changed in methods.items():
            for epoch, found in enumerate(work.train(run_name(seed, method), seed, **changed), start=1):
                yield epoch, {"seed": seed, "method": method} | found


def differences(
    probabilities: Mapping[str, np.ndarray], split: Split, metric: str
) -> dict[str, tuple[Difference, float]]:
    """By how much each method is above none, as a fraction of 1, with the p value after Holm's correction.

    Args:
        probabilities: of each method, none among them, float [seeds, n, classes].
        split: what they were predicted for.
        metric: of which more is better.
    """
    found = {}
    for method, own in probabilities.items():
        if method == NONE:
            continue
        found[method] = difference(split, own, probabilities[NONE], metric)
    corrected = holm([one.p for one in found.values()]).tolist()
    return dict(zip(found, zip(found.values(), corrected, strict=True), strict=True))


def tied(probabilities: Mapping[str, np.ndarray], split: Split, metric: str) -> list[str]:
    """The methods that cannot be told from the best of all, which comes first; arguments as for `differences`."""
    found = compare_with_best(split, list(probabilities.values()), metric, "max")
    names = list(probabilities)
    others = (name for name, alike in zip(names, found.tied, strict=True) if alike and name != names[found.best])
    return [names[found.best], *others]


def show(
    console: Console,
    found: pd.DataFrame,
    labels: Sequence[str],
    compared: Mapping[str, Mapping[str, tuple[Difference, float]]],
) -> None:
    """One line for each method: means over the seeds, and what they are above none."""
    metrics = (*COMPARED, *(f"recall_{label}" for label in labels))
    shown = Table("method", *(f"{metric} − none, points (95 %)" for metric in compared), *metrics)
    for method in found["method"].unique():
        apart = [points(*of[method]) if method in of else "" for of in compared.values()]
        means = found.loc[found["method"] == method, list(metrics)].mean()
        shown.add_row(method, *apart, *(score(metric, float(means[metric])) for metric in metrics))
    console.print(shown)


def points(found: Difference, p: float) -> str:
    return f"{100 * found.estimate:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f}), p {p:.2g}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--epochs", type=int, required=True, help="of every run")
    parser.add_argument("--seeds", type=command.whole_numbers, required=True, help=f"{len(METHODS)} runs each")
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs' states")
    parser.add_argument("--csv", type=Path, help="file for the scores after the last epoch")
    flags = parser.parse_args()
    recipe = command.friends(flags, epochs=flags.epochs)
    corpus = command.corpus(flags, recipe)
    work = Work(flags.work, recipe, corpus)

    left = TimeLeft(len(METHODS) * len(flags.seeds) * recipe.epochs)
    last: dict[tuple[int, str], dict[str, Any]] = {}
    for epoch, run in train(work, flags.seeds, METHODS):
        last[run["seed"], run["method"]] = run
        print(
            f"seed {run['seed']}  {run['method']}  epoch {epoch} of {recipe.epochs}  "
            + "  ".join(f"{metric} {score(metric, run[metric])}" for metric in COMPARED)
            + f"  {duration(run['seconds'])}  ({left.after(run['seconds'])})",
            flush=True,
        )
    found = pd.DataFrame(last.values())
    if flags.csv:
        write_table(flags.csv, found)

    split = work.split(run_name(flags.seeds[0], NONE))
    probabilities = {
        method: work.candidate((run_name(seed, method) for seed in flags.seeds), recipe.epochs) for method in METHODS
    }
    console = Console(width=260)
    compared = {metric: differences(probabilities, split, metric) for metric in COMPARED}
    show(console, found, corpus.labels, compared)
    for metric in COMPARED:
        best, *others = tied(probabilities, split, metric)
        console.print(f"Best {metric}: {best}; not to be told from it: {', '.join(others) or 'none of the others'}.")
    console.print(f"{command.machine()}; {command.versions()}")


if __name__ == "__main__":
    command.run(main)
