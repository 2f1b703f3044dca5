"""A study of bertgrid-tf with its study folder and every file in it, recorded epoch by epoch or step by step."""

import tempfile
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.steps import StepRecorder
from benchmarks.contenders.trials import EpochRecorder
from benchmarks.layout import limit_splits
from bertgrid_tf.bank import surfaces
from bertgrid_tf.bank.studies import RecordedStudy, read_studies
from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.data import open_corpus
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.runner import StudyRunner
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import TrialConfig


class RecordEpochs(Callback):
    """Records the epochs of every trial.

    Args:
        began: As for `EpochRecorder`.
        runner: Returns the study's runner of trials, whose model is scored on the test split too; None for no score.
    """

    def __init__(self, began: float | None = None, runner: Callable[[], TrialRunner] | None = None) -> None:
        self.recorder = EpochRecorder(began)
        self._runner = runner

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        """Begin a trial."""
        self._config = config
        self.recorder.begin(config.hyperparameters.learning_rate)

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record an epoch."""
        score = None if self._runner is None else partial(self._test_accuracy, self._runner)
        self.recorder.epoch(metrics["seconds"], metrics["accuracy"], score)

    def _test_accuracy(self, runner_of: Callable[[], TrialRunner]) -> float:
        runner, hyperparameters = runner_of(), self._config.hyperparameters
        test = runner.encoder.split(hyperparameters, "test")
        probabilities = runner.models.trainer(hyperparameters, self._config.gpus).probabilities(test.texts)
        return float(np.mean(probabilities.argmax(axis=1) == test.labels))


class RecordSteps(Callback):
    """Records the steps of every trial."""

    def __init__(self) -> None:
        self.recorder = StepRecorder()

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        """Begin a trial."""
        self.recorder.begin()

    def on_train_batch_end(self, trial: str, step: int, steps: int, loss: float) -> None:
        """Record a step."""
        self.recorder.step()


def _studies_without(tasks: Collection[str]) -> tuple[RecordedStudy, ...]:
    return tuple(study for study in read_studies() if study.card.task not in tasks)


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare a study in a new folder each round.

    Args:
        request: "recipe", "data_dirs", "dev_utterances", the parent "folder", and whether "epochs" or "steps" are to
            "record", the former with "test" on the test split too; tasks that are "left_out" of the bank, and "began"
            (`EpochRecorder`).
    """
    if left_out := request.get("left_out"):
        surfaces.read_studies = partial(_studies_without, left_out)
    recipe = Recipe.model_validate(request["recipe"])
    corpus = open_corpus(recipe, [Path(folder) for folder in request["data_dirs"]])
    corpus = limit_splits(corpus, request["dev_utterances"], recipe.seed)

    def play() -> Reply:
        callback: RecordEpochs | RecordSteps = RecordSteps()
        if request["record"] == "epochs":
            callback = RecordEpochs(request.get("began"), (lambda: study._runner) if request.get("test") else None)
        study = StudyRunner(recipe, corpus, StudyFolder(Path(tempfile.mkdtemp(dir=request["folder"]))), [callback])
        study.run()
        return callback.recorder.end()

    return play


if __name__ == "__main__":
    serve(prepare)
