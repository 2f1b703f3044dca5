"""The plan of a study on the terminal, with the values of its `auto` settings."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column
from rich.text import Text

from bertgrid_tf.budget.plan import StudyPlan
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.recipe import short_key
from bertgrid_tf.report.table import terminal_table
from bertgrid_tf.storage.records import MeasuredSetting
from bertgrid_tf.system.host import readable
from bertgrid_tf.trial_config import GRID

if TYPE_CHECKING:
    # It imports transformers, which `results` need not wait for.
    from bertgrid_tf.budget.disk_space import DiskSpace


def plan_table(plan: StudyPlan) -> RenderableType:
    """Return the stages of a study with their cost, and the cost of the full product if that is more than the grid."""
    if plan.product_epochs == sum(stage.epochs for stage in plan.stages if stage.name == GRID):
        return _stages(plan, "Plan")
    product = (
        f"Every combination of all levels would be {plan.product_trials:,} trials, {plan.product_epochs:,} epochs in "
        f"all: {plan.product_epochs / max(plan.epochs, 1):.1f} times as many epochs."
    )
    return Group(_stages(plan, "Plan"), Text(product))


def missing_table(plan: StudyPlan, folder: str) -> RenderableType:
    """Return the stages that a study in a folder lacks, with their cost."""
    if not plan.stages:
        return Text(f"The study in {folder} has all of this: there is nothing to train.")
    return Group(_stages(plan, "Missing"), Text(f"The study in {folder} has all else."))


def space_line(space: "DiskSpace", folder: str, free: int) -> str:
    """Return the disk that a study takes, beside what is free.

    Example:
        >>> from bertgrid_tf.budget.disk_space import DiskSpace
        >>> space_line(DiskSpace(most=4_200_000_000, kept=438_000_000), "results/friends", 76_000_000_000)
        'On disk: up to 4.2 GB in results/friends, 438 MB when the study has ended; 76 GB are free there.'
    """
    return (
        f"On disk: up to {readable(space.most)} in {folder}, {readable(space.kept)} when the study has ended; "
        f"{readable(free)} are free there."
    )


def _stages(plan: StudyPlan, title: str) -> RenderableType:
    columns = [Column(name, justify="right") for name in ("trials", "epochs", "steps")]
    grid = terminal_table("stage", *columns, title=title)
    for stage in plan.stages:
        upper = "≤ " if stage.at_most else ""
        trials = "" if stage.at_most and stage.name != "final" else str(stage.trials)
        grid.add_row(stage.name, trials, f"{upper}{stage.epochs}", f"{upper}{stage.steps:,}")
    grid.add_section()
    upper = "≤ " if any(stage.at_most for stage in plan.stages) else ""
    grid.add_row("in all", str(plan.trials), f"{upper}{plan.epochs}", f"{upper}{plan.steps:,}")
    return grid


def measured_table(key: str, setting: MeasuredSetting) -> RenderableType:
    """Return the measurements behind an `auto` setting, and the chosen value."""
    columns = [Column(name, justify="right") for name in (setting.curve[0] if setting.curve else ())]
    grid = terminal_table(*columns, title=escape(f"{short_key(key)} on {setting.on}"))
    for row in setting.curve:
        grid.add_row(*(f"{value:,}" if isinstance(value, int) else escape(str(value)) for value in row.values()))
    return Group(grid, Text(measured_line(key, setting)))


def measured_line(key: str, setting: MeasuredSetting) -> str:
    """Return the measured value of an `auto` setting, and the reason for it.

    Example:
        >>> setting = MeasuredSetting(64, {}, "NVIDIA A10", "it takes 7% of the memory", [])
        >>> measured_line("final.batch_size", setting)
        'final.batch_size auto is 64: it takes 7% of the memory (measured on NVIDIA A10).'
    """
    return f"{short_key(key)} auto is {setting.value}: {setting.because} (measured on {setting.on})."


def guess_line(key: str, guess: Value | None) -> str:
    """Return the value that a plan assumes for an `auto` setting."""
    name = short_key(key)
    if name == "precision":
        return (
            "precision auto is measured when the study begins; it changes the time of a step, not the number of steps."
        )
    return (
        f"{name} auto is measured when the study begins; the steps above are those of {guess}, which by an estimate "
        "fills the memory. On a CPU, where larger batches may be no faster, it may be smaller, and the steps more."
    )
