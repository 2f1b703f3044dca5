"""The size of a BERT."""

from dataclasses import dataclass
from typing import Any

from typing_extensions import Self

from bertgrid_tf.bert.checkpoint_files import described_folder, read_config
from bertgrid_tf.bert.scratch import scratch_config


@dataclass(frozen=True)
class Dimensions:
    """The numbers that decide the size of a BERT.

    Attributes:
        layers: Layers of the encoder.
        width: Width of a token's vector.
        heads: Attention heads of a layer.
        intermediate: Width between the two feed-forward products.
        vocabulary: Rows of the word embeddings.
        positions: Rows of the position embeddings.
        types: Rows of the token-type embeddings.
        classes: Classes of the classifier.
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
        """Read the dimensions off a transformers configuration; DistilBERT's has other names and no token types."""
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
    """Read the dimensions of a checkpoint off its config, which alone is downloaded; errors as for `checkpoint.load`.

    The vocabulary of `scratch` is the largest that it may get.
    """
    return Dimensions.of(scratch_config(model) or read_config(described_folder(model)), classes)
