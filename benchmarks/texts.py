"""Padded texts with labels in a file, for the contenders of other libraries. Needs numpy alone."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bertgrid_tf.bert.encode import EncodedTexts


@dataclass(frozen=True)
class PaddedTexts:
    """n texts, each padded to the same length.

    Attributes:
        ids: Token ids, int32 [n, length].
        types: Token types, int32 [n, length].
        mask: 1 on tokens, 0 on padding, int32 [n, length].
        labels: Label ids, int32 [n].
    """

    ids: np.ndarray
    types: np.ndarray
    mask: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, encoded: "EncodedTexts", labels: np.ndarray, length: int) -> "PaddedTexts":
        """Pad texts to `length` tokens, which none of them may exceed."""
        mask = np.arange(length) < encoded.lengths[:, None]
        ids, types = np.full(mask.shape, encoded.pad_id, np.int32), np.zeros(mask.shape, np.int32)
        ids[mask], types[mask] = encoded.ids, encoded.types
        return cls(ids, types, mask.astype(np.int32), labels.astype(np.int32))

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text, int64 [n]."""
        return self.mask.sum(axis=1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path | str) -> "PaddedTexts":
        """Read a file that `save` wrote."""
        with np.load(path) as file:
            return cls(**{field.name: file[field.name] for field in fields(cls)})
