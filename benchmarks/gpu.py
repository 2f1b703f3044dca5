"""Measure bertgrid-tf on a GPU, and write every command with what it printed as a page.

    python -m benchmarks.gpu all --data-dir DIR --model DIR --gpu-memory 16GB --out FILE
    python -m benchmarks.gpu batches --model DIR --gpu-memory 16GB [--set max_length=128] [--set precision=fp16]
    python -m benchmarks.gpu checkpoint --model scratch:12x768 --out FOLDER

`all` runs the commands of `sections`, one after another, and adds each to the page as it ends, so that a machine that
is taken away has left its figures; it goes on with the first command that the page lacks. `--only` repeats a section. A
command that ends with another code than it should is marked. PyTorch comes with `pip install '.[benchmarks]'`, what the
tests need with `'.[test]'`. It has not been run on a GPU yet; without one, the page is the CPU's, for which there are
`--max-train-samples 60 --large scratch:2x64`.

`batches` measures the memory of a training step by its number of texts, as `batch_size=auto` does, beside the estimate
of `bert.memory`, which a dry run goes by. `checkpoint` writes one with random weights, which every library can load.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from rich.console import Console
from rich.table import Column, Table

from benchmarks import command
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.system.gpu import parse_memory

SHOWN = 60
"""The last lines of a command's output that the page shows."""
ROOMS = ("bert", "training", "inference", "study/test_final_model.py", "study/test_auto_settings.py")
"""The tests that compute with TensorFlow."""


@dataclass(frozen=True)
class Section:
    """A heading of the page with its command.

    Attributes:
        name: The heading, and the name for `--only`.
        why: What the figures are to show.
        line: The command, for bash.
        codes: The exit codes with which it may end.
    """

    name: str
    why: str
    line: str
    codes: tuple[int, ...] = (0,)


def sections(flags: argparse.Namespace) -> list[Section]:
    """List the commands of the page, by the flags of `all`."""
    model, data_dir, work = (shlex.quote(text) for text in (flags.model, flags.data_dir, flags.work))
    memory, large, results = flags.gpu_memory, f"{work}/large", f"{work}/results"
    measured = f"--data-dir {data_dir} --max-train-samples {flags.max_train_samples} --rounds 3"
    tune = (
        f"bertgrid-tf tune friends --data-dir {data_dir} --results {results} --gpu-memory {memory} --no-bank "
        f"--max-train-samples {flags.max_train_samples} --no-sweeps"
    )
    small = f"{tune} --model {model} --epochs 2 --learning-rates 1e-4,5e-5"
    throughput = [
        Section(
            f"Training, {name}, {precision}",
            "Texts a second beside `model.fit` and PyTorch, and the share of the matrix products' limit.",
            f"python -m benchmarks.throughput --model {path} {measured} --precisions {precision}",
        )
        for name, path in (("checkpoint", model), ("large", large))
        for precision in ("fp32", "bf16", "fp16")
    ]
    batches = [
        Section(
            f"Memory, large, {precision}",
            "The curve by which `batch_size=auto` chooses, and the estimate of a dry run.",
            f"python -m benchmarks.gpu batches --model {large} --gpu-memory {memory} --set precision={precision}",
        )
        for precision in ("fp32", "fp16")
    ]
    return [
        Section("The card", "What it is, and its driver.", "nvidia-smi", (0, 127)),
        Section("Doctor", "", f"bertgrid-tf doctor friends --data-dir {data_dir} --model {model}"),
        Section("Tests", "Those that compute.", f"python -m pytest -q {' '.join(f'tests/{room}' for room in ROOMS)}"),
        Section(
            "The large checkpoint",
            "Random weights.",
            f"python -m benchmarks.gpu checkpoint --model {flags.large} --out {large}",
        ),
        *batches,
        *throughput,
        Section(
            "The families",
            "How much faster each is without padding than by its own pass.",
            f"python -m benchmarks.families --model {flags.large} {measured}",
        ),
        Section(
            "XLA",
            "A pass that it compiles, on texts padded to few lengths, beside one without padding.",
            f"python -m benchmarks.families --model {model} {measured} --xla",
        ),
        Section(
            "Killed and resumed",
            "A study killed after a minute and resumed has the cells of one that was not, up to a GPU's rounding.",
            f"{small} --study whole >/dev/null && {{ timeout -s KILL 60 {small} --study killed >/dev/null; "
            f"{small} --study killed; cat {results}/whole/grid.csv {results}/killed/grid.csv; }}",
        ),
        Section(
            "Out of memory",
            "A batch beyond the memory is trained in parts, or refused in one sentence.",
            f"{tune} --study large --model {large} --epochs 1 --learning-rates 5e-5 --set batch_size=1024 "
            "--set max_length=256",
            (0, 2),
        ),
        Section(
            "Two workers",
            "On one GPU they are refused, on two each has its own.",
            f"{small} --study two --workers 2",
            (0, 2),
        ),
        Section("Precision", "What `precision=auto` chooses.", f"{small} --study precision --set precision=auto"),
    ]


def play(section: Section) -> tuple[str, int]:
    """Run a section's command; its part of the page, and its exit code."""
    began = monotonic()
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", section.line],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        env=os.environ | {"COLUMNS": "140", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    output = done.stdout.decode(errors="replace").replace("\r\n", "\n").rstrip("\n")
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|.*\r(?=.)", "", line) for line in output.split("\n")]
    shown = "\n".join(lines[-SHOWN:]).replace("```", "'''")
    took = f"{monotonic() - began:.0f} s"
    ended = took if done.returncode in section.codes else f"**It ended with code {done.returncode}**, after {took}"
    words = f"{section.why}\n\n" if section.why else ""
    return f"## {section.name}\n\n{words}```sh\n{section.line}\n```\n\n```\n{shown}\n```\n\n{ended}.\n", done.returncode


