"""A search that is held to its budget: what no longer fits is not begun, or is ended early."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_tuner.errors import FailedTrialError

from bertgrid_tf.budget import MARGIN, Decisions
from bertgrid_tf.clock import Clock, Work
from bertgrid_tf.plan import final_run
from bertgrid_tf.recipe import Recipe, Settings, Value
from tuners import CasualGridOracle, Trainable, TunerError
from tuners.pool import Pool, Report

LEFT_OUT = "left out for lack of time"


class OutOfTimeError(Exception):
    """No further run of the grid may begin if the final model is to end in time."""


class TimedOracle(CasualGridOracle):
    """Asks, before the first run of the grid, what of the grid is to be searched.

    Attributes:
        before_grid: called once, when the sweeps are decided; may `narrow` the search.
    """

    before_grid: Callable[[], None] | None = None

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See `CasualGridOracle`."""
        if self.before_grid is not None and self.stage == "grid":
            ask, self.before_grid = self.before_grid, None
            ask()
        return super().populate_space(trial_id)


class Ahead:
    """What must still be trained after a run of the search, as far as it has come.

    Attributes:
        recipe: what is searched.

    Args:
        oracle: the search.
        clock: says how long it takes.
        work: what an epoch of a configuration is.
        final_gpus: how many train the final model.
    """

    def __init__(
        self,
        recipe: Recipe,
        oracle: CasualGridOracle,
        clock: Clock,
        work: Callable[[Mapping[str, Value]], Work],
        final_gpus: int,
    ) -> None:
        self.recipe = recipe
        self._oracle = oracle
        self._clock = clock
        self._work = work
        self._gpus = final_gpus

    def best_epoch(self) -> int:
        """The epoch of the best cell so far; 0 without any."""
        try:
            return self._oracle.best().epoch
        except TunerError:
            return 0

    def after_sweep(self) -> float:
        """Seconds of one row of the grid and of a final model of as many epochs."""
        row = self._work(self.incumbent().settings.model_dump())
        return (self._clock.run_seconds(row, self.recipe.epochs) or 0.0) + self._final(self.recipe.epochs)

    def after_row(self, epoch: int) -> float:
        """Seconds of a final model of the best epoch so far or, if it turns out to be the best, of this one."""
        return self._final(max(epoch, self.best_epoch()))

    def _final(self, epochs: int) -> float:
        values = final_run(self.incumbent(), epochs)
        if values is None:
            return 0.0
        return self._clock.run_seconds(self._work(values | {"gpus": self._gpus}), epochs) or 0.0

    def incumbent(self) -> Recipe:
        """The recipe with what the sweeps have found so far as its settings."""
        return self.recipe.model_copy(update={"settings": Settings.of(self._oracle.incumbent)})


@dataclass(frozen=True)
class TimedRun:
    """A run that a deadline is asked about.

    Attributes:
        title: what it is, for a person.
        sweep: whether it is one of a sweep's, or else of the grid's.
        whole: whether it is worth nothing before its last epoch.
        work: of an epoch.
        epochs: to train in all.
        known: epochs that an earlier session has trained.
    """

    title: str
    sweep: bool
    whole: bool
    work: Work
    epochs: int
    known: int


