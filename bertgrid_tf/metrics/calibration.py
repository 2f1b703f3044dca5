"""Calibration of probabilities: reliability, temperature scaling, and bias-corrected temperature scaling.

`truth` holds class ids, int [n]; `probabilities` are float [n, classes]; `dialogues` is the number of each text's
dialogue, int [n].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FOLDS = 5

# The inverse is the lower bound: texts without a mistake ask for a temperature of 0, sure mistakes for infinity.
HOTTEST = 10.0


@dataclass(frozen=True)
class Reliability:
    """The accuracy of the likeliest class in bins of its probability.

    Attributes:
        confidence: The mean probability of the likeliest class in each bin, ascending, float [bins].
        accuracy: The share of correctly classified texts in each bin, float [bins].
        share: The share of all texts in each bin, float [bins].
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean distance of confidence and accuracy over texts, a fraction of 1."""
        return float(self.share @ np.abs(self.confidence - self.accuracy))


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> Reliability:
    """Compare confidence and accuracy of the likeliest class, in bins of equally many texts.

    Bins of equal width leave the low bins almost empty, and the error of an empty bin is noise: bins of equal numbers
    are less biased (Nixon et al. 2019, arXiv 1904.01685, section 4; Roelofs et al. 2022, arXiv 2012.08668). Equally
    confident texts share a bin, so that the order of the texts does not matter and there may be fewer bins.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    _, members, counts = np.unique(np.searchsorted(edges, confidence), return_inverse=True, return_counts=True)
    return Reliability(
        confidence=np.bincount(members, confidence) / counts,
        accuracy=np.bincount(members, right) / counts,
        share=counts / len(truth),
    )


def expected_calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Compute the expected calibration error of the likeliest class.

    Chance alone makes the error positive: perfectly calibrated probabilities of 1,178 texts have 0.035 on average, so
    that only errors on the same texts can be compared. The bins are those of `reliability`.

    Source: Guo et al. 2017, On calibration of modern neural networks, arXiv 1706.04599, eq. 3.

    Example:
        >>> import numpy as np
        >>> from bertgrid_tf.metrics.calibration import expected_calibration_error
        >>> expected_calibration_error(np.array([0, 1]), np.array([[0.75, 0.25], [0.75, 0.25]]))
        0.25
    """
    return reliability(truth, probabilities, bins).error


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Scale probabilities to softmax(log p / temperature), float64, which keeps the likeliest class.

    A temperature above 1 lowers the confidence, one below 1 raises it.
    """
    from scipy.special import softmax

    return softmax(_logits(probabilities) / temperature, axis=1)


