"""A study's time: measured and predicted, shown to the listener and, with a budget, kept within it."""

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from time import monotonic
from typing import Protocol

from keras_tuner.engine.trial import Trial

from bertgrid_tf.budget.deadline import Deadline, TimedOracle
from bertgrid_tf.budget.plan import AUDIT, FINAL, REPEATS, final_run, space, stage_runs, stage_works
from bertgrid_tf.budget.time_budget import MARGIN, Budget, BudgetLog, candidates, choose, too_short, written
from bertgrid_tf.budget.time_estimator import FIRST_STEPS, START, StageWork, TimeEstimator, Work
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe, Settings, Value
from bertgrid_tf.results import Again, Results
from tuners.oracle import ENDED
from tuners.space import STAGE
from tuners.tuner import discard


class TimeListener(Protocol):
    """What hears of runs, epochs and decisions (see `study.Listener`)."""

    def on_clock(self, clock: TimeEstimator) -> None: ...

    def on_note(self, sentence: str) -> None: ...

    def on_run(self, run: str, stage: str, values: Mapping[str, Value], epochs: int, steps: int) -> None: ...

    def on_step(self, run: str, done: int, steps: int, loss: float) -> None: ...

    def on_epoch(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None: ...


class NotChosenError(Exception):
    """The trial under way is none of what fits the budget: it is deleted, and the search begins anew.

    Attributes:
        trial_id: The trial.
    """

    def __init__(self, trial_id: str) -> None:
        super().__init__(trial_id)
        self.trial_id = trial_id


class BudgetController:
    """Reports to the estimator and the listener what happens in a study and, with a budget, keeps the study within it.

    The study begins with its first stage. As soon as its speed is known, after the first ten steps or else the first
    epoch, what fits the budget is chosen, and chosen once more for the grid when the sweeps are decided.

    Attributes:
        estimator: The study's.
        log: The decisions for lack of time.

    Args:
        recipe: What is asked for.
        work: Gives one epoch's work of a configuration.
        results: The study's folder.
        listener: Told after the estimator.
        budget: Of this session; None to go on with the study's own, if it has one.
        workers: Number of trials at a time.
        final_gpus: Number of GPUs that train the final model.

    Raises:
        UserError: The study began with another budget or with none.
    """

    def __init__(
        self,
        recipe: Recipe,
        work: Callable[[Mapping[str, Value]], Work],
        results: Results,
        listener: TimeListener,
        budget: Budget | None,
        workers: int,
        final_gpus: int,
    ) -> None:
        self.log = BudgetLog(results.budget_file)
        if budget is not None:
            _check(budget.seconds, self.log.seconds, results)
        self.estimator = TimeEstimator(budget.began if budget else None, workers, results.times(), monotonic)
        self._budget = budget.seconds if budget else self.log.seconds
        self._asked = self._searched = recipe
        self._work = work
        self._results = results
        self._listener = listener
        self._final_gpus = final_gpus
        self._deadline: Deadline | None = None
        self._running = ""
        listener.on_clock(self.estimator)

    # The search

    def attach(self, oracle: TimedOracle, examples: int | None) -> None:
        """Keep a search within the budget, as already chosen if it was.

        Args:
            oracle: Made for the whole recipe, without trials.
            examples: As for the oracle.
        """
        self._oracle, self._examples = oracle, examples
        if self._budget is None:
            return
        self._deadline = Deadline(
            self._budget, self._asked, oracle, self.estimator, self.log, self._work, self._final_gpus
        )
        oracle.deadline, oracle.one_at_a_time = self._deadline, self._is_undecided
        self._narrow()

    def resume(self) -> None:
        """Measure the speed by the trials that have ended in earlier sessions."""
        self._expect(self._oracle.stage)
        for trial in self._oracle.trials.values():
            if trial.status in ENDED and trial.metrics.exists("seconds"):
                values = trial.hyperparameters.values
                seconds = [float(seen.mean()) for seen in trial.metrics.get_history("seconds")]
                work = self._work(values)
                self.estimator.recall(trial.trial_id, str(values[STAGE]), work, int(values["stop_after"]), seconds)

    def begin_trial(self, trial: Trial) -> None:
        """Report that a trial of the search begins, or goes on."""
        self._trial, values = trial, trial.hyperparameters.values
        if values[STAGE] != self.estimator.stage:
            self._expect(str(values[STAGE]))
        self._begin(trial.trial_id, str(values[STAGE]), values)

    def trial_epoch(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report an epoch of a trial; return whether there is time for another.

        Raises:
            UserError: Nothing fits the budget.
            NotChosenError: This trial does not.
        """
        self.epoch(trial.trial_id, epoch, metrics)
        # An epoch that is restored, or repeated after the loss of a worker, has been decided on.
        restored = epoch < len(self._oracle.history(trial))
        return self._deadline is None or restored or self._deadline.goes_on(trial.hyperparameters.values, epoch)

    # What comes after the search

    def expect_again(self, stage: str, runs: Sequence[Mapping[str, Value]]) -> None:
        """Announce the runs of a stage after the search, by their values."""
        works = tuple((self._work(values), int(values["stop_after"])) for values in runs)
        self.estimator.expect([StageWork(stage, works)])

    def begin_again(self, run: Again) -> bool:
        """Report that a run after the search begins, or goes on; return False if it must be left out for the final
        model to fit behind it."""
        work, epochs = self._work(run.values), int(run.values["stop_after"])
        if self._deadline is not None:
            final = final_run(self._asked.model_copy(update={"settings": Settings.of(run.values)}), epochs)
            works = [work] if final is None else [work, self._work(final | {"gpus": self._final_gpus})]
            seconds = sum(self.estimator.run_seconds(one, epochs) or 0.0 for one in works)
            if MARGIN * seconds > self._deadline.left:
                self.log.add("leave_out", run=run.name)
                return False
        noted = {"seed": run.seed} if run.parameter is None else {"audited": run.parameter}
        self._begin(run.name, run.stage, {**run.values, **noted})
        return True

    def begin_final(self, values: Mapping[str, Value]) -> None:
        """Report that the final model's run begins, or goes on."""
        self.expect_again(FINAL, [values])
        self._begin(FINAL, FINAL, values)

    def final_epoch(self, values: Mapping[str, Value], epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report an epoch of the final model; return whether there is time for another."""
        self.epoch(FINAL, epoch, metrics)
        if self._deadline is None or self.estimator.restored or epoch == values["stop_after"]:
            return True
        return (self.estimator.throughput.seconds(self._work(values)) or 0.0) <= self._deadline.left

    # What happens

    def step(self, done: int, steps: int, loss: float) -> None:
        """Report the `done`-th training step of an epoch of the run in this process; raises as `trial_epoch`."""
        self.estimator.step(self._running, done)
        if done == FIRST_STEPS:
            self._choose()
        self._listener.on_step(self._running, done, steps, loss)

    def epoch(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Report an epoch of a run, trained or restored."""
        self.estimator.epoch(run, epoch, metrics["seconds"], isnan(metrics[self._asked.metric]))
        self._choose()
        self._listener.on_epoch(run, epoch, metrics)
        self.write()

    def write(self) -> None:
        """Write what every stage was predicted to take, and took up to now."""
        # A study whose budget is still open has no times: by them it is seen to have begun without one.
        if self.estimator.stage != START and not self._is_undecided:
            self._results.write_times(self.estimator.times())

    def _begin(self, run: str, stage: str, values: Mapping[str, Value]) -> None:
        self._running = run
        work, epochs = self._work(values), int(values["stop_after"])
        self.estimator.begin(run, stage, work, epochs)
        self._listener.on_run(run, stage, values, epochs, work.steps)

    def _expect(self, stage: str, anew: bool = False) -> None:
        """Announce the stages of the search and after it, `stage` being the current one."""
        so_far = self._searched.model_copy(update={"settings": Settings.of(self._oracle.incumbent)})
        sweeps, parameter = list(so_far.sweeps), stage.removeprefix("sweep:")
        undecided = sweeps[sweeps.index(parameter) :] if parameter in sweeps else []
        self.estimator.expect(stage_works(so_far, self._work, undecided, self._final_gpus), anew)

    # What fits

    @property
    def _is_undecided(self) -> bool:
        return self._budget is not None and self.log.seconds is None

    def _choose(self) -> None:
        """Choose what of the study fits the budget, if that is open and the speed is known."""
        if self._budget is None or not self._is_undecided or self.estimator.left() is None:
            return
        spent, trial = self.estimator.elapsed(), self._trial
        chosen = choose(self._asked, self._seconds, self._budget, spent)
        keep = chosen is not None and self._is_part(trial.hyperparameters.values, chosen)
        if not keep:
            # Before the choice is written: a process killed in between leaves a study that has not begun.
            discard(self._results.folder)
            for path in self._results.predictions.glob("trial_*"):
                path.unlink()
        if chosen is None:
            raise too_short(self._asked, self._seconds, self._budget, spent)
        self.log.choose(self._budget, self._asked, chosen)
        grid = next(stage for stage, runs in stage_runs(chosen) if runs) == "grid"
        if grid or trial.hyperparameters.values[STAGE] == "grid":
            self.log.choose_grid(self._asked, chosen)
        self._note("" if grid else " What of the grid fits is chosen again after the sweeps.")
        if not keep:
            self.estimator.expect((), anew=True)
            raise NotChosenError(trial.trial_id)
        self._oracle.one_at_a_time = False
        self._narrow()
        self._expect(str(trial.hyperparameters.values[STAGE]), anew=True)

    def _choose_grid(self) -> None:
        """Choose what of the grid fits, now that the sweeps are decided and the speed is known better."""
        assert self._deadline is not None
        assert self._budget is not None
        incumbent, spent = self._deadline.incumbent, self.estimator.elapsed()
        grid = self._asked.model_copy(update={"settings": incumbent.settings, "sweeps": {}})
        chosen = choose(grid, self._seconds, self._budget, spent) or candidates(grid)[-1]
        self.log.choose_grid(self._asked, chosen.model_copy(update={"sweeps": incumbent.sweeps}))
        self._note("")
        self._narrow()

    def _narrow(self) -> None:
        """Narrow the search to what was chosen."""
        if self._deadline is None or self.log.seconds is None:
            return
        self._searched = self._deadline.recipe = self.log.chosen(self._asked)
        self._oracle.narrow(space(self._searched), self._searched.search, self._examples)
        self._oracle.before_grid = None if self.log.of("grid") else self._choose_grid

    def _is_part(self, values: Mapping[str, Value], chosen: Recipe) -> bool:
        """Return whether a trial of these values is one of a chosen recipe's too."""
        if values[STAGE] != "grid":
            return str(values[STAGE]).removeprefix("sweep:") in chosen.sweeps
        schedule = all(getattr(chosen, name) == getattr(self._asked, name) for name in ("sweeps", "search", "epochs"))
        return chosen == self._asked or (schedule and values["learning_rate"] in chosen.learning_rates)

    def _note(self, later: str) -> None:
        fits = f"All that was asked for fits --budget {written(self._budget or 0)}."
        self._listener.on_note((" ".join(self.log.sentences()) or fits) + later)

    def _seconds(self, recipe: Recipe) -> float:
        # Further seeds and the audit take what time is left.
        works = stage_works(recipe, self._work, list(recipe.sweeps), self._final_gpus)
        return self.estimator.seconds(stage for stage in works if stage.name not in (REPEATS, AUDIT)) or 0.0


def _check(budget: float, began_with: float | None, results: Results) -> None:
    otherwise = "choose another --study NAME, or --fresh to start over."
    if began_with is None and results.clock_file.exists():
        raise UserError(f"The study in {results.folder} began without a budget: go on without --budget, {otherwise}")
    if began_with is not None and began_with != budget:
        raise UserError(
            f"The study in {results.folder} was cut down to --budget {written(began_with)} when it began: go on with "
            f"that or without --budget, {otherwise}"
        )