def write_page(page: Path, wanted: Sequence[Section], only: str | None) -> list[str]:
    """Run what a page lacks, and add it; the names of the sections that went wrong.

    Raises:
        UserError: There is no section of the name `only`.
    """
    names = [section.name for section in wanted]
    if only not in (None, *names):
        raise UserError(f"--only {only!r} is no section of the page: give one of {', '.join(names)}.")
    text = page.read_text(encoding="utf-8") if page.exists() else f"# GPU\n\n{_machine()}\n"
    head, *parts = re.split(r"(?m)^(?=## )", text)
    have = {part.splitlines()[0].removeprefix("## "): part for part in parts}
    wrong = []
    for section in wanted:
        if section.name == only or (only is None and section.name not in have):
            print(f"{section.name}: {section.line}", flush=True)
            have[section.name], code = play(section)
            wrong += [section.name] if code not in section.codes else []
            ordered = sorted(have, key=lambda name: names.index(name) if name in names else len(names))
            write_text(page, "\n".join(part.rstrip("\n") + "\n" for part in [head, *(have[name] for name in ordered)]))
    return wrong


def _machine() -> str:
    at = command.circumstances()
    versions = ", ".join(f"{package} {version}" for package, version in at["versions"].items())
    return f"{at['machine']}; {versions}; {at['date']}."


def write_checkpoint(model: str, folder: Path) -> None:
    """Write a checkpoint with random weights, and the vocabulary of the embedded sample."""
    from bertgrid_tf.bert.checkpoint import load
    from bertgrid_tf.data import open_corpus
    from bertgrid_tf.recipe import load_recipe
    from bertgrid_tf.training.encoding import training_texts

    corpus = open_corpus(load_recipe("sample"), [])
    load(model, corpus.labels, texts=training_texts(corpus)).save(folder)


def show_batches(console: Console, flags: argparse.Namespace) -> None:
    """Print measured and estimated memory by batch."""
    from bertgrid_tf.bert.device import device_name, limit_memory
    from bertgrid_tf.bert.dimensions import dimensions
    from bertgrid_tf.bert.memory import MIB, SHARE, estimate
    from bertgrid_tf.bert.probe import Question, available, probe
    from bertgrid_tf.recipe import load_recipe

    if flags.gpu_memory:
        limit_memory(parse_memory(flags.gpu_memory))
    values = load_recipe("friends", overrides={"model": flags.model, **dict(flags.set)}).hyperparameters
    labels = tuple("abcdefgh")
    question = Question(flags.model, labels, (), values.max_length, values.resolved_precision, flags.most)
    _, on_gpu, limit = available()
    size = dimensions(flags.model, len(labels))
    columns = ("texts", "measured, MiB", "estimated, MiB", "estimate / measured", "examples/s")
    table = Table(*(Column(name, justify="right") for name in columns))
    for point in probe(question, limit):
        guess = estimate(size, point.batch, values.max_length, values.resolved_precision, on_gpu)
        row = (point.batch, round(point.peak / MIB), round(guess / MIB))
        table.add_row(*(f"{value:,}" for value in row), f"{guess / point.peak:.2f}", f"{point.rate:.1f}")
    console.print(table)
    console.print(
        f"{values.max_length} tokens, {values.resolved_precision}, {device_name()}; the largest batch takes "
        f"{SHARE:.0%} of {limit / MIB:,.0f} MiB."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; measure all or one thing."""
    top = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name) for name in ("all", "batches", "checkpoint")}
    for one in made.values():
        one.add_argument("--model", required=True, help="checkpoint: a folder; for `checkpoint` scratch:LAYERSxWIDTH")
    made["all"].add_argument("--data-dir", required=True, help="folder of the corpora")
    made["all"].add_argument("--work", default="gpu-work", help="folder for checkpoints and studies; default gpu-work")
    made["all"].add_argument("--large", default="scratch:12x768", help="the large model; default scratch:12x768")
    made["all"].add_argument("--max-train-samples", type=command.count, default=3000, help="texts; default 3000")
    made["all"].add_argument("--only", help="name of one section, to rerun it")
    made["batches"].add_argument("--set", type=command.pair, action="append", default=[], metavar="KEY=VALUE")
    made["batches"].add_argument("--most", type=command.count, default=1024, help="the largest batch of interest")
    for name in ("all", "batches"):
        made[name].add_argument(
            "--gpu-memory", default="16GB", help="the most of the GPU's memory to use; default 16GB"
        )
    for name in ("all", "checkpoint"):
        made[name].add_argument("--out", type=Path, required=True, help="the page, or the folder")
    flags = top.parse_args(arguments)
    if flags.command == "batches":
        show_batches(Console(width=100), flags)
    elif flags.command == "checkpoint":
        write_checkpoint(flags.model, flags.out)
    else:
        command.require("torch", "accelerate", "pytest")
        if wrong := write_page(flags.out, sections(flags), flags.only):
            raise UserError(f"{', '.join(wrong)} went wrong: {flags.out} says how; --only reruns one.")


if __name__ == "__main__":
    command.run(main)
