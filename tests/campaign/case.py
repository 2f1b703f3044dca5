"""What every series shares: a case in a folder of its own, commands in forks of one process, and their verdict."""

import atexit
import faulthandler
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import huggingface_hub.constants
import hypothesis
from hypothesis.internal.conjecture import providers

LIMIT = 30
"""Seconds after which a command that does not train hangs."""
TRAINING = 180
"""Seconds after which a command that trains hangs, on a machine that others use too."""
MEMORY = 8 << 30
"""Bytes that a command may take; an endless input is to be refused long before."""
FINISHED = (0, 2)
"""The exit codes of a command that did its work or refused."""
Kind = Literal["difference", "traceback", "hang", "other"]

STUDY = (
    *("tune", "sample", "--model", "scratch:1x32", "--final-model", "scratch:1x32", "--max-train-samples", "60"),
    *("--no-sweeps", "--sweep", "context=current,current+previous", "--set", "sweep_epochs=1"),
    *("--learning-rates", "2e-3,1e-3", "--epochs", "2", "--soup", "--n-seeds", "2", "--check-interactions"),
)
"""A study of seconds with sweeps, further seeds, interaction checks, a soup and a final model."""
EXTENDED = ((*STUDY[:-1], "--budget", "9h", "--tensorboard"), (*STUDY, "--tensorboard"))
"""The same study with a budget, which is asked for its interaction checks when it has ended."""
BRIEF = (
    *("--model", "scratch:1x32", "--final-model", "none", "--no-sweeps", "--learning-rates", "1e-3", "--epochs", "1"),
    *("--max-train-samples", "40", "--n-seeds", "1"),
)
"""Flags that make a study one trial of one epoch."""


class CaseError(Exception):
    """A case that does not hold.

    Attributes:
        kind: The column of the table that counts it.
    """

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Answer:
    """How a command ended: its words, its exit code (negative for a signal), and its output."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"{' '.join(map(repr, self.words))}: code {self.code}\n{self.out[-1500:]}\n{self.err[-3000:]}"

    def check(self, codes: Sequence[int] = FINISHED) -> "Answer":
        """Raise `CaseError` unless the command ended with one of the codes, and a refusal is one sentence."""
        if "Traceback (most recent call last)" in self.out + self.err:
            raise CaseError("traceback", str(self))
        if self.code not in codes:
            raise CaseError("other", str(self))
        if self.code == 2 and not re.fullmatch(r"[^\n]+\.\n", self.err):
            raise CaseError("other", f"not one sentence: {self}")
        return self


class _WithoutSources(providers.HypothesisProvider):
    """Draws no constants out of the product's files, so that a mended line leaves the cases as they are."""

    _local_constants = providers.Constants()


providers.AVAILABLE_PROVIDERS["without-sources"] = f"{__name__}.{_WithoutSources.__name__}"


