"""KerasTuner's GridSearch as its guide shows it: a model is built for every trial and trained by `fit`, padded."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import tf_keras

# KerasTuner takes the models of the Keras that it finds under this name; with Keras 3 it refuses transformers' models.
sys.modules["keras"] = tf_keras

import keras_tuner  # noqa: E402

from benchmarks.contenders.keras_model import build, dataset  # noqa: E402
from benchmarks.contenders.process import Reply, serve  # noqa: E402
from benchmarks.contenders.trials import EpochRecorder  # noqa: E402
from benchmarks.texts import PaddedTexts  # noqa: E402


class Epochs(tf_keras.callbacks.Callback):
    """Records every epoch with its validation."""

    def __init__(self, recorder: EpochRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the epoch."""
        self._recorder.epoch(perf_counter() - self._began, float(logs["val_accuracy"]))


class Classifier(keras_tuner.HyperModel):
    """Trains a trial per cell, with learning rate and epochs as hyperparameters, or a trial per learning rate.

    Args:
        request: "model", "classes", "learning_rates", "epochs", "per_cell".
        watch: Called as a trial's training begins; returns its callbacks.
    """

    def __init__(self, request: Mapping[str, Any], watch: Callable[[], Iterable[tf_keras.callbacks.Callback]]) -> None:
        super().__init__()
        self._request = request
        self._watch = watch

    def build(self, hp: keras_tuner.HyperParameters) -> tf_keras.Model:
        """Build the model of a trial."""
        rate = hp.Choice("learning_rate", self._request["learning_rates"])
        if self._request["per_cell"]:
            hp.Int("epochs", 1, self._request["epochs"])
        return build(self._request["model"], self._request["classes"], rate)

    def fit(self, hp: keras_tuner.HyperParameters, model: tf_keras.Model, *args: Any, **kwargs: Any) -> Any:
        """Train it."""
        epochs = hp.get("epochs") if self._request["per_cell"] else self._request["epochs"]
        kwargs["callbacks"] = [*kwargs["callbacks"], *self._watch()]
        return model.fit(*args, epochs=epochs, **kwargs)


class GridSearch(keras_tuner.GridSearch):
    """Calls `on_trial` with the learning rate of each trial that begins."""

    def __init__(self, on_trial: Callable[[float], None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_trial_begin = on_trial

    def on_trial_begin(self, trial: Any) -> None:
        """Call `on_trial`."""
        super().on_trial_begin(trial)
        self._on_trial_begin(trial.hyperparameters.get("learning_rate"))


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds of a whole search."""
    train, dev = PaddedTexts.load(request["train"]), PaddedTexts.load(request["dev"])

    def play() -> Reply:
        recorder = EpochRecorder()
        tuner = GridSearch(
            recorder.begin,
            Classifier(request, lambda: [Epochs(recorder)]),
            objective="val_accuracy",
            directory=Path(request["folder"]),
            project_name="per-cell" if request["per_cell"] else "per-row",
        )
        batch_size = request["batch_size"]
        tuner.search(
            dataset(train, batch_size, shuffle=True), validation_data=dataset(dev, batch_size, shuffle=False), verbose=0
        )
        return recorder.end()

    return play


if __name__ == "__main__":
    serve(prepare)
