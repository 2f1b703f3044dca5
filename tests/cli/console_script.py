"""The console script in this process or in one of its own, and tables for it."""

import csv
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bertgrid_tf.storage.study_folder import LOCK_FILE

TUNE = (
    *("tune", "sample", "--model", "scratch:1x32", "--final-model", "scratch:1x32", "--max-train-samples", "60"),
    *("--no-sweeps", "--sweep", "context=current,current+previous", "--set", "sweep_epochs=1"),
    *("--learning-rates", "2e-3,1e-3", "--epochs", "2"),
)
"""A study of seconds: a sweep of two levels, two rows of two epochs, a final model."""

BRIEF = ("--model", "scratch:1x32", "--final-model", "none", "--no-sweeps", "--learning-rates", "1e-3", "--epochs", "1")
COLUMNS = ("--text-column", "text", "--label-column", "label", "--dialogue-column", "dlg", "--speaker-column", "who")


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one sentence on stderr of a command that refused."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert re.fullmatch(r"[^\n]+\.\n", self.err), self.err
        return self.err.strip()


Command = Callable[..., Answer]


def process(*words: str, folder: Path, code: str = "from bertgrid_tf.cli import main; main()", **environment: str):
    """The console script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("BERTGRID_") or k == "BERTGRID_BANK"}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the lock, which names the last process."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK_FILE
    }


def own_rows() -> list[list[str]]:
    words = {"good": "a lovely and great film", "bad": "a boring and awful film"}
    return [
        [f"d{dialogue}", ("Ann", "Bob")[line % 2], f"{words[label]} number {line}", label]
        for dialogue in range(20)
        for line in range(4)
        for label in [("good", "bad")[(dialogue + line) % 2]]
    ]


def write_rows(path: Path, rows: list[list[str]], header: str = "dlg,who,text,label") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