@dataclass(frozen=True)
class Case:
    """One case of a series: all that happens in it is decided by these three, except for moments in time.

    Attributes:
        series: The name of its series.
        number: Its number there, from 0.
        seed: The campaign's.
        folder: An empty folder, the working directory of its commands.
        shared: The folder of what all cases share and none may change (`share`).
    """

    series: str
    number: int
    seed: int
    folder: Path = Path()
    shared: Path = Path()

    def __str__(self) -> str:
        return f"{self.series}:{self.number}:{self.seed}"

    @cached_property
    def random(self) -> random.Random:
        """The case's own random numbers."""
        return random.Random(str(self))

    def draw(self, strategy: hypothesis.strategies.SearchStrategy[Any]) -> Any:
        """Draw an example; not the simplest one, with which Hypothesis begins."""
        drawn: list[Any] = []

        @hypothesis.seed(self.random.getrandbits(64))
        @hypothesis.settings(
            backend="without-sources",
            max_examples=3,
            phases=[hypothesis.Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy)
        def collect(example: Any) -> None:
            drawn.append(example)

        collect()
        return drawn[-1]

    def chance(self, share: float) -> bool:
        """Draw true in this share of all cases."""
        return self.random.random() < share

    @property
    def finished(self) -> Path:
        """The finished study, which no case may change."""
        return self.shared / "study" / "results" / "sample"

    def study(self, name: str = "results/sample") -> Path:
        """Return a copy of the finished study."""
        return Path(shutil.copytree(self.finished, self.folder / name))

    def bertgrid(self, *words: object, **how: Any) -> Answer:
        """Run the console script in a fork and return how it ended; `how` is that of `fork`."""
        return self.fork(_console_script, tuple(map(str, words)), **how)

    def fork(
        self,
        action: Callable[..., object],
        words: tuple[str, ...] = (),
        limit: float = LIMIT,
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        file_size: int = 0,
        kill_at: float | None = None,
    ) -> Answer:
        """Run `action(*words)` in a fork and return how it ended.

        Args:
            action: What to run.
            words: Its arguments.
            limit: Seconds after which it hangs.
            environment: Variables beside this process's own.
            stdin: The standard input.
            file_size: Bytes beyond which no file may grow; 0 for no limit.
            kill_at: Seconds of CPU time after which it is killed, by which a moment is the same on a busy machine.

        Raises:
            CaseError: It is still running after `limit` seconds, has written outside the case's folder, or has left
                temporary files.
        """
        temporary, out, err = (self.folder / f".{name}" for name in ("tmp", "out", "err"))
        temporary.mkdir(exist_ok=True)
        (self.folder / ".in").write_bytes(stdin)
        outside, inside = os.pipe()
        if (child := os.fork()) == 0:
            _in_child(self.folder, lambda: action(*words), limit, inside, environment or {}, file_size)
        os.close(inside)
        handle = os.pidfd_open(child)
        ended = bool(select.select([handle], [], [], 0.01 if kill_at is not None else limit)[0])
        if kill_at is not None:
            while not ended and _cpu_seconds(child) < kill_at:
                ended = bool(select.select([handle], [], [], 0.005)[0])
        if not ended:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(handle)
        os.set_blocking(outside, False)
        written = b""
        with suppress(BlockingIOError), os.fdopen(outside, "rb", buffering=0) as pipe:
            written = pipe.read(10_000) or b""
        answer = Answer(words, code, *(file.read_bytes().decode(errors="replace") for file in (out, err)))
        if not ended and kill_at is None:
            raise CaseError("hang", str(answer))
        if written:
            raise CaseError("other", f"touched outside its folder: {written.decode(errors='replace')}\n{answer}")
        left = [path.name for path in temporary.iterdir()]
        shutil.rmtree(temporary)
        if left and ended:
            raise CaseError("other", f"left temporary files: {', '.join(left)}\n{answer}")
        return answer


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _console_script(*words: str) -> None:
    from bertgrid_tf.cli import main

    sys.argv = ["bertgrid-tf", *words]
    main()


def _in_child(
    folder: Path,
    action: Callable[[], object],
    limit: float,
    inside: int,
    environment: Mapping[str, str],
    file_size: int,
) -> None:
    """Become a process like one that a shell starts in the case's folder; run the action and exit."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        for name, target, flags in ((".in", 0, os.O_RDONLY), (".out", 1, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)):
            os.dup2(os.open(name, flags), target)
        os.dup2(os.open(".err", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "w" if number else "r") for number in range(3))
        os.environ.update({"TMPDIR": str(folder / ".tmp"), "XDG_CACHE_HOME": str(folder / ".cache"), **environment})
        tempfile.tempdir = None
        huggingface_hub.constants.HF_HOME = str(folder / ".cache" / "huggingface")
        huggingface_hub.constants.HF_HUB_CACHE = f"{huggingface_hub.constants.HF_HOME}/hub"
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        if file_size:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        faulthandler.dump_traceback_later(max(limit - 1, 1))
        _blank_figures()
        _watch(folder, inside)
        action()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            atexit._run_exitfuncs()
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _blank_figures() -> None:
    """Let Matplotlib write empty figures: real ones take longer than all training of a study of seconds."""
    from matplotlib.figure import Figure

    blank = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    Figure.savefig = lambda figure, file, **how: file.write(blank)  # type: ignore[method-assign]


def _watch(folder: Path, inside: int) -> None:
    """Report every change of a file outside the folder, but for devices."""
    allowed = (f"{folder}/", "/dev/", "/proc/", "pipe:", "socket:")
    changes = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            paths = [path]
        elif event in changes:
            paths = list(arguments[: 2 if event == "os.rename" else 1])
            if isinstance(arguments[-1], int) and arguments[-1] != -1:  # relative to an open folder
                return
        else:
            return
        for path in paths:
            if isinstance(path, str | bytes | os.PathLike):
                with suppress(OSError, ValueError):
                    real = os.path.realpath(os.fsdecode(path))
                    if not real.startswith(allowed) and real != str(folder):
                        os.write(inside, f"{event} {real}\n".encode(errors="replace"))

    sys.addaudithook(hook)


def run(series: Any, case: Case) -> dict[str, Any]:
    """Run a case in a process of its own.

    Returns:
        The outcome: `kind` (None where it held), `text`, and `size`, the cases that it stands for.
    """
    outside, inside = os.pipe()
    if (child := os.fork()) == 0:
        code, outcome = 0, {"kind": None, "text": "", "size": 1}
        try:
            os.close(outside)
            outcome["size"] = series.run(case) or 1
        except CaseError as failure:
            outcome |= {"kind": failure.kind, "text": str(failure)}
        except BaseException:
            outcome |= {"kind": "other", "text": f"the campaign itself: {traceback.format_exc()}"}
        finally:
            os.write(inside, json.dumps(outcome)[:60_000].encode())
            os._exit(code)
    os.close(inside)
    with os.fdopen(outside, "rb") as pipe:
        outcome = pipe.read()
    os.waitpid(child, 0)
    return json.loads(outcome or '{"kind": "other", "text": "the case was killed", "size": 1}')
