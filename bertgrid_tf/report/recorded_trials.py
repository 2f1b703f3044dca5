"""The trials of a study with their epochs, as TensorBoard and experiment trackers show them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from keras_tuner.engine.trial import TrialStatus

from bertgrid_tf.metrics.classification import OVERALL
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name
from bertgrid_tf.trial_config import FINAL, TrialConfig
from tuners.space import STAGE


@dataclass(frozen=True)
class RecordedTrial:
    """A trial that has begun.

    Attributes:
        name: The name of its predictions.
        config: Its configuration.
        epochs: The dev metrics after each epoch so far, from the first.
        status: KerasTuner's status.
    """

    name: str
    config: TrialConfig
    epochs: Sequence[Mapping[str, float]] = ()
    status: str = TrialStatus.RUNNING


def recorded_trials(folder: StudyFolder) -> Iterator[RecordedTrial]:
    """Yield the trials of the search so far, those after it that have ended, and the final model's."""
    for trial_id in folder.trial_ids():
        yield recorded_trial(folder, trial_id)
    for trial in folder.read_follow_ups():
        status = TrialStatus.COMPLETED if trial.epochs else TrialStatus.FAILED
        yield RecordedTrial(trial.name, trial.config, trial.epochs, status)
    if folder.final_file.is_file():
        final = folder.read_final()
        seed, epochs = folder.read_recipe().seed, len(final.epochs)
        config = TrialConfig(final.hyperparameters, final.schedule_epochs, epochs, seed, FINAL)
        yield RecordedTrial(FINAL, config, final.epochs, TrialStatus.COMPLETED)


def recorded_trial(folder: StudyFolder, trial_id: str) -> RecordedTrial:
    """Read a trial of the search."""
    trial = folder.read_trial(trial_id)
    values = trial.hyperparameters.values
    config = TrialConfig.from_values(values, folder.read_recipe().seed, str(values[STAGE]))
    epochs: dict[int, dict[str, float]] = {}
    for name, history in trial.metrics.metrics.items():
        for observation in history.get_history():
            epochs.setdefault(observation.step, {})[name] = float(observation.mean())
    return RecordedTrial(trial_name(trial_id), config, [epochs[epoch] for epoch in sorted(epochs)], trial.status)


def shown_metrics(metrics: Mapping[str, float], deciding: str) -> dict[str, float]:
    """Pick the overall metrics on dev, the deciding one, `train_loss` and `seconds`, as far as an epoch has them.

    Example:
        >>> shown_metrics({"accuracy": 0.5, "f1_joy": 0.25, "f1_anger": 0.0, "seconds": 9.0}, deciding="f1_joy")
        {'accuracy': 0.5, 'f1_joy': 0.25, 'seconds': 9.0}
    """
    # Classes without an order have no quadratic_kappa.
    names = dict.fromkeys([*OVERALL, deciding, "train_loss", "seconds"])
    return {name: metrics[name] for name in names if name in metrics}
