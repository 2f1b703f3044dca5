"""The seconds of a study: predicted from what has been measured of it, and how far off that was."""

import heapq
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from time import monotonic

from bertgrid_tf.results import StageTime

START = "start"
"""The time of no stage: TensorFlow starts, the checkpoint is read, the data are checked."""
FIRST_STEPS = 10
"""Training steps behind the first prediction."""
RECENT = 3
"""Latest epochs of a kind of work whose mean is its speed."""

# What training a layer costs beside its matrix products, from `scratch` models of 2 to 6 layers, 128 to 768 wide, on a
# CPU: element-wise operations count as additional width, a step's update of the weights as additional tokens, and
# launching its operations as multiplications.
ELEMENTWISE_WIDTH = 200
UPDATE_TOKENS = 80
OPERATIONS = 2_000_000
SCORING = 1 / 3
"""A forward pass relative to a forward and a backward one."""


@dataclass(frozen=True)
class Work:
    """One epoch of a configuration, as far as its time goes.

    Attributes:
        kind: What the seconds of a token depend on: model, layout, maximum length, batch size, batching …
        model: What must be built for it.
        layers: Number of layers.
        width: Their width.
        steps: Training steps.
        tokens: Tokens trained, without padding.
        scored: Tokens of the dev split.
    """

    kind: Hashable
    model: Hashable
    layers: int
    width: int
    steps: int
    tokens: float
    scored: float

    @property
    def training(self) -> float:
        """Cost of training, in multiplications of a layer's size."""
        tokens = self.tokens + self.steps * UPDATE_TOKENS
        return self.layers * (tokens * self._token + self.steps * OPERATIONS)

    @property
    def cost(self) -> float:
        """Cost of training and scoring."""
        return self.training + self.layers * self.scored * self._token * SCORING

    @property
    def _token(self) -> int:
        return self.width * (self.width + ELEMENTWISE_WIDTH)


@dataclass(frozen=True)
class StageWork:
    """One stage as planned.

    Attributes:
        name: `sweep:PARAMETER`, `grid`, `repeats`, `audit` or `final`.
        runs: Of each run, the work of an epoch and the number of epochs.
        at_most: Whether it is open which runs there will be, `runs` being the most epochs of them.
        undecided: Of every earlier sweep without a winner, the work at its start and at each level. Any of them may
            win, so the stage is predicted at their mean.
    """

    name: str
    runs: tuple[tuple[Work, int], ...]
    at_most: bool = False
    undecided: tuple[tuple[Work, tuple[Work, ...]], ...] = ()


class Throughput:
    """The speed of every kind of work."""

    def __init__(self) -> None:
        self._measured: dict[Hashable, list[tuple[Work, float]]] = {}
        self._guessed: dict[Hashable, list[tuple[Work, float]]] = {}

    def measure(self, work: Work, seconds: float) -> None:
        """Record the seconds of an epoch."""
        # Put at the end, so that the kind measured last is known.
        self._measured[work.kind] = [*self._measured.pop(work.kind, []), (work, seconds)][-RECENT:]

    def guess(self, work: Work, seconds: float) -> None:
        """Record the seconds of an epoch, estimated from a few steps or with the tracing of the model in them; they
        count until the kind is measured."""
        self._guessed.pop(work.kind, None)
        self._guessed[work.kind] = [(work, seconds)]

    def seconds(self, work: Work) -> float | None:
        """Predict the seconds of an epoch; None before anything was measured.

        A kind that was not measured yet is derived, by the ratio of the costs, from the last one of the same model,
        else from the last of all.
        """
        seen = [*self._guessed.values(), *self._measured.values()]
        if not seen:
            return None
        nearest = max(
            enumerate(seen), key=lambda one: (one[1][0][0].kind == work.kind, one[1][0][0].model == work.model, one[0])
        )[1]
        return work.cost * sum(seconds for _, seconds in nearest) / sum(done.cost for done, _ in nearest)


