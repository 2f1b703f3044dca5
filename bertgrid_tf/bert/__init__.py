"""BERT in TensorFlow: encoded texts ▶ class probabilities, epoch by epoch. Knows no dialogue and no tuner."""

import os
import sys

import bertgrid_tf  # noqa: F401  # sets TF_USE_LEGACY_KERAS, which must come before TensorFlow


def _refuse_keras_3() -> None:
    """Raise RuntimeError where TensorFlow uses Keras 3, with which transformers' models do not work."""
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() not in ("1", "true"):
        raise RuntimeError("TF_USE_LEGACY_KERAS must be 1 for bertgrid_tf: unset it or set it to 1 and start again")
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        if not tf.keras.Model.__module__.startswith("tf_keras"):
            raise RuntimeError(
                "TensorFlow was imported before bertgrid_tf and without TF_USE_LEGACY_KERAS=1, so its Keras is Keras 3:"
                " import bertgrid_tf first, or set TF_USE_LEGACY_KERAS=1 in the environment"
            )


_refuse_keras_3()
