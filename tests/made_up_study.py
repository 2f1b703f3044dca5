"""A study folder as a study leaves it, with predictions of a chosen accuracy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bertgrid_tf import recipe as recipes
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.storage.predictions import Predictions, predictions_file, write_predictions
from bertgrid_tf.storage.records import StudyMetadata
from bertgrid_tf.storage.study_folder import StudyFolder

LABELS = ("joy", "neutral")
TEXTS, A_DIALOGUE = 400, 4
TRUTH = np.arange(TEXTS) % 2
DIALOGUES = np.arange(TEXTS) // A_DIALOGUE


def right_in(share: float, seed: int = 0) -> np.ndarray:
    """Probabilities that are right for this share of the texts, drawn by the seed: float32 [texts, classes]."""
    right = np.zeros(TEXTS, bool)
    right[np.random.default_rng(seed).permutation(TEXTS)[: round(share * TEXTS)]] = True
    predicted = np.where(right, TRUTH, 1 - TRUTH)
    return np.where(np.arange(2) == predicted[:, None], 0.75, 0.25).astype(np.float32)


def write_trial(study_folder: StudyFolder, trial: str, epoch: int, probabilities: np.ndarray) -> dict[str, float]:
    """Writes the dev predictions of a trial's epoch; their metrics."""
    path = predictions_file(study_folder.predictions, trial, epoch)
    write_predictions(path, Predictions(DIALOGUES, TRUTH, probabilities), LABELS)
    return evaluate(TRUTH, probabilities, LABELS)


def make(
    folder: Path,
    cells: Mapping[tuple[float, int], np.ndarray | None],
    levels: Sequence[tuple[str, str, np.ndarray | None, str]] = (),
    **recipe: object,
) -> StudyFolder:
    """Writes a study.

    Args:
        cells: probabilities by learning rate and epoch; None where the run diverged.
        levels: parameter, level, probabilities (None without a score) and status of every level of the sweeps, the
            chosen one's status with a * behind it.
        recipe: overrides of the sample's.
    """
    folder.mkdir(exist_ok=True)
    study_folder = StudyFolder(folder)
    rates, epochs = list(dict.fromkeys(rate for rate, _ in cells)), max((epoch for _, epoch in cells), default=1)
    given = {"learning_rates": rates or [1e-3], "epochs": epochs}
    study_folder.recipe_file.write_text(recipes.load_recipe("sample", None, given | recipe).to_yaml())
    counts = {split: {label: int((i == TRUTH).sum()) for i, label in enumerate(LABELS)} for split in ("train", "dev")}
    study_folder.write_metadata(StudyMetadata("0", LABELS, {}, {}, {"bertgrid-tf": "0"}, "2 cores", counts))
    rows = []
    for (rate, epoch), probabilities in cells.items():
        trial = f"{100 + rates.index(rate):04d}"
        metrics = {"accuracy": float("nan")}
        if probabilities is not None:
            metrics = write_trial(study_folder, f"trial_{trial}", epoch, probabilities)
        cost = {
            "train_tokens": 1e3,
            "train_padding": 0.0,
            "limit_seconds": 0.5,
            "roofline_seconds": 1.0,
            "train_seconds": 2.0,
            "seconds": 3.0,
        }
        rows.append({"learning_rate": rate, "epoch": epoch, "trial_id": trial} | metrics | cost)
    if rows:
        pd.DataFrame(rows).to_csv(study_folder.cells_file, index=False, na_rep="nan")
    if levels:
        lines = []
        for number, (parameter, level, probabilities, status) in enumerate(levels):
            score = float("nan")
            if probabilities is not None:
                score = write_trial(study_folder, f"trial_{number:04d}", 1, probabilities)["accuracy"]
            epoch = "nan" if probabilities is None else 1
            marks = status.endswith("*"), f"{number:04d}", status.strip("*+"), status.endswith("+")
            lines.append([parameter, level, epoch, score, *marks])
        columns = ["parameter", "level", "epoch", "score", "chosen", "trial_id", "status", "overruled"]
        pd.DataFrame(lines, columns=columns).to_csv(study_folder.sweeps_file, index=False, na_rep="nan")
    return study_folder
