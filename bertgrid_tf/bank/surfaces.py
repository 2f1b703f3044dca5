"""The bank's learning-rate × epoch tables ▶ what `--search surface` expects of a study."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from bertgrid_tf.bank.studies import RecordedStudy, read_studies
from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.bert.scratch import SCRATCH
from tuners.strategies import RecordedTable

BANDWIDTH = 0.5
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
    return weigh(full_tables(read_studies()), size.layers, size.width, SCRATCH.fullmatch(model) is None)


def weigh(studies: Sequence[RecordedStudy], layers: int, width: int, pretrained: bool) -> list[RecordedTable]:
    """Weigh full tables by how near the size of their checkpoint is; a pretrained one is like pretrained ones only."""
    kernels = []
    for study in studies:
        card = study.card
        octaves = math.inf
        if card.layers and card.width and card.pretrained == pretrained:
            octaves = math.log2(card.layers * card.width / (layers * width))
        kernels.append(math.exp(-0.5 * (octaves / BANDWIDTH) ** 2))
    return [
        RecordedTable(study.rates, study.mean, baseline(study), kernel / (sum(kernels) + ALONE))
        for study, kernel in zip(studies, kernels, strict=True)
    ]


def baseline(study: RecordedStudy) -> float:
    """Return the score of a model that has learned nothing; the lowest score where the card has none."""
    return float(np.nanmin(study.scores)) if study.card.baseline is None else study.card.baseline
