"""KerasTuner's searches as its guides show them: a model is built for every trial and trained by `fit`, padded."""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import tf_keras

# KerasTuner takes the models of the Keras that it finds under this name; with Keras 3 it refuses transformers' models.
sys.modules["keras"] = tf_keras

import keras_tuner  # noqa: E402

from benchmarks.contenders.keras_model import WarmupDecay, build, dataset, use_precision  # noqa: E402
from benchmarks.contenders.process import Reply, serve  # noqa: E402
from benchmarks.contenders.trials import EpochRecorder  # noqa: E402
from benchmarks.texts import PaddedTexts  # noqa: E402


class Epochs(tf_keras.callbacks.Callback):
    """Records every epoch with its validation, and scores its model on the test split if there is one."""

    def __init__(self, recorder: EpochRecorder, test: PaddedTexts | None = None) -> None:
        super().__init__()
        self._recorder = recorder
        self._test = test

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Record the epoch."""
        seconds = perf_counter() - self._began
        score = None if self._test is None else partial(self._test_accuracy, self._test)
        self._recorder.epoch(seconds, float(logs["val_accuracy"]), score)

    def _test_accuracy(self, test: PaddedTexts) -> float:
        rows = dataset(test, 64, shuffle=False)
        return float(self.model.evaluate(rows, verbose=0, return_dict=True)["accuracy"])


class Classifier(keras_tuner.HyperModel):
    """Trains a trial per cell, with learning rate and epochs as hyperparameters, or a trial per learning rate.

    Args:
        request: "model", "classes", "learning_rates", "epochs", "batch_size", and the "search": "per-cell", "per-rate",
            or "hyperband", which decides itself of the epochs of a trial.
        texts: Number of training texts.
        watch: Called as a trial's training begins; returns its callbacks.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        texts: int,
        watch: Callable[[], Iterable[tf_keras.callbacks.Callback]],
    ) -> None:
        super().__init__()
        self._request = request
        self._steps = -(-texts // request["batch_size"])
        self._watch = watch

    def build(self, hp: keras_tuner.HyperParameters) -> tf_keras.Model:
        """Build the model of a trial."""
        rate, epochs = hp.Choice("learning_rate", self._request["learning_rates"]), self._request["epochs"]
        if self._request["search"] == "per-cell":
            epochs = hp.Int("epochs", 1, epochs)
        done = hp.values.get("tuner/initial_epoch", 0)  # of a trial that Hyperband goes on with
        schedule = WarmupDecay(rate, epochs * self._steps, done * self._steps)
        return build(self._request["model"], self._request["classes"], schedule)

    def fit(self, hp: keras_tuner.HyperParameters, model: tf_keras.Model, *args: Any, **kwargs: Any) -> Any:
        """Train it."""
        kwargs["callbacks"] = [*kwargs["callbacks"], *self._watch()]
        epochs = hp.get("epochs") if self._request["search"] == "per-cell" else self._request["epochs"]
        return model.fit(*args, **{"epochs": epochs, **kwargs})


class WatchedTuner(keras_tuner.Tuner):
    """Calls `on_trial` with the learning rate of each trial that begins."""

    def __init__(self, on_trial: Callable[[float], None], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_trial_begin = on_trial

    def on_trial_begin(self, trial: Any) -> None:
        """Call `on_trial`."""
        super().on_trial_begin(trial)
        self._on_trial_begin(trial.hyperparameters.get("learning_rate"))


class GridSearch(WatchedTuner, keras_tuner.GridSearch):
    """The grid."""


class Hyperband(WatchedTuner, keras_tuner.Hyperband):
    """Hyperband, whose resource are the epochs."""


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds of a whole search.

    Args:
        request: That of `Classifier`, the files "train", "dev" and, to be scored too, "test", "folder", "precision",
            "seed", and "began" (`EpochRecorder`).
    """
    use_precision(request["precision"])
    train, dev = PaddedTexts.load(request["train"]), PaddedTexts.load(request["dev"])
    test = PaddedTexts.load(request["test"]) if "test" in request else None

    def play() -> Reply:
        tf_keras.utils.set_random_seed(request["seed"])
        recorder = EpochRecorder(request.get("began"))
        kind, limits = GridSearch, {}
        if request["search"] == "hyperband":
            kind, limits = Hyperband, {"max_epochs": request["epochs"], "factor": 3}
        tuner = kind(
            recorder.begin,
            Classifier(request, len(train), lambda: [Epochs(recorder, test)]),
            objective="val_accuracy",
            seed=request["seed"],
            directory=Path(request["folder"]),
            project_name=request["search"],
            **limits,
        )
        tuner.search(
            dataset(train, request["batch_size"], shuffle=True),
            validation_data=dataset(dev, 64, shuffle=False),
            verbose=0,
        )
        return recorder.end()

    return play


if __name__ == "__main__":
    serve(prepare)
