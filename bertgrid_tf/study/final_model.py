"""Act three: the winning cell's schedule, cut off after its epoch, repeated with the final profile, or adopted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import takewhile
from pathlib import Path
from statistics import fmean

import numpy as np

from bertgrid_tf.analysis import StudyScores, fit_correction
from bertgrid_tf.bert.trainer import STATE_FILE
from bertgrid_tf.budget.controller import BudgetController
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.inference.predictor import ensemble
from bertgrid_tf.metrics.classification import directions, evaluate
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.predictions import Predictions, held_out, predictions_file, read_predictions, write_predictions
from bertgrid_tf.storage.records import FinalTrial, FollowUpTrial
from bertgrid_tf.storage.study_folder import StudyFolder, member_name
from bertgrid_tf.study.execution import TrialExecution
from bertgrid_tf.study.workers import LaterTrial
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import FINAL, TrialConfig
from tuners.files import delete


def make_final_model(
    members: Sequence[TrialConfig],
    weights: Path | None,
    execution: TrialExecution,
    runner: TrialRunner,
    controller: BudgetController,
) -> None:
    """Adopt or train the final model, save it, and fit the correction of its probabilities, unless that is done.

    The final model of a former winner is retired. No weights of the search are left.

    Args:
        members: The configuration of each model whose mean is the final model.
        weights: The kept weights of the winning trial, where it has the only configuration; a missing file is trained.
        execution: Runs the trial.
        runner: Runs the trial in this process.
        controller: Receives the trial, and ends it where the time does.

    Raises:
        UserError: The model does not fit the memory, or diverges.
    """
    folder, config = execution.folder, members[0]
    if folder.has_final_model() and all(
        folder.member_model(n + 1).is_dir() for n in range(folder.read_final().members)
    ):
        if _is_trained(members, folder, controller.log):
            delete(folder.final_state)
            folder.delete_weights()
            final = folder.read_final()
            _derive(members[: final.members], folder, len(final.epochs))
            return
        execution.callback.on_message(
            f"The winner has changed: the final model of the former one ({folder.model}) is retired."
        )
        _retire(folder)
    # Those of another final model.
    delete(folder.evaluations)
    delete(folder.out_of_fold_file)
    folder.delete_predictions(FINAL)
    if len(members) > 1:
        epochs, count = _train_members(members, execution, runner, controller)
        _derive(members[:count], folder, len(epochs))
        folder.write_final(FinalTrial(config.hyperparameters, config.schedule_epochs, epochs, config.gpus, count))
        return
    _ended({}, folder)
    epochs = list[dict[str, float]]()
    if weights is not None and weights.exists():
        # For the final trial, now or after a kill, the file is its own state after its last epoch.
        folder.claim_state(folder.final_state, config)
        weights.replace(folder.final_state / STATE_FILE)
        folder.delete_weights()
        execution.callback.on_message(
            "The winner's weights were kept: they are the final model, and nothing is trained."
        )
        with controller.estimator.during(FINAL):
            epochs.extend(runner.run(config, folder.final_state, folder.model))
    else:
        folder.delete_weights()
        controller.expect(FINAL, [config])
        trial = LaterTrial(config, folder.final_state, folder.model)
        _train([trial], execution, runner, controller, lambda _, scored: epochs.extend(scored), first=True)
    _derive(members, folder, len(epochs))
    folder.write_final(FinalTrial(config.hyperparameters, config.schedule_epochs, epochs, config.gpus))
    delete(folder.final_state)


def _train_members(
    members: Sequence[TrialConfig], execution: TrialExecution, runner: TrialRunner, controller: BudgetController
) -> tuple[list[dict[str, float]], int]:
    """Train and save the members that there is time for; the metrics of every epoch of their mean, and their number.

    Raises:
        UserError: A model does not fit the memory, or diverges.
    """
    folder = execution.folder
    folder.delete_weights()
    configs = {member_name(n + 1): _cut(config, controller.log) for n, config in enumerate(members)}
    places = {name: folder.member_model(number) for number, name in enumerate(configs, start=1)}
    ended = {name: trial for name, trial in _ended(configs, folder).items() if places[name].is_dir()}
    if next(iter(configs)) not in ended:
        ended = {}  # their folders are in that of the first, which takes its place
    waiting = [
        LaterTrial(config, folder.follow_up / name, places[name])
        for name, config in configs.items()
        if name not in ended
    ]
    controller.expect(FINAL, [trial.config for trial in waiting])
    for name in ended:
        delete(folder.follow_up / name)

    def on_trial_end(trial: LaterTrial, epochs: list[dict[str, float]]) -> None:
        ended[trial.name] = FollowUpTrial(trial.name, trial.config, epochs)
        folder.write_follow_up(ended[trial.name])
        execution.callback.on_trial_end(trial.name)
        delete(trial.folder)

    # The first one decides for how many epochs there is time, and its folder is to hold the others'.
    first = [] if ended else waiting[:1]
    _train(first, execution, runner, controller, on_trial_end, first=True)
    _train(waiting[len(first) :], execution, runner, controller, on_trial_end)
    trained = [ended[name] for name in takewhile(ended.__contains__, configs)]
    # Of models that were trained at a time, a later one may have ended where there is no time for one before it.
    for name in [*configs][len(trained) :]:
        _forget(name, folder)
        delete(places[name])
    return list(_mean_epochs(trained, execution)), len(trained)


def _ended(configs: Mapping[str, TrialConfig], folder: StudyFolder) -> dict[str, FollowUpTrial]:
    """Return the records of the members that have ended; what those of another final model have left is deleted."""
    ended = {}
    for trial in folder.read_follow_ups():
        config = configs.get(trial.name)
        if config is not None and trial.config == replace(config, gpus=trial.config.gpus):
            ended[trial.name] = trial
        elif trial.config.stage == FINAL:
            _forget(trial.name, folder)
    for state in folder.follow_up.glob(f"{FINAL}_*"):
        if state.is_dir() and state.name not in configs:
            delete(state)
    return ended


def _forget(name: str, folder: StudyFolder) -> None:
    """Delete what a member has left but its model."""
    folder.follow_up_file(name).unlink(missing_ok=True)
    folder.delete_predictions(name)
    folder.delete_predictions(held_out(name))


def _mean_epochs(members: Sequence[FollowUpTrial], execution: TrialExecution) -> Iterator[dict[str, float]]:
    """Yield the metrics of every epoch of the members' mean, and write its predictions."""
    predictions, labels = execution.folder.predictions, execution.corpus.labels
    for number, epochs in enumerate(zip(*(member.epochs for member in members), strict=True), start=1):
        metrics = {name: fmean(epoch[name] for epoch in epochs) for name in epochs[0]}
        if not members[0].config.with_dev:
            read = [read_predictions(predictions_file(predictions, one.name, number), labels) for one in members]
            mean = replace(read[0], probabilities=ensemble(one.probabilities for one in read))
            write_predictions(predictions_file(predictions, FINAL, number), mean, labels)
            names = [*directions(labels), execution.recipe.metric]
            metrics |= evaluate(mean.truth, mean.probabilities, labels, names)
        yield metrics


