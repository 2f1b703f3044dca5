"""The training texts that an epoch visits."""

import numpy as np

from bertgrid_tf.corpus import Corpus, resample, text_folds, utterances
from bertgrid_tf.trial_config import TrialConfig


def available_texts(corpus: Corpus, config: TrialConfig) -> np.ndarray:
    """Return the texts that a trial may train on: indices of train's utterances and then dev's, int64 [texts]."""
    train, dev = corpus.splits["train"], corpus.splits["dev"] if config.with_dev else ()
    if config.held_out is None:
        return np.arange(sum(1 for _ in utterances((*train, *dev))))
    fold, count = config.held_out
    return np.flatnonzero(text_folds(train, count, config.seed) != fold)


def training_indices(corpus: Corpus, config: TrialConfig) -> np.ndarray:
    """Resample the texts that a trial may train on.

    Args:
        corpus: The corpus with the training split.
        config: The trial, of whose hyperparameters `oversample_ratio` and `undersample` count.

    Returns:
        Indices as of `available_texts`, int64 [texts].
    """
    hyperparameters, texts = config.hyperparameters, available_texts(corpus, config)
    labels = np.array([text.label or "" for text in utterances((*corpus.splits["train"], *corpus.splits["dev"]))])
    return texts[resample(labels[texts], hyperparameters.oversample_ratio, hyperparameters.undersample, config.seed)]


def training_steps(corpus: Corpus, config: TrialConfig) -> int:
    """Count the training steps of a trial, those of its branches included.

    An epoch has as many as its resampled texts over the batch size, rounded up.
    """
    steps = -(-len(training_indices(corpus, config)) // int(config.hyperparameters.batch_size))
    return config.hyperparameters.trial_steps(steps, config.stop_epoch)
