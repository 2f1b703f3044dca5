"""TensorBoard logs of a study: a row of the HParams table and a curve of every overall metric for each trial."""

from collections.abc import Mapping

import tensorflow as tf
from keras_tuner.engine.trial import TrialStatus
from tensorboard.plugins.hparams import api, api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb

from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.errors import UserError
from bertgrid_tf.report.recorded_trials import RecordedTrial, recorded_trial, recorded_trials, shown_metrics
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name
from bertgrid_tf.trial_config import TrialConfig

_STATUS = {TrialStatus.COMPLETED: api_pb2.STATUS_SUCCESS, TrialStatus.FAILED: api_pb2.STATUS_FAILURE}


class TensorBoard(Callback):
    """Writes the logs of a study to its folder `tensorboard/`, a run for each trial."""

    def on_study_begin(self, study: StudyFolder, estimator: TimeEstimator) -> None:
        """See `Callback`."""
        self._folder = study

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        """See `Callback`; trials that have ended meanwhile get their status."""
        write_logs(self._folder)

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `Callback`."""
        for trial_id in self._folder.trial_ids():
            if trial == trial_name(trial_id):
                write_log(self._folder, trial_id)

    def on_study_end(self) -> None:
        """See `Callback`."""
        write_logs(self._folder)


def write_logs(folder: StudyFolder) -> None:
    """Write the logs of all trials so far, those after the search and the final model's included."""
    for trial in recorded_trials(folder):
        _write(folder, trial)


def write_log(folder: StudyFolder, trial_id: str) -> None:
    """Write the log of a trial of the search, in place of an earlier log.

    The hyperparameters are stage, seed, model, learning rate, epochs of the schedule, and whatever is swept. The
    scalars, with the epoch as step, are those of `shown_metrics`.
    """
    _write(folder, recorded_trial(folder, trial_id))


def _write(folder: StudyFolder, trial: RecordedTrial) -> None:
    recipe, name = folder.read_recipe(), trial.name.removeprefix(trial_name(""))
    place = folder.tensorboard / name
    shown = dict.fromkeys(["model", "learning_rate", "schedule_epochs", *recipe.sweeps])
    values = trial.config.values
    hyperparameters = {"stage": trial.config.stage, "seed": trial.config.seed} | {key: values[key] for key in shown}
    earlier = list(place.glob("events.*"))
    try:
        writer = tf.summary.create_file_writer(str(place))
        with writer.as_default():
            api.hparams(hyperparameters, trial_id=name)
            for step, metrics in enumerate(trial.epochs, start=1):
                for metric, value in shown_metrics(metrics, recipe.metric).items():
                    tf.summary.scalar(metric, value, step)
            if (status := _STATUS.get(trial.status)) is not None:
                tf.summary.experimental.write_raw_pb(session_end_pb(status).SerializeToString(), step=0)
        writer.close()
    except tf.errors.OpError as error:
        raise UserError(
            f"Cannot write TensorBoard's logs to {place}: make the folder writable, or go on without --tensorboard."
        ) from error
    for file in earlier:
        file.unlink()
