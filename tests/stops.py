"""Every place where a study can stop, and a process that is killed there.

A place is a change of the study folder (a file is opened for writing or takes its name, a file or folder is made or
deleted), the start of a process, or the end of a stage. Python's audit events tell of all of them, so the product needs
no hook. `stop_points` runs the commands of a study to their end and lists the places; `kill_at` runs them until one of
the places, kills the process and its children there as a power cut does, and runs the commands to their end;
`content` is what the study folder then has to hold.

Each command runs in a fork of one process that has imported TensorFlow and computed nothing, for an import takes longer
than the study. `python -P tests/stops.py` is that process.
"""

import contextlib
import csv
import gc
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

HERE = Path(__file__).parent
LOG, TOKEN, STOP = "STOPS_LOG", "STOPS_TOKEN", "STOPS_STOP"

SECONDS = ("seconds", "train_seconds", "limit_seconds", "roofline_seconds")
"""Metrics of an epoch that are measured times."""
CLOCKS = {
    "study.lock": "the number of the process",
    "study.json": "began",
    "times.csv": "every column but the stage",
    "cells.csv": SECONDS,
    "trial.json, final.json, follow_up/*.json, state.npz": SECONDS,
    "report.html": "times and dates",
    "tensorboard/": "names and contents; each trial has one file",
}
"""All that may differ between two runs of one study."""

TINY = {
    "model": "scratch:1x32",
    "final.model": "none",
    "max_train_samples": 60,
    "sweeps": {"context": ["current", "current+previous"]},
    "sweep_epochs": 1,
    "learning_rates": [2e-3, 1e-3],
    "epochs": 2,
    "metric": "loss",
    "n_seeds": 2,
    "soup": True,
}
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("--budget", "9h", "--tensorboard"),
    ("--check-interactions", "--tensorboard"),
    (
        *("--check-interactions", "--tensorboard", "--learning-rates", "2e-3,1e-3,4e-3"),
        *("--final-model", "scratch:2x32", "--set", "final.folds=2"),
    ),
)
"""A study with every option on, whose final model has the winner's weights, and the same one extended twice when it has
ended, at last with a final model that is trained, a member for each fold."""


@dataclass(frozen=True)
class Point:
    """A place where a study can stop.

    Attributes:
        command: Number of the command, from 0.
        kind: "write", "append", "replace", "remove", "mkdir", "rmdir", "truncate", "process" or "stage".
        file: The file in the study folder, the program of a process, or the stage that has ended.
        index: How many places of this kind and file came before in the command.
    """

    command: int
    kind: str
    file: str
    index: int

    def __str__(self) -> str:
        return f"command {self.command + 1}, {self.kind} {self.file} ({self.index + 1})"


@dataclass(frozen=True)
class Ended:
    """How a command ended: the exit code (negative for a signal), its output and the places that it came by."""

    code: int
    output: str
    points: list[Point]


# In the parent


