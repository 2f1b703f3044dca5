"""Numbers as text, with their units."""

import math
from collections.abc import Mapping

from bertgrid_tf.analysis import ClassReport, ScoreEstimate
from bertgrid_tf.metrics.classification import HEADLINES, PER_CLASS, unit

WITHOUT_SCORE = {"SKIPPED": "only level", "FAILED": "failed", "IDLE": "waiting", "LEFT_OUT": "left out"}
"""The text in place of a score, by the status of a sweep's level."""


def score(metric: str, value: float) -> str:
    """Return a metric's value: a share in percent, the loss and coefficients as they are.

    Example:
        >>> score("accuracy", 0.5678), score("loss", 1.25), score("mcc", -0.25)
        ('56.78 %', '1.2500', '-0.2500')
    """
    if math.isnan(value):
        return "diverged"
    return f"{100 * value:.2f} %" if unit(metric) == "%" else f"{value:.4f}"


def limits(metric: str, estimate: ScoreEstimate) -> str:
    """Return the ends of a score's interval in the metric's unit."""
    if math.isnan(estimate.low):
        return "unknown"
    low, high = (score(metric, end).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def interval(metric: str, estimate: ScoreEstimate) -> str:
    """Return a score with its unit and its interval."""
    return f"{score(metric, estimate.value)} ({limits(metric, estimate)})"


def percent(share: float) -> str:
    """Return a fraction of 1 in percent, to a tenth."""
    return f"{100 * share:.1f} %"


def class_counts(splits: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """Return a row for each class: its name, then its texts in each split with their share; the last row adds up."""
    totals = {split: sum(counts.values()) for split, counts in splits.items()}
    rows = [
        [
            label,
            *(
                f"{counts.get(label, 0):,} ({percent(counts.get(label, 0) / max(totals[split], 1))})"
                for split, counts in splits.items()
            ),
        ]
        for label in dict.fromkeys(label for counts in splits.values() for label in counts)
    ]
    return [*rows, ["in all", *(f"{total:,}" for total in totals.values())]]


def overall(metrics: Mapping[str, float], deciding: str) -> str:
    """Return the main metrics over all classes, and the deciding one."""
    return ", ".join(f"{name} {score(name, metrics[name])}" for name in dict.fromkeys([*HEADLINES, deciding]))


def by_class(classes: ClassReport) -> list[list[str]]:
    """Return a row for each class: name, texts, precision, recall and F1."""
    return [
        [label, f"{texts:,}", *(score(name, classes.metrics[f"{name}_{label}"]) for name in PER_CLASS)]
        for label, texts in classes.support.items()
    ]


def points(metric: str, value: float) -> str:
    """Return a difference of scores in percentage points, in nats for the loss, as it is for a coefficient."""
    return f"{100 * value:.2f} points" if unit(metric) == "%" else f"{value:.4f} {unit(metric)}".rstrip()


def difference(metric: str, estimate: ScoreEstimate) -> str:
    """Return a difference of scores with its sign and its interval."""
    name, scale, digits = (" points", 100, 2) if unit(metric) == "%" else (f" {unit(metric)}".rstrip(), 1, 4)
    value, low, high = (f"{scale * one:+.{digits}f}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{value}{name} ({low} to {high})"


def duration(seconds: float) -> str:
    """Return seconds in hours and minutes, or minutes and seconds.

    Example:
        >>> duration(7384)
        '2 h 03 min'
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
