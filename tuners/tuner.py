"""The tuner: one trial after another, a report after every epoch."""

import math
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus

from tuners.errors import TunerError
from tuners.files import delete
from tuners.oracle import CasualGridOracle
from tuners.space import Value
from tuners.summary import summary
from tuners.trainable import Trainable

IDLE_SECONDS = 0.2
"""Seconds between two requests for a trial while the next stage waits for another tuner's trial."""
NO_EPOCH = "the trainable yielded no epoch"


class CasualGridSearch(BaseTuner):
    """Searches with a `CasualGridOracle`, one trial after another, with a report after every epoch.

    A study in the project's folder is resumed: ended trials are kept, an unfinished one resumes under its own id,
    in its own folder.

    Example:
        >>> import tempfile
        >>> from tuners import CasualGridOracle, CasualGridSearch
        >>> def train(hyperparameters, folder):
        ...     for epoch in range(1, hyperparameters["stop_epoch"] + 1):
        ...         yield {"val_accuracy": 0.5 + epoch * hyperparameters["learning_rate"]}
        >>> oracle = CasualGridOracle("val_accuracy", learning_rates=[0.01, 0.02], epochs=3)
        >>> oracle.verbose = 0
        >>> tuner = CasualGridSearch(train, oracle, directory=tempfile.mkdtemp(), project_name="toy")
        >>> tuner.search()
        >>> tuner.oracle.best().learning_rate, tuner.oracle.best().epoch
        (0.02, 3)

    Args:
        trainable: Trains one configuration.
        oracle: Oracle of the search.
        directory: Parent of the project's folder.
        project_name: Name of the project's folder, `directory/project_name`.
        overwrite: Whether to start over: deletes `oracle.json` and the `trial_*` folders of the project, nothing else.
        on_trial_begin: Called with the trial when it starts or resumes.
        on_epoch_end: Called with the trial, the epoch (counted from 1) and its metrics, after each report; ends the
            trial by returning False.

    Raises:
        TunerError: The folder holds a damaged study or that of another search.
    """

    def __init__(
        self,
        trainable: Trainable,
        oracle: CasualGridOracle,
        directory: str | Path,
        project_name: str,
        overwrite: bool = False,
        on_trial_begin: Callable[[Trial], None] | None = None,
        on_epoch_end: Callable[[Trial, int, Mapping[str, float]], bool | None] | None = None,
    ) -> None:
        self.trainable = trainable
        self._retries = oracle.max_retries_per_trial
        self._on_trial_begin = on_trial_begin
        self._on_epoch_end = on_epoch_end
        self._waiting = False
        # KerasTuner's own overwriting deletes the whole folder, and a worker's deletes the chief's.
        if overwrite and not self._is_worker():
            discard(Path(directory, project_name))
        super().__init__(oracle, directory=str(directory), project_name=project_name)
        self.reload()

    def pre_create_trial(self) -> None:
        """Wait where the oracle was IDLE: the next stage waits for another tuner's trial."""
        if self._waiting:
            time.sleep(IDLE_SECONDS)
        self._waiting = True

    def on_trial_begin(self, trial: Trial) -> None:
        """Call the function `on_trial_begin`."""
        self._waiting = False
        if self._on_trial_begin is not None:
            self._on_trial_begin(trial)

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> None:
        """Train one trial to its end, to a diverged epoch or until the oracle stops it, and report every epoch.

        Raises:
            TunerError: The trainable reports no objective, or more epochs than `stop_epoch`.
            keras_tuner.errors.FailedTrialError: The trainable raised it, or yielded no epoch.
        """
        epoch = 0
        epochs = iter(self.trainable(configuration(trial), Path(self.get_trial_dir(trial.trial_id)), *args, **kwargs))
        try:
            for epoch, metrics in enumerate(epochs, start=1):
                if not self._report(trial, epoch, metrics):
                    break
        finally:
            # A generator that is left early has files and memory to release.
            getattr(epochs, "close", lambda: None)()
        if epoch == 0:
            raise keras_tuner.errors.FailedTrialError(NO_EPOCH)

    def _report(self, trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report the metrics of an epoch; returns whether the trial continues."""
        objective, stop_epoch = self.oracle.objective.name, int(trial.hyperparameters.values["stop_epoch"])
        if epoch > stop_epoch:
            raise TunerError(f"the trainable went on after the {stop_epoch} epochs of stop_epoch: end it there")
        if objective not in metrics:
            raise TunerError(
                f"the objective {objective} is not among the metrics of the trainable ({', '.join(metrics)}): "
                "report it, or search for one of these"
            )
        metrics = {name: float(value) for name, value in metrics.items()}
        if not math.isfinite(metrics[objective]):
            metrics[objective] = math.nan
        status = self.oracle.update_trial(trial.trial_id, metrics, step=epoch).status
        if self._on_epoch_end is not None and self._on_epoch_end(trial, epoch, metrics) is False:
            return False
        return not math.isnan(metrics[objective]) and status != TrialStatus.STOPPED

    def _try_run_and_update_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> None:
        # KerasTuner's own makes the trial INVALID on any exception. Where nothing is retried that would search around
        # a bug, so the exception ends the search: the trial stays RUNNING, and resumes when the bug is fixed.
        try:
            self.run_trial(trial, *args, **kwargs)
            trial.status = TrialStatus.COMPLETED
            return
        except keras_tuner.errors.FailedTrialError as error:
            trial.status, reason = TrialStatus.FAILED, error
        except (keras_tuner.errors.FatalError, TunerError):
            raise
        except Exception as error:
            if not self._retries:
                raise
            trial.status, reason = TrialStatus.INVALID, error
        trial.message = "\n\n".join((str(reason), "".join(traceback.format_exception(reason))))

    def on_trial_end(self, trial: Trial) -> None:
        """End the trial at the oracle, which saves it."""
        self.oracle.end_trial(trial)

    def save(self) -> None:
        """Save the oracle; the tuner has no state of its own."""
        if not self._is_worker():
            self.oracle.save()

    def reload(self) -> None:
        """Resume the study in the project's folder, unless the oracle has trials already.

        Raises:
            TunerError: The study is damaged or belongs to another search.
        """
        # A worker's oracle is the chief's. An oracle that has trials knows more than the disk.
        if self._is_worker() or self.oracle.trials:
            return
        project = Path(self.project_dir)
        if (project / "oracle.json").exists():
            self.oracle.reload()
        elif any(project.glob("trial_*")):
            raise TunerError(
                f"{project} holds trials but no oracle.json: restore it from a copy, choose another "
                "project_name or overwrite=True"
            )

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Return the hyperparameters of the best trials, with the best epoch as `stop_epoch`."""
        best = [(trial.hyperparameters.copy(), trial.best_step) for trial in self.oracle.get_best_trials(num_trials)]
        for hyperparameters, epoch in best:
            hyperparameters.values["stop_epoch"] = epoch
        return [hyperparameters for hyperparameters, _ in best]

    def results_summary(self, *, scale: float = 1, digits: int = 4) -> None:
        """Print the sweeps and the learning-rate × epoch table with its best cell marked.

        Args:
            scale: Factor of the scores; 100 shows fractions in percent.
            digits: Decimals of a score.
        """
        print(f"Results summary\nResults in {self.project_dir}\n{self.oracle.objective}\n")
        print(summary(self.oracle, scale, digits))


def configuration(trial: Trial) -> dict[str, Value]:
    """Return the hyperparameters of a trial without those of the tuner itself."""
    return {name: value for name, value in trial.hyperparameters.values.items() if not name.startswith("tuner/")}


def discard(project: Path) -> None:
    """Delete the state of a search, in an order in which a kill leaves nothing that passes for a whole one."""
    # As long as oracle.json stands it names the trials that are missing.
    for trial in project.glob("trial_*"):
        delete(trial / "trial.json")
        delete(trial)
    delete(project / "oracle.json")
