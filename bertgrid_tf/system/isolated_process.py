"""Run a function in a child process that may be killed for memory."""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bertgrid_tf.errors import UserError

Send = Callable[[Any], None]
"""Sends the parent an intermediate result, which replaces the one before."""


def run_isolated(function: Callable[[Any, Send], Any], argument: Any) -> Any:
    """Run `function(argument, send)` in a child process.

    Args:
        function: A module's function, which the child imports.
        argument: A picklable argument.

    Returns:
        The function's result; or where the child ran out of memory or was killed, the last intermediate one or None.

    Raises:
        UserError: The function raised it.
        RuntimeError: The child failed with any other exception.
    """
    # Not multiprocessing, which would import the caller's script again. -P: the working folder holds no packages.
    command = [sys.executable, "-P", "-c", f"from {__name__} import child_main; child_main()"]
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths}
    result = None
    with tempfile.TemporaryFile() as task, tempfile.TemporaryFile() as errors:
        pickle.dump((function, argument), task)
        task.seek(0)
        with subprocess.Popen(command, stdin=task, stdout=subprocess.PIPE, stderr=errors, env=environment) as child:
            assert child.stdout is not None
            try:
                while True:
                    result = pickle.load(child.stdout)
            except (EOFError, pickle.UnpicklingError):
                pass
            except BaseException:
                child.kill()
                raise
        if child.returncode > 0:
            errors.seek(0)
            raise RuntimeError(f"the process that runs {function.__qualname__} failed:\n{errors.read().decode()}")
    if isinstance(result, UserError):
        raise result
    return result


def child_main() -> None:
    """Run the function that standard input holds and write its results to standard output, both pickled."""
    # Libraries print to standard error, lest their lines come between the results.
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)

        def send(result: Any) -> None:
            pickle.dump(result, channel)
            channel.flush()

        try:
            function, argument = pickle.load(sys.stdin.buffer)
            send(function(argument, send))
        except UserError as error:
            send(error)
        except MemoryError:
            pass
