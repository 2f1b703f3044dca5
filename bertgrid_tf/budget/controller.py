"""A study's time: measured and predicted, reported to its callbacks and, with a budget, kept within it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from time import monotonic
from typing import Literal

from keras_tuner.engine.trial import Trial

from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.budget.deadline import Deadline, TimedOracle, trial_config
from bertgrid_tf.budget.plan import planned_finals, search_space, stage_trials, stage_works
from bertgrid_tf.budget.time_budget import (
    MARGIN,
    Budget,
    BudgetLog,
    candidates,
    choose,
    format_duration,
    too_short_error,
)
from bertgrid_tf.budget.time_estimator import FIRST_STEPS, START, StageWork, TimeEstimator
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name
from bertgrid_tf.training.workload import EpochWorkload
from bertgrid_tf.trial_config import GRID, INTERACTIONS, SEEDS, TrialConfig
from tuners.state import ENDED
from tuners.strategies import Strategy
from tuners.tuner import discard


class NotChosenError(Exception):
    """The current trial does not fit the budget: it is deleted, and the search restarts.

    Attributes:
        trial_id: Id of the trial.
    """

    def __init__(self, trial_id: str) -> None:
        super().__init__(trial_id)
        self.trial_id = trial_id


class BudgetController:
    """Reports a study's events to the estimator and the callbacks and, with a budget, keeps the study within it.

    The study begins with its first stage. As soon as its speed is known, after the first ten steps or else the first
    epoch, the part that fits the budget is chosen, and that of the grid once more when the sweeps are decided.

    Attributes:
        estimator: The study's estimator.
        log: The decisions for lack of time.

    Args:
        recipe: The whole recipe.
        workload: Estimates an epoch of a configuration.
        folder: The study folder.
        callback: Called after the estimator.
        budget: Budget of this session; None to continue with the study's own, if it has one.
        workers: Trials at a time.
        final_gpus: GPUs that train the final model.
        final_workers: Trials of the final model at a time.

    Raises:
        UserError: The study began with another budget or with none.
    """

    def __init__(
        self,
        recipe: Recipe,
        workload: Callable[[TrialConfig], EpochWorkload],
        folder: StudyFolder,
        callback: Callback,
        budget: Budget | None,
        workers: int,
        final_gpus: int,
        final_workers: int,
    ) -> None:
        self.log = BudgetLog(folder.budget_file)
        if budget is not None:
            check_budget(folder, budget.seconds)
        began, earlier = budget.began if budget else None, folder.read_times()
        self.estimator = TimeEstimator(began, workers, earlier, monotonic, final_workers)
        self._budget = budget.seconds if budget else self.log.seconds
        self._asked = recipe
        self._workload = workload
        self._folder = folder
        self._callback = callback
        self._final_gpus = final_gpus
        self._running = ""
        callback.on_study_begin(folder, self.estimator)

    # The search

    def attach(self, oracle: TimedOracle, strategy: Callable[[Recipe], Strategy | Literal["grid"]]) -> None:
        """Keep a search within the budget, narrowed to the chosen part if there is one.

        Args:
            oracle: Made for the whole recipe, without trials.
            strategy: Makes the strategy of a recipe's search.
        """
        self._oracle, self._strategy = oracle, strategy
        arguments = (self._asked, oracle, self.estimator, self.log, self._workload, self._final_gpus)
        self._deadline = oracle.deadline = Deadline(self._budget or inf, *arguments)
        oracle.one_at_a_time = self._is_undecided
        self._narrow()

    def resume(self) -> None:
        """Measure the speed by the trials that ended in earlier sessions."""
        self._expect(self._oracle.stage)
        for trial in self._oracle.trials.values():
            if trial.status in ENDED and trial.metrics.exists("seconds"):
                config = trial_config(trial.hyperparameters.values)
                seconds = [float(observation.mean()) for observation in trial.metrics.get_history("seconds")]
                arguments = (config.stage, self._workload(config), config.stop_epoch, seconds)
                self.estimator.add_ended(trial_name(trial.trial_id), *arguments)

    def begin_trial(self, trial: Trial) -> None:
        """Report that a trial of the search begins or resumes."""
        self._trial_id = trial.trial_id
        self._config = replace(trial_config(trial.hyperparameters.values), seed=self._asked.seed)
        if self._config.stage != self.estimator.stage:
            self._expect(self._config.stage)
        self._begin(trial_name(trial.trial_id), self._config)

    def trial_epoch(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report an epoch of a trial; return whether there is time for another.

        Raises:
            UserError: Nothing fits the budget.
            NotChosenError: This trial does not fit.
        """
        self.epoch(trial_name(trial.trial_id), epoch, metrics)
        # An epoch that is restored, or repeated after the loss of a worker, was decided on before.
        restored = epoch < len(self._oracle.history(trial))
        return restored or self._deadline.goes_on(trial_config(trial.hyperparameters.values), epoch)

    # After the search

    def expect(self, stage: str, configs: Sequence[TrialConfig]) -> None:
        """Announce the trials of a stage after the search."""
        works = tuple((self._workload(config), config.stop_epoch) for config in configs)
        self.estimator.expect([StageWork(stage, works)])

    def begin_follow_up(self, name: str, config: TrialConfig) -> bool:
        """Report that a trial after the search begins or resumes.

        Returns:
            Whether it begins, which it does not where the final model would not fit after it.
        """
        epochs = config.stop_epoch
        winner = self._asked.model_copy(update={"hyperparameters": config.hyperparameters})
        configs = (config, *planned_finals(winner, epochs, self._final_gpus))
        if MARGIN * sum(self._deadline.trial_seconds(each, epochs) for each in configs) > self._deadline.left:
            self.log.add("leave_out", trial=name)
            return False
        self._begin(name, config)
        return True

    def begin_final(self, name: str, config: TrialConfig, first: bool) -> bool:
        """Report that a trial of the final model begins or resumes.

        Returns:
            Whether it begins, which it does not where it does not fit and is not the first one.
        """
        if not first and MARGIN * self._deadline.trial_seconds(config, config.stop_epoch) > self._deadline.left:
            self.log.add("leave_out", trial=name)
            return False
        self._begin(name, config)
        return True

    def final_epoch(self, name: str, config: TrialConfig, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report an epoch of the final model's first trial; return whether there is time for another."""
        self.epoch(name, epoch, metrics)
        decided = self.estimator.restored or epoch == config.stop_epoch
        return decided or self._deadline.epoch_seconds(config) <= self._deadline.left

    # Events

    def step(self, step: int, steps: int, loss: float) -> None:
        """Report training step `step` of an epoch of the trial in this process; errors as for `trial_epoch`."""
        self.estimator.step(self._running, step)
        if step == FIRST_STEPS:
            self._choose()
        self._callback.on_train_batch_end(self._running, step, steps, loss)

    def epoch(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Report an epoch of a trial, trained or restored."""
        self.estimator.epoch(trial, epoch, metrics["seconds"], self._asked.has_diverged(metrics))
        self._choose()
        self._callback.on_epoch_end(trial, epoch, metrics)
        self.write()

    def write(self) -> None:
        """Write predicted and measured time by stage."""
        # Times mark a study that began without a budget, so a study whose budget is still open has none.
        if self.estimator.stage != START and not self._is_undecided:
            self._folder.write_times(self.estimator.times())

    def _begin(self, trial: str, config: TrialConfig) -> None:
        self._running = trial
        workload = self._workload(config)
        self.estimator.begin(trial, config.stage, workload, config.stop_epoch)
        self._callback.on_trial_begin(trial, config, workload.steps)

    def _expect(self, stage: str, anew: bool = False) -> None:
        """Announce the stages of the search and after it, `stage` being the current one."""
        incumbent, parameter = self._deadline.incumbent, stage.removeprefix("sweep:")
        sweeps = list(incumbent.sweeps)
        undecided = sweeps[sweeps.index(parameter) :] if parameter in sweeps else []
        self.estimator.expect(stage_works(incumbent, self._workload, undecided, self._final_gpus), anew)

    # The choice of a part that fits

    @property
    def _is_undecided(self) -> bool:
        return self._budget is not None and self.log.seconds is None

    def _choose(self) -> None:
        """Choose the part of the study that fits the budget, if that is open and the speed is known."""
        if self._budget is None or not self._is_undecided or self.estimator.left() is None:
            return
        spent, config = self.estimator.elapsed(), self._config
        chosen = choose(self._asked, self._seconds, self._budget, spent)
        keep = chosen is not None and self._is_part(config, chosen)
        if not keep:
            # Before the choice is written: a process killed in between leaves a study that has not begun.
            discard(self._folder.path)
            self._folder.delete_predictions(trial_name("*"))
        if chosen is None:
            raise too_short_error(self._asked, self._seconds, self._budget, spent)
        self.log.choose(self._budget, self._asked, chosen)
        grid = next(stage for stage, trials in stage_trials(chosen) if trials) == GRID
        if grid or config.stage == GRID:
            self.log.choose_grid(self._asked, chosen)
        self._report_choice("" if grid else " The part of the grid that fits is chosen after the sweeps.")
        if not keep:
            self.estimator.expect((), anew=True)
            raise NotChosenError(self._trial_id)
        self._oracle.one_at_a_time = False
        self._narrow()
        self._expect(config.stage, anew=True)

    def _choose_grid(self) -> None:
        """Choose the part of the grid that fits, now that the sweeps are decided and the speed is known better."""
        incumbent, spent = self._deadline.incumbent, self.estimator.elapsed()
        grid = self._asked.model_copy(update={"hyperparameters": incumbent.hyperparameters, "sweeps": {}})
        chosen = choose(grid, self._seconds, self._deadline.seconds, spent) or candidates(grid)[-1]
        self.log.choose_grid(self._asked, chosen.model_copy(update={"sweeps": incumbent.sweeps}))
        self._report_choice("")
        self._narrow()

    def _narrow(self) -> None:
        """Narrow the search to the chosen part, if there is one."""
        if self.log.seconds is not None:
            searched = self._deadline.recipe = self.log.chosen(self._asked)
            self._oracle.narrow(search_space(searched), self._strategy(searched))
            self._oracle.before_grid = None if self.log.of("grid") else self._choose_grid

    def _is_part(self, config: TrialConfig, chosen: Recipe) -> bool:
        """Return whether a trial belongs to a chosen recipe too."""
        if config.stage != GRID:
            return config.stage.removeprefix("sweep:") in chosen.sweeps
        schedule = all(getattr(chosen, name) == getattr(self._asked, name) for name in ("sweeps", "search", "epochs"))
        return chosen == self._asked or (schedule and config.hyperparameters.learning_rate in chosen.learning_rates)

    def _report_choice(self, later: str) -> None:
        fits = f"The whole study fits --budget {format_duration(self._deadline.seconds)}."
        self._callback.on_message((" ".join(self.log.sentences()) or fits) + later)

    def _seconds(self, recipe: Recipe) -> float:
        # Further seeds and interaction checks take the time that the others leave.
        stages = stage_works(recipe, self._workload, list(recipe.sweeps), self._final_gpus)
        return self.estimator.seconds(stage for stage in stages if stage.name not in (SEEDS, INTERACTIONS))


def check_budget(folder: StudyFolder, budget: float, grows: bool = False) -> None:
    """Check that the study in a folder can go on with a budget.

    Args:
        folder: The study's.
        budget: Seconds that all sessions may take.
        grows: Whether the study is about to grow, so that the budget may be larger than its own.

    Raises:
        UserError: The study began with another budget or with none.
    """
    began_with = BudgetLog(folder.budget_file).seconds
    otherwise = "choose another --study NAME, or --fresh to start over."
    if began_with is None and folder.times_file.exists():
        raise UserError(f"The study in {folder.path} began without a budget: go on without --budget, {otherwise}")
    if began_with is not None and (budget < began_with or (budget > began_with and not grows)):
        more = " or more" if grows else ""
        raise UserError(
            f"The study in {folder.path} was cut down to --budget {format_duration(began_with)} when it began: go on "
            f"with that{more} or without --budget, {otherwise}"
        )
