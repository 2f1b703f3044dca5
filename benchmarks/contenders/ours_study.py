"""bertgrid-tf's own study, with its results folder and all that lies in it, as a contender's."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from benchmarks.contenders.process import Reply
from benchmarks.layout import limit_dev
from bertgrid_tf.data import open_corpus
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.study.study import Study


class Callback:
    """A study's listener to which nothing matters but what a class that extends it writes down."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


class Written(Protocol):
    """What is written down of a study."""

    def end(self) -> Reply: ...


def prepare(asked: Mapping[str, Any], listen: Callable[[], tuple[Callback, Written]]) -> Callable[[], Reply]:
    """What `serve` plays: a study of the recipe that is asked for, in a new folder each time.

    Args:
        asked: "recipe", "data_dirs", "dev_utterances" and the parent "folder".
        listen: gives a listener, and what it writes to.
    """
    recipe = Recipe.model_validate(asked["recipe"])
    corpus = open_corpus(recipe, [Path(folder) for folder in asked["data_dirs"]])
    corpus = limit_dev(corpus, asked["dev_utterances"], recipe.seed)

    def play() -> Reply:
        callback, written = listen()
        Study(recipe, corpus, Path(tempfile.mkdtemp(dir=asked["folder"])), callback).run()
        return written.end()

    return play
