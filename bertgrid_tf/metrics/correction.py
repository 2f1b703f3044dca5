"""Corrections of a final model's probabilities: logit adjustment, temperature scaling, and label shift."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertgrid_tf.metrics.adjustment import Adjustment, adjust, choose_strength
from bertgrid_tf.metrics.calibration import Calibration, apply_bcts, apply_temperature, calibrate, fit_bcts
from bertgrid_tf.metrics.classification import OF_PROBABILITIES
from bertgrid_tf.metrics.label_shift import ShiftTest, correct_priors, estimate_priors, shift_test

SHIFT_ALPHA = 0.05
"""The significance level of the test for label shift."""


@dataclass(frozen=True)
class Correction:
    """Logit adjustment followed by temperature scaling.

    Attributes:
        strength: The strength of the adjustment; 0 for none.
        priors: The share of each class in the training texts, above 0, [classes].
        temperature: The temperature; 1 leaves the probabilities unchanged.

    Example:
        >>> import numpy as np
        >>> from bertgrid_tf.metrics.correction import Correction
        >>> correction = Correction(strength=1, priors=[0.75, 0.25], temperature=1)
        >>> correction.apply(np.array([[0.75, 0.25]]))
        array([[0.5, 0.5]])
    """

    strength: float
    priors: Sequence[float]
    temperature: float

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Correct the probabilities of a model.

        Args:
            probabilities: The probabilities of the classes, float [n, classes].

        Returns:
            The corrected probabilities, float64 [n, classes].
        """
        adjusted = adjust(probabilities, np.asarray(self.priors), self.strength)
        return apply_temperature(adjusted, self.temperature)


@dataclass(frozen=True)
class FittedCorrection:
    """A correction with the measurements behind it.

    Attributes:
        metric: The metric for which the adjustment was chosen.
        adjustment: The effect of the adjustment on dev, whether the correction includes it or not.
        calibration: The effect of the temperature on dev, after the adjustment of `correction`, whether the correction
            includes the temperature or not.
        correction: The correction, of those parts that gain.
    """

    metric: str
    adjustment: Adjustment
    calibration: Calibration
    correction: Correction


def fit(
    truth: np.ndarray,
    probabilities: np.ndarray,
    dialogues: np.ndarray,
    priors: np.ndarray,
    labels: Sequence[str],
    metric: str,
) -> FittedCorrection:
    """Fit the correction of a model on its predictions for dev.

    Logit adjustment trades accuracy for the recall of rare classes. So the correction includes no adjustment if the
    deciding metric is accuracy, weighted F1 or a metric of probabilities, whose effect on macro-F1 is only reported;
    for every other metric it includes an adjustment if held-out folds gain by it. The correction includes a temperature
    if held-out folds have a lower cross-entropy with it.

    Args:
        truth: The class ids, int [n].
        probabilities: The probabilities of the classes, float [n, classes].
        dialogues: The number of each text's dialogue, int [n].
        priors: The share of each class in the training texts, above 0, float [classes].
        labels: The class names in the order of their ids.
        metric: The deciding metric of the study.

    Returns:
        The correction, with the effects of its parts on dev.
    """
    counts_classes = metric.split(":")[0] not in ("accuracy", "weighted_f1", *OF_PROBABILITIES)
    judged_by = metric if counts_classes else "macro_f1"
    adjustment = choose_strength(truth, probabilities, dialogues, priors, labels, judged_by)
    strength = adjustment.strength if counts_classes else 0.0
    adjusted = adjust(probabilities, priors, strength)
    calibration = calibrate(truth, adjusted, dialogues)
    temperature = calibration.temperature if calibration.gains else 1.0
    correction = Correction(strength, priors.tolist(), temperature)
    return FittedCorrection(judged_by, adjustment, calibration, correction)


@dataclass(frozen=True)
class LabelShift:
    """The class shares of new texts, compared with those of dev.

    Attributes:
        test: The test of no shift.
        priors: The most likely class shares of the new texts, float [classes].
        probabilities: The probabilities of the new texts, corrected for `priors`, float64 [n, classes].
    """

    test: ShiftTest
    priors: np.ndarray
    probabilities: np.ndarray

    @property
    def detected(self) -> bool:
        """Whether the test rejects that there is no shift."""
        return self.test.p < SHIFT_ALPHA

    @property
    def correctable(self) -> bool:
        """Whether the estimated shares leave every class at least one text; a vanishing class is an artefact."""
        return bool((self.priors * len(self.probabilities) >= 1).all())


def detect_shift(
    truth: np.ndarray, dev: np.ndarray, new: np.ndarray, dev_dialogues: np.ndarray, new_dialogues: np.ndarray
) -> LabelShift:
    """Test whether the class shares of new texts differ from dev's, and correct the probabilities for the new shares.

    Args:
        truth: The class ids of dev, int [n].
        dev: The model's probabilities on dev, float [n, classes].
        new: The probabilities of the same model on the new texts, float [m, classes].
        dev_dialogues: The number of each dev text's dialogue, int [n].
        new_dialogues: The number of each new text's dialogue, int [m].

    Returns:
        The test, the estimated shares and the corrected probabilities (see `score.prior`).
    """
    scaling = fit_bcts(truth, dev)
    calibrated = apply_bcts(new, scaling)
    before = apply_bcts(dev, scaling).mean(axis=0)
    priors = estimate_priors(calibrated, before)
    corrected = correct_priors(calibrated, before, priors)
    return LabelShift(shift_test(dev, new, dev_dialogues, new_dialogues), priors, corrected)
