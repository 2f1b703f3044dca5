"""Profile a training step: the operations that take most of its time.

    python -m benchmarks.step_profile --model DIR --max-train-samples 2000 [--set precision=bf16] [--steps 20]

The steps are those of bertgrid-tf, after as many steps of warm-up, under TensorFlow's profiler. An operation's time is
its own, without that of operations inside it; the time of parallel operations counts for each. Shares are of all
operations' time.
"""

import re
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import command
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import TrialConfig

SHOWN = 10
# NODE:TYPE, as the profiler names an executed operation.
OPERATION = re.compile(r"[\w./-]+:(?P<type>\w+)")
# Threads that make the next batches while a step runs.
BESIDE = "tf_data"


@dataclass(frozen=True)
class Span:
    """One event of a thread.

    Attributes:
        name: Name in the profile.
        begin: Nanoseconds.
        end: Nanoseconds.
    """

    name: str
    begin: int
    end: int


@dataclass(frozen=True)
class Operations:
    """The operations of one type: their number and their nanoseconds."""

    type: str
    count: int
    nanoseconds: int


def own_times(spans: Iterable[Span]) -> list[tuple[str, int]]:
    """Return the type of every operation of one thread, and its nanoseconds outside the operations inside it."""
    operations: list[tuple[str, int]] = []
    open_: list[tuple[int, int]] = []  # the end and the index of each operation that a later one may lie in
    for span in sorted(spans, key=lambda one: (one.begin, -one.end)):
        if not (match := OPERATION.fullmatch(span.name)):
            continue
        while open_ and open_[-1][0] <= span.begin:
            open_.pop()
        if open_:
            outer = open_[-1][1]
            operations[outer] = (operations[outer][0], operations[outer][1] - (span.end - span.begin))
        open_.append((span.end, len(operations)))
        operations.append((match["type"], span.end - span.begin))
    return operations


def by_type(threads: Iterable[Iterable[Span]]) -> list[Operations]:
    """Sum the operations of all threads by type, the longest first."""
    count: dict[str, int] = {}
    taken: dict[str, int] = {}
    for spans in threads:
        for kind, nanoseconds in own_times(spans):
            count[kind] = count.get(kind, 0) + 1
            taken[kind] = taken.get(kind, 0) + nanoseconds
    return [Operations(kind, count[kind], taken[kind]) for kind in sorted(taken, key=lambda one: -taken[one])]


def read(folder: Path) -> list[list[Span]]:
    """Read the profile of the host's threads, without those of the input pipeline."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    threads = []
    for file in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace()
        space.ParseFromString(file.read_bytes())
        for plane in space.planes:
            names = {number: metadata.name for number, metadata in plane.event_metadata.items()}
            threads += [
                [
                    Span(
                        names[event.metadata_id], event.offset_ps // 1000, (event.offset_ps + event.duration_ps) // 1000
                    )
                    for event in line.events
                ]
                for line in plane.lines
                if plane.name.startswith("/host:CPU") and not line.name.startswith(BESIDE)
            ]
    return threads


class Window:
    """Starts the profiler after the first `steps` steps of a trial, and stops it after as many more."""

    def __init__(self, steps: int, folder: Path) -> None:
        self._steps = steps
        self._folder = folder
        self.seconds = 0.0

    def on_train_batch_end(self, done: int, steps: int, loss: float) -> None:
        """Count a step (`bert.trainer.Trainer.run`)."""
        import tensorflow as tf

        if done == self._steps:
            tf.profiler.experimental.start(str(self._folder))
            self._began = time.perf_counter()
        elif done == 2 * self._steps:
            self.seconds = time.perf_counter() - self._began
            tf.profiler.experimental.stop()


def show(operations: Sequence[Operations], seconds: float, steps: int) -> None:
    """Print the longest operations."""
    total = sum(one.nanoseconds for one in operations)
    table = Table("operation", "a step", "ms a step", "share")
    for one in operations[:SHOWN]:
        table.add_row(
            one.type,
            f"{one.count / steps:.0f}",
            f"{one.nanoseconds / steps / 1e6:.2f}",
            f"{one.nanoseconds / total:.1%}",
        )
    rest = operations[SHOWN:]
    taken = sum(one.nanoseconds for one in rest)
    table.add_row(
        f"{len(rest)} others",
        f"{sum(one.count for one in rest) / steps:.0f}",
        f"{taken / steps / 1e6:.2f}",
        f"{taken / total:.1%}",
    )
    console = Console()
    console.print(table)
    console.print(
        f"A step took {1e3 * seconds / steps:.1f} ms under the profiler, its operations {total / steps / 1e6:.1f} ms."
    )
    command.print_system(console)


def main() -> None:
    """Parse the command line, train, print."""
    parser = command.parser(__doc__, csv="file for all operations")
    parser.add_argument("--steps", type=int, default=20, help="steps to profile")
    flags = parser.parse_args()
    recipe = command.friends(flags, context="current+previous")
    config = TrialConfig(recipe.hyperparameters, schedule_epochs=1, stop_epoch=1, seed=recipe.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        window = Window(flags.steps, folder / "profile")
        runner = TrialRunner(command.corpus(flags, recipe), recipe, folder / "predictions", window.on_train_batch_end)
        list(runner.run(config, folder))
        if not window.seconds:
            raise UserError(f"An epoch has fewer than {2 * flags.steps} steps: give fewer --steps, or more texts.")
        operations = by_type(read(folder / "profile"))
    show(operations, window.seconds, flags.steps)
    if flags.csv:
        write_table(flags.csv, pd.DataFrame(operations))


if __name__ == "__main__":
    command.run(main)
