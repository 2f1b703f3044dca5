"""A signal ends a command with its code and one sentence, wherever it comes; no output stops a command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bertgrid_tf.system.process import STOPPED

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def run(code: str, *words: str, **how: object) -> subprocess.CompletedProcess[str]:
    """Runs a program in which `interrupt()` sends this process the signal."""
    start = "import os, signal, sys, time\nfrom bertgrid_tf.system.process import run_command, StoppedError\n"
    given: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    command = [sys.executable, "-P", "-c", start + code, *words]
    return subprocess.run(command, text=True, check=False, cwd=ROOT, timeout=240, **given | how)  # type: ignore[call-overload]


def interrupted(number: int, body: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    interrupt = f"def interrupt():\n    os.kill(os.getpid(), {int(number)})\n"
    return run(f"{interrupt}def command():\n{lines}run_command(command)\n")


@SIGNALS
@pytest.mark.parametrize(
    "body",
    [
        "interrupt()\ntime.sleep(60)",
        # Libraries that catch everything, and one that makes another error of it.
        "try:\n    interrupt()\nexcept BaseException:\n    pass\ntime.sleep(60)",
        "try:\n    interrupt()\nexcept BaseException:\n    raise ImportError('numpy failed to import') from None",
        # Where nothing can be raised.
        "class Thing:\n    def __del__(self):\n        interrupt()\nThing()\ntime.sleep(60)",
        "interrupt()\nsys.exit(2)",
    ],
)
def test_a_signal_ends_a_command_with_its_code_and_one_sentence(number, body):
    done = interrupted(number, body)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"{STOPPED}\n")


def test_a_command_that_ends_well_before_a_swallowed_signal_is_raised_again_has_ended_well():
    done = interrupted(signal.SIGINT, "try:\n    interrupt()\nexcept BaseException:\n    sys.exit(0)")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_cleans_up_is_not_interrupted_and_the_command_s_own_sentence_is_printed():
    body = (
        "try:\n    interrupt()\n"
        "except KeyboardInterrupt as error:\n    time.sleep(3)\n    print('clean')\n"
        "    raise StoppedError('Go on.') from error"
    )
    done = interrupted(signal.SIGTERM, body)
    assert (done.returncode, done.stdout, done.stderr) == (143, "clean\n", "Go on.\n")


def test_a_second_signal_ends_a_command_that_cleans_up_at_once():
    done = interrupted(signal.SIGINT, "try:\n    interrupt()\nfinally:\n    interrupt()\n    time.sleep(60)")
    assert (done.returncode, done.stderr) == (130, f"{STOPPED}\n")


def test_a_signal_while_ray_starts_ends_a_command_though_ray_has_a_handler_of_its_own():
    body = "signal.signal(15, lambda number, frame: sys.exit(number))\ninterrupt()\ntime.sleep(60)"
    done = interrupted(signal.SIGTERM, body)
    assert (done.returncode, done.stderr) == (143, f"{STOPPED}\n")


def test_an_ignored_signal_stays_ignored_and_an_error_keeps_its_traceback():
    code = (
        "signal.signal(2, signal.SIG_IGN)\ndef command():\n    os.kill(os.getpid(), 2)\n    1 / 0\nrun_command(command)"
    )
    done = run(code)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("number", "module"), [(2, "bertgrid_tf.cli"), (15, "typer"), (2, "pandas"), (15, "tensorflow"), (2, "keras_tuner")]
)
def test_a_signal_may_come_while_a_module_is_imported(number, module, tmp_path):
    code = (
        "def hook(event, arguments):\n"
        f"    if event == 'import' and arguments[0] == {module!r}: os.kill(os.getpid(), {int(number)})\n"
        "sys.addaudithook(hook)\n"
        "from bertgrid_tf.__main__ import main\nmain()"
    )
    done = run(code, "tune", "sample", "--results", str(tmp_path))
    assert done.returncode == 128 + number
    assert done.stderr.startswith("Stopped. ")
    assert len(done.stderr.splitlines()) == 1


MAIN = "from bertgrid_tf.__main__ import main\nmain()"


def test_a_full_standard_output_is_one_sentence_and_one_that_nobody_reads_is_none():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = run(MAIN, "--version", stdout=full)
        assert (done.returncode, done.stderr) == (
            1,
            "Standard output cannot be written (No space left on device): the rest of it is lost.\n",
        )
        assert run(MAIN, "--version", stderr=full).stdout.startswith("bertgrid-tf ")
        assert run(MAIN, "results", "nowhere", stdout=full, stderr=full).returncode == 2
    reader, writer = os.pipe()
    os.close(reader)
    done = run(MAIN, "--version", stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_streams_and_such_as_are_not_utf_8_stop_no_command():
    closed = ["sh", "-c", 'exec "$0" -P -m bertgrid_tf --version <&- >&- 2>&-', sys.executable]
    assert subprocess.run(closed, cwd=ROOT, check=False, env=ENVIRONMENT).returncode == 0
    environment = ENVIRONMENT | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = run(MAIN, "data", "list", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
