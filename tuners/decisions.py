"""Decisions of a search, derived from its trials: sweep winners, the incumbent, the table and its best cell.

Nothing here is stored: the same trials and the same seed give the same decisions, so a study killed at any moment
resumes as if it had not been, and no two files can contradict each other.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from keras_tuner import Objective
from keras_tuner.engine.trial import Trial, TrialStatus

from tuners.space import COUPLED, STAGE, SearchSpace, Value, key
from tuners.state import ENDED
from tuners.strategies import Idle, ObservedTrial, SearchState, Strategy, Surface
from tuners.table import Table, rows_in_order

SKIPPED = "SKIPPED"
"""Status of a sweep's only level, adopted without a trial."""


@dataclass(frozen=True, slots=True)
class SweepLevel:
    """One level of one sweep.

    Attributes:
        parameter: The swept parameter.
        level: Value of the parameter.
        epoch: Best epoch, counted from 1; None without a score.
        score: Objective at that epoch; NaN if the level failed or has not ended.
        chosen: Whether the search adopted this level.
        trial_id: Trial of this configuration, perhaps of an earlier sweep; None without one.
        status: The trial's status as KerasTuner spells it, or "SKIPPED".
        overruled: Whether the search would have adopted this level, which was added after later stages had been trained
            with the chosen one.
    """

    parameter: str
    level: Value
    epoch: int | None
    score: float
    chosen: bool
    trial_id: str | None
    status: str
    overruled: bool = False


Choose = Callable[[Sequence[SweepLevel]], SweepLevel]


@dataclass(frozen=True, slots=True)
class Best:
    """The best cell of the grid.

    Attributes:
        hyperparameters: Value of every parameter, with the winning `schedule_epochs` and, as `stop_epoch`, the winning
            epoch; training with them reproduces the cell.
        learning_rate: Row of the cell.
        epoch: Column of the cell, counted from 1.
        score: Objective of the cell.
        trial_id: Trial that reached the cell.
    """

    hyperparameters: dict[str, Value]
    learning_rate: float
    epoch: int
    score: float
    trial_id: str


@dataclass(frozen=True, slots=True)
class ScoredCell:
    """One cell of the grid that was tried.

    Attributes:
        learning_rate: Row of the cell.
        epoch: Column of the cell, counted from 1.
        trial_id: Trial that reached the cell.
        metrics: All metrics of the trial after this epoch; the objective is NaN where it diverged or failed.
    """

    learning_rate: float
    epoch: int
    trial_id: str
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class MissingTrial:
    """A trial that a search has still to begin or to end.

    Attributes:
        stage: `sweep:<parameter>` or `grid`.
        hyperparameters: Value of every parameter, with its schedule.
        epochs: Epochs that it has still to train.
    """

    stage: str
    hyperparameters: Mapping[str, Value]
    epochs: int


def stage_of(trial: Trial) -> str:
    """Return the stage that a trial was started for."""
    return str(trial.hyperparameters.values[STAGE])


