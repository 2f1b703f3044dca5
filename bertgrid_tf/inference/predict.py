"""A finished study's model at work: scores on a split, labels for new texts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from bertgrid_tf.analysis import ClassReport, class_report
from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.encode import check_vocabulary
from bertgrid_tf.bert.trainer import OnTrainBatchEnd, Trainer
from bertgrid_tf.corpus import (
    Columns,
    Corpus,
    Dialogue,
    dialogue_numbers,
    label_counts,
    read_competition,
    read_nsmc,
    read_table,
    utterances,
)
from bertgrid_tf.corpus.table import quoted_rows
from bertgrid_tf.data import columns
from bertgrid_tf.errors import UserError
from bertgrid_tf.metrics.calibration import expected_calibration_error
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.metrics.correction import LabelShift, detect_shift
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.storage.predictions import Predictions, predictions_file, read_predictions, write_predictions
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.system.container import check_writable
from bertgrid_tf.training.encoding import encode_dialogues
from bertgrid_tf.trial_config import FINAL, SOUP

COMPETITION_COLUMNS = {"id", "i_dialog", "i_utterance", "speaker", "utterance"}
NSMC_COLUMNS = ["id", "document", "label"]


class Predictor:
    """A model of a study with the settings that it was trained in.

    Args:
        results: the study.
        soup: whether the soup is meant instead of the final model.

    Raises:
        UserError: there is none.
    """

    def __init__(self, study_folder: StudyFolder, soup: bool = False) -> None:
        metadata, folder = study_folder.read_metadata(), study_folder.soup_model if soup else study_folder.model
        hyperparameters = (
            study_folder.read_best().hyperparameters if soup else study_folder.read_final().hyperparameters
        )
        if not folder.is_dir():
            raise UserError(
                f"The study in {study_folder.path} has no {folder.name} folder"
                + (": give --soup to its `tune` command." if soup else " yet: run its `tune` command again to go on.")
            )
        self.labels = tuple(metadata.labels)
        self._settings = hyperparameters
        self._speakers = metadata.speakers
        self._trainer = Trainer(load(str(folder), self.labels), self._settings.resolved_precision)

    def probabilities(
        self, dialogues: Sequence[Dialogue], on_train_batch_end: OnTrainBatchEnd | None = None
    ) -> np.ndarray:
        """Class probabilities of every utterance, float32 [utterances, classes]."""
        tokenizer = self._trainer.checkpoint.tokenizer
        texts = [utterance.text for utterance in utterances(dialogues)]
        check_vocabulary(tokenizer, self._trainer.checkpoint.name, texts)
        return self._trainer.probabilities(
            encode_dialogues(tokenizer, dialogues, self._settings, self._speakers), on_train_batch_end
        )


@dataclass(frozen=True)
class Evaluation:
    """One split's scores.

    Attributes:
        metrics: of the "final" model, of the "soup" if there is one, and of the final model "corrected" (as `predict`
            does): those of `score.metrics.evaluate`, with the calibration_error.
        final: the final model class by class.
    """

    metrics: dict[str, dict[str, float]]
    final: ClassReport


def evaluate_split(
    study_folder: StudyFolder, corpus: Corpus, split: str, on_train_batch_end: OnTrainBatchEnd | None = None
) -> Evaluation:
    """Scores a study's models on a split and writes down in the results folder that it was opened, and what they said.

    Raises:
        UserError: there is no final model, no such split, or the split has no labels; or the corpus is not the study's.
    """
    if split not in corpus.splits:
        raise UserError(f"{corpus.name} has no split {split!r}; choose from {', '.join(corpus.splits)}.")
    if study_folder.read_metadata().fingerprint != corpus.fingerprint():
        raise UserError(
            f"The data of {corpus.name} are no longer those of the study in {study_folder.path}: "
            "bring them back to evaluate it."
        )
    dialogues = corpus.splits[split]
    counts = label_counts(dialogues)
    if None in counts:
        raise UserError(f"The {split} split of {corpus.name} has no labels: use `predict` for it.")
    predictor = Predictor(study_folder)
    ids = {label: i for i, label in enumerate(predictor.labels)}
    truth = np.array([ids[utterance.label or ""] for utterance in utterances(dialogues)])
    numbers = dialogue_numbers(dialogues)
    said = {FINAL: predictor.probabilities(dialogues, on_train_batch_end)}
    if study_folder.soup_model.is_dir():
        said[SOUP] = Predictor(study_folder, soup=True).probabilities(dialogues, on_train_batch_end)
    correction = study_folder.read_correction()
    found = said if correction is None else said | {"corrected": correction.apply(said[FINAL])}
    metrics = {
        name: evaluate(truth, one, predictor.labels) | {"calibration_error": expected_calibration_error(truth, one)}
        for name, one in found.items()
    }
    final = class_report(Split(truth, numbers, predictor.labels), said[FINAL][None], study_folder.read_recipe().metric)
    evaluation = Evaluation(metrics, final)
    _write_down(study_folder, split, evaluation)
    for of, one in said.items():
        write_predictions(study_folder.evaluation_file(split, of), Predictions(numbers, truth, one), predictor.labels)
    return evaluation


@dataclass(frozen=True)
class Labelling:
    """What was labelled.

    Attributes:
        texts: how many.
        labels: class names in the order of their ids.
        shift: whether their classes come in other shares than dev's; None for the soup, where that is not asked.
        allowed_for: whether the labels allow for other shares.
    """

    texts: int
    labels: tuple[str, ...]
    shift: LabelShift | None
    allowed_for: bool


def predict_file(
    study_folder: StudyFolder,
    file: Path,
    out: Path,
    given: Columns | None = None,
    proba: bool = False,
    on_train_batch_end: OnTrainBatchEnd | None = None,
    soup: bool = False,
    correct_shift: bool = False,
) -> Labelling:
    """Labels the texts of a file, dialogue context included.

    Args:
        results: of the study whose model is used.
        file: the competition's CSV, a file in NSMC's format, or a table.
        out: `Id,Expected` for the competition's file; else `id,label`; with `proba` a column per class besides.
        given: the table's columns; where None they are the study's own.
        proba: whether probabilities are written too.
        on_step: called after every batch.
        soup: whether the soup is used instead of the final model.
        correct_shift: whether to allow for classes that come in other shares than dev's, where they seem to
            (`score.correction.detect_shift`).

    Raises:
        UserError: there is no final model, or the file cannot be read, or `out` not written.
    """
    dialogues, names = _read(study_folder, file, given)
    _refuse_out(out, file)
    predictor = Predictor(study_folder, soup)
    probabilities = predictor.probabilities(dialogues, on_train_batch_end)
    # What is known of the final model's probabilities does not hold for the soup's.
    shift = None if soup else _shift(study_folder, predictor.labels, dialogues, probabilities)
    correction = None if soup else study_folder.read_correction()
    allowed_for = correct_shift and shift is not None and shift.detected and shift.correctable
    if allowed_for and shift is not None:
        probabilities = shift.probabilities
    elif correction is not None:
        probabilities = correction.apply(probabilities)
    texts = list(utterances(dialogues))
    keys = [utterance.key or str(number) for number, utterance in enumerate(texts, start=1)]
    chosen = [predictor.labels[i] for i in probabilities.argmax(axis=1)]
    table = pd.DataFrame(dict(zip(names, (keys, chosen), strict=True)))
    if proba:
        table[[f"p_{label}" for label in predictor.labels]] = probabilities
    write_table(out, table)
    return Labelling(len(texts), predictor.labels, shift, allowed_for)


def _shift(
    study_folder: StudyFolder, labels: tuple[str, ...], dialogues: Sequence[Dialogue], probabilities: np.ndarray
) -> LabelShift:
    """Whether new texts come in other shares than dev's, by what the final model says of both."""
    dev = read_predictions(
        predictions_file(study_folder.predictions, FINAL, len(study_folder.read_final().epochs)), labels
    )
    return detect_shift(dev.truth, dev.probabilities, probabilities, dev.dialogues, dialogue_numbers(dialogues))


