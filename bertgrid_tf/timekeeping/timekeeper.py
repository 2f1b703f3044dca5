"""A study's time: told to its clock, shown to its listener, and held to its budget."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isnan
from time import monotonic
from typing import Protocol

from keras_tuner.engine.trial import Trial

from bertgrid_tf import predictions
from bertgrid_tf.budget import MARGIN, Budget, Decisions, candidates, choose, too_short, written
from bertgrid_tf.clock import FIRST_STEPS, START, Clock, StageWork
from bertgrid_tf.errors import UserError
from bertgrid_tf.plan import AUDIT, FINAL, REPEATS, final_run, stage_works
from bertgrid_tf.recipe import Recipe, Settings, Value
from bertgrid_tf.results import Again, Results
from bertgrid_tf.run import Runs
from bertgrid_tf.timekeeping.deadline import Ahead, Deadline, TimedOracle, TimedPool, TimedRun, TimedRuns
from bertgrid_tf.timekeeping.opening import OPENING, Opening, carried, first_runs, is_run_of
from tuners import CasualGridOracle, Trainable
from tuners.pool import Pool
from tuners.space import STAGE
from tuners.state import ENDED
from tuners.tuner import configuration


class Told(Protocol):
    """What is told of runs, epochs and decisions (see `study.Listener`)."""

    def on_clock(self, clock: Clock) -> None: ...

    def on_note(self, sentence: str) -> None: ...

    def on_run(self, run: str, stage: str, values: Mapping[str, Value], epochs: int, steps: int) -> None: ...

    def on_step(self, run: str, done: int, steps: int, loss: float) -> None: ...

    def on_epoch(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None: ...


class Timekeeper:
    """Tells the clock and the listener what happens in a study and, if it has a budget, holds the study to it.

    Attributes:
        clock: the study's.
        decisions: what was decided for lack of time.
    """

    def __init__(
        self,
        recipe: Recipe,
        runs: Runs,
        results: Results,
        told: Told,
        budget: Budget | None,
        workers: int,
        final_gpus: int,
    ) -> None:
        """
        Args:
            recipe: what is asked for.
            runs: tells what an epoch of a configuration is.
            results: the study's folder.
            told: is told after the clock.
            budget: of this session, if it was given one.
            workers: runs at a time.
            final_gpus: how many train the final model.
        """
        self.decisions = Decisions(results.budget_file)
        self.clock = Clock(budget.began if budget else None, workers, results.times(), monotonic)
        self._asked = self._searched = recipe
        self._work = runs.work
        self._results = results
        self._told = told
        self._budget = budget
        self._final_gpus = final_gpus
        self._opening = Opening(results.opening)
        self._deadline: Deadline | None = None
        self._running = ""
        self._after_first_steps: Callable[[], None] | None = None
        told.on_clock(self.clock)

    # The search

    def open(self, run: Trainable, pool: Pool | None) -> Recipe:
        """The recipe without the sweeps that do not fit the budget, by the study's first epoch, which this process or a
        pool trains; a resumed study keeps to it.

        Raises UserError where nothing fits, and where the study began with another budget or with none.
        """
        if self._budget is not None:
            folder, began_with = self._results.folder, self.decisions.seconds
            if began_with is None and (folder / "oracle.json").exists():
                raise UserError(
                    f"The study in {folder} began without a budget: go on without --budget, or choose another "
                    "--study NAME, or --fresh to start over."
                )
            if began_with is None:
                self._choose(self._budget.seconds, carried(pool) if pool else run)
            elif began_with != self._budget.seconds:
                raise UserError(
                    f"The study in {folder} was cut down to --budget {written(began_with)} when it began: go on with "
                    "that or without --budget, choose another --study NAME, or --fresh to start over."
                )
        self._searched = self.decisions.chosen(self._asked)
        return self.decisions.swept(self._asked)

    def in_time(
        self, oracle: TimedOracle, examples: int | None, run: Trainable, pool: Pool | None
    ) -> tuple[Trainable, Pool | None]:
        """The runs of a search as far as they fit the budget.

        Args:
            oracle: of what `open` gave; narrowed to what of the grid fits, when the sweeps are decided.
            examples: as for the oracle.
            run: carries runs in this process.
            pool: carries them elsewhere.
        """
        if self.decisions.seconds is None:
            return run, pool
        ahead = Ahead(self._searched, oracle, self.clock, self._work, self._final_gpus)
        self._deadline = Deadline(self.decisions.seconds, self.clock, self.decisions, ahead)

        def narrow() -> None:
            if not self._grid_is_chosen():
                self._choose_grid(ahead.incumbent())
            self._searched = ahead.recipe = kept = self.decisions.chosen(self._asked)
            oracle.narrow(kept.learning_rates, kept.epochs, kept.search, examples)

        if self._grid_is_chosen():
            narrow()
        else:
            oracle.before_grid = narrow
        return TimedRuns(run, self._deadline), TimedPool(pool, self._deadline) if pool else None

    def resume(self, oracle: CasualGridOracle) -> None:
        """Takes over what the runs took that have ended in earlier sessions."""
        self._expect(oracle.incumbent, oracle.stage)
        for trial in oracle.trials.values():
            if trial.status in ENDED and trial.metrics.exists("seconds"):
                values = trial.hyperparameters.values
                seconds = [float(seen.mean()) for seen in trial.metrics.get_history("seconds")]
                work = self._work(values)
                self.clock.recall(trial.trial_id, str(values[STAGE]), work, int(values["stop_epoch"]), seconds)

    def begin_trial(self, oracle: CasualGridOracle, trial: Trial) -> None:
        """A run of the search begins, or goes on, unless it no longer fits."""
        values, stage = trial.hyperparameters.values, str(trial.hyperparameters.values[STAGE])
        if stage != self.clock.stage:
            self._expect(oracle.incumbent, stage)
        self._opening.hand_over(configuration(trial), self._results.folder / f"trial_{trial.trial_id}")
        if self._deadline is not None:
            sweep = stage != "grid"
            parameter = stage.removeprefix("sweep:") if sweep else "learning_rate"
            title = f"{parameter}={values[parameter]}"
            whole = sweep or self._searched.grid == "independent"
            known = len(oracle.history(trial))
            run = TimedRun(title, sweep, whole, self._work(values), int(values["stop_epoch"]), known)
            if not self._deadline.admits(trial.trial_id, run):
                return
        self._begin(trial.trial_id, stage, values)

    def end_search(self) -> None:
        """The search is over."""
        self._opening.clear()

    # What comes after the search

    def expect_again(self, stage: str, runs: Sequence[Mapping[str, Value]]) -> None:
        """Runs of a stage after the search, of these values, are to come."""
        works = tuple((self._work(values), int(values["stop_epoch"])) for values in runs)
        self.clock.expect([StageWork(stage, works)])

    def begin_again(self, run: Again) -> bool:
        """A run after the search begins, or goes on, if there is time for it and the final model; else it is left out,
        and False."""
        work, epochs = self._work(run.values), int(run.values["stop_epoch"])
        if self.decisions.seconds is not None:
            final = final_run(self._asked.model_copy(update={"settings": Settings.of(run.values)}), epochs)
            works = [work] if final is None else [work, self._work(final | {"gpus": self._final_gpus})]
            seconds = sum(self.clock.run_seconds(one, epochs) or 0.0 for one in works)
            if self.clock.elapsed() + MARGIN * seconds > self.decisions.seconds:
                self.decisions.add("leave_out", run=run.name)
                return False
        noted = {"seed": run.seed} if run.parameter is None else {"audited": run.parameter}
        self._begin(run.name, run.stage, {**run.values, **noted})
        return True

    def begin_final(self, values: Mapping[str, Value]) -> None:
        """The final model's run begins, or goes on."""
        self.clock.expect([StageWork(FINAL, ((self._work(values), int(values["stop_epoch"])),))])
        self._begin(FINAL, FINAL, values)

    def final_epoch(self, values: Mapping[str, Value], epoch: int, metrics: Mapping[str, float]) -> bool:
        """An epoch of the final model has been scored; whether there is time for another one."""
        self.epoch(FINAL, epoch, metrics)
        if self._deadline is None or self.clock.told_again or epoch == values["stop_epoch"]:
            return True
        return (self.clock.pace.seconds(self._work(values)) or 0.0) <= self._deadline.left

    # What happens

    def step(self, done: int, steps: int, loss: float) -> None:
        """A training step of the run in this process has ended, the `done`-th of its epoch."""
        self.clock.step(self._running, done)
        self._told.on_step(self._running, done, steps, loss)
        if done == FIRST_STEPS and self._after_first_steps is not None:
            self._after_first_steps()

    def epoch(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch of a run has been scored, now or before."""
        self.clock.epoch(run, epoch, metrics["seconds"], isnan(metrics[self._asked.metric]))
        self._told.on_epoch(run, epoch, metrics)
        self.write()

    def write(self) -> None:
        """Writes what every stage was predicted to take and took, up to now, if any has begun."""
        if self.clock.stage != START:
            self._results.write_times(self.clock.times())

    def _begin(self, run: str, stage: str, values: Mapping[str, Value]) -> None:
        self._running = run
        work, epochs = self._work(values), int(values["stop_epoch"])
        self.clock.begin(run, stage, work, epochs)
        self._told.on_run(run, stage, values, epochs, work.steps)

    def _expect(self, values: Mapping[str, Value], stage: str) -> None:
        """Tells the clock what is to come from a stage on, `values` being the winners so far."""
        so_far = self._searched.model_copy(update={"settings": Settings.of(values)})
        sweeps, parameter = list(so_far.sweeps), stage.removeprefix("sweep:")
        undecided = sweeps[sweeps.index(parameter) :] if parameter in sweeps else []
        self.clock.expect(stage_works(so_far, self._work, undecided, self._final_gpus))

    # What fits

    def _choose(self, budget: float, run: Trainable) -> None:
        """Trains the first epoch of the study, and writes down what is chosen by it."""
        self._expect(self._asked.settings.model_dump(), first_runs(self._asked)[0])
        try:
            opened = self._open(self._asked, run, partial(self._check, budget))
        except _OtherFirstRunError as other:
            opened = self._open(other.chosen, run, None)
        chosen = self._choice(budget, opened)
        if opened and not is_run_of(*opened, chosen):
            self._opening.clear()
        self.decisions.choose(budget, self._asked, chosen)
        later = "" if self._grid_is_chosen() else " What of the grid fits is chosen again after the sweeps."
        self._told.on_note(self._what_fits() + later)

    def _choose_grid(self, incumbent: Recipe) -> None:
        """Writes down what of the grid is chosen now that the sweeps are decided: how fast it goes is known better."""
        budget, spent = self.decisions.seconds or 0.0, self.clock.elapsed()
        grid = self._asked.model_copy(update={"settings": incumbent.settings, "sweeps": {}})
        chosen = choose(grid, self._seconds, budget, spent) or candidates(grid)[-1]
        self.decisions.choose_grid(self._asked, chosen.model_copy(update={"sweeps": incumbent.sweeps}))
        self._told.on_note(self._what_fits())

    def _grid_is_chosen(self) -> bool:
        """Whether it is settled what of the grid is searched: where sweeps have runs, only after them."""
        return bool(self.decisions.of("grid")) or first_runs(self.decisions.swept(self._asked))[0] == "grid"

    def _what_fits(self) -> str:
        fits = f"All that was asked for fits --budget {written(self.decisions.seconds or 0)}."
        return " ".join(self.decisions.sentences()) or fits

    def _open(
        self, recipe: Recipe, run: Trainable, check: Callable[[str, Mapping[str, Value]], None] | None
    ) -> tuple[str, Mapping[str, Value]] | None:
        """Trains the first epoch of the first run that can be trained; which that is, None where none can.

        `check` is asked after its first steps.
        """
        stage, runs = first_runs(recipe)
        for values in runs:
            self._after_first_steps = partial(check, stage, values) if check else None
            self._begin(OPENING, stage, values | {"stop_epoch": 1})
            try:
                metrics = self._opening.train(values, run)
                if metrics is not None:
                    self.epoch(OPENING, 1, metrics)
                    return stage, values
            finally:
                self._after_first_steps = None
                self.clock.forget(OPENING)
                predictions.file(self._results.predictions, OPENING, 1).unlink(missing_ok=True)
        return None

    def _check(self, budget: float, stage: str, values: Mapping[str, Value]) -> None:
        """The first steps may show that nothing fits, or that this run is none of those that do."""
        chosen = self._choice(budget, None)
        if not is_run_of(stage, values, chosen):
            raise _OtherFirstRunError(chosen)

    def _choice(self, budget: float, opened: tuple[str, Mapping[str, Value]] | None) -> Recipe:
        """What fits, the first epoch of the run that was `opened` being done. Raises UserError where nothing does."""

        def seconds(recipe: Recipe) -> float:
            done = self.clock.pace.seconds(self._work(opened[1])) if opened and is_run_of(*opened, recipe) else 0.0
            return self._seconds(recipe) - (done or 0.0)

        spent = self.clock.elapsed()
        chosen = choose(self._asked, seconds, budget, spent)
        if chosen is None:
            raise too_short(self._asked, seconds, budget, spent)
        return chosen

    def _seconds(self, recipe: Recipe) -> float:
        # What looks at the winner again takes what time is left.
        works = stage_works(recipe, self._work, list(recipe.sweeps), self._final_gpus)
        return self.clock.seconds(stage for stage in works if stage.name not in (REPEATS, AUDIT)) or 0.0


class _OtherFirstRunError(Exception):
    """Of what fits, the first run is another one."""

    def __init__(self, chosen: Recipe) -> None:
        super().__init__(chosen)
        self.chosen = chosen
