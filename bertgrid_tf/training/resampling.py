"""The training texts that an epoch visits."""

import numpy as np

from bertgrid_tf.corpus import Corpus, resample, utterances
from bertgrid_tf.hyperparameters import Hyperparameters


def training_indices(corpus: Corpus, hyperparameters: Hyperparameters, seed: int) -> np.ndarray:
    """Resample the training split.

    Args:
        corpus: The corpus with the training split.
        hyperparameters: The hyperparameters, of which `oversample_ratio` and `undersample` count.
        seed: Seed of the draws.

    Returns:
        Indices of training utterances, int64 [texts].
    """
    labels = [utterance.label or "" for utterance in utterances(corpus.splits["train"])]
    return resample(labels, hyperparameters.oversample_ratio, hyperparameters.undersample, seed)


def training_steps(corpus: Corpus, hyperparameters: Hyperparameters, seed: int, epochs: int) -> int:
    """Count the training steps of a trial, those of its branches included.

    An epoch has as many as its resampled texts over the batch size, rounded up.
    """
    steps = -(-len(training_indices(corpus, hyperparameters, seed)) // int(hyperparameters.batch_size))
    return hyperparameters.trial_steps(steps, epochs)
