"""TensorBoard itself reads what is logged: the table of its HParams plugin, and the scalars."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_trials
import pytest
from keras_tuner.engine.trial import TrialStatus
from made_up_trials import OVERALL, add_trial, epoch
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.data.provider import DataProvider
from tensorboard.data.server_ingester import SubprocessServerDataIngester, get_server_binary
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin
from tensorboard.util import grpc_util
from werkzeug.test import Client

from bertgrid_tf import recipe as recipes
from bertgrid_tf.errors import UserError
from bertgrid_tf.report.tensorboard import write_log, write_logs
from bertgrid_tf.storage.records import FinalTrial, FollowUpTrial
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import SEEDS, TrialConfig

Ask = Callable[..., Any]


@pytest.fixture
def study_folder(tmp_path: Path) -> StudyFolder:
    return made_up_trials.make_study(tmp_path / "study")


def tensorboard(study_folder: StudyFolder) -> Ask:
    """Ask TensorBoard's plugins, as its page does, about the study's logs as they are then."""
    logs = str(study_folder.path / "tensorboard")
    events = EventMultiplexer()
    events.AddRunsFromDirectory(logs)
    events.Reload()
    return asking(MultiplexerDataProvider(events, logs), logs)


def open_tensorboard(study_folder: StudyFolder) -> Ask:
    """Ask the plugins of a TensorBoard that stays open and reads the logs anew every second, as its command does."""
    logs = str(study_folder.path / "tensorboard")
    local = grpc_util.ChannelCredsType.LOCAL
    server = SubprocessServerDataIngester(get_server_binary(), logs, reload_interval=1, channel_creds_type=local)
    server.start()
    return asking(server.data_provider, logs)


def asking(provider: DataProvider, logs: str) -> Ask:
    context = TBContext(data_provider=provider, logdir=logs)
    board = Client(TensorBoardWSGI([ScalarsPlugin(context), HParamsPlugin(context)], data_provider=provider))

    def ask(path: str, **parameters: Any) -> Any:
        request = {"json": parameters, "method": "POST"} if path.startswith("hparams") else {"query_string": parameters}
        answer = board.open(f"/data/plugin/{path}", **request)
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text)

    return ask


def rows(ask: Ask) -> dict[str, dict[str, Any]]:
    """The rows of the HParams table by trial."""
    statuses = [f"STATUS_{name}" for name in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    table = ask("hparams/session_groups", startIndex=0, sliceSize=100, allowedStatuses=statuses)
    return {row["name"]: row for row in table["sessionGroups"]}


def curve(ask: Ask, run: str, tag: str) -> list[tuple[int, float]]:
    return [(step, value) for _, step, value in ask("scalars/scalars", run=run, tag=tag)]


def test_every_trial_is_a_row_with_its_hyperparameters_and_its_last_metrics(study_folder):
    write_logs(study_folder)
    shown = rows(tensorboard(study_folder))
    assert {name: row["hparams"] for name, row in shown.items()} == {
        trial: {
            "stage": stage,
            "seed": 1,
            "model": "scratch:2x128",
            "learning_rate": rate,
            "schedule_epochs": 4,
            "context": context,
        }
        for trial, stage, rate, context in [
            ("0000", "sweep:context", 1e-3, "current"),
            ("0001", "sweep:context", 1e-3, "current+previous"),
            ("0002", "grid", 0.5, "current"),
        ]
    }
    assert {name: row["sessions"][0]["status"] for name, row in shown.items()} == {
        "0000": "STATUS_SUCCESS",
        "0001": "STATUS_FAILURE",
        "0002": "STATUS_UNKNOWN",
    }
    metrics = {metric["name"]["tag"]: metric["value"] for metric in shown["0000"]["metricValues"]}
    assert metrics == {name: value for name, value in epoch(0.75).items() if name in OVERALL}


def test_every_overall_metric_is_a_curve_with_a_point_at_the_end_of_each_epoch(study_folder):
    write_logs(study_folder)
    ask = tensorboard(study_folder)
    assert {run: sorted(set(tags) & set(epoch(0))) for run, tags in ask("scalars/tags").items()} == {
        "0000": OVERALL,
        "0002": OVERALL,
    }
    assert curve(ask, "0000", "accuracy") == [(1, 0.5), (2, 0.75)]


def test_the_metric_that_decides_has_a_curve_too(study_folder):
    study_folder.recipe_file.write_text(recipes.load_recipe("sample", None, {"metric": "f1_joy"}).to_yaml())
    write_log(study_folder, "0000")
    assert curve(tensorboard(study_folder), "0000", "f1_joy") == [(1, 0.5), (2, 0.5)]


def test_a_log_is_replaced_as_its_trial_goes_on_and_an_open_tensorboard_follows(study_folder):
    write_logs(study_folder)
    ask = open_tensorboard(study_folder)
    deadline = time.monotonic() + 30
    while "0002" not in ask("scalars/tags"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    add_trial(study_folder, "0002", "grid", [0.625, 0.875], TrialStatus.COMPLETED, learning_rate=0.5)
    write_log(study_folder, "0002")
    whole = [(1, 0.625), (2, 0.875)]
    while curve(ask, "0002", "accuracy") != whole or rows(ask)["0002"]["sessions"][0]["status"] != "STATUS_SUCCESS":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert curve(tensorboard(study_folder), "0002", "accuracy") == whole
    assert [len(list(folder.iterdir())) for folder in (study_folder.path / "tensorboard").iterdir()] == [1, 1, 1]


def test_the_final_model_is_a_row_and_a_curve(study_folder):
    hyperparameters = study_folder.read_recipe().hyperparameters.model_copy(update={"model": "scratch:2x256"})
    study_folder.write_final(FinalTrial(hyperparameters, 4, [epoch(0.5), epoch(0.75)]))
    write_logs(study_folder)
    ask = tensorboard(study_folder)
    assert curve(ask, "final", "accuracy") == [(1, 0.5), (2, 0.75)]
    assert rows(ask)["final"]["hparams"] | {"stage": "final", "model": "scratch:2x256"} == rows(ask)["final"]["hparams"]


def test_a_trial_after_the_search_is_a_row_with_its_seed(study_folder):
    config = TrialConfig(study_folder.read_recipe().hyperparameters, 4, 2, seed=7, stage=SEEDS)
    study_folder.write_follow_up(FollowUpTrial("seed7_0.001_4", config, [epoch(0.5), epoch(0.75)]))
    write_logs(study_folder)
    ask = tensorboard(study_folder)
    assert curve(ask, "seed7_0.001_4", "accuracy") == [(1, 0.5), (2, 0.75)]
    shown = rows(ask)["seed7_0.001_4"]["hparams"]
    assert (shown["stage"], shown["seed"]) == (SEEDS, 7)


def test_a_diverged_epoch_is_shown_as_no_number(study_folder):
    add_trial(study_folder, "0003", "grid", [0.5, float("nan")], TrialStatus.FAILED)
    write_logs(study_folder)
    assert curve(tensorboard(study_folder), "0003", "accuracy") == [(1, 0.5), (2, "NaN")]


def test_a_folder_that_cannot_be_written_is_named(study_folder):
    study_folder.tensorboard.touch()
    with pytest.raises(UserError, match=r"Cannot write TensorBoard's logs to .*/tensorboard/0000: make the folder"):
        write_log(study_folder, "0000")
