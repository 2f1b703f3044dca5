"""Accuracy, F1 and loss of a classifier, overall and per class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Direction = Literal["max", "min"]

OVERALL: dict[str, Direction] = {"accuracy": "max", "macro_f1": "max", "weighted_f1": "max", "loss": "min"}
PER_CLASS = ("precision", "recall", "f1")


def directions(labels: Sequence[str]) -> dict[str, Direction]:
    """Every metric that `evaluate` gives, with the direction in which it is better."""
    return OVERALL | {f"{metric}_{label}": "max" for metric in PER_CLASS for label in labels}


def evaluate(truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """All metrics of one evaluation; shares are fractions of 1.

    Args:
        truth: label ids, integer [n].
        probabilities: float [n, classes].
        labels: class names in the order of their ids.

    Returns:
        accuracy, macro_f1 (over all classes; a class neither there nor predicted counts 0), weighted_f1, loss (mean
        cross-entropy in nats), and precision_, recall_, f1_ of every class.
    """
    from sklearn.metrics import precision_recall_fscore_support

    ids = np.arange(len(labels))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, labels=ids, zero_division=0)
    likelihood = np.maximum(probabilities[np.arange(len(truth)), truth], np.finfo(np.float32).tiny)
    overall = {
        "accuracy": float((predicted == truth).mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "loss": float(-np.log(likelihood).mean()),
    }
    scores = dict(zip(PER_CLASS, (precision, recall, f1), strict=True))
    return overall | {f"{m}_{label}": float(scores[m][i]) for m in PER_CLASS for i, label in enumerate(labels)}
