"""Trials of a search in a study folder, as the oracle writes them."""

import json
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from bertgrid_tf import recipe as recipes
from bertgrid_tf.storage.study_folder import StudyFolder

OVERALL = ["accuracy", "loss", "macro_f1", "seconds", "train_loss", "weighted_f1"]


def epoch(accuracy: float) -> dict[str, float]:
    return dict.fromkeys(OVERALL, 0.25) | {"accuracy": accuracy, "seconds": 10.0, "f1_joy": 0.5}


def add_trial(
    study_folder: StudyFolder, trial_id: str, stage: str, accuracies: list[float], status: str, **values: Any
) -> Path:
    """Writes a trial's file as the oracle does."""
    parameters = keras_tuner.HyperParameters()
    parameters.values = (
        study_folder.read_recipe().hyperparameters.model_dump()
        | {"schedule_epochs": 4, "stop_epoch": 4}
        | values
        | {"tuner/stage": stage}
    )
    trial = Trial(parameters, trial_id, status)
    for step, accuracy in enumerate(accuracies, start=1):
        for name, value in epoch(accuracy).items():
            if not trial.metrics.exists(name):
                trial.metrics.register(name, "max")
            trial.metrics.update(name, value, step)
    file = study_folder.path / f"trial_{trial_id}" / "trial.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(trial.get_state()))
    return file


def make_study(folder: Path) -> StudyFolder:
    """A study with a trial of a sweep that has ended, one that has failed, and one of the grid that is running."""
    study_folder = StudyFolder(folder)
    study_folder.path.mkdir()
    sweeps = {"context": ["current", "current+previous"]}
    study_folder.recipe_file.write_text(recipes.load_recipe("sample", None, {"sweeps": sweeps}).to_yaml())
    add_trial(study_folder, "0000", "sweep:context", [0.5, 0.75], TrialStatus.COMPLETED)
    add_trial(study_folder, "0001", "sweep:context", [], TrialStatus.FAILED, context="current+previous")
    add_trial(study_folder, "0002", "grid", [0.625], TrialStatus.RUNNING, learning_rate=0.5)
    return study_folder
