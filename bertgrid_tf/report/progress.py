"""How a study is getting on: bars on a terminal, a line per epoch elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bertgrid_tf.report.format import duration, score


@dataclass
class _Run:
    """A run under way or ended: `done` of its steps are trained, `epoch` of its epochs."""

    title: str
    epochs: int
    steps: int
    epoch: int = 0
    done: int = 0


class Lines:
    """A line when a run begins and one after every epoch, with the time that is left at the pace so far.

    Args:
        console: where to print.
        metric: the one to show.
        total_steps: training steps of the whole study (`plan.StudyPlan.steps`).
    """

    def __init__(self, console: Console, metric: str, total_steps: int) -> None:
        self._console = console
        self._metric = metric
        self._total = total_steps
        # So many carry runs at a time in processes of their own; 0 where this one does, which tells of every step.
        self._workers = 0
        self._runs: dict[str, _Run] = {}
        self._resumed = 0
        self._trained = 0
        self._first_step = self._now = 0.0
        self._scored_seconds = 0.0
        self._scored_steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def on_resume(self, steps: int) -> None:
        """See `study.Listener`."""
        self._resumed = steps

    def on_run(
        self, run: str, stage: str, values: Mapping[str, bool | int | float | str], epochs: int, steps: int
    ) -> None:
        """See `study.Listener`."""
        self._runs[run] = _Run(_title(stage, values), epochs, steps)
        self._print(f"[bold]{escape(self._runs[run].title)}[/]  {epochs} epochs of {steps} steps")

    def on_step(self, run: str, done: int, steps: int, loss: float) -> None:
        """See `study.Listener`."""
        self._now = monotonic()
        if not self._trained:
            # Whatever comes before the end of the very first step, tracing above all, does not come again.
            self._first_step = self._now
        self._trained += 1
        self._runs[run].done = self._runs[run].epoch * steps + done

    def on_epoch(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `study.Listener`."""
        told = self._runs[run]
        told.epoch, told.done = epoch, epoch * told.steps
        self._now = monotonic()
        self._scored_seconds += metrics["seconds"]
        self._scored_steps += told.steps
        shown = dict.fromkeys((self._metric, "accuracy", "macro_f1", "loss"))
        scores = "  ".join(f"{name} {score(name, metrics[name])}" for name in shown)
        if isnan(metrics[self._metric]):
            scores = "diverged: the loss is no longer a number"
        whose = f"{told.title}  " if self._workers else ""
        self._print(
            f"  {escape(whose)}epoch {epoch}/{told.epochs}  {escape(scores)}  {duration(metrics['seconds'])}  "
            f"[dim]{self._left()}[/]"
        )

    def on_workers(self, count: int, each: str) -> None:
        """See `study.Listener`."""
        self._workers = count
        self._print(f"{count} worker{'s, each' if count > 1 else ''} with {escape(each)}")

    def on_worker(self, host: str) -> None:
        """See `study.Listener`."""
        self._print(f"[dim]worker ready on {escape(host)}[/]")

    def on_loss(self, run: str | None, host: str) -> None:
        """See `study.Listener`."""
        lost = f"[bold yellow]worker lost on {escape(host or 'a host that it had not reached')}[/]"
        goes_on = f": {escape(self._runs[run].title)} goes on elsewhere from its last saved epoch" if run else ""
        self._print(lost + goes_on)

    def _print(self, line: str) -> None:
        # A log has no width to fold lines at.
        self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)

    def _done(self) -> int:
        return self._resumed + sum(run.done for run in self._runs.values())

    def _left(self) -> str:
        done = self._done()
        share = f"study {done / max(self._total, 1):.0%}"
        left = self.seconds_left(self._total - done)
        return share if left is None else f"{share}, {duration(left)} left"

    def seconds_left(self, steps: int) -> float | None:
        """How long `steps` more steps take, in seconds, at the mean pace so far, evaluations included; None before
        any pace is known."""
        if self._workers:
            if not self._scored_steps:
                return None
            # What the epochs themselves took: an epoch that is only told again does not hide the pace.
            return max(steps, 0) * self._scored_seconds / (self._scored_steps * self._workers)
        if self._trained < 2:
            return None
        return max(steps, 0) * (self._now - self._first_step) / (self._trained - 1)


class Bars(Lines):
    """Bars under the lines: the epoch's steps, the run, the whole study; with workers, the study alone."""

    def __init__(self, console: Console, metric: str, total_steps: int) -> None:
        super().__init__(console, metric, total_steps)
        self._bars = Progress(
            TextColumn("{task.description:>7}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[left]:>10} left  {task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {
            name: self._bars.add_task(name, total=None, left="", note="") for name in ("epoch", "run", "study")
        }

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def on_run(
        self, run: str, stage: str, values: Mapping[str, bool | int | float | str], epochs: int, steps: int
    ) -> None:
        """See `study.Listener`."""
        super().on_run(run, stage, values, epochs, steps)
        self._draw(run, "")

    def on_workers(self, count: int, each: str) -> None:
        """See `study.Listener`."""
        super().on_workers(count, each)
        for name in ("epoch", "run"):
            self._bars.remove_task(self._tasks.pop(name))

    def on_step(self, run: str, done: int, steps: int, loss: float) -> None:
        """See `study.Listener`."""
        super().on_step(run, done, steps, loss)
        self._draw(run, f"loss {loss:.3f}")

    def on_epoch(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `study.Listener`."""
        super().on_epoch(run, epoch, metrics)
        self._draw(run, "")

    def _draw(self, run: str, note: str) -> None:
        told = self._runs[run]
        if not self._workers:
            self._show("epoch", told.done - told.epoch * told.steps, told.steps, note)
            self._show("run", told.done, told.epochs * told.steps)
        self._show("study", self._done(), self._total)

    def _show(self, task: str, done: int, total: int, note: str = "") -> None:
        left = self.seconds_left(total - done)
        shown = "…" if left is None else duration(left)
        self._bars.update(self._tasks[task], completed=done, total=max(total, 1), left=shown, note=note)


def _title(stage: str, values: Mapping[str, bool | int | float | str]) -> str:
    if stage.startswith("sweep:"):
        parameter = stage.removeprefix("sweep:")
        return f"sweep {parameter}={values[parameter]}"
    row = f"learning_rate={values['learning_rate']:g}"
    if stage != "final":
        return f"{stage} {row}"
    return f"final model {values['model']}, {row}{_per_gpu(int(values['batch_size']), int(values['gpus']))}"


def _per_gpu(batch_size: int, gpus: int) -> str:
    """How many texts of a batch each of several GPUs gets."""
    if gpus == 1:
        return ""
    least, most = batch_size // gpus, -(-batch_size // gpus)
    each = f"{least}" if least == most else f"{least} or {most}"
    return f", batch {batch_size} = {gpus} × {each} per GPU"
