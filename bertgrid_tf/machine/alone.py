"""A question to a process of its own, which may run out of memory, and be killed for it, without harm to the asker."""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from bertgrid_tf.errors import UserError

Tell = Callable[[Any], None]
"""Tells the asker something that can be pickled; what is told later takes the place of it."""


def last_told(function: Callable[[Any, Tell], Any], question: Any) -> Any:
    """What `function(question, tell)` returns in a process of its own; if that ends before, the last that it told.

    Args:
        function: of a module, where the other process finds it.
        question: what it is given; can be pickled.

    Returns:
        None where it ended before it had told anything.

    Raises:
        UserError: the function raised it.
        RuntimeError: the process failed for a reason that nobody foresaw; a MemoryError is none such.
    """
    # -P, lest a folder where the study was started be taken for a package.
    command = [sys.executable, "-P", "-c", "from bertgrid_tf.machine.alone import answer; answer()"]
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths}
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as errors:
        pickle.dump((function, question), asked)
        asked.seek(0)
        with subprocess.Popen(command, stdin=asked, stdout=subprocess.PIPE, stderr=errors, env=environment) as child:
            try:
                assert child.stdout is not None
                found = _last(child.stdout)
            except BaseException:
                child.kill()
                raise
        if child.returncode > 0:
            errors.seek(0)
            raise RuntimeError(f"the process that runs {function.__qualname__} failed:\n{errors.read().decode()}")
    if isinstance(found, UserError):
        raise found
    return found


def _last(channel: IO[bytes]) -> Any:
    """The last that the process said before it ended, however it ended."""
    told = None
    while True:
        try:
            told = pickle.load(channel)
        except (EOFError, pickle.UnpicklingError):
            return told


def answer() -> None:
    """What the process does: it reads function and question from its standard input and writes what is told to its
    standard output, pickled."""
    # What a library prints would come between what is told.
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)

        def tell(told: Any) -> None:
            pickle.dump(told, channel)
            channel.flush()

        try:
            function, question = pickle.load(sys.stdin.buffer)
            tell(function(question, tell))
        except UserError as error:
            tell(error)
        except MemoryError:
            pass
