"""Texts as bertgrid-tf lays them out, for the contenders that cannot do so themselves."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.texts import Padded
from bertgrid_tf.bert.checkpoint import load_tokenizer
from bertgrid_tf.corpus import Corpus, limit, speaker_counts, utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.training.encoding import encode_dialogues


def padded(corpus: Corpus, hyperparameters: Hyperparameters, split: str) -> Padded:
    """A labelled split, every text filled up to the maximum length.

    Raises:
        UserError: the checkpoint is not a folder, so that the other libraries cannot load it.
    """
    if not (Path(hyperparameters.model) / "config.json").is_file():
        raise UserError(
            f"--model {hyperparameters.model} is no checkpoint's folder, which the other libraries need: give one."
        )
    dialogues = corpus.splits[split]
    speakers = speaker_counts(corpus.splits["train"])
    encoded = encode_dialogues(load_tokenizer(hyperparameters.model), dialogues, hyperparameters, speakers)
    labels = [corpus.labels.index(utterance.label or "") for utterance in utterances(dialogues)]
    return Padded.of(encoded, np.array(labels), hyperparameters.max_length)


def limit_dev(corpus: Corpus, count: int, seed: int) -> Corpus:
    """The corpus with about so many dev utterances, in whole dialogues."""
    return replace(corpus, splits={**corpus.splits, "dev": limit(corpus.splits["dev"], count, seed)})
