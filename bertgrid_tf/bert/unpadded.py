"""The forward pass of BERT and its relatives over the real tokens of a batch, without padding.

Embeddings, dense layers and LayerNorm run on `[tokens, width]`; only attention needs a place for each text. Two more
savings over transformers' own pass leave the logits as they are:

* In attention a long text and a short one share a row, separated by the mask, so that rows are nearly full.
* The classifier reads only the first token of every text: of the others, the last layer computes keys and values alone.
  Where it reads the mean over all tokens instead, the last layer is computed as the others are.

Where embeddings, layers and head of a model lie is described in `families`. The variables and Dropout layers are those
of transformers' own class: nothing is converted.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import Any, NamedTuple

import tensorflow as tf
from transformers.activations_tf import get_tf_activation

from bertgrid_tf.bert.families import FAMILIES, Layer
from bertgrid_tf.hyperparameters import Pooling, Precision

COMPUTE: dict[Precision, tf.DType] = {"fp32": tf.float32, "bf16": tf.bfloat16, "fp16": tf.float16}
"""The type of matrix products; weights, LayerNorm, softmax and the loss are float32 in each precision."""

# Its exponential is 0 in every type of `COMPUTE`.
_MASKED = -1e9


def supports(model: Any) -> bool:
    """Whether `Unpadded` computes the classifier: one of the `FAMILIES` with absolute positions."""
    config = model.config
    positions = getattr(config, "position_embedding_type", "absolute")
    return config.model_type in FAMILIES and positions == "absolute" and not config.is_decoder


class _Places(NamedTuple):
    """The places of vectors in attention's rows, which several texts can share.

    Queries, keys, values and attended vectors are `[rows, heads, length]` vectors of a head's size. Empty places hold
    the first vector, which no other attends to.

    Attributes:
        size: Number and length of the rows, two int32 scalars.
        vectors: Index into the flat `[vectors, heads]` of what is at every place, int32 [rows × heads × length].
        places: Index of every vector and head into the flat `[rows, heads, length]`, int32 [vectors × heads].
        own: 1 at places with a vector, 0 at empty ones, float32 [rows × heads × length, 1].
        texts: The text at every place, from 1, and 0 at empty ones, float32 [rows, 1, length].
    """

    size: tuple[tf.Tensor, tf.Tensor]
    vectors: tf.Tensor
    places: tf.Tensor
    own: tf.Tensor
    texts: tf.Tensor


class Unpadded:
    """The logits of a model that is supported (`supports`), as a `trainer.ForwardPass`.

    Args:
        model: The built model, with keyed Dropout layers (`bert.dropout`) if training is to be repeatable.
        precision: Precision of matrix products.
        pooling: Whether the head reads the first token's vector ("cls"), or the mean over the vectors of all.
    """

    def __init__(self, model: Any, precision: Precision = "fp32", pooling: Pooling = "cls") -> None:
        config = model.config
        self._family = family = FAMILIES[config.model_type]
        self._compute = COMPUTE[precision]
        self._pooling = pooling
        self._heads = config.num_attention_heads
        self._size = config.hidden_size // self._heads
        self._activation = _activation(getattr(config, family.activation))
        self._head_activation = _activation(family.head_activation)
        encoder = getattr(model, model.base_model_prefix)
        self._embeddings = encoder.embeddings
        self._projection = family.projection(encoder)
        self._layers = [family.layer.of(layer) for layer in family.layers(encoder)]
        self._head = family.head.of(model)
        # Of a single token type all tokens are, whatever the tokenizer says.
        self._types = family.token_types and config.type_vocab_size > 1

    @property
    def classes(self) -> Any:
        """The dense layer that gives the logits."""
        return self._head.classes

    def __call__(self, ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Compute logits; arguments and result as those of `Checkpoint.logits`."""
        return self.head(self._read(ids, types, mask, training), training)

    def head(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        """Compute the logits of texts, float32 [batch, classes], by the vectors that the head reads, [batch, width]."""
        x = self._head.dropout(self._pooled(x, training), training=training)
        # The logits themselves are not rounded to the compute type.
        return tf.matmul(x, self.classes.kernel) + self.classes.bias

    def pooled(self, ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Compute the input of `classes` before its dropout, float32 [batch, width]; arguments as for the logits."""
        return self._pooled(self._read(ids, types, mask, training), training)

    def _pooled(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        if self._family.drops_head_input:
            x = self._head.dropout(x, training=training)
        return self._head_activation(self._dense(x, self._head.dense))

    def _read(self, ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Compute what the head reads of each text, float32 [batch, width]."""
        lengths = tf.reduce_sum(mask, axis=1)
        real = tf.cast(tf.where(tf.reshape(mask, [-1]) > 0)[:, 0], tf.int32)
        texts, positions = real // tf.shape(ids)[1], real % tf.shape(ids)[1]
        firsts = tf.cumsum(lengths, exclusive=True)
        tokens, first_tokens = self._rows(lengths, texts, positions)

        x = self._embedded(ids, types, real, positions, training)
        *layers, last = self._layers
        attention_mask = _mask(tokens, tokens)
        for layer in self._layers if self._pooling == "mean" else layers:
            x = self._attention(x, tokens, x, tokens, attention_mask, layer, training)
            x = self._feed_forward(x, layer, training)
        if self._pooling == "mean":
            return tf.math.segment_sum(x, texts) / tf.cast(lengths, tf.float32)[:, None]
        attention_mask = _mask(first_tokens, tokens)
        x = self._attention(tf.gather(x, firsts), first_tokens, x, tokens, attention_mask, last, training)
        return self._feed_forward(x, last, training)

    def _embedded(
        self, ids: tf.Tensor, types: tf.Tensor, real: tf.Tensor, positions: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Embed the tokens at the places `real` of the flattened batch, float32 [tokens, width]."""
        embeddings, padding = self._embeddings, self._family.padding_id
        if padding is not None:
            counted = tf.cast(ids != padding, tf.int32)
            positions = tf.gather(tf.reshape(tf.cumsum(counted, axis=1) * counted, [-1]), real) + padding
        x = tf.gather(embeddings.weight, tf.gather(tf.reshape(ids, [-1]), real)) + tf.gather(
            embeddings.position_embeddings, positions
        )
        if self._family.token_types:
            types = types if self._types else tf.zeros_like(types)
            x += tf.gather(embeddings.token_type_embeddings, tf.gather(tf.reshape(types, [-1]), real))
        x = embeddings.dropout(_layer_norm(x, embeddings.LayerNorm), training=training)
        return x if self._projection is None else self._dense(x, self._projection)

    def _rows(self, lengths: tf.Tensor, texts: tf.Tensor, positions: tf.Tensor) -> tuple[_Places, _Places]:
        """Lay tokens into rows, the longest text beside the shortest, or each text alone if that is smaller.

        Returns:
            The places of all tokens, and those of the texts' first ones alone, in as many rows, two in a row.
        """
        count, longest = tf.shape(lengths)[0], tf.reduce_max(lengths)
        order = tf.argsort(lengths, direction="DESCENDING")
        rank = tf.argsort(order)
        halved = (count + 1) // 2
        shared = tf.minimum(rank, count - 1 - rank)
        begin = tf.where(rank < halved, 0, tf.gather(lengths, tf.gather(order, shared)))
        reach = tf.reduce_max(begin + lengths)
        fold = tf.cast(halved, tf.float32) * tf.cast(reach, tf.float32) ** 2 < (
            tf.cast(count, tf.float32) * tf.cast(longest, tf.float32) ** 2
        )
        row = tf.where(fold, shared, tf.range(count))
        begin = tf.where(fold, begin, tf.zeros_like(begin))
        height, width = tf.where(fold, halved, count), tf.where(fold, reach, longest)

        second = tf.cast(fold & (rank >= halved), tf.int32)
        return (
            self._places((height, width), tf.gather(row, texts), tf.gather(begin, texts) + positions, texts),
            self._places((height, tf.constant(2)), row, second, tf.range(count)),
        )

    def _places(
        self, size: tuple[tf.Tensor, tf.Tensor], rows: tf.Tensor, columns: tf.Tensor, texts: tf.Tensor
    ) -> _Places:
        """Place vectors at rows and columns; `texts` are their texts, from 0; all int32 [vectors]."""
        height, width = size
        places = (rows * width + columns)[:, None]
        vectors = tf.tensor_scatter_nd_update(tf.zeros([height * width], tf.int32), places, tf.range(tf.size(texts)))
        # In float32, for which a GPU has kernels for all of the following operations.
        whose = tf.tensor_scatter_nd_update(tf.zeros([height * width]), places, tf.cast(texts + 1, tf.float32))
        whose = tf.reshape(whose, [height, 1, width])
        heads = tf.range(self._heads)
        vectors = tf.reshape(vectors, [height, 1, width]) * self._heads + heads[:, None]
        places = (rows[:, None] * self._heads + heads) * width + columns[:, None]
        own = tf.broadcast_to(tf.cast(whose > 0, tf.float32), [height, self._heads, width])
        flat = tf.reshape(vectors, [-1]), tf.reshape(places, [-1])
        return _Places(size, *flat, tf.reshape(own, [-1, 1]), whose)

    def _attention(
        self,
        x: tf.Tensor,
        queries: _Places,
        read: tf.Tensor,
        keys: _Places,
        mask: tf.Tensor,
        layer: Layer,
        training: bool,
    ) -> tf.Tensor:
        """Let `x` attend to `read`, with dense layer, residual and LayerNorm, float32 [vectors of `x`, width]."""
        scale = 1 / sqrt(self._size)
        query = self._placed(x, layer.query.kernel * scale, layer.query.bias * scale, queries)
        key, value = (self._placed(read, dense.kernel, dense.bias, keys) for dense in (layer.key, layer.value))
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32) + mask
        shares = layer.weights_dropout(tf.nn.softmax(scores), training=training)
        attended = _permuted(
            tf.reshape(tf.matmul(tf.cast(shares, self._compute), value), [-1, self._size]),
            queries.places,
            queries.vectors,
            queries.own,
        )
        added = self._dense(tf.reshape(attended, [-1, self._heads * self._size]), layer.output)
        if layer.output_dropout is not None:
            added = layer.output_dropout(added, training=training)
        return _layer_norm(x + added, layer.output_norm)

    def _placed(self, x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, at: _Places) -> tf.Tensor:
        """Compute queries, keys or values, and place them, [rows, heads, length, size].

        Gathering single heads' vectors lays them out for attention, which costs less than transposes.
        """
        vectors = tf.reshape(_product(x, kernel, bias, self._compute, self._compute), [-1, self._size])
        placed = _permuted(vectors, at.vectors, at.places)
        return tf.reshape(placed, [at.size[0], self._heads, at.size[1], self._size])

    def _feed_forward(self, x: tf.Tensor, layer: Layer, training: bool) -> tf.Tensor:
        wide = self._activation(self._dense(x, layer.inner))
        added = layer.outer_dropout(self._dense(wide, layer.outer), training=training)
        return _layer_norm(x + added, layer.outer_norm)

    def _dense(self, x: tf.Tensor, layer: Any) -> tf.Tensor:
        return _product(x, layer.kernel, layer.bias, self._compute)


def _mask(queries: _Places, keys: _Places) -> tf.Tensor:
    """Return 0 between places of the same text, −10⁹ between others, float32 [rows, 1, queries, keys]."""
    return tf.where(queries.texts[:, :, :, None] == keys.texts[:, :, None, :], 0.0, _MASKED)


def _permuted(x: tf.Tensor, to: tf.Tensor, back: tf.Tensor, own: tf.Tensor | None = None) -> tf.Tensor:
    """Gather the vectors of `x` at `to`; the gradient is gathered too, many times faster than scattered.

    `back` has the index of each vector's copy in the result; `own` is 0 for vectors without a copy.
    """

    @tf.custom_gradient
    def gathered(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(above: tf.Tensor) -> tf.Tensor:
            returned = tf.gather(above, back)
            return returned if own is None else returned * tf.cast(own, returned.dtype)

        return tf.gather(x, to), gradient

    return gathered(x)


def _product(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, compute: tf.DType, output: tf.DType = tf.float32
) -> tf.Tensor:
    """Compute x · kernel + bias in `compute`; summing the bias's gradient is faster than TensorFlow's BiasAddGrad."""

    @tf.custom_gradient
    def product(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        left, right = tf.cast(x, compute), tf.cast(kernel, compute)

        def gradient(above: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            narrow = tf.cast(above, compute)
            return (
                tf.cast(tf.matmul(narrow, right, transpose_b=True), x.dtype),
                tf.cast(tf.matmul(left, narrow, transpose_a=True), tf.float32),
                tf.reduce_sum(tf.cast(above, tf.float32), axis=0),
            )

        return tf.nn.bias_add(tf.cast(tf.matmul(left, right), output), tf.cast(bias, output)), gradient

    return product(x, tf.convert_to_tensor(kernel), tf.convert_to_tensor(bias))


def _activation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    return _gelu if name == "gelu" else get_tf_activation(name)


@tf.custom_gradient
def _gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Compute x Φ(x) (Hendrycks and Gimpel 2016), with its derivative Φ(x) + x φ(x) in fewer passes than autodiff's."""
    below = 0.5 * tf.math.erf(x * sqrt(0.5)) + 0.5

    def gradient(above: tf.Tensor) -> tf.Tensor:
        return above * (below + x * (tf.exp(-0.5 * tf.square(x)) / sqrt(2 * pi)))

    return x * below, gradient


def _layer_norm(x: tf.Tensor, layer: Any) -> tf.Tensor:
    """Normalize the last axis (LayerNorm, Ba et al. 2016), with a gradient in fewer passes than autodiff's."""

    @tf.custom_gradient
    def normed(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + layer.epsilon)
        unit = centred * inverse

        def gradient(above: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            scaled = above * gamma
            mean = tf.reduce_mean(scaled, axis=-1, keepdims=True)
            along = tf.reduce_mean(unit * scaled, axis=-1, keepdims=True)
            return (
                inverse * (scaled - mean - unit * along),
                tf.reduce_sum(unit * above, axis=0),
                tf.reduce_sum(above, axis=0),
            )

        return unit * gamma + beta, gradient

    return normed(x, tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta))
