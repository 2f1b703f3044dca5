"""Models that the tests share: to build and trace one takes longer than all training of a study of seconds."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from weakref import WeakKeyDictionary

import numpy as np

from bertgrid_tf.bert.checkpoint import Checkpoint, load
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.hyperparameters import Hyperparameters, Pooling, Precision
from bertgrid_tf.training.encoding import BUILT_BY
from bertgrid_tf.training.model_cache import ModelCache

KEPT = 8
"""Models of each kind that are kept; of more, those that were used last."""


@contextmanager
def share_models() -> Iterator[None]:
    """Has a model be built once for all studies, and loaded once for all commands, that have the same one."""
    with _share_of_studies(), _share_of_predictors():
        yield


@contextmanager
def _share_of_studies() -> Iterator[None]:
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
        _keep(shared, key)
        return shared[key][0]

    with patch.object(ModelCache, "trainer", trainer):
        yield


@contextmanager
def _share_of_predictors() -> Iterator[None]:
    """Has the final model of a study be loaded once for all folders that hold the same files; no predictor changes it.

    A file that differs in a byte is loaded, and refused, as ever.
    """
    shared = OrderedDict[tuple[Any, ...], tuple[Checkpoint, dict[tuple[str, str], Trainer]]]()

    def loaded(name: str, labels: Sequence[str]) -> Checkpoint:
        files = sorted(path for path in Path(name).glob("*") if path.is_file() and path.suffix != ".md")
        key = (tuple((path.name, hashlib.sha256(path.read_bytes()).digest()) for path in files), tuple(labels))
        if key not in shared:
            shared[key] = (load(name, labels), {})
        _keep(shared, key)
        return replace(shared[key][0], name=name)

    def trainer(checkpoint: Checkpoint, precision: Precision = "fp32", pooling: Pooling = "cls") -> Trainer:
        (traced,) = [traced for kept, traced in shared.values() if kept.model is checkpoint.model]
        if (precision, pooling) not in traced:
            traced[precision, pooling] = Trainer(checkpoint, precision, pooling=pooling)
        # The same traced functions for a checkpoint of another name.
        renamed = copy(traced[precision, pooling])
        renamed.checkpoint = checkpoint
        return renamed

    place = "bertgrid_tf.inference.predictor"
    with patch(f"{place}.load", loaded), patch(f"{place}.Trainer", trainer):
        yield


def _keep(shared: OrderedDict[Any, Any], used: object) -> None:
    shared.move_to_end(used)
    while len(shared) > KEPT:
        shared.popitem(last=False)
