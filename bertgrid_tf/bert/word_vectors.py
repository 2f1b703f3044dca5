"""The word vectors of a checkpoint, without the rest of the model. Nothing here imports TensorFlow."""

import ml_dtypes  # noqa: F401 (makes bfloat16 known to NumPy)
import numpy as np
from safetensors import safe_open

from bertgrid_tf.bert.checkpoint_files import cached
from bertgrid_tf.bert.scratch import scratch_config

_TRUNCATED_VARIANCE = 0.7737
"""Variance of a standard normal number that is truncated at two deviations."""


def describe_vectors(name: str, ids: np.ndarray) -> tuple[float, float] | None:
    """Describe the word vectors of texts.

    Args:
        name: A checkpoint, as for `checkpoint.load`.
        ids: Token ids of all the texts, int [tokens].

    Returns:
        The root mean square of the components of the mean vector, and the variance of a component, averaged over the
        components; None for a hub model that is not in the local cache, and where no .safetensors file has the vectors.

    Raises:
        UserError: As for `checkpoint_files.cached`.
    """
    if config := scratch_config(name):
        return 0.0, _TRUNCATED_VARIANCE * config.initializer_range**2
    folder = cached(name)
    for file in sorted(folder.glob("model*.safetensors")) if folder else ():
        with safe_open(file, framework="numpy") as tensors:
            key = next((key for key in tensors.keys() if key.endswith("word_embeddings.weight")), None)  # noqa: SIM118
            if key is None:
                continue
            table = tensors.get_tensor(key).astype(np.float64)
        counts = np.bincount(ids[ids < len(table)], minlength=len(table)) / len(ids)
        mean = counts @ table
        return float(np.sqrt(np.mean(mean**2))), float(np.mean(counts @ (table - mean) ** 2))
    return None
