"""bertgrid-tf's own study: grid or climb, with its results folder and all that lies in it."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.trials import Recorder
from benchmarks.layout import limit_dev
from bertgrid_tf.data import open_corpus
from bertgrid_tf.recipe import Recipe, Value
from bertgrid_tf.study import Study


class Epochs:
    """A study's listener that tells the recorder of every epoch."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None  # what else a listener is told of does not matter here

    def on_run(self, run: str, stage: str, values: Mapping[str, Value], epochs: int, steps: int) -> None:
        self._recorder.begin(float(values["learning_rate"]))

    def on_epoch(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self._recorder.epoch(metrics["seconds"], metrics["accuracy"])


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    recipe = Recipe.model_validate(asked["recipe"])
    corpus = open_corpus(recipe, [Path(folder) for folder in asked["data_dirs"]])
    corpus = limit_dev(corpus, asked["dev_utterances"], recipe.seed)

    def play() -> Reply:
        recorder = Recorder()
        Study(recipe, corpus, Path(tempfile.mkdtemp(dir=asked["folder"])), Epochs(recorder)).run()
        return recorder.end()

    return play


if __name__ == "__main__":
    serve(prepare)
