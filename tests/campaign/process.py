"""The console script as a process of its own, for what a fork cannot show: its imports, its signals, its children."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.case import Answer, Case

MARK = "BERTGRID_CAMPAIGN_CASE"
# A byte says that the product's first import is next; what comes before is the interpreter's own.
SCRIPT = (
    "import os, runpy; os.write({mark}, b'.'); runpy.run_module('bertgrid_tf', run_name='__main__', alter_sys=True)"
)


class Process:
    """A command in the case's folder; entering it returns when the interpreter is up.

    Args:
        case: The case.
        words: The command's.
        environment: Variables beside this process's own.
    """

    def __init__(self, case: Case, *words: str, **environment: str) -> None:
        self._words, self._files = words, [(case.folder / f".{name}").open("wb") for name in ("out", "err")]
        outside, inside = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(mark=inside), *words],
            cwd=case.folder,
            env={**os.environ, MARK: str(case.folder), "TMPDIR": str(case.folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._files[0],
            stderr=self._files[1],
            pass_fds=[inside],
            start_new_session=True,
        )
        os.close(inside)
        os.read(outside, 1)
        os.close(outside)
        self._folder, self.pid = case.folder, self._process.pid

    def send(self, number: int) -> None:
        """Send a signal to the command's own process."""
        self._process.send_signal(number)

    def wait(self, limit: float) -> Answer | None:
        """Return how it ended; None if it has not after `limit` seconds, when it and its children are killed."""
        try:
            code = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            kill_all(self._folder)
            self._process.wait()
            return None
        out, err = ((self._folder / f".{name}").read_text(errors="replace") for name in ("out", "err"))
        return Answer(self._words, code, out, err)


def processes(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield number and title of every process that a command in a case's folder has started."""
    mark = f"{MARK}={folder}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield (
                        int(entry.name),
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"),
                    )
            except OSError:
                continue


def kill_all(folder: Path) -> None:
    """Kill what is left of a case's processes."""
    for number, _ in processes(folder):
        try:
            os.kill(number, 9)
        except ProcessLookupError:
            continue
