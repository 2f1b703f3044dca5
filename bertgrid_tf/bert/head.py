"""A classifier's head fitted anew, to the classes as they are or balanced, the encoder left as it is."""

from typing import Any, Literal

import numpy as np

Balance = Literal["smote", "rose"]
Refitted = Literal["refit"] | Balance
Head = Literal["trained"] | Refitted

NEIGHBOURS = 5
"""SMOTE draws between a text and one of its so many nearest, as its authors did."""
C = 1.0
"""The sum of all losses counts so many times as much as half the kernel's squared norm: scikit-learn's own default."""


def refit(features: np.ndarray, labels: np.ndarray, head: Refitted, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fits a softmax regression with an L2 penalty to features, of which every class may have as many (`balance`).

    This is the classifier re-training of Kang et al. 2020 (arXiv 1910.09217, section 4): an encoder learns best from
    the classes as they are, a classifier from balanced ones. Theirs repeat texts; these are new points between or
    around them, or with "refit" none, by which one sees what the fit does and what the balance. The problem is convex,
    so that the head that was trained plays no part in it.

    Args:
        features: what the head reads of each text, float32 [n, width].
        labels: label ids, int [n]; every class is there.
        head: "refit", "smote" or "rose".
        seed: decides the new points, if any.

    Returns:
        kernel, float32 [width, classes], and bias, float32 [classes].
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # The fit is hundreds of short products: threads would wait for one another, and as many as there are would round
    # in their own way.
    with threadpool_limits(1):
        if head != "refit":
            features, labels = balance(features, labels, head, seed)
        fitted = LogisticRegression(C=C, max_iter=1_000).fit(features, labels)
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if len(fitted.classes_) == 2:
        # It keeps the second class's log odds alone.
        kernel, bias = kernel * [-0.5, 0.5], bias * [-0.5, 0.5]
    return kernel.astype(np.float32), bias.astype(np.float32)


def balance(features: np.ndarray, labels: np.ndarray, head: Balance, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All features and, of every smaller class, new ones that make it as large as the largest.

    SMOTE (Chawla et al. 2002) puts them on the lines between a text and its nearest of the same class: of 5, or of as
    many as there are; a text that is alone in its class is copied. ROSE (Menardi and Torelli 2014) draws them from a
    Gaussian around a text, whose width is that of a kernel density estimate of the class.

    Arguments as for `refit`; returns features, float32 [m, width], and labels, int [m].
    """
    from imblearn.over_sampling import SMOTE, RandomOverSampler

    # Seeds of any size, which RandomState itself does not take.
    random = np.random.RandomState(np.random.MT19937(seed))
    if head == "rose":
        made, classes = RandomOverSampler(shrinkage=1.0, random_state=random).fit_resample(features, labels)
        return made.astype(np.float32), classes
    classes, sizes = np.unique(labels, return_counts=True)
    for label, size in zip(classes, sizes, strict=True):
        wanted: dict[str, Any] = {"sampling_strategy": {label: sizes.max()}, "random_state": random}
        sampler = RandomOverSampler(**wanted) if size == 1 else SMOTE(k_neighbors=min(NEIGHBOURS, size - 1), **wanted)
        features, labels = sampler.fit_resample(features, labels)
    return features, labels
