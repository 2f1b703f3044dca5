"""The process of a command: its signals and its standard streams."""

import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

STOPPED = "Stopped. The same command starts again; a study goes on after its last finished epoch."
AGAIN_SECONDS = 2
"""Seconds after which a signal that a library has swallowed is raised again."""
LAST_SECONDS = 20
"""Seconds after which the process ends though it still cleans up."""


def run_command(command: Callable[[], None]) -> NoReturn:
    """Run a command and end the process; SIGINT and SIGTERM end it with one sentence and exit code 130 or 143.

    The first signal raises KeyboardInterrupt, of which the command may make a StoppedError with a sentence of its own.
    A second one ends the process without any cleaning up, after which a study can be resumed as well. A signal that is
    ignored stays so. Output that cannot be written is lost: the command goes on, and ends with exit code 1.
    """
    signals = _Signals()
    _open_streams()
    sentence, code = STOPPED, 1
    try:
        command()
    except SystemExit as ended:
        # Ray's own handler of SIGTERM, while Ray starts, ends the process with the number of the signal.
        if ended.code == signal.SIGTERM:
            signals.stopped = signal.SIGTERM
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        if not signals.stopped:
            raise
        # A library may have made another error of the KeyboardInterrupt.
        sentence = str(error) if isinstance(error, StoppedError) else STOPPED
    else:
        code = 0
    if signals.stopped and code:
        # Not by sys.exit: what libraries do as Python ends could print a traceback, or hang.
        signals.end(sentence)
    signals.let_end()
    sys.stdout.flush()
    sys.exit(code or int(getattr(sys.stdout, "is_lost", False)))


class StoppedError(BaseException):
    """A command was stopped by a signal; the message is a sentence for the person who stopped it."""


class _Signals:
    """The handler of SIGINT and SIGTERM.

    Attributes:
        stopped: Number of the signal that has come; 0 before any.
    """

    def __init__(self) -> None:
        self.stopped = 0
        self._waited = 0
        self._numbers = [
            number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN
        ]
        for number in self._numbers:
            signal.signal(number, self._stop)
        self._report = sys.unraisablehook
        sys.unraisablehook = self._report_unraisable

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            self.end(STOPPED)
        self.stopped = number
        signal.signal(signal.SIGALRM, self._stop_again)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
        raise KeyboardInterrupt

    def _stop_again(self, number: int, frame: FrameType | None) -> None:
        self._waited += AGAIN_SECONDS
        if self._waited >= LAST_SECONDS:
            self.end(STOPPED)
        # One that is on its way lets what it passes clean up.
        if not _is_interrupt(sys.exc_info()[1]):
            raise KeyboardInterrupt

    def _report_unraisable(self, unraisable: Any) -> None:
        # Where nothing can be raised, as in a destructor, Python would print the KeyboardInterrupt.
        if not self.stopped:
            self._report(unraisable)

    def end(self, sentence: str) -> NoReturn:
        """End the process at once with the code of the signal."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(RuntimeError):  # The signal came while the stream was being written.
                stream.flush()
        # After the ^C of a terminal, whose cursor a progress bar may have hidden.
        text = ("\x1b[?25h\n" if sys.stderr.isatty() else "") + f"{sentence}\n"
        with suppress(OSError):
            os.write(2, text.encode(sys.stderr.encoding, "backslashreplace"))
        os._exit(128 + self.stopped)

    def let_end(self) -> None:
        """Let a signal end a process that has nothing to do any more without a word."""
        for number in self._numbers:
            signal.signal(number, lambda number, frame: os._exit(128 + number))


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether an error is a KeyboardInterrupt or came up after one."""
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or _is_interrupt(error.__cause__ or error.__context__)
    )


class _Stream(io.TextIOWrapper):
    """Standard output or error, which writes into nothing from when on it cannot be written."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
        # A reader that closes a pipe, as `head` does, has seen enough.
        if not isinstance(error, BrokenPipeError) and self.fileno() == 1:
            self.is_lost = True
            print(f"Standard output cannot be written ({error.strerror}): the rest of it is lost.", file=sys.stderr)


def _open_streams() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # lest a file of the command gets the number of a closed stream
    for name, number in (("stdout", 1), ("stderr", 2)):
        former = getattr(sys, name) or open(number, "w", closefd=False)  # noqa: SIM115
        how: dict[str, Any] = {
            "encoding": former.encoding,
            "errors": former.errors,
            "line_buffering": former.line_buffering,
        }
        stream = _Stream(former.detach(), **how, write_through=name == "stderr")
        for attribute in (name, f"__{name}__"):
            setattr(sys, attribute, stream)
