"""Labels for new texts, with the study's correction or a correction of label shift."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bertgrid_tf.analysis import ClassReport, class_report
from bertgrid_tf.bert.trainer import OnTrainBatchEnd
from bertgrid_tf.corpus import (
    Columns,
    Dialogue,
    Finding,
    dialogue_numbers,
    read_competition,
    read_nsmc,
    read_table,
    utterances,
)
from bertgrid_tf.corpus.files import open_table
from bertgrid_tf.corpus.findings import notes_of
from bertgrid_tf.data import columns as columns_of
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.metrics.correction import LabelShift, detect_shift
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.system.container import check_writable
from bertgrid_tf.trial_config import FINAL, SOUP

if TYPE_CHECKING:
    from bertgrid_tf.corpus.table import TableSource

COMPETITION_COLUMNS = {"id", "i_dialog", "i_utterance", "speaker", "utterance"}
NSMC_COLUMNS = ["id", "document", "label"]
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""The first characters of cells that spreadsheets may run as a formula (OWASP, "CSV Injection")."""


@dataclass(frozen=True)
class PredictionSummary:
    """The predictions for new texts, without the texts.

    Attributes:
        texts: The number of texts.
        labels: The class names in the order of their ids.
        shift: The test of whether the classes have other shares in the texts than in dev; None for the soup, whose
            probabilities the test does not know.
        shift_corrected: Whether the probabilities are corrected for other shares.
        findings: How the table was read, and what in it is probably not as it should be.
        only_label: The label of all texts; None where there are several labels, or a single text.
    """

    texts: int
    labels: tuple[str, ...]
    shift: LabelShift | None
    shift_corrected: bool
    findings: Sequence[Finding] = ()
    only_label: str | None = None


def predict_dialogues(
    folder: StudyFolder,
    predictor: Predictor,
    dialogues: Sequence[Dialogue],
    soup: bool = False,
    correct_shift: bool = False,
    on_batch_end: OnTrainBatchEnd | None = None,
) -> tuple[pd.DataFrame, PredictionSummary]:
    """Classify every utterance.

    Args:
        folder: The study.
        predictor: The model of the study.
        dialogues: The dialogues whose utterances are classified.
        soup: Whether the model is the soup, for which neither correction holds.
        correct_shift: Whether to correct the probabilities for other shares of the classes than on dev, where
            `metrics.correction.detect_shift` detects them.
        on_batch_end: Called after every batch; see `Predictor.probabilities`.

    Returns:
        A row for every utterance, with its key, its label and a column `p_CLASS` for every class; and the summary.
    """
    labels = predictor.labels
    probabilities = predictor.probabilities(dialogues, on_batch_end)
    shift = None if soup else _shift(folder, labels, dialogues, probabilities)
    correction = None if soup else folder.read_correction()
    shift_corrected = correct_shift and shift is not None and shift.detected and shift.correctable
    if shift_corrected and shift is not None:
        probabilities = shift.probabilities
    elif correction is not None:
        probabilities = correction.apply(probabilities)
    texts = list(utterances(dialogues))
    table = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in labels])
    table.insert(0, "key", [utterance.key or str(number) for number, utterance in enumerate(texts, start=1)])
    table.insert(1, "label", [labels[index] for index in probabilities.argmax(axis=1)])
    only_label = table["label"][0] if len(texts) > 1 and table["label"].nunique() == 1 else None
    return table, PredictionSummary(len(texts), labels, shift, shift_corrected, only_label=only_label)


def dev_report(folder: StudyFolder, soup: bool = False) -> ClassReport | None:
    """Score a study's model on dev class by class; None where the study folder lacks its predictions.

    Args:
        folder: The study.
        soup: Whether the model is the soup instead of the final model.
    """
    metadata = folder.read_metadata()
    trial, epoch = (SOUP, 1) if soup else (FINAL, len(folder.read_final().epochs))
    file = predictions_file(folder.predictions, trial, epoch)
    if not file.exists() or not metadata.classes:
        return None
    dev = read_predictions(file, metadata.labels, metadata.classes["dev"])
    split = Split(dev.truth, dev.dialogues, tuple(metadata.labels))
    return class_report(split, dev.probabilities[None], metadata.shares(), folder.read_recipe().metric)


