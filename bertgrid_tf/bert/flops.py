"""Floating-point operations of training a BERT, and the machine's peak rate: the two terms of MFU."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from bertgrid_tf.bert.device import matmul_rate
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.unpadded import COMPUTE
from bertgrid_tf.hyperparameters import Precision

PEAK_SECONDS = 0.8
"""Duration of `peak`'s measurement, tracing included; long enough to include a moment without other load."""

# A multiplication and an addition for each weight in the forward pass, twice as many in the backward pass: Kaplan et
# al. 2020, section 2.1.
FORWARD_AND_BACK = 6


@cache
def peak(precision: Precision) -> float:
    """Measure the best rate of matrix products, FLOP/s (`device.matmul_rate`), once in a process."""
    return matmul_rate(COMPUTE[precision], PEAK_SECONDS)


def training_flops(size: Dimensions, lengths: Sequence[int] | np.ndarray) -> float:
    """Count the FLOPs of one training epoch: all matrix products, forward and backward, without padding.

    They are 6 × tokens × the weights of the encoder's dense layers, 6 × texts × those of pooler and head, and 12 ×
    length² × width in each layer's attention. Element-wise operations and the optimizer are not counted.

    Args:
        size: The model.
        lengths: Tokens of every text.
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    dense = FORWARD_AND_BACK * (tokens.sum() * size.token_kernels + len(tokens) * size.text_kernels)
    attention = 2 * FORWARD_AND_BACK * size.layers * size.width * np.square(tokens).sum()
    return float(dense + attention)
