"""Labels for new texts, with the study's correction or a correction of label shift."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bertgrid_tf.analysis import ClassReport, class_report
from bertgrid_tf.bert.trainer import OnTrainBatchEnd
from bertgrid_tf.corpus import (
    COMPETITION,
    Columns,
    Finding,
    dialogue_numbers,
    fix_competition,
    nsmc_reviews,
    read_windows,
    texts_of,
    utterances,
)
from bertgrid_tf.corpus.files import RawTable, open_table
from bertgrid_tf.corpus.findings import notes_of
from bertgrid_tf.corpus.grouping import Window
from bertgrid_tf.corpus.table import WINDOW
from bertgrid_tf.data import columns as columns_of
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.metrics.correction import LabelShift, detect_shift
from bertgrid_tf.storage.files import replacing
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.system.container import check_writable
from bertgrid_tf.trial_config import FINAL, SOUP
from tuners.files import descriptor_of

if TYPE_CHECKING:
    from bertgrid_tf.corpus.table import TableSource

Windows = Callable[[list[Finding] | None], Iterable[Window]]
"""Reads the texts anew, window by window, and collects the findings about their dialogues."""
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
            probabilities the test does not know, and for a final model that is trained on dev too.
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


class Prediction:
    """The classification of all texts of a table, window by window.

    Between windows, the probabilities are kept for the test of label shift, and nothing else of a text; with
    `correct_shift`, the keys are kept too, since all texts together decide about the labels.

    Args:
        folder: The study.
        predictor: The model of the study.
        windows: The texts.
        soup: Whether the model is the soup, for which neither correction holds.
        correct_shift: Whether to correct the probabilities for other shares of the classes than on dev, where
            `metrics.correction.detect_shift` detects them.
        on_batch_end: Called after every batch; see `Predictor.probabilities`.

    Attributes:
        coverage: How much of the texts so far the vocabulary knows.
    """

    def __init__(
        self,
        folder: StudyFolder,
        predictor: Predictor,
        windows: Windows,
        soup: bool = False,
        correct_shift: bool = False,
        on_batch_end: OnTrainBatchEnd | None = None,
    ) -> None:
        self._folder, self._predictor, self._windows = folder, predictor, windows
        self._soup, self._correct_shift, self._on_batch_end = soup, correct_shift, on_batch_end
        self._correction = None if soup else folder.read_correction()
        self._has_dev = not soup and folder.read_recipe().final.train_on == "train"
        if correct_shift and not (soup or self._has_dev):
            raise UserError(
                "--correct-shift compares the texts with dev, which this final model is trained on: leave it out."
            )
        self.coverage = predictor.coverage()
        self._texts = 0
        self._used = set[str]()
        self._shift: LabelShift | None = None
        self._findings = list[Finding]()

    def tables(self) -> Iterator[pd.DataFrame]:
        """Classify the texts.

        Yields:
            A row for every text in the order given, with its key, its label and a column `p_CLASS` for every class.

        Raises:
            UserError: A row cannot be read, or the vocabulary does not fit the texts.
        """
        every, numbers, keys = list[np.ndarray](), list[np.ndarray](), list[list[str]]()
        dialogues, fits = 0, False
        for window in self._windows(self._findings):
            texts = list(utterances(window.dialogues))
            pieces = self.coverage.add(texts_of(window.dialogues), worded_only=True)
            if not fits and not self.coverage.fits:
                self._check_vocabulary()
                fits = True
            probabilities = self._predictor.probabilities(window.dialogues, self._on_batch_end, pieces)
            own = [utterance.key or str(number) for number, utterance in enumerate(texts, start=self._texts + 1)]
            order = np.arange(len(texts))
            if window.rows:
                # Of the dialogues, neither the rows nor these in their order need be adjacent.
                place = {row.utterance.key: number for number, row in enumerate(window.rows)}
                order = np.argsort([place[key] for key in own])
            every.append(probabilities)
            numbers.append(dialogue_numbers(window.dialogues) + dialogues)
            dialogues += len(window.dialogues)
            self._texts += len(texts)
            if self._correct_shift:
                keys.append([own[index] for index in order])
                every[-1] = probabilities[order]
                numbers[-1] = numbers[-1][order]
            else:
                yield self._table([own[index] for index in order], self._corrected(probabilities[order]))
        if not self._texts:
            return
        if self._has_dev:
            self._shift = _shift(self._folder, self._predictor.labels, np.concatenate(numbers), np.concatenate(every))
        begin = 0
        for own in keys:
            chosen = slice(begin, begin := begin + len(own))
            shifted = self._shift.probabilities if self._shift and self.shift_corrected else None
            yield self._table(own, self._corrected(every.pop(0)) if shifted is None else shifted[chosen])

    @property
    def shift_corrected(self) -> bool:
        """Whether the probabilities are corrected for other shares of the classes."""
        return self._correct_shift and self._shift is not None and self._shift.detected and self._shift.correctable

    def summary(self) -> PredictionSummary:
        """Summarise the texts, once all tables have been made."""
        alike = self._texts > 1 and len(self._used) == 1
        return PredictionSummary(
            self._texts,
            self._predictor.labels,
            self._shift,
            self.shift_corrected,
            [*notes_of(self.coverage.remarks()), *self._findings],
            next(iter(self._used)) if alike else None,
        )

    def _corrected(self, probabilities: np.ndarray) -> np.ndarray:
        return self._correction.apply(probabilities) if self._correction else probabilities

    def _table(self, keys: Sequence[str], probabilities: np.ndarray) -> pd.DataFrame:
        labels = self._predictor.labels
        table = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in labels])
        table.insert(0, "key", keys)
        table.insert(1, "label", [labels[index] for index in probabilities.argmax(axis=1)])
        self._used.update(table["label"])
        return table

    def _check_vocabulary(self) -> None:
        """Check the vocabulary on all texts, where it does not fit those so far."""
        coverage = self._predictor.coverage()
        for window in self._windows(None):
            coverage.add(texts_of(window.dialogues), worded_only=True)
        coverage.check()


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
        correct_shift: Whether to correct for label shift; see `Prediction`.
        on_batch_end: Called after every batch; see `Predictor.probabilities`.
        out_columns: The names of the columns of ids and of labels; None for `Id` and `Expected` for the competition's
            file, else `id` and `label`.
        spreadsheet_safe: Whether to write an apostrophe before ids and labels that a spreadsheet would take for a
            formula.
        reading: `encoding`, `quoting` and `no_header` for `open_table`, where they are not as for the study's own
            tables.

    Raises:
        UserError: There is no such model, the file cannot be read, `out` cannot be written, or no dev is left
            by which to correct a shift.
    """
    data, names = folder.read_recipe().data, ["id", "label"]
    own = {"quoting": data.quoting, "no_header": data.no_header} if data else {}
    texts = open_table(file, **own | reading)
    if columns is not None or (data and data.text_column in texts.header):
        windows = read_texts(folder, texts, columns)
    elif set(texts.header) >= COMPETITION_COLUMNS:
        windows, names = partial(_competition, texts), ["Id", "Expected"]
    elif texts.header == NSMC_COLUMNS and texts.delimiter == "\t":
        windows = partial(_nsmc, file)
    else:
        windows = read_texts(folder, texts, columns)
    _refuse_out(out, file)
    prediction = Prediction(folder, Predictor(folder, soup), windows, soup, correct_shift, on_batch_end)
    with replacing(out) as written:
        for number, table in enumerate(prediction.tables()):
            table = table if proba else table[["key", "label"]]
            if spreadsheet_safe:
                table = table.assign(**{name: table[name].map(_without_formula) for name in ("key", "label")})
            table = table.set_axis([*(out_columns or names), *table.columns[2:]], axis=1)
            written.write(table.to_csv(index=False, header=not number, na_rep="nan", lineterminator="\n").encode())
            written.flush()
    summary = prediction.summary()
    return replace(summary, findings=(*notes_of(texts.remarks), *summary.findings))


