"""The model of the current trial, kept for later trials of the same checkpoint."""

import gc

import tf_keras

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.replicas import replica_count, strategy
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.hyperparameters import Hyperparameters, Value
from bertgrid_tf.training.encoding import BUILT_BY, marker_tokens, training_texts


class ModelCache:
    """Keeps the trainer of one model until another model is asked for.

    Two large models at a time may not fit a GPU, so the former one is dropped first.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._built: tuple[tuple[Value, ...], Trainer] | None = None

    def trainer(self, hyperparameters: Hyperparameters, gpus: int = 1) -> Trainer:
        """Return the trainer of a checkpoint.

        Args:
            hyperparameters: Those of `BUILT_BY` count.
            gpus: GPUs that train the model together; 1 for the CPU too.

        Raises:
            UserError: The checkpoint cannot be loaded, or there are fewer GPUs.
        """
        replicas = replica_count(gpus)
        wanted = (*(getattr(hyperparameters, name) for name in BUILT_BY), replicas)
        if self._built is None or self._built[0] != wanted:
            self._built = None
            # Keras's global state would keep the former model alive.
            tf_keras.backend.clear_session()
            gc.collect()
            with strategy(replicas).scope():
                checkpoint = load(
                    hyperparameters.model,
                    self._corpus.labels,
                    texts=training_texts(self._corpus),
                    markers=marker_tokens(hyperparameters),
                )
            precision, frozen_layers = hyperparameters.resolved_precision, hyperparameters.frozen_layers
            self._built = (wanted, Trainer(checkpoint, precision, frozen_layers, hyperparameters.pooling))
        return self._built[1]
