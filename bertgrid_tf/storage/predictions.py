"""Predictions of an epoch on dev, or of a model on an opened split: all that a paired test needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.files import write_table


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


def write_predictions(path: Path, predictions: Predictions, labels: Sequence[str]) -> None:
    """Write dialogue, label and predicted label of every text, and a column of probabilities for every class."""
    names = np.array(labels)
    table = pd.DataFrame(predictions.probabilities, columns=[f"p_{label}" for label in labels])
    table.insert(0, "dialogue", predictions.dialogues)
    table.insert(1, "label", names[predictions.truth])
    table.insert(2, "predicted", names[predictions.probabilities.argmax(axis=1)])
    write_table(path, table)


def read_predictions(path: Path, labels: Sequence[str]) -> Predictions:
    """Read the file of `write_predictions`.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        # Labels are strings, "nan" and "1" among them.
        table = pd.read_csv(path, dtype={"label": str, "predicted": str}, keep_default_na=False)
        truth = pd.Index(labels).get_indexer(pd.Index(table["label"]))
        probabilities = table[[f"p_{label}" for label in labels]].to_numpy(np.float32)
        if not len(table) or (truth < 0).any() or not np.isfinite(probabilities).all():
            raise ValueError("it holds no predictions of these classes")
        return Predictions(table["dialogue"].to_numpy(np.int64), truth, probabilities)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}): restore it from a copy.") from error