def fit_temperature(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """Fit the temperature of least cross-entropy.

    Source: Guo et al. 2017, On calibration of modern neural networks, arXiv 1706.04599, section 4.2.

    Returns:
        The temperature, from 0.1 to 10.
    """
    from scipy.optimize import minimize_scalar

    logits = _logits(probabilities)
    optimum = minimize_scalar(
        lambda log_temperature: _loss(truth, logits / np.exp(log_temperature)),
        bounds=(-np.log(HOTTEST), np.log(HOTTEST)),
    )
    return float(np.exp(optimum.x))


@dataclass(frozen=True)
class Calibration:
    """The effect of temperature scaling on dev.

    Attributes:
        temperature: The temperature for new texts, fitted on all of dev.
        before: The reliability of the unscaled probabilities.
        after: The reliability of the scaled probabilities, each text's temperature fitted on the folds without its
            dialogue.
        loss_before: The cross-entropy of the unscaled probabilities, in nats.
        loss_after: The cross-entropy of the scaled probabilities of `after`, in nats.
    """

    temperature: float
    before: Reliability
    after: Reliability
    loss_before: float
    loss_after: float

    @property
    def gains(self) -> bool:
        """Whether temperature scaling lowers the cross-entropy of held-out texts."""
        return self.loss_after < self.loss_before


def calibrate(truth: np.ndarray, probabilities: np.ndarray, dialogues: np.ndarray) -> Calibration:
    """Fit a temperature on dev, and measure its effect by cross-validation."""

    def scale(fit: np.ndarray, held: np.ndarray) -> np.ndarray:
        return apply_temperature(probabilities[held], fit_temperature(truth[fit], probabilities[fit]))

    held_out = cross_fitted(probabilities, dialogues, scale)
    return Calibration(
        temperature=fit_temperature(truth, probabilities),
        before=reliability(truth, probabilities),
        after=reliability(truth, held_out),
        loss_before=_loss(truth, _logits(probabilities)),
        loss_after=_loss(truth, _logits(held_out)),
    )


def cross_fitted(
    probabilities: np.ndarray, dialogues: np.ndarray, correct: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Correct each text's probabilities by a correction that is fitted on the other folds of whole dialogues.

    Args:
        probabilities: The probabilities of the classes, float [n, classes].
        dialogues: The number of each text's dialogue, int [n].
        correct: A function of the indices of the texts to fit on and the indices of the held-out texts that returns
            the corrected probabilities of the held-out texts.

    Returns:
        The corrected probabilities, float64 [n, classes]; a split of one dialogue leaves nothing to fit on and stays
        uncorrected.
    """
    from sklearn.model_selection import GroupKFold

    corrected = probabilities.astype(np.float64)
    folds = min(FOLDS, len(np.unique(dialogues)))
    if folds > 1:
        for fit, held in GroupKFold(folds).split(probabilities, groups=dialogues):
            corrected[held] = correct(fit, held)
    return corrected


@dataclass(frozen=True)
class BiasCorrectedTemperature:
    """The parameters of bias-corrected temperature scaling.

    Attributes:
        temperature: The temperature, above 0.
        biases: The bias that is added to the scaled logit of each class, float [classes].
    """

    temperature: float
    biases: np.ndarray


def apply_bcts(probabilities: np.ndarray, scaling: BiasCorrectedTemperature) -> np.ndarray:
    """Scale probabilities to softmax(log p / temperature + biases), float64, which may change the likeliest class."""
    from scipy.special import softmax

    return softmax(_logits(probabilities) / scaling.temperature + scaling.biases, axis=1)


def fit_bcts(truth: np.ndarray, probabilities: np.ndarray) -> BiasCorrectedTemperature:
    """Fit bias-corrected temperature scaling by least cross-entropy.

    The scaling makes the mean probability of a class on the fitted texts equal to the share of the class, which a
    temperature alone does not reach and a correction of priors presumes. A standard normal prior keeps the bias of a
    class without texts finite; the prior weighs about as much as one text of each class.

    Source: Alexandari, Kundaje and Shrikumar 2020, arXiv 1901.06852.

    Returns:
        The temperature, from 0.1 to 10, and the biases.
    """
    from scipy.optimize import minimize
    from scipy.special import softmax

    logits = _logits(probabilities)
    n, classes = logits.shape
    own = np.eye(classes)[truth]

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, biases = parameters[0], parameters[1:]
        scores = slope * logits + biases
        excess = softmax(scores, axis=1) - own
        gradient = np.append((excess * logits).sum(), excess.sum(axis=0) + biases)
        return _loss(truth, scores) + biases @ biases / (2 * n), gradient / n

    unchanged = np.append(1.0, np.zeros(classes))
    bounds = [(1 / HOTTEST, HOTTEST)] + [(None, None)] * classes
    optimum = minimize(objective, unchanged, jac=True, method="L-BFGS-B", bounds=bounds)
    return BiasCorrectedTemperature(float(1 / optimum.x[0]), optimum.x[1:])


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """Compute log p in float64, with the lower bound of p of `classification.evaluate`."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny, dtype=np.float64))


def _loss(truth: np.ndarray, logits: np.ndarray) -> float:
    from scipy.special import log_softmax

    return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())
