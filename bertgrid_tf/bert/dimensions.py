"""The size of a BERT or a relative of it."""

from dataclasses import dataclass
from typing import Any

from typing_extensions import Self

from bertgrid_tf.bert.checkpoint_files import described_folder, read_config
from bertgrid_tf.bert.scratch import scratch_config


@dataclass(frozen=True)
class Dimensions:
    """The numbers that decide the size of a BERT or a relative of it (`bert.families`).

    Attributes:
        layers: Layers of the encoder, each as often as it is computed.
        width: Width of a token's vector.
        heads: Attention heads of a layer.
        intermediate: Width between the two feed-forward products.
        vocabulary: Rows of the word embeddings.
        positions: Rows of the position embeddings.
        types: Rows of the token-type embeddings.
        classes: Classes of the classifier.
        embedding: Width of the embeddings that a dense layer projects to `width`; None where there is no such layer.
        distinct_layers: Layers with weights of their own; None where no layer is shared.
    """

    layers: int
    width: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int
    classes: int
    embedding: int | None = None
    distinct_layers: int | None = None

    @classmethod
    def of(cls, config: Any, classes: int) -> Self:
        """Read the dimensions off a transformers configuration; a family's own keys are read for that family alone."""
        albert = config.model_type == "albert"
        group = config.inner_group_num if albert else 1
        embedding = config.embedding_size if albert or config.model_type == "electra" else config.hidden_size
        return cls(
            group * config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            getattr(config, "intermediate_size", None) or config.hidden_dim,
            config.vocab_size,
            config.max_position_embeddings,
            getattr(config, "type_vocab_size", 0),
            classes,
            embedding if albert or embedding != config.hidden_size else None,
            group * config.num_hidden_groups if albert else None,
        )

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings."""
        return self.embedding or self.width

    @property
    def token_kernels(self) -> int:
        """Weights that every token is multiplied with, by layers and projection; shared ones count for each layer."""
        return self.layers * self._layer_kernels + (self.embedding or 0) * self.width

    @property
    def text_kernels(self) -> int:
        """Weights that every text is multiplied with once: those of the head's two dense layers."""
        return self.width**2 + self.width * self.classes

    @property
    def parameters(self) -> int:
        """All weights of the classifier."""
        return self.trained_parameters(0)

    def trained_parameters(self, frozen_layers: int) -> int:
        """Return the weights that are trained if the lowest layers are not, and with any of them no embeddings."""
        # LayerNorm has a scale and a shift: one after the embeddings, two in every layer.
        embeddings = (self.vocabulary + self.positions + self.types + 2) * self.embedding_width
        projection = (self.embedding + 1) * self.width if self.embedding else 0
        layer = self._layer_kernels + 9 * self.width + self.intermediate
        layers = ((self.distinct_layers or self.layers) - frozen_layers) * layer
        below = 0 if frozen_layers else embeddings + projection
        return below + layers + self.text_kernels + self.width + self.classes

    def frozen_kernels(self, frozen_layers: int) -> int:
        """Return the `token_kernels` that are not trained, as for `trained_parameters`."""
        projection = (self.embedding or 0) * self.width
        return frozen_layers * self._layer_kernels + projection if frozen_layers else 0

    @property
    def _layer_kernels(self) -> int:
        return 4 * self.width**2 + 2 * self.width * self.intermediate


def dimensions(model: str, classes: int) -> Dimensions:
    """Read the dimensions of a checkpoint off its config, which alone is downloaded; errors as for `checkpoint.load`.

    The vocabulary of `scratch` is the largest that it may get.
    """
    return Dimensions.of(scratch_config(model) or read_config(described_folder(model)), classes)
