"""Accuracy, precision, recall, F1 and loss of a classifier, overall and per class."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Direction = Literal["max", "min"]

OVERALL: dict[str, Direction] = {"accuracy": "max", "macro_f1": "max", "weighted_f1": "max", "loss": "min"}
PER_CLASS = ("precision", "recall", "f1")


def directions(labels: Sequence[str]) -> dict[str, Direction]:
    """List the metrics of `evaluate` with their directions.

    Args:
        labels: The class names.

    Returns:
        "max" or "min", the direction of improvement, for each metric.

    Example:
        >>> from bertgrid_tf.metrics.classification import directions
        >>> directions(["joy", "anger"])["recall_joy"]
        'max'
    """
    return OVERALL | {f"{metric}_{label}": "max" for metric in PER_CLASS for label in labels}


def evaluate(truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Compute all metrics of one evaluation.

    Args:
        truth: The class ids, int [n].
        probabilities: The probabilities of the classes, float [n, classes].
        labels: The class names in the order of their ids.

    Returns:
        The metrics `accuracy`, `macro_f1` (over all classes; a class neither present nor predicted counts 0),
        `weighted_f1`, `loss` (mean cross-entropy in nats), and `precision_<class>`, `recall_<class>` and `f1_<class>`
        of every class; shares are fractions of 1.

    Example:
        >>> import numpy as np
        >>> from bertgrid_tf.metrics.classification import evaluate
        >>> probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
        >>> metrics = evaluate(np.array([0, 1, 1, 1]), probabilities, ["negative", "positive"])
        >>> metrics["accuracy"], metrics["precision_positive"], round(metrics["macro_f1"], 3)
        (0.75, 1.0, 0.733)
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
