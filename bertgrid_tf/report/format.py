"""How numbers are written for a person."""

import math


def score(metric: str, value: float) -> str:
    """A metric's value with its unit: shares in percent, the loss in nats."""
    if math.isnan(value):
        return "diverged"
    return f"{value:.4f}" if metric.endswith("loss") else f"{100 * value:.2f} %"


def duration(seconds: float) -> str:
    """Seconds in the two largest of hours, minutes and seconds that fit."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