def _train(
    trials: Sequence[LaterTrial],
    execution: TrialExecution,
    runner: TrialRunner,
    controller: BudgetController,
    on_trial_end: Callable[[LaterTrial, list[dict[str, float]]], None],
    first: bool = False,
) -> None:
    """Train and save those of some models that there is time for.

    Args:
        trials: The models.
        execution: Runs the trials.
        runner: Runs them in this process.
        controller: Receives them, and ends the first where the time does.
        on_trial_end: Called for each that is saved, with the metrics of its epochs.
        first: Whether it is one model alone, which is trained for as many epochs as there is time.

    Raises:
        UserError: A model does not fit the memory, or diverges.
    """
    late = list[LaterTrial]()

    def on_epoch_end(trial: LaterTrial, epoch: int, metrics: Mapping[str, float]) -> bool:
        if first:
            return controller.final_epoch(trial.name, trial.config, epoch, metrics)
        controller.epoch(trial.name, epoch, metrics)
        return True

    def saved_or_late(trial: LaterTrial, epochs: list[dict[str, float]], failure: str | None) -> None:
        _check_trained(trial.config.hyperparameters, epochs, failure, execution.recipe)
        if len(epochs) < trial.config.stop_epoch:
            controller.log.add("final", epoch=len(epochs))
            late.append(trial)
        else:
            on_trial_end(trial, epochs)

    if trials:
        execution.run_later(
            [replace(trial, config=_cut(trial.config, controller.log)) for trial in trials],
            runner,
            lambda trial: controller.begin_final(trial.name, trial.config, first),
            on_epoch_end,
            saved_or_late,
        )
        # The weights after its last epoch are kept: the model has only to be saved.
        _train(late, execution, runner, controller, on_trial_end, first)


def _check_trained(
    values: Hyperparameters, epochs: Sequence[Mapping[str, float]], failure: str | None, recipe: Recipe
) -> None:
    """Check that a model was trained.

    Raises:
        UserError: It does not fit the memory, or has diverged.
    """
    kept = "the search's results are kept: choose"
    if failure is not None:
        raise UserError(
            f"The final model {values.model} cannot be trained at batch size {values.batch_size} ({failure}); {kept} "
            "a smaller --set final.batch_size or another --final-model."
        )
    if recipe.has_diverged(epochs[-1]):
        raise UserError(
            f"The final model {values.model} diverged in epoch {len(epochs)} (its loss is no longer a number); "
            f"{kept} another --final-model or --set final.batch_size."
        )


def _cut(config: TrialConfig, log: BudgetLog) -> TrialConfig:
    """Return the configuration, with its last epoch where the time has ended the final model."""
    for line in log.since_growth("final"):
        config = replace(config, stop_epoch=int(line["epoch"]))
    return config


def _is_trained(members: Sequence[TrialConfig], folder: StudyFolder, log: BudgetLog) -> bool:
    """Return whether the final model of a study is that of its members, though it may have been ended early."""
    config, final, cut = members[0], folder.read_final(), [int(line["epoch"]) for line in log.of("final")]
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


def _derive(members: Sequence[TrialConfig], folder: StudyFolder, epoch: int) -> None:
    """Fit the correction, and join the predictions of the folds, unless that is done or cannot be."""
    config = members[0]
    if not config.with_dev and not folder.correction_file.exists():
        scores = StudyScores(folder)
        fitted = fit_correction(scores, scores.of(FINAL, epoch), config.hyperparameters)
        folder.write_correction(fitted.correction)
    if config.held_out and len(members) == config.held_out[1] and not folder.out_of_fold_file.exists():
        labels, names = folder.read_metadata().labels, [held_out(member_name(n + 1)) for n in range(len(members))]
        files = [predictions_file(folder.predictions, name, epoch) for name in names]
        remedy = f"delete {folder.model} and run the study's `tune` command again, which trains the final model again"
        parts = [read_predictions(file, labels, remedy=remedy) for file in files]
        # No dialogue is in two folds, and each fold has its texts in the corpus' order.
        order = np.argsort(np.concatenate([part.dialogues for part in parts]), kind="stable")
        columns = [np.concatenate(column)[order] for column in zip(*map(astuple, parts), strict=True)]
        write_predictions(folder.out_of_fold_file, Predictions(*columns), labels)
