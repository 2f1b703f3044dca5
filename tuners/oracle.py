"""Which configuration next? Sweeps one at a time, a barrier, then the learning-rate × epoch grid.

How a study survives a kill at any moment: a trial's file (`trial_*/trial.json`: its values, the history of
its metrics, its status) is written when the trial starts, after every epoch and when it ends. Every decision
of the search (who won a sweep, what runs next, which row is stopped) is derived from the trials and the seed,
never stored, so no two files can contradict each other. `oracle.json` holds the search space, which a resumed
study must share, and what KerasTuner's own tools look for; it is written before the first trial and at the end
of the search, so that a trial costs the same however many there are.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import keras_tuner
import numpy as np
from keras_tuner.engine.metrics_tracking import infer_metric_direction
from keras_tuner.engine.trial import Trial, TrialStatus

from tuners.errors import TunerError
from tuners.files import write_text
from tuners.hyperparameters import read_hyperparameters, show_hyperparameters
from tuners.space import COUPLED, STAGE, Grid, Plan, SearchSpace, Value, differences, key
from tuners.strategies import Progress, Search, Strategy, Tried, Wait, strategy
from tuners.table import Table, rows_in_order

ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)
SKIPPED = "SKIPPED"
"""The status of a sweep's only level, adopted without a run: there was nothing to compare it with."""

_OUR_STATE = "casual_grid"


@dataclass(frozen=True, slots=True)
class SweepLevel:
    """One level of one sweep.

    Attributes:
        parameter: The swept parameter.
        level: Its value here.
        epoch: The best epoch, counted from 1; None without a score.
        score: The objective at that epoch; NaN if the level failed or has not ended.
        chosen: Whether the search adopted this level.
        trial_id: The trial that ran it, perhaps for an earlier sweep; None if there was none.
        status: The trial's status as KerasTuner spells it, or "SKIPPED".
    """

    parameter: str
    level: Value
    epoch: int | None
    score: float
    chosen: bool
    trial_id: str | None
    status: str


@dataclass(frozen=True, slots=True)
class Best:
    """The best cell of the grid.

    Attributes:
        values: Every parameter; `epochs` is the horizon of the winning schedule, `stop_after` the winning
            epoch, so that a run of these values repeats the cell.
        learning_rate: The cell's row.
        epoch: The cell's column, counted from 1.
        score: The objective there.
        trial_id: The trial that reached it.
    """

    values: dict[str, Value]
    learning_rate: float
    epoch: int
    score: float
    trial_id: str


@dataclass(frozen=True, slots=True)
class ScoredCell:
    """One cell of the grid that was tried.

    Attributes:
        learning_rate: The cell's row.
        epoch: The cell's column, counted from 1.
        trial_id: The trial that reached it.
        metrics: All that its run reported after this epoch; the objective is NaN where the run diverged or
            failed.
    """

    learning_rate: float
    epoch: int
    trial_id: str
    metrics: dict[str, float]