def predict_file(
    folder: StudyFolder,
    file: Path,
    out: Path,
    columns: Columns | None = None,
    proba: bool = False,
    soup: bool = False,
    correct_shift: bool = False,
    on_batch_end: OnTrainBatchEnd | None = None,
    *,
    out_columns: Sequence[str] | None = None,
    spreadsheet_safe: bool = False,
    **reading: Any,
) -> PredictionSummary:
    """Label the texts of a file, dialogue context included, in the order of its rows.

    Args:
        folder: The study.
        file: A table with the columns of the study's own tables, the competition's file, or one in NSMC's format.
        out: The CSV to write.
        columns: The table's columns; None for those of the study's own tables.
        proba: Whether to write a column of probabilities for every class.
        soup: Whether to use the soup instead of the final model.
        correct_shift: Whether to correct for label shift; see `predict_dialogues`.
        on_batch_end: Called after every batch; see `Predictor.probabilities`.
        out_columns: The names of the columns of ids and of labels; None for `Id` and `Expected` for the competition's
            file, else `id` and `label`.
        spreadsheet_safe: Whether to write an apostrophe before ids and labels that a spreadsheet would take for a
            formula.
        reading: `encoding`, `quoting` and `no_header` for `open_table`, where they are not as for the study's own
            tables.

    Raises:
        UserError: There is no such model, the file cannot be read, or `out` cannot be written.
    """
    data, names = folder.read_recipe().data, ["id", "label"]
    own = {"quoting": data.quoting, "no_header": data.no_header} if data else {}
    texts, findings = open_table(file, **own | reading), list[Finding]()
    if columns is not None or (data and data.text_column in texts.header):
        dialogues = read_texts(folder, texts, columns, findings)
    elif set(texts.header) >= COMPETITION_COLUMNS:
        dialogues, names = read_competition(texts), ["Id", "Expected"]
    elif texts.header == NSMC_COLUMNS and texts.delimiter == "\t":
        dialogues = read_nsmc(file)
    else:
        dialogues = read_texts(folder, texts, columns, findings)
    _refuse_out(out, file)
    predictor = Predictor(folder, soup)
    table, summary = predict_dialogues(folder, predictor, dialogues, soup, correct_shift, on_batch_end)
    # The rows of a dialogue need not be adjacent.
    row_of_key = {key: row for row, key in enumerate(texts.keys)}
    table = table.sort_values("key", key=lambda keys: keys.map(row_of_key), kind="stable")
    table = table if proba else table[["key", "label"]]
    if spreadsheet_safe:
        table = table.assign(**{name: table[name].map(_without_formula) for name in ("key", "label")})
    write_table(out, table.set_axis([*(out_columns or names), *table.columns[2:]], axis=1))
    notes = notes_of([*texts.remarks, *predictor.unknown_remarks(dialogues)])
    return replace(summary, findings=(*notes, *findings))


def read_texts(
    folder: StudyFolder, source: "TableSource", columns: Columns | None, findings: list[Finding] | None = None
) -> tuple[Dialogue, ...]:
    """Read the texts of a table; dialogues and speakers are in the study's own columns, where the table has them.

    Args:
        folder: The study.
        source: The path of the table, or a DataFrame.
        columns: The table's columns; None for those of the study's own tables.
        findings: Receives the findings about the ids and the order of the dialogues.
    """
    data = folder.read_recipe().data
    own = columns_of(data) if data else Columns("")
    source = open_table(source)
    given = source.header
    if columns is None and data is None:
        raise UserError(
            f"{source.name}: say which column holds the text with --text-column; its columns are {', '.join(given)}."
        )
    if columns is None:
        return read_table(source, replace(own, label=None, split=None), findings)
    speaker, order = (name if name in given else None for name in (own.speaker, own.order))
    if dialogue := columns.dialogue or (own.dialogue if set(own.dialogue_columns) <= set(given) else None):
        columns = replace(columns, dialogue=dialogue, order=order, consecutive=own.consecutive)
    return read_table(source, replace(columns, speaker=columns.speaker or speaker), findings)


def _shift(
    folder: StudyFolder, labels: tuple[str, ...], dialogues: Sequence[Dialogue], probabilities: np.ndarray
) -> LabelShift:
    """Test whether the classes have other shares than on dev, by the final model's probabilities of both."""
    file = predictions_file(folder.predictions, FINAL, len(folder.read_final().epochs))
    dev = read_predictions(file, labels, folder.read_metadata().classes["dev"])
    return detect_shift(dev.truth, dev.probabilities, probabilities, dev.dialogues, dialogue_numbers(dialogues))


def _without_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _refuse_out(out: Path, file: Path) -> None:
    """Refuse a file that could not be written or would replace the texts, before any work is done."""
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a file in it with -o.")
    if out.exists() and not out.is_file():
        return  # A device or a pipe is written to, and nothing beside it.
    if out.exists() and out.samefile(file):
        raise UserError(f"{out} is the file with the texts: name another with -o.")
    if check_writable(out.parent):
        raise UserError(f"{out} cannot be written, since {out.parent} is no folder to write to: name another with -o.")
