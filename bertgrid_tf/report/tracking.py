"""Studies in experiment trackers: what the callbacks for MLflow and for Weights & Biases have in common."""

import json
import shutil
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from bertgrid_tf.analysis import StudyAnalysis, analyze
from bertgrid_tf.bert.checkpoint_config import first_line
from bertgrid_tf.bert.scratch import SCRATCH
from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.report import figures, page
from bertgrid_tf.report.answer import headline
from bertgrid_tf.report.card import card
from bertgrid_tf.report.recorded_trials import RecordedTrial, recorded_trials, shown_metrics
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import TrialConfig
from tuners.state import ENDED


class Tracker(Callback):
    """Keeps a study in an experiment tracker: a run for each trial, with the epoch as step, and one for the study.

    The study's run gets the report, the model card, the tables and the final model. What the tracker lacks is logged
    whenever a trial begins, and at the study's end: a study that was stopped, has grown, or was out of the tracker's
    reach for a while has each epoch there once. A tracker that fails is reported once, and ends no study.

    Args:
        texts: Whether the tracker may get texts of the data: `mistakes.csv`, the report's mistakes and findings, and a
            `scratch` model, whose vocabulary is that of the training texts.
        on_message: Receives the sentence about a tracker that fails; None for a warning.
    """

    title: ClassVar[str]

    def __init__(self, texts: bool = False, on_message: Callable[[str], object] | None = None) -> None:
        self._texts = texts
        self._on_message = on_message or warnings.warn
        self._running: dict[str, RecordedTrial] = {}
        self._is_open = self._has_failed = self._has_reported = False

    def on_study_begin(self, study: StudyFolder, estimator: TimeEstimator) -> None:
        """See `Callback`."""
        self._study, self._running = study, {}
        self._is_open = self._has_reported = False
        self._log_recorded()

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        """See `Callback`; trials that have ended meanwhile get their status."""
        self._running.pop(trial, None)
        self._log_recorded()
        self._running[trial] = RecordedTrial(trial, config)
        self._attempt(lambda: self._log(self._running[trial]))

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `Callback`."""
        if running := self._running.get(trial):
            running = self._running[trial] = replace(running, epochs=[*running.epochs[: epoch - 1], metrics])
            self._attempt(lambda: self._log(running))

    def on_study_end(self) -> None:
        """See `Callback`."""
        self._log_recorded()
        self._attempt(self._end)

    def _log_recorded(self) -> None:
        """Log what the tracker lacks, which may be in reach again."""
        self._has_failed = False
        self._attempt(self._synchronize)

    def _attempt(self, action: Callable[[], object]) -> None:
        """Call the tracker, unless it has failed since the current trial began."""
        if self._has_failed:
            return
        try:
            action()
        except Exception as error:  # trackers' errors have no class in common
            # What it has taken is asked for anew.
            self._has_failed, self._is_open = True, False
            if not self._has_reported:
                self._has_reported = True
                self._on_message(
                    f"{self.title} cannot be written to ({first_line(error)}): the study goes on without it, and the "
                    "same command logs later what is missing there."
                )

    def _synchronize(self) -> None:
        if not self._is_open:
            recipe = self._study.read_recipe()
            self._id, self._metric = self._study.tracking_id(), recipe.metric
            self._of_study: dict[str, Value] = {"corpus": recipe.corpus, "metric": recipe.metric, "seed": recipe.seed}
            self._open()
            self._is_open = True
        for trial in recorded_trials(self._study):
            if trial.status in ENDED:
                self._running.pop(trial.name, None)
            # The folder may lack the last epoch of a trial that is running.
            if trial.name not in self._running:
                self._log(trial)
        for trial in self._running.values():
            self._log(trial)

    def _end(self) -> None:
        results = _digest(self._study, self._texts)
        if results != self._sent_results():
            analysis = analyze(self._study)
            with TemporaryDirectory() as folder:
                _write_artifacts(Path(folder), self._study, analysis, self._texts)
                self._send(Path(folder), self._model(), " ".join(headline(analysis)), results)
        self._close()

    def _points(self, trial: RecordedTrial) -> list[dict[str, float]]:
        """Return what is logged of each epoch of a trial: the metrics of `shown_metrics`, and its number."""
        points = enumerate(trial.epochs, start=1)
        return [shown_metrics(metrics, self._metric) | {"epoch": epoch} for epoch, metrics in points]

    def _model(self) -> Path | None:
        """Return the final model's folder, where there is one that may be sent."""
        if not self._study.has_final_model():
            return None
        has_words = SCRATCH.fullmatch(self._study.read_final().model)
        return self._study.model if self._texts or not has_words else None

    # What a tracker does

    @abstractmethod
    def _open(self) -> None:
        """Find the study's runs, or begin with none."""

    @abstractmethod
    def _log(self, trial: RecordedTrial) -> None:
        """Log the epochs of a trial that its run lacks, and its status; make the run where there is none."""

    @abstractmethod
    def _sent_results(self) -> str:
        """Return the digest with which the study's files were sent; empty before that."""

    @abstractmethod
    def _send(self, files: Path, model: Path | None, summary: str, digest: str) -> None:
        """Send a folder of files, the model's folder and a description with the study's run."""

    def _close(self) -> None:
        """End the study's run."""


def run_parameters(config: TrialConfig) -> dict[str, Value]:
    """Return what describes the run of a trial, and distinguishes it from another of that name.

    Example:
        >>> from bertgrid_tf.hyperparameters import Hyperparameters
        >>> parameters = run_parameters(TrialConfig(Hyperparameters(learning_rate=1e-3), 4, 2, seed=1))
        >>> parameters["stage"], parameters["seed"], parameters["learning_rate"], parameters["schedule_epochs"]
        ('grid', 1, 0.001, 4)
    """
    values: dict[str, Value] = {"stage": config.stage, "seed": config.seed}
    # Where the schedule has no horizon, a trial that goes on is the same run.
    schedule = {"schedule_epochs": config.schedule_epochs} if config.hyperparameters.needs_horizon else {}
    return values | config.hyperparameters.model_dump() | schedule


def run_key(trial: RecordedTrial) -> str:
    """Return the name of a trial's run within the study: a study that grows has another final model of that name."""
    return f"{trial.name}-{sha256(json.dumps(run_parameters(trial.config)).encode()).hexdigest()[:8]}"


def _digest(study: StudyFolder, texts: bool) -> str:
    """Return a digest of a study's results, which do not change when a command only finds that nothing is missing."""
    files = [study.recipe_file, study.cells_file, study.sweeps_file, study.final_file, study.evaluations_file]
    files += sorted(study.follow_up.glob("*.json"))
    content = [file.read_bytes() for file in files if file.exists()]
    return sha256(repr([texts, content]).encode()).hexdigest()


def _write_artifacts(folder: Path, study: StudyFolder, analysis: StudyAnalysis, texts: bool) -> None:
    """Write the report and the model card, and copy the tables, without texts of the data unless these are wanted."""
    if not texts:
        metadata = analysis.metadata and replace(analysis.metadata, findings=())
        analysis = replace(analysis, mistakes=(), metadata=metadata)
    write_text(folder / study.report_file.name, page.render(analysis, figures.draw(analysis)))
    if analysis.final is not None:
        write_text(folder / "README.md", card(analysis))
    files = [study.best_file, study.sweeps_file, study.grid_file, study.cells_file, study.final_file]
    for file in [*files, *([study.mistakes_file] if texts else [])]:
        if file.exists():
            shutil.copy(file, folder)
