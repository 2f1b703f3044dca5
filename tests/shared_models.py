"""Models that the studies of all tests share: to build and trace one takes longer than all training of such a study."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np

from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.training.encoding import BUILT_BY
from bertgrid_tf.training.model_cache import ModelCache

KEPT = 8
"""Models that are kept; of more, those that were used last."""


@contextmanager
def share_models() -> Iterator[None]:
    """Has a model `scratch` be built once for all studies that have the same texts.

    A study gets it as it was just built whenever it would have built it: what another run left in it is gone, so that a
    study which forgets to restore a weight still fails.
    """
    shared = OrderedDict[tuple[Any, ...], tuple[Trainer, list[np.ndarray]]]()
    held = WeakKeyDictionary[ModelCache, tuple[Any, ...]]()
    build = ModelCache.trainer

    def trainer(self: ModelCache, hyperparameters: Hyperparameters, gpus: int = 1) -> Trainer:
        # The files of another checkpoint may change.
        if not hyperparameters.model.startswith("scratch"):
            held.pop(self, None)
            return build(self, hyperparameters, gpus)
        key = (self._corpus.fingerprint(), gpus, *(getattr(hyperparameters, name) for name in BUILT_BY))
        if key not in shared:
            built = build(self, hyperparameters, gpus)
            shared[key] = (built, [variable.numpy() for variable in built._state()])
        elif held.get(self) != key:
            built, values = shared[key]
            for variable, value in zip(built._state(), values, strict=True):
                variable.assign(value)
        held[self] = key
        shared.move_to_end(key)
        while len(shared) > KEPT:
            shared.popitem(last=False)
        return shared[key][0]

    with patch.object(ModelCache, "trainer", trainer):
        yield
