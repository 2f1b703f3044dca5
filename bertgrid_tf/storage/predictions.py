"""Predictions of an epoch on dev, or of a model on an opened split: all that a paired test needs."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bertgrid_tf.storage.files import ANEW, reading, write_table
from tuners.files import read_limited

LARGEST = 2**34
"""The most bytes of a file of predictions."""


@dataclass(frozen=True)
class Predictions:
    """The predictions of one model on one split.

    Attributes:
        dialogues: The number of each text's dialogue, int [texts].
        truth: Label ids, int [texts].
        probabilities: float32 [texts, classes].
    """

    dialogues: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray


def predictions_file(folder: Path, trial: str, epoch: int) -> Path:
    """Return where the predictions of a trial's epoch, counted from 1, lie."""
    return folder / f"{trial}-{epoch}.csv"


def held_out(trial: str) -> str:
    """Return the name of a trial's predictions for the fold of the training texts that it is trained without."""
    return f"{trial}_held_out"


def write_predictions(path: Path, predictions: Predictions, labels: Sequence[str]) -> None:
    """Write dialogue, label and predicted label of every text, and a column of probabilities for every class."""
    names = np.array(labels)
    table = pd.DataFrame(predictions.probabilities, columns=[f"p_{label}" for label in labels])
    table.insert(0, "dialogue", predictions.dialogues)
    table.insert(1, "label", names[predictions.truth])
    table.insert(2, "predicted", names[predictions.probabilities.argmax(axis=1)])
    write_table(path, table)


def read_predictions(
    path: Path, labels: Sequence[str], counts: Mapping[str, int] | None = None, remedy: str = ANEW
) -> Predictions:
    """Read the file of `write_predictions`.

    Args:
        path: The file.
        labels: The class names in the order of their ids.
        counts: The number of texts of every class; None if unknown.
        remedy: As for `storage.files.reading`.

    Raises:
        DamagedError: The file holds no probabilities of these classes for these texts.
        UserError: The file is missing or cannot be read.
    """
    names = [f"p_{label}" for label in labels]
    with reading(path, remedy) as file:
        # Labels are strings, "nan" and "1" among them.
        table = pd.read_csv(
            io.BytesIO(read_limited(file, LARGEST)), dtype={"label": str, "predicted": str}, keep_default_na=False
        )
        if list(table.columns) != ["dialogue", "label", "predicted", *names] or not len(table):
            raise ValueError("it holds no predictions of these classes")
        truth = pd.Index(labels).get_indexer(pd.Index(table["label"]))
        probabilities = table[names].to_numpy(np.float32)
        if not (probabilities >= 0).all() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
            raise ValueError("the probabilities of a text do not sum to 1")
        if not (pd.Index(labels).get_indexer(pd.Index(table["predicted"])) == probabilities.argmax(axis=1)).all():
            raise ValueError("a predicted class is not the most probable one")
        texts = np.bincount(truth[truth >= 0], minlength=len(labels)).tolist()
        if (truth < 0).any() or (counts and texts != [counts.get(label) for label in labels]):
            raise ValueError("its texts are not those of the study")
        dialogues = table["dialogue"].to_numpy()
        if dialogues.dtype.kind != "i" or (dialogues < 0).any():
            raise ValueError("the number of a dialogue is none")
    return Predictions(dialogues.astype(np.int64), truth, probabilities)