def read_texts(folder: StudyFolder, source: "TableSource", columns: Columns | None) -> Windows:
    """Prepare to read the texts of a table; what `columns` leaves out is in the study's own columns, if it has them.

    Args:
        folder: The study.
        source: The path of the table, or a DataFrame.
        columns: The table's columns; None for those of the study's own tables.
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
        return partial(read_windows, source, replace(own, label=None, split=None))
    speaker, order, pair = (name if name in given else None for name in (own.speaker, own.order, own.text_pair))
    if dialogue := columns.dialogue or (own.dialogue if set(own.dialogue_columns) <= set(given) else None):
        columns = replace(columns, dialogue=dialogue, order=order, consecutive=own.consecutive)
    columns = replace(columns, speaker=columns.speaker or speaker, text_pair=columns.text_pair or pair)
    return partial(read_windows, source, columns)


def _competition(texts: RawTable, findings: list[Finding] | None) -> Iterator[Window]:
    for window in read_windows(texts, COMPETITION, findings):
        yield Window(window.rows, fix_competition(window.dialogues))


def _nsmc(file: Path, findings: list[Finding] | None) -> Iterator[Window]:
    reviews = nsmc_reviews(file)
    while dialogues := tuple(islice(reviews, WINDOW)):
        yield Window((), dialogues)


def _shift(
    folder: StudyFolder, labels: tuple[str, ...], dialogues: np.ndarray, probabilities: np.ndarray
) -> LabelShift:
    """Test whether the classes have other shares than on dev, by the final model's probabilities of both."""
    file = predictions_file(folder.predictions, FINAL, len(folder.read_final().epochs))
    dev = read_predictions(file, labels, folder.read_metadata().classes["dev"])
    return detect_shift(dev.truth, dev.probabilities, probabilities, dev.dialogues, dialogues)


def _without_formula(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA_STARTS) else cell


def _refuse_out(out: Path, file: Path) -> None:
    """Refuse a file that could not be written or would replace the texts, before any work is done."""
    if out.is_dir():
        raise UserError(f"{out} is a folder: name a file in it with -o.")
    if descriptor_of(out) is not None or (out.exists() and not out.is_file()):
        return  # An open file, a device or a pipe is written to, and nothing beside it.
    if out.exists() and out.samefile(file):
        raise UserError(f"{out} is the file with the texts: name another with -o.")
    if check_writable(out.parent):
        raise UserError(f"{out} cannot be written, since {out.parent} is no folder to write to: name another with -o.")