class CasualGridOracle(keras_tuner.Oracle):
    """Sweeps independent parameters one at a time, then fills the learning-rate × epoch grid.

    A sweep runs all levels of one parameter, everything else held at the incumbent, and adopts the best (of
    equal levels the incumbent's, else the earlier) before the next sweep starts; its runs may go in parallel.
    When every sweep is decided, the grid runs under the final incumbent. A configuration is never run twice:
    where a later stage asks for one that an earlier stage has run, the earlier result counts.

    Where the grid need not be full, another `search` starts and stops its rows; see `tuners.strategies`.

    A level whose trial failed has no score and cannot win; if all levels failed, the incumbent stays. A trial
    that diverged (its objective is not a finite number) counts with the epochs before that.

    Not for parameters that depend on each other or on the learning rate: their best levels are looked for one
    at a time. Use KerasTuner's own oracles there.

    Example:

        >>> oracle = CasualGridOracle(
        ...     "val_accuracy",
        ...     learning_rates=[2e-5, 6e-6],
        ...     epochs=4,
        ...     sweeps={"batch_size": [16, 32]},
        ... )
        >>> oracle.plan().runs, oracle.plan().epochs, oracle.plan().full_product_epochs
        (4, 10, 16)

    Args:
        objective: The metric to search for; its direction is inferred for Keras's own metrics, others need
            `keras_tuner.Objective(name, direction)`.
        learning_rates: The rows of the grid.
        epochs: The columns of the grid, 1 to `epochs`.
        sweeps: The levels of every parameter to sweep, in order.
        start: The value of every parameter at the beginning, and the `learning_rate` of the sweeps. A swept
            parameter that is not named starts at its first level, the learning rate at the first of
            `learning_rates`. A start value that is no level of its sweep is not tried; the levels compete
            among themselves. A sweep of a single level is adopted without a run.
        sweep_epochs: Epochs of a run in a sweep.
        grid: "row" trains every learning rate once, over a schedule of all epochs, and scores it after each
            epoch; "independent" trains every cell by itself, over a schedule of its own, and counts its last
            epoch.
        hyperparameters: Another way to say all this: every discrete hyperparameter but `learning_rate` (a
            `Choice`) and `epochs` (an `Int` or `Choice`; its maximum counts) is a sweep, in order of
            registration, with its default as the start. The other arguments override what it says.
        seed: Kept with the study, which refuses to go on under another one; decides what a search draws. "grid" and
            "climb" draw nothing.
        search: How learning rate and epochs are searched: "grid" fills every cell; "climb", "asha", "bayes" and
            "genetic" leave cells out. Or a strategy with settings of one's own (`tuners.strategies.Climb(share=0.5)`).
        examples: Size of the dev split where the objective is a share of it: how noisy a score is.
        choose: Says which level of a sweep is adopted, given those with a score, the incumbent's first, then in their
            order; the first with the best score if None. It must say the same again when a study is resumed.

    Raises:
        TunerError: the space or the objective cannot be searched; the sentence says why.
    """

    def __init__(
        self,
        objective: str | keras_tuner.Objective,
        learning_rates: Sequence[float] | None = None,
        epochs: int | None = None,
        sweeps: Mapping[str, Sequence[Value]] | None = None,
        start: Mapping[str, Value] | None = None,
        sweep_epochs: int = 1,
        grid: Grid = "row",
        hyperparameters: keras_tuner.HyperParameters | None = None,
        seed: int | None = None,
        search: Search | Strategy = "grid",
        examples: int | None = None,
        choose: Callable[[Sequence[SweepLevel]], SweepLevel] | None = None,
    ) -> None:
        declared = read_hyperparameters(hyperparameters)
        rates = learning_rates if learning_rates is not None else declared.learning_rates
        horizon = epochs if epochs is not None else declared.epochs
        if rates is None or horizon is None:
            raise TunerError("a grid needs learning_rates and epochs: give both, or hyperparameters so named")
        self.search_space = SearchSpace.of(
            rates,
            horizon,
            sweeps if sweeps is not None else declared.sweeps,
            {**declared.start, **(start or {})},
            sweep_epochs,
            grid,
        )
        self._given_seed = seed
        self._choose = choose or self._best_level
        self._known_by: dict[str, Any] | None = None
        self._strategy = strategy(search, examples) if isinstance(search, str) else search
        if self._strategy is not None and self.search_space.grid != "row":
            raise TunerError(
                f"search {self._strategy.name} stops rows, and a grid of independent cells has none: "
                'choose grid "row", or search "grid"'
            )
        self._sweeps = self._swept()
        # The trial of every configuration, so that a look-up costs the same however many trials there are.
        self._trial_ids: dict[str, str] = {}
        super().__init__(
            objective=_objective(objective),
            hyperparameters=show_hyperparameters(self.search_space),
            seed=seed,
            # A learning rate or a batch size that fails says nothing about the next one.
            max_consecutive_failed_trials=sys.maxsize,
        )
        self._forget_derived()

    @classmethod
    def over(
        cls,
        space: SearchSpace,
        objective: str | keras_tuner.Objective,
        seed: int | None = None,
        search: Search | Strategy = "grid",
        examples: int | None = None,
        choose: Callable[[Sequence[SweepLevel]], SweepLevel] | None = None,
    ) -> Self:
        """The oracle of a space that was made before."""
        return cls(
            objective,
            space.learning_rates,
            space.epochs,
            space.sweeps,
            space.start,
            space.sweep_epochs,
            space.grid,
            seed=seed,
            search=search,
            examples=examples,
            choose=choose,
        )

    def narrow(
        self,
        space: SearchSpace,
        search: Search | Strategy = "grid",
        examples: int | None = None,
    ) -> None:
        """Restrict the search to a smaller space: fewer sweeps, learning rates or epochs, or another strategy.

        Call it while every trial so far is one of the smaller space's too. A resumed study must be narrowed in the
        same way. `oracle.json` keeps describing the space that the oracle was made for.

        Args:
            space: What to search; its start values are the oracle's.
            search: As for the oracle.
            examples: As for the oracle.
        """
        self._known_by = self._description()
        self.search_space = space
        self._strategy = strategy(search, examples) if isinstance(search, str) else search
        self._sweeps = self._swept()
        self._forget_derived()

    # What has been found

    @property
    def stage(self) -> str:
        """The stage that runs are handed out for now: `sweep:<parameter>` or `grid`."""
        self._decide()
        parameter = self._current_sweep()
        return "grid" if parameter is None else f"sweep:{parameter}"

    @property
    def incumbent(self) -> dict[str, Value]:
        """The value of every parameter as adopted so far, with the `learning_rate` that the search started from.

        Where the strategy varies the parameters itself, those of the best run so far.
        """
        self._decide()
        if self._strategy is None or self._strategy.sweeps or not self._coupled():
            return dict(self._incumbent)
        best = max(self._coupled().values(), key=lambda run: run.best)
        return {**self._incumbent, **{name: best.values[name] for name in self.search_space.sweeps}}

    @property
    def sweep_results(self) -> list[SweepLevel]:
        """The levels of all sweeps in their order, as far as the search has come."""
        self._decide()
        parameter = self._current_sweep()
        current = [] if parameter is None else [level for level in self._levels(parameter) if level.trial_id]
        return [*chain.from_iterable(self._decided), *current]

    def table(self) -> Table:
        """The learning-rate × epoch table under the incumbent; a cell that no run has reached is untried.

        A failed trial has no score anywhere; a diverged one has none from the diverged epoch on. Rates that the
        search has tried besides its space's stand among them in order.
        """
        space, trials = self.search_space, self._grid_trials()
        rates = rows_in_order(space.learning_rates, (float(run["learning_rate"]) for run, _ in trials))
        place = {rate: row for row, rate in enumerate(rates)}
        scores = np.full((len(rates), space.epochs), np.nan)
        tried = np.zeros(scores.shape, dtype=bool)
        for run, trial in trials:
            row = place[float(run["learning_rate"])]
            for epoch, score in self._cells(trial, int(run["stop_after"])):
                scores[row, epoch - 1], tried[row, epoch - 1] = score, True
        return Table(rates, space.epochs, scores, tried, self.objective.direction)

    def cells(self) -> list[ScoredCell]:
        """Every cell of the table that was tried, with all of its metrics, row by row."""
        found = []
        for run, trial in self._grid_trials():
            metrics: dict[int, dict[str, float]] = {}
            for name, history in trial.metrics.metrics.items():
                for seen in history.get_history():
                    metrics.setdefault(seen.step, {})[name] = float(seen.mean())
            for epoch, score in self._cells(trial, int(run["stop_after"])):
                cell = {**metrics.get(epoch, {}), self.objective.name: score}
                found.append(ScoredCell(float(run["learning_rate"]), epoch, trial.trial_id, cell))
        return found

    def best(self, place: tuple[float, int] | None = None) -> Best:
        """The best cell of the grid so far, or the one at a `place`, its learning rate and epoch.

        Raises:
            TunerError: no cell has a score.
        """
        cell = self.table().best() if place is None else self.table().cell(*place)
        run, trial = next(
            (run, trial)
            for run, trial in self._grid_trials()
            if run["learning_rate"] == cell.learning_rate and int(run["stop_after"]) >= cell.epoch
        )
        values = {**run, "stop_after": cell.epoch}
        return Best(values, cell.learning_rate, cell.epoch, cell.score, trial.trial_id)

    def history(self, trial: Trial) -> list[tuple[int, float]]:
        """Epoch (counted from 1) and objective of a trial so far; NaN where the objective was not finite."""
        if not trial.metrics.exists(self.objective.name):
            return []
        history = [(seen.step, float(seen.mean())) for seen in trial.metrics.get_history(self.objective.name)]
        return [(epoch, score if math.isfinite(score) else math.nan) for epoch, score in history]

    def plan(self) -> Plan:
        """What filling the grid costs if no run fails: `(stages, full_product_epochs)`; nothing is run for it.

        Another `search` trains its strategy's `most_epochs` at most in the place of the grid's.
        """
        return self.search_space.plan()

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The completed trials from the best on: those of the grid, then those of the sweeps alone.

        A sweep's runs have another horizon than the grid's, so their scores do not compare.
        """
        grid = self._coupled()
        sign = -1 if self.objective.direction == "max" else 1
        completed = [trial for trial in self.trials.values() if trial.status == TrialStatus.COMPLETED]
        completed.sort(key=lambda trial: (trial.trial_id not in grid, sign * trial.score))
        return completed[:num_trials]

    # KerasTuner's contract

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """Hands out what this tuner or a killed process left unfinished, else the stage's next run.

        KerasTuner's own copies the search space into every trial and writes all trials' names at each.
        """
        if not self.trials:
            # First of all, so that a folder with trials always says whose they are.
            self.save()
        if tuner_id in self.ongoing_trials:
            return self.ongoing_trials[tuner_id]
        self.tuner_ids.add(tuner_id)
        if self._retry_queue:
            trial = self.trials[self._retry_queue.pop()]
            trial.status = TrialStatus.RUNNING
        else:
            trial_id = f"{len(self.trials):04d}"
            response = self.populate_space(trial_id)
            hyperparameters = keras_tuner.HyperParameters()
            hyperparameters.values = response.get("values", {})
            trial = Trial(hyperparameters, trial_id, response["status"])
            if trial.status != TrialStatus.RUNNING:
                if trial.status == TrialStatus.STOPPED:
                    self.tuner_ids.remove(tuner_id)
                    self.save()
                return trial
            self.trials[trial_id] = trial
            self.start_order.append(trial_id)
            self._save_trial(trial)
        self.ongoing_trials[tuner_id] = trial
        self._display.on_trial_begin(trial)
        return trial

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next configuration of the current stage; IDLE while runs that it depends on are still going."""
        self._decide()
        parameter = self._current_sweep()
        if parameter is None and self._strategy is not None:
            return self._proposed(trial_id)
        while self._queue:
            run = self._queue.pop()
            if (configuration := key(run)) not in self._trial_ids:
                return self._started(trial_id, configuration, run, f"sweep:{parameter}" if parameter else "grid")
        return {"status": TrialStatus.STOPPED if parameter is None else TrialStatus.IDLE}

    def _proposed(self, trial_id: str) -> dict[str, Any]:
        """What the strategy wants to run next."""
        assert self._strategy is not None
        proposal = self._strategy.propose(self._progress())
        if proposal is None or isinstance(proposal, Wait):
            return {"status": TrialStatus.STOPPED if proposal is None else TrialStatus.IDLE}
        schedule = {"epochs": self.search_space.epochs, "stop_after": self.search_space.epochs}
        run = {**self._incumbent, **schedule, **proposal}
        assert key(run) not in self._trial_ids, f"{self._strategy.name} proposes {run} twice"
        return self._started(trial_id, key(run), run, "grid")

    def _started(self, trial_id: str, configuration: str, run: Mapping[str, Value], stage: str) -> dict[str, Any]:
        self._trial_ids[configuration] = trial_id
        if stage == "grid":
            self._coupled()[trial_id] = Tried(run, (), False)
        return {"status": TrialStatus.RUNNING, "values": {**run, STAGE: stage}}

    @keras_tuner.synchronized
    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Records the metrics of epoch `step`, and saves the trial.

        An epoch that a resumed run tells again as it was changes nothing; told otherwise, it replaces itself and all
        that came after.

        Returns:
            The trial; its status STOPPED, where the strategy wants no more of its epochs, ends the run.
        """
        trial = self.trials[trial_id]
        tracker = trial.metrics
        known = {
            name: seen.value
            for name, history in tracker.metrics.items()
            for seen in history.get_history()
            if seen.step == step
        }
        # As text, for NaN is not equal to itself.
        told = {name: [float(value)] for name, value in metrics.items()}
        if repr(sorted(known.items())) != repr(sorted(told.items())):
            for name, history in tracker.metrics.items():
                kept = type(history)(history.direction)
                kept.set_history([seen for seen in history.get_history() if seen.step < step])
                tracker.metrics[name] = kept
            for name, value in metrics.items():
                if not tracker.exists(name):
                    tracker.register(name, self.objective.direction if name == self.objective.name else None)
                tracker.metrics[name].update(float(value), step)
            self._save_trial(trial)
        if self._wants_no_more(trial, step):
            trial.status = TrialStatus.STOPPED
        return trial

    def _wants_no_more(self, trial: Trial, step: int) -> bool:
        """Whether the strategy stops the trial after its latest epoch; an earlier one, told again, was decided on."""
        if self._strategy is None or trial.trial_id not in self._coupled():
            return False
        run = self._coupled()[trial.trial_id] = self._tried(trial)
        latest, score = self.history(trial)[-1]
        return step == latest and not math.isnan(score) and self._strategy.stops(self._progress(), run)

    def score_trial(self, trial: Trial) -> None:
        """Scores by the best epoch (of equal ones the first), an independent cell of the grid by its last."""
        values = trial.hyperparameters.values
        if self.search_space.grid == "independent" and values[STAGE] == "grid":
            epoch, score = next(reversed(self.history(trial)), (None, math.nan))
        else:
            epoch, score = self._best_epoch(trial)
        trial.score, trial.best_step = score, epoch or 0
        if math.isnan(score):
            trial.message = trial.message or f"no epoch has a finite {self.objective.name}"

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Scores and saves an ended trial. A failed one is not tried again; the search goes on."""
        # A worker sends a copy of its own; of the values, what the oracle asked for is what counts.
        status, message = trial.status, trial.message
        trial = self.trials[trial.trial_id]
        trial.status, trial.message = status, message
        if trial.status == TrialStatus.COMPLETED:
            self.score_trial(trial)
            if math.isnan(trial.score):
                trial.status = TrialStatus.FAILED
        self.end_order.append(trial.trial_id)
        self._save_trial(trial)
        self._open.discard(key(trial.hyperparameters.values))
        if trial.trial_id in self._coupled():
            self._coupled()[trial.trial_id] = self._tried(trial)
        self._display.on_trial_end(trial)
        # Last, since the chief of KerasTuner's own distributed mode leaves when none is ongoing.
        for tuner in [tuner for tuner, ongoing in self.ongoing_trials.items() if ongoing is trial]:
            del self.ongoing_trials[tuner]

    # State

    def get_state(self) -> dict[str, Any]:
        """What `oracle.json` holds: KerasTuner's own state, and the search space under a key of ours."""
        state = super().get_state()
        # KerasTuner saves an ended trial as ongoing still, and would run it again.
        ongoing = {tuner: id_ for tuner, id_ in state["ongoing_trials"].items() if self._is_unfinished(id_)}
        return {**state, "ongoing_trials": ongoing, _OUR_STATE: self._description()}

    def save(self) -> None:
        """Writes `oracle.json`, whole or not at all."""
        write_text(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial: Trial) -> None:
        write_text(Path(self._get_trial_dir(trial.trial_id), "trial.json"), json.dumps(trial.get_state()))

    def reload(self) -> None:
        """Takes up the study in the project's folder: an unfinished trial runs on under its own id.

        Raises:
            TunerError: a file is damaged or missing, or belongs to another search.
        """
        path = Path(self._get_oracle_fname())
        state = _read_json(path)
        if not isinstance(state, dict) or not isinstance(state.get(_OUR_STATE), dict):
            raise TunerError(f"{path} is of another oracle: choose another project_name or overwrite=True")
        if differing := differences(state[_OUR_STATE], self._description()):
            raise TunerError(
                f"{path} belongs to a search with other settings, {'; '.join(differing)}: "
                "give those settings again, choose another project_name or overwrite=True"
            )
        try:
            self.trials = _read_trials(path.parent, state["start_order"])
            end = {trial_id: place for place, trial_id in enumerate(state["end_order"])}
            unfinished = [trial_id for trial_id in self.trials if self._is_unfinished(trial_id)]
            ended = [trial_id for trial_id in self.trials if not self._is_unfinished(trial_id)]
            # The trials know better: the process may have been killed between their files and this one.
            state["ongoing_trials"] = {}
            state["start_order"] = list(self.trials)
            state["end_order"] = sorted(ended, key=lambda trial_id: end.get(trial_id, len(end)))
            state["retry_queue"] = unfinished[::-1]  # KerasTuner takes from the end
            self.set_state(state)
        except (AttributeError, KeyError, TypeError) as error:
            raise TunerError(
                f"{path} lacks a part of KerasTuner's state ({error}): restore it from a copy, "
                "or start over with overwrite=True"
            ) from error
        self._trial_ids = {key(trial.hyperparameters.values): id_ for id_, trial in self.trials.items()}
        self._forget_derived()

    def _description(self) -> dict[str, Any]:
        if self._known_by is not None:
            return self._known_by
        description = {
            "objective": [self.objective.name, self.objective.direction],
            **self.search_space.describe(),
            "seed": self._given_seed,
        }
        # A study from before there were other searches names none.
        if self._strategy is not None:
            description["search"] = {"name": self._strategy.name, **self._strategy.describe()}
        return description

    # Decisions, derived from the trials

    def _forget_derived(self) -> None:
        """Begins with what is derived from the trials anew."""
        self._incumbent = dict(self.search_space.start)
        self._decided: list[list[SweepLevel]] = []
        # The runs of the coupled act by their trials, in the order of their start; known when all sweeps are decided.
        self._act: dict[str, Tried] | None = None
        self._begin_stage()

    def _begin_stage(self) -> None:
        """What is to be run in the current stage, and what has to end before it is decided."""
        parameter = self._current_sweep()
        if parameter is not None:
            runs = self.search_space.sweep_runs(parameter, self._incumbent)
        else:
            runs = self.search_space.grid_runs(self._incumbent) if self._strategy is None else []
        # Workers that share out runs of unlike length end sooner when the longest begin first.
        self._queue = sorted(runs, key=lambda run: -int(run["stop_after"]))[::-1]
        skipped = parameter is None or self.search_space.is_decided(parameter)
        self._open = set() if skipped else {key(run) for run in runs if not self._has_ended(run)}

    def _swept(self) -> tuple[str, ...]:
        """The parameters that are swept one at a time; none where the strategy varies them itself."""
        return tuple(self.search_space.sweeps) if self._strategy is None or self._strategy.sweeps else ()

    def _has_ended(self, run: Mapping[str, Value]) -> bool:
        trial = self._trial(run)
        return trial is not None and trial.status in ENDED

    @keras_tuner.synchronized
    def _decide(self) -> None:
        """Adopts the best level of every sweep whose runs have all ended."""
        while (parameter := self._current_sweep()) is not None and not self._open:
            levels = self._levels(parameter)
            winner = self._winner(levels)
            if winner is not None:
                self._incumbent[parameter] = winner.level
            self._decided.append([replace(level, chosen=level is winner) for level in levels])
            self._begin_stage()

    def _current_sweep(self) -> str | None:
        """The sweep that is not decided yet; None when the grid's turn has come."""
        return self._sweeps[len(self._decided)] if len(self._decided) < len(self._sweeps) else None

    def _levels(self, parameter: str) -> list[SweepLevel]:
        """All levels of the current sweep, none chosen; IDLE where no trial has started."""
        waiting = SKIPPED if self.search_space.is_decided(parameter) else TrialStatus.IDLE
        levels = []
        for run in self.search_space.sweep_runs(parameter, self._incumbent):
            trial = self._trial(run)
            epoch, score, status = None, math.nan, waiting
            if trial is not None:
                status = trial.status
                if status == TrialStatus.COMPLETED:
                    epoch, score = self._best_epoch(trial)
            trial_id = trial.trial_id if trial else None
            levels.append(SweepLevel(parameter, run[parameter], epoch, score, False, trial_id, status))
        return levels

    def _winner(self, levels: list[SweepLevel]) -> SweepLevel | None:
        """The level to adopt; None where all failed and the incumbent is none of them."""
        if len(levels) == 1:
            return levels[0]
        levels = sorted(levels, key=lambda level: level.level != self._incumbent[level.parameter])
        scored = [level for level in levels if not math.isnan(level.score)]
        if not scored:
            return levels[0] if levels[0].level == self._incumbent[levels[0].parameter] else None
        return self._choose(scored)

    def _best_level(self, scored: Sequence[SweepLevel]) -> SweepLevel:
        sign = 1 if self.objective.direction == "max" else -1
        return max(scored, key=lambda level: sign * level.score)

    def _trial(self, run: Mapping[str, Value]) -> Trial | None:
        return self.trials.get(self._trial_ids.get(key(run), ""))

    def _coupled(self) -> dict[str, Tried]:
        """The runs of the coupled act by their trials, in the order of their start; none before its turn has come."""
        self._decide()
        if self._current_sweep() is not None:
            return {}
        if self._act is None:
            self._act = {id_: self._tried(trial) for id_, trial in self.trials.items() if self._is_coupled(trial)}
        return self._act

    def _is_coupled(self, trial: Trial) -> bool:
        """Whether a trial is of the coupled act: asked for by it, or a sweep's that is one of the grid's runs."""
        values = trial.hyperparameters.values
        if values[STAGE] == "grid":
            return True
        horizons = (
            {self.search_space.epochs} if self.search_space.grid == "row" else range(self.search_space.epochs + 1)
        )
        settings = {name: value for name, value in values.items() if name not in (*COUPLED, STAGE)}
        incumbent = {name: value for name, value in self._incumbent.items() if name not in COUPLED}
        return (
            values["learning_rate"] in self.search_space.learning_rates
            and values["epochs"] in horizons
            and key(settings) == key(incumbent)
        )

    def _tried(self, trial: Trial) -> Tried:
        values = trial.hyperparameters.values
        sign = 1.0 if self.objective.direction == "max" else -1.0
        # What a failed run has told counts as spent, and for nothing else.
        sign = math.nan if trial.status == TrialStatus.FAILED else sign
        scores = tuple(sign * score for _, score in self.history(trial))
        return Tried(values, scores, trial.status in ENDED)

    def _progress(self) -> Progress:
        seed = self.seed if self._given_seed is None else self._given_seed
        return Progress(self.search_space, self._incumbent, list(self._coupled().values()), seed)

    def _grid_trials(self) -> list[tuple[dict[str, Value], Trial]]:
        """The runs of the table, row by row, each with its trial; none before the sweeps are decided."""
        settings = self.incumbent
        runs: dict[tuple[float, int], tuple[dict[str, Value], Trial]] = {}
        reached: dict[tuple[float, int], int] = {}
        for trial_id, tried in self._coupled().items():
            if trial_id not in self.trials or any(
                tried.values[name] != settings[name] for name in self.search_space.sweeps
            ):
                continue
            # Of two runs of one row, which differ in where they stop, the longer has all cells of the other.
            place = (tried.rate, int(tried.values["epochs"]))
            if len(tried.scores) > reached.get(place, -1):
                reached[place] = len(tried.scores)
                run = {name: value for name, value in tried.values.items() if name != STAGE}
                runs[place] = run, self.trials[trial_id]
        rates = rows_in_order(self.search_space.learning_rates, (rate for rate, _ in runs))
        order = {rate: row for row, rate in enumerate(rates)}
        return [runs[place] for place in sorted(runs, key=lambda place: (order[place[0]], place[1]))]

    def _cells(self, trial: Trial, stop_after: int) -> list[tuple[int, float]]:
        """The cells of the table that a trial of the grid has tried, as epoch and score."""
        row = self.search_space.grid == "row"
        history = [(epoch, score) for epoch, score in self.history(trial) if 1 <= epoch <= stop_after]
        if trial.status == TrialStatus.FAILED:
            return [(epoch, math.nan) for epoch in range(1 if row else stop_after, stop_after + 1)]
        if not row:
            return [(stop_after, history[-1][1])] if trial.status == TrialStatus.COMPLETED else []
        if history and math.isnan(history[-1][1]):
            # Nothing good comes after a diverged epoch, so the run has ended there.
            history += [(epoch, math.nan) for epoch in range(history[-1][0] + 1, stop_after + 1)]
        return history

    def _best_epoch(self, trial: Trial) -> tuple[int | None, float]:
        scored = [(epoch, score) for epoch, score in self.history(trial) if not math.isnan(score)]
        sign = 1 if self.objective.direction == "max" else -1
        return max(scored, key=lambda pair: sign * pair[1], default=(None, math.nan))

    def _is_unfinished(self, trial_id: str) -> bool:
        return self.trials[trial_id].status not in ENDED


