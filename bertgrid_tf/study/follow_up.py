"""The trials after the search: further seeds of tied rows, and interaction checks of the sweeps."""

from collections.abc import Sequence
from dataclasses import replace

from bertgrid_tf.analysis import CellAnalysis, SweepAnalysis
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.records import FollowUpTrial
from bertgrid_tf.trial_config import INTERACTIONS, SEEDS, TrialConfig


def seed_repeats(recipe: Recipe, winner: TrialConfig, cells: Sequence[CellAnalysis]) -> list[FollowUpTrial]:
    """List the rows with cells of the tied set, with every further seed, up to the last of these cells.

    Args:
        recipe: Its `n_seeds` counts the seeds.
        winner: The winning trial.
        cells: The cells of the grid.
    """
    last: dict[tuple[float, int], int] = {}
    for cell in cells:
        if cell.tied:
            # Each cell of a per-cell grid has a schedule of its own.
            schedule = winner.schedule_epochs if recipe.grid_schedule == "shared" else cell.epoch
            row = (cell.learning_rate, schedule)
            last[row] = max(cell.epoch, last.get(row, 0))
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
    """List the runner-up of every sweep, at the winning learning rate and epoch.

    Args:
        recipe: Says whether interactions are checked.
        winner: The winning trial, stopped after the winning epoch.
        sweeps: The sweeps' levels with their scores.
    """
    trials = []
    for sweep in sweeps if recipe.check_interactions else ():
        chosen = getattr(winner.hyperparameters, sweep.parameter)
        scored = [(recipe.signed(level.score.value), level.level) for level in sweep.levels if level.score is not None]
        others = [candidate for candidate in scored if candidate[1] != chosen]
        if others:
            _, runner_up = max(others, key=lambda candidate: candidate[0])
            config = winner.with_hyperparameters(**{sweep.parameter: runner_up})
            config = replace(config, stage=INTERACTIONS, parameter=sweep.parameter)
            trials.append(FollowUpTrial(f"interaction_{sweep.parameter}", config))
    return trials
