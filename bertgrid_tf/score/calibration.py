"""Whether probabilities mean what they say, and the temperature and biases that bring them closer to it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FOLDS = 5

# Its inverse is the lowest: texts without a mistake ask for a temperature of 0, sure mistakes for an infinite one.
HOTTEST = 10.0


@dataclass(frozen=True)
class Reliability:
    """How often the likeliest class is right, by how probable it was said to be.

    Attributes:
        confidence: mean probability of the likeliest class in each bin, ascending, float [bins].
        accuracy: share of right texts in each bin, float [bins].
        share: of all texts that lie in each bin, float [bins].
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy over texts, a fraction of 1."""
        return float(self.share @ np.abs(self.confidence - self.accuracy))


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> Reliability:
    """Confidence against accuracy of the likeliest class, in bins of equally many texts.

    Bins of equal width leave the low ones all but empty, and their error is noise: equal numbers are less biased
    (Nixon et al. 2019, arXiv 1904.01685, section 4; Roelofs et al. 2022, arXiv 2012.08668). Equally confident texts
    share a bin, so that the order of the texts does not matter and there may be fewer bins.

    Args:
        truth: class ids, int [n].
        probabilities: float [n, classes].
        bins: at most.
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
    """Expected calibration error of the likeliest class (Guo et al. 2017, arXiv 1706.04599, eq. 3), a fraction of 1.

    Chance alone makes it positive: perfectly calibrated probabilities of 1,178 texts have 0.035 on average, so that
    only errors on the same texts compare. `reliability` says which bins.

    Args:
        truth: class ids, int [n].
        probabilities: float [n, classes].
        bins: at most.
    """
    return reliability(truth, probabilities, bins).error


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """softmax(log p / temperature): above 1 less sure, below 1 surer, the likeliest class the same.

    Args:
        probabilities: float [n, classes].
        temperature: above 0.

    Returns:
        float64 [n, classes].
    """
    from scipy.special import softmax

    return softmax(_logits(probabilities) / temperature, axis=1)


def fit_temperature(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature of least cross-entropy, within 0.1 and 10 (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    Args:
        truth: class ids, int [n].
        probabilities: float [n, classes].
    """
    from scipy.optimize import minimize_scalar

    logits = _logits(probabilities)
    found = minimize_scalar(
        lambda log_temperature: _loss(truth, logits / np.exp(log_temperature)),
        bounds=(-np.log(HOTTEST), np.log(HOTTEST)),
    )
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Calibration:
    """What a temperature does to the probabilities on dev.

    Attributes:
        temperature: fitted on all of dev; for new texts.
        before: of the probabilities as they are.
        after: with it, every text's temperature fitted on the folds without its dialogue.
        loss_before, loss_after: cross-entropy likewise, in nats.
    """

    temperature: float
    before: Reliability
    after: Reliability
    loss_before: float
    loss_after: float

    @property
    def gains(self) -> bool:
        """Whether held-out texts are told better with it."""
        return self.loss_after < self.loss_before


def calibrate(truth: np.ndarray, probabilities: np.ndarray, dialogues: np.ndarray) -> Calibration:
    """Temperature scaling, and what it gains on texts that it was not fitted on.

    Args:
        truth: class ids, int [n].
        probabilities: float [n, classes].
        dialogues: number of each text's dialogue, int [n].
    """

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
    """Every text's probabilities corrected by what was fitted on other dialogues: five folds of whole dialogues.

    Args:
        probabilities: float [n, classes].
        dialogues: number of each text's dialogue, int [n].
        correct: from the indices of the texts to fit on and of those held out, corrected probabilities of the latter.

    Returns:
        float64 [n, classes]; as they were where there is only one dialogue, none being left to fit on.
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
    """A temperature and a bias for every class, float [classes]."""

    temperature: float
    biases: np.ndarray


def apply_bcts(probabilities: np.ndarray, scaling: BiasCorrectedTemperature) -> np.ndarray:
    """softmax(log p / temperature + biases), float64 [n, classes]; the likeliest class may change.

    Args:
        probabilities: float [n, classes].
        scaling: fitted on other texts.
    """
    from scipy.special import softmax

    return softmax(_logits(probabilities) / scaling.temperature + scaling.biases, axis=1)


def fit_bcts(truth: np.ndarray, probabilities: np.ndarray) -> BiasCorrectedTemperature:
    """Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar 2020, arXiv 1901.06852).

    Least cross-entropy, the temperature within 0.1 and 10. With it the mean probability of a class on the texts that
    it is fitted on is the class's share there, which a temperature alone does not reach and a correction of priors
    presumes. A standard normal prior on the biases keeps those of classes without a text finite; it weighs about as
    much as one text of each class.

    Args:
        truth: class ids, int [n].
        probabilities: float [n, classes].
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
    found = minimize(objective, unchanged, jac=True, method="L-BFGS-B", bounds=bounds)
    return BiasCorrectedTemperature(float(1 / found.x[0]), found.x[1:])


def _logits(probabilities: np.ndarray) -> np.ndarray:
    """log p, float64; the floor under p is that of `score.metrics.evaluate`."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny, dtype=np.float64))


def _loss(truth: np.ndarray, logits: np.ndarray) -> float:
    from scipy.special import log_softmax

    return float(-log_softmax(logits, axis=1)[np.arange(len(truth)), truth].mean())
