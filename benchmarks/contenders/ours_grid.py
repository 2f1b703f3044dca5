"""bertgrid-tf's own study, grid or climb, epoch by epoch."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.contenders import ours_study
from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.trials import Recorder
from bertgrid_tf.hyperparameters import Value


class Epochs(ours_study.Callback):
    """A study's listener that tells the recorder of every epoch."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_trial_begin(self, run: str, stage: str, values: Mapping[str, Value], epochs: int, steps: int) -> None:
        self._recorder.begin(float(values["learning_rate"]))

    def on_epoch_end(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self._recorder.epoch(metrics["seconds"], metrics["accuracy"])


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    return ours_study.prepare(asked, lambda: (Epochs(recorder := Recorder()), recorder))


if __name__ == "__main__":
    serve(prepare)