class Forks:
    """Runs the commands of studies, each in a fork of one process that has imported what is heavy.

    Args:
        folder: Where the studies lie: `folder/NAME` is the one of a case.
        recipe: The recipe.
        commands: The flags of each command, one run after the other.
        real_figures: Whether Matplotlib draws all figures, which takes longer than all training, or one blank one.
    """

    def __init__(
        self,
        folder: Path,
        recipe: dict[str, Any] = TINY,
        commands: Sequence[Sequence[str]] = COMMANDS,
        real_figures: bool = False,
    ) -> None:
        from bertgrid_tf.recipe import load_recipe

        self.folder, self.commands = folder.absolute(), commands
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "recipe.yaml").write_text(load_recipe("sample", None, recipe).to_yaml())
        self._real_figures = real_figures
        hook = self.folder / "hook"
        hook.mkdir(exist_ok=True)
        # Ray's workers and the processes of measurements run Python of their own.
        code = f"import runpy\nrunpy.run_path({str(Path(__file__))!r})['watch_from_environment']()\n"
        (hook / "sitecustomize.py").write_text(code)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(hook), str(HERE.parent)))}
        # -P, lest tests/tuners stand before tuners.
        self._server = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={
                name: value
                for name, value in environment.items()
                if not name.startswith("BERTGRID_") or name == "BERTGRID_BANK"
            },
        )

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.stdin.close()
        self._server.wait()

    def study(self, name: str) -> Path:
        """The study folder of a case; each lies in a folder of its own, under the same relative path."""
        return self.folder / name / "results" / "sample"

    def run(
        self,
        name: str,
        command: int,
        stop: Point | None = None,
        seconds: float | None = None,
        signal_number: int = signal.SIGKILL,
        snapshots: bool = False,
    ) -> Ended:
        """Run one command of a case until it ends, or until a place or a moment at which it gets a signal.

        SIGKILL goes to all of its processes, any other signal to the command's own. With `snapshots` the study folder
        is copied at every place: the n-th place of command c is the case `at-c-n`.
        """
        case = self.folder / name
        case.mkdir(parents=True, exist_ok=True)
        log = case / "points"
        request = {
            "folders": [str(case)],
            "log": str(log),
            "snapshots": snapshots and str(self.folder / f"at-{command}-"),
            "stop": stop and asdict(stop),
            "seconds": seconds,
            "signal": signal_number,
            "command": command,
        }
        code = self._ask(request)
        points, seen = [], Counter[tuple[str, str]]()
        for line in log.read_text().splitlines():
            kind, file = json.loads(line)
            points.append(Point(command, kind, file, seen[kind, file]))
            seen[kind, file] += 1
        return Ended(code, (case / "output").read_text(errors="replace"), points)

    def resume(self, names: Sequence[str], command: int) -> None:
        """Run one command of several cases, all in one process, whose models are built and traced once."""
        folders = [str(self.folder / name) for name in names]
        log = str(self.folder / "resumed")
        self._ask({"folders": folders, "log": log, "command": command, "seconds": None, "signal": 0, "stop": None})

    def _ask(self, request: dict[str, Any]) -> int:
        argv = ["tune", "sample", "--recipe", str(self.folder / "recipe.yaml"), *self.commands[request["command"]]]
        self._server.stdin.write(json.dumps(request | {"argv": argv, "figures": self._real_figures}) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


def stop_points(forks: Forks, snapshots: bool = True) -> list[Point]:
    """Run the commands of a study to their end, and list every place where they can stop, in order.

    Args:
        forks: The study.
        snapshots: Whether the study is copied at every place, for `resume_at`; not where workers write meanwhile.
    """
    points = []
    for command in range(len(forks.commands)):
        ended = forks.run("whole", command, snapshots=snapshots)
        assert ended.code == 0, ended.output
        points += ended.points
        shutil.copytree(forks.study("whole"), forks.study(f"after-{command}"))
    return points


def kill_at(
    forks: Forks,
    point: Point | None = None,
    seconds: float = 0,
    command: int = 0,
    name: str = "killed",
    signal_number: int = signal.SIGKILL,
) -> str:
    """Kill a command at a place, or so many seconds after it has begun, and run it again to its end.

    Args:
        forks: The study, whose `stop_points` have been listed.
        point: The place; None for a moment.
        seconds: The moment.
        command: The number of the command, for a moment.
        name: The case; `forks.study(name)` is what it leaves.
        signal_number: The signal; any but SIGKILL must end the command with one sentence and the shell's code.

    Returns:
        What went wrong, and in which files the study differs from the uninterrupted one; empty if nothing.
    """
    command = point.command if point else command
    shutil.rmtree(forks.folder / name, ignore_errors=True)
    if command:
        shutil.copytree(forks.study(f"after-{command - 1}"), forks.study(name))
    killed = forks.run(name, command, point, None if point else seconds, signal_number)
    sentence = killed.output.splitlines()[-1:] or [""]
    code = -signal_number if signal_number == signal.SIGKILL else 128 + signal_number
    if killed.code not in (0, code) or (killed.code > 0 and not sentence[0].startswith("Stopped")):
        return f"ended with {killed.code} before the kill:\n{killed.output}"
    ended = forks.run(name, command)
    if ended.code:
        return f"ended with {ended.code} after the kill:\n{ended.output}"
    return "\n".join(differences(content(forks.study(f"after-{command}")), content(forks.study(name))))


def resume_at(forks: Forks, points: Sequence[Point], every: Sequence[Point]) -> dict[Point, str]:
    """Resume a study from what a kill at each of some places would have left; what went wrong at each, as `kill_at`.

    Args:
        forks: The study.
        points: The places.
        every: All places of the study, as `stop_points` lists them.
    """
    wrong = {}
    for command in range(len(forks.commands)):
        own = [point for point in every if point.command == command]
        cases = {point: f"at-{command}-{own.index(point)}" for point in own if point in points}
        if not cases:
            continue
        forks.resume([*cases.values()], command)
        expected = content(forks.study(f"after-{command}"))
        for point, name in cases.items():
            output = (forks.folder / name / "output").read_text(errors="replace")
            failed = output[-2000:] if "Winner as a recipe" not in output else ""
            if different := failed or "\n".join(differences(expected, content(forks.study(name)))):
                wrong[point] = different
    return wrong


def content(study: Path) -> dict[str, Any]:
    """Every file of a study folder, but for the clocks of `CLOCKS`; a folder without files is None."""
    kept: dict[str, Any] = {}
    for path in sorted(study.rglob("*")):
        name = str(path.relative_to(study))
        if path.is_symlink() or (path.is_dir() and not any(path.iterdir())):
            kept[name] = None
        elif name.startswith("tensorboard/"):
            if path.is_file():
                trial = f"tensorboard/{path.parent.name}"
                kept[trial] = kept.get(trial, 0) + 1
        elif path.is_file():
            kept[name] = _without_clocks(path, study)
    return kept


def _without_clocks(path: Path, study: Path) -> Any:
    if path.name == "study.lock":
        return "locked"
    if path.name == "times.csv":
        return [line.partition(",")[0] for line in path.read_text().splitlines()]
    if path.name == "cells.csv":
        with path.open(newline="") as file:
            return [{k: v for k, v in row.items() if k not in SECONDS} for row in csv.DictReader(file)]
    if path.name == "state.npz":
        import numpy as np

        try:
            with np.load(path) as state:
                arrays = {name: state[name].tobytes() for name in state.files if name != "history"}
                return arrays | {"history": _drop(json.loads(str(state["history"])), SECONDS)}
        except (BadZipFile, EOFError, ValueError, KeyError):
            return path.read_bytes()  # That of an ended trial may stay damaged, since nothing reads it.
    if path.name == "report.html":
        return _untimed(path.read_text())
    if path.suffix == ".json" and not path.is_relative_to(study / "model") and not path.is_relative_to(study / "soup"):
        return _drop(json.loads(path.read_text()), (*SECONDS, *(("began",) if path.name == "study.json" else ())))
    return path.read_bytes()


def _drop(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {key: _drop(inner, names) for key, inner in value.items() if key not in names}
    return [_drop(inner, names) for inner in value] if isinstance(value, list) else value


def _untimed(page: str) -> str:
    """A page without its dates, times, speeds and shares of the device's peak."""
    moment, time = r"\d\d\d\d-\d\d-\d\d|\d\d:\d\d(:\d\d)?", r"(\d+ (h|min) )*[\d,.]+ (tokens per second|h|min|ms|s)\b"
    share = r"(?<=peak\) was )[\d.]+|(?<=training reached )[\d.]+"
    return re.sub(rf"{moment}|{time}|{share}", "TIME", page)


def differences(expected: dict[str, Any], actual: dict[str, Any]) -> list[str]:
    """The files in which two contents differ, with the kind of difference."""
    return [
        f"{name}: {'missing' if name not in actual else 'left over' if name not in expected else 'differs'}"
        for name in sorted(expected.keys() | actual.keys())
        if name not in actual or name not in expected or expected[name] != actual[name]
    ]


# In every process that is watched


def watch_from_environment() -> None:
    """Watch this process, if it belongs to a command that is watched."""
    if log := os.environ.get(LOG):
        watch(Path(log), json.loads(os.environ[STOP]))


def watch(log: Path, stop: dict[str, Any] | None, snapshots: str | None = None) -> Callable[[str, str], None]:
    """Write down every place that this process comes by; kill the command at one of them, or copy the study at all."""
    study, descriptor = log.parent / "results", os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    seen = Counter[tuple[str, str]]()
    # States are written by a thread of their own.
    one_at_a_time = threading.RLock()

    def place(kind: str, file: str) -> None:
        with one_at_a_time:
            os.write(descriptor, (json.dumps([kind, file]) + "\n").encode())
            if snapshots:
                copy(f"{snapshots}{seen.total()}/results")
            if stop and (kind, file, seen[kind, file]) == (stop["kind"], stop["file"], stop["index"]):
                end(stop["signal"])
            seen[kind, file] += 1

    def copy(to: str) -> None:
        # What another thread's last place announced may happen meanwhile, and a file that was listed be gone.
        with contextlib.suppress(shutil.Error):
            shutil.copytree(study, to)
            return
        shutil.rmtree(to)
        shutil.copytree(study, to)

    def changed(kind: str, path: Any, folder: Any = -1) -> None:
        if isinstance(path, int) or path is None:
            return
        path = os.fsdecode(path)
        if isinstance(folder, int) and folder != -1:
            path = str(Path(f"/proc/self/fd/{folder}").readlink() / path)
        path = os.path.abspath(path)  # noqa: PTH100
        if path.startswith(f"{study}/sample/") and not (kind == "mkdir" and Path(path).is_dir()):
            place(kind, _lasting(path.removeprefix(f"{study}/sample/")))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR):
                changed("append" if flags & os.O_APPEND else "write", path)
        elif event == "os.rename":
            changed("replace", arguments[1], arguments[3])
        elif event == "os.truncate":
            changed("truncate", arguments[0])
        elif event in ("os.remove", "os.mkdir", "os.rmdir"):
            changed(event.removeprefix("os."), arguments[0], arguments[-1])
        elif event == "subprocess.Popen":
            place("process", Path(os.fsdecode(arguments[0])).name)

    sys.addaudithook(hook)
    return place


def _lasting(name: str) -> str:
    """The name of a file of the study folder; a temporary one has that of the file that it becomes."""
    name = re.sub(r"events\.out\.tfevents\..*", "events", name)
    return re.sub(r"(^|/)\.([^/]+)\.[0-9a-f]+\.part", r"\1\2~", name).replace(".tmp", "~")


def end(number: int) -> None:
    """Send a signal to the command; SIGKILL to all processes that it has started, too."""
    token, driver = os.environ[TOKEN], int(os.environ[TOKEN].partition("-")[0])
    if number != signal.SIGKILL:
        os.kill(driver, number)
        return
    if driver != os.getpid():
        os.kill(driver, number)
    sweep(token)
    os.kill(os.getpid(), signal.SIGKILL)


def sweep(token: str) -> None:
    """Kill every process whose environment has the token."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"{TOKEN}={token}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)


# In the process that forks


def serve() -> None:
    """Run each request of standard input in a fork; print how it ended."""
    import bertgrid_tf.cli
    import bertgrid_tf.report.summary
    import bertgrid_tf.report.tensorboard
    import bertgrid_tf.study.runner  # noqa: F401

    gc.freeze()  # so that no fork looks through what is imported, and so copies it
    for line in sys.stdin:
        request = json.loads(line)
        Path(request["log"]).unlink(missing_ok=True)
        if (child := os.fork()) == 0:
            os._exit(_command(request))
        token = f"{child}-{request['log']}"
        if request["seconds"] is not None:
            threading.Timer(request["seconds"], _signal, (child, token, request["signal"])).start()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        sweep(token)


def _signal(child: int, token: str, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    if number == signal.SIGKILL:
        sweep(token)


def _command(request: dict[str, Any]) -> int:
    """Run a command in this process, in one folder after another; the exit code of the last."""
    from matplotlib.figure import Figure

    from bertgrid_tf.budget import callbacks
    from bertgrid_tf.report import figures

    os.setpgid(0, 0)
    sys.stdin = io.StringIO()
    if not request["figures"]:
        blank, draw = b'<svg xmlns="http://www.w3.org/2000/svg"/>', figures.draw
        Figure.savefig = lambda figure, file, **how: file.write(blank)  # type: ignore[method-assign]
        figures.draw = lambda analysis: draw(analysis, ("grid",))  # type: ignore[assignment]
    if len(request["folders"]) == 1:
        stop = request["stop"] and request["stop"] | {"signal": request["signal"]}
        os.environ |= {LOG: request["log"], TOKEN: f"{os.getpid()}-{request['log']}", STOP: json.dumps(stop)}
        place = watch(Path(request["log"]), stop, request.get("snapshots"))
        _watch_stages(callbacks.CallbackList, place)
    else:
        _share_models()
    sys.argv = ["bertgrid-tf", *request["argv"]]
    # The console script itself, or several commands in one process.
    main = importlib.import_module("bertgrid_tf.cli" if len(request["folders"]) > 1 else "bertgrid_tf.__main__").main
    return [_in_folder(folder, main) for folder in request["folders"]][-1]


def _in_folder(folder: str, main: Callable[[], None]) -> int:
    os.chdir(folder)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _share_models() -> None:
    """Keep every model for the studies that come; a run resets it, so that its numbers are those of a new one."""
    from bertgrid_tf.training.model_cache import ModelCache

    trainers: dict[Any, Any] = {}
    build = ModelCache.trainer

    def trainer(self: Any, values: Any, gpus: int = 1) -> Any:
        key = (values.model, values.markers, values.precision, gpus)
        if key not in trainers:
            trainers[key] = build(self, values, gpus)
        return trainers[key]

    ModelCache.trainer = trainer  # type: ignore[method-assign]


def _watch_stages(kind: Any, place: Callable[[str, str], None]) -> None:
    """Report the end of every stage: as another one's first trial begins, and at the study's end."""
    stage, begin, end_ = [""], kind.on_trial_begin, kind.on_study_end

    def on_trial_begin(self: Any, trial: str, config: Any, steps: int) -> None:
        if config.stage != stage[0]:
            place("stage", stage[0] or "start")
            stage[0] = config.stage
        begin(self, trial, config, steps)

    def on_study_end(self: Any) -> None:
        place("stage", stage[0] or "start")
        end_(self)

    kind.on_trial_begin, kind.on_study_end = on_trial_begin, on_study_end


if __name__ == "__main__":
    serve()
