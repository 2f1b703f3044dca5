"""The workload of a configuration, estimated from a sample of the texts."""

from collections import Counter
from dataclasses import replace
from functools import lru_cache

import pandas as pd

from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.corpus import utterances
from bertgrid_tf.training.encoding import BUILT_BY, CorpusEncoder
from bertgrid_tf.training.resampling import training_indices
from bertgrid_tf.training.workload import EpochWorkload
from bertgrid_tf.trial_config import TrialConfig

WITHOUT_EFFECT_ON_SPEED = (
    *("learning_rate", "oversample_ratio", "undersample", "class_weights", "focal_gamma", "soft_label_weight"),
    *("label_smoothing", "warmup_ratio", "lr_schedule", "weight_decay", "layer_decay", "reinit_layers"),
    *("hidden_dropout", "attention_dropout", "classifier_dropout", "max_grad_norm", "truncation"),
)
"""The hyperparameters that do not change the time of a token."""


class WorkloadEstimator:
    """Estimates epochs of one corpus from an encoded sample.

    Args:
        encoder: The encoder of the corpus.
        seed: Decides resampling.
    """

    def __init__(self, encoder: CorpusEncoder, seed: int) -> None:
        self._encoder = encoder
        self._seed = seed
        self._epoch = lru_cache(maxsize=None)(self._estimate)

    def epoch(self, config: TrialConfig) -> EpochWorkload:
        """Estimate the mean epoch of a configuration, or the part of it that each of its GPUs computes."""
        hyperparameters = config.hyperparameters.model_copy(update={"learning_rate": 1.0})
        # An epoch without branches is the same in every trial, and one of each fold nearly so.
        epochs = config.stop_epoch if hyperparameters.has_branches else 1
        held_out = config.held_out and (0, config.held_out[1])
        own = TrialConfig(hyperparameters, epochs, epochs, self._seed, gpus=config.gpus, held_out=held_out)
        return self._epoch(replace(own, with_dev=config.with_dev))

    def _estimate(self, config: TrialConfig) -> EpochWorkload:
        corpus, hyperparameters, gpus = self._encoder.corpus, config.hyperparameters, config.gpus
        texts = utterances((*corpus.splits["train"], *corpus.splits["dev"]))
        classes = [utterance.label or "" for utterance in texts]
        indices = training_indices(corpus, config)
        train, dev = (  # tokens and inputs of each text
            self._encoder.sampled_lengths(hyperparameters, split).groupby(level=[0, 1]).agg(["sum", "size"])
            for split in ("train", "dev")
        )
        counts = pd.Series(Counter(classes[i] for i in indices))
        by_class = train.groupby(level=0).mean().reindex(counts.index).fillna(train.mean())
        tokens, inputs = map(float, by_class.mul(counts, axis=0).sum())
        evaluated = float(dev["sum"].mean()) * sum(1 for _ in utterances(corpus.splits["dev"]))
        if hyperparameters.head_retraining != "none":
            evaluated += tokens  # a forward pass over the training texts, to whose features the head is refitted
        values = hyperparameters.model_dump().items()
        kind = (gpus, *(item for item in values if item[0] not in WITHOUT_EFFECT_ON_SPEED))
        model = (*(getattr(hyperparameters, name) for name in BUILT_BY), gpus)
        plain = -(-round(inputs) // int(hyperparameters.batch_size))
        steps = hyperparameters.trial_steps(plain, config.stop_epoch) / config.stop_epoch
        tokens *= steps / plain
        size = dimensions(hyperparameters.model, len(corpus.labels))
        work = (round(steps), tokens / gpus, evaluated / gpus, hyperparameters.frozen_layers)
        return EpochWorkload(kind, model, size.layers, size.width, *work)
