"""Runs after the search, by which its winner is looked at again: more seeds of what is tied, the sweeps' runners-up."""

from collections.abc import Mapping, Sequence

from bertgrid_tf.analysis import CellAnalysis, SweepAnalysis
from bertgrid_tf.budget.plan import AUDIT, REPEATS
from bertgrid_tf.recipe import Recipe, Value
from bertgrid_tf.storage.study_folder import FollowUpTrial


def repeats(recipe: Recipe, winner: Mapping[str, Value], cells: Sequence[CellAnalysis]) -> list[FollowUpTrial]:
    """The rows of the table that have cells in the tied set, with every further seed, up to the last of these cells.

    Args:
        recipe: says how many seeds.
        winner: the values of the winning run.
        cells: of the table.
    """
    last: dict[tuple[float, int], int] = {}
    for cell in cells:
        if cell.tied:
            # The cells of an independent grid have a schedule each.
            horizon = int(winner["schedule_epochs"]) if recipe.grid == "row" else cell.epoch
            place = (cell.learning_rate, horizon)
            last[place] = max(cell.epoch, last.get(place, 0))
    found = []
    for seed in range(recipe.seed + 1, recipe.seed + recipe.repeats):
        for (rate, horizon), epoch in last.items():
            values = {**winner, "learning_rate": rate, "schedule_epochs": horizon, "stop_epoch": epoch}
            found.append(FollowUpTrial(f"repeat_{rate:g}_{horizon}_{seed}", REPEATS, values, seed))
    return found


def audits(recipe: Recipe, winner: Mapping[str, Value], sweeps: Sequence[SweepAnalysis]) -> list[FollowUpTrial]:
    """For every sweep its best level but the chosen one, at the winning learning rate and epoch.

    Args:
        recipe: says whether there is to be an audit.
        winner: the values of the winning run, stopped after the winning epoch.
        sweeps: as they ended.
    """
    found = []
    for sweep in sweeps if recipe.audit else ():
        scored = [(recipe.signed(level.score.value), level.level) for level in sweep.levels if level.score is not None]
        others = [one for one in scored if one[1] != winner[sweep.parameter]]
        if others:
            _, runner_up = max(others, key=lambda one: one[0])
            values = {**winner, sweep.parameter: runner_up}
            found.append(FollowUpTrial(f"audit_{sweep.parameter}", AUDIT, values, recipe.seed, sweep.parameter))
    return found
