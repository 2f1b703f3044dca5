"""What is done to a final model's probabilities before a person sees them, and what that gains."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertgrid_tf.score.adjustment import Adjustment, adjust, choose_strength
from bertgrid_tf.score.calibration import Calibration, apply_bcts, apply_temperature, calibrate, fit_bcts
from bertgrid_tf.score.metrics import OVERALL
from bertgrid_tf.score.prior import Shift, correct_priors, estimate_priors, shift_test

SHIFTED = 0.05
"""A smaller p of no shift counts as one."""


@dataclass(frozen=True)
class Correction:
    """Logit adjustment, then temperature scaling; both fitted on dev.

    Attributes:
        strength: of the adjustment; 0 for none.
        priors: each class's share of what the model was trained on, above 0.
        temperature: 1 leaves probabilities as they are.
    """

    strength: float
    priors: Sequence[float]
    temperature: float

    def of(self, probabilities: np.ndarray) -> np.ndarray:
        """The corrected probabilities, float64 [n, classes]."""
        adjusted = adjust(probabilities, np.asarray(self.priors), self.strength)
        return apply_temperature(adjusted, self.temperature)


@dataclass(frozen=True)
class Fitted:
    """A correction, and what is known of it.

    Attributes:
        metric: that the adjustment was chosen for.
        adjustment: what it does on dev, kept or not.
        calibration: what the temperature does on dev to what is adjusted, kept or not.
        correction: what of both is kept.
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
) -> Fitted:
    """The correction of a model by what it says of dev.

    Where the study is decided by accuracy, weighted F1 or the loss, no adjustment is kept, which would trade them for
    the rare classes, and what it would do for macro-F1 is told; where it is by a metric of classes, it is kept if
    held-out folds gain by it. So it is with the temperature and the cross-entropy.

    Args:
        truth: class ids, int [n].
        probabilities: float [n, classes].
        dialogues: number of each text's dialogue, int [n].
        priors: each class's share of what the model was trained on, above 0, float [classes].
        labels: class names in the order of their ids.
        metric: that the study is decided by.
    """
    counts_classes = metric not in OVERALL or metric == "macro_f1"
    judged_by = metric if counts_classes else "macro_f1"
    adjustment = choose_strength(truth, probabilities, dialogues, priors, labels, judged_by)
    strength = adjustment.strength if counts_classes else 0.0
    adjusted = adjust(probabilities, priors, strength)
    calibration = calibrate(truth, adjusted, dialogues)
    temperature = calibration.temperature if calibration.gains else 1.0
    correction = Correction(strength, priors.tolist(), temperature)
    return Fitted(judged_by, adjustment, calibration, correction)


@dataclass(frozen=True)
class Shifted:
    """New texts whose classes may come in other shares than dev's.

    Attributes:
        test: of no shift.
        priors: the likeliest shares of the new texts, float [classes].
        probabilities: of the new texts, allowing for them, float64 [n, classes].
    """

    test: Shift
    priors: np.ndarray
    probabilities: np.ndarray

    @property
    def found(self) -> bool:
        """Whether there seems to be a shift."""
        return self.test.p < SHIFTED

    @property
    def correctable(self) -> bool:
        """Whether the estimated shares leave every class a text or more: a class that vanishes is an artefact rather
        than a finding."""
        return bool((self.priors * len(self.probabilities) >= 1).all())


def shifted(
    truth: np.ndarray, dev: np.ndarray, new: np.ndarray, dev_dialogues: np.ndarray, new_dialogues: np.ndarray
) -> Shifted:
    """Whether the classes of new texts come in other shares than dev's, and their probabilities if so (`score.prior`).

    Args:
        truth: class ids of dev, int [n].
        dev, new: probabilities of one model, float [n, classes], [m, classes].
        dev_dialogues, new_dialogues: number of each text's dialogue, int [n], [m].
    """
    scaling = fit_bcts(truth, dev)
    calibrated = apply_bcts(new, scaling)
    before = apply_bcts(dev, scaling).mean(axis=0)
    priors = estimate_priors(calibrated, before)
    corrected = correct_priors(calibrated, before, priors)
    return Shifted(shift_test(dev, new, dev_dialogues, new_dialogues), priors, corrected)
