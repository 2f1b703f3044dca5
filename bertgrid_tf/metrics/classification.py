"""Metrics of a classifier, overall and per class, with their directions and units."""

import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import Literal

import numpy as np

Direction = Literal["max", "min"]
Unit = Literal["%", "nats", ""]

OVERALL: dict[str, Direction] = {
    "accuracy": "max",
    "macro_f1": "max",
    "weighted_f1": "max",
    "loss": "min",
    "balanced_accuracy": "max",
    "mcc": "max",
    "cohen_kappa": "max",
    "quadratic_kappa": "max",
    "roc_auc": "max",
    "average_precision": "max",
}
HEADLINES = ("accuracy", "macro_f1", "weighted_f1", "loss")
"""The overall metrics that a sentence names beside the deciding one."""
OF_PROBABILITIES = ("loss", "roc_auc", "average_precision")
"""The overall metrics of the probabilities; the others depend on the likeliest class alone."""
OF_NAMED = ("micro_f1", "roc_auc", "average_precision")
"""The metrics that may name the classes that they are computed over, as `micro_f1:anger,joy`."""
PER_CLASS = ("precision", "recall", "f1")
_COEFFICIENTS = ("mcc", "cohen_kappa", "quadratic_kappa")


def directions(labels: Sequence[str]) -> dict[str, Direction]:
    """List the metrics of `evaluate` with their directions; without `quadratic_kappa` where classes have no order.

    Args:
        labels: The class names.

    Returns:
        "max" or "min", the direction of improvement, for each metric.

    Example:
        >>> from bertgrid_tf.metrics.classification import directions
        >>> directions(["joy", "anger"])["recall_joy"]
        'max'
    """
    overall = {name: direction for name, direction in OVERALL.items() if name != "quadratic_kappa" or ordered(labels)}
    return overall | {f"{metric}_{label}": "max" for metric in PER_CLASS for label in labels}


def direction(metric: str) -> Direction:
    """Return whether more or less of a metric is better."""
    return OVERALL.get(metric, "max")


def unit(metric: str) -> Unit:
    """Return the unit in which a metric is shown: percent, nats, or none for coefficients, which may be negative.

    Example:
        >>> unit("macro_f1"), unit("loss"), unit("mcc")
        ('%', 'nats', '')
    """
    if metric in ("loss", "train_loss"):
        return "nats"
    return "" if metric in _COEFFICIENTS else "%"


def named_classes(metric: str) -> list[str]:
    """Return the classes that the name of a metric names.

    Example:
        >>> named_classes("micro_f1:anger,joy"), named_classes("recall_joy"), named_classes("macro_f1")
        (['anger', 'joy'], ['joy'], [])
    """
    kind, _, names = metric.partition(":")
    if kind in OF_NAMED and names:
        return names.split(",")
    return [] if metric in OVERALL else metric.split("_", 1)[1:]


def ordered(labels: Sequence[str]) -> bool:
    """Whether the classes are whole numbers, and so have an order."""
    return all(re.fullmatch(r"[+-]?\d+", label) for label in labels)


def evaluate(
    truth: np.ndarray, probabilities: np.ndarray, labels: Sequence[str], metrics: Collection[str] = ()
) -> dict[str, float]:
    """Compute the metrics of one evaluation.

    A metric that scikit-learn leaves undefined has the value of chance: 0 for a kappa where one class has all labels
    and predictions, 0.5 for `roc_auc` where one class has all labels.

    Args:
        truth: The class ids, int [n].
        probabilities: The probabilities of the classes, float [n, classes].
        labels: The class names in the order of their ids.
        metrics: The metrics to compute; empty for those of `directions`.

    Returns:
        Of `accuracy`, `macro_f1` (over all classes; a class neither present nor predicted counts 0), `weighted_f1`,
        `loss` (mean cross-entropy in nats), `balanced_accuracy` (mean recall of the classes present), `mcc` (Matthews'
        correlation coefficient), `cohen_kappa`, `quadratic_kappa` (the distance of two classes is that of their ids),
        `roc_auc` and `average_precision` (each class against the rest, the mean over classes present), `micro_f1:A,B`
        (F1 of the pooled counts of the named classes; `roc_auc:A,B` and `average_precision:A,B` are the means over
        these), and `precision_<class>`, `recall_<class>` and `f1_<class>` of every class. All but the loss are
        fractions of 1.

    Example:
        >>> import numpy as np
        >>> from bertgrid_tf.metrics.classification import evaluate
        >>> probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
        >>> metrics = evaluate(np.array([0, 1, 1, 1]), probabilities, ["negative", "positive"])
        >>> metrics["accuracy"], metrics["precision_positive"], round(metrics["macro_f1"], 3)
        (0.75, 1.0, 0.733)
    """
    from sklearn.metrics import (
        average_precision_score,
        cohen_kappa_score,
        f1_score,
        matthews_corrcoef,
        precision_recall_fscore_support,
        roc_auc_score,
    )

    ids = np.arange(len(labels))
    predicted = probabilities.argmax(axis=1)

    @cache
    def of_classes() -> tuple[np.ndarray, ...]:
        return precision_recall_fscore_support(truth, predicted, labels=ids, zero_division=0)

    def compute(metric: str) -> float:
        kind, chosen = metric.split(":")[0], class_ids(metric, labels)
        if metric == "accuracy":
            return (predicted == truth).mean()
        if metric == "loss":
            likelihood = np.maximum(probabilities[np.arange(len(truth)), truth], np.finfo(np.float32).tiny)
            return -np.log(likelihood).mean()
        precision, recall, f1, support = of_classes()
        if metric == "macro_f1":
            return f1.mean()
        if metric == "weighted_f1":
            return np.average(f1, weights=support)
        if metric == "balanced_accuracy":
            return recall[support > 0].mean()
        if metric in _COEFFICIENTS and support.max() == len(truth) and (predicted == truth).all():
            return 0.0
        if metric == "mcc":
            return matthews_corrcoef(truth, predicted)
        if metric in _COEFFICIENTS:
            weights = "quadratic" if metric == "quadratic_kappa" else None
            return cohen_kappa_score(truth, predicted, labels=ids, weights=weights)
        if kind == "roc_auc":
            both = [label for label in chosen if 0 < support[label] < len(truth)]
            of = [roc_auc_score(truth == label, probabilities[:, label]) for label in both]
            return np.mean(of) if of else 0.5
        if kind == "average_precision":
            present = chosen[support[chosen] > 0]
            of = [average_precision_score(truth == label, probabilities[:, label]) for label in present]
            return np.mean(of) if of else 0.0
        if kind == "micro_f1":
            return f1_score(truth, predicted, labels=chosen, average="micro", zero_division=0)
        return (precision, recall, f1)[PER_CLASS.index(metric.split("_")[0])][chosen[0]]

    return {metric: float(compute(metric)) for metric in metrics or directions(labels)}


def class_ids(metric: str, labels: Sequence[str]) -> np.ndarray:
    """Return the ids of the classes that a metric names; of all classes where it names none."""
    named = named_classes(metric)
    return np.array([list(labels).index(label) for label in named]) if named else np.arange(len(labels))
