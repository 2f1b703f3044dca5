"""bertgrid-tf: a round is an epoch of a `TrialRunner`, timed by itself; its dev split is a single text."""

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
from bertgrid_tf.trial_config import TrialConfig


def one_dev_text(corpus: Corpus) -> Corpus:
    """Limit the dev split to one text, so that its scoring takes a negligible time."""
    first = corpus.splits["dev"][0]
    short = replace(first, utterances=first.utterances[:1])
    return replace(corpus, splits={**corpus.splits, "dev": (short,)})


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds of one epoch of `request["recipe"]`."""
    recipe = Recipe.model_validate(request["recipe"])
    corpus = one_dev_text(open_corpus(recipe, [Path(folder) for folder in request["data_dirs"]]))
    folder = Path(tempfile.mkdtemp(dir=request["folder"]))
    runner = TrialRunner(corpus, recipe, folder / "predictions")
    config = TrialConfig(recipe.hyperparameters, schedule_epochs=1, stop_epoch=1, seed=recipe.seed)

    def play() -> Reply:
        (metrics,) = runner.run(config, Path(tempfile.mkdtemp(dir=folder)))
        return {"seconds": metrics["seconds"]}

    return play


if __name__ == "__main__":
    serve(prepare)
