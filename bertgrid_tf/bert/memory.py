"""The memory that training takes: an estimate from a model's dimensions, and the batch that a measured curve allows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.hyperparameters import Pooling, Precision

SHARE = 0.8
"""The largest share of the limit that a batch may take; the rest is for variation between runs."""
MIB = 2**20


def estimate(
    dimensions: Dimensions,
    batch: int,
    max_length: int,
    precision: Precision,
    on_gpu: bool,
    frozen_layers: int = 0,
    pooling: Pooling = "cls",
) -> int:
    """Estimate the peak memory of a training step with texts of the maximum length, in bytes.

    Activations are counted as by Korthikanti et al. 2023 (arXiv 2205.05198, section 4.1): in every layer, a token keeps
    the inputs of all products in the products' precision; dropout masks, LayerNorm and GELU in float32; and for each
    head and token of its text softmax and dropout mask in float32 and the attention weights. The last layer's
    feed-forward part is computed for one token of a text, or with mean pooling for all. Of frozen layers nothing is
    kept. Weights, gradients, decay and Adam's moments are float32. A CPU's memory also holds a second copy of the
    weights and the traced step. `dimensions` are those of a model that computes no padding (`bert.families`).
    """
    tokens, width, wide = batch * max_length, dimensions.width, dimensions.intermediate
    product, weights = 4 if precision == "fp32" else 2, 4 * dimensions.parameters
    attention = dimensions.heads * max_length * (4 + 4 + product)
    layer = (6 * product + 4 * 4) * width + (product + 2 * 4) * wide + attention
    last = layer if pooling == "mean" else 4 * product * width + attention
    backward = 3 * 4 * wide
    embedded = dimensions.embedding_width
    embedding = 2 * 4 * embedded + (product * embedded if dimensions.embedding else 0)
    trained = 4 * dimensions.trained_parameters(frozen_layers)
    embedding_update = 6 * 4 * dimensions.vocabulary * embedded
    if frozen_layers:
        embedding = embedding_update = 0
    activations = tokens * ((dimensions.layers - frozen_layers - 1) * layer + last + embedding + backward)
    host = 0 if on_gpu else weights + (50 + 5 * dimensions.layers) * MIB
    return weights + 4 * trained + embedding_update + activations + host


class Point(NamedTuple):
    """One batch size as measured.

    Attributes:
        batch: Texts.
        peak: Peak memory in bytes.
        rate: Examples per second.
    """

    batch: int
    peak: float
    rate: float


def predicted(points: Sequence[Point], batch: int) -> float:
    """Interpolate the peak memory of a batch linearly, in bytes.

    Beyond the last point, the slope is that of the last two or of the first and the last, whichever is steeper.
    """
    last = points[-1]
    if batch <= last.batch:
        return float(np.interp(batch, [point.batch for point in points], [point.peak for point in points]))
    others = {points[0], *points[-2:]} - {last}
    slopes = [(last.peak - point.peak) / (last.batch - point.batch) for point in others]
    return last.peak + max(slopes, default=0.0) * (batch - last.batch)


def largest(points: Sequence[Point], limit: float, most: int) -> int:
    """Return the largest batch, up to `most` texts, that takes at most 80 % of the limit by the curve.

    A batch is 1, a multiple of 2, or from 16 up of 8. Where one text takes more, its own peak is the limit.

    Example:
        >>> largest([Point(1, 110.0, 1.0), Point(2, 120.0, 1.0)], limit=400, most=64)
        16
    """
    bound = max(SHARE * limit, predicted(points, 1))
    sizes = [1, *range(2, min(most, 16) + 1, 2), *range(24, most + 1, 8)]
    return max(batch for batch in sizes if predicted(points, batch) <= bound)
