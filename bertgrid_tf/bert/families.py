"""Where the parts of a classifier lie in transformers' classes, for the families whose layers are BERT's.

Their layers are three products and an attention, whose order and LayerNorms are BERT's; embeddings, names and head
differ. `bert.unpadded` computes a model by its description. DeBERTa, whose attention depends on relative positions, has
none. Nothing here imports TensorFlow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from typing_extensions import Self


class _Parts:
    """Names of layers within a larger one, or the layers themselves (`of`); None where a family has no such layer."""

    def of(self, whole: Any) -> Self:
        """Return the layers of `whole` in place of their names."""
        return type(self)(*(name and attrgetter(name)(whole) for name in vars(self).values()))


@dataclass(frozen=True)
class Layer(_Parts):
    """A layer of the encoder.

    Attributes:
        query: Dense layer of the queries.
        key: Dense layer of the keys.
        value: Dense layer of the values.
        weights_dropout: Dropout of the attention weights.
        output: Dense layer of attention's result.
        output_dropout: Dropout after `output`.
        output_norm: LayerNorm of the sum with the layer's input.
        inner: Dense layer whose result the activation takes.
        outer: Dense layer back to the encoder's width.
        outer_dropout: Dropout after `outer`.
        outer_norm: LayerNorm of the sum with attention's result.
    """

    query: Any
    key: Any
    value: Any
    weights_dropout: Any
    output: Any
    output_dropout: Any
    output_norm: Any
    inner: Any
    outer: Any
    outer_dropout: Any
    outer_norm: Any


@dataclass(frozen=True)
class Head(_Parts):
    """The head on the vector of each text's first token.

    Attributes:
        dense: Dense layer as wide as the encoder.
        dropout: Dropout before the classes.
        classes: Dense layer that gives the logits.
    """

    dense: Any
    dropout: Any
    classes: Any


@dataclass(frozen=True)
class Family:
    """A description of a family's classifier in transformers' names.

    Attributes:
        layer: Names of a layer's parts within it.
        head: Names of the head's parts within the model.
        layers: Returns the layers of a model's encoder in the order of computation; a shared one occurs repeatedly.
        projection: Returns an encoder's dense layer from the embeddings' width to its own, or None for none.
        token_types: Whether there are token-type embeddings.
        padding_id: Token whose position is its own id, while the positions of the others are counted from the next
            number; None for positions that are those in the text.
        activation: Key of the layers' activation in the config.
        head_activation: Activation of the head's dense layer.
        drops_head_input: Whether the head's dropout is applied before its dense layer too.
    """

    layer: Layer
    head: Head
    layers: Callable[[Any], Sequence[Any]] = attrgetter("encoder.layer")
    projection: Callable[[Any], Any] = lambda encoder: None
    token_types: bool = True
    padding_id: int | None = None
    activation: str = "hidden_act"
    head_activation: str = "tanh"
    drops_head_input: bool = False


def _albert_layers(encoder: Any) -> list[Any]:
    """Return the layers of ALBERT, which repeats each group of layers."""
    transformer = encoder.encoder
    count = transformer.num_hidden_layers
    per_group = count / transformer.num_hidden_groups
    groups = [transformer.albert_layer_groups[int(number / per_group)] for number in range(count)]
    return [layer for group in groups for layer in group.albert_layers]


_LAYER = Layer(
    query="attention.self_attention.query",
    key="attention.self_attention.key",
    value="attention.self_attention.value",
    weights_dropout="attention.self_attention.dropout",
    output="attention.dense_output.dense",
    output_dropout="attention.dense_output.dropout",
    output_norm="attention.dense_output.LayerNorm",
    inner="intermediate.dense",
    outer="bert_output.dense",
    outer_dropout="bert_output.dropout",
    outer_norm="bert_output.LayerNorm",
)
_ALBERT_LAYER = Layer(
    query="attention.query",
    key="attention.key",
    value="attention.value",
    weights_dropout="attention.attention_dropout",
    output="attention.dense",
    output_dropout="attention.output_dropout",
    output_norm="attention.LayerNorm",
    inner="ffn",
    outer="ffn_output",
    outer_dropout="dropout",
    outer_norm="full_layer_layer_norm",
)
_DISTILBERT_LAYER = Layer(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    weights_dropout="attention.dropout",
    output="attention.out_lin",
    output_dropout=None,
    output_norm="sa_layer_norm",
    inner="ffn.lin1",
    outer="ffn.lin2",
    outer_dropout="ffn.dropout",
    outer_norm="output_layer_norm",
)
_ROBERTA_HEAD = Head("classifier.dense", "classifier.dropout", "classifier.out_proj")
_ROBERTA = Family(_LAYER, _ROBERTA_HEAD, padding_id=1, drops_head_input=True)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "albert": Family(
            _ALBERT_LAYER,
            Head("albert.pooler", "dropout", "classifier"),
            layers=_albert_layers,
            projection=attrgetter("encoder.embedding_hidden_mapping_in"),
        ),
        "bert": Family(_LAYER, Head("bert.pooler.dense", "dropout", "classifier")),
        "camembert": _ROBERTA,
        "distilbert": Family(
            _DISTILBERT_LAYER,
            Head("pre_classifier", "dropout", "classifier"),
            layers=attrgetter("transformer.layer"),
            token_types=False,
            activation="activation",
            head_activation="relu",
        ),
        "electra": Family(
            _LAYER,
            _ROBERTA_HEAD,
            projection=lambda encoder: getattr(encoder, "embeddings_project", None),
            head_activation="gelu",
            drops_head_input=True,
        ),
        "roberta": _ROBERTA,
        "xlm-roberta": _ROBERTA,
    }
)
"""The families, each by its model type in transformers."""
