"""How much memory training takes: by estimate from a model's dimensions; and which batch a measured curve allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.unpadded import Precision

SHARE = 0.8
"""The most of the limit that a batch may take, the rest being for what does not repeat exactly."""
LEAST_STEPS = 50
"""Steps that an epoch keeps however large the memory is."""
PROCESS, LAYER = 50 * 2**20, 5 * 2**20
"""Bytes that a process on a CPU takes to trace a step and to run it: of any model, and of each of its layers."""


@dataclass(frozen=True)
class Estimate:
    """What training is estimated to take at its worst moment, in bytes.

    Attributes:
        weights: of the model, float32.
        moments: Adam's two.
        initial: the host's copy of the weights, from which every run begins; 0 on a GPU.
        update: the gradients, and what weight decay takes off the weights. The products' own copy of the weights in
            another precision than float32 is half as large as the gradients, and gives way to them layer by layer.
        table: what updating the rows of the word embeddings works with, if the texts have all of the vocabulary.
        activations: what the backward pass needs of the forward pass.
        workspace: what the backward pass of one layer works with.
        process: what tracing takes (PROCESS, LAYER); 0 on a GPU.
    """

    weights: int
    moments: int
    initial: int
    update: int
    table: int
    activations: int
    workspace: int
    process: int

    @property
    def peak(self) -> int:
        """All of them."""
        return sum(getattr(self, part.name) for part in fields(self))


def estimate(dimensions: Dimensions, batch: int, max_length: int, precision: Precision, on_gpu: bool) -> Estimate:
    """Estimates what a training step of `bert.trainer` takes.

    The method is that of Korthikanti et al. 2023, "Reducing Activation Recomputation in Large Transformer Models",
    section 4.1: counting what each product, softmax, dropout and LayerNorm of `bert.unpadded` keeps. In every layer but
    the last, with c bytes for a number in the products' precision, a token keeps

    * c for each input of a product: x, the query, the key, the value, what attention read, x again (6 widths), the
      output of GELU (the intermediate width);
    * 4 for what is float32 all the same: two dropout masks and two LayerNorms' units (4 widths), GELU's input and its Φ
      (2 intermediate widths);
    * and of attention, for each head and each token of its text: softmax's output and a dropout mask (4 each), and
      what is left of the output (c).

    Of the last layer only x, query, key, value and attention are computed for all tokens.

    Args:
        dimensions: of the model.
        batch: texts, all of the maximum length: there is no padding then.
        max_length: tokens of a text.
        precision: of the products.
        on_gpu: whether weights and activations lie on a GPU, apart from the process.
    """
    tokens, width, wide = batch * max_length, dimensions.width, dimensions.intermediate
    product = 4 if precision == "fp32" else 2
    attention = dimensions.heads * max_length * (4 + 4 + product)
    layer = (6 * product + 4 * 4) * width + (product + 2 * 4) * wide + attention
    last = 4 * product * width + attention
    embedded = 2 * 4 * width
    weights = 4 * dimensions.parameters
    return Estimate(
        weights=weights,
        moments=2 * weights,
        initial=0 if on_gpu else weights,
        update=2 * weights,
        table=6 * 4 * dimensions.vocabulary * width,
        activations=tokens * ((dimensions.layers - 1) * layer + last + embedded),
        workspace=tokens * 3 * 4 * wide,
        process=0 if on_gpu else PROCESS + dimensions.layers * LAYER,
    )


class Point(NamedTuple):
    """What a batch of so many texts took.

    Attributes:
        batch: texts.
        peak: bytes at the worst moment.
        rate: examples per second.
    """

    batch: int
    peak: int
    rate: float


def sizes(most: int) -> Iterator[int]:
    """The batch sizes up to `most` that are taken: 1, multiples of 2, and from 16 up multiples of 8."""
    yield 1
    yield from range(2, min(most, 16) + 1, 2)
    yield from range(24, most + 1, 8)


def most_texts(texts: int) -> int:
    """The largest batch with which an epoch of `texts` texts still has 50 steps; at least 1.

    A step of Adam moves no weight by much more than the learning rate, however many texts it has seen, so that too few
    steps leave a model untrained. RTE, the smallest task that Devlin et al. 2019 tuned, has 78 an epoch at their batch
    of 32.
    """
    return max(texts // LEAST_STEPS, 1)


def predicted(points: Sequence[Point], batch: int) -> float:
    """Bytes that a batch takes: linear between the points, which are sorted, and beyond them as steep as their last two
    or all of them, whichever is steeper. A larger batch never takes less: where it was measured so, that was chance."""
    sizes, peaks = [point.batch for point in points], list(accumulate((point.peak for point in points), max))
    if batch <= sizes[-1]:
        return float(np.interp(batch, sizes, peaks))
    slopes = [(peaks[-1] - peaks[i]) / (sizes[-1] - sizes[i]) for i in (0, -2) if len(points) > 1]
    return peaks[-1] + max(slopes, default=0.0) * (batch - sizes[-1])


def largest(points: Sequence[Point], limit: float, most: int) -> int:
    """The largest of the `sizes` up to `most` that takes at most 80 % of `limit` bytes by the curve of the points, or
    no more than a single text where that takes more already."""
    bound = max(SHARE * limit, predicted(points, 1))
    return max(batch for batch in sizes(most) if predicted(points, batch) <= bound)


def largest_by_estimate(
    dimensions: Dimensions, limit: int, most: int, max_length: int, precision: Precision, on_gpu: bool
) -> int:
    """As `largest`, by `estimate` alone."""

    def point(batch: int) -> Point:
        return Point(batch, estimate(dimensions, batch, max_length, precision, on_gpu).peak, 0)

    return largest((point(1), point(2)), limit, most)
