"""How many floating-point operations training a BERT takes: the ground of the machine limit."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from bertgrid_tf.bert.device import matmul_rate
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.unpadded import COMPUTE
from bertgrid_tf.hyperparameters import Precision

PEAK_SECONDS = 0.8
"""So long `peak` measures: with the time that tracing takes, and long enough to meet a quiet moment."""

# A multiplication and an addition for each parameter going forward, twice as many going back (the gradients of the
# inputs and of the weights): Kaplan et al. 2020, section 2.1.
FORWARD_AND_BACK = 6


@cache
def peak(precision: Precision) -> float:
    """The best rate of matrix products in a precision, FLOP/s (`device.matmul_rate`); measured once in a process."""
    return matmul_rate(COMPUTE[precision], PEAK_SECONDS)


def training_flops(size: Dimensions, lengths: Sequence[int] | np.ndarray) -> float:
    """FLOPs of training once on texts of these lengths (tokens, no padding): all matrix products, forward and back.

    6 × tokens × the weights of the encoder's dense layers, 6 × texts × those of pooler and head, and for attention,
    whose scores and weighted sums are 2 × 2 × length² × width operations going forward, 12 × length² × width a layer.
    Element-wise work (LayerNorm, GELU, softmax, dropout, the optimizer) is not counted.
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    dense = FORWARD_AND_BACK * (tokens.sum() * size.token_kernels + len(tokens) * size.text_kernels)
    attention = 2 * FORWARD_AND_BACK * size.layers * size.width * np.square(tokens).sum()
    return float(dense + attention)
