"""The KerasTuner oracle of a casual grid search: sweeps one at a time, then the learning-rate × epoch grid."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.metrics_tracking import infer_metric_direction
from keras_tuner.engine.trial import Trial, TrialStatus
from typing_extensions import Self

from tuners import state
from tuners.decisions import Best, Choose, Decisions, MissingTrial, ScoredCell, SweepLevel, stage_of
from tuners.errors import TunerError
from tuners.space import ADOPTED, GridSchedule, Plan, SearchSpace, Value
from tuners.strategies import Search, Strategy, strategy
from tuners.table import Table


class CasualGridOracle(keras_tuner.Oracle):
    """Sweeps independent parameters one at a time, then fills the learning-rate × epoch grid.

    A sweep trains all levels of one parameter, everything else held at the incumbent, and adopts the best level (of
    equal levels the incumbent's, else the earlier) before the next sweep starts. Then the grid is trained under the
    final incumbent, or another `search` starts and stops its rows (`tuners.strategies`). No configuration is trained
    twice: a later stage takes the result of an earlier one.

    A level whose trial failed has no score and cannot win; if all levels failed, the incumbent stays. A trial that
    diverged (its objective is not finite) counts with the epochs before that; without one it is INVALID, is retried up
    to `max_retries_per_trial` times, and then FAILED.

    A study can grow: an oracle that reloads a smaller one, ended or not, trains what is missing. More learning rates
    and more levels of a sweep always do; more epochs do where each cell has its own schedule, where no row has begun,
    or where rows have no horizon (`without_horizon`). A sweep keeps the level that later stages have been trained with,
    and a better one that comes later is only marked (`SweepLevel.overruled`). Otherwise the full grid has the scores of
    a search that was whole from the start; another `search` goes on from where the smaller one came to.

    Not for parameters that depend on each other or on the learning rate, since each is searched by itself.

    Example:
        >>> from tuners import CasualGridOracle
        >>> oracle = CasualGridOracle(
        ...     "val_accuracy",
        ...     learning_rates=[2e-5, 6e-6],
        ...     epochs=4,
        ...     sweeps={"batch_size": [16, 32]},
        ... )
        >>> oracle.plan().trials, oracle.plan().epochs, oracle.plan().full_product_epochs
        (4, 10, 16)

    Args:
        objective: Metric to search for; `keras_tuner.Objective(name, direction)` unless it is one of Keras's own.
        learning_rates: Rows of the grid.
        epochs: Columns of the grid, 1 to `epochs`.
        sweeps: Levels of every parameter to sweep, in order; a single level is adopted without a trial.
        start: Value of every parameter at the beginning, and the `learning_rate` of the sweeps; default is the first
            level of each. A start value that is no level of its sweep is not tried.
        sweep_epochs: Epochs of a trial in a sweep.
        grid_schedule: "shared" trains every learning rate once, over a schedule of all epochs, and scores it after each
            epoch; "per-cell" trains every cell by itself, over a schedule of its own, and counts its last epoch.
        seed: Seed of the draws of a search ("grid" draws nothing); a study resumes under the same seed only.
        search: "grid" fills every cell; "genetic", "surface", or a strategy with settings of its own
            (`tuners.strategies.Surface(share=0.3, examples=1178)`), leave cells out.
        choose: Returns the level of a sweep to adopt, given the levels with a score, the incumbent's first and the
            others in their order; None adopts the first with the best score. It must be a pure function, since a
            resumed study calls it, too.
        max_retries_per_trial: Retries of a trial that crashed or has no score.
        without_horizon: Returns whether training with these hyperparameters does not depend on `schedule_epochs`, so
            that a row which has ended can go on to further epochs; None: it does depend.

    Raises:
        TunerError: The space or the objective cannot be searched; the sentence says why.
    """

    def __init__(
        self,
        objective: str | keras_tuner.Objective,
        learning_rates: Sequence[float],
        epochs: int,
        sweeps: Mapping[str, Sequence[Value]] | None = None,
        start: Mapping[str, Value] | None = None,
        sweep_epochs: int = 1,
        grid_schedule: GridSchedule = "shared",
        seed: int | None = None,
        search: Search | Strategy = "grid",
        choose: Choose | None = None,
        max_retries_per_trial: int = 0,
        without_horizon: Callable[[Mapping[str, Value]], bool] | None = None,
    ) -> None:
        self.search_space = self._whole_space = SearchSpace.of(
            learning_rates, epochs, sweeps, start, sweep_epochs, grid_schedule
        )
        self._strategy = strategy(search) if isinstance(search, str) else search
        if self._strategy is not None and self.search_space.grid_schedule != "shared":
            raise TunerError(
                f'search {self._strategy.name} stops rows, which grid_schedule "per-cell" does not have: '
                'choose grid_schedule "shared", or search "grid"'
            )
        super().__init__(
            objective=_objective(objective),
            hyperparameters=_declare(self.search_space),
            seed=seed,
            max_retries_per_trial=max_retries_per_trial,
            # A learning rate or a batch size that fails implies nothing about the next.
            max_consecutive_failed_trials=sys.maxsize,
        )
        self._given_seed = seed
        self._choose = choose
        self._without_horizon = without_horizon or (lambda _: False)
        self._adopted: dict[str, Value] = {}
        self._lengthened: list[Trial] = []
        self._description = self._describe()
        self._decisions = self._derive(self.search_space)

    @classmethod
    def over(
        cls, space: SearchSpace, objective: str | keras_tuner.Objective, seed: int | None = None, **arguments: Any
    ) -> Self:
        """Make the oracle of an existing search space; `arguments` are further ones of the constructor."""
        grid = (space.learning_rates, space.epochs, space.sweeps, space.start, space.sweep_epochs, space.grid_schedule)
        return cls(objective, *grid, seed=seed, **arguments)

    def narrow(self, space: SearchSpace, search: Search | Strategy = "grid") -> None:
        """Restrict the search to a smaller space: fewer sweeps, learning rates or epochs, or another strategy.

        To be called while every trial so far is in the smaller space too; a resumed study must be narrowed in the same
        way. `oracle.json` keeps describing the whole search. The start values of `space` are the oracle's; the other
        arguments are the constructor's.
        """
        self.search_space = space
        self._strategy = strategy(search) if isinstance(search, str) else search
        self._decisions = self._derive(self.search_space)

    @property
    def stage(self) -> str:
        """Current stage: `sweep:<parameter>` or `grid`."""
        return self._decisions.stage

    @property
    def incumbent(self) -> dict[str, Value]:
        """Value of every parameter as adopted so far, with the `learning_rate` that the search started from.

        Where the strategy varies the parameters itself, those of the best trial so far.
        """
        return self._decisions.incumbent

    @property
    def sweep_results(self) -> list[SweepLevel]:
        """Levels of all sweeps in their order, as far as the search has come."""
        return self._decisions.sweep_results

    def table(self) -> Table:
        """Return the learning-rate × epoch table under the incumbent; a cell that no trial has reached is untried.

        A failed trial has no score anywhere, a diverged one none from the diverged epoch on.
        """
        return self._decisions.table()

    def cells(self) -> list[ScoredCell]:
        """Return every tried cell of the table with all of its metrics, row by row."""
        return self._decisions.cells()

    def best(self, place: tuple[float, int] | None = None) -> Best:
        """Return the best cell of the grid so far, or the cell at a learning rate and epoch.

        Raises:
            TunerError: No cell has a score.
        """
        return self._decisions.best(place)

    def tied_probability(self) -> float | None:
        """Return the probability that the best cell so far is tied with the best of the full grid.

        None where the search is not "surface", or no cell has a score.
        """
        return self._decisions.tied_probability()

    def history(self, trial: Trial) -> list[tuple[int, float]]:
        """Return epoch (from 1) and objective of a trial so far; NaN where the objective was not finite."""
        return self._decisions.history(trial)

    def plan(self) -> Plan:
        """Plan the full grid if no trial fails; another `search` trains at most its `max_epochs` of the grid."""
        return self.search_space.plan()

    def missing(self) -> tuple[list[MissingTrial], int]:
        """Return the trials that are still to be trained if none fails, and the most epochs of another `search`.

        The levels of sweeps that are not decided yet are those under the incumbent.
        """
        return self._decisions.missing()

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """Return completed trials from the best on: those of the grid, then those of the sweeps alone."""
        return self._decisions.ranked()[:num_trials]

    # KerasTuner's contract

    @keras_tuner.synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """Return this tuner's ongoing trial, one to be retried or resumed, or the next of the stage."""
        # KerasTuner's own copies the search space into every trial, and writes all trials' names at each.
        if not self.trials:
            # First of all, so that a folder with trials always has the description of their search.
            self.save()
        if tuner_id in self.ongoing_trials:
            return self.ongoing_trials[tuner_id]
        self.tuner_ids.add(tuner_id)
        if (retried := self._next_retry()) is not None:
            trial = self.trials[retried]
            trial.status = TrialStatus.RUNNING
        else:
            # The first id that is free: that of a trial which could not be read, or the next.
            trial_id = next(id_ for number in count() if (id_ := f"{number:04d}") not in self.trials)
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
            state.start_trial(self._trial_file(trial), trial)
        self.ongoing_trials[tuner_id] = trial
        self._display.on_trial_begin(trial)
        return trial

    def _next_retry(self) -> str | None:
        """Take the next trial that is due from the retry queue."""
        for place, trial_id in reversed(list(enumerate(self._retry_queue))):
            if self._decisions.is_due(self.trials[trial_id]):
                return str(self._retry_queue.pop(place))
        return None

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next configuration of the current stage; IDLE while trials that it depends on are running."""
        proposal = self._decisions.propose(trial_id)
        if isinstance(proposal, str):
            return {"status": proposal}
        return {"status": TrialStatus.RUNNING, "values": proposal}

    @keras_tuner.synchronized
    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Record the metrics of epoch `step`, and save the trial.

        An epoch that a resumed trial reports as before changes nothing; reported with other metrics, it replaces itself
        and all later ones.

        Returns:
            The trial; the status STOPPED ends it.
        """
        trial = self.trials[trial_id]
        tracker = trial.metrics
        histories = {name: history.get_history() for name, history in tracker.metrics.items()}
        known = {name: seen.value for name, history in histories.items() for seen in history if seen.step == step}
        # As text, for NaN is not equal to itself.
        reported = {name: [float(value)] for name, value in metrics.items()}
        if repr(sorted(known.items())) != repr(sorted(reported.items())):
            for name, history in tracker.metrics.items():
                kept = type(history)(history.direction)
                kept.set_history([seen for seen in histories[name] if seen.step < step])
                tracker.metrics[name] = kept
            for name, value in metrics.items():
                if not tracker.exists(name):
                    tracker.register(name, self.objective.direction if name == self.objective.name else None)
                tracker.metrics[name].update(float(value), step)
            self._save_trial(trial)
        if self._decisions.reported(trial, step):
            trial.status = TrialStatus.STOPPED
        return trial

    def score_trial(self, trial: Trial) -> None:
        """Score by the best epoch (of equal ones the first), a cell with its own schedule by its last."""
        epoch, trial.score = self._decisions.score(trial)
        trial.best_step = epoch or 0
        if math.isnan(trial.score):
            trial.message = trial.message or f"no epoch has a finite {self.objective.name}"

    @keras_tuner.synchronized
    def end_trial(self, trial: Trial) -> None:
        """Score and save an ended trial; an INVALID one is queued once more or, without a retry left, FAILED.

        A retried trial reports every epoch. One that crashed resumes from its saved state; one without a finite
        objective starts over, its folder emptied, since its saved state would diverge the same way.
        """
        # A worker sends a copy; the hyperparameters that the oracle proposed count.
        status, message = trial.status, trial.message
        trial = self.trials[trial.trial_id]
        trial.status, trial.message = status, message
        diverged = False
        if trial.status == TrialStatus.COMPLETED:
            self.score_trial(trial)
            if diverged := math.isnan(trial.score):
                trial.status = TrialStatus.INVALID
        self._run_times[trial.trial_id] += 1
        retried = self._retry(trial)
        if retried:
            trial.metrics, trial.score = type(trial.metrics)(), None
            if diverged:
                # Before the trial is saved: killed in between, it starts over and its retry is not counted.
                state.empty_folder(self._trial_file(trial))
        else:
            self.end_order.append(trial.trial_id)
        self._save_trial(trial)
        self._decisions.ended(trial)
        self._display.on_trial_end(trial)
        # Last, since the chief of KerasTuner's own distributed mode leaves when none is ongoing.
        for tuner in [tuner for tuner, ongoing in self.ongoing_trials.items() if ongoing is trial]:
            del self.ongoing_trials[tuner]

    def get_state(self) -> dict[str, Any]:
        """Return KerasTuner's state with the description of the search, as in `oracle.json`."""
        return state.described(super().get_state(), self._description)

    def save(self) -> None:
        """Write `oracle.json`, whole or not at all."""
        state.save_oracle(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        state.save_trial(self._trial_file(trial), trial, self._run_times[trial.trial_id])

    def _trial_file(self, trial: Trial) -> Path:
        return Path(self._get_trial_dir(trial.trial_id), "trial.json")

    def reload(self) -> None:
        """Resume the study in the project's folder: an unfinished trial resumes under its own id.

        A study of a smaller search space is extended.

        Raises:
            TunerError: `oracle.json` is damaged, a file is missing, or the study belongs to another search, or to one
                whose rows have no further epochs.
        """
        if self._load(Path(self._get_oracle_fname())):
            for trial in self._lengthened:
                state.save_lengthened(self._trial_file(trial), trial)
            self.save()

    def peek(self, project: Path) -> None:
        """Read the study in a folder as `reload` does, without writing what extends it; for what is `missing` there."""
        self._load(project / "oracle.json")

    def _load(self, path: Path) -> bool:
        """Read a study; return whether it is one of a smaller search space, which is extended."""
        self.trials, saved = state.load_study(path, self._description, self._whole_space, self.objective)
        description = saved[state.DESCRIPTION]
        with state.described_damage(path):
            self.set_state(saved)
            former = SearchSpace.described(description)
            self._adopted = dict(description.get(ADOPTED, {}))
        self._whole_space = self._whole_space.in_order_of(former)
        self.hyperparameters = _declare(self._whole_space)
        self.search_space = self.search_space.in_order_of(former)
        if grown := self._describe() != description:
            # A narrowed search may lack a sweep.
            sweeps = {name: levels for name, levels in former.sweeps.items() if name in self.search_space.sweeps}
            decisions = self._derive(replace(former, sweeps=sweeps))
            self._adopted = decisions.adopted(tuple(self.search_space.sweeps))
            self._lengthen_rows(path, former.epochs)
        self._description = self._describe()
        self._decisions = self._derive(self.search_space)
        return grown

    def _lengthen_rows(self, path: Path, former: int) -> None:
        """Let the rows of a study of fewer epochs go on."""
        epochs, ended = self.search_space.epochs, state.ENDED
        of_grid = [trial for trial in self.trials.values() if stage_of(trial) == "grid"]
        # A narrowed search has fewer epochs, which stay.
        rows = [trial for trial in of_grid if trial.hyperparameters.values["schedule_epochs"] < epochs]
        if self.search_space.grid_schedule == "per-cell" or self._whole_space.epochs == former or not rows:
            return
        if self._strategy is not None:
            raise TunerError(
                f"{path}: search {self._strategy.name} has stopped rows by the {former} epochs of the grid, and does "
                f"not go on to {epochs}: give the former epochs, choose another project_name or overwrite=True"
            )
        if not all(self._without_horizon(trial.hyperparameters.values) for trial in rows):
            raise TunerError(
                f"{path}: the {len(rows)} rows of the grid are trained over a schedule of {former} epochs, so that "
                f"{epochs} would need each of them anew, {len(rows) * epochs} epochs: give the former epochs, choose "
                "another project_name or overwrite=True"
            )
        for trial in rows:
            state.lengthen_trial(trial, epochs)
            self._run_times[trial.trial_id] = 0
        self._lengthened = rows
        self._retry_queue = [id_ for id_, trial in self.trials.items() if trial.status not in ended][::-1]
        self.end_order: list[str] = [id_ for id_ in self.end_order if self.trials[id_].status in ended]

    def _describe(self) -> dict[str, Any]:
        """Describe the search that a resumed study must share."""
        description = {
            "objective": [self.objective.name, self.objective.direction],
            **self._whole_space.describe(),
            "seed": self._given_seed,
        }
        if self._adopted:
            description[ADOPTED] = self._adopted
        if self._strategy is not None:
            description["search"] = {"name": self._strategy.name, **self._strategy.describe()}
        return description

    def _derive(self, space: SearchSpace) -> Decisions:
        seed = self.seed if self._given_seed is None else self._given_seed
        return Decisions(space, self._strategy, self.trials, self.objective, seed, self._choose, self._adopted)


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


def _declare(space: SearchSpace) -> keras_tuner.HyperParameters:
    """Declare a search space for KerasTuner's own tools."""
    declared = keras_tuner.HyperParameters()
    for name, value in space.start.items():
        levels = space.learning_rates if name == "learning_rate" else space.sweeps.get(name)
        if levels is None:
            declared.Fixed(name, value)
        elif isinstance(value, bool):
            # A Choice would turn True into 1.
            declared.Boolean(name, default=value)
        else:
            declared.Choice(name, list(levels), default=value if value in levels else None)
    for name in ("schedule_epochs", "stop_epoch"):
        declared.Int(name, 1, max(space.epochs, space.sweep_epochs))
    return declared
