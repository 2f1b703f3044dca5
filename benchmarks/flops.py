"""How many floating-point operations training a BERT takes: the ground of the machine limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

# A multiplication and an addition for each parameter going forward, twice as many going back (the gradients of the
# inputs and of the weights): Kaplan et al. 2020, section 2.1.
FORWARD_AND_BACK = 6


@dataclass(frozen=True)
class BertShape:
    """The sizes of a BERT classifier.

    Attributes:
        layers: of the encoder.
        width: of the hidden states.
        inner: width of the feed-forward layers.
        classes: outputs of the head.
    """

    layers: int
    width: int
    inner: int
    classes: int

    @classmethod
    def of(cls, config: Any, classes: int) -> Self:
        """The sizes in a transformers config."""
        return cls(config.num_hidden_layers, config.hidden_size, config.intermediate_size, classes)

    @property
    def token_parameters(self) -> int:
        """Weights that every token is multiplied with; embeddings are looked up, so they are none."""
        return self.layers * (4 * self.width**2 + 2 * self.width * self.inner)

    @property
    def text_parameters(self) -> int:
        """Weights that every text is multiplied with once: the pooler's and the classifier's."""
        return self.width**2 + self.width * self.classes


def training_flops(shape: BertShape, lengths: Sequence[int] | np.ndarray) -> float:
    """FLOPs of training once on texts of these lengths (tokens, no padding): all matrix products, forward and back.

    6 × tokens × the weights of the encoder's dense layers, 6 × texts × those of pooler and head, and for attention,
    whose scores and weighted sums are 2 × 2 × length² × width operations going forward, 12 × length² × width a layer.
    Element-wise work (LayerNorm, GELU, softmax, dropout, the optimizer) is not counted.
    """
    tokens = np.asarray(lengths, dtype=np.float64)
    dense = FORWARD_AND_BACK * (tokens.sum() * shape.token_parameters + len(tokens) * shape.text_parameters)
    attention = 2 * FORWARD_AND_BACK * shape.layers * shape.width * np.square(tokens).sum()
    return float(dense + attention)


def products(shape: BertShape, tokens: int) -> list[tuple[int, int, int]]:
    """The sizes (m, k, n) of the encoder's matrix products [m, k]·[k, n] on so many tokens: its layers' and those of
    their weights' gradients."""
    width, inner = shape.width, shape.inner
    forward = [(tokens, width, width), (tokens, width, inner), (tokens, inner, width)]
    return forward + [(k, m, n) for m, k, n in forward]
