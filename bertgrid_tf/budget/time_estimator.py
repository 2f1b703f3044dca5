"""The seconds of a study: measured so far, and predicted from that for the rest."""

import heapq
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean
from time import monotonic

from bertgrid_tf.storage.records import StageTime
from bertgrid_tf.training.workload import EpochWorkload

START = "start"
"""The stage before the first: TensorFlow starts, the checkpoint is read, the data are checked."""
REPORT = "report"
"""The stage of all analyses and reports, the last in the table of times."""
FIRST_STEPS = 10
"""Training steps behind the first prediction."""
RECENT = 3
"""Latest epochs of a kind of workload whose mean is its speed."""


@dataclass(frozen=True)
class StageWork:
    """One stage as planned.

    Attributes:
        name: Its name (`trial_config`).
        trials: Of each trial, the workload of an epoch and the number of epochs.
        at_most: Whether the trials are open, and the epochs of `trials` are their upper bound.
        undecided: Of every earlier sweep without a winner, the workload at its start and at each level. Any level may
            win, so the stage is predicted at their mean.
    """

    name: str
    trials: tuple[tuple[EpochWorkload, int], ...]
    at_most: bool = False
    undecided: tuple[tuple[EpochWorkload, tuple[EpochWorkload, ...]], ...] = ()


class Throughput:
    """The speed of every kind of workload."""

    def __init__(self) -> None:
        self._measured: dict[Hashable, list[tuple[EpochWorkload, float]]] = {}
        self._guessed: dict[Hashable, list[tuple[EpochWorkload, float]]] = {}

    def measure(self, work: EpochWorkload, seconds: float) -> None:
        """Record the seconds of an epoch."""
        # Put at the end, so that the kind measured last is known.
        self._measured[work.kind] = [*self._measured.pop(work.kind, []), (work, seconds)][-RECENT:]

    def guess(self, work: EpochWorkload, seconds: float) -> None:
        """Record the seconds of an epoch by a few of its steps or with tracing; they count until it is measured."""
        self._guessed.pop(work.kind, None)
        self._guessed[work.kind] = [(work, seconds)]

    def seconds(self, work: EpochWorkload) -> float | None:
        """Predict the seconds of an epoch; None before anything was measured.

        A kind without a measurement is derived, by the ratio of the costs, from the last kind of the same model, else
        from the last of all.
        """
        known = [*self._guessed.values(), *self._measured.values()]
        if not known:
            return None
        # Reversed, since `max` returns the first of equally near kinds.
        nearest = max(reversed(known), key=lambda seen: (seen[0][0].kind == work.kind, seen[0][0].model == work.model))
        return work.cost * sum(seconds for _, seconds in nearest) / sum(done.cost for done, _ in nearest)


