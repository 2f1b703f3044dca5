"""The value of an `auto` setting, with the measurements behind it."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.recipe import short_key
from bertgrid_tf.storage.records import MeasuredSetting


def measured_table(key: str, found: MeasuredSetting) -> RenderableType:
    """The curve, and the value that was chosen by it."""
    columns = [Column(name, justify="right") for name in (found.curve[0] if found.curve else ())]
    grid = Grid(*columns, title=escape(f"{short_key(key)} on {found.on}"), title_justify="left")
    for row in found.curve:
        grid.add_row(*(f"{value:,}" if isinstance(value, int) else escape(str(value)) for value in row.values()))
    return Group(grid, Text(measured_line(key, found)))


def measured_line(key: str, found: MeasuredSetting) -> str:
    """The value, and the reason for it."""
    return f"{short_key(key)} auto is {found.value}: {found.because} (measured on {found.on})."


def guess_line(key: str, guess: Value | None) -> str:
    """The value that a plan assumes for an `auto`."""
    name = short_key(key)
    if name == "precision":
        return "precision auto is measured when the study begins: it changes how long the steps take, not how many."
    return (
        f"{name} auto is measured when the study begins; the steps above are those of {guess}, as many as fit "
        "the memory by an estimate. On a CPU, where larger and larger batches are no faster, it may be less, and the "
        "steps more."
    )
