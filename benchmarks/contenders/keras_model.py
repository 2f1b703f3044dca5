"""TFBertForSequenceClassification as its tutorial trains it: compiled, padded, `model.fit`."""

import tensorflow as tf
import tf_keras
import transformers

from benchmarks.texts import PaddedTexts
from bertgrid_tf.bert.batches import PREFETCHED

transformers.logging.set_verbosity_error()


def use_precision(precision: str) -> None:
    """Set Keras's policy of a precision; to be called before any model is built."""
    policies = {"fp32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}
    tf_keras.mixed_precision.set_global_policy(policies[precision])


class WarmupDecay(tf_keras.optimizers.schedules.LearningRateSchedule):
    """The schedule of `bertgrid_tf` and of the Trainer here: a fifth of the steps of warm-up, then linear decay to 0.

    Args:
        peak: Peak learning rate.
        steps: Steps of the schedule.
        done: Steps that an earlier optimizer has taken.
    """

    def __init__(self, peak: float, steps: int, done: int = 0) -> None:
        self._peak, self._steps, self._done = peak, steps, done

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a step, counted from 0."""
        step, rising = tf.cast(step, tf.float32) + self._done, round(0.2 * self._steps)
        rise, fall = (step + 1) / max(rising, 1), (self._steps - step) / max(self._steps - rising, 1)
        return self._peak * tf.where(step < rising, rise, fall)

    def get_config(self) -> dict[str, float]:
        """Return the arguments."""
        return {"peak": self._peak, "steps": self._steps, "done": self._done}


def build(model: str, classes: int, learning_rate: float | WarmupDecay) -> tf_keras.Model:
    """Compile a classifier with the checkpoint's weights, and the AdamW and clipping of `bertgrid_tf`."""
    classifier = transformers.TFBertForSequenceClassification.from_pretrained(
        model, num_labels=classes, trust_remote_code=False
    )
    optimizer = tf_keras.optimizers.AdamW(learning_rate, weight_decay=0.01, epsilon=1e-8, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(optimizer, loss, metrics=["accuracy"])
    return classifier


def dataset(texts: PaddedTexts, batch_size: int, shuffle: bool) -> tf.data.Dataset:
    """Make batches for `fit` and `evaluate`, without the autotuner, whose ticks delay some epochs (`bert.batches`)."""
    inputs = {"input_ids": texts.ids, "token_type_ids": texts.types, "attention_mask": texts.mask}
    rows = tf.data.Dataset.from_tensor_slices((inputs, texts.labels))
    if shuffle:
        rows = rows.shuffle(len(texts))
    options = tf.data.Options()
    options.autotune.enabled = False
    return rows.batch(batch_size).prefetch(PREFETCHED).with_options(options)
