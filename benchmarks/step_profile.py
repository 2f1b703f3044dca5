"""Profile a training step: the operations that take most of its time, and the least that they could take.

    TF_NUM_INTEROP_THREADS=1 python -m benchmarks.step_profile --model DIR --max-train-samples 2000 \
        [--set precision=bf16] [--steps 20]

The steps are those of bertgrid-tf, after as many steps of warm-up, under TensorFlow's profiler. An operation's time is
its own, without that of operations inside it; the time of parallel operations counts for each, and with one inter-op
thread, as above, there are none. Shares are of all operations' time. The least time is that of the matrix products at
the measured peak, and of the bytes that must move at the memory's measured rate (`bertgrid_tf.bert.roofline`).
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
from bertgrid_tf.bert.roofline import MEASUREMENTS, Roofline, bandwidth
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import TrialConfig

SHOWN = 10
# NODE:TYPE, as the profiler names an executed operation.
OPERATION = re.compile(r"[\w./-]+:(?P<type>\w+)")
# Kinds of operations by their types; the multiplications of clipping and decay cannot be told from the activations'.
PRODUCT = re.compile(r"_?(Fused|Mkl|Batch|Native)*MatMul(V2|V3)?")
UPDATE = {"ResourceApplyAdam", "L2Loss", "AssignSubVariableOp", "ResourceScatterUpdate"}
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


def of_step(runner: TrialRunner, config: TrialConfig) -> Roofline:
    """Return the least time of a training step, on the average of an epoch's."""
    values = config.hyperparameters
    train = runner.encoder.training_set(config)
    steps = -(-len(train.texts) // int(values.batch_size))
    trainer = runner.models.trainer(values)
    epoch = trainer.least_time(train, config, trainer.used_rows(train))
    return Roofline(epoch.products / steps, epoch.activations / steps, epoch.update / steps)


def show(operations: Sequence[Operations], seconds: float, steps: int, least: Roofline) -> None:
    """Print the longest operations, and their kinds beside the least that each could take."""
    total = sum(one.nanoseconds for one in operations)

    def taken(some: Iterable[Operations]) -> tuple[str, ...]:
        ours = list(some)
        nanoseconds = sum(one.nanoseconds for one in ours)
        count = sum(one.count for one in ours)
        return f"{count / steps:.0f}", f"{nanoseconds / steps / 1e6:.2f}", f"{nanoseconds / total:.1%}"

    console = Console()
    table = Table("operation", "a step", "ms a step", "share")
    for one in operations[:SHOWN]:
        table.add_row(one.type, *taken([one]))
    table.add_row(f"{len(operations[SHOWN:])} others", *taken(operations[SHOWN:]))
    console.print(table)
    table = Table("operations", "a step", "ms a step", "share", "least ms")
    of_products = [one for one in operations if PRODUCT.fullmatch(one.type)]
    of_update = [one for one in operations if one.type in UPDATE]
    table.add_row("matrix products", *taken(of_products), f"{1e3 * least.products:.2f}")
    table.add_row("the weights' update", *taken(of_update), f"{1e3 * least.update:.2f}")
    rest = [one for one in operations if one not in (*of_products, *of_update)]
    table.add_row("activations and all else", *taken(rest), f"{1e3 * least.activations:.2f}")
    console.print(table)
    console.print(
        f"A step took {1e3 * seconds / steps:.1f} ms under the profiler, its operations {total / steps / 1e6:.1f} ms; "
        f"the least is {1e3 * least.seconds:.1f} ms, {least.seconds * steps / seconds:.0%} of it, at "
        f"{bandwidth() / 1e9:.1f} GB/s."
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
        # Every call measures the machine's rates; the last has the best of them.
        least = [of_step(runner, config) for _ in range(MEASUREMENTS)][-1]
    show(operations, window.seconds, flags.steps, least)
    if flags.csv:
        write_table(flags.csv, pd.DataFrame(operations))


if __name__ == "__main__":
    command.run(main)
