"""How a study is getting on: bars on a terminal, a line per epoch elsewhere, with the time that is left."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bertgrid_tf.budget.plan import AUDIT, FINAL, LATER, REPEATS
from bertgrid_tf.budget.time_estimator import FIRST_STEPS, StageWork, TimeEstimator
from bertgrid_tf.report.auto_settings import measured_table
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.storage.study_folder import MeasuredSetting

DRAW_SECONDS = 0.1


@dataclass
class _Run:
    """A run under way or ended: `epoch` of its epochs are scored, `done` of the next one's steps trained."""

    title: str
    epochs: int
    steps: int
    epoch: int = 0
    done: int = 0


class Lines:
    """A line when a run begins and one after every epoch, with what is over of the study and the time that is left.

    Args:
        console: where to print.
        metric: the one to show.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._console = console
        self._metric = metric
        self._estimator = TimeEstimator()
        self._predicted = False
        # So many carry runs at a time in processes of their own; 0 where this one does, which tells of every step.
        self._workers = 0
        self._runs: dict[str, _Run] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def on_study_begin(self, clock: TimeEstimator) -> None:
        """See `study.Callback`."""
        self._estimator = clock

    def on_auto_setting(self, key: str, found: MeasuredSetting) -> None:
        """See `study.Callback`."""
        self._console.print(measured_table(key, found), highlight=False)

    def on_message(self, sentence: str) -> None:
        """See `study.Callback`."""
        self._print(f"[bold]{escape(sentence)}[/]")

    def on_trial_begin(
        self, run: str, stage: str, values: Mapping[str, bool | int | float | str], epochs: int, steps: int
    ) -> None:
        """See `study.Callback`."""
        self._runs[run] = _Run(_title(stage, values), epochs, steps)
        self._print(f"[bold]{escape(self._runs[run].title)}[/]  {epochs} epochs of {steps} steps")

    def on_train_batch_end(self, run: str, done: int, steps: int, loss: float) -> None:
        """See `study.Callback`."""
        self._runs[run].done = done
        if done >= FIRST_STEPS:
            self._predict()

    def on_epoch_end(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `study.Callback`."""
        told = self._runs[run]
        told.epoch, told.done = epoch, 0
        shown = dict.fromkeys((self._metric, "accuracy", "macro_f1", "loss"))
        scores = "  ".join(f"{name} {score(name, metrics[name])}" for name in shown)
        if isnan(metrics[self._metric]):
            scores = "diverged: the loss is no longer a number"
        whose = f"{told.title}  " if self._workers else ""
        self._print(
            f"  {escape(whose)}epoch {epoch}/{told.epochs}  {escape(scores)}  {duration(metrics['seconds'])}  "
            f"[dim]{self._left()}[/]"
        )
        self._predict()

    def on_workers_begin(self, count: int, each: str) -> None:
        """See `study.Callback`."""
        self._workers = count
        self._print(f"{count} worker{'s, each' if count > 1 else ''} with {escape(each)}")

    def on_worker_begin(self, host: str) -> None:
        """See `study.Callback`."""
        self._print(f"[dim]worker ready on {escape(host)}[/]")

    def on_worker_lost(self, run: str | None, host: str) -> None:
        """See `study.Callback`."""
        lost = f"[bold yellow]worker lost on {escape(host or 'a host that it had not reached')}[/]"
        goes_on = f": {escape(self._runs[run].title)} goes on elsewhere from its last saved epoch" if run else ""
        self._print(lost + goes_on)

    def _print(self, line: str) -> None:
        # A log has no width to fold lines at.
        self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)

    def _predict(self) -> None:
        """Says once what every stage will take, as soon as that can be told."""
        if self._predicted or not (ahead := self._estimator.ahead()):
            return
        self._predicted = True
        stages = ", ".join(f"{stage.name} {_at_most(stage)}{duration(seconds)}" for stage, seconds in ahead)
        total = sum(seconds for _, seconds in ahead)
        self._print(f"[dim]predicted: {escape(stages)}: {duration(total)} in all[/]")

    def _left(self) -> str:
        share, left = self._estimator.share(), self._estimator.left()
        return "" if share is None or left is None else f"study {share:.0%}, {duration(left)} left"


def _at_most(stage: StageWork) -> str:
    # The winning epoch is the last that what comes after the search is trained for.
    return "at most " if stage.at_most or stage.name in LATER else ""


class Bars(Lines):
    """Bars under the lines: the epoch's steps, the run, the whole study; with workers, the study alone."""

    def __init__(self, console: Console, metric: str) -> None:
        super().__init__(console, metric)
        self._drawn = 0.0
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

    def on_trial_begin(
        self, run: str, stage: str, values: Mapping[str, bool | int | float | str], epochs: int, steps: int
    ) -> None:
        """See `study.Callback`."""
        super().on_trial_begin(run, stage, values, epochs, steps)
        self._draw(run, "")

    def on_workers_begin(self, count: int, each: str) -> None:
        """See `study.Callback`."""
        super().on_workers_begin(count, each)
        for name in ("epoch", "run"):
            self._bars.remove_task(self._tasks.pop(name))

    def on_train_batch_end(self, run: str, done: int, steps: int, loss: float) -> None:
        """See `study.Callback`."""
        super().on_train_batch_end(run, done, steps, loss)
        # A GPU's steps can be shorter than the time that drawing takes.
        if (now := monotonic()) - self._drawn >= DRAW_SECONDS:
            self._drawn = now
            self._draw(run, f"loss {loss:.3f}")

    def on_epoch_end(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `study.Callback`."""
        super().on_epoch_end(run, epoch, metrics)
        self._draw(run, "")

    def _draw(self, run: str, note: str) -> None:
        told, clock = self._runs[run], self._estimator
        if not self._workers:
            self._show("epoch", told.done, told.steps, clock.epoch_left(run), note)
            self._show("run", told.epoch * told.steps + told.done, told.epochs * told.steps, clock.run_left(run))
        left = clock.left()
        self._show("study", clock.elapsed(), None if left is None else clock.elapsed() + left, left)

    def _show(self, task: str, done: float, total: float | None, left: float | None, note: str = "") -> None:
        shown = "…" if left is None else duration(left)
        self._bars.update(self._tasks[task], completed=done, total=total, left=shown, note=note)


def _title(stage: str, values: Mapping[str, bool | int | float | str]) -> str:
    if stage.startswith("sweep:"):
        parameter = stage.removeprefix("sweep:")
        return f"sweep {parameter}={values[parameter]}"
    row = f"learning_rate={values['learning_rate']:g}"
    if stage == REPEATS:
        return f"seed {values['seed']} {row}"
    if stage == AUDIT:
        audited = str(values["audited"])
        return f"audit {audited}={values[audited]}, {row}"
    if stage != FINAL:
        return f"{stage} {row}"
    return f"final model {values['model']}, {row}{_per_gpu(int(values['batch_size']), int(values['gpus']))}"


def _per_gpu(batch_size: int, gpus: int) -> str:
    """How many texts of a batch each of several GPUs gets."""
    if gpus == 1:
        return ""
    least, most = batch_size // gpus, -(-batch_size // gpus)
    each = f"{least}" if least == most else f"{least} or {most}"
    return f", batch {batch_size} = {gpus} × {each} per GPU"
