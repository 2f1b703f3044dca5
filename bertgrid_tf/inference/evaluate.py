"""The scores of a study's models on a split, and the record that the split was opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from bertgrid_tf.analysis import ClassReport, class_report
from bertgrid_tf.bert.trainer import OnTrainBatchEnd
from bertgrid_tf.corpus import Corpus, dialogue_numbers, label_counts, texts_of, utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.metrics.calibration import expected_calibration_error
from bertgrid_tf.metrics.classification import directions, evaluate
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.storage.predictions import Predictions, write_predictions
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import FINAL, SOUP

CORRECTED = "corrected"
"""The final model with the study's correction, as `predict` uses it."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of a study's models on one split.

    Attributes:
        metrics: The metrics of `metrics.classification.evaluate` and the `calibration_error` of the "final" model, of
            the "soup" if there is one, and of the "corrected" final model if there is a correction.
        final: The final model's scores class by class.
    """

    metrics: Mapping[str, Mapping[str, float]]
    final: ClassReport


def evaluate_split(
    folder: StudyFolder, corpus: Corpus, split: str, on_batch_end: OnTrainBatchEnd | None = None
) -> Evaluation:
    """Score a study's models on a split; the study folder keeps the date, the scores and the predictions.

    Args:
        folder: The study.
        corpus: The study's corpus.
        split: The split to open.
        on_batch_end: Called after every batch; see `Predictor.probabilities`.

    Raises:
        UserError: There is no final model or no such split; the split has no labels; the corpus is not the study's.
    """
    if split not in corpus.splits:
        raise UserError(f"{corpus.name} has no split {split!r}; choose from {', '.join(corpus.splits)}.")
    if folder.read_metadata().fingerprint != corpus.fingerprint():
        raise UserError(
            f"The data of {corpus.name} are no longer those of the study in {folder.path}: bring them back to evaluate "
            "it."
        )
    dialogues = corpus.splits[split]
    if None in label_counts(dialogues):
        raise UserError(f"The {split} split of {corpus.name} has no labels: use `predict` for it.")
    folder.read_evaluations()  # before the split is opened, which is to be written down there
    predictor = Predictor(folder)
    coverage, labels = predictor.coverage(), predictor.labels
    coverage.add(texts_of(dialogues), worded_only=True)
    coverage.check()
    truth = np.array([labels.index(utterance.label or "") for utterance in utterances(dialogues)])
    numbers = dialogue_numbers(dialogues)
    probabilities = {FINAL: predictor.probabilities(dialogues, on_batch_end)}
    if folder.soup_model.is_dir():
        probabilities[SOUP] = Predictor(folder, soup=True).probabilities(dialogues, on_batch_end)
    correction = folder.read_correction()
    corrected = {} if correction is None else {CORRECTED: correction.apply(probabilities[FINAL])}
    metric = folder.read_recipe().metric
    metrics = {
        model: evaluate(truth, of, labels, [*directions(labels), metric])
        | {"calibration_error": expected_calibration_error(truth, of)}
        for model, of in (probabilities | corrected).items()
    }
    shares = folder.read_metadata().shares()
    final = class_report(Split(truth, numbers, labels), probabilities[FINAL][None], shares, metric)
    opened = {"opened": datetime.now(timezone.utc).isoformat(timespec="seconds"), "split": split}
    texts = {f"texts_{label}": count for label, count in final.support.items()}
    folder.append_evaluations([{**opened, "of": model, **scores, **texts} for model, scores in metrics.items()])
    for model, of in probabilities.items():
        write_predictions(folder.evaluation_file(split, model), Predictions(numbers, truth, of), labels)
    return Evaluation(metrics, final)
