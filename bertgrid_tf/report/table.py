"""Tables on the terminal."""

from rich.table import Column, Table

from bertgrid_tf.system.terminal import is_narrow


def terminal_table(*columns: Column | str, title: str | None = None) -> Table:
    """Make a table whose cells go on in the next line where the terminal is narrow, so that nothing of them is lost.

    Args:
        columns: Columns, or the markup of their heads.
        title: Markup of the title, if any.
    """
    made = Table(*columns, title=title, title_justify="left", padding=0 if is_narrow() else (0, 1))
    for column in made.columns:
        column.overflow = "fold"
    return made