def _read(study_folder: StudyFolder, file: Path, given: Columns | None) -> tuple[Sequence[Dialogue], tuple[str, str]]:
    plain = ("id", "label")
    _, found = next(quoted_rows(file))
    data = study_folder.read_recipe().data
    own = columns(data) if data else Columns("")
    if given:
        # What is not said is as in the study's own tables, where the file has it too.
        dialogue, speaker = (name if name in found else None for name in (own.dialogue, own.speaker))
        asked = replace(given, dialogue=given.dialogue or dialogue, speaker=given.speaker or speaker)
        return read_table(file, asked), plain
    if set(found) >= COMPETITION_COLUMNS:
        return read_competition(file), ("Id", "Expected")
    if found == NSMC_COLUMNS:
        return read_nsmc(file), plain
    if data is None:
        raise UserError(
            f"{file}: say which column holds the text with --text-column; its columns are {', '.join(found)}."
        )
    return read_table(file, Columns(own.text, None, own.dialogue, own.speaker)), plain


def _refuse_out(out: Path, file: Path) -> None:
    """Raises UserError before any work is done where the labels could not be written, or would replace the texts."""
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a file in it with -o.")
    if out.exists() and out.samefile(file):
        raise UserError(f"{out} is the file with the texts: name another with -o.")
    if check_writable(out.parent):
        raise UserError(f"{out} cannot be written, since {out.parent} is no folder to write to: name another with -o.")


def _write_down(study_folder: StudyFolder, split: str, evaluation: Evaluation) -> None:
    opened = {"opened": datetime.now(UTC).isoformat(timespec="seconds"), "split": split}
    texts = {f"texts_{label}": count for label, count in evaluation.final.support.items()}
    rows = [{**opened, "of": name, **found, **texts} for name, found in evaluation.metrics.items()]
    study_folder.append_evaluations(rows)
