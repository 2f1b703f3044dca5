"""A study in MLflow and in offline Weights & Biases, read back: each trial and each epoch once, and no text."""

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import made_up_trials
import pytest
import tiny_study
from keras_tuner.engine.trial import TrialStatus
from made_up_trials import add_trial, epoch
from offline_runs import offline_runs

from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.corpus import utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.report.mlflow import RUN, MLflow
from bertgrid_tf.report.tracking import Tracker
from bertgrid_tf.report.wandb import WandB
from bertgrid_tf.storage.records import FinalTrial, FollowUpTrial
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.runner import StudyRunner
from bertgrid_tf.trial_config import FINAL, SEEDS, TrialConfig

needs_mlflow = pytest.mark.skipif(not find_spec("mlflow"), reason="the extra `mlflow` is not installed")
needs_wandb = pytest.mark.skipif(not find_spec("wandb"), reason="the extra `wandb` is not installed")
# mlflow-skinny has no server, and mlflow itself asks for older libraries than are locked.
SERVER = os.environ.get("BERTGRID_TEST_MLFLOW")
needs_server = pytest.mark.skipif(not SERVER, reason="set BERTGRID_TEST_MLFLOW to the command `mlflow` of the package")


@pytest.fixture
def study_folder(tmp_path: Path) -> StudyFolder:
    return made_up_trials.make_study(tmp_path / "study")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local store without runs, whose tables take seconds to make."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        patch.chdir(file.parent)
        MLflow("another")
    return file


