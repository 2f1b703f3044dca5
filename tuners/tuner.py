"""Runs the trials that the oracle asks for, and reports every epoch."""

import math
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial, TrialStatus

from tuners.errors import TunerError
from tuners.oracle import CasualGridOracle
from tuners.space import Value
from tuners.summary import summary

IDLE_SECONDS = 0.2
"""How long a tuner waits before it asks again, when the next stage waits for another tuner's run."""
NO_EPOCH = "the run yielded no epoch"


class Run(Protocol):
    """One training run of one configuration: yields the metrics after every epoch, first epoch first.

    `values` holds every parameter, with `learning_rate`, `epochs` (the horizon of the schedule) and
    `stop_after` (the epochs to train, at most `epochs`). `folder` exists and is the run's own; what it keeps
    there lets it resume. A resumed run yields its earlier epochs again, from what it saved, then goes on.

    Raise `keras_tuner.errors.FailedTrialError` where a configuration cannot be trained (it does not fit the
    memory, say): the trial fails and the search goes on. Any other exception ends the search, which resumes
    with this trial. A metric that is not finite in the objective's place ends the run as diverged.
    """

    def __call__(
        self, values: Mapping[str, Value], folder: Path, *args: Any, **kwargs: Any
    ) -> Iterator[Mapping[str, float]]: ...


