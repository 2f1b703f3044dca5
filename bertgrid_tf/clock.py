"""What a study takes, in seconds: predicted from what has been measured of it, and how far off that was."""

import heapq
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from time import monotonic

START = "start"
"""The time of no stage: TensorFlow starts, the checkpoint is read, the data are checked."""
FIRST_STEPS = 10
"""So many training steps are a first prediction's ground."""
RECENT = 3
"""So many epochs of a kind, the latest, say how fast it is now."""

# What training a layer costs beside its matrix products, from `scratch` models of 2 to 6 layers, 128 to 768 wide, on a
# CPU: element-wise work counts as so much more width, a step's update of the weights as so many more tokens, and the
# starting of its operations as so many multiplications.
ELEMENTWISE_WIDTH = 200
UPDATE_TOKENS = 80
OPERATIONS = 2_000_000
SCORING = 1 / 3
"""A forward pass in relation to a forward and a backward one."""


@dataclass(frozen=True)
class Work:
    """One epoch of a configuration, as far as its time goes.

    Attributes:
        kind: what the seconds of a token are a property of: model, layout, maximum length, batch size, batching …
        model: what must be built for it.
        layers, width: its size.
        steps: of training.
        tokens: trained, without padding.
        scored: tokens of the dev split.
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
        """What training costs, in multiplications of a layer's size: where nothing of a kind is measured yet, it is
        predicted from another kind by the ratio of their costs."""
        tokens = self.tokens + self.steps * UPDATE_TOKENS
        return self.layers * (tokens * self._token + self.steps * OPERATIONS)

    @property
    def cost(self) -> float:
        """What training and scoring cost."""
        return self.training + self.layers * self.scored * self._token * SCORING

    @property
    def _token(self) -> int:
        return self.width * (self.width + ELEMENTWISE_WIDTH)


@dataclass(frozen=True)
class StageWork:
    """One stage as planned.

    Attributes:
        name: `sweep:PARAMETER`, `grid` or `final`.
        runs: the work of an epoch and the number of epochs of each.
        at_most: whether which runs there will be is open, and `runs` says how many epochs they train at most.
        undecided: of every sweep that comes before and is not decided: the work at its start, then at each level. Since
            any of them may win, what comes after is predicted at their mean.
    """

    name: str
    runs: tuple[tuple[Work, int], ...]
    at_most: bool = False
    undecided: tuple[tuple[Work, tuple[Work, ...]], ...] = ()


@dataclass
class StageTime:
    """What a stage was predicted to take and took, over all sessions, in seconds (a line of `clock.csv`).

    Attributes:
        stage: its name.
        at_beginning: predicted when it began; of the first, after its first steps.
        after_first_epoch: predicted after the first epoch of the study.
        measured: so far; what a killed session spent on an epoch that it did not finish is not known.
    """

    stage: str
    at_beginning: float | None = None
    after_first_epoch: float | None = None
    measured: float = 0.0


class Pace:
    """How fast which kind of work goes."""

    def __init__(self) -> None:
        self._measured: dict[Hashable, list[tuple[Work, float]]] = {}
        self._guessed: dict[Hashable, list[tuple[Work, float]]] = {}

    def measure(self, work: Work, seconds: float) -> None:
        """An epoch of this work took so long."""
        # Put at the end, so that the kind measured last is known.
        self._measured[work.kind] = [*self._measured.pop(work.kind, []), (work, seconds)][-RECENT:]

    def guess(self, work: Work, seconds: float) -> None:
        """As `measure`, where the time is only about right: of a few steps, or of an epoch in which the model was
        traced. It counts until there is better of the same kind."""
        self._guessed.pop(work.kind, None)
        self._guessed[work.kind] = [(work, seconds)]

    def seconds(self, work: Work) -> float | None:
        """What an epoch of this work will take; None before anything was measured.

        A kind that was not measured yet is derived from the last one of the same model, else from the last of all.
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
    """A run that has begun: `epoch` of its epochs are scored, and `steps` of the next one's steps trained.

    `loads`: whether its model had to be built. `trained`: whether it has trained an epoch in this process, rather than
    told it again. `first`: when the first step of the running epoch had ended, and its number; `last`: the latest.
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
        """The mean of the running epoch's steps but the first, in which the model may be traced."""
        if self.first is None or self.last[1] == self.first[1]:
            return None
        return (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


class Clock:
    """Keeps a study's time, and predicts what is left of it.

    It is told of all that happens (`expect`, `begin`, `step`, `epoch`) and asks for the time itself. An epoch's
    seconds are its work's cost times the seconds per cost that were measured for its kind (`Pace`); a run's are those
    of its epochs and of what comes before the first: putting the model back or, where another one is needed, building
    and tracing it. Runs beside one another are laid out on the workers, the longest first.

    Attributes:
        workers: runs at a time.
        pace: how fast which work goes.
        told_again: whether the latest epoch was trained earlier and has only been told again.
    """

    def __init__(
        self,
        began: float | None = None,
        workers: int = 1,
        earlier: Iterable[StageTime] = (),
        now: Callable[[], float] = monotonic,
    ) -> None:
        """
        Args:
            began: when this session began, by `now`; this moment if None.
            workers: runs at a time.
            earlier: what the study's earlier sessions have measured.
            now: the time in seconds.
        """
        self.workers = workers
        self.pace = Pace()
        self._now = now
        self._counted = now() if began is None else began
        self._stage = START
        self._times = {time.stage: time for time in (StageTime(START), *earlier)}
        self._expected: dict[str, StageWork] = {}
        self._runs: dict[str, _Run] = {}
        self._loaded: list[Hashable] = []
        self._startup: tuple[float, int] = (0.0, 1)
        self._resets: list[float] = []
        self.told_again = False

    # What happens

    def expect(self, stages: Sequence[StageWork]) -> None:
        """All stages of the study in order, as they are planned now; those that are over do not matter."""
        self._expected = {stage.name: stage for stage in stages}
        for stage in stages:
            self._times.setdefault(stage.name, StageTime(stage.name))

    def recall(self, run: str, stage: str, work: Work, epochs: int, seconds: Sequence[float]) -> None:
        """A run ended in an earlier session; its epochs took so many seconds each."""
        now = self._now()
        self._runs[run] = _Run(stage, work, epochs, False, now, now, now, len(seconds), ended=True)
        for number, lasting in enumerate(seconds):
            # In a session's first epoch the model may have been traced.
            (self.pace.measure if number else self.pace.guess)(work, lasting)

    def begin(self, run: str, stage: str, work: Work, epochs: int) -> None:
        """A run begins, or goes on where an earlier session stopped."""
        now = self._now()
        if stage != self._stage:
            self.times()
            self._stage = stage
        active = [other for other in self._runs.values() if not other.ended]
        if len(active) >= self.workers:
            # It ended without a word, before its last epoch.
            min(active, key=lambda other: other.heard).ended = True
        # Of workers, each builds its model with its first run.
        loads = self._loads(work.model, self._loaded) or len(self._loaded) < self.workers
        self._runs[run] = _Run(stage, work, epochs, loads, now, now, now)
        self._loaded.append(work.model)
        self._predict(stage)

    def forget(self, run: str) -> None:
        """A run counts no more as one of its stage's, and what was predicted of the stages is predicted anew; what the
        run has shown stays known."""
        del self._runs[run]
        for time in self._times.values():
            time.at_beginning = time.after_first_epoch = None

    def step(self, run: str, done: int) -> None:
        """The `done`-th training step of a run's epoch has ended."""
        told, now = self._runs[run], self._now()
        told.heard, told.last = now, (now, done)
        told.first = told.first or told.last
        if not told.trained and (step := told.step_seconds()) is not None:
            self.pace.guess(told.work, self._epoch_of(told.work, step))
        if done == FIRST_STEPS:
            self._predict(told.stage)

    def epoch(self, run: str, epoch: int, seconds: float, diverged: bool = False) -> None:
        """An epoch of a run has been scored: now or, where no step came before it, in an earlier session or by a
        worker, who says how many seconds it took."""
        told, now = self._runs[run], self._now()
        self.told_again = told.first is None and now - told.scored < seconds / 2
        seconds, sure = self._measured(told, epoch, seconds, now)
        if not diverged:
            (self.pace.measure if sure else self.pace.guess)(told.work, seconds)
        if not told.epoch and (told.first or self.workers > 1):
            self._prepared(told, max(0.0, now - told.began - seconds))
        told.trained = told.first is not None
        told.epoch, told.first, told.scored, told.heard = epoch, None, now, now
        told.ended = diverged or epoch == told.epochs
        self._predict(told.stage)
        if all(self._times[name].after_first_epoch is None for name in self._expected):
            for name in self._expected:
                self._times[name].after_first_epoch = self._total(name)

    def _measured(self, run: _Run, epoch: int, seconds: float, now: float) -> tuple[float, bool]:
        """An epoch's seconds without building and tracing, and whether they are sure to be without."""
        if run.first is None:
            # Told by a worker or again: it may have been its process's first.
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
        """The stage that the study is in."""
        return self._stage

    def elapsed(self) -> float:
        """Seconds of all sessions so far."""
        return sum(time.measured for time in self.times())

    def ahead(self) -> list[tuple[StageWork, float]]:
        """The stages that are not over, each with its seconds that are left; none before anything was measured."""
        names = list(self._expected)
        names = names[names.index(self._stage) :] if self._stage in names else names
        known = [(self._expected[name], self._stage_left(name)) for name in names]
        return [(stage, seconds) for stage, seconds in known if seconds is not None]

    def left(self) -> float | None:
        """Seconds until the study's end; None before anything was measured."""
        ahead = self.ahead()
        return sum(seconds for _, seconds in ahead) if ahead or not self._expected else None

    def share(self) -> float | None:
        """How much of the study's time is over."""
        left, elapsed = self.left(), self.elapsed()
        return None if left is None else elapsed / max(elapsed + left, 1e-9)

    def run_left(self, run: str) -> float | None:
        """Seconds until a run's end."""
        told = self._runs[run]
        return 0.0 if told.ended else self._run_left(told)

    def epoch_left(self, run: str) -> float | None:
        """Seconds until the end of a run's epoch."""
        told = self._runs[run]
        return 0.0 if told.ended else self._epoch_left(told)

    def run_seconds(self, work: Work, epochs: int) -> float | None:
        """Seconds of a run that would begin now."""
        return self._run_seconds(work, epochs, self._loads(work.model, self._loaded))

    def seconds(self, stages: Iterable[StageWork]) -> float | None:
        """Seconds of stages from their beginning."""
        return _sum(self._laid_out(stage, stage.runs, ()) for stage in stages)

    def times(self) -> list[StageTime]:
        """What every stage was predicted to take and took, up to now."""
        now = self._now()
        self._times.setdefault(self._stage, StageTime(self._stage)).measured += now - self._counted
        self._counted = now
        return list(self._times.values())

    def _predict(self, stage: str) -> None:
        if stage in self._expected and self._times[stage].at_beginning is None:
            self._times[stage].at_beginning = self._total(stage)

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
        """Seconds of the runs of a stage that wait and of what is left of those that have begun."""
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
            if at_start := self.pace.seconds(start):
                factor *= mean(self.pace.seconds(level) or 0 for level in levels) / at_start
        if None in lasting or None in under_way:
            return None
        return factor * makespan(filter(None, lasting), self.workers, filter(None, under_way))

    def _run_left(self, run: _Run) -> float | None:
        return _sum([self._epoch_left(run), *[self.pace.seconds(run.work)] * (run.epochs - run.epoch - 1)])

    def _epoch_left(self, run: _Run) -> float | None:
        seconds = self.pace.seconds(run.work)
        if seconds is None:
            return None
        if run.first is not None:
            return seconds * (1 - run.last[1] / run.work.steps * run.work.training / run.work.cost)
        if run.epoch or self.workers == 1:
            begun = 0.0 if run.epoch else self._overhead(run.work, run.loads)
            return max(0.0, begun + seconds - (self._now() - run.scored))
        return seconds

    def _run_seconds(self, work: Work, epochs: int, loads: bool) -> float | None:
        seconds = self.pace.seconds(work)
        return None if seconds is None else epochs * seconds + self._overhead(work, loads)

    def _overhead(self, work: Work, loads: bool) -> float:
        """Seconds before a run's first epoch."""
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
        """Whether a run must build its model: a worker keeps one at a time, its last. What several build beside one
        another takes no longer than the first."""
        return model not in loaded[-self.workers :]

    @staticmethod
    def _epoch_of(work: Work, step: float) -> float:
        return step * work.steps * work.cost / work.training


def makespan(seconds: Iterable[float], workers: int, begun: Iterable[float] = ()) -> float:
    """How long runs of so many seconds take on so many workers, the longest begun first (Graham's LPT rule), where some
    of the workers have runs already that take so long yet."""
    ends = [*begun, *[0.0] * workers][:workers]
    heapq.heapify(ends)
    for lasting in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + lasting)
    return max(ends)


def _sum(seconds: Iterable[float | None]) -> float | None:
    """The sum; None where one is not known."""
    known = list(seconds)
    return None if None in known else sum(one for one in known if one is not None)
