"""TensorBoard logs of a study: a row of the HParams table and a curve of every overall metric for each trial."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
from keras_tuner.engine.trial import TrialStatus
from tensorboard.plugins.hparams import api, api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb

from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.errors import UserError
from bertgrid_tf.metrics.classification import OVERALL
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import FINAL, TrialConfig
from tuners.space import STAGE

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
            if trial == self._folder.trial_folder(trial_id).name:
                write_log(self._folder, trial_id)

    def on_study_end(self) -> None:
        """See `Callback`."""
        write_logs(self._folder)


def write_logs(folder: StudyFolder) -> None:
    """Write the logs of all trials so far, those after the search and the final model's included."""
    seed = folder.read_recipe().seed
    for trial_id in folder.trial_ids():
        write_log(folder, trial_id)
    for trial in folder.read_follow_ups():
        status = api_pb2.STATUS_SUCCESS if trial.epochs else api_pb2.STATUS_FAILURE
        _write(folder, trial.name, trial.config, trial.epochs, status)
    if folder.final_file.is_file():
        final = folder.read_final()
        config = TrialConfig(final.hyperparameters, final.schedule_epochs, len(final.epochs), seed, FINAL)
        _write(folder, FINAL, config, final.epochs, api_pb2.STATUS_SUCCESS)


def write_log(folder: StudyFolder, trial_id: str) -> None:
    """Write the log of a trial of the search, in place of an earlier log.

    The hyperparameters are stage, seed, model, learning rate, epochs of the schedule, and whatever is swept. The
    scalars, with the epoch as step, are the overall metrics on dev, the deciding metric, `train_loss` and `seconds`.
    """
    trial = folder.read_trial(trial_id)
    values = trial.hyperparameters.values
    config = TrialConfig.from_values(values, folder.read_recipe().seed, str(values[STAGE]))
    epochs: dict[int, dict[str, float]] = {}
    for name, history in trial.metrics.metrics.items():
        for observation in history.get_history():
            epochs.setdefault(observation.step, {})[name] = float(observation.mean())
    metrics = [epochs[epoch] for epoch in sorted(epochs)]
    _write(folder, trial_id, config, metrics, _STATUS.get(trial.status))


def _write(
    folder: StudyFolder,
    name: str,
    config: TrialConfig,
    epochs: Sequence[Mapping[str, float]],
    status: int | None,
) -> None:
    recipe, place = folder.read_recipe(), folder.tensorboard / name
    shown = dict.fromkeys(["model", "learning_rate", "schedule_epochs", *recipe.sweeps])
    values = config.values
    hyperparameters = {"stage": config.stage, "seed": config.seed} | {key: values[key] for key in shown}
    earlier = list(place.glob("events.*"))
    try:
        writer = tf.summary.create_file_writer(str(place))
        with writer.as_default():
            api.hparams(hyperparameters, trial_id=name)
            for step, metrics in enumerate(epochs, start=1):
                for metric in dict.fromkeys([*OVERALL, recipe.metric, "train_loss", "seconds"]):
                    # Classes without an order have no quadratic_kappa.
                    if metric in metrics:
                        tf.summary.scalar(metric, metrics[metric], step)
            if status is not None:
                tf.summary.experimental.write_raw_pb(session_end_pb(status).SerializeToString(), step=0)
        writer.close()
    except tf.errors.OpError as error:
        raise UserError(
            f"Cannot write TensorBoard's logs to {place}: make the folder writable, or go on without --tensorboard."
        ) from error
    for file in earlier:
        file.unlink()
