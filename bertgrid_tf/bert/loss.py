"""The training loss: cross-entropy, or the focal loss of weighted or soft targets."""

import tensorflow as tf


def per_example_loss(logits: tf.Tensor, labels: tf.Tensor, focal_gamma: tf.Tensor) -> tf.Tensor:
    """Compute the loss of every text, in nats.

    With targets t and probabilities p = softmax(logits), the loss is −Σ t_c (1 − p_c)^γ log p_c: the focal loss of Lin
    et al. 2017 (arXiv 1708.02002, section 3.2, equation 4) for several classes, and cross-entropy at γ = 0. The loss is
    linear in the targets, so that a text's weight is a factor of its row.

    Args:
        logits: float32 [texts, classes].
        labels: Label ids, int32 [texts], for plain cross-entropy whatever γ is; or targets, float32 [texts, classes].
        focal_gamma: γ, at least 0, float32 scalar.

    Returns:
        float32 [texts].
    """
    if labels.dtype.is_integer:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    logarithms = tf.nn.log_softmax(logits)
    # Where p rounds to 1, the slope of (1 − p)^γ would be infinite for γ < 1.
    rest = tf.maximum(-tf.math.expm1(logarithms), 1e-7)
    return -tf.reduce_sum(labels * rest**focal_gamma * logarithms, axis=-1)
