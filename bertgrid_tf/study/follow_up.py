"""The trials after the search: further seeds of tied rows, and interaction checks of the sweeps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan

from bertgrid_tf.analysis.records import SweepAnalysis
from bertgrid_tf.budget.controller import BudgetController
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.records import FollowUpTrial
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.execution import TrialExecution
from bertgrid_tf.study.workers import LaterTrial
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import INTERACTIONS, SEEDS, TrialConfig
from tuners.files import delete


def seed_repeats(recipe: Recipe, winner: TrialConfig, tied: Sequence[tuple[float, int]]) -> list[FollowUpTrial]:
    """List the rows with tied cells, with each of the recipe's further seeds, up to the last of these cells.

    Args:
        recipe: The study's recipe.
        winner: The winning trial.
        tied: Learning rate and epoch of the tied cells (`StudyScores.tied_at_first`).
    """
    last: dict[tuple[float, int], int] = {}
    for rate, epoch in tied:
        # Each cell of a per-cell grid has a schedule of its own.
        row = (rate, winner.schedule_epochs if recipe.grid_schedule == "shared" else epoch)
        last[row] = max(epoch, last.get(row, 0))
    trials = []
    for seed in range(recipe.seed + 1, recipe.seed + recipe.n_seeds):
        for (rate, schedule), epoch in last.items():
            config = replace(
                winner.with_hyperparameters(learning_rate=rate),
                schedule_epochs=schedule,
                stop_epoch=epoch,
                seed=seed,
                stage=SEEDS,
            )
            trials.append(FollowUpTrial(f"seed{seed}_{rate:g}_{schedule}", config))
    return trials


def interaction_checks(recipe: Recipe, winner: TrialConfig, sweeps: Sequence[SweepAnalysis]) -> list[FollowUpTrial]:
    """List the runner-up of every sweep, at the winning learning rate and epoch, if the recipe checks interactions.

    Args:
        recipe: The study's recipe.
        winner: The winning trial, stopped after the winning epoch.
        sweeps: The sweeps' levels with their scores.
    """
    trials = []
    for sweep in sweeps if recipe.check_interactions else ():
        chosen = getattr(winner.hyperparameters, sweep.parameter)
        scored = [(recipe.signed(level.score.value), level.level) for level in sweep.levels if level.score is not None]
        others = [candidate for candidate in scored if candidate[1] != chosen]
        if others and any(level.chosen for level in sweep.levels):
            _, runner_up = max(others, key=lambda candidate: candidate[0])
            config = winner.with_hyperparameters(**{sweep.parameter: runner_up})
            config = replace(config, stage=INTERACTIONS, parameter=sweep.parameter)
            trials.append(FollowUpTrial(f"interaction_{sweep.parameter}", config))
    return trials


def run_follow_ups(
    stage: str,
    trials: Sequence[FollowUpTrial],
    execution: TrialExecution,
    runner: TrialRunner,
    controller: BudgetController,
) -> None:
    """Run the trials of a stage after the search, unless they have ended or do not fit the budget."""
    ended = keep_ended(stage, trials, execution.folder)
    for name in ended:
        delete(execution.folder.follow_up / name)
    waiting = {trial.name: trial for trial in trials if trial.name not in ended}
    if not waiting:
        return
    controller.expect(stage, [trial.config for trial in waiting.values()])

    def on_epoch_end(trial: LaterTrial, epoch: int, metrics: Mapping[str, float]) -> bool:
        controller.epoch(trial.name, epoch, metrics)
        return True

    def on_trial_end(trial: LaterTrial, epochs: Sequence[Mapping[str, float]], failure: str | None) -> None:
        if failure is not None:
            execution.callback.on_message(f"{trial.name} failed, and does not count: {failure}")
        finite = [metrics for metrics in epochs if not isnan(metrics[execution.recipe.metric])]
        execution.folder.write_follow_up(replace(waiting[trial.name], epochs=finite))
        execution.callback.on_trial_end(trial.name)
        delete(trial.folder)

    execution.run_later(
        [LaterTrial(trial.config, execution.folder.follow_up / name) for name, trial in waiting.items()],
        runner,
        lambda trial: controller.begin_follow_up(trial.name, trial.config),
        on_epoch_end,
        on_trial_end,
    )


def keep_ended(stage: str, trials: Sequence[FollowUpTrial], folder: StudyFolder) -> set[str]:
    """Return the names of a stage's trials that have ended; what a former tied set or winner has left is deleted.

    Args:
        stage: The stage.
        trials: The trials that are asked for.
        folder: The study's.
    """
    asked, kept = {trial.name: trial for trial in trials}, set()
    for ended in folder.read_follow_ups():
        if ended.config.stage != stage:
            continue
        trial, epochs = asked.get(ended.name), 0
        if trial is not None and ended.config == replace(trial.config, stop_epoch=ended.config.stop_epoch):
            epochs = min(trial.config.stop_epoch, ended.config.stop_epoch)
        if trial is not None and epochs == trial.config.stop_epoch:
            kept.add(ended.name)
            if trial.config != ended.config:
                folder.write_follow_up(replace(trial, epochs=ended.epochs[:epochs]))
            folder.delete_predictions(ended.name, after=epochs)
        else:
            folder.follow_up_file(ended.name).unlink()
            folder.delete_predictions(ended.name)
    return kept
