"""Studies with a budget, on a simulated time: a training step takes a second."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tiny_study import SECONDS, Recorder, run, tiny

from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.budget.time_budget import Budget, BudgetLog
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.model_cache import ModelCache
from bertgrid_tf.trial_config import FINAL, TrialConfig

# Of 4 steps an epoch: 2 epochs of sweeping, 4 of the grid, and a final model of 2 at most.
WHOLE = {"learning_rate": 1e-3}


class Time:
    """A time that passes with the steps of a study."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step_seconds = 1.0

    def __call__(self) -> float:
        return self.now

    def pass_step(self) -> None:
        self.now += self.step_seconds


class EveryModel:
    """The models of one corpus, none of which is ever dropped."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.trainers: dict[str, Trainer] = {}

    def trainer(self, hyperparameters: Hyperparameters, gpus: int = 1) -> Trainer:
        if hyperparameters.model not in self.trainers:
            self.trainers[hyperparameters.model] = ModelCache(self.corpus).trainer(hyperparameters, gpus)
        return self.trainers[hyperparameters.model]


@pytest.fixture(scope="module", autouse=True)
def one_model_each():
    """A model is built and traced once for all studies here: most of what a study of seconds takes."""
    models: dict[str, EveryModel] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "bertgrid_tf.training.trial_runner.ModelCache",
            lambda corpus: models.setdefault(corpus.fingerprint(), EveryModel(corpus)),
        )
        yield


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    passing = Time()
    monkeypatch.setattr("bertgrid_tf.budget.controller.monotonic", passing)
    return passing


def study(
    folder: Path, time: Time, seconds: float | None = None, then: Callable[[], None] = lambda: None, **recipe
) -> Recorder:
    """Runs a study, within a budget if `seconds` is one, and calls `then` after every step."""

    def step() -> None:
        time.pass_step()
        then()

    budget = None if seconds is None else Budget(seconds, time.now)
    return run(folder, tiny(**WHOLE | recipe), callback=Recorder(step), budget=budget)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study without a budget."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    run(folder, tiny(**WHOLE))
    return folder


def tables(folder: Path) -> dict[str, str]:
    study_folder = StudyFolder(folder)
    predictions = {path.name: path.read_text() for path in study_folder.predictions.iterdir()}
    cells = pd.read_csv(study_folder.cells_file).drop(columns=SECONDS).to_csv()
    return predictions | {"cells": cells, "sweeps": study_folder.sweeps_file.read_text()}


def choices(recorder: Recorder) -> list[str]:
    """The messages but for the findings about so few texts."""
    return [message for message in recorder.messages if not message.startswith("Warning: ")]


def decided(folder: Path) -> list[str]:
    return [json.loads(line)["decision"] for line in StudyFolder(folder).budget_file.read_text().splitlines()]


def test_a_budget_that_everything_fits_changes_nothing_and_nothing_is_trained_twice(whole, time, tmp_path):
    recorder = study(tmp_path / "study", time, 1000)
    assert tables(tmp_path / "study") == tables(whole)
    times = {stage.stage: stage.measured for stage in StudyFolder(tmp_path / "study").read_times()}
    assert {"sweep:context", "grid", "final"} <= set(times)
    assert sum(times.values()) == pytest.approx(time.now)
    planned = 2 + 4 + len(StudyFolder(whole).read_final().epochs)
    assert recorder.steps == 4 * planned
    assert decided(tmp_path / "study") == ["recipe", "grid"]
    fits = "The whole study fits --budget 16m40s."
    assert choices(recorder) == [f"{fits} The part of the grid that fits is chosen after the sweeps.", fits]


def test_what_does_not_fit_is_left_out_and_the_study_ends_in_time_with_a_final_model(time, tmp_path):
    folder = tmp_path / "study"
    recorder = study(folder, time, 40)
    study_folder = StudyFolder(folder)
    assert time.now <= 40
    assert study_folder.model.is_dir()
    assert "Chosen to fit --budget 40s, without" in choices(recorder)[0]
    assert BudgetLog(study_folder.budget_file).chosen(tiny(**WHOLE)) != tiny(**WHOLE)
    # What was asked for stays the study's recipe; the rest of its table is empty.
    assert study_folder.read_recipe() == tiny(**WHOLE)
    assert study_folder.read_table().scores.shape == (2, 2)
    assert not study_folder.read_table().tried.all()


def test_a_refused_study_has_not_begun_and_the_least_named_is_enough(time, tmp_path):
    folder = tmp_path / "study"
    with pytest.raises(UserError, match=r"give --budget \d+s or more") as refused:
        study(folder, time, 8)
    assert not list(folder.glob("trial_*"))
    assert not list(StudyFolder(folder).predictions.iterdir())
    assert not StudyFolder(folder).times_file.exists()
    least = float(str(refused.value).split("give --budget ")[1].split("s")[0])
    time.now = 0.0
    recorder = study(folder, time, least)
    assert time.now <= least
    assert recorder.stages == ["sweep:context", "grid", "final"]
    assert StudyFolder(folder).read_sweeps() == []
    assert StudyFolder(folder).read_best().learning_rates == [1e-3]
    assert len(StudyFolder(folder).read_final().epochs) == 1


def test_the_first_ten_steps_show_that_nothing_fits(time, tmp_path):
    with pytest.raises(UserError, match="is too short"):
        study(tmp_path / "study", time, 30, max_train_samples=400)
    # An epoch has more than 20.
    assert time.now < 10


def test_a_trial_of_a_longer_schedule_than_fits_is_ended_and_does_not_count(time, tmp_path):
    recipe = {"max_train_samples": 400, "sweeps": {}, "epochs": 6, "learning_rates": [1e-3], "final.model": "none"}
    folder = tmp_path / "study"
    recorder = study(folder, time, 100, **recipe)
    epochs = BudgetLog(StudyFolder(folder).budget_file).chosen(tiny(**recipe)).epochs
    assert epochs < 6
    assert recorder.steps == 9 + epochs * recorder.trials[0][1]
    assert [config.schedule_epochs for config in recorder.configs] == [6, epochs]
    assert [path.name for path in folder.glob("trial_*")] == ["trial_0000"]
    assert time.now <= 100


def test_a_sweep_that_begins_goes_on_where_only_later_ones_are_left_out(time, tmp_path):
    recipe = {"sweeps": {"context": ["current", "current+previous"], "max_length": [48, 32]}, "max_train_samples": 400}
    recipe |= {"learning_rates": [1e-3], "epochs": 1, "sweep_epochs": 2, "final.model": "none"}
    folder = tmp_path / "study"
    recorder = study(folder, time, 210, **recipe)
    assert recorder.stages == ["sweep:context", "sweep:context", "grid"]
    assert recorder.steps == sum(config.stop_epoch * steps for config, steps in recorder.trials)
    assert time.now <= 210
    # Another session narrows the search in the same way.
    assert study(folder, time, **recipe).steps == 0


def test_a_study_that_becomes_slow_ends_its_search_in_time_for_the_final_model(time, tmp_path):
    def slower() -> None:
        # From the second row of the grid on.
        time.step_seconds = 1.0 if time.now < 8 else 4.0

    folder = tmp_path / "study"
    recorder = study(folder, time, 60, slower, sweeps={})
    study_folder = StudyFolder(folder)
    assert choices(recorder) == ["The whole study fits --budget 1m."]
    assert time.now <= 60
    assert study_folder.model.is_dir()
    assert decided(folder) == ["recipe", "grid", "stop"]
    assert study_folder.read_table().tried.tolist() == [[True, True], [True, False]]


def test_a_final_model_that_is_slower_than_predicted_is_ended_after_an_epoch_that_is_done(time, tmp_path):
    folder = tmp_path / "study"

    class Slow(Recorder):
        def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
            super().on_trial_begin(trial, config, steps)
            time.step_seconds = 30.0 if config.stage == FINAL else 1.0

    recipe = {"learning_rates": [1e-3], "metric": "loss"}
    run(folder, tiny(**WHOLE | recipe), callback=Slow(time.pass_step), budget=Budget(200, 0.0))
    study_folder = StudyFolder(folder)
    assert study_folder.read_best().epochs == 2
    assert len(study_folder.read_final().epochs) == 1
    assert decided(folder) == ["recipe", "grid", "final"]
    assert study_folder.model.is_dir()
    # A kill before its scores were written repeats it.
    study_folder.final_file.unlink()
    study(folder, time, **recipe)
    assert len(study_folder.read_final().epochs) == 1


class KilledError(BaseException):
    """Stands for a kill: nothing of the study catches it."""


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with a budget that not everything fits."""
    folder, passing = tmp_path_factory.mktemp("cut") / "study", Time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertgrid_tf.budget.controller.monotonic", passing)
        study(folder, passing, 40)
    return folder


