"""bertgrid-tf's own study of many learning rates, step by step."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.steps import Steps
from benchmarks.layout import limit_dev
from bertgrid_tf.data import open_corpus
from bertgrid_tf.recipe import Recipe, Value
from bertgrid_tf.study import Study


class Listener:
    """A study's listener that writes steps down."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None  # what else a listener is told of does not matter here

    def on_run(self, run: str, stage: str, values: Mapping[str, Value], epochs: int, steps: int) -> None:
        self._steps.begin()

    def on_step(self, run: str, done: int, steps: int, loss: float) -> None:
        self._steps.step()


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    recipe = Recipe.model_validate(asked["recipe"])
    corpus = open_corpus(recipe, [Path(folder) for folder in asked["data_dirs"]])
    corpus = limit_dev(corpus, asked["dev_utterances"], recipe.seed)

    def play() -> Reply:
        steps = Steps()
        Study(recipe, corpus, Path(tempfile.mkdtemp(dir=asked["folder"])), Listener(steps)).run()
        return steps.end()

    return play


if __name__ == "__main__":
    serve(prepare)