@dataclass
class _Trial:
    """A trial that has begun.

    Attributes:
        loads: Whether its model had to be built.
        began, scored, heard: Times of its beginning, its latest score and its latest report.
        epoch: Epochs scored.
        trained: Whether an epoch was trained in this process, rather than restored.
        first, last: Time and number of the current epoch's first and latest step.
    """

    stage: str
    work: EpochWorkload
    epochs: int
    loads: bool
    began: float
    scored: float
    heard: float
    epoch: int = 0
    trained: bool = False
    ended: bool = False
    first: tuple[float, int] | None = None
    last: tuple[float, int] = (0.0, 0)

    def step_seconds(self) -> float | None:
        """Return the mean of the current epoch's steps but the first, in which the model may be traced."""
        if self.first is None or self.last[1] == self.first[1]:
            return None
        return (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


class TimeEstimator:
    """Measures a study's time, and predicts what is left of it.

    An epoch takes its workload's cost times the seconds per cost that were measured for its kind (`Throughput`); a
    trial takes its epochs and, before the first of them, the reset of the model or, where another model is needed, its
    building and tracing. Trials in parallel are laid out on the workers, the longest first.

    Attributes:
        workers: Number of trials at a time.
        throughput: The speed of every kind of workload.
        restored: Whether the latest epoch was trained earlier.

    Args:
        began: When this session began, by `now`; this moment if None.
        workers: Number of trials at a time.
        earlier: The times of the study's earlier sessions.
        now: Returns the time in seconds.
    """

    def __init__(
        self,
        began: float | None = None,
        workers: int = 1,
        earlier: Iterable[StageTime] = (),
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.workers = workers
        self.throughput = Throughput()
        self.restored = False
        self._now = now
        self._counted = now() if began is None else began
        self._stage = START
        self._times = {time.stage: time for time in (StageTime(START), *earlier)}
        self._expected: dict[str, StageWork] = {}
        self._trials: dict[str, _Trial] = {}
        self._loaded: list[Hashable] = []
        self._startup: tuple[float, int] = (0.0, 1)
        self._resets: list[float] = []

    # Events

    def expect(self, stages: Sequence[StageWork], anew: bool = False) -> None:
        """Announce all stages of the study in order, as planned now.

        Args:
            stages: The stages; those that are over do not matter.
            anew: Whether to drop the earlier predictions.
        """
        self._expected = {stage.name: stage for stage in stages}
        for stage in stages:
            self._times.setdefault(stage.name, StageTime(stage.name))
        if anew:
            for time in self._times.values():
                time.at_beginning = time.after_first_epoch = None
            self._predict(self._stage)

    def recall(self, trial: str, stage: str, work: EpochWorkload, epochs: int, seconds: Sequence[float]) -> None:
        """Record a trial that ended in an earlier session, with the seconds of its epochs."""
        now = self._now()
        self._trials[trial] = _Trial(stage, work, epochs, False, now, now, now, len(seconds), ended=True)
        for number, lasting in enumerate(seconds):
            # In a session's first epoch the model may have been traced.
            (self.throughput.measure if number else self.throughput.guess)(work, lasting)

    def begin(self, trial: str, stage: str, work: EpochWorkload, epochs: int) -> None:
        """Record that a trial begins or resumes."""
        now = self._now()
        if stage != self._stage:
            self.times()
            self._stage = stage
        self._trials.pop(trial, None)
        active = [other for other in self._trials.values() if not other.ended]
        if len(active) >= self.workers:
            # The trial was stopped before its last epoch.
            min(active, key=lambda other: other.heard).ended = True
        # Every worker builds its model with its first trial.
        loads = self._loads(work.model, self._loaded) or len(self._loaded) < self.workers
        self._trials[trial] = _Trial(stage, work, epochs, loads, now, now, now)
        self._loaded.append(work.model)
        self._predict(stage)

    def step(self, trial: str, done: int) -> None:
        """Record the end of training step `done` (from 1) of a trial's epoch."""
        current, now = self._trials[trial], self._now()
        current.heard, current.last = now, (now, done)
        current.first = current.first or current.last
        if not current.trained and (step := current.step_seconds()) is not None:
            self.throughput.guess(current.work, self._epoch_of(current.work, step))
        if done == FIRST_STEPS:
            self._predict(current.stage)

    def epoch(self, trial: str, epoch: int, seconds: float, diverged: bool = False) -> None:
        """Record the score of an epoch: of now or, without steps before it, of a worker or an earlier session.

        Args:
            trial: The name of the trial.
            epoch: The epoch, from 1.
            seconds: As reported with the epoch.
            diverged: Whether the trial ends with it.
        """
        current, now = self._trials[trial], self._now()
        self.restored = current.first is None and now - current.scored < seconds / 2
        seconds, sure = self._measured(current, epoch, seconds, now)
        if not diverged:
            (self.throughput.measure if sure else self.throughput.guess)(current.work, seconds)
        if not current.epoch and (current.first or self.workers > 1):
            self._prepared(current, max(0.0, now - current.began - seconds))
        current.trained = current.first is not None
        current.epoch, current.first, current.scored, current.heard = epoch, None, now, now
        current.ended = diverged or epoch == current.epochs
        self._predict(current.stage)

    def _measured(self, trial: _Trial, epoch: int, seconds: float, now: float) -> tuple[float, bool]:
        """Return the seconds of an epoch, and whether they surely exclude building and tracing."""
        if trial.first is None:
            # Of an earlier session or a worker, whose first epoch it may have been.
            return seconds, epoch > 1
        if trial.trained:
            return now - trial.scored, True
        if (step := trial.step_seconds()) is None:
            return seconds, not trial.loads
        # With the training of the model, its evaluation was traced too.
        return (self._epoch_of(trial.work, step) if trial.loads else now - trial.first[0] + step), True

    # Predictions

    @property
    def stage(self) -> str:
        """The current stage."""
        return self._stage

    def elapsed(self) -> float:
        """Return the seconds of all sessions so far."""
        return sum(time.measured for time in self.times())

    def ahead(self) -> list[tuple[StageWork, float]]:
        """Return the stages that are not over, each with its seconds left; none before anything was measured."""
        names = list(self._expected)
        names = names[names.index(self._stage) :] if self._stage in names else names
        known = [(self._expected[name], self._stage_left(name)) for name in names]
        return [(stage, seconds) for stage, seconds in known if seconds is not None]

    def left(self) -> float | None:
        """Return the seconds until the study's end; None before anything was measured."""
        ahead = self.ahead()
        return sum(seconds for _, seconds in ahead) if ahead or not self._expected else None

    def share(self) -> float | None:
        """Return the fraction of the study's time that is over."""
        left, elapsed = self.left(), self.elapsed()
        return None if left is None else elapsed / max(elapsed + left, 1e-9)

    def run_left(self, trial: str) -> float | None:
        """Return the seconds until the end of a trial."""
        return self._left_of(self._trials[trial])

    def epoch_left(self, trial: str) -> float | None:
        """Return the seconds until the end of a trial's epoch."""
        return self._epoch_left(self._trials[trial])

    def trial_seconds(self, work: EpochWorkload, epochs: int) -> float | None:
        """Predict the seconds of a trial that would begin now."""
        return self._trial_seconds(work, epochs, self._loads(work.model, self._loaded))

    def seconds(self, stages: Iterable[StageWork]) -> float | None:
        """Predict the seconds of whole stages."""
        return _sum(self._laid_out(stage, stage.trials, ()) for stage in stages)

    def times(self) -> list[StageTime]:
        """Return predicted and measured time of every stage up to now."""
        now = self._now()
        self._times.setdefault(self._stage, StageTime(self._stage)).measured += now - self._counted
        self._counted = now
        return sorted(self._times.values(), key=lambda time: time.stage == REPORT)

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Count the time of the block as that of a stage that trains nothing, unless no trial has begun."""
        if self._stage == START:
            yield
            return
        self.times()
        current, self._stage = self._stage, stage
        try:
            yield
        finally:
            self.times()
            self._stage = current

    def _predict(self, stage: str) -> None:
        """Predict a stage as it begins, and all of them after the first epoch."""
        if stage in self._expected and self._times[stage].at_beginning is None:
            self._times[stage].at_beginning = self._total(stage)
        scored = any(trial.epoch for trial in self._trials.values())
        if scored and all(self._times[name].after_first_epoch is None for name in self._expected):
            for name in self._expected:
                self._times[name].after_first_epoch = self._total(name)

    def _total(self, stage: str) -> float | None:
        self.times()
        return _sum([self._times[stage].measured, self._stage_left(stage)])

    def _stage_left(self, name: str) -> float | None:
        stage = self._expected[name]
        begun = [trial for trial in self._trials.values() if trial.stage == name]
        waiting = list(stage.trials)
        for trial in begun:
            if waiting:
                as_planned = (trial.work, trial.epochs)
                waiting.remove(as_planned if as_planned in waiting else waiting[0])
        return self._laid_out(stage, waiting, begun)

    def _laid_out(
        self, stage: StageWork, waiting: Iterable[tuple[EpochWorkload, int]], begun: Sequence[_Trial]
    ) -> float | None:
        """Return the seconds of a stage's waiting trials, and of the rest of the trials that have begun."""
        under_way: list[float | None] = []
        lasting: list[float | None] = []
        if stage.at_most:
            planned = _sum(self._trial_seconds(work, epochs, False) for work, epochs in stage.trials)
            done = _sum(self._trial_seconds(trial.work, trial.epoch, False) for trial in begun)
            lasting = [None if planned is None or done is None else max(0.0, planned - done) / self.workers]
        else:
            under_way = [self._left_of(trial) for trial in begun]
            loaded = list(self._loaded)
            for work, epochs in waiting:
                lasting.append(self._trial_seconds(work, epochs, self._loads(work.model, loaded)))
                loaded.append(work.model)
        factor = 1.0
        for start, levels in stage.undecided:
            if at_start := self.throughput.seconds(start):
                factor *= mean(self.throughput.seconds(level) or 0 for level in levels) / at_start
        if None in lasting or None in under_way:
            return None
        return factor * makespan(filter(None, lasting), self.workers, filter(None, under_way))

    def _left_of(self, trial: _Trial) -> float | None:
        later = 0 if trial.ended else trial.epochs - trial.epoch - 1
        return _sum([self._epoch_left(trial), *[self.throughput.seconds(trial.work)] * later])

    def _epoch_left(self, trial: _Trial) -> float | None:
        if trial.ended:
            return 0.0
        if (seconds := self.throughput.seconds(trial.work)) is None:
            return None
        if trial.first is not None:
            return seconds * (1 - trial.last[1] / trial.work.steps * trial.work.training_cost / trial.work.cost)
        if trial.epoch or self.workers == 1:
            begun = 0.0 if trial.epoch else self._overhead(trial.work, trial.loads)
            return max(0.0, begun + seconds - (self._now() - trial.scored))
        return seconds

    def _trial_seconds(self, work: EpochWorkload, epochs: int, loads: bool) -> float | None:
        seconds = self.throughput.seconds(work)
        return None if seconds is None else epochs * seconds + self._overhead(work, loads)

    def _overhead(self, work: EpochWorkload, loads: bool) -> float:
        """Return the seconds before the first epoch of a trial."""
        if loads:
            # A model is built and traced layer by layer.
            seconds, layers = self._startup
            return seconds * work.layers / layers
        return mean(self._resets) if self._resets else 0.0

    def _prepared(self, trial: _Trial, seconds: float) -> None:
        if trial.loads:
            self._startup = seconds, trial.work.layers
        else:
            self._resets.append(seconds)

    def _loads(self, model: Hashable, loaded: Sequence[Hashable]) -> bool:
        """Return whether a trial must build its model, as a worker keeps only its last.

        Several workers build their models in the time of one.
        """
        return model not in loaded[-self.workers :]

    @staticmethod
    def _epoch_of(work: EpochWorkload, step: float) -> float:
        return step * work.steps * work.cost / work.training_cost


def makespan(seconds: Iterable[float], workers: int, begun: Iterable[float] = ()) -> float:
    """Return the seconds that trials take on workers, the longest first (Graham's LPT rule, 1969).

    Example:
        >>> makespan([2, 3, 4], workers=2)
        5.0

    Args:
        seconds: Seconds of each trial.
        workers: Number of workers.
        begun: Seconds left of each trial that a worker has begun.
    """
    ends = [*begun, *[0.0] * workers][:workers]
    heapq.heapify(ends)
    for lasting in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + lasting)
    return max(ends)


def _sum(seconds: Iterable[float | None]) -> float | None:
    """Return the sum; None where a summand is unknown."""
    known = list(seconds)
    return None if None in known else sum(one for one in known if one is not None)