def _objective(objective: str | keras_tuner.Objective) -> keras_tuner.Objective:
    if isinstance(objective, str):
        direction = infer_metric_direction(objective)
        if direction is None:
            raise TunerError(
                f"whether {objective} should be large or small is not known: "
                f'give keras_tuner.Objective("{objective}", "max") or "min"'
            )
        return keras_tuner.Objective(objective, direction)
    if not isinstance(objective, keras_tuner.Objective) or objective.direction not in ("max", "min"):
        raise TunerError(f"the objective must be the name of a metric or a keras_tuner.Objective, not {objective!r}")
    return objective


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TunerError(
            f"{path} cannot be read ({error}): restore it from a copy, or start over with overwrite=True"
        ) from error


def _read_trials(project: Path, started: Iterable[str]) -> dict[str, Trial]:
    """The trials of a project in the order of their start, which is that of their ids."""
    trials = {}
    for path in project.glob("trial_*/trial.json"):
        state = _read_json(path)
        try:
            trial = Trial.from_state(state)
            whole = path.parent.name == f"trial_{trial.trial_id}" and STAGE in trial.hyperparameters.values
        except (AttributeError, KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise TunerError(
                f"{path} is not a trial of a casual grid search: restore it from a copy, "
                "or start over with overwrite=True"
            )
        trials[trial.trial_id] = trial
    for trial_id in {*started, *(f"{number:04d}" for number in range(len(trials)))} - set(trials):
        raise TunerError(
            f"{project / f'trial_{trial_id}' / 'trial.json'} is missing: restore it from a copy, "
            "or start over with overwrite=True"
        )
    return dict(sorted(trials.items(), key=lambda item: int(item[0])))