@pytest.fixture
def store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local store of a test, and its folder as the working directory."""
    shutil.copy(empty_store, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / empty_store.name}")
    monkeypatch.chdir(tmp_path)
    return tmp_path / empty_store.name


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


def runs() -> dict[str, Any]:
    """The runs in MLflow by their names."""
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("bertgrid-tf")
    found = client.search_runs([experiment.experiment_id])
    names = [run.data.tags[RUN] for run in found]
    assert len(set(names)) == len(names)
    return dict(zip(names, found, strict=True))


def curve(run: Any, metric: str) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    return [(point.step, point.value) for point in MlflowClient().get_metric_history(run.info.run_id, metric)]


def named(name: str) -> Any:
    (run,) = [run for key, run in runs().items() if key.startswith(name)]
    return run


def begin(study_folder: StudyFolder, **arguments: Any) -> tuple[MLflow, list[str]]:
    messages: list[str] = []
    tracker = MLflow(on_message=messages.append, **arguments)
    tracker.on_study_begin(study_folder, TimeEstimator())
    return tracker, messages


@needs_mlflow
def test_every_trial_is_a_run_below_the_study_with_its_hyperparameters_and_a_step_per_epoch(study_folder, store):
    begin(study_folder)
    study = named("study")
    assert (study.info.run_name, study.info.status) == ("study", "RUNNING")
    assert study.data.params == {"corpus": "sample", "metric": "accuracy", "seed": "1"}
    for name, stage, rate, context, status, accuracies in [
        ("trial_0000", "sweep:context", "0.001", "current", "FINISHED", [(1, 0.5), (2, 0.75)]),
        ("trial_0001", "sweep:context", "0.001", "current+previous", "FAILED", []),
        ("trial_0002", "grid", "0.5", "current", "RUNNING", [(1, 0.625)]),
    ]:
        run = named(name)
        assert run.data.tags["mlflow.parentRunId"] == study.info.run_id
        assert (run.info.run_name, run.info.status) == (name, status)
        shown = {key: run.data.params[key] for key in ("stage", "learning_rate", "context", "seed", "schedule_epochs")}
        assert list(shown.values()) == [stage, rate, context, "1", "4"]
        assert run.data.params.keys() >= study_folder.read_recipe().hyperparameters.model_dump().keys()
        assert curve(run, "accuracy") == accuracies
    assert set(named("trial_0000").data.metrics) == {*made_up_trials.OVERALL, "epoch"}


@needs_mlflow
def test_a_study_that_resumes_and_grows_adds_what_is_missing(study_folder, store):
    tracker, _ = begin(study_folder)
    config = TrialConfig(study_folder.read_recipe().hyperparameters.model_copy(update={"learning_rate": 0.5}), 4, 4, 1)
    tracker.on_trial_begin("trial_0002", config, 8)
    tracker.on_epoch_end("trial_0002", 1, epoch(0.625))
    tracker.on_epoch_end("trial_0002", 2, epoch(0.875))
    assert curve(named("trial_0002"), "accuracy") == [(1, 0.625), (2, 0.875)]
    # Killed before the folder had the second epoch, which the resumed trial trains once more.
    tracker, _ = begin(study_folder)
    tracker.on_trial_begin("trial_0002", config, 8)
    for number, accuracy in enumerate([0.625, 0.875, 0.25], start=1):
        tracker.on_epoch_end("trial_0002", number, epoch(accuracy))
    whole = [0.625, 0.875, 0.25]
    add_trial(study_folder, "0002", "grid", whole, TrialStatus.COMPLETED, learning_rate=0.5)
    add_trial(study_folder, "0003", "grid", [0.5], TrialStatus.COMPLETED, learning_rate=0.25)
    config = TrialConfig(study_folder.read_recipe().hyperparameters, 4, 2, seed=7, stage=SEEDS)
    study_folder.write_follow_up(FollowUpTrial("seed7_0.001_4", config, [epoch(0.5), epoch(0.75)]))
    for _ in range(2):
        begin(study_folder)
        assert curve(named("trial_0002"), "accuracy") == list(enumerate(whole, start=1))
        assert named("trial_0002").info.status == "FINISHED"
        assert named("seed7").data.params["seed"] == "7"
        assert len(runs()) == 6
    # A row that goes on is the same run, if nothing of it depended on where it would end.
    assert curve(named("trial_0003"), "accuracy") == [(1, 0.5)]


@needs_mlflow
def test_another_final_model_gets_another_run(study_folder, store):
    hyperparameters = study_folder.read_recipe().hyperparameters
    study_folder.write_final(FinalTrial(hyperparameters, 4, [epoch(0.5), epoch(0.75)]))
    begin(study_folder)
    other = hyperparameters.model_copy(update={"learning_rate": 0.25})
    study_folder.write_final(FinalTrial(other, 4, [epoch(0.875)]))
    begin(study_folder)
    final = sorted(curve(run, "accuracy") for key, run in runs().items() if key.startswith("final-"))
    assert final == [[(1, 0.5), (2, 0.75)], [(1, 0.875)]]


@needs_mlflow
def test_a_tracker_that_fails_says_so_once_and_has_everything_when_it_is_back(study_folder, store):
    tracker, messages = begin(study_folder)
    config = TrialConfig(study_folder.read_recipe().hyperparameters, 4, 4, 1, FINAL)
    tracker.on_trial_begin("final", config, 8)

    def lost(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    client, tracker._client = tracker._client, SimpleNamespace(log_batch=lost, search_runs=lost)
    tracker.on_epoch_end("final", 1, epoch(0.5))
    tracker.on_epoch_end("final", 2, epoch(0.25))
    tracker.on_trial_begin("trial_0004", config, 8)
    assert len(messages) == 1
    assert messages[0] == (
        "MLflow cannot be written to (no route to host): the study goes on without it, and the same command logs later "
        "what is missing there."
    )
    tracker._client = client
    tracker.on_trial_begin("trial_0005", config, 8)
    assert curve(named("final"), "accuracy") == [(1, 0.5), (2, 0.25)]
    assert named("trial_0004").info.status == "RUNNING"
    tracker._close()
    assert {named(name).info.status for name in ("trial_0004", "final")} == {"KILLED"}
    assert len(messages) == 1


@needs_mlflow
def test_a_metric_of_a_class_with_any_name_is_logged(study_folder, store):
    recipe = study_folder.read_recipe().model_copy(update={"metric": "micro_f1:anger,joy/기쁨"})
    study_folder.write_recipe(recipe)
    tracker, messages = begin(study_folder)
    config = TrialConfig(recipe.hyperparameters, 4, 4, 1)
    tracker.on_trial_begin("trial_0009", config, 8)
    tracker.on_epoch_end("trial_0009", 1, epoch(0.5) | {recipe.metric: float("nan")})
    assert not messages
    assert "micro_f1_anger_joy_기쁨" in named("trial_0009").data.metrics


@needs_mlflow
def test_a_server_that_cannot_be_reached_and_a_deleted_experiment_are_refused_at_the_start(monkeypatch, store):
    from mlflow import MlflowClient

    MLflow()
    client = MlflowClient()
    client.delete_experiment(client.get_experiment_by_name("bertgrid-tf").experiment_id)
    with pytest.raises(UserError, match=r"^MLflow at sqlite.* cannot be used \(.*bertgrid-tf"):
        MLflow()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"^MLflow at http://127.* cannot be used \(.*\): start it, or name another by"):
        MLflow()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@needs_wandb
def test_weights_and_biases_has_a_run_for_each_trial_in_the_study_s_group(study_folder, offline):
    tracker = WandB()
    tracker.on_study_begin(study_folder, TimeEstimator())
    tracker._close()  # as the process does at its end
    found = {run.name: run for run in offline_runs(study_folder.path)}
    assert {name: (run.kind, run.exit_code) for name, run in found.items()} == {
        "trial_0000": ("sweep:context", 0),
        "trial_0001": ("sweep:context", 1),
        "trial_0002": ("grid", 1),
    }
    assert {run.group for run in found.values()} == {f"study-{study_folder.tracking_id()}"}
    assert found["trial_0001"].config["context"] == "current+previous"
    assert found["trial_0002"].config["learning_rate"] == 0.5
    assert steps(found["trial_0000"]) == [(1, 1, 0.5), (2, 2, 0.75)]
    assert {*made_up_trials.OVERALL, "epoch"} < found["trial_0000"].history[0].keys()


@needs_wandb
def test_the_last_log_of_a_resumed_run_has_each_epoch_once_and_ended_runs_are_not_logged_again(study_folder, offline):
    config = TrialConfig(study_folder.read_recipe().hyperparameters.model_copy(update={"learning_rate": 0.5}), 4, 4, 1)
    for accuracies in ([0.625], [0.625, 0.875, 0.25]):
        tracker = WandB()
        tracker.on_study_begin(study_folder, TimeEstimator())
        tracker.on_trial_begin("trial_0002", config, 8)
        for number, accuracy in enumerate(accuracies, start=1):
            tracker.on_epoch_end("trial_0002", number, epoch(accuracy))
        if len(accuracies) == 1:
            tracker._close()  # as the process does at its end
    # A notebook's cell that is run again finds the run open.
    WandB().on_study_begin(study_folder, TimeEstimator())
    add_trial(study_folder, "0002", "grid", [0.625, 0.875, 0.25], TrialStatus.COMPLETED, learning_rate=0.5)
    tracker.on_trial_begin("trial_0003", replace(config, seed=2), 8)
    tracker._close()
    found = offline_runs(study_folder.path)
    assert [run.name for run in found] == ["trial_0000", "trial_0001", *["trial_0002"] * 2, "trial_0003"]
    assert found[2].id == found[3].id
    assert steps(found[3]) == [(1, 1, 0.625), (2, 2, 0.875), (3, 3, 0.25)]
    assert found[3].exit_code == 0


def steps(run: Any) -> list[tuple[int, int, float]]:
    return [(entry["_step"], entry["epoch"], entry["accuracy"]) for entry in run.history]


@pytest.mark.slow
@needs_wandb
def test_weights_and_biases_without_a_key_or_a_server_is_refused_at_the_start(tmp_path):
    """In a process of its own, since the package reads its settings once."""
    code = "from bertgrid_tf.report.wandb import WandB\ntry: WandB()\nexcept Exception as error: print(repr(error))"
    away = {"HOME": str(tmp_path), "WANDB_BASE_URL": f"http://127.0.0.1:{closed_port()}", "WANDB_API_KEY": ""}
    for key, sentence in [("", "there is no key"), ("0" * 40, "")]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
        environment |= away | ({"WANDB_API_KEY": key} if key else {})
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert f"UserError('Weights & Biases cannot be used ({sentence}" in done.stdout.replace('"', "'"), done


@pytest.mark.parametrize(("kind", "name"), [(MLflow, "MLflow"), (WandB, "Weights & Biases")])
def test_a_package_that_is_not_installed_is_named(monkeypatch, kind, name):
    monkeypatch.setitem(sys.modules, kind.__name__.lower(), None)
    with pytest.raises(UserError) as refused:
        kind()
    assert str(refused.value) == f"{name} is not installed: pip install 'bertgrid-tf[{kind.__name__.lower()}]'."


class Stopped(BaseException):
    """Stands for a signal."""


def tune(folder: StudyFolder, trackers: list[Tracker], steps: int | None = None, **recipe: Any) -> None:
    """Runs the tiny study, up to a number of training steps."""
    left = iter(range(steps)) if steps is not None else None

    def after_step() -> None:
        if left is not None and next(left, None) is None:
            raise Stopped

    asked = tiny_study.tiny(**recipe)
    with tiny_study.blank_figures():
        callbacks = [*trackers, tiny_study.Recorder(after_step)]
        StudyRunner(asked, tiny_study.corpus_of(asked), folder, callbacks).run()


@needs_mlflow
@needs_wandb
def test_a_study_that_is_stopped_and_grows_is_there_once_without_its_texts(tmp_path, store, offline):
    folder = StudyFolder(tmp_path / "tiny")
    with pytest.raises(Stopped):
        tune(folder, [MLflow(), WandB()], steps=12)
    before = runs()
    assert [run.info.status for run in before.values()].count("RUNNING") == 2
    tune(folder, [MLflow(), WandB()])
    ended = runs()
    assert before.keys() < ended.keys()
    assert {name.partition("-")[0] for name in ended} == {*(f"trial_000{n}" for n in range(4)), "final", "study"}
    assert {run.info.status for run in ended.values()} == {"FINISHED"}
    offline_by_name = {run.name: run for run in offline_runs(folder.path)}
    for name, epochs in [("trial_0000", 1), ("trial_0002", 2), ("trial_0003", 2)]:
        scores = [float(point.mean()) for point in folder.read_trial(name[-4:]).metrics.get_history("accuracy")]
        assert curve(named(name), "accuracy") == list(enumerate(scores, start=1))
        assert len(scores) == epochs
        assert steps(offline_by_name[name]) == [(n, n, score) for n, score in enumerate(scores, start=1)]
    from mlflow import MlflowClient

    client, study = MlflowClient(), named("study")
    sent = {file.path for file in client.list_artifacts(study.info.run_id)}
    assert sent == {"report.html", "README.md", "best.yaml", "sweeps.csv", "grid.csv", "cells.csv", "final.json"}
    assert study.data.tags["mlflow.note.content"]
    assert set(offline_by_name["study"].artifacts) == {"report"}
    texts = [
        utterance.text.encode()
        for split in tiny_study.corpus_of(folder.read_recipe()).splits.values()
        for utterance in utterances(split)
        if len(utterance.text) > 15
    ]
    assert len(texts) > 100
    artifact = Path(study.info.artifact_uri.removeprefix("file://"))
    kept = [store, *artifact.rglob("*"), *folder.path.glob("wandb/**/*")]
    content = b"".join(file.read_bytes() for file in kept if file.is_file())
    assert b"Learning rate" in content
    assert not [text for text in texts if text in content]
    # Nothing is new, and nothing is sent.
    count = len(offline_runs(folder.path))
    tune(folder, [MLflow(), WandB()])
    assert len(offline_runs(folder.path)) == count
    # With leave, the texts of the report are sent, and the model with the vocabulary of the training texts.
    trackers = [MLflow(texts=True), WandB(texts=True)]
    for tracker in trackers:
        tracker.on_study_begin(folder, TimeEstimator())
        with tiny_study.blank_figures():
            tracker.on_study_end()
    assert {"mistakes.csv", "model"} < {file.path for file in client.list_artifacts(study.info.run_id)}
    model = {file.path for file in client.list_artifacts(study.info.run_id, "model")}
    assert {"model/model.safetensors", "model/vocab.txt", "model/README.md"} < model
    assert set(offline_runs(folder.path)[-1].artifacts) == {"report", "model"}
    assert runs().keys() == ended.keys()


@pytest.mark.slow
@needs_mlflow
@needs_server
def test_a_server_has_the_study_and_one_that_is_lost_meanwhile_has_it_later(tmp_path, monkeypatch):
    port = closed_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    folder, messages = StudyFolder(tmp_path / "tiny"), list[str]()
    with Server(tmp_path, port):
        tracker = MLflow(on_message=messages.append)
        with pytest.raises(Stopped):
            tune(folder, [tracker], steps=12)
        before = runs()
    began = time.monotonic()
    tune(folder, [tracker])
    assert len(messages) == 1
    assert time.monotonic() - began < 120
    with Server(tmp_path, port):
        assert runs().keys() == before.keys()
        tune(folder, [MLflow(on_message=messages.append)])
        assert len(messages) == 1
        assert len(runs()) == 6
        assert {run.info.status for run in runs().values()} == {"FINISHED"}


class Server:
    """A real tracking server on loopback, with its store in a folder, for as long as the block runs."""

    def __init__(self, folder: Path, port: int) -> None:
        where = f"sqlite:///{folder}/server.db"
        words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", where]
        words += ["--artifacts-destination", str(folder / "artifacts")]
        self._command = [SERVER, *words]
        self._address = f"http://127.0.0.1:{port}/health"

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=os.environ, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(self._address, timeout=5)
                return
            except OSError:
                assert time.monotonic() < deadline and self._process.poll() is None
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, 15)
        self._process.wait()
