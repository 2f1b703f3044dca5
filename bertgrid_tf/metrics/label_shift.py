"""Label shift between dev and new texts: its test, the new class shares, and probabilities corrected for them.

Label shift means that the class shares change while the texts within each class stay the same.
"""

from dataclasses import dataclass

import numpy as np

DRAWS = 999

# The change of a share between two steps, far below the sampling error of as many texts as fit in memory.
_TOLERANCE = 1e-6


def correct_priors(probabilities: np.ndarray, train_priors: np.ndarray, new_priors: np.ndarray) -> np.ndarray:
    """Correct probabilities for new class shares.

    Source: Saerens, Latinne and Decaestecker 2002, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14:1, eq. 2.4.

    Args:
        probabilities: The probabilities of the classes, float [n, classes].
        train_priors: The class shares that the probabilities presume, above 0, float [classes].
        new_priors: The class shares of the texts, above 0, float [classes].

    Returns:
        The corrected probabilities, float64 [n, classes].

    Example:
        >>> import numpy as np
        >>> from bertgrid_tf.metrics.label_shift import correct_priors
        >>> correct_priors(np.array([[0.5, 0.5]]), np.array([0.5, 0.5]), np.array([0.75, 0.25]))
        array([[0.75, 0.25]])
    """
    joint = probabilities * (new_priors / train_priors)
    return joint / joint.sum(axis=1, keepdims=True)


def estimate_priors(probabilities: np.ndarray, train_priors: np.ndarray) -> np.ndarray:
    """Estimate the class shares of unlabelled texts by expectation-maximisation.

    The estimate is only as good as the calibration: fit `calibration.fit_bcts` on dev, apply it to dev and to the new
    texts, and take the mean of dev's probabilities as `train_priors` (Alexandari et al. 2020, arXiv 1901.06852).

    Source: Saerens, Latinne and Decaestecker 2002, Neural Computation 14:1, eq. 2.9.

    Args:
        probabilities: The probabilities of the new texts, float [n, classes].
        train_priors: The class shares that the probabilities presume, above 0, float [classes].

    Returns:
        The most likely shares, float64 [classes]; next to 0 for a class that the new texts seem to lack.
    """
    priors, step = train_priors, np.inf
    while step > _TOLERANCE:
        updated = correct_priors(probabilities, train_priors, priors).mean(axis=0)
        priors, step = updated, np.abs(updated - priors).max()
    return priors


@dataclass(frozen=True)
class ShiftTest:
    """The result of the test that new texts have the class shares of dev.

    Attributes:
        statistic: The distance of the mean probabilities, in the form of Pearson's chi-square.
        p: The p value: the probability of such a distance or a larger one without label shift.
    """

    statistic: float
    p: float


def shift_test(
    dev: np.ndarray,
    new: np.ndarray,
    dev_dialogues: np.ndarray | None = None,
    new_dialogues: np.ndarray | None = None,
    seed: int = 0,
) -> ShiftTest:
    """Test for label shift by black box shift detection, a comparison of the predictions for dev and for new texts.

    Under label shift the predicted classes shift with the true classes (Lipton et al. 2018, arXiv 1802.03916). The
    statistic is the chi-square of two samples with probabilities in place of counts of predicted classes, soft as in
    BBSDs of Rabanser et al. 2019 (arXiv 1810.11953): with 100 simulated dialogues of 12 texts on dev and 80 new
    dialogues, probabilities detected 57 % of shifts of 10 points, counts 44 %.

    The p value comes from random permutations of whole dialogues between dev and new, since the texts of a dialogue
    resemble each other. Unlike the likelihood ratio of Saerens et al. 2002, the test needs neither many dialogues nor
    calibrated probabilities; the dialogues of dev and new must be of similar length.

    Args:
        dev: The model's probabilities on dev, float [n, classes].
        new: The probabilities of the same model on the new texts, float [m, classes].
        dev_dialogues: The number of each dev text's dialogue, int [n]; None where every text stands alone.
        new_dialogues: The number of each new text's dialogue, int [m]; None where every text stands alone.
        seed: The seed of the 999 random permutations.

    Returns:
        The statistic and its p value.
    """
    # The distance is symmetric, and fewer dialogues are faster to permute.
    fewer, more = sorted((_dialogue_sums(dev, dev_dialogues), _dialogue_sums(new, new_dialogues)), key=len)
    sums = np.concatenate([fewer, more])
    generator = np.random.default_rng(seed)
    permutations = (generator.choice(len(sums), len(fewer), replace=False, shuffle=False) for _ in range(DRAWS))
    drawn = np.array([fewer.sum(axis=0), *(sums[chosen].sum(axis=0) for chosen in permutations)])
    total = sums.sum(axis=0)
    # The classes' probabilities of a dialogue sum to the number of its texts.
    texts, everything = drawn.sum(axis=1, keepdims=True), total.sum()
    distance = drawn / texts - (total - drawn) / (everything - texts)
    weight = texts[:, 0] * (everything - texts[:, 0]) / everything
    statistics = weight * (distance**2 / np.maximum(total / everything, np.finfo(np.float64).tiny)).sum(axis=1)
    # Rounding must not separate permutations with the observed statistic from it.
    extreme = statistics > statistics[0] * (1 - 1e-9) - 1e-9
    return ShiftTest(statistic=float(statistics[0]), p=float(extreme.mean()))


def _dialogue_sums(probabilities: np.ndarray, dialogues: np.ndarray | None) -> np.ndarray:
    """Sum the probabilities of each dialogue, float64 [dialogues, classes]."""
    if dialogues is None:
        return probabilities.astype(np.float64)
    numbers, members = np.unique(dialogues, return_inverse=True)
    sums = np.zeros((len(numbers), probabilities.shape[1]))
    np.add.at(sums, members, probabilities)
    return sums
