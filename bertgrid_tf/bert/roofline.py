"""The least time of training a BERT on this machine: its matrix products, and the bytes that it must move."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec

import numpy as np

from bertgrid_tf.bert.device import matmul_rate, memory_rate
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.unpadded import COMPUTE
from bertgrid_tf.hyperparameters import Precision

MEASUREMENTS = 3
"""Calls of a process that measure a rate; other work on the host slows some of them down."""
PEAK_SECONDS = 0.5
"""Duration of one of `peak`'s measurements, tracing included."""
BANDWIDTH_SECONDS = 0.2
"""Duration of one of `bandwidth`'s measurements."""

# A multiplication and an addition for each weight in the forward pass, twice as many in the backward pass: Kaplan et
# al. 2020, section 2.1.
FORWARD_AND_BACK = 6
BACK = 4
# Of each activation and of its gradient: written once, and read once.
ACTIVATION_PASSES = 4
# The gradient, and weights and both moments of Adam read and written.
UPDATE_PASSES = 7
FLOAT_BYTES = 4

_P = ParamSpec("_P")


def _best_so_far(measure: Callable[_P, float]) -> Callable[_P, float]:
    """Return a function whose first `MEASUREMENTS` calls with the same arguments measure a rate; all give the best."""
    rates: dict[tuple[object, ...], list[float]] = defaultdict(list)

    @wraps(measure)
    def best(*args: _P.args, **kwargs: _P.kwargs) -> float:
        measured = rates[args]
        if len(measured) < MEASUREMENTS:
            measured.append(measure(*args, **kwargs))
        return max(measured)

    return best


@_best_so_far
def peak(precision: Precision) -> float:
    """Measure the best rate of matrix products, FLOP/s (`device.matmul_rate`), in the first calls of a process."""
    return matmul_rate(COMPUTE[precision], PEAK_SECONDS)


@_best_so_far
def bandwidth() -> float:
    """Measure the memory's rate, bytes/s (`device.memory_rate`), in the first calls of a process."""
    return memory_rate(BANDWIDTH_SECONDS)


def measure(precision: Precision) -> None:
    """Take all measurements of `peak` and `bandwidth` now: later, they would count as time of the first epochs."""
    for _ in range(MEASUREMENTS):
        peak(precision)
        bandwidth()


def training_flops(size: Dimensions, lengths: Sequence[int] | np.ndarray, frozen_layers: int = 0) -> float:
    """Count the FLOPs of one training epoch: all matrix products, forward and backward, without padding.

    They are 6 × tokens × the weights of the encoder's dense layers, 6 × texts × those of pooler and head, and 12 ×
    length² × width in each layer's attention. Element-wise operations and the optimizer are not counted. Frozen layers
    have a forward pass alone, and the first layer above them no gradient of its input.

    Args:
        size: The model.
        lengths: Tokens of every text.
        frozen_layers: Lowest layers that are not trained, and with any of them no embeddings.
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    dense = FORWARD_AND_BACK * (tokens.sum() * size.token_kernels + len(tokens) * size.text_kernels)
    attention = 2 * FORWARD_AND_BACK * size.layers * size.width * np.square(tokens).sum()
    back = BACK * tokens.sum() * size.frozen_kernels(frozen_layers)
    back += 2 * BACK * frozen_layers * size.width * np.square(tokens).sum()
    back += BACK / 2 * tokens.sum() * 3 * size.width**2 * bool(frozen_layers)
    return float(dense + attention - back)


def activation_bytes(size: Dimensions, lengths: Sequence[int] | np.ndarray, frozen_layers: int = 0) -> float:
    """Count the bytes of one training epoch's activations in float32, each written and read once forward and once back.

    Of each layer they are a token's query, key, value, attended vector, the results of its dense layers, of GELU and
    of both LayerNorms, and attention's scores before and after softmax. Dropout's masks are not counted; frozen
    layers have no pass back.

    Args:
        size: The model.
        lengths: Tokens of every text.
        frozen_layers: As for `training_flops`.

    Example:
        >>> tiny = Dimensions(1, width=2, heads=1, intermediate=4, vocabulary=9, positions=9, types=1, classes=2)
        >>> activation_bytes(tiny, [1]) / 16  # 8 × width + 2 × intermediate + 2 × heads
        26.0
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    numbers = tokens.sum() * (8 * size.width + 2 * size.intermediate) + 2 * size.heads * np.square(tokens).sum()
    passes = ACTIVATION_PASSES * size.layers - ACTIVATION_PASSES / 2 * frozen_layers
    return float(passes * FLOAT_BYTES * numbers)


def update_bytes(size: Dimensions, embedding_rows: int, precision: Precision, frozen_layers: int = 0) -> float:
    """Count the bytes of one update of the weights: seven passes, and in half precision the kernels' casts.

    Args:
        size: The model.
        embedding_rows: Rows of the word embeddings that are trained.
        precision: Precision of matrix products. In bf16 and fp16 each kernel is read as float32 and written in 2 bytes,
            and its gradient the other way.
        frozen_layers: As for `training_flops`.
    """
    unread = 0 if frozen_layers else (size.vocabulary - embedding_rows) * size.embedding_width
    trained = size.trained_parameters(frozen_layers) - unread
    cast = 2 * (size.token_kernels + size.text_kernels) - size.frozen_kernels(frozen_layers)
    casts = 0 if precision == "fp32" else (FLOAT_BYTES + 2) * cast
    return UPDATE_PASSES * FLOAT_BYTES * trained + casts


@dataclass(frozen=True)
class Roofline:
    """The least seconds of training, by what limits them (Williams et al. 2009, without overlap).

    Attributes:
        products: Matrix products at the `peak`.
        activations: Bytes of activations at the `bandwidth`.
        update: Bytes of the weights' updates at the `bandwidth`.
    """

    products: float
    activations: float
    update: float

    @property
    def seconds(self) -> float:
        """The sum."""
        return self.products + self.activations + self.update


def roofline(
    size: Dimensions,
    lengths: Sequence[int] | np.ndarray,
    steps: int,
    embedding_rows: int,
    precision: Precision,
    replicas: int = 1,
    frozen_layers: int = 0,
) -> Roofline:
    """Compute the least time of one training epoch without padding.

    Args:
        size: The model.
        lengths: Tokens of every text.
        steps: Steps of the epoch, each with an update.
        embedding_rows: Rows of the word embeddings that are trained.
        precision: Precision of matrix products.
        replicas: Devices that share the texts; each of them updates all weights.
        frozen_layers: As for `training_flops`.
    """
    return Roofline(
        training_flops(size, lengths, frozen_layers) / (peak(precision) * replicas),
        activation_bytes(size, lengths, frozen_layers) / (bandwidth() * replicas),
        steps * update_bytes(size, embedding_rows, precision, frozen_layers) / bandwidth(),
    )
