"""Predicted and measured seconds of a study."""

import heapq
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean, median
from time import monotonic

from bertgrid_tf.storage.records import StageTime
from bertgrid_tf.training.workload import EpochWorkload
from bertgrid_tf.trial_config import AFTER_SEARCH, FINAL

START = "start"
"""The stage before the first trial: TensorFlow starts, the checkpoint is read, the data are checked."""
REPORT = "report"
"""The stage of all analyses and reports, the last in the table of times."""
FIRST_STEPS = 10
"""Training steps behind the first prediction."""
RECENT_EPOCHS = 3
"""Latest epochs of a kind of workload whose mean is its speed."""
RECENT_STEPS = 100
"""Latest training steps whose median is the speed of an epoch that has not ended."""


@dataclass(frozen=True)
class StageWork:
    """The workload of one stage as planned.

    Attributes:
        name: `sweep:PARAMETER` or a stage of `trial_config`.
        trials: Workload of an epoch, and epochs, of each trial.
        at_most: Whether the search decides on the trials, so that `trials` has the most epochs that they may take.
        undecided: For each earlier sweep without a winner, the workload at its start and at each of its levels. Any
            level may win, so the stage is predicted at their mean.
    """

    name: str
    trials: tuple[tuple[EpochWorkload, int], ...]
    at_most: bool = False
    undecided: tuple[tuple[EpochWorkload, tuple[EpochWorkload, ...]], ...] = ()


class Throughput:
    """The measured speed of every kind of workload."""

    def __init__(self) -> None:
        # By kind, the latest one last: workload, seconds, and whether these are exact.
        self._epochs: dict[Hashable, list[tuple[EpochWorkload, float, bool]]] = {}

    def add(self, workload: EpochWorkload, seconds: float, exact: bool = True) -> None:
        """Add the seconds of an epoch; an estimate (`exact` is False) counts until its kind is measured."""
        epochs = [epoch for epoch in self._epochs.pop(workload.kind, []) if epoch[2]]
        if exact or not epochs:
            epochs.append((workload, seconds, exact))
        self._epochs[workload.kind] = epochs[-RECENT_EPOCHS:]

    @property
    def is_measured(self) -> bool:
        """Whether any epoch was measured."""
        return bool(self._epochs)

    def seconds(self, workload: EpochWorkload) -> float:
        """Predict the seconds of an epoch; 0 before anything was measured.

        The time of a kind without measurements follows, by the ratio of the costs, from the latest kind of the same
        model, else from the latest of all.
        """
        if not self._epochs:
            return 0.0
        latest = list(reversed(self._epochs.values()))
        same_model = [epochs for epochs in latest if epochs[0][0].model == workload.model]
        epochs = self._epochs.get(workload.kind) or (same_model or latest)[0]
        return workload.cost * sum(epoch[1] for epoch in epochs) / sum(epoch[0].cost for epoch in epochs)


@dataclass
class _TrialProgress:
    """The progress of a trial that has begun; times are those of the estimator's clock."""

    stage: str
    workload: EpochWorkload
    epochs: int
    builds: bool  # its model, rather than resetting it
    began: float
    epoch_began: float
    updated: float  # latest step or epoch
    epoch: int = 0  # epochs scored
    trained: bool = False  # the latest epoch in this process
    ended: bool = False
    step: int = 0  # steps of the current epoch
    first_step: float = 0.0  # end of its first step
    # Seconds of its latest steps but the first, in which the model may be traced.
    steps: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS))

    def epoch_seconds(self) -> float:
        """Estimate an epoch from the current one's steps, whose median no interruption changes."""
        return median(self.steps) * self.workload.steps * self.workload.cost / self.workload.training_cost


