"""How large a BERT is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import BertConfig

from bertgrid_tf.bert.checkpoint import HEAD_WIDTH, SCRATCH, SCRATCH_VOCABULARY, _config, _scratch_size, cached


@dataclass(frozen=True)
class Dimensions:
    """What a BERT's size depends on.

    Attributes:
        layers, width, heads, intermediate: of the encoder.
        vocabulary, positions, types: rows of the embeddings.
        classes: of the classifier.
    """

    layers: int
    width: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    classes: int

    @classmethod
    def of(cls, config: Any, classes: int) -> Self:
        """The dimensions that a configuration of transformers states; DistilBERT names one of its own."""
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            getattr(config, "intermediate_size", None) or config.hidden_dim,
            config.vocab_size,
            config.max_position_embeddings,
            getattr(config, "type_vocab_size", 0),
            classes,
        )

    @property
    def token_kernels(self) -> int:
        """Weights that every token is multiplied with: those of the layers."""
        return self.layers * (4 * self.width**2 + 2 * self.width * self.intermediate)

    @property
    def text_kernels(self) -> int:
        """Weights that every text is multiplied with once: the pooler's and the classifier's."""
        return self.width**2 + self.width * self.classes

    @property
    def parameters(self) -> int:
        """All weights of the classifier."""
        embeddings = (self.vocabulary + self.positions + self.types) * self.width
        # LayerNorm has a scale and a shift: one after the embeddings, two in every layer.
        vectors = 2 * self.width + self.layers * (9 * self.width + self.intermediate) + self.width + self.classes
        return embeddings + self.token_kernels + self.text_kernels + vectors


def dimensions(model: str, classes: int) -> Dimensions:
    """The dimensions of a checkpoint, read off its config alone, which alone is downloaded; errors as for
    `checkpoint.load`. Of `scratch`, the vocabulary is the largest that it may get."""
    if scratch := SCRATCH.fullmatch(model):
        layers, width = _scratch_size(scratch)
        own = BertConfig()
        positions, types = own.max_position_embeddings, own.type_vocab_size
        return Dimensions(layers, width, width // HEAD_WIDTH, 4 * width, SCRATCH_VOCABULARY, positions, types, classes)
    return Dimensions.of(_config(cached(model) or Path(model)), classes)
