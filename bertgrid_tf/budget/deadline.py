"""A search with a deadline: a trial that no longer fits is not begun, or is ended early."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras_tuner.engine.trial import Trial, TrialStatus

from bertgrid_tf.budget.plan import planned_finals
from bertgrid_tf.budget.time_budget import MARGIN, BudgetLog
from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.workload import EpochWorkload
from bertgrid_tf.trial_config import GRID, TrialConfig
from tuners import CasualGridOracle, TunerError
from tuners.space import STAGE

LEFT_OUT = "left out for lack of time"


class TimedOracle(CasualGridOracle):
    """A `CasualGridOracle` whose trials must fit a time budget.

    Attributes:
        deadline: Decides which trials begin; to be set before the search.
        one_at_a_time: Whether a trial waits for the end of the one before it, whatever the number of workers.
        before_grid: Called once, before the first trial of the grid; may `narrow` the search.
    """

    deadline: "Deadline"
    one_at_a_time = False
    before_grid: Callable[[], None] | None = None

    def create_trial(self, tuner_id: str) -> Trial:
        """Return the next trial; a level of a sweep that does not fit becomes a failed trial on the way."""
        trial = super().create_trial(tuner_id)
        while trial.status == TrialStatus.RUNNING:
            config = trial_config(trial.hyperparameters.values)
            if config.stage == GRID or self.history(trial) or self.deadline.admits(config):
                break
            trial.status, trial.message = TrialStatus.FAILED, LEFT_OUT
            self.end_trial(trial)
            trial = super().create_trial(tuner_id)
        return trial

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See `CasualGridOracle`; the search ends with the first trial of the grid that does not fit."""
        if self.one_at_a_time and self.ongoing_trials:
            return {"status": TrialStatus.IDLE}
        if self.before_grid is not None and self.stage == GRID:
            narrow, self.before_grid = self.before_grid, None
            narrow()
        if self.deadline.ended:
            return {"status": TrialStatus.STOPPED}
        response = super().populate_space(trial_id)
        values = response.get("values", {})
        if values.get(STAGE) == GRID and not self.deadline.admits(trial_config(values)):
            return {"status": TrialStatus.STOPPED}
        return response


@dataclass
class Deadline:
    """Decides which trials begin and go on, so that the final model still ends within the budget.

    A trial of which only the last epoch counts begins if it fits whole, any other if one epoch fits; the latter ends
    before the first epoch that does not fit. The first trial of the grid always begins: there is no winner without it.

    Attributes:
        seconds: Budget of all sessions together; infinite without one.
        recipe: The part of the study's recipe that is searched.
        oracle: The search.
        estimator: Measures the elapsed time, and predicts the remaining time.
        log: Holds earlier decisions, and receives new ones.
        workload: Estimates an epoch of a configuration.
        final_gpus: GPUs that train the final model.
    """

    seconds: float
    recipe: Recipe
    oracle: CasualGridOracle
    estimator: TimeEstimator
    log: BudgetLog
    workload: Callable[[TrialConfig], EpochWorkload]
    final_gpus: int

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.seconds - self.estimator.elapsed()

    @property
    def ended(self) -> bool:
        """Whether no further trial of the grid may begin."""
        return self.log.ended

    @property
    def incumbent(self) -> Recipe:
        """The recipe with the sweeps' winners so far as its hyperparameters."""
        return self.recipe.model_copy(update={"hyperparameters": Hyperparameters.from_values(self.oracle.incumbent)})

    def admits(self, config: TrialConfig) -> bool:
        """Return whether a trial may begin; log it if not."""
        grid = config.stage == GRID
        epochs = config.stop_epoch if self._is_whole(config) else 1
        if (grid and not self._best_epoch()) or self._fits(config, 1, self.trial_seconds(config, epochs)):
            return True
        if grid:
            self.log.add("end")
        else:
            self.log.add("leave_out", trial=title(config))
        return False

    def goes_on(self, config: TrialConfig, epoch: int) -> bool:
        """Return whether a trial may train another epoch after this one; log it if not."""
        if self._is_whole(config) or epoch >= config.stop_epoch:
            return True
        stop = {"trial": title(config), "epoch": epoch}
        if any(stop.items() <= line.items() for line in self.log.of("stop")):
            return False
        if self._fits(config, epoch + 1, self.epoch_seconds(config)):
            return True
        self.log.add("stop", **stop)
        return False

    def epoch_seconds(self, config: TrialConfig) -> float:
        """Predict the seconds of a trial's epoch; 0 before anything was measured."""
        return self.estimator.throughput.seconds(self.workload(config))

    def trial_seconds(self, config: TrialConfig, epochs: int) -> float:
        """Predict the seconds of the first epochs of a trial; 0 before anything was measured."""
        return self.estimator.trial_seconds(self.workload(config), epochs)

    def _is_whole(self, config: TrialConfig) -> bool:
        return config.stage != GRID or self.recipe.grid_schedule == "per-cell"

    def _fits(self, config: TrialConfig, epoch: int, seconds: float) -> bool:
        """Return whether seconds up to an epoch of a trial fit, with what must follow the trial."""
        incumbent, epochs = self.incumbent, max(epoch, self._best_epoch())
        if config.stage != GRID:
            # One row of the grid, and a final model of as many epochs.
            epochs = self.recipe.epochs
            seconds += self.trial_seconds(TrialConfig(incumbent.hyperparameters, epochs, epochs), epochs)
        finals = planned_finals(incumbent, epochs, self.final_gpus)
        seconds += sum(self.trial_seconds(final, epochs) for final in finals)
        return MARGIN * seconds <= self.left

    def _best_epoch(self) -> int:
        """Return the epoch of the best cell so far; 0 without any."""
        try:
            return self.oracle.best().epoch
        except TunerError:
            return 0


def trial_config(values: Mapping[str, Any]) -> TrialConfig:
    """Return the configuration of one of the oracle's trials, but for its seed."""
    return TrialConfig.from_values(values, seed=0, stage=str(values[STAGE]))


def title(config: TrialConfig) -> str:
    """Return a trial's value in its stage, as `context=current`."""
    parameter = "learning_rate" if config.stage == GRID else config.stage.removeprefix("sweep:")
    return f"{parameter}={getattr(config.hyperparameters, parameter)}"
