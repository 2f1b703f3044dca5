"""bertgrid-tf: a round is an epoch of `run.TrialRunner`, timed by itself; its dev split is a single text."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.contenders.process import Reply, serve
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.data import open_corpus
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.trial_runner import TrialRunner


def one_dev_text(corpus: Corpus) -> Corpus:
    """The corpus with so small a dev split that scoring it takes no time to speak of."""
    first = corpus.splits["dev"][0]
    short = replace(first, utterances=first.utterances[:1])
    return replace(corpus, splits={**corpus.splits, "dev": (short,)})


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    recipe = Recipe.model_validate(asked["recipe"])
    corpus = one_dev_text(open_corpus(recipe, [Path(folder) for folder in asked["data_dirs"]]))
    work = Path(tempfile.mkdtemp(dir=asked["folder"]))
    runs = TrialRunner(corpus, recipe, work / "predictions")
    values = recipe.hyperparameters.model_dump() | {"schedule_epochs": 1, "stop_epoch": 1}

    def play() -> Reply:
        folder = Path(tempfile.mkdtemp(dir=work))
        (metrics,) = runs(values, folder)
        return {"seconds": metrics["seconds"]}

    return play


if __name__ == "__main__":
    serve(prepare)