class CasualGridSearch(BaseTuner):
    """Searches with a `CasualGridOracle`: a run after another, a report after every epoch.

    Where the project's folder holds a study already, the search goes on with it, whatever ended the process
    before: finished trials are not run again, an unfinished one runs on under its own id, in its own folder.

    Example:

        >>> def run(values, folder):
        ...     for epoch in range(1, values["stop_after"] + 1):
        ...         yield {"val_accuracy": 0.5 + epoch * values["learning_rate"]}
        >>> oracle = CasualGridOracle("val_accuracy", learning_rates=[0.01, 0.02], epochs=3)
        >>> tuner = CasualGridSearch(run, oracle, directory="results", project_name="toy")
        >>> tuner.search()
        >>> tuner.results_summary()

    Args:
        run: Trains one configuration; see `Run`.
        oracle: What to search.
        directory: The parent of the project's folder.
        project_name: The project's folder, `directory/project_name`.
        overwrite: Starts over: deletes the state of a study that the folder holds (`oracle.json` and the
            `trial_*` folders; nothing else).
        on_trial: Called with the trial when it starts or goes on.
        on_epoch: Called with the trial, the epoch (counted from 1) and its metrics, after each report; ends the trial
            by returning False.

    Raises:
        TunerError: the folder holds a damaged study or that of another search.
    """

    def __init__(
        self,
        run: Run,
        oracle: CasualGridOracle,
        directory: str | Path,
        project_name: str,
        overwrite: bool = False,
        on_trial: Callable[[Trial], None] | None = None,
        on_epoch: Callable[[Trial, int, Mapping[str, float]], bool | None] | None = None,
    ) -> None:
        self.run = run
        self._on_trial = on_trial
        self._on_epoch = on_epoch
        self._waiting = False
        # KerasTuner's own overwriting deletes the whole folder, and a worker's deletes the chief's.
        if overwrite and not self._is_worker():
            discard(Path(directory, project_name))
        super().__init__(oracle, directory=str(directory), project_name=project_name)
        self.reload()

    def pre_create_trial(self) -> None:
        """Waits where the oracle had no trial to give: the next stage waits for a run of another tuner."""
        if self._waiting:
            time.sleep(IDLE_SECONDS)
        self._waiting = True

    def on_trial_begin(self, trial: Trial) -> None:
        """Tells `on_trial`."""
        self._waiting = False
        if self._on_trial is not None:
            self._on_trial(trial)

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> None:
        """Runs one trial to its end, to a diverged epoch or to the oracle's "stop", and reports every epoch.

        Raises:
            TunerError: the run reports no objective, or more epochs than it was asked for.
            keras_tuner.errors.FailedTrialError: the run raised it, or yielded no epoch.
        """
        epoch = 0
        epochs = iter(self.run(configuration(trial), Path(self.get_trial_dir(trial.trial_id)), *args, **kwargs))
        try:
            for epoch, reported in enumerate(epochs, start=1):
                if not self._report(trial, epoch, reported):
                    break
        finally:
            # A generator that is left early has files and memory to let go of.
            getattr(epochs, "close", lambda: None)()
        if epoch == 0:
            raise keras_tuner.errors.FailedTrialError(NO_EPOCH)

    def _report(self, trial: Trial, epoch: int, reported: Mapping[str, float]) -> bool:
        """Hands the metrics of an epoch on; whether the run is to go on."""
        asked = int(trial.hyperparameters.values["stop_after"])
        if epoch > asked:
            raise TunerError(f"the run went on after the {asked} epochs that stop_after asks for: end it there")
        metrics = self._metrics(reported)
        status = self.oracle.update_trial(trial.trial_id, metrics, step=epoch).status
        if self._on_epoch is not None and self._on_epoch(trial, epoch, metrics) is False:
            return False
        return not math.isnan(metrics[self.oracle.objective.name]) and status != TrialStatus.STOPPED

    def _metrics(self, reported: Mapping[str, float]) -> dict[str, float]:
        objective = self.oracle.objective.name
        if objective not in reported:
            raise TunerError(
                f"the objective {objective} is not among the metrics of the run ({', '.join(reported)}): "
                "report it, or search for one of these"
            )
        metrics = {name: float(value) for name, value in reported.items()}
        if not math.isfinite(metrics[objective]):
            metrics[objective] = math.nan
        return metrics

    def _run_and_update_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> None:
        # KerasTuner's own expects run_trial to return the metrics, and warns of reports from within.
        self.run_trial(trial, *args, **kwargs)

    def _try_run_and_update_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> None:
        # KerasTuner's own fails the trial on any exception. A bug is nothing to search around, so it is let
        # through: the trial stays RUNNING, and goes on when the bug is mended.
        try:
            self._run_and_update_trial(trial, *args, **kwargs)
            trial.status = TrialStatus.COMPLETED
        except keras_tuner.errors.FailedTrialError as error:
            trial.status = TrialStatus.FAILED
            trial.message = f"{error}\n\n{traceback.format_exc()}"

    def on_trial_end(self, trial: Trial) -> None:
        """Hands the ended trial to the oracle, which saves it."""
        self.oracle.end_trial(trial)

    def save(self) -> None:
        """Saves the oracle; the tuner has no state of its own."""
        if not self._is_worker():
            self.oracle.save()

    def reload(self) -> None:
        """Takes up the study in the project's folder, unless the oracle is at work on it already.

        Raises:
            TunerError: the study is damaged or belongs to another search.
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
        """The values of the best trials, each to be stopped after its best epoch."""
        found = []
        for trial in self.oracle.get_best_trials(num_trials):
            hyperparameters = trial.hyperparameters.copy()
            hyperparameters.values["stop_after"] = trial.best_step
            found.append(hyperparameters)
        return found

    def results_summary(self, *, scale: float = 1, digits: int = 4) -> None:
        """Prints the sweeps and the learning-rate × epoch table with its best cell marked.

        Args:
            scale: What scores are multiplied by; 100 shows fractions in percent.
            digits: Decimals of a score.
        """
        print("Results summary")
        print(f"Results in {self.project_dir}")
        print(self.oracle.objective)
        print()
        print(summary(self.oracle, scale, digits))


def configuration(trial: Trial) -> dict[str, Value]:
    """What a trial's run is given: its values without the tuner's own notes."""
    return {name: value for name, value in trial.hyperparameters.values.items() if not name.startswith("tuner/")}


def discard(project: Path) -> None:
    """Delete the state of a search, in an order in which a kill leaves nothing that passes for a whole one."""
    # As long as oracle.json stands it names the trials that are missing.
    for trial in project.glob("trial_*"):
        (trial / "trial.json").unlink(missing_ok=True)
        shutil.rmtree(trial)
    (project / "oracle.json").unlink(missing_ok=True)
