"""The layer of each variable of a classifier, by the names that transformers gives them.

Nothing here imports TensorFlow.
"""

import re
from collections.abc import Sequence
from typing import Any

from bertgrid_tf.bert.families import FAMILIES

NUMBERED = frozenset(FAMILIES) - {"albert"} | {"deberta", "deberta-v2"}
"""The types whose layers have numbers; ALBERT's share their weights."""

_LAYER = re.compile(r"/layer_\._(\d+)/")


def layer_numbers(variables: Sequence[Any], encoder: str) -> list[int]:
    """Number the layers from below, and return the number of each variable's.

    Embeddings, and what all layers share, have 0, the layers 1 and so on, the head one more than the last of them. The
    head begins with the pooler, where there is one.

    Args:
        variables: All of a classifier, or the trainable ones, of a type in `NUMBERED`.
        encoder: The classifier's `base_model_prefix`.
    """
    names = [variable.name for variable in variables]
    layers = [int(layer[1]) + 1 if (layer := _LAYER.search(name)) else 0 for name in names]
    head = max(layers) + 1
    below = [f"/{encoder}/" in name and "/pooler/" not in name for name in names]
    return [layer or (0 if low else head) for layer, low in zip(layers, below, strict=True)]