class Decisions:
    """The decisions that follow from the trials of a search.

    Args:
        space: Search space.
        strategy: Strategy of the learning-rate × epoch search; None fills every cell.
        trials: The oracle's trials by id, updated by the oracle.
        objective: Objective.
        seed: Seed of the strategy's random draws.
        choose: Returns the level of a sweep to adopt, see `CasualGridOracle`.
        adopted: The level that a sweep adopts whatever the scores, since later stages have been trained with it.
    """

    def __init__(
        self,
        space: SearchSpace,
        strategy: Strategy | None,
        trials: Mapping[str, Trial],
        objective: Objective,
        seed: int,
        choose: Choose | None,
        adopted: Mapping[str, Value],
    ) -> None:
        self.space = space
        self.strategy = strategy
        self.trials = trials
        self._objective = objective
        self._sign = 1 if objective.direction == "max" else -1
        self._seed = seed
        self._choose = choose or (lambda scored: max(scored, key=lambda level: self._sign * level.score))
        self._adopted = adopted
        # A strategy may vary the parameters of the sweeps itself.
        self._sweeps = tuple(space.sweeps) if strategy is None or strategy.sweeps else ()
        # The tuner's thread decides, any other may read.
        self._lock = threading.RLock()
        # Caches, so that a report and a new trial cost the same however many trials there are.
        self._trial_ids = {key(trial.hyperparameters.values): id_ for id_, trial in trials.items()}
        self._incumbent = dict(space.start)
        self._decided: list[list[SweepLevel]] = []
        self._observed: dict[str, ObservedTrial] | None = None
        self._begin_stage()

    @property
    def stage(self) -> str:
        """See `CasualGridOracle.stage`."""
        self._decide()
        parameter = self._current_sweep()
        return "grid" if parameter is None else f"sweep:{parameter}"

    @property
    def incumbent(self) -> dict[str, Value]:
        """See `CasualGridOracle.incumbent`."""
        self._decide()
        if len(self._sweeps) == len(self.space.sweeps) or not self.observed():
            return dict(self._incumbent)
        best = max(self.observed().values(), key=lambda trial: trial.best)
        return {**self._incumbent, **{name: best.hyperparameters[name] for name in self.space.sweeps}}

    @property
    def sweep_results(self) -> list[SweepLevel]:
        """See `CasualGridOracle.sweep_results`."""
        self._decide()
        parameter = self._current_sweep()
        current = [] if parameter is None else [level for level in self._levels(parameter) if level.trial_id]
        return [*chain.from_iterable(self._decided), *current]

    def table(self) -> Table:
        """See `CasualGridOracle.table`."""
        rows = self._rows()
        rates = rows_in_order(self.space.learning_rates, (row.rate for row, _ in rows))
        scores = np.full((len(rates), self.space.epochs), np.nan)
        tried = np.zeros(scores.shape, dtype=bool)
        for row, trial in rows:
            for epoch, score in self._cells(trial, row.stop_epoch):
                place = rates.index(row.rate), epoch - 1
                scores[place], tried[place] = score, True
        return Table(rates, self.space.epochs, scores, tried, self._objective.direction)

    def cells(self) -> list[ScoredCell]:
        """See `CasualGridOracle.cells`."""
        cells = []
        for row, trial in self._rows():
            metrics: dict[int, dict[str, float]] = {}
            for name, history in trial.metrics.metrics.items():
                for seen in history.get_history():
                    metrics.setdefault(seen.step, {})[name] = float(seen.mean())
            for epoch, score in self._cells(trial, row.stop_epoch):
                cell = {**metrics.get(epoch, {}), self._objective.name: score}
                cells.append(ScoredCell(row.rate, epoch, trial.trial_id, cell))
        return cells

    def best(self, place: tuple[float, int] | None = None) -> Best:
        """See `CasualGridOracle.best`."""
        cell = self.table().best() if place is None else self.table().cell(*place)
        rows = self._rows()
        row, trial = next(
            pair for pair in rows if pair[0].rate == cell.learning_rate and pair[0].stop_epoch >= cell.epoch
        )
        hyperparameters = {name: value for name, value in row.hyperparameters.items() if name != STAGE}
        hyperparameters["stop_epoch"] = cell.epoch
        return Best(hyperparameters, cell.learning_rate, cell.epoch, cell.score, trial.trial_id)

    def tied_probability(self) -> float | None:
        """See `CasualGridOracle.tied_probability`."""
        if not isinstance(self.strategy, Surface) or not any(trial.best_epoch for trial in self.observed().values()):
            return None
        return self.strategy.tied_probability(self._state())

    def history(self, trial: Trial) -> list[tuple[int, float]]:
        """See `CasualGridOracle.history`."""
        if not trial.metrics.exists(self._objective.name):
            return []
        history = [(seen.step, float(seen.mean())) for seen in trial.metrics.get_history(self._objective.name)]
        return [(epoch, score if math.isfinite(score) else math.nan) for epoch, score in history]

    def score(self, trial: Trial) -> tuple[int | None, float]:
        """Return the epoch and score that a trial counts with: its best, or its last where each cell has a trial."""
        if self.space.grid_schedule == "per-cell" and stage_of(trial) == "grid":
            return next(reversed(self.history(trial)), (None, math.nan))
        scored = [(epoch, score) for epoch, score in self.history(trial) if not math.isnan(score)]
        return max(scored, key=lambda pair: self._sign * pair[1], default=(None, math.nan))

    def ranked(self) -> list[Trial]:
        """See `CasualGridOracle.get_best_trials`."""
        grid = self.observed()
        completed = [trial for trial in self.trials.values() if trial.status == TrialStatus.COMPLETED]
        return sorted(completed, key=lambda trial: (trial.trial_id not in grid, -self._sign * trial.score))

    def propose(self, trial_id: str) -> dict[str, Value] | str:
        """Return the hyperparameters of the next trial, with its stage, or the status IDLE or STOPPED."""
        self._decide()
        parameter = self._current_sweep()
        if parameter is None and self.strategy is not None:
            proposal = self.strategy.propose(self._state())
            if proposal is None or isinstance(proposal, Idle):
                return TrialStatus.STOPPED if proposal is None else TrialStatus.IDLE
            schedule = {"schedule_epochs": self.space.epochs, "stop_epoch": self.space.epochs}
            hyperparameters = {**self._incumbent, **schedule, **proposal}
            assert key(hyperparameters) not in self._trial_ids, f"{self.strategy.name} proposes {hyperparameters} twice"
            return self._started(trial_id, hyperparameters, "grid")
        while self._queue:
            hyperparameters = self._queue.pop()
            if key(hyperparameters) not in self._trial_ids:
                return self._started(trial_id, hyperparameters, f"sweep:{parameter}" if parameter else "grid")
        return TrialStatus.STOPPED if parameter is None else TrialStatus.IDLE

    def missing(self) -> tuple[list[MissingTrial], int]:
        """See `CasualGridOracle.missing`."""
        self._decide()
        missing = [
            MissingTrial(str(values[STAGE]), values, int(values["stop_epoch"]) - len(self.history(trial)))
            for trial in self.trials.values()
            if trial.status not in ENDED
            for values in (trial.hyperparameters.values,)
        ]
        known, incumbent = set(self._trial_ids), dict(self._incumbent)

        def add(stage: str, trials: Iterable[Mapping[str, Value]]) -> None:
            new = [trial for trial in trials if key(trial) not in known]
            known.update(map(key, new))
            missing.extend(MissingTrial(stage, trial, int(trial["stop_epoch"])) for trial in new)

        for parameter in self._sweeps[len(self._decided) :]:
            if not self.space.is_decided(parameter):
                add(f"sweep:{parameter}", self.space.sweep_trials(parameter, incumbent))
            if incumbent[parameter] not in self.space.sweeps[parameter]:
                incumbent[parameter] = self.space.sweeps[parameter][0]
            incumbent[parameter] = self._adopted.get(parameter, incumbent[parameter])
        if self.strategy is None:
            add("grid", self.space.grid_trials(incumbent))
            return missing, 0
        if self._current_sweep() is None and self.strategy.propose(self._state()) is None:
            return missing, 0
        spent = sum(len(trial.scores) for trial in self.observed().values())
        return missing, max(self.strategy.max_epochs(self.space) - spent, 0)

    def adopted(self, sweeps: Sequence[str]) -> dict[str, Value]:
        """Return the value of every parameter with which a stage after its sweep has begun to train.

        Args:
            sweeps: Parameters of the sweeps in order, perhaps more than the space's own; one without a sweep so far has
                the start's value.
        """
        self._decide()
        if self.strategy is not None and not self.strategy.sweeps:
            return {}
        stages = [*(f"sweep:{parameter}" for parameter in sweeps), "grid"]
        begun = max(
            (stages.index(stage) for stage in map(stage_of, self.trials.values()) if stage in stages), default=0
        )
        undecided = self._sweeps[len(self._decided) :]
        before = (parameter for parameter in sweeps[:begun] if parameter not in undecided)
        return {**self._adopted, **{parameter: self._incumbent[parameter] for parameter in before}}

    def is_due(self, trial: Trial) -> bool:
        """Return whether a trial that has begun may go on: one of the grid waits for sweeps that have grown."""
        self._decide()
        values = trial.hyperparameters.values
        return self._current_sweep() is None or stage_of(trial) != "grid" or key(values) in self._open

    def _started(self, trial_id: str, hyperparameters: dict[str, Value], stage: str) -> dict[str, Value]:
        self._trial_ids[key(hyperparameters)] = trial_id
        if stage == "grid":
            self.observed()[trial_id] = ObservedTrial(hyperparameters, (), False)
        return {**hyperparameters, STAGE: stage}

    def reported(self, trial: Trial, epoch: int) -> bool:
        """Take an epoch of a trial into account; returns whether the strategy stops the trial after it."""
        if self.strategy is None or trial.trial_id not in self.observed():
            return False
        observed = self.observed()[trial.trial_id] = self._observe(trial)
        latest, score = self.history(trial)[-1]
        # An earlier epoch that a resumed trial reports was decided on before.
        return epoch == latest and not math.isnan(score) and self.strategy.should_stop(self._state(), observed)

    def ended(self, trial: Trial) -> None:
        """Take the end of a trial into account, or that it is to be retried."""
        if trial.status in ENDED:
            self._open.discard(key(trial.hyperparameters.values))
        if trial.trial_id in self.observed():
            self.observed()[trial.trial_id] = self._observe(trial)

    def _begin_stage(self) -> None:
        """Queue the configurations of the current stage, and note which of them must end before it is decided."""
        parameter = self._current_sweep()
        if parameter is not None:
            stage = self.space.sweep_trials(parameter, self._incumbent)
        else:
            stage = self.space.grid_trials(self._incumbent) if self.strategy is None else []
        # Workers with trials of unlike length end sooner when the longest start first.
        self._queue = sorted(stage, key=lambda hyperparameters: -int(hyperparameters["stop_epoch"]))[::-1]
        skipped = parameter is None or self.space.is_decided(parameter)
        self._open = (
            set()
            if skipped
            else {key(hyperparameters) for hyperparameters in stage if not self._has_ended(hyperparameters)}
        )

    def _has_ended(self, hyperparameters: Mapping[str, Value]) -> bool:
        trial = self._trial(hyperparameters)
        return trial is not None and trial.status in ENDED

    def _decide(self) -> None:
        """Adopt the best level of every sweep whose trials have all ended."""
        with self._lock:
            while (parameter := self._current_sweep()) is not None and not self._open:
                levels = self._levels(parameter)
                winner = self._winner(levels)
                if parameter in self._adopted:
                    self._incumbent[parameter] = self._adopted[parameter]
                elif winner is not None:
                    self._incumbent[parameter] = winner.level
                self._decided.append([self._decided_level(level, winner) for level in levels])
                self._begin_stage()

    def _decided_level(self, level: SweepLevel, winner: SweepLevel | None) -> SweepLevel:
        if level.parameter not in self._adopted:
            return replace(level, chosen=level is winner)
        chosen = level.level == self._adopted[level.parameter]
        return replace(level, chosen=chosen, overruled=level is winner and not chosen)

    def _current_sweep(self) -> str | None:
        """Return the first undecided sweep; None in the grid's stage."""
        return self._sweeps[len(self._decided)] if len(self._decided) < len(self._sweeps) else None

    def _levels(self, parameter: str) -> list[SweepLevel]:
        """List all levels of the current sweep, none chosen; IDLE where no trial has started."""
        if self.space.is_decided(parameter):
            # Whether or not a trial of another stage has this configuration, and has begun by now.
            (level,) = self.space.sweeps[parameter]
            return [SweepLevel(parameter, level, None, math.nan, False, None, SKIPPED)]
        levels = []
        for hyperparameters in self.space.sweep_trials(parameter, self._incumbent):
            trial = self._trial(hyperparameters)
            epoch, score = None, math.nan
            if trial is not None and trial.status == TrialStatus.COMPLETED:
                epoch, score = self.score(trial)
            trial_id, status = (trial.trial_id, trial.status) if trial is not None else (None, TrialStatus.IDLE)
            levels.append(SweepLevel(parameter, hyperparameters[parameter], epoch, score, False, trial_id, status))
        return levels

    def _winner(self, levels: list[SweepLevel]) -> SweepLevel | None:
        """Return the level to adopt; None where all failed and the incumbent is none of them."""
        if len(levels) == 1:
            return levels[0]
        levels = sorted(levels, key=lambda level: level.level != self._incumbent[level.parameter])
        scored = [level for level in levels if not math.isnan(level.score)]
        if not scored:
            return levels[0] if levels[0].level == self._incumbent[levels[0].parameter] else None
        return self._choose(scored)

    def _trial(self, hyperparameters: Mapping[str, Value]) -> Trial | None:
        return self.trials.get(self._trial_ids.get(key(hyperparameters), ""))

    def observed(self) -> dict[str, ObservedTrial]:
        """Return the trials of the grid by id, in the order of their start; none before the sweeps are decided."""
        self._decide()
        if self._current_sweep() is not None:
            return {}
        if self._observed is None:
            of_grid = (trial for trial in self.trials.values() if self._is_of_grid(trial))
            self._observed = {trial.trial_id: self._observe(trial) for trial in of_grid}
        return self._observed

    def _is_of_grid(self, trial: Trial) -> bool:
        """Whether a trial is of the grid: started for it, or a sweep's trial with a configuration of the grid."""
        hyperparameters = trial.hyperparameters.values
        if stage_of(trial) == "grid":
            return True
        horizons = {self.space.epochs} if self.space.grid_schedule == "shared" else range(self.space.epochs + 1)
        parameters = {name: value for name, value in hyperparameters.items() if name not in (*COUPLED, STAGE)}
        incumbent = {name: value for name, value in self._incumbent.items() if name not in COUPLED}
        return (
            hyperparameters["learning_rate"] in self.space.learning_rates
            and hyperparameters["schedule_epochs"] in horizons
            and key(parameters) == key(incumbent)
        )

    def _observe(self, trial: Trial) -> ObservedTrial:
        # The epochs of a failed trial are spent, and count for nothing else.
        sign = math.nan if trial.status == TrialStatus.FAILED else float(self._sign)
        scores = tuple(sign * score for _, score in self.history(trial))
        return ObservedTrial(trial.hyperparameters.values, scores, trial.status in ENDED)

    def _state(self) -> SearchState:
        return SearchState(self.space, self._incumbent, list(self.observed().values()), self._seed)

    def _rows(self) -> list[tuple[ObservedTrial, Trial]]:
        """List the trials of every row (or cell) under the incumbent, in order."""
        incumbent = self.incumbent
        rows: dict[tuple[float, int], tuple[ObservedTrial, Trial]] = {}
        for trial_id, observed in self.observed().items():
            if trial_id not in self.trials or any(
                observed.hyperparameters[name] != incumbent[name] for name in self.space.sweeps
            ):
                continue
            # Of two trials of one row, which differ in where they stop, the longer has all cells of the other.
            place = (observed.rate, int(observed.hyperparameters["schedule_epochs"]))
            if place not in rows or len(observed.scores) > len(rows[place][0].scores):
                rows[place] = observed, self.trials[trial_id]
        rates = rows_in_order(self.space.learning_rates, (rate for rate, _ in rows))
        return [rows[place] for place in sorted(rows, key=lambda place: (rates.index(place[0]), place[1]))]

    def _cells(self, trial: Trial, stop_epoch: int) -> list[tuple[int, float]]:
        """List the tried cells of a trial of the grid, as epoch and score."""
        row = self.space.grid_schedule == "shared"
        history = [(epoch, score) for epoch, score in self.history(trial) if 1 <= epoch <= stop_epoch]
        if trial.status == TrialStatus.FAILED:
            return [(epoch, math.nan) for epoch in range(1 if row else stop_epoch, stop_epoch + 1)]
        if not row:
            return [(stop_epoch, history[-1][1])] if trial.status == TrialStatus.COMPLETED else []
        if history and math.isnan(history[-1][1]):
            # A trial ends at its first diverged epoch, and the later ones would have diverged too.
            history += [(epoch, math.nan) for epoch in range(history[-1][0] + 1, stop_epoch + 1)]
        return history
