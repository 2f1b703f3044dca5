"""A study of seconds."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

from matplotlib.figure import Figure

from bertgrid_tf import recipe as recipes
from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.budget.time_budget import Budget
from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.data import open_corpus
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report import figures
from bertgrid_tf.storage.records import MeasuredSetting
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.runner import StudyRunner
from bertgrid_tf.study.workers import WorkerOptions
from bertgrid_tf.trial_config import TrialConfig

TINY = {
    "model": "scratch:1x32",
    "final.model": "scratch:2x32",
    "max_train_samples": 60,
    "sweeps": {"context": ["current", "current+previous"]},
    "sweep_epochs": 1,
    "learning_rates": [2e-3, 1e-3],
    "epochs": 2,
}

SECONDS = ["seconds", "train_seconds", "limit_seconds", "roofline_seconds"]
"""The columns of an epoch that the seed does not decide."""


class Recorder(Callback):
    """Remembers its calls; calls `after_step` after every training step."""

    def __init__(self, after_step: Callable[[], None] = lambda: None) -> None:
        self.trials: list[tuple[TrialConfig, int]] = []
        """Every trial that began, with the steps of an epoch."""
        self.steps = 0
        self.messages: list[str] = []
        self.auto_settings: dict[str, MeasuredSetting] = {}
        self.epochs: list[Mapping[str, float]] = []
        self.workers: tuple[int, str] | None = None
        self.hosts: list[str] = []
        self.lost: list[str | None] = []
        self._after_step = after_step

    @property
    def stages(self) -> list[str]:
        return [config.stage for config, _ in self.trials]

    @property
    def configs(self) -> list[TrialConfig]:
        return [config for config, _ in self.trials]

    def on_study_begin(self, study: StudyFolder, estimator: TimeEstimator) -> None:
        self.estimator = estimator

    def on_auto_setting(self, key: str, setting: MeasuredSetting) -> None:
        self.auto_settings[key] = setting

    def on_message(self, message: str) -> None:
        self.messages.append(message)

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        self.trials.append((config, steps))

    def on_train_batch_end(self, trial: str, step: int, steps: int, loss: float) -> None:
        self.steps += 1
        self._after_step()

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs.append(metrics)

    def on_workers_begin(self, count: int, share: str) -> None:
        self.workers = (count, share)

    def on_worker_begin(self, host: str) -> None:
        self.hosts.append(host)

    def on_worker_lost(self, trial: str | None, host: str) -> None:
        self.lost.append(trial)


def tiny(**overrides: object) -> Recipe:
    return recipes.load_recipe("sample", None, TINY | overrides)


def corpus_of(recipe: Recipe) -> Corpus:
    return open_corpus(recipe, [])


@contextmanager
def blank_figures() -> Iterator[None]:
    """Lets Matplotlib write one figure, an empty one: real ones take longer than all training of a study of seconds."""
    draw = figures.draw

    def save(figure: Figure, file: BinaryIO, **how: object) -> None:
        file.write(b'<svg xmlns="http://www.w3.org/2000/svg"/>')

    with (
        patch.object(Figure, "savefig", save),
        patch.object(figures, "draw", lambda analysis: draw(analysis, ["grid"])),
    ):
        yield


def run(
    folder: Path,
    recipe: Recipe | None = None,
    fresh: bool = False,
    callback: Recorder | None = None,
    workers: WorkerOptions | None = None,
    budget: Budget | None = None,
) -> Recorder:
    recipe = recipe or tiny()
    callback = callback or Recorder()
    with blank_figures():
        StudyRunner(recipe, corpus_of(recipe), StudyFolder(folder), [callback], fresh, workers, budget).run()
    return callback
