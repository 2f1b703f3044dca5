"""What is damaged in a study folder ▶ derived again, or trained again."""

from collections.abc import Callable, Iterable
from functools import partial
from math import isnan
from pathlib import Path

import numpy as np

from bertgrid_tf.bert.trainer import STATE_FILE, read_epochs
from bertgrid_tf.corpus import Corpus, dialogue_numbers, utterances
from bertgrid_tf.errors import DamagedError, UserError
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.storage.files import reading
from bertgrid_tf.storage.predictions import Predictions, predictions_file, read_predictions, write_predictions
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name
from bertgrid_tf.trial_config import FINAL, SOUP
from tuners.files import open_arrays


def repair(folder: StudyFolder, corpus: Corpus, on_message: Callable[[str], None]) -> None:
    """Repair the files of a study that is about to go on.

    Tables, the winner and the correction are deleted, since the study writes them anew. Predictions of the search are
    restored from the states of their trials. A trial whose predictions and state are lost begins again, and so does a
    trial after the search, or the final model, whose record is damaged. Trials whose `trial.json` is damaged are left
    to `tuners`.

    Args:
        folder: The study's.
        corpus: The study's.
        on_message: Called with a sentence for every damaged file.

    Raises:
        UserError: A file cannot be read.
    """
    if not folder.metadata_file.exists():
        return
    for file, read in (
        (folder.best_file, folder.read_best),
        (folder.confidence_file, folder.read_confidence),
        (folder.sweeps_file, folder.read_sweeps),
        (folder.cells_file, folder.read_cells),
        (folder.lengths_file, folder.read_lengths),
        (folder.mistakes_file, folder.read_mistakes),
        (folder.times_file, folder.read_times),
        (folder.correction_file, folder.read_correction),
        (folder.final_file, folder.read_final),
        (folder.out_of_fold_file, partial(read_predictions, folder.out_of_fold_file, corpus.labels)),
    ):
        if file.exists():
            _discard_damaged(file, read, on_message)
    dev = _Dev(folder, corpus, on_message)
    for file in sorted(folder.follow_up.glob("*.json")):
        _discard_damaged(file, partial(dev.check_follow_up, file), on_message)
    for trial_id in folder.trial_ids():
        dev.repair_trial(trial_id)


def repair_models(folder: StudyFolder, corpus: Corpus, on_message: Callable[[str], None]) -> None:
    """Compute damaged predictions of the final model and of the soup again; arguments and errors as for `repair`."""
    dev, dialogues = _Dev(folder, corpus, on_message), corpus.splits["dev"]
    if folder.has_final_model() and folder.read_recipe().final.train_on == "train":
        for epoch in dev.damaged(FINAL, [len(folder.read_final().epochs)]):
            dev.write(FINAL, epoch, Predictor(folder).probabilities(dialogues))
    if folder.read_soup() is not None:
        for epoch in dev.damaged(SOUP, [1]):
            if folder.soup_model.is_dir():
                dev.write(SOUP, epoch, Predictor(folder, soup=True).probabilities(dialogues))
            else:  # A soup of one row has no model of its own.
                folder.soup_file.unlink()


def _discard_damaged(file: Path, read: Callable[[], object], on_message: Callable[[str], None]) -> None:
    try:
        read()
    except DamagedError as error:
        on_message(_repaired(error))
        file.unlink()


def _repaired(error: DamagedError) -> str:
    return f"{str(error).partition(': run ')[0].rstrip('.')}: it is made anew."


class _Dev:
    """The predictions of a study for dev."""

    def __init__(self, folder: StudyFolder, corpus: Corpus, on_message: Callable[[str], None]) -> None:
        self._folder, self._labels, self._on_message = folder, corpus.labels, on_message
        dialogues = corpus.splits["dev"]
        self._truth = np.array([corpus.labels.index(text.label or "") for text in utterances(dialogues)])
        self._dialogues = dialogue_numbers(dialogues)
        self._metric = folder.read_recipe().metric

    def _check(self, trial: str, epoch: int) -> None:
        file = predictions_file(self._folder.predictions, trial, epoch)
        if not file.exists():
            raise DamagedError(f"{file} is missing")
        read = read_predictions(file, self._labels)
        if not np.array_equal(read.truth, self._truth) or not np.array_equal(read.dialogues, self._dialogues):
            raise DamagedError(f"{file} is damaged (its texts are not those of dev)")

    def damaged(self, trial: str, epochs: Iterable[int]) -> list[int]:
        """List the epochs of a trial whose predictions are damaged or missing."""
        damaged = []
        for epoch in epochs:
            try:
                self._check(trial, epoch)
            except DamagedError as error:
                self._on_message(_repaired(error))
                damaged.append(epoch)
        return damaged

    def write(self, trial: str, epoch: int, probabilities: np.ndarray) -> None:
        """Write the predictions of a trial after an epoch, float32 [texts, classes]."""
        file = predictions_file(self._folder.predictions, trial, epoch)
        write_predictions(file, Predictions(self._dialogues, self._truth, probabilities), self._labels)

    def check_follow_up(self, file: Path) -> None:
        """Raise DamagedError where the record or the predictions of a trial after the search are damaged."""
        trial = self._folder.read_follow_up(file)
        for epoch in () if trial.config.with_dev else range(1, len(trial.epochs) + 1):
            self._check(trial.name, epoch)

    def repair_trial(self, trial_id: str) -> None:
        """Restore the predictions of a trial of the search; where its state is lost too, let it begin again."""
        try:
            metrics = self._folder.read_trial(trial_id).metrics
        except DamagedError:
            return
        history = metrics.get_history(self._metric) if metrics.exists(self._metric) else []
        if not (damaged := self.damaged(trial_name(trial_id), [one.step for one in history if not isnan(one.mean())])):
            return
        state_file = self._folder.trial_folder(trial_id) / STATE_FILE
        try:
            with reading(state_file, "the trial is trained again") as file, open_arrays(file) as state:
                epochs = read_epochs(state, len(self._truth), len(self._labels))
                restored = [(epoch, epochs[epoch - 1].probabilities) for epoch in damaged]
                if any(probabilities is None for _, probabilities in restored):
                    raise ValueError("the predictions of an epoch are missing")
        except UserError as error:
            self._on_message(str(error))
            self._folder.restart_trial(trial_id)
        else:
            for epoch, probabilities in restored:
                self.write(trial_name(trial_id), epoch, probabilities)  # type: ignore[arg-type]
