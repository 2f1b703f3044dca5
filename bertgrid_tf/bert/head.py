"""A classifier's head retrained on fixed features, with the classes as they are or balanced."""

from typing import Any, Literal

import numpy as np

Balance = Literal["smote", "rose"]

NEIGHBOURS = 5
"""Nearest texts among which SMOTE draws a partner, as in its paper."""
C = 1.0
"""Weight of the summed loss against half the kernel's squared norm: scikit-learn's default."""


def refit(
    features: np.ndarray, labels: np.ndarray, method: Literal["refit"] | Balance, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a softmax regression with an L2 penalty to features, balanced or not (`balance`).

    Classifier re-training is due to Kang et al. 2020 (arXiv 1910.09217, section 4), who repeat texts of rare classes.
    Here new points are drawn, or none with "refit", which separates the effect of the fit from that of the balance. The
    problem is convex, so that the solution does not depend on the trained head.

    Args:
        features: Input of the head for each text, float32 [texts, width].
        labels: Label ids, int [texts]; every class occurs.
        method: "refit", "smote" or "rose".
        seed: Decides the new points.

    Returns:
        Kernel, float32 [width, classes], and bias, float32 [classes].
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # In hundreds of short products threads would wait for one another, and their number would change the rounding.
    with threadpool_limits(1):
        if method != "refit":
            features, labels = balance(features, labels, method, seed)
        fitted = LogisticRegression(C=C, max_iter=1_000).fit(features, labels)
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if len(fitted.classes_) == 2:
        # scikit-learn keeps the second class's log odds alone.
        kernel, bias = kernel * [-0.5, 0.5], bias * [-0.5, 0.5]
    return kernel.astype(np.float32), bias.astype(np.float32)


def balance(features: np.ndarray, labels: np.ndarray, method: Balance, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Add features to every smaller class until it is as large as the largest.

    SMOTE (Chawla et al. 2002) draws points on the lines between a text and one of its 5 nearest of the same class, or
    of fewer in a smaller class; a text that is alone in its class is copied. ROSE (Menardi and Torelli 2014) draws from
    a Gaussian around a text, whose width is that of a kernel density estimate of the class.

    Returns:
        Features, float32 [points, width], and their labels, int [points]; arguments as for `refit`.
    """
    from imblearn.over_sampling import SMOTE, RandomOverSampler

    # Seeds of any size, which RandomState itself does not take.
    random = np.random.RandomState(np.random.MT19937(seed))
    if method == "rose":
        points, classes = RandomOverSampler(shrinkage=1.0, random_state=random).fit_resample(features, labels)
        return points.astype(np.float32), classes
    classes, sizes = np.unique(labels, return_counts=True)
    for label, size in zip(classes, sizes, strict=True):
        wanted: dict[str, Any] = {"sampling_strategy": {label: sizes.max()}, "random_state": random}
        sampler = RandomOverSampler(**wanted) if size == 1 else SMOTE(k_neighbors=min(NEIGHBOURS, size - 1), **wanted)
        features, labels = sampler.fit_resample(features, labels)
    return features, labels
