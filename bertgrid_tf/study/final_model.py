"""Act three: the winning cell's schedule, cut off after its epoch, repeated with the final profile, or adopted."""

from dataclasses import replace
from math import isnan
from pathlib import Path

import keras_tuner

from bertgrid_tf.analysis import StudyScores, fit_correction
from bertgrid_tf.bert.trainer import STATE_FILE
from bertgrid_tf.budget.controller import BudgetController
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.records import FinalTrial
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.execution import TrialExecution
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import FINAL, TrialConfig
from tuners.files import delete


def make_final_model(
    config: TrialConfig,
    weights: Path | None,
    execution: TrialExecution,
    runner: TrialRunner,
    controller: BudgetController,
) -> None:
    """Adopt or train the final model, save it, and fit the correction of its probabilities, unless that is done.

    The final model of a former winner is retired. No weights of the search are left.

    Args:
        config: The final model's configuration.
        weights: The kept weights of the winning trial, where it has this configuration; a missing file is trained.
        execution: Runs the trial.
        runner: Runs the trial in this process.
        controller: Receives the trial, and ends it where the time does.

    Raises:
        UserError: The model does not fit the memory, or diverges.
    """
    folder = execution.folder
    if folder.has_final_model():
        if _is_trained(config, folder, controller.log):
            delete(folder.final_state)
            folder.delete_weights()
            if not folder.correction_file.exists():
                _fit_correction(folder, config, len(folder.read_final().epochs))
            return
        execution.callback.on_message(
            f"The winner has changed: the final model of the former one ({folder.model}) is retired."
        )
        _retire(folder)
    # Those of another final model.
    delete(folder.evaluations)
    folder.claim_state(folder.final_state, config)
    if weights is not None and weights.exists():
        # For the final trial, now or after a kill, the file is its own state after its last epoch.
        weights.replace(folder.final_state / STATE_FILE)
        folder.delete_weights()
        execution.callback.on_message(
            "The winner's weights were kept: they are the final model, and nothing is trained."
        )
        with controller.estimator.during(FINAL), execution.final(config, runner, folder.final_state) as trial:
            epochs = [dict(metrics) for metrics in trial]
    else:
        folder.delete_weights()
        epochs = _train(config, execution, runner, controller)
    _fit_correction(folder, config, len(epochs))
    folder.write_final(FinalTrial(config.hyperparameters, config.schedule_epochs, epochs, config.gpus))
    delete(folder.final_state)


def _train(
    config: TrialConfig, execution: TrialExecution, runner: TrialRunner, controller: BudgetController
) -> list[dict[str, float]]:
    """Train and save the final model, for as many epochs as there is time; the metrics of every epoch.

    Raises:
        UserError: The model does not fit the memory, or diverges.
    """
    for line in controller.log.since_growth("final"):
        config = replace(config, stop_epoch=int(line["epoch"]))
    controller.begin_final(config)
    metric, model = execution.recipe.metric, config.hyperparameters.model
    kept = "the search's results are kept: choose"
    try:
        epochs = _epochs(config, execution, runner, controller)
        if len(epochs) < config.stop_epoch and not isnan(epochs[-1][metric]):
            # The weights after its last epoch are kept: the model has only to be saved.
            controller.log.add("final", epoch=len(epochs))
            config = replace(config, stop_epoch=len(epochs))
            epochs = _epochs(config, execution, runner, controller)
    except keras_tuner.errors.FailedTrialError as error:
        raise UserError(
            f"The final model {model} cannot be trained at batch size {config.hyperparameters.batch_size} ({error}); "
            f"{kept} a smaller --set final.batch_size or another --final-model."
        ) from error
    if isnan(epochs[-1][metric]):
        raise UserError(
            f"The final model {model} diverged in epoch {len(epochs)} (its loss is no longer a number); "
            f"{kept} another --final-model or --set final.batch_size."
        )
    return epochs


def _is_trained(config: TrialConfig, folder: StudyFolder, log: BudgetLog) -> bool:
    """Return whether the final model of a study is that of a configuration, though it may have been ended early."""
    final, cut = folder.read_final(), [int(line["epoch"]) for line in log.of("final")]
    epochs = len(final.epochs)
    if final.hyperparameters != config.hyperparameters or epochs not in (config.stop_epoch, *cut):
        return False
    if final.schedule_epochs != config.schedule_epochs:
        if config.hyperparameters.needs_horizon:
            return False
        folder.write_final(replace(final, schedule_epochs=config.schedule_epochs))
    if epochs != config.stop_epoch and not log.since_growth("final"):
        log.add("final", epoch=epochs)
    return True


def _retire(folder: StudyFolder) -> None:
    """Delete a study's final model; killed in between, it has none."""
    for part in (folder.final_file, folder.model, folder.final_state):
        delete(part)
    folder.delete_predictions(FINAL)


def _epochs(
    config: TrialConfig, execution: TrialExecution, runner: TrialRunner, controller: BudgetController
) -> list[dict[str, float]]:
    """Train as long as there is time; the metrics of every epoch."""
    epochs: list[dict[str, float]] = []
    with execution.final(config, runner, execution.folder.final_state) as trial:
        for metrics in trial:
            epochs.append(dict(metrics))
            if not controller.final_epoch(config, len(epochs), metrics):
                break
    return epochs


def _fit_correction(folder: StudyFolder, config: TrialConfig, epoch: int) -> None:
    scores = StudyScores(folder)
    folder.write_correction(fit_correction(scores, scores.of(FINAL, epoch), config.hyperparameters).correction)