class TimeEstimator:
    """Measures a study's time, and predicts the remaining time.

    An epoch takes its workload's cost times the seconds per cost that were measured for its kind (`Throughput`); a
    trial takes its epochs and, before the first of them, the reset of the model or else building and tracing it.
    Trials are laid out on the workers, the longest first.

    Attributes:
        workers: Trials at a time.
        final_workers: The same for trials of the final model.
        throughput: The measured speed.
        restored: Whether the latest epoch was trained by an earlier session.
        stage: The current stage.

    Args:
        began: When this session began, by `now`; this moment if None.
        workers: Trials at a time.
        earlier: Times of the study's earlier sessions.
        now: Returns the time in seconds.
        final_workers: Trials of the final model at a time; None for as many as of the search.
    """

    def __init__(
        self,
        began: float | None = None,
        workers: int = 1,
        earlier: Iterable[StageTime] = (),
        now: Callable[[], float] = monotonic,
        final_workers: int | None = None,
    ) -> None:
        self.workers = workers
        self.final_workers = workers if final_workers is None else final_workers
        self.throughput = Throughput()
        self.restored = False
        self.stage = START
        self._now = now
        self._counted = now() if began is None else began
        self._times = {time.stage: time for time in (StageTime(START), *earlier)}
        self._planned: dict[str, StageWork] = {}
        self._trials: dict[str, _TrialProgress] = {}
        self._models: list[Hashable] = []
        self._startup = (0.0, 1)  # seconds, and layers of the model
        self._resets: list[float] = []

    # Events

    def expect(self, stages: Sequence[StageWork], anew: bool = False) -> None:
        """Announce all stages of the study in order, as planned now.

        Args:
            stages: Stages; those that are over do not matter.
            anew: Whether earlier predictions are dropped.
        """
        self._planned = {stage.name: stage for stage in stages}
        names, order = list(self._planned), list(self._times)
        for place, name in enumerate(names):
            if name not in order:  # A study that grows may have another sweep before stages that it has trained.
                later = next((order.index(other) for other in names[place + 1 :] if other in order), len(order))
                order.insert(later, name)
        self._times = {name: self._times.get(name) or StageTime(name) for name in order}
        if anew:
            for time in self._times.values():
                time.at_beginning = time.after_first_epoch = None
            self._predict()

    def add_ended(self, trial: str, stage: str, workload: EpochWorkload, epochs: int, seconds: Sequence[float]) -> None:
        """Add a trial that ended in an earlier session, with the seconds of its epochs."""
        now = self._now()
        self._trials[trial] = _TrialProgress(
            stage, workload, epochs, False, now, now, now, epoch=len(seconds), ended=True
        )
        for number, epoch_seconds in enumerate(seconds):
            # In a session's first epoch the model may have been traced.
            self.throughput.add(workload, epoch_seconds, exact=number > 0)

    def begin(self, trial: str, stage: str, workload: EpochWorkload, epochs: int) -> None:
        """Add a trial that begins or resumes."""
        now = self._now()
        if stage != self.stage:
            self.times()
            self._models = self._models_at(stage)
            self.stage = stage
        self._trials.pop(trial, None)
        active = [other for other in self._trials.values() if not other.ended]
        if len(active) >= self.workers:
            # The trial that was silent longest must have ended before its last epoch.
            min(active, key=lambda other: other.updated).ended = True
        # Each worker builds its model for its first trial.
        builds = self._builds(workload.model, self._models) or len(self._models) < self.workers
        self._trials[trial] = _TrialProgress(stage, workload, epochs, builds, now, now, now)
        self._models.append(workload.model)
        self._predict()

    def step(self, trial: str, step: int) -> None:
        """Add the end of a training step, counted from 1, of a trial's current epoch."""
        progress, now = self._trials[trial], self._now()
        if progress.step:
            progress.steps.append((now - progress.updated) / (step - progress.step))
        else:
            progress.first_step = now
        progress.step, progress.updated = step, now
        if progress.steps and not progress.trained:
            self.throughput.add(progress.workload, progress.epoch_seconds(), exact=False)
        if step == FIRST_STEPS:
            self._predict()

    def epoch(self, trial: str, epoch: int, seconds: float, diverged: bool = False) -> None:
        """Add the end of an epoch.

        An epoch without steps in this process was trained by a worker or by an earlier session.

        Args:
            trial: Name of the trial.
            epoch: Number, counted from 1.
            seconds: Seconds of the epoch as the trial reports them.
            diverged: Whether the trial ends with this epoch.
        """
        progress, now = self._trials[trial], self._now()
        self.restored = not progress.step and now - progress.epoch_began < seconds / 2
        exact = progress.trained or not progress.builds if progress.step else epoch > 1
        if progress.trained and progress.step:
            seconds = now - progress.epoch_began
        elif progress.steps and progress.builds:
            # The reported seconds include tracing.
            seconds = progress.epoch_seconds()
        elif progress.steps:
            seconds = now - progress.first_step + median(progress.steps)
        if not diverged:
            self.throughput.add(progress.workload, seconds, exact)
        if not progress.epoch and (progress.step or self.workers > 1):
            overhead = max(0.0, now - progress.began - seconds)
            if progress.builds:
                self._startup = (overhead, progress.workload.layers)
            else:
                self._resets.append(overhead)
        progress.trained = progress.step > 0
        progress.epoch, progress.step, progress.epoch_began, progress.updated = epoch, 0, now, now
        progress.steps.clear()
        progress.ended = diverged or epoch == progress.epochs
        self._predict()

    # Measured and remaining time, in seconds

    def elapsed(self) -> float:
        """Return the seconds of all sessions."""
        return sum(time.measured for time in self.times())

    def ahead(self) -> list[tuple[StageWork, float]]:
        """Return the stages that are not over, each with its seconds left; none before anything was measured."""
        names = list(self._planned) if self.throughput.is_measured else []
        first = names.index(self.stage) if self.stage in names else 0
        return [(self._planned[name], self._stage_left(name)) for name in names[first:]]

    def left(self) -> float | None:
        """Predict the seconds until the study's end; None before anything was measured."""
        ahead = self.ahead()
        return sum(seconds for _, seconds in ahead) if ahead or not self._planned else None

    def share(self) -> float | None:
        """Predict the fraction of the study's time that is over; None before anything was measured."""
        left, elapsed = self.left(), self.elapsed()
        return None if left is None else elapsed / max(elapsed + left, 1e-9)

    def trial_left(self, trial: str) -> float | None:
        """Predict the seconds until a trial's end; None before anything was measured."""
        return self._left(self._trials[trial]) if self.throughput.is_measured else None

    def epoch_left(self, trial: str) -> float | None:
        """Predict the seconds until the end of a trial's current epoch; None before anything was measured."""
        return self._epoch_left(self._trials[trial]) if self.throughput.is_measured else None

    def trial_seconds(self, workload: EpochWorkload, epochs: int) -> float:
        """Predict the seconds of a trial that would begin now; 0 before anything was measured."""
        return self._trial_seconds(workload, epochs, self._builds(workload.model, self._models))

    def seconds(self, stages: Iterable[StageWork]) -> float:
        """Predict the seconds of whole stages; 0 before anything was measured."""
        return sum(self._stage_seconds(stage, stage.trials, ()) for stage in stages)

    def times(self) -> list[StageTime]:
        """Return the predicted time of every stage, and the measured one up to now."""
        now = self._now()
        self._times.setdefault(self.stage, StageTime(self.stage)).measured += now - self._counted
        self._counted = now
        return sorted(self._times.values(), key=lambda time: time.stage == REPORT)

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Count the time of the block as that of a stage that trains nothing.

        A session in which no trial has begun counts it only where no earlier session has.
        """
        if self.stage == START and stage in self._times:
            yield
            return
        self.times()
        current, self.stage = self.stage, stage
        try:
            yield
        finally:
            self.times()
            self.stage = current

    def _predict(self) -> None:
        """Predict the current stage as it begins, and all stages after the study's first epoch."""
        times = {time.stage: time for time in self.times() if time.stage in self._planned}
        if not self.throughput.is_measured:
            return
        if self.stage in times and times[self.stage].at_beginning is None:
            times[self.stage].at_beginning = times[self.stage].measured + self._stage_left(self.stage)
        scored = any(progress.epoch for progress in self._trials.values())
        if scored and all(time.after_first_epoch is None for time in times.values()):
            for stage, time in times.items():
                # Not of a stage that was over when the study grew.
                if (left := self._stage_left(stage)) or stage == self.stage:
                    time.after_first_epoch = time.measured + left

    def _stage_left(self, name: str) -> float:
        stage = self._planned[name]
        begun = [progress for progress in self._trials.values() if progress.stage == name]
        waiting = list(stage.trials)
        for progress in begun:
            if waiting:
                planned = (progress.workload, progress.epochs)
                waiting.remove(planned if planned in waiting else waiting[0])
        return self._stage_seconds(stage, waiting, begun)

    def _stage_seconds(
        self, stage: StageWork, waiting: Iterable[tuple[EpochWorkload, int]], begun: Sequence[_TrialProgress]
    ) -> float:
        """Predict the seconds of a stage's waiting trials and of the rest of those that have begun."""
        running: list[float] = []
        if stage.at_most:
            planned = sum(self._trial_seconds(*trial, False) for trial in stage.trials)
            spent = sum(self._trial_seconds(progress.workload, progress.epoch, False) for progress in begun)
            ahead = [max(0.0, planned - spent) / self.workers]
        else:
            running = [self._left(progress) for progress in begun if not progress.ended]
            models, ahead = self._models_at(stage.name), []
            for workload, epochs in waiting:
                ahead.append(self._trial_seconds(workload, epochs, self._builds(workload.model, models)))
                models.append(workload.model)
        factor = 1.0
        for start, levels in stage.undecided:
            if at_start := self.throughput.seconds(start):
                factor *= mean(map(self.throughput.seconds, levels)) / at_start
        return factor * makespan(ahead, self.final_workers if stage.name == FINAL else self.workers, running)

    def _left(self, progress: _TrialProgress) -> float:
        later = progress.epochs - progress.epoch - 1
        return (
            0.0 if progress.ended else self._epoch_left(progress) + later * self.throughput.seconds(progress.workload)
        )

    def _epoch_left(self, progress: _TrialProgress) -> float:
        workload, seconds = progress.workload, self.throughput.seconds(progress.workload)
        if progress.ended:
            return 0.0
        if progress.step:
            return seconds * (1 - progress.step / workload.steps * workload.training_cost / workload.cost)
        if progress.epoch or self.workers == 1:
            overhead = 0.0 if progress.epoch else self._overhead(workload, progress.builds)
            return max(0.0, overhead + seconds - (self._now() - progress.epoch_began))
        return seconds

    def _trial_seconds(self, workload: EpochWorkload, epochs: int, builds: bool) -> float:
        seconds = self.throughput.seconds(workload)
        return epochs * seconds + self._overhead(workload, builds) if seconds else 0.0

    def _overhead(self, workload: EpochWorkload, builds: bool) -> float:
        """Predict the seconds before a trial's first epoch."""
        if builds:
            # A model is built and traced layer by layer.
            seconds, layers = self._startup
            return seconds * workload.layers / layers
        return mean(self._resets) if self._resets else 0.0

    def _models_at(self, stage: str) -> list[Hashable]:
        """Return the models that were built before a stage: a stage after the search has workers of its own."""
        return [] if self.workers > 1 and stage in AFTER_SEARCH and stage != self.stage else list(self._models)

    def _builds(self, model: Hashable, models: Sequence[Hashable]) -> bool:
        """Return whether a trial must build its model: each worker keeps its latest one."""
        return model not in models[-self.workers :]


def makespan(seconds: Iterable[float], workers: int, running: Iterable[float] = ()) -> float:
    """Return how long trials take on workers, the longest begun first (Graham's LPT rule).

    Example:
        >>> makespan([3, 2, 2], workers=2)
        4.0

    Args:
        seconds: Seconds of each trial that waits.
        workers: Trials at a time.
        running: Seconds left of each trial that has begun.
    """
    ends = [*running, *[0.0] * workers][:workers]
    heapq.heapify(ends)
    for trial in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + trial)
    return max(ends)
