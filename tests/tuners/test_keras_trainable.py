"""An ordinary Keras model, of Keras 3 or tf_keras, is tuned without bertgrid_tf."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

from tuners import TunerError
from tuners.keras_trainable import KerasTrainable, _restore, _save

SCRIPT = Path(__file__).with_name("tune_keras.py")


def tune(folder: Path, backend: str) -> subprocess.CompletedProcess[str]:
    """Runs the script in a process of its own: no bertgrid_tf, no other test's TensorFlow state."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(SCRIPT.parents[2]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_USE_LEGACY_KERAS": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    command = [sys.executable, str(SCRIPT), backend, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module", params=["keras", pytest.param("tf_keras", marks=pytest.mark.slow)])
def tuned(request, tmp_path_factory) -> dict:
    done = tune(tmp_path_factory.mktemp(request.param), request.param)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_plain_model_is_tuned_and_nothing_of_bertgrid_tf_imported(tuned):
    assert tuned["bertgrid_tf"] == []
    assert tuned["activation"] == "relu"
    assert tuned["learning_rate"] == 0.02
    assert tuned["cells"] == 4
    assert tuned["schedules"] == [2]


def test_a_trial_resumed_after_an_epoch_equals_an_uninterrupted_one(tuned):
    assert tuned["resumed"] == tuned["whole"]
    assert tuned["epochs_fitted_after_resuming"] == [3]


def test_a_trial_that_stopped_its_training_is_not_trained_further_when_it_resumes(tuned):
    assert tuned["stopped_after"] == tuned["stopped_after_again"] == 2


def test_former_models_are_let_go_of(tuned):
    assert tuned["models_alive"] <= 1


def test_out_of_memory_fails_the_trial(tuned):
    assert "out of memory" in tuned["out_of_memory"]


def test_what_is_no_usable_model_or_state_is_refused(tuned):
    assert "give it an input shape" in tuned["unbuilt"]
    assert "of another model" in tuned["other_model"]


def test_a_trial_whose_state_is_damaged_is_trained_again(tuned):
    assert tuned["truncated"] == tuned["whole"]


@pytest.mark.parametrize("type", [tf.bfloat16, tf.float16, tf.float32, tf.int64], ids=lambda type: type.name)
def test_variables_of_every_type_are_read_back_as_they_were_saved(tmp_path, type):
    weights = [tf.Variable(tf.cast([3, -200], type))]
    optimizer = SimpleNamespace(build=lambda variables: None, variables=[])
    model = SimpleNamespace(variables=weights, trainable_variables=weights, optimizer=optimizer)
    _save(model, [{"loss": 0.5}], True, tmp_path / "state.npz")
    weights[0].assign(tf.zeros(2, type))
    assert _restore(model, tmp_path / "state.npz") == ([{"loss": 0.5}], True)
    assert weights[0].numpy().tolist() == [3, -200]


@pytest.mark.parametrize(("given", "used"), [({}, 8), ({"batch_size": 4}, 4)], ids=str)
def test_a_trial_s_batch_size_is_that_of_fit_unless_the_search_is_given_one(tmp_path, monkeypatch, given, used):
    monkeypatch.setattr("tuners.keras_trainable.gc.collect", lambda: None)  # a second where so much is loaded

    class Model:
        built = True

        def fit(self, **arguments: object) -> None:
            raise LookupError(arguments["batch_size"])

    values = {"batch_size": 8, "learning_rate": 0.1, "schedule_epochs": 1, "stop_epoch": 1}
    with pytest.raises(LookupError, match=str(used)):
        next(KerasTrainable(lambda hp: Model())(values, tmp_path, **given))


@pytest.mark.parametrize("name", ["epochs", "initial_epoch"])
def test_the_epochs_of_fit_are_the_searchs_own(tmp_path, name):
    with pytest.raises(TunerError, match=f"{name} is the search's own"):
        next(KerasTrainable(lambda hp: None)({"schedule_epochs": 1, "stop_epoch": 1}, tmp_path, **{name: 3}))
