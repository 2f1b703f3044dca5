r"""Compare methods against the imbalance of Friends' classes, seed by seed.

    python -m benchmarks.imbalance --model DIR --set learning_rate=1e-4 --set context=current+previous --epochs 3 \
        --seeds 1,2,3 --work DIR [--max-train-samples 2000] [--csv FILE]

The scores are those on dev after the last epoch. Each method is compared with none on the same texts and seeds
(`bertgrid_tf.metrics.compare`); the p values are corrected for the number of methods (Holm). A killed benchmark resumes
in its work folder, and takes further seeds there.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import command
from benchmarks.trial_series import TrialSeries, report_variants
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.metrics.compare import Difference, Split, compare_with_best, difference, holm
from bertgrid_tf.report.format import score
from bertgrid_tf.storage.files import write_table

NONE = "none"
METHODS: dict[str, dict[str, Value]] = {
    NONE: {},
    "oversample_ratio 0.5": {"oversample_ratio": 0.5},
    "oversample_ratio 1": {"oversample_ratio": 1.0},
    "undersample neutral": {"undersample": "neutral"},
    "class_weights sqrt": {"class_weights": "sqrt"},
    "class_weights balanced": {"class_weights": "balanced"},
    "focal_gamma 2": {"focal_gamma": 2.0},
    "soft_label_weight 0.5": {"soft_label_weight": 0.5},
    "soft_label_weight 1": {"soft_label_weight": 1.0},
    "head_retraining refit": {"head_retraining": "refit"},
    "head_retraining smote": {"head_retraining": "smote"},
    "head_retraining rose": {"head_retraining": "rose"},
}
COMPARED = ("accuracy", "macro_f1")


def differences(
    probabilities: Mapping[str, np.ndarray], split: Split, metric: str
) -> dict[str, tuple[Difference, float]]:
    """Subtract the score of none from that of each method, as a fraction of 1.

    Args:
        probabilities: Predictions of each method, none among them, float [seeds, n, classes].
        split: The split that they predict.
        metric: A metric of which more is better.

    Returns:
        The difference of each method with its p value after Holm's correction.
    """
    apart = {
        method: difference(split, own, probabilities[NONE], metric)
        for method, own in probabilities.items()
        if method != NONE
    }
    corrected = holm([one.p for one in apart.values()]).tolist()
    return dict(zip(apart, zip(apart.values(), corrected, strict=True), strict=True))


def tied(probabilities: Mapping[str, np.ndarray], split: Split, metric: str) -> list[str]:
    """List the best method, then the methods tied with it; arguments as for `differences`."""
    ranked = compare_with_best(split, list(probabilities.values()), metric, "max")
    names = list(probabilities)
    others = (name for name, alike in zip(names, ranked.tied, strict=True) if alike and name != names[ranked.best])
    return [names[ranked.best], *others]


def show(
    console: Console,
    scores: pd.DataFrame,
    labels: Sequence[str],
    compared: Mapping[str, Mapping[str, tuple[Difference, float]]],
) -> None:
    """Print a line for each method: means over the seeds, and the differences from none."""
    metrics = (*COMPARED, *(f"recall_{label}" for label in labels))
    shown = Table("method", *(f"{metric} − none, points (95 %)" for metric in compared), *metrics)
    for method in scores["variant"].unique():
        apart = [points(*of[method]) if method in of else "" for of in compared.values()]
        means = scores.loc[scores["variant"] == method, list(metrics)].mean()
        shown.add_row(method, *apart, *(score(metric, float(means[metric])) for metric in metrics))
    console.print(shown)


def points(apart: Difference, p: float) -> str:
    """Format a difference in points with its interval and p value."""
    return f"{100 * apart.estimate:+.2f} ({100 * apart.low:+.2f} to {100 * apart.high:+.2f}), p {p:.2g}"


def main() -> None:
    """Parse the command line, train, compare, print."""
    parser = command.parser(__doc__, csv="file for the scores after the last epoch")
    command.add_series(parser, f"{len(METHODS)} trials each")
    flags = parser.parse_args()
    recipe = command.friends(flags, epochs=flags.epochs)
    corpus = command.corpus(flags, recipe)
    series = TrialSeries(flags.work, recipe, corpus)
    epochs, split, probabilities = report_variants(flags, series, recipe, METHODS)
    scores = epochs.groupby(["seed", "variant"], sort=False).tail(1)
    if flags.csv:
        write_table(flags.csv, scores)
    console = Console(width=260)
    show(console, scores, corpus.labels, {metric: differences(probabilities, split, metric) for metric in COMPARED})
    for metric in COMPARED:
        best, *others = tied(probabilities, split, metric)
        console.print(f"Best {metric}: {best}; tied with it: {', '.join(others) or 'none of the others'}.")
    command.print_system(console)


if __name__ == "__main__":
    command.run(main)
