"""Studies in MLflow: a run for the study, and below it one for each trial."""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time

from keras_tuner.engine.trial import TrialStatus

from bertgrid_tf.bert.checkpoint_config import first_line
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.report.recorded_trials import RecordedTrial
from bertgrid_tf.report.tracking import Tracker, run_key, run_parameters

STUDY, RUN, RESULTS = "bertgrid.study", "bertgrid.run", "bertgrid.results"
"""The tags by which a run is found again: the study's id, the run's name within it; and the digest of what was sent."""
_STATUS = {TrialStatus.COMPLETED: "FINISHED", TrialStatus.FAILED: "FAILED"}
# With MLflow's own 7 repetitions and 120 seconds a study would wait long for a lost server. Telemetry goes elsewhere.
_SETTINGS = {
    **{"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"},
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass
class _Run:
    """A run as MLflow knows it, with the epochs it has."""

    id: str
    epochs: int = 0
    status: str = "RUNNING"
    is_described: bool = False


class MLflow(Tracker):
    """Keeps a study in MLflow, on the server or in the store that `MLFLOW_TRACKING_URI` names.

    Args:
        experiment: The name of the experiment; None for `MLFLOW_EXPERIMENT_NAME`, or else bertgrid-tf.
        texts: As for `Tracker`.
        on_message: As for `Tracker`.

    Raises:
        UserError: MLflow is not installed; the server cannot be reached or refuses.
    """

    title = "MLflow"

    def __init__(
        self, experiment: str | None = None, texts: bool = False, on_message: Callable[[str], object] | None = None
    ) -> None:
        super().__init__(texts, on_message)
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient, get_tracking_uri
            from mlflow.exceptions import MlflowException
        except ModuleNotFoundError as error:
            raise UserError("MLflow is not installed: pip install 'bertgrid-tf[mlflow]'.") from error
        name = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "bertgrid-tf"
        try:
            self._client = MlflowClient()
            with suppress(MlflowException):  # there may be one of that name
                self._client.create_experiment(name)
            found = self._client.get_experiment_by_name(name)
            if found is None or found.lifecycle_stage != "active":
                raise LookupError(f"the experiment {name} has been deleted there")
            self._experiment = found.experiment_id
        except Exception as error:  # of the client, the store and the network alike
            reason = f"MLflow at {get_tracking_uri()} cannot be used ({first_line(error)})"
            reason = re.sub(r"//[^/@]*@", "//…@", reason)  # a user's name and password
            raise UserError(f"{reason}: start it, or name another by MLFLOW_TRACKING_URI.") from error

    def _open(self) -> None:
        self._tags = {STUDY: self._id}
        found = self._client.search_runs([self._experiment], f"tags.`{STUDY}` = '{self._id}'", max_results=10_000)
        self._runs: dict[str, _Run] = {}
        self._results = ""
        for run in found:
            epochs = int(run.data.metrics.get("epoch", 0))
            self._runs[run.data.tags[RUN]] = _Run(run.info.run_id, epochs, run.info.status, bool(run.data.params))
            self._results = run.data.tags.get(RESULTS, self._results)
        self._own = self._run("study", self._study.path.name, self._of_study)
        self._tags["mlflow.parentRunId"] = self._own.id
        self._set_status(self._own, "RUNNING")

    def _log(self, trial: RecordedTrial) -> None:
        from mlflow.entities import Metric

        run = self._run(run_key(trial), trial.name, run_parameters(trial.config))
        self._set_status(run, _STATUS.get(trial.status, "RUNNING"))
        for point in self._points(trial)[run.epochs :]:
            now, epoch = int(1000 * time()), run.epochs + 1
            # A class's name may have any sign, and MLflow's names few. The epoch comes last, so that it stands for all.
            metrics = [Metric(re.sub(r"[^\w. -]", "_", name), value, now, epoch) for name, value in point.items()]
            self._client.log_batch(run.id, metrics)
            run.epochs = epoch

    def _sent_results(self) -> str:
        return self._results

    def _send(self, files: Path, model: Path | None, summary: str, digest: str) -> None:
        self._client.log_artifacts(self._own.id, str(files))
        if model is not None:
            self._client.log_artifacts(self._own.id, str(model), "model")
        self._client.set_tag(self._own.id, "mlflow.note.content", summary)
        self._client.set_tag(self._own.id, RESULTS, digest)
        self._results = digest

    def _close(self) -> None:
        for run in self._runs.values():
            if run.status == "RUNNING" and run is not self._own:  # of a trial that a budget has left out
                self._set_status(run, "KILLED")
        self._set_status(self._own, "FINISHED")

    def _run(self, key: str, name: str, parameters: Mapping[str, Value]) -> _Run:
        """Return the run of that key, which is made where there is none."""
        from mlflow.entities import Param

        if key not in self._runs:
            made = self._client.create_run(self._experiment, tags=self._tags | {RUN: key}, run_name=name)
            self._runs[key] = _Run(made.info.run_id)
        run = self._runs[key]
        if not run.is_described:
            self._client.log_batch(run.id, params=[Param(name, str(value)) for name, value in parameters.items()])
            run.is_described = True
        return run

    def _set_status(self, run: _Run, status: str) -> None:
        if run.status != status:
            if status == "RUNNING":
                self._client.update_run(run.id, status)
            else:
                self._client.set_terminated(run.id, status)
            run.status = status
