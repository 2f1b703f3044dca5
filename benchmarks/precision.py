r"""Compare the accuracy of bf16 and fp32 on Friends, seed by seed.

    python -m benchmarks.precision --model DIR --set learning_rate=1e-4 --epochs 4 --seeds 1,2,3,4,5 --work DIR \
        [--max-train-samples 2000] [--csv FILE]

A killed benchmark resumes in its work folder. The precisions are compared as a study compares settings
(`bertgrid_tf.metrics.compare`), after the last epoch; their trials share seeds, and each seed's difference is shown.
"""

from collections.abc import Sequence
from math import isnan

import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import stats

from benchmarks import command
from benchmarks.trial_series import TrialSeries, report_variants
from bertgrid_tf.metrics.compare import difference
from bertgrid_tf.report.format import score
from bertgrid_tf.storage.files import write_table

PRECISIONS = ("fp32", "bf16")
METRICS = ("accuracy", "macro_f1")


def differences(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Subtract fp32 from bf16, in points (percent of 1), by seed (rows) and epoch (columns).

    A seed one of whose trials diverged is left out.
    """
    first, second = (
        scores[scores["variant"] == precision].pivot(index="seed", columns="epoch", values=metric)
        for precision in PRECISIONS
    )
    return (100 * (second - first)).dropna(how="any")


def points(values: Sequence[float]) -> str:
    """Format the mean of paired differences, with Student's 95 % interval where there are two or more."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:+.2f}"
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    return f"{mean:+.2f}" if isnan(low) else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def show(console: Console, scores: pd.DataFrame, metric: str, epochs: int) -> None:
    """Print the scores of every trial, and their differences."""
    shown = Table(f"{metric} on dev", "precision", *(f"epoch {epoch}" for epoch in range(1, epochs + 1)))
    for (seed, precision), trial in scores.groupby(["seed", "variant"], sort=False):
        shown.add_row(f"seed {seed}", str(precision), *(score(metric, value) for value in trial[metric]))
    apart = differences(scores, metric)
    for seed, row in apart.iterrows():
        shown.add_row(f"seed {seed}", "bf16 − fp32, points", *(f"{value:+.2f}" for value in row))
    if len(apart):
        means = [points(apart[epoch].tolist()) for epoch in apart.columns]
        shown.add_row("mean (95 % interval)", "bf16 − fp32, points", *means)
    console.print(shown)


def main() -> None:
    """Parse the command line, train, compare, print."""
    parser = command.parser(__doc__, csv="file for the scores")
    command.add_series(parser, f"{len(PRECISIONS)} trials each")
    flags = parser.parse_args()
    recipe = command.friends(flags, epochs=flags.epochs)
    series = TrialSeries(flags.work, recipe, command.corpus(flags, recipe))
    variants = {precision: {"precision": precision} for precision in PRECISIONS}
    scores, split, probabilities = report_variants(flags, series, recipe, variants)
    if flags.csv:
        write_table(flags.csv, scores)
    console = Console(width=max(120, 30 * recipe.epochs))
    for metric in METRICS:
        show(console, scores, metric, recipe.epochs)
    for metric in METRICS:
        apart = difference(split, probabilities["bf16"], probabilities["fp32"], metric)
        low, high = 100 * apart.low, 100 * apart.high
        console.print(
            f"{metric} after the last epoch, over dialogues and seeds: bf16 − fp32 {100 * apart.estimate:+.2f} points "
            f"({low:+.2f} to {high:+.2f}), p {apart.p:.2g}."
        )
    seconds = scores.groupby("variant")["seconds"].median()
    console.print(f"Median epoch: fp32 {seconds['fp32']:.1f} s, bf16 {seconds['bf16']:.1f} s.")
    command.print_system(console)


if __name__ == "__main__":
    command.run(main)
