"""Measure how much of one machine large tables take: seconds, CPU seconds and memory of describe, predict and tune.

    python -m benchmarks.load --work DIR [--rows 20000,200000] [--train-rows 2000000] [--model MODEL]

Tables of made-up texts are written to DIR, then every command runs in a process of its own. Predictions are those of a
study that `tune` makes of 2,000 rows first. A training is interrupted after `--minutes`. The resident memory is read
every half second; ten values of it show whether it grows.
"""

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from benchmarks import command
from bertgrid_tf.errors import UserError

STUDY_ROWS = 2_000
SYLLABLES = [first + second for first in "bdfgklmnprst" for second in ("a", "en", "i", "or", "u", "el")]


@dataclass(frozen=True)
class Usage:
    """The resources that a process took.

    Attributes:
        seconds: Wall-clock seconds.
        cpu_seconds: Seconds of all its threads.
        megabytes: The most memory that was resident, in MB of 10⁶ bytes.
        over_time: Resident MB, every half second.
    """

    seconds: float
    cpu_seconds: float
    megabytes: float
    over_time: tuple[float, ...]


def write_texts(path: Path, rows: int, characters: int, seed: int = 0) -> None:
    """Write a CSV of texts of about `characters` characters, each with words of its class, unless it exists."""
    if path.exists():
        return
    draw = random.Random(seed)
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4))) for _ in range(20_000)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for _ in range(rows):
            label = draw.randrange(3)
            text = " ".join(draw.choices(words, k=characters // 4))[
                : draw.randint(characters // 2, 3 * characters // 2)
            ]
            writer.writerow((f"{('bad', 'middling', 'good')[label]} {text}", ("bad", "middling", "good")[label]))


def measure(words: list[str], seconds: float | None = None) -> Usage:
    """Run the command line in a process and measure it; one that runs longer than `seconds` is interrupted.

    Raises:
        UserError: The command fails.
    """
    began, passed, waited = time.perf_counter(), 0.0, 0
    over_time: list[float] = []
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bertgrid_tf", *words], stdout=subprocess.DEVNULL, env=environment
    )
    while not waited:
        time.sleep(0.5)
        waited, status, usage = os.wait4(process.pid, os.WNOHANG)
        passed = time.perf_counter() - began
        if not waited:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            over_time.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            if seconds is not None and passed > seconds:
                process.send_signal(signal.SIGINT)
                seconds = None
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 130):
        raise UserError(f"`bertgrid-tf {' '.join(words)}` ended with exit code {process.returncode}")
    # Linux counts the largest resident set in KiB.
    return Usage(passed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, tuple(over_time))


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rows", type=command.whole_numbers, default=[20_000, 200_000], help="rows of describe and predict"
    )
    parser.add_argument("--train-rows", type=command.whole_numbers, default=[], help="rows of tune")
    parser.add_argument("--characters", type=int, default=50, help="mean length of a text")
    parser.add_argument("--model", default="scratch:1x32", help="checkpoint: a folder, a hub id or scratch[:LxW]")
    parser.add_argument("--minutes", type=float, default=10, help="the most that a training runs")
    parser.add_argument("--only", default="describe,predict", help="the commands to measure on --rows")
    parser.add_argument("--work", type=Path, required=True, help="folder of tables and studies")
    flags = parser.parse_args()
    flags.work.mkdir(parents=True, exist_ok=True)
    console = Console(width=160, highlight=False)
    names = (Column(name, justify="right") for name in ("rows", "s", "CPU s", "peak MB"))
    table = Table("command", *names, "resident MB over time")

    def texts(rows: int) -> Path:
        path: Path = flags.work / f"{rows}x{flags.characters}.csv"
        write_texts(path, rows, flags.characters, seed=rows)
        return path

    def add(name: str, rows: int, words: list[str], seconds: float | None = None) -> None:
        usage = measure([*words, "--model", flags.model] if name != "predict" else words, seconds)
        every = max(len(usage.over_time) // 10, 1)
        shown = " ".join(f"{megabytes:.0f}" for megabytes in usage.over_time[::every])
        table.add_row(
            name, f"{rows:,}", f"{usage.seconds:.0f}", f"{usage.cpu_seconds:.0f}", f"{usage.megabytes:.0f}", shown
        )

    grid = ["--learning-rates", "1e-3", "--epochs", "1", "--set", "final.model=none"]
    columns = ["--text-column", "text", "--label-column", "label"]
    study = flags.work / f"study-{Path(flags.model).name.replace(':', '-')}"
    commands = flags.only.split(",")
    if "predict" in commands and not study.exists():
        made = ["tune", "--data", str(texts(STUDY_ROWS)), *columns, "--results", str(study.parent)]
        measure([*made, "--study", study.name, "--model", flags.model, *grid[:4], "--final-model", flags.model])
    for rows in flags.rows:
        if "describe" in commands:
            add("describe", rows, ["data", "describe", "--data", str(texts(rows)), *columns])
        if "predict" in commands:
            out = flags.work / f"{rows}.predictions.csv"
            add("predict", rows, ["predict", str(study), str(texts(rows)), "-o", str(out), "--text-column", "text"])
    for rows in flags.train_rows:
        words = ["tune", "--data", str(texts(rows)), *columns, *grid, "--results", str(flags.work)]
        add("tune", rows, [*words, "--study", f"tune-{rows}", "--fresh"], 60 * flags.minutes)
    console.print(table)
    command.print_system(console)


if __name__ == "__main__":
    command.run(main)
