"""Processes that die at a moment of one's choice."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

KILLED = 137


def in_a_child(work: Callable[[], object]) -> int:
    """Forks, for a new process would import TensorFlow anew; returns the process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_at_replacement(folder: Path, number: int, after: bool) -> None:
    """From now on this process dies just before or after a file is replaced for the `number`-th time."""
    replace, replaced = os.replace, Counter()

    def replace_or_die(source, target):
        replaced["files"] += 1
        if replaced["files"] < number:
            return replace(source, target)
        if after:
            replace(source, target)
        (folder / "killed-at").write_text(Path(target).name)
        os._exit(KILLED)

    os.replace = replace_or_die
