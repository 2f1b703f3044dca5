"""Texts as bertgrid-tf lays them out, for the contenders that cannot do so themselves."""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.texts import PaddedTexts
from bertgrid_tf.bert.tokenizer import load_tokenizer
from bertgrid_tf.corpus import Corpus, limit, speaker_counts, utterances
from bertgrid_tf.data import data_dirs
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.encoding import encode_dialogues


def padded(corpus: Corpus, hyperparameters: Hyperparameters, split: str, longest: bool = False) -> PaddedTexts:
    """Encode a labelled split, every text padded to the maximum length, or to that of the longest.

    Raises:
        UserError: The checkpoint is not a folder, so that the other libraries cannot load it.
    """
    if not (Path(hyperparameters.model) / "config.json").is_file():
        raise UserError(
            f"--model {hyperparameters.model} is no checkpoint's folder, which the other libraries need: give one."
        )
    dialogues = corpus.splits[split]
    speakers = speaker_counts(corpus.splits["train"])
    encoded = encode_dialogues(load_tokenizer(hyperparameters.model), dialogues, hyperparameters, speakers)
    labels = [corpus.labels.index(utterance.label or "") for utterance in utterances(dialogues)]
    length = int(encoded.lengths.max()) if longest else hyperparameters.max_length
    return PaddedTexts.of(encoded, np.array(labels), length)


def limit_splits(corpus: Corpus, count: int, seed: int, splits: Iterable[str] = ("dev",)) -> Corpus:
    """Limit splits to about `count` utterances each, in whole dialogues."""
    limited = {name: limit(corpus.splits[name], count, seed) for name in splits}
    return replace(corpus, splits={**corpus.splits, **limited})


def scored_corpus(flags: Namespace, recipe: Recipe) -> Corpus:
    """Open the recipe's corpus, whose dev selects and whose test split scores, limited by `command.add_limits`' flags.

    Raises:
        UserError: There is no test split.
    """
    corpus = command.corpus(flags, recipe)
    if not corpus.splits.get("test"):
        raise UserError(f"{corpus.name} has no test split, on which models are scored here: give one.")
    for split in ("dev", "test"):
        if most := getattr(flags, f"max_{split}_samples", None):
            corpus = limit_splits(corpus, most, recipe.seed, (split,))
    return corpus


def our_request(flags: Namespace, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return the request of bertgrid-tf's contenders, which open the corpus themselves."""
    directories = [str(directory) for directory in data_dirs(flags.data_dir)]
    return {"recipe": recipe.model_dump(mode="json"), "data_dirs": directories, "folder": str(folder)}


def their_request(
    recipe: Recipe, corpus: Corpus, folder: Path, splits: Sequence[str] = ("train", "dev"), longest: bool = False
) -> dict[str, Any]:
    """Write the padded splits into a folder (`padded`), and return the request of the other libraries' contenders."""
    hyperparameters = recipe.hyperparameters
    request: dict[str, Any] = {
        "model": hyperparameters.model,
        "classes": len(corpus.labels),
        "batch_size": hyperparameters.batch_size,
        "max_length": hyperparameters.max_length,
        "folder": str(folder),
    }
    for split in splits:
        request[split] = str(folder / f"{split}.npz")
        padded(corpus, hyperparameters, split, longest).save(folder / f"{split}.npz")
    return request
