"""How numbers are written for a person."""

import math
from collections.abc import Mapping

from bertgrid_tf.analysis import ClassReport, ScoreEstimate
from bertgrid_tf.metrics.classification import OVERALL, PER_CLASS

WITHOUT_SCORE = {"SKIPPED": "only level", "FAILED": "failed", "IDLE": "waiting", "LEFT_OUT": "left out"}
"""What stands in a score's place, by the status of a sweep's level."""


def score(metric: str, value: float) -> str:
    """A metric's value with its unit: shares in percent, the loss in nats."""
    if math.isnan(value):
        return "diverged"
    return f"{value:.4f}" if metric.endswith("loss") else f"{100 * value:.2f} %"


def limits(metric: str, estimate: ScoreEstimate) -> str:
    """The ends of a score's interval, in the metric's unit."""
    if math.isnan(estimate.low):
        return "not known"
    low, high = (score(metric, end).removesuffix(" %") for end in (estimate.low, estimate.high))
    return f"{low} to {high}"


def interval(metric: str, estimate: ScoreEstimate) -> str:
    """A score with its unit and its interval."""
    return f"{score(metric, estimate.value)} ({limits(metric, estimate)})"


def percent(share: float) -> str:
    """A share, a fraction of 1, for which a tenth of a percent is exact enough."""
    return f"{100 * share:.1f} %"


def count_of(count: int, total: int) -> str:
    """A count with its share of a total."""
    return f"{count:,} ({percent(count / max(total, 1))})"


def overall(metrics: Mapping[str, float]) -> str:
    """The scores of all classes together."""
    return ", ".join(f"{name} {score(name, metrics[name])}" for name in OVERALL)


def by_class(classes: ClassReport) -> list[list[str]]:
    """Of every class its name, its texts, precision, recall and F1."""
    return [
        [label, f"{texts:,}", *(score(name, classes.metrics[f"{name}_{label}"]) for name in PER_CLASS)]
        for label, texts in classes.support.items()
    ]


def points(metric: str, value: float) -> str:
    """A difference of scores: shares in percentage points, the loss in nats."""
    return f"{value:.4f} nats" if metric.endswith("loss") else f"{100 * value:.2f} points"


def difference(metric: str, estimate: ScoreEstimate) -> str:
    """A difference of scores with its sign and its interval."""
    unit, scale, digits = ("nats", 1, 4) if metric.endswith("loss") else ("points", 100, 2)
    value, low, high = (f"{scale * one:+.{digits}f}" for one in (estimate.value, estimate.low, estimate.high))
    return f"{value} {unit} ({low} to {high})"


def duration(seconds: float) -> str:
    """Seconds in the two largest of hours, minutes and seconds that fit."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