@pytest.mark.parametrize("steps", [5, 14])
def test_a_study_that_is_killed_and_resumed_does_what_it_had_decided(steps, cut, time, tmp_path):
    def kill() -> None:
        if time.now == steps:
            raise KilledError

    folder = tmp_path / "study"
    with pytest.raises(KilledError):
        study(folder, time, 40, kill)
    before = decided(folder) if StudyFolder(folder).budget_file.exists() else []
    # A lost epoch's time is not known to the next session; it has what the estimator has counted.
    time.now = sum(stage.measured for stage in StudyFolder(folder).read_times())
    run(folder, tiny(**WHOLE), callback=Recorder(time.pass_step), budget=None if before else Budget(40, time.now))
    # Decisions stand; the speed is measured anew.
    assert decided(folder)[: len(before)] == before
    assert decided(folder)[:2] == decided(cut)[:2] == ["recipe", "grid"]
    assert time.now <= 40
    assert StudyFolder(folder).model.is_dir()
    if decided(folder) == decided(cut):
        assert tables(folder) == tables(cut)


def test_another_budget_or_a_late_one_is_refused(whole, time, tmp_path):
    shutil.copytree(whole, tmp_path / "whole")
    with pytest.raises(UserError, match="began without a budget: go on without --budget"):
        study(tmp_path / "whole", time, 1000)
    study(tmp_path / "study", time, 1000)
    with pytest.raises(UserError, match="was cut down to --budget 16m40s when it began: go on with that or without"):
        study(tmp_path / "study", time, 2000)
    assert study(tmp_path / "study", time, 1000).steps == 0
