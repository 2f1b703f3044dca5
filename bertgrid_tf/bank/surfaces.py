"""The bank's learning-rate × epoch tables ▶ what `--search surface` expects of a study."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from bertgrid_tf.bank.studies import RecordedStudy, read_studies
from bertgrid_tf.bank.suggest import size_exponent
from bertgrid_tf.bert.dimensions import dimensions
from tuners.strategies import RecordedTable

BANDWIDTH = 2.0
"""Difference of two sizes, layers × width in factors of 2, at which the weight of a table falls to exp(−½)."""
ALONE = 0.5
"""Weight, in tables of the same size, of what no table tells."""


def full_tables(studies: Iterable[RecordedStudy]) -> list[RecordedStudy]:
    """Select the studies with a full table of accuracies and two rows or more."""
    return [
        study
        for study in studies
        if study.card.metric == "accuracy"
        and len(study.rates) > 1
        and study.tried.all()
        and not np.isnan(study.mean).all()
    ]


def expected_surfaces(model: str) -> list[RecordedTable]:
    """Weigh the package's tables for a study of a checkpoint: a hub id, a folder or `scratch:…`.

    The user's own bank is left out: a study that ends adds to it, and a search must resume as it began.

    Raises:
        UserError: The checkpoint or a table cannot be read.
    """
    size = dimensions(model, 2)
    return weigh(full_tables(read_studies()), size.layers, size.width)


def weigh(studies: Sequence[RecordedStudy], layers: int, width: int) -> list[RecordedTable]:
    """Weigh full tables by how near the size of their checkpoint is, at the learning rates that another size needs."""
    exponent, kernels, rates = size_exponent(studies), [], []
    for study in studies:
        card, octaves = study.card, math.inf
        if card.layers and card.width:
            octaves = math.log2(layers * width / (card.layers * card.width))
        kernels.append(math.exp(-0.5 * (octaves / BANDWIDTH) ** 2))
        rates.append(study.rates * 2 ** (exponent * octaves) if kernels[-1] else study.rates)
    return [
        RecordedTable(at, study.mean, baseline(study), kernel / (sum(kernels) + ALONE))
        for study, at, kernel in zip(studies, rates, kernels, strict=True)
    ]


def baseline(study: RecordedStudy) -> float:
    """Return the score of a model that has learned nothing; the lowest score where the card has none."""
    return float(np.nanmin(study.scores)) if study.card.baseline is None else study.card.baseline
