"""bertgrid-tf's own study of many learning rates, step by step."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.contenders import ours_study
from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.steps import Steps
from bertgrid_tf.hyperparameters import Value


class EveryStep(ours_study.Callback):
    """A study's listener that writes steps down."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def on_trial_begin(self, run: str, stage: str, values: Mapping[str, Value], epochs: int, steps: int) -> None:
        self._steps.begin()

    def on_train_batch_end(self, run: str, done: int, steps: int, loss: float) -> None:
        self._steps.step()


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    return ours_study.prepare(asked, lambda: (EveryStep(steps := Steps()), steps))


if __name__ == "__main__":
    serve(prepare)
