"""Class shares that changed between dev and new texts: whether they did, to what, and probabilities that allow for it.

All of it presumes label shift: the classes come in other shares, and the texts of each class look as they did.
"""

from dataclasses import dataclass

import numpy as np

DRAWS = 999

# Of a share, from one step to the next: far below the sampling error of as many texts as fit in memory.
_TOLERANCE = 1e-6


def correct_priors(probabilities: np.ndarray, train_priors: np.ndarray, new_priors: np.ndarray) -> np.ndarray:
    """Probabilities for texts whose classes come in other shares (Saerens, Latinne and Decaestecker 2002, eq. 2.4).

    Args:
        probabilities: float [n, classes].
        train_priors: that the probabilities presume, above 0, float [classes].
        new_priors: that hold, above 0, float [classes].

    Returns:
        float64 [n, classes].
    """
    joint = probabilities * (new_priors / train_priors)
    return joint / joint.sum(axis=1, keepdims=True)


def estimate_priors(probabilities: np.ndarray, train_priors: np.ndarray) -> np.ndarray:
    """The likeliest class shares of unlabelled texts, by expectation-maximisation (Saerens et al. 2002, eq. 2.9).

    Only as good as the calibration: fit `calibration.fit_bcts` on dev, apply it to dev and to the new texts, and take
    the mean of dev's probabilities as `train_priors` (Alexandari et al. 2020, arXiv 1901.06852).

    Args:
        probabilities: of the new texts, float [n, classes].
        train_priors: that the probabilities presume, above 0, float [classes].

    Returns:
        float64 [classes]; next to 0 for a class that the new texts seem to lack.
    """
    priors, step = train_priors, np.inf
    while step > _TOLERANCE:
        updated = correct_priors(probabilities, train_priors, priors).mean(axis=0)
        priors, step = updated, np.abs(updated - priors).max()
    return priors


@dataclass(frozen=True)
class Shift:
    """Whether the classes of new texts come in other shares than on dev.

    Attributes:
        statistic: distance of the mean probabilities, in the form of Pearson's chi-square.
        p: of such a distance or a larger one where there is no shift.
    """

    statistic: float
    p: float


def shift_test(
    dev: np.ndarray,
    new: np.ndarray,
    dev_dialogues: np.ndarray | None = None,
    new_dialogues: np.ndarray | None = None,
    seed: int = 0,
) -> Shift:
    """Black box shift detection: what the model says of new texts compared with what it says of dev's.

    Under label shift the predicted classes shift where the true ones do (Lipton et al. 2018, arXiv 1802.03916).
    Probabilities take the place of counts of predicted classes in chi-square for two samples, soft as in BBSDs of
    Rabanser et al. 2019 (arXiv 1810.11953): with 100 made-up dialogues of 12 texts on dev and 80 new ones they found
    57 % of shifts of 10 points, counts 44 %.

    p is from dealing whole dialogues out between dev and new at random, since texts of a dialogue resemble each other.
    It needs neither many dialogues nor calibrated probabilities, as the likelihood ratio of Saerens et al. 2002 does;
    dialogues of dev and new must be of like length.

    Args:
        dev: probabilities, float [n, classes].
        new: probabilities of the same model, float [m, classes].
        dev_dialogues, new_dialogues: number of each text's dialogue, int [n], [m]; None where every text stands alone.
        seed: of the 999 random deals.
    """
    # The distance is the same either way, and fewer dialogues are sooner dealt out.
    fewer, more = sorted((_dialogue_sums(dev, dev_dialogues), _dialogue_sums(new, new_dialogues)), key=len)
    sums = np.concatenate([fewer, more])
    generator = np.random.default_rng(seed)
    deals = (generator.choice(len(sums), len(fewer), replace=False, shuffle=False) for _ in range(DRAWS))
    drawn = np.array([fewer.sum(axis=0), *(sums[deal].sum(axis=0) for deal in deals)])
    total = sums.sum(axis=0)
    # The classes' probabilities of a dialogue sum to the number of its texts.
    texts, everything = drawn.sum(axis=1, keepdims=True), total.sum()
    distance = drawn / texts - (total - drawn) / (everything - texts)
    weight = texts[:, 0] * (everything - texts[:, 0]) / everything
    statistics = weight * (distance**2 / np.maximum(total / everything, np.finfo(np.float64).tiny)).sum(axis=1)
    # Rounding must not part deals that are equal to what was observed.
    extreme = statistics > statistics[0] * (1 - 1e-9) - 1e-9
    return Shift(statistic=float(statistics[0]), p=float(extreme.mean()))


def _dialogue_sums(probabilities: np.ndarray, dialogues: np.ndarray | None) -> np.ndarray:
    """Float64 [dialogues, classes]."""
    if dialogues is None:
        return probabilities.astype(np.float64)
    numbers, members = np.unique(dialogues, return_inverse=True)
    sums = np.zeros((len(numbers), probabilities.shape[1]))
    np.add.at(sums, members, probabilities)
    return sums