@dataclass
class _Run:
    """A run that has begun.

    Attributes:
        loads: Whether its model had to be built.
        began, scored, heard: When it began, was last scored, last reported.
        epoch: Epochs scored.
        trained: Whether an epoch was trained in this process, rather than restored.
        first, last: When the running epoch's first and latest step ended, and their numbers.
    """

    stage: str
    work: Work
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
        """Return the mean of the running epoch's steps but the first, in which the model may be traced."""
        if self.first is None or self.last[1] == self.first[1]:
            return None
        return (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


class TimeEstimator:
    """Measures a study's time, and predicts what is left of it.

    An epoch takes its work's cost times the seconds per cost that were measured for its kind (`Throughput`); a run
    takes its epochs and, before the first of them, the reset of the model or, where another one is needed, building
    and tracing it. Runs beside one another are laid out on the workers, the longest first.

    Attributes:
        workers: Number of runs at a time.
        throughput: The speed of every kind of work.
        restored: Whether the latest epoch was trained earlier.

    Args:
        began: When this session began, by `now`; this moment if None.
        workers: Number of runs at a time.
        earlier: What the study's earlier sessions have measured.
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
        self._runs: dict[str, _Run] = {}
        self._loaded: list[Hashable] = []
        self._startup: tuple[float, int] = (0.0, 1)
        self._resets: list[float] = []

    # What happens

    def expect(self, stages: Sequence[StageWork], anew: bool = False) -> None:
        """Announce all stages of the study in order, as planned now.

        Args:
            stages: Those that are over do not matter.
            anew: Whether what was predicted of the stages before is dropped.
        """
        self._expected = {stage.name: stage for stage in stages}
        for stage in stages:
            self._times.setdefault(stage.name, StageTime(stage.name))
        if anew:
            for time in self._times.values():
                time.at_beginning = time.after_first_epoch = None
            self._predict(self._stage)

    def recall(self, run: str, stage: str, work: Work, epochs: int, seconds: Sequence[float]) -> None:
        """Record a run that ended in an earlier session, with the seconds of its epochs."""
        now = self._now()
        self._runs[run] = _Run(stage, work, epochs, False, now, now, now, len(seconds), ended=True)
        for number, lasting in enumerate(seconds):
            # In a session's first epoch the model may have been traced.
            (self.throughput.measure if number else self.throughput.guess)(work, lasting)

    def begin(self, run: str, stage: str, work: Work, epochs: int) -> None:
        """Record that a run begins, or goes on."""
        now = self._now()
        if stage != self._stage:
            self.times()
            self._stage = stage
        self._runs.pop(run, None)
        active = [other for other in self._runs.values() if not other.ended]
        if len(active) >= self.workers:
            # It was ended before its last epoch.
            min(active, key=lambda other: other.heard).ended = True
        # Of workers, each builds its model with its first run.
        loads = self._loads(work.model, self._loaded) or len(self._loaded) < self.workers
        self._runs[run] = _Run(stage, work, epochs, loads, now, now, now)
        self._loaded.append(work.model)
        self._predict(stage)

    def step(self, run: str, done: int) -> None:
        """Record the end of the `done`-th training step of a run's epoch."""
        begun, now = self._runs[run], self._now()
        begun.heard, begun.last = now, (now, done)
        begun.first = begun.first or begun.last
        if not begun.trained and (step := begun.step_seconds()) is not None:
            self.throughput.guess(begun.work, self._epoch_of(begun.work, step))
        if done == FIRST_STEPS:
            self._predict(begun.stage)

    def epoch(self, run: str, epoch: int, seconds: float, diverged: bool = False) -> None:
        """Record that an epoch of a run was scored: now or, where no step came before, in an earlier session or by a
        worker.

        Args:
            run: Its name.
            epoch: Counted from 1.
            seconds: As reported with the epoch.
            diverged: Whether the run ends with it.
        """
        begun, now = self._runs[run], self._now()
        self.restored = begun.first is None and now - begun.scored < seconds / 2
        seconds, sure = self._measured(begun, epoch, seconds, now)
        if not diverged:
            (self.throughput.measure if sure else self.throughput.guess)(begun.work, seconds)
        if not begun.epoch and (begun.first or self.workers > 1):
            self._prepared(begun, max(0.0, now - begun.began - seconds))
        begun.trained = begun.first is not None
        begun.epoch, begun.first, begun.scored, begun.heard = epoch, None, now, now
        begun.ended = diverged or epoch == begun.epochs
        self._predict(begun.stage)

    def _measured(self, run: _Run, epoch: int, seconds: float, now: float) -> tuple[float, bool]:
        """Return an epoch's seconds, and whether they are sure to be without building and tracing."""
        if run.first is None:
            # Restored, or a worker's: it may have been the first of its process.
            return seconds, epoch > 1
        if run.trained:
            return now - run.scored, True
        if (step := run.step_seconds()) is None:
            return seconds, not run.loads
        # Where the model's training was traced, its scoring was too.
        return (self._epoch_of(run.work, step) if run.loads else now - run.first[0] + step), True

    # What it takes

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

    def run_left(self, run: str) -> float | None:
        """Return the seconds until a run's end."""
        begun = self._runs[run]
        return 0.0 if begun.ended else self._run_left(begun)

    def epoch_left(self, run: str) -> float | None:
        """Return the seconds until the end of a run's epoch."""
        begun = self._runs[run]
        return 0.0 if begun.ended else self._epoch_left(begun)

    def run_seconds(self, work: Work, epochs: int) -> float | None:
        """Predict the seconds of a run that would begin now."""
        return self._run_seconds(work, epochs, self._loads(work.model, self._loaded))

    def seconds(self, stages: Iterable[StageWork]) -> float | None:
        """Predict the seconds of whole stages."""
        return _sum(self._laid_out(stage, stage.runs, ()) for stage in stages)

    def times(self) -> list[StageTime]:
        """Return what every stage was predicted to take, and took up to now."""
        now = self._now()
        self._times.setdefault(self._stage, StageTime(self._stage)).measured += now - self._counted
        self._counted = now
        return list(self._times.values())

    def _predict(self, stage: str) -> None:
        """Predict a stage as it begins, and all of them after the first epoch."""
        if stage in self._expected and self._times[stage].at_beginning is None:
            self._times[stage].at_beginning = self._total(stage)
        scored = any(run.epoch for run in self._runs.values())
        if scored and all(self._times[name].after_first_epoch is None for name in self._expected):
            for name in self._expected:
                self._times[name].after_first_epoch = self._total(name)

    def _total(self, stage: str) -> float | None:
        self.times()
        return _sum([self._times[stage].measured, self._stage_left(stage)])

    def _stage_left(self, name: str) -> float | None:
        stage = self._expected[name]
        begun = [run for run in self._runs.values() if run.stage == name]
        waiting = list(stage.runs)
        for run in begun:
            if waiting:
                as_planned = (run.work, run.epochs)
                waiting.remove(as_planned if as_planned in waiting else waiting[0])
        return self._laid_out(stage, waiting, begun)

    def _laid_out(self, stage: StageWork, waiting: Iterable[tuple[Work, int]], begun: Sequence[_Run]) -> float | None:
        """Return the seconds of a stage's waiting runs and of what is left of those that have begun."""
        under_way: list[float | None] = []
        lasting: list[float | None] = []
        if stage.at_most:
            planned = _sum(self._run_seconds(work, epochs, False) for work, epochs in stage.runs)
            done = _sum(self._run_seconds(run.work, run.epoch, False) for run in begun)
            lasting = [None if planned is None or done is None else max(0.0, planned - done) / self.workers]
        else:
            under_way = [self._run_left(run) for run in begun if not run.ended]
            loaded = list(self._loaded)
            for work, epochs in waiting:
                lasting.append(self._run_seconds(work, epochs, self._loads(work.model, loaded)))
                loaded.append(work.model)
        factor = 1.0
        for start, levels in stage.undecided:
            if at_start := self.throughput.seconds(start):
                factor *= mean(self.throughput.seconds(level) or 0 for level in levels) / at_start
        if None in lasting or None in under_way:
            return None
        return factor * makespan(filter(None, lasting), self.workers, filter(None, under_way))

    def _run_left(self, run: _Run) -> float | None:
        return _sum([self._epoch_left(run), *[self.throughput.seconds(run.work)] * (run.epochs - run.epoch - 1)])

    def _epoch_left(self, run: _Run) -> float | None:
        seconds = self.throughput.seconds(run.work)
        if seconds is None:
            return None
        if run.first is not None:
            return seconds * (1 - run.last[1] / run.work.steps * run.work.training / run.work.cost)
        if run.epoch or self.workers == 1:
            begun = 0.0 if run.epoch else self._overhead(run.work, run.loads)
            return max(0.0, begun + seconds - (self._now() - run.scored))
        return seconds

    def _run_seconds(self, work: Work, epochs: int, loads: bool) -> float | None:
        seconds = self.throughput.seconds(work)
        return None if seconds is None else epochs * seconds + self._overhead(work, loads)

    def _overhead(self, work: Work, loads: bool) -> float:
        """Return the seconds before a run's first epoch."""
        if loads:
            # A model is built and traced layer by layer.
            seconds, layers = self._startup
            return seconds * work.layers / layers
        return mean(self._resets) if self._resets else 0.0

    def _prepared(self, run: _Run, seconds: float) -> None:
        if run.loads:
            self._startup = seconds, run.work.layers
        else:
            self._resets.append(seconds)

    def _loads(self, model: Hashable, loaded: Sequence[Hashable]) -> bool:
        """Return whether a run must build its model: a worker keeps one at a time, its last, and several build theirs
        in the time of one."""
        return model not in loaded[-self.workers :]

    @staticmethod
    def _epoch_of(work: Work, step: float) -> float:
        return step * work.steps * work.cost / work.training


def makespan(seconds: Iterable[float], workers: int, begun: Iterable[float] = ()) -> float:
    """Return how long runs take on workers, the longest begun first (Graham's LPT rule).

    Args:
        seconds: Of each run.
        workers: Their number.
        begun: Seconds left of each run that a worker carries already.
    """
    ends = [*begun, *[0.0] * workers][:workers]
    heapq.heapify(ends)
    for lasting in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + lasting)
    return max(ends)


def _sum(seconds: Iterable[float | None]) -> float | None:
    """Return the sum; None where one is not known."""
    known = list(seconds)
    return None if None in known else sum(one for one in known if one is not None)
