"""Tunes a plain model and prints what `test_keras_trainable.py` looks at.

Usage: python tune_keras.py keras|tf_keras FOLDER
"""

import gc
import importlib
import json
import sys
import weakref
from pathlib import Path

import numpy as np

from tuners import CasualGridOracle, CasualGridSearch, KerasTrainable

keras = importlib.import_module(sys.argv[1])
# What is imported stays: to look through all of it takes each of the collections between trials half a second.
gc.freeze()
folder = Path(sys.argv[2])

draw = np.random.default_rng(0)
x = draw.normal(size=(640, 4)).astype("float32")
y = np.abs(x[:, :1])  # what no linear model fits
data = {"x": x[:512], "y": y[:512], "validation_data": (x[512:], y[512:]), "verbose": 0}

models = weakref.WeakSet()
schedules = set()
fitted = []


def build(hp):
    schedules.add(hp.Int("epochs", 1, 9))
    hidden = keras.layers.Dense(hp.Int("units", 1, 64), hp.Choice("activation", ["linear", "relu"]))
    layers = [keras.Input([4]), hidden, keras.layers.Dropout(0.01), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(hp["learning_rate"]), "mse")
    models.add(model)
    return model


class Note(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        fitted.append(epoch + 1)


class StopAfterTwo(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


def message(trainable, hyperparameters, place, **data) -> str:
    try:
        list(trainable(hyperparameters, place, **data))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def place(name: str) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return folder / name


found = {}

oracle = CasualGridOracle(
    "val_loss",
    [0.02, 0.0001],
    2,
    {"activation": ["linear", "relu"]},
    {"learning_rate": 0.02, "batch_size": 16, "units": 16},
    sweep_epochs=2,
)
oracle.verbose = 0
tuner = CasualGridSearch(KerasTrainable(build, seed=0), oracle, folder, "study")
tuner.search(**data)
best = oracle.best()
found["schedules"] = sorted(schedules)
found |= {"activation": best.hyperparameters["activation"], "learning_rate": best.learning_rate}
found["cells"] = int(oracle.table().tried.sum())
gc.collect()
found["models_alive"] = len(models)

hyperparameters = {
    "units": 4,
    "activation": "relu",
    "learning_rate": 0.01,
    "batch_size": 16,
    "schedule_epochs": 3,
    "stop_epoch": 3,
}
trainable = KerasTrainable(build, seed=1)
found["whole"] = list(trainable(hyperparameters, place("whole"), **data))
interrupted = trainable(hyperparameters, place("resumed"), **data)
next(interrupted), next(interrupted)
interrupted.close()
keras.utils.set_random_seed(99)
fitted.clear()
found["resumed"] = list(trainable(hyperparameters, place("resumed"), callbacks=[Note()], **data))
found["epochs_fitted_after_resuming"] = fitted[:]

for key in ("stopped_after", "stopped_after_again"):
    found[key] = len(list(trainable(hyperparameters, place("stopped"), callbacks=[StopAfterTwo()], **data)))


def unbuilt(hp):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def too_large(hp):
    import tensorflow as tf

    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


found["unbuilt"] = message(KerasTrainable(unbuilt), hyperparameters, place("unbuilt"), **data)
found["out_of_memory"] = message(KerasTrainable(too_large), hyperparameters, place("oom"), **data)
found["other_model"] = message(trainable, {**hyperparameters, "units": 5}, place("whole"), **data)
state = place("whole") / "keras_trainable.npz"
state.write_bytes(state.read_bytes()[:1000])
found["truncated"] = list(trainable(hyperparameters, place("whole"), **data))

found["bertgrid_tf"] = [name for name in sys.modules if name.startswith("bertgrid_tf")]
print(json.dumps(found))
