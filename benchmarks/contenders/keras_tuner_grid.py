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
from benchmarks.contenders.trials import Recorder  # noqa: E402
from benchmarks.texts import Padded  # noqa: E402


class Epochs(tf_keras.callbacks.Callback):
    """Tells the recorder of every epoch and its validation."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._recorder.epoch(perf_counter() - self._began, float(logs["val_accuracy"]))


class Classifier(keras_tuner.HyperModel):
    """A trial per cell: learning rate and epochs are hyperparameters; or one per learning rate, of all epochs."""

    def __init__(self, asked: Mapping[str, Any], watch: Callable[[], Iterable[tf_keras.callbacks.Callback]]) -> None:
        """
        Args:
            asked: model, classes, learning_rates, epochs, per_cell.
            watch: called as a trial's training begins, for its callbacks.
        """
        super().__init__()
        self._asked = asked
        self._watch = watch

    def build(self, hp: keras_tuner.HyperParameters) -> tf_keras.Model:
        rate = hp.Choice("learning_rate", self._asked["learning_rates"])
        if self._asked["per_cell"]:
            hp.Int("epochs", 1, self._asked["epochs"])
        return build(self._asked["model"], self._asked["classes"], rate)

    def fit(self, hp: keras_tuner.HyperParameters, model: tf_keras.Model, *args: Any, **kwargs: Any) -> Any:
        epochs = hp.get("epochs") if self._asked["per_cell"] else self._asked["epochs"]
        kwargs["callbacks"] = [*kwargs["callbacks"], *self._watch()]
        return model.fit(*args, epochs=epochs, **kwargs)


class GridSearch(keras_tuner.GridSearch):
    """Tells when a trial begins."""

    def __init__(self, on_trial: Callable[[float], None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_trial_begin = on_trial

    def on_trial_begin(self, trial: Any) -> None:
        super().on_trial_begin(trial)
        self._on_trial_begin(trial.hyperparameters.get("learning_rate"))


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    train, dev = Padded.load(asked["train"]), Padded.load(asked["dev"])

    def play() -> Reply:
        recorder = Recorder()
        tuner = GridSearch(
            recorder.begin,
            Classifier(asked, lambda: [Epochs(recorder)]),
            objective="val_accuracy",
            directory=Path(asked["folder"]),
            project_name="per-cell" if asked["per_cell"] else "per-row",
        )
        batch_size = asked["batch_size"]
        tuner.search(
            dataset(train, batch_size, shuffle=True), validation_data=dataset(dev, batch_size, shuffle=False), verbose=0
        )
        return recorder.end()

    return play


if __name__ == "__main__":
    serve(prepare)
