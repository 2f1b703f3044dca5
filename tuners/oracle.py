"""Which configuration next? Sweeps one at a time, a barrier, then the learning-rate × epoch grid.

How a study survives a kill at any moment: a trial's file (`trial_*/trial.json`: its values, the history of
its metrics, its status) is written when the trial starts, after every epoch and when it ends. Every decision
of the search (who won a sweep, what runs next) is derived from the trials, never stored, so no two files can
contradict each other. `oracle.json` holds the search space, which a resumed study must share, and what
KerasTuner's own tools look for; it is written before the first trial and when a trial starts or ends.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.metrics_tracking import infer_metric_direction
from keras_tuner.engine.trial import Trial, TrialStatus

from tuners.errors import TunerError
from tuners.files import write_text
from tuners.hyperparameters import read_hyperparameters, show_hyperparameters
from tuners.space import STAGE, Grid, Plan, SearchSpace, Value, differences, key
from tuners.table import Table

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
        seed: Kept with the study, which refuses to go on under another one; the search itself draws nothing.

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
        # The trial of every configuration, so that a look-up costs the same however many trials there are.
        self._trial_ids: dict[str, str] = {}
        self._incumbent = dict(self.search_space.start)
        self._decided: list[list[SweepLevel]] = []
        super().__init__(
            objective=_objective(objective),
            hyperparameters=show_hyperparameters(self.search_space),
            seed=seed,
            # A learning rate or a batch size that fails says nothing about the next one.
            max_consecutive_failed_trials=sys.maxsize,
        )

    @classmethod
    def over(
        cls, space: SearchSpace, objective: str | keras_tuner.Objective, seed: int | None = None
    ) -> "CasualGridOracle":
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
        )

    # What has been found

    @property
    def incumbent(self) -> dict[str, Value]:
        """The value of every parameter as adopted so far, with the `learning_rate` of the sweeps."""
        self._decide()
        return dict(self._incumbent)

    @property
    def sweep_results(self) -> list[SweepLevel]:
        """The levels of all sweeps in their order, as far as the search has come."""
        self._decide()
        parameter = self._current_sweep()
        current = [] if parameter is None else [level for level in self._levels(parameter) if level.trial_id]
        return [*chain.from_iterable(self._decided), *current]

    def table(self) -> Table:
        """The learning-rate × epoch table; a cell that no run has reached yet is untried.

        A failed trial has no score anywhere; a diverged one has none from the diverged epoch on.
        """
        space = self.search_space
        scores = np.full((len(space.learning_rates), space.epochs), np.nan)
        tried = np.zeros(scores.shape, dtype=bool)
        for run, trial in self._grid_trials():
            row = space.learning_rates.index(float(run["learning_rate"]))
            for epoch, score in self._cells(trial, int(run["stop_after"])):
                scores[row, epoch - 1], tried[row, epoch - 1] = score, True
        return Table(space.learning_rates, space.epochs, scores, tried, self.objective.direction)

    def cells(self) -> list[ScoredCell]:
        """Every cell of the grid that was tried, with all of its metrics, row by row."""
        found = []
        for run, trial in self._grid_trials():
            for epoch, score in self._cells(trial, int(run["stop_after"])):
                metrics = {
                    name: float(seen.mean())
                    for name, history in trial.metrics.metrics.items()
                    for seen in history.get_history()
                    if seen.step == epoch
                }
                metrics[self.objective.name] = score
                found.append(ScoredCell(float(run["learning_rate"]), epoch, trial.trial_id, metrics))
        return found

    def best(self) -> Best:
        """The best cell of the grid so far.

        Raises:
            TunerError: no cell has a score.
        """
        cell = self.table().best()
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
        """What the search costs if no run fails: `(stages, full_product_epochs)`; nothing is run for it."""
        return self.search_space.plan()

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The completed trials from the best on: those of the grid, then those of the sweeps alone.

        A sweep's runs have another horizon than the grid's, so their scores do not compare.
        """
        grid = {trial.trial_id for _, trial in self._grid_trials()}
        sign = -1 if self.objective.direction == "max" else 1
        completed = [trial for trial in self.trials.values() if trial.status == TrialStatus.COMPLETED]
        completed.sort(key=lambda trial: (trial.trial_id not in grid, sign * trial.score))
        return completed[:num_trials]

    # KerasTuner's contract

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """Hands out what this tuner or a killed process left unfinished, else the stage's next run."""
        if not self.trials:
            # First of all, so that a folder with trials always says whose they are.
            self.save()
        return super().create_trial(tuner_id)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next configuration of the current stage; IDLE while a sweep's last runs are still going."""
        self._decide()
        parameter = self._current_sweep()
        if parameter is None:
            stage, runs = "grid", self.search_space.grid_runs(self._incumbent)
        else:
            stage, runs = f"sweep:{parameter}", self.search_space.sweep_runs(parameter, self._incumbent)
        # Workers that share out runs of unlike length end sooner when the longest begin first.
        for run in sorted(runs, key=lambda run: -int(run["stop_after"])):
            if (configuration := key(run)) not in self._trial_ids:
                self._trial_ids[configuration] = trial_id
                return {"status": TrialStatus.RUNNING, "values": {**run, STAGE: stage}}
        return {"status": TrialStatus.STOPPED if parameter is None else TrialStatus.IDLE}

    @keras_tuner.synchronized
    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Records the metrics of epoch `step`, and saves the trial.

        An epoch reported again replaces itself and all that came after: a resumed run tells its story anew.

        Returns:
            The trial; its status STOPPED, set by an oracle that extends this one, ends the run.
        """
        trial = self.trials[trial_id]
        tracker = trial.metrics
        for name, history in tracker.metrics.items():
            kept = type(history)(history.direction)
            kept.set_history([seen for seen in history.get_history() if seen.step < step])
            tracker.metrics[name] = kept
        for name, value in metrics.items():
            if not tracker.exists(name):
                tracker.register(name, self.objective.direction if name == self.objective.name else None)
            tracker.metrics[name].update(float(value), step)
        self._save_trial(trial)
        return trial

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
        # A worker sends its own copy of the hyperparameters; what the oracle asked for is what counts.
        trial.hyperparameters = self.trials[trial.trial_id].hyperparameters
        super().end_trial(trial)

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
        self._incumbent, self._decided = dict(self.search_space.start), []

    def _description(self) -> dict[str, Any]:
        objective = {"objective": [self.objective.name, self.objective.direction]}
        return {**objective, **self.search_space.describe(), "seed": self._given_seed}

    # Decisions, derived from the trials

    @keras_tuner.synchronized
    def _decide(self) -> None:
        """Adopts the best level of every sweep whose runs have all ended."""
        while (parameter := self._current_sweep()) is not None:
            levels = self._levels(parameter)
            if not all(level.status in (*ENDED, SKIPPED) for level in levels):
                return
            winner = self._winner(levels)
            if winner is not None:
                self._incumbent[parameter] = winner.level
            self._decided.append([replace(level, chosen=level is winner) for level in levels])

    def _current_sweep(self) -> str | None:
        """The sweep that is not decided yet; None when the grid's turn has come."""
        return next(islice(self.search_space.sweeps, len(self._decided), None), None)

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
        incumbent = [level for level in levels if level.level == self._incumbent[level.parameter]]
        scores = [level.score for level in levels if not math.isnan(level.score)]
        if not scores:
            return incumbent[0] if incumbent else None
        best = max(scores) if self.objective.direction == "max" else min(scores)
        return next(level for level in incumbent + levels if level.score == best)

    def _trial(self, run: Mapping[str, Value]) -> Trial | None:
        return self.trials.get(self._trial_ids.get(key(run), ""))

    def _grid_trials(self) -> list[tuple[dict[str, Value], Trial]]:
        """The runs of the grid that have a trial; none before the sweeps are decided."""
        self._decide()
        if self._current_sweep() is not None:
            return []
        runs = self.search_space.grid_runs(self._incumbent)
        return [(run, trial) for run in runs if (trial := self._trial(run)) is not None]

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
