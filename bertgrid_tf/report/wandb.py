"""Studies in Weights & Biases: a group of runs, one for each trial and, at the end, one for the study."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from keras_tuner.engine.trial import TrialStatus

from bertgrid_tf.bert.checkpoint_config import first_line
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.report.recorded_trials import RecordedTrial
from bertgrid_tf.report.tracking import Tracker, run_key, run_parameters
from bertgrid_tf.storage.files import write_text
from tuners.state import ENDED

# Neither the command's output, which quotes texts of the data, nor code, command line, packages and machine.
_SETTINGS = {
    **dict.fromkeys(("disable_git", "disable_code", "disable_job_creation", "silent"), True),
    **dict.fromkeys(("x_disable_meta", "x_disable_stats", "x_disable_machine_info", "finish_timeout_raises"), True),
    **{"console": "off", "save_code": False, "x_save_requirements": False, "init_timeout": 30, "finish_timeout": 60},
}
_UPLOAD_SECONDS = 3600


class WandB(Tracker):
    """Keeps a study in Weights & Biases, whose own settings say where; offline, its files lie in the study folder.

    Args:
        project: The name of the project; None for `WANDB_PROJECT`, or else bertgrid-tf.
        texts: As for `Tracker`.
        on_message: As for `Tracker`.

    Raises:
        UserError: The package is not installed; there is no key, or the server refuses it or cannot be reached.
    """

    title = "Weights & Biases"
    # By the runs' ids, of all studies of this process: a notebook resumes a study whose runs are still open.
    _active: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, project: str | None = None, texts: bool = False, on_message: Callable[[str], object] | None = None
    ) -> None:
        super().__init__(texts, on_message)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ModuleNotFoundError as error:
            raise UserError("Weights & Biases is not installed: pip install 'bertgrid-tf[wandb]'.") from error
        self._wandb = wandb
        self._project = project or os.environ.get("WANDB_PROJECT") or "bertgrid-tf"
        self._is_online = wandb.setup().settings.mode == "online"
        try:
            # With a run of the caller's, somebody has logged in.
            if self._is_online and wandb.run is None and not wandb.login(verify=True, prompt=False):
                raise LookupError("there is no key")
        except Exception as error:  # of the client and the network alike
            raise UserError(
                f"Weights & Biases cannot be used ({first_line(error)}): run `wandb login`, or set WANDB_MODE=offline, "
                "so that the runs wait in the study folder for `wandb sync`."
            ) from error

    def _open(self) -> None:
        """Do nothing: a run is begun, or taken up, when it is logged."""

    def _log(self, trial: RecordedTrial) -> None:
        key = f"{self._id}-{run_key(trial)}"
        if key not in self._active:
            if self._ended(key) == [len(trial.epochs), trial.status]:
                return
            self._active[key] = self._run(key, trial.name, trial.config.stage, run_parameters(trial.config))
        run = self._active[key]
        for point in self._points(trial)[max(run.step - 1, 0) :]:  # from the run's next step on
            run.log(point, step=int(point["epoch"]), commit=True)
        if trial.status in ENDED:
            self._active.pop(key).finish(exit_code=int(trial.status != TrialStatus.COMPLETED))
            self._end_run(key, [len(trial.epochs), trial.status])

    def _sent_results(self) -> str:
        return str(self._ended(f"{self._id}-study"))

    def _send(self, files: Path, model: Path | None, summary: str, digest: str) -> None:
        key = f"{self._id}-study"
        run = self._run(key, "study", "study", self._of_study, finish_timeout=_UPLOAD_SECONDS)
        run.notes = summary
        for kind, folder in {"report": files, "model": model}.items():
            if folder is not None:
                artifact = self._wandb.Artifact(f"{kind}-{self._id}", type=kind)
                artifact.add_dir(str(folder))
                run.log_artifact(artifact)
        run.finish()
        self._end_run(key, digest)

    def _close(self) -> None:
        for key in [key for key in self._active if key.startswith(self._id)]:  # of a trial that a budget has left out
            self._active.pop(key).finish(exit_code=1)

    # What has ended is kept here, since offline nobody can be asked; what a killed session had begun is logged whole.

    def _ended(self, key: str) -> Any:
        with suppress(OSError, ValueError):
            return json.loads(self._file(key).read_text(encoding="utf-8"))
        return None

    def _end_run(self, key: str, state: Any) -> None:
        write_text(self._file(key), json.dumps(state))

    def _file(self, key: str) -> Path:
        return self._study.path / "wandb" / f"{key}.json"

    def _run(self, key: str, name: str, kind: str, parameters: Mapping[str, Value], **settings: Any) -> Any:
        return self._wandb.init(
            project=self._project,
            group=f"{self._study.path.name}-{self._id}",
            id=key,
            name=name,
            job_type=kind,
            config=dict(parameters),
            dir=str(self._study.path),
            resume="allow" if self._is_online else None,
            reinit="create_new",
            settings=self._wandb.Settings(**_SETTINGS | settings),
        )
