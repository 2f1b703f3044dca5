"""A search with a deadline: a trial that no longer fits is not begun, or is ended early."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_tuner.engine.trial import Trial, TrialStatus

from bertgrid_tf.budget.plan import final_run
from bertgrid_tf.budget.time_budget import MARGIN, BudgetLog
from bertgrid_tf.budget.time_estimator import TimeEstimator, Work
from bertgrid_tf.recipe import Hyperparameters, Recipe, Value
from tuners import CasualGridOracle, TunerError
from tuners.space import STAGE

LEFT_OUT = "left out for lack of time"


class TimedOracle(CasualGridOracle):
    """A `CasualGridOracle` whose trials must fit a time budget.

    Attributes:
        deadline: Decides which trials begin; None without a budget.
        one_at_a_time: Whether a trial waits for the end of the one before it, whatever the number of workers.
        before_grid: Called once, before the first trial of the grid; may `narrow` the search.
    """

    deadline: "Deadline | None" = None
    one_at_a_time = False
    before_grid: Callable[[], None] | None = None

    def create_trial(self, tuner_id: str) -> Trial:
        """Return the next trial; a level of a sweep that does not fit becomes a failed trial on the way."""
        trial = super().create_trial(tuner_id)
        while self.deadline is not None and trial.status == TrialStatus.RUNNING:
            values = trial.hyperparameters.values
            if values[STAGE] == "grid" or self.history(trial) or self.deadline.admits(values):
                break
            trial.status, trial.message = TrialStatus.FAILED, LEFT_OUT
            self.end_trial(trial)
            trial = super().create_trial(tuner_id)
        return trial

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See `CasualGridOracle`; the search ends with the first trial of the grid that does not fit."""
        if self.deadline is None:
            return super().populate_space(trial_id)
        if self.one_at_a_time and self.ongoing_trials:
            return {"status": TrialStatus.IDLE}
        if self.before_grid is not None and self.stage == "grid":
            narrow, self.before_grid = self.before_grid, None
            narrow()
        if self.deadline.ended:
            return {"status": TrialStatus.STOPPED}
        response = super().populate_space(trial_id)
        values = response.get("values", {})
        if values.get(STAGE) == "grid" and not self.deadline.admits(values):
            return {"status": TrialStatus.STOPPED}
        return response


class Deadline:
    """Decides which trials begin and go on, so that the final model still ends within the budget.

    A trial of which only the last epoch counts begins if it fits whole, any other if one epoch fits; the latter ends
    before the first epoch that does not fit. The first trial of the grid always begins: there is no winner without it.

    Attributes:
        recipe: What is searched.
        ended: Whether no further trial of the grid may begin.

    Args:
        seconds: The budget, of all sessions together.
        recipe: What is searched.
        oracle: The search.
        estimator: Measures the time that is over, and predicts the rest.
        log: Holds earlier decisions, and receives new ones.
        work: Gives one epoch's work of a configuration.
        final_gpus: Number of GPUs that train the final model.
    """

    def __init__(
        self,
        seconds: float,
        recipe: Recipe,
        oracle: CasualGridOracle,
        estimator: TimeEstimator,
        log: BudgetLog,
        work: Callable[[Mapping[str, Value]], Work],
        final_gpus: int,
    ) -> None:
        self.recipe = recipe
        self.ended = bool(log.of("end"))
        self._seconds = seconds
        self._oracle = oracle
        self._estimator = estimator
        self._log = log
        self._work = work
        self._gpus = final_gpus

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self._seconds - self._estimator.elapsed()

    @property
    def incumbent(self) -> Recipe:
        """The recipe with the sweeps' winners so far as its settings."""
        return self.recipe.model_copy(update={"hyperparameters": Hyperparameters.of(self._oracle.incumbent)})

    def admits(self, values: Mapping[str, Value]) -> bool:
        """Return whether a trial of these values may begin; write down if not."""
        grid = values[STAGE] == "grid"
        epochs = int(values["stop_epoch"]) if self._is_whole(values) else 1
        if (grid and not self._best_epoch()) or self._fits(values, 1, self._run(values, epochs)):
            return True
        if grid:
            self.ended = True
            self._log.add("end")
        else:
            self._log.add("leave_out", run=title(values))
        return False

    def goes_on(self, values: Mapping[str, Value], epoch: int) -> bool:
        """Return whether a trial may train another epoch after this one; write down if not."""
        if self._is_whole(values) or epoch >= int(values["stop_epoch"]):
            return True
        stop = {"run": title(values), "epoch": epoch}
        if any(stop.items() <= line.items() for line in self._log.of("stop")):
            return False
        if self._fits(values, epoch + 1, self._estimator.throughput.seconds(self._work(values)) or 0.0):
            return True
        self._log.add("stop", **stop)
        return False

    def _is_whole(self, values: Mapping[str, Value]) -> bool:
        return values[STAGE] != "grid" or self.recipe.grid == "independent"

    def _fits(self, values: Mapping[str, Value], epoch: int, seconds: float) -> bool:
        """Return whether seconds up to an epoch of a trial fit, with what must follow the trial."""
        if values[STAGE] == "grid":
            seconds += self._final(max(epoch, self._best_epoch()))
        else:
            # One row of the grid, and a final model of as many epochs.
            epochs = self.recipe.epochs
            seconds += self._run(self.incumbent.hyperparameters.model_dump(), epochs) + self._final(epochs)
        return MARGIN * seconds <= self.left

    def _final(self, epochs: int) -> float:
        values = final_run(self.incumbent, epochs)
        return 0.0 if values is None else self._run(values | {"gpus": self._gpus}, epochs)

    def _run(self, values: Mapping[str, Value], epochs: int) -> float:
        return self._estimator.run_seconds(self._work(values), epochs) or 0.0

    def _best_epoch(self) -> int:
        """Return the epoch of the best cell so far; 0 without any."""
        try:
            return self._oracle.best().epoch
        except TunerError:
            return 0


def title(values: Mapping[str, Value]) -> str:
    """Return what tells a trial from the others of its stage, as `context=current`."""
    stage = str(values[STAGE])
    parameter = "learning_rate" if stage == "grid" else stage.removeprefix("sweep:")
    return f"{parameter}={values[parameter]}"
