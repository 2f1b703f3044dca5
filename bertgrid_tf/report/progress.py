"""How a study is getting on: bars on a terminal, a line per epoch elsewhere."""

from collections.abc import Mapping
from math import isnan
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bertgrid_tf.report.format import duration, score


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
        self._done_before_run = 0
        self._done_in_run = 0
        self._trained = 0
        self._first_step = self._now = 0.0
        self._stage = ""
        self._run_steps = 0
        self._epochs = 0
        self._epoch = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def on_resume(self, steps: int) -> None:
        """See `study.Listener`."""
        self._done_before_run = steps

    def on_run(self, stage: str, values: Mapping[str, bool | int | float | str], epochs: int, steps: int) -> None:
        """See `study.Listener`."""
        self._done_before_run += self._done_in_run
        self._done_in_run = 0
        self._stage, self._epochs, self._run_steps, self._epoch = stage, epochs, steps, 0
        self._print(f"[bold]{escape(_title(stage, values))}[/]  {epochs} epochs of {steps} steps")

    def on_step(self, done: int, steps: int, loss: float) -> None:
        """See `study.Listener`."""
        self._now = monotonic()
        if not self._trained:
            # Whatever comes before the end of the very first step, tracing above all, does not come again.
            self._first_step = self._now
        self._trained += 1
        self._done_in_run = self._epoch * steps + done

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `study.Listener`."""
        self._epoch = epoch
        self._done_in_run = epoch * self._run_steps
        self._now = monotonic()
        shown = dict.fromkeys((self._metric, "accuracy", "macro_f1", "loss"))
        scores = "  ".join(f"{name} {score(name, metrics[name])}" for name in shown)
        if isnan(metrics[self._metric]):
            scores = "diverged: the loss is no longer a number"
        self._print(
            f"  epoch {epoch}/{self._epochs}  {escape(scores)}  {duration(metrics['seconds'])}  [dim]{self._left()}[/]"
        )

    def _print(self, line: str) -> None:
        # A log has no width to fold lines at.
        self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)

    def _left(self) -> str:
        done = self._done_before_run + self._done_in_run
        share = f"study {done / max(self._total, 1):.0%}"
        left = self.seconds_left(self._total - done)
        return share if left is None else f"{share}, {duration(left)} left"

    def seconds_left(self, steps: int) -> float | None:
        """How long `steps` more steps take, in seconds, at the mean pace so far, evaluations included; None before
        any pace is known."""
        if self._trained < 2:
            return None
        return max(steps, 0) * (self._now - self._first_step) / (self._trained - 1)


class Bars(Lines):
    """Three bars under the lines: the epoch's steps, the run, the whole study."""

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

    def on_run(self, stage: str, values: Mapping[str, bool | int | float | str], epochs: int, steps: int) -> None:
        """See `study.Listener`."""
        super().on_run(stage, values, epochs, steps)
        self._draw("")

    def on_step(self, done: int, steps: int, loss: float) -> None:
        """See `study.Listener`."""
        super().on_step(done, steps, loss)
        self._draw(f"loss {loss:.3f}")

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `study.Listener`."""
        super().on_epoch(epoch, metrics)
        self._draw("")

    def _draw(self, note: str) -> None:
        in_epoch = self._done_in_run - self._epoch * self._run_steps
        self._show("epoch", in_epoch, self._run_steps, note)
        self._show("run", self._done_in_run, self._epochs * self._run_steps)
        self._show("study", self._done_before_run + self._done_in_run, self._total)

    def _show(self, task: str, done: int, total: int, note: str = "") -> None:
        left = self.seconds_left(total - done)
        shown = "…" if left is None else duration(left)
        self._bars.update(self._tasks[task], completed=done, total=max(total, 1), left=shown, note=note)


def _title(stage: str, values: Mapping[str, bool | int | float | str]) -> str:
    if stage.startswith("sweep:"):
        parameter = stage.removeprefix("sweep:")
        return f"sweep {parameter}={values[parameter]}"
    row = f"learning_rate={values['learning_rate']:g}"
    return f"final model {values['model']}, {row}" if stage == "final" else f"{stage} {row}"
