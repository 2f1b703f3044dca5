"""Metrics of a classifier, overall and per class, with their directions and units."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
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

    The values are scikit-learn's. A metric that it leaves undefined has the value of chance: 0 for a kappa where one
    class has all labels and predictions, 0.5 for `roc_auc` where one class has all labels.

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
    return {
        metric: float(Tally.of(truth, probabilities[None], labels, metric).scores(np.ones((1, 1)))[0, 0])
        for metric in metrics or directions(labels)
    }


def class_ids(metric: str, labels: Sequence[str]) -> np.ndarray:
    """Return the ids of the classes that a metric names; of all classes where it names none."""
    named = named_classes(metric)
    return np.array([list(labels).index(label) for label in named]) if named else np.arange(len(labels))


@dataclass(frozen=True)
class Tally:
    """The sufficient statistics of a metric for each dialogue, so that a draw of dialogues is a sum.

    Attributes:
        metric: The metric to compute.
        labels: The class names in the order of their ids.
        counts: The correctly classified texts of each class, the texts classified as each class, and the sum of the
            costs, which are cross-entropies in nats, or squared distances of the true and the predicted id for
            `quadratic_kappa`: float [dialogues, runs, 2 * classes + 1]. For `roc_auc` and `average_precision` the sums
            of `_ranking_terms` over the texts of each class and over the other texts, in place of counts.
        support: The number of texts of each class, float [dialogues, classes].
    """

    metric: str
    labels: tuple[str, ...]
    counts: np.ndarray
    support: np.ndarray

    @classmethod
    def of(
        cls,
        truth: np.ndarray,
        probabilities: np.ndarray,
        labels: Sequence[str],
        metric: str,
        dialogues: np.ndarray | None = None,
    ) -> "Tally":
        """Count in each dialogue; in one of all texts without `dialogues`.

        Args:
            truth: The class ids, int [n].
            probabilities: The probabilities of the classes by each run, float [runs, n, classes].
            labels: The class names in the order of their ids.
            metric: A metric of `evaluate`.
            dialogues: The number of each text's dialogue, int [n].
        """
        runs, n, classes = probabilities.shape
        numbers, dialogue = np.unique(np.zeros(n) if dialogues is None else dialogues, return_inverse=True)
        if (kind := metric.split(":")[0]) != "loss" and kind in OF_PROBABILITIES:
            counts = np.zeros((len(numbers), runs, 2 * classes + 1))
            for run, label in np.ndindex(runs, classes):
                own = truth == label
                terms = _ranking_terms(kind, own, probabilities[run, :, label])
                counts[:, run, label] = np.bincount(dialogue, terms * own, len(numbers))
                counts[:, run, classes + label] = np.bincount(dialogue, terms * ~own, len(numbers))
        else:
            predicted = probabilities.argmax(axis=2)
            if metric == "quadratic_kappa":
                costs = (predicted - truth) ** 2
            else:
                likelihood = np.maximum(probabilities[:, np.arange(n), truth], np.finfo(np.float32).tiny)
                costs = -np.log(likelihood)
            run, shape = np.arange(runs)[:, None], (len(numbers), runs)
            right = _sums((*shape, classes), (dialogue, run, predicted), predicted == truth)
            assigned = _sums((*shape, classes), (dialogue, run, predicted), np.ones(predicted.shape))
            counts = np.concatenate([right, assigned, _sums((*shape, 1), (dialogue, run, 0), costs)], axis=2)
        support = _sums((len(numbers), classes), (dialogue, truth), np.ones(n))
        return cls(metric, tuple(labels), counts, support)

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """Compute the metric of each run on each draw, as defined by `evaluate`.

        Args:
            weights: The number of times that each draw contains each dialogue, [draws, dialogues].

        Returns:
            The scores, float [draws, runs].
        """
        weights = weights.astype(np.float64)
        classes, kind = len(self.labels), self.metric.split(":")[0]
        counts = (weights @ self.counts.reshape(len(self.counts), -1)).reshape(len(weights), *self.counts.shape[1:])
        right, predicted, cost = counts[..., :classes], counts[..., classes:-1], counts[..., -1]
        support = (weights @ self.support)[:, None]
        texts = support.sum(axis=2)
        if self.metric == "loss":
            return cost / texts
        if self.metric == "accuracy":
            return right.sum(axis=2) / texts
        chosen = class_ids(self.metric, self.labels)
        if kind in OF_PROBABILITIES:
            return _mean_ranking_score(kind, right[..., chosen], predicted[..., chosen], support[..., chosen], texts)
        if kind == "micro_f1":
            pooled = (predicted + support)[..., chosen].sum(axis=2)
            return 2 * right[..., chosen].sum(axis=2) / _divisor(pooled)
        if self.metric == "mcc":
            right, chance = right.sum(axis=2), (predicted * support).sum(axis=2)
            spread = (texts**2 - (predicted**2).sum(axis=2)) * (texts**2 - (support**2).sum(axis=2))
            return (right * texts - chance) / np.sqrt(_divisor(spread, inf))
        if self.metric == "cohen_kappa":
            chance = (predicted * support).sum(axis=2) / texts
            return (right.sum(axis=2) - chance) / _divisor(texts - chance, inf)
        if self.metric == "quadratic_kappa":
            ids = np.arange(classes)
            chance = predicted @ ids**2 + support @ ids**2 - 2 * (predicted @ ids) * (support @ ids) / texts
            return np.where(chance > 0, 1 - cost / _divisor(chance), 0)
        precision, recall = right / _divisor(predicted), right / _divisor(support)
        if self.metric == "balanced_accuracy":
            return recall.sum(axis=2) / (support > 0).sum(axis=2)
        f1 = 2 * right / _divisor(predicted + support)
        if self.metric == "macro_f1":
            return f1.mean(axis=2)
        if self.metric == "weighted_f1":
            return (f1 * support).sum(axis=2) / texts
        return {"precision": precision, "recall": recall, "f1": f1}[self.metric.split("_")[0]][..., chosen[0]]


def _sums(shape: tuple[int, ...], index: tuple[np.ndarray | int, ...], values: np.ndarray) -> np.ndarray:
    """Sum the values that have the same index, as `np.add.at` does into zeros, but faster."""
    places = np.ravel_multi_index(np.broadcast_arrays(*index), shape)
    return np.bincount(places.ravel(), values.ravel(), np.prod(shape)).reshape(shape)


def _ranking_terms(metric: str, own: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the terms of the texts in the score of one class against the rest.

    The mean of the class's own terms, plus for `roc_auc` the mean of the other texts' terms and for `average_precision`
    the sum of these by the number of own texts, is the score. The same with weights is the score of a weighted split to
    first order.

    Args:
        metric: `roc_auc` or `average_precision`.
        own: Whether each text is of the class, bool [n].
        scores: The probability of the class for each text, float [n].

    Returns:
        The terms, float [n]; all 0 where the class has no text or, for `roc_auc`, all texts.
    """
    own_sorted, others_sorted = np.sort(scores[own]), np.sort(scores[~own])
    of_own, of_others = len(own_sorted), len(others_sorted)
    terms = np.zeros(len(scores))
    if metric == "roc_auc":
        if of_own and of_others:
            for members, sorted_scores in ((own, others_sorted), (~own, own_sorted)):
                ends = (np.searchsorted(sorted_scores, scores[members], side) for side in ("left", "right"))
                terms[members] = sum(ends) / (2 * len(sorted_scores))
            # A text of the rest is ranked right by those of the class that are above it.
            area = terms[own].mean()
            terms[~own] = 1 - terms[~own] - area
        return terms
    # At the threshold of each own text: the own texts and the others that reach it.
    above = of_own - np.searchsorted(own_sorted, own_sorted, "left")
    wrong = of_others - np.searchsorted(others_sorted, own_sorted, "left")
    gains, losses = (np.append(0, np.cumsum(part / (above + wrong) ** 2)) for part in (wrong, above))
    reached = np.searchsorted(own_sorted, scores, "right")
    precision = np.append(0, above / (above + wrong))[reached]
    return np.where(own, precision + gains[reached], -losses[reached])


def _divisor(counts: np.ndarray, without: float = 1) -> np.ndarray:
    """Replace a count of 0, by which a score of 0 would be divided."""
    return np.where(counts > 0, counts, without)


def _mean_ranking_score(
    metric: str, own: np.ndarray, others: np.ndarray, support: np.ndarray, texts: np.ndarray
) -> np.ndarray:
    """Average the scores of the classes present, from the sums of `_ranking_terms`, [draws, runs, classes each]."""
    rest = texts[..., None] - support
    if metric == "roc_auc":
        defined = (support > 0) & (rest > 0)
        of_class = own / _divisor(support) + others / _divisor(rest)
        return np.where(defined.any(axis=2), (of_class * defined).sum(axis=2) / _divisor(defined.sum(axis=2)), 0.5)
    return ((own + others) / _divisor(support) * (support > 0)).sum(axis=2) / _divisor((support > 0).sum(axis=2))
