"""Bars for downloads and for batches of texts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bertgrid_tf.corpus import DownloadProgress


@contextmanager
def download_bar(console: Console) -> Iterator[DownloadProgress]:
    """Yield a callback that draws a bar for each file once its first bytes arrive, and prints a line in a log."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, TaskID] = {}
    drawn = console.is_terminal or console.is_jupyter
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not drawn) as bars:

        def show(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file)
                if not drawn:
                    console.print(f"{file}: {total / 1e6:.1f} MB …", markup=False, highlight=False)
            bars.update(tasks[file], completed=done, total=total)

        yield show


@contextmanager
def batches_bar(console: Console) -> Iterator[Callable[[int, int, float], None]]:
    """Yield a callback that draws a bar of the texts done on a terminal, and nothing elsewhere."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("texts", total=None)
        yield lambda done, total, _: bars.update(task, completed=done, total=total)
