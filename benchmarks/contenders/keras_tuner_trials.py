"""KerasTuner's GridSearch over many learning rates, step by step; a model is built for every trial."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tf_keras

from benchmarks.contenders.keras_model import dataset
from benchmarks.contenders.keras_tuner_search import Classifier, GridSearch
from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.steps import StepRecorder
from benchmarks.texts import PaddedTexts


class EachStep(tf_keras.callbacks.Callback):
    """Records every step."""

    def __init__(self, steps: StepRecorder) -> None:
        super().__init__()
        self._steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Record a step."""
        self._steps.step()


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds of a whole search."""
    train, dev = PaddedTexts.load(request["train"]), PaddedTexts.load(request["dev"])
    folder = Path(request["folder"])

    def play() -> Reply:
        steps = StepRecorder()

        def begin(learning_rate: float) -> None:
            for checkpoint in folder.glob("trials/trial_*/checkpoint*"):
                checkpoint.unlink()  # of the trials before: 50 of them fill a disk
            steps.begin()

        tuner = GridSearch(
            begin,
            Classifier(request, len(train), lambda: [EachStep(steps)]),
            objective="val_accuracy",
            directory=folder,
            project_name="trials",
        )
        rows, scored = dataset(train, request["batch_size"], True), dataset(dev, request["batch_size"], False)
        tuner.search(rows, validation_data=scored, verbose=0)
        return steps.end()

    return play


if __name__ == "__main__":
    serve(prepare)
