"""Progress of a study: bars on a terminal or in a notebook, a line per epoch elsewhere, with the time left."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from typing_extensions import Self

from bertgrid_tf.analysis import dev_baseline
from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.budget.time_estimator import FIRST_STEPS, StageWork, TimeEstimator
from bertgrid_tf.report.answer import baselines, to_text
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.report.plan import measured_table
from bertgrid_tf.storage.records import MeasuredSetting
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.system.terminal import NARROW
from bertgrid_tf.trial_config import AFTER_SEARCH, FINAL, INTERACTIONS, SEEDS, TrialConfig

DRAW_SECONDS = 0.1


@dataclass
class _Trial:
    """A trial that has begun: `epoch` of its epochs are scored, `step` steps of the next one trained."""

    title: str
    epochs: int
    steps: int
    epoch: int = 0
    step: int = 0


class ProgressLines(Callback):
    """Prints a line when a trial begins and after every epoch, with the share of the study and the time left.

    Args:
        console: Where to print.
        metric: The metric to show first.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self._console = console
        self._metric = metric
        self._estimator = TimeEstimator()
        self._predicted = False
        # Workers run trials in processes of their own, without a report of every step; 0 where this process does.
        self._workers = 0
        self._trials: dict[str, _Trial] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def on_study_begin(self, study: StudyFolder, estimator: TimeEstimator) -> None:
        """See `Callback`."""
        self._estimator = estimator
        if study.metadata_file.is_file():
            shown = baselines(self._metric, dev_baseline(study))
            self._console.print(to_text(f"Baselines on dev: {shown}."), highlight=False)

    def on_auto_setting(self, key: str, setting: MeasuredSetting) -> None:
        """See `Callback`."""
        self._console.print(measured_table(key, setting), highlight=False)

    def on_message(self, message: str) -> None:
        """See `Callback`."""
        self._print(f"[bold]{escape(message)}[/]")

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        """See `Callback`."""
        self._trials[trial] = _Trial(_title(trial, config), config.stop_epoch, steps)
        self._print(f"[bold]{escape(self._trials[trial].title)}[/]  {config.stop_epoch} epochs of {steps} steps")

    def on_train_batch_end(self, trial: str, step: int, steps: int, loss: float) -> None:
        """See `Callback`."""
        self._trials[trial].step = step
        if step >= FIRST_STEPS:
            self._predict()

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `Callback`."""
        current = self._trials[trial]
        current.epoch, current.step = epoch, 0
        shown = [name for name in dict.fromkeys((self._metric, "accuracy", "macro_f1", "loss")) if name in metrics]
        shown = shown or ["train_loss"]
        scores = "  ".join(f"{name} {score(name, metrics[name])}" for name in shown)
        if isnan(metrics[shown[0]]):
            scores = "diverged: the loss is no longer a number"
        title = f"{current.title}  " if self._workers else ""
        self._print(
            f"  {escape(title)}epoch {epoch}/{current.epochs}  {escape(scores)}  {duration(metrics['seconds'])}  "
            f"[dim]{self._left()}[/]"
        )
        self._predict()

    def on_workers_begin(self, count: int, share: str) -> None:
        """See `Callback`."""
        self._workers = count
        self._print(f"{count} worker{'s, each' if count > 1 else ''} with {escape(share)}")

    def on_worker_begin(self, host: str) -> None:
        """See `Callback`."""
        self._print(f"[dim]worker ready on {escape(host)}[/]")

    def on_worker_lost(self, trial: str | None, host: str) -> None:
        """See `Callback`."""
        lost = f"[bold yellow]worker lost on {escape(host or 'a host that it had not reached')}[/]"
        resumes = f": {escape(self._trials[trial].title)} resumes elsewhere after its last saved epoch" if trial else ""
        self._print(lost + resumes)

    def _print(self, line: str) -> None:
        # A log has no width to fold lines at.
        self._console.print(line, highlight=False, soft_wrap=not self._console.is_terminal)

    def _predict(self) -> None:
        """Print once the predicted time of every stage, as soon as it is known."""
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
    # After the search, trials end at the winning epoch at the latest.
    return "at most " if stage.at_most or stage.name in AFTER_SEARCH else ""


class ProgressBars(ProgressLines):
    """Draws bars under the lines: the epoch's steps, the trial, the whole study; with workers, the study alone."""

    def __init__(self, console: Console, metric: str) -> None:
        super().__init__(console, metric)
        self._drawn = 0.0
        narrow = console.width < NARROW
        times = "{task.fields[left]}" if narrow else " {task.fields[left]:>10} left  {task.fields[note]}"
        self._bars = Progress(
            TextColumn("{task.description:>5}" if narrow else "{task.description:>7}"),
            BarColumn(None if narrow else 40),
            TextColumn("{task.percentage:>3.0f} % " + times),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {
            name: self._bars.add_task(name, total=None, left="", note="") for name in ("epoch", "trial", "study")
        }

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        """See `Callback`."""
        super().on_trial_begin(trial, config, steps)
        self._draw(trial, "")

    def on_workers_begin(self, count: int, share: str) -> None:
        """See `Callback`."""
        super().on_workers_begin(count, share)
        for name in ("epoch", "trial"):
            self._bars.remove_task(self._tasks.pop(name))

    def on_train_batch_end(self, trial: str, step: int, steps: int, loss: float) -> None:
        """See `Callback`."""
        super().on_train_batch_end(trial, step, steps, loss)
        # A GPU's steps can be shorter than the time that drawing takes.
        if (now := monotonic()) - self._drawn >= DRAW_SECONDS:
            self._drawn = now
            self._draw(trial, f"loss {loss:.3f}")

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `Callback`."""
        super().on_epoch_end(trial, epoch, metrics)
        self._draw(trial, "")

    def _draw(self, trial: str, note: str) -> None:
        current, estimator = self._trials[trial], self._estimator
        if not self._workers:
            self._show("epoch", current.step, current.steps, estimator.epoch_left(trial), note)
            done, total = current.epoch * current.steps + current.step, current.epochs * current.steps
            self._show("trial", done, total, estimator.trial_left(trial))
        left, elapsed = estimator.left(), estimator.elapsed()
        self._show("study", elapsed, None if left is None else elapsed + left, left)

    def _show(self, task: str, done: float, total: float | None, left: float | None, note: str = "") -> None:
        shown = "…" if left is None else duration(left)
        self._bars.update(self._tasks[task], completed=done, total=total, left=shown, note=note)


def progress(console: Console, metric: str) -> ProgressLines:
    """Return bars on a terminal or in a notebook, lines elsewhere; to be entered."""
    return (ProgressBars if console.is_terminal or console.is_jupyter else ProgressLines)(console, metric)


def _title(trial: str, config: TrialConfig) -> str:
    hyperparameters = config.hyperparameters
    if config.stage.startswith("sweep:"):
        parameter = config.stage.removeprefix("sweep:")
        return f"sweep {parameter}={getattr(hyperparameters, parameter)}"
    row = f"learning_rate={hyperparameters.learning_rate:g}"
    if config.stage == SEEDS:
        return f"seed {config.seed} {row}"
    if config.stage == INTERACTIONS and config.parameter:
        return f"interaction {config.parameter}={getattr(hyperparameters, config.parameter)}, {row}"
    if config.stage != FINAL:
        return f"{config.stage} {row}"
    member = "" if trial == FINAL else f" ({trial.removeprefix(FINAL).strip('_')})"
    return f"final model{member} {hyperparameters.model}, {row}{_per_gpu(int(hyperparameters.batch_size), config.gpus)}"


def _per_gpu(batch_size: int, gpus: int) -> str:
    """Return how a batch is divided among several GPUs."""
    if gpus == 1:
        return ""
    least, most = batch_size // gpus, -(-batch_size // gpus)
    each = f"{least}" if least == most else f"{least} or {most}"
    return f", batch {batch_size} = {gpus} × {each} per GPU"