class Deadline:
    """Says of every run whether it may begin, and after every epoch whether it may go on, so that the final model still
    ends within the budget.

    A run that is worth nothing before its last epoch begins where it fits whole, another one where an epoch of it does,
    and it is ended where the next one does not. The first run of the grid begins in any case: without it there would be
    no winner.
    """

    def __init__(self, seconds: float, clock: Clock, decisions: Decisions, ahead: Ahead) -> None:
        """
        Args:
            seconds: the budget, for all sessions together.
            clock: says how much of it is over, and how long what is to come takes.
            decisions: the study's; what is left out is written there.
            ahead: says what must be kept for later.
        """
        self._seconds = seconds
        self._clock = clock
        self._decisions = decisions
        self._ahead = ahead
        self._runs: dict[str, TimedRun] = {}
        self._refused: set[str] = set()

    @property
    def left(self) -> float:
        """Seconds that are left of the budget."""
        return self._seconds - self._clock.elapsed()

    def admits(self, name: str, run: TimedRun) -> bool:
        """Whether a run may begin; what has trained an epoch already may always go on."""
        self._runs[name] = run
        seconds = self._clock.run_seconds(run.work, run.epochs if run.whole else 1)
        must = run.known or not (run.sweep or self._ahead.best_epoch())
        if must or self._fits(run, 1, seconds):
            return True
        self._refused.add(name)
        if run.sweep:
            self._decisions.add("leave_out", run=run.title)
        return False

    def refused(self, name: str) -> bool:
        """Whether a run was not admitted."""
        return name in self._refused

    def ends_search(self, name: str) -> bool:
        """Whether a run that was not admitted is the grid's, so that none comes after it."""
        return name in self._refused and not self._runs[name].sweep

    def goes_on(self, name: str, epoch: int) -> bool:
        """Whether a run may train another epoch after this one."""
        run = self._runs[name]
        if run.whole or epoch < run.known or epoch >= run.epochs:
            return True
        if self._fits(run, epoch + 1, self._clock.pace.seconds(run.work)):
            return True
        self._decisions.add("stop", run=run.title, epoch=epoch)
        return False

    def _fits(self, run: TimedRun, epoch: int, seconds: float | None) -> bool:
        kept = self._ahead.after_sweep() if run.sweep else self._ahead.after_row(epoch)
        return MARGIN * ((seconds or 0.0) + kept) <= self.left


class TimedRuns:
    """The runs of this process under a deadline: a `tuners.Trainable`."""

    def __init__(self, runs: Trainable, deadline: Deadline) -> None:
        self._runs = runs
        self._deadline = deadline

    def __call__(self, values: Mapping[str, Value], folder: Path) -> Iterator[Mapping[str, float]]:
        """The epochs of a run as far as they fit.

        Raises:
            FailedTrialError: the run was not admitted, and others may come after it.
            OutOfTimeError: the run was not admitted, and none comes after it.
        """
        name = folder.name.removeprefix("trial_")
        if self._deadline.ends_search(name):
            raise OutOfTimeError
        if self._deadline.refused(name):
            raise FailedTrialError(LEFT_OUT)
        for epoch, metrics in enumerate(self._runs(values, folder), start=1):
            yield metrics
            if not self._deadline.goes_on(name, epoch):
                return


class TimedPool:
    """The runs of a pool under a deadline: a `tuners.pool.Pool`."""

    def __init__(self, pool: Pool, deadline: Deadline) -> None:
        self.size = pool.size
        self._pool = pool
        self._deadline = deadline
        # The runs that the pool carries, each with its last epoch.
        self._epochs: dict[str, int] = {}
        self._ended: deque[Report] = deque()

    def start(self, name: str, values: Mapping[str, Value], folder: Path) -> None:
        """See `Pool`; a run that was not admitted fails or, where none comes after it, waits for the others' end."""
        if not self._deadline.refused(name):
            self._epochs[name] = 0
            self._pool.start(name, values, folder)
        elif not self._deadline.ends_search(name):
            self._ended.append(Report(name, 0, None, LEFT_OUT))

    def wait(self) -> Report:
        """See `Pool`. Raises OutOfTimeError when no other runs are left than those that were not admitted."""
        if self._ended:
            return self._ended.popleft()
        if not self._epochs:
            raise OutOfTimeError
        report = self._pool.wait()
        self._epochs[report.name] = report.epoch
        if report.metrics is None:
            del self._epochs[report.name]
        return report

    def advance(self, name: str) -> None:
        """See `Pool`; a run whose next epoch does not fit ends by itself."""
        epoch = self._epochs[name]
        if self._deadline.goes_on(name, epoch):
            self._pool.advance(name)
        else:
            self.stop(name)
            self._ended.append(Report(name, epoch, None))

    def stop(self, name: str) -> None:
        """See `Pool`."""
        self._pool.stop(name)
        del self._epochs[name]
