"""TensorBoard logs of a study: a row of the HParams table and a curve of every overall metric for each trial."""

import json
from collections.abc import Mapping, Sequence

import tensorflow as tf
from keras_tuner.engine.trial import Trial, TrialStatus
from tensorboard.plugins.hparams import api, api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb

from bertgrid_tf.budget.plan import FINAL
from bertgrid_tf.metrics.classification import OVERALL
from bertgrid_tf.recipe import Value
from bertgrid_tf.storage.study_folder import StudyFolder
from tuners.space import STAGE

FOLDER = "tensorboard"
_STATUS = {TrialStatus.COMPLETED: api_pb2.STATUS_SUCCESS, TrialStatus.FAILED: api_pb2.STATUS_FAILURE}


def write_logs(study_folder: StudyFolder) -> None:
    """Write the logs of all trials so far, of the follow-up runs, and of the final model (`tensorboard/final`).

    Args:
        results: The study's folder.
    """
    for file in sorted(study_folder.path.glob("trial_*/trial.json")):
        write_log(study_folder, file.parent.name.removeprefix("trial_"))
    for run in study_folder.follow_up_trials():
        status = api_pb2.STATUS_SUCCESS if run.epochs else api_pb2.STATUS_FAILURE
        _write(study_folder, run.name, run.stage, {**run.values, "seed": run.seed}, run.epochs, status)
    if study_folder.final_file.is_file():
        final = study_folder.final()
        values = {**final.hyperparameters, "schedule_epochs": final.horizon}
        _write(study_folder, FINAL, FINAL, values, final.epochs, api_pb2.STATUS_SUCCESS)


def write_log(study_folder: StudyFolder, trial_id: str) -> None:
    """Write the log of one trial to `tensorboard/<trial_id>`, in place of an earlier log.

    The hyperparameters are stage, seed, model, learning rate, epochs (the length of the schedule) and the swept
    parameters. The scalars, with the epoch as step, are the overall metrics on dev, the deciding metric, `train_loss`
    and `seconds` (the duration of the epoch).

    Args:
        results: The study's folder.
        trial_id: The id of the trial, as KerasTuner numbers it.
    """
    file = study_folder.path / f"trial_{trial_id}" / "trial.json"
    trial = Trial.from_state(json.loads(file.read_text(encoding="utf-8")))
    values = trial.hyperparameters.values
    epochs: dict[int, dict[str, float]] = {}
    for name, history in trial.metrics.metrics.items():
        for observation in history.get_history():
            epochs.setdefault(observation.step, {})[name] = float(observation.mean())
    metrics = [epochs[epoch] for epoch in sorted(epochs)]
    _write(study_folder, trial_id, values[STAGE], values, metrics, _STATUS.get(trial.status))


def _write(
    study_folder: StudyFolder,
    name: str,
    stage: str,
    values: Mapping[str, Value],
    epochs: Sequence[Mapping[str, float]],
    status: int | None,
) -> None:
    recipe, folder = study_folder.recipe(), study_folder.path / FOLDER / name
    shown = dict.fromkeys(["model", "learning_rate", "schedule_epochs", *recipe.sweeps])
    hyperparameters = {"stage": stage, "seed": values.get("seed", recipe.seed)} | {key: values[key] for key in shown}
    earlier = list(folder.glob("events.*"))
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        api.hparams(hyperparameters, trial_id=name)
        for step, metrics in enumerate(epochs, start=1):
            for metric in dict.fromkeys([*OVERALL, recipe.metric, "train_loss", "seconds"]):
                tf.summary.scalar(metric, metrics[metric], step)
        if status is not None:
            tf.summary.experimental.write_raw_pb(session_end_pb(status).SerializeToString(), step=0)
    writer.close()
    for file in earlier:
        file.unlink()
