"""One training run: texts in, a score after every epoch out, resumable after each."""

import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert.batches import Batch, pipeline, training_order
from bertgrid_tf.bert.checkpoint import Checkpoint
from bertgrid_tf.bert.dropout import DropoutKey
from bertgrid_tf.bert.encode import Encoded
from bertgrid_tf.bert.optimizer import AdamW, Schedule, learning_rates
from bertgrid_tf.errors import UserError
from bertgrid_tf.files import replacing
from bertgrid_tf.score.metrics import directions, evaluate

EVALUATION_BATCH = 64
STATE_FILE = "state.npz"

Forward = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, bool], tf.Tensor]
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Labelled:
    """Encoded texts with their label ids, int32 [n]."""

    texts: Encoded
    labels: np.ndarray


@dataclass(frozen=True)
class TrainSettings:
    """What one run is made of, beside its data.

    Attributes:
        learning_rate: the peak.
        epochs: the horizon of the schedule.
        stop_after: the epochs to train, at most `epochs`.
        batch_size: texts.
        warmup: share of all steps over which the rate rises.
        schedule: "linear" decay after warm-up, or "constant".
        weight_decay: per unit of learning rate.
        clip_norm: largest global norm of the gradient.
        grouped: whether texts of like length share a batch.
        seed: decides the order, dropout, and the head's first weights.
    """

    learning_rate: float
    epochs: int
    stop_after: int
    batch_size: int = 32
    warmup: float = 0.2
    schedule: Schedule = "linear"
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    grouped: bool = False
    seed: int = 0


@dataclass(frozen=True)
class EpochResult:
    """What is known after an epoch.

    Attributes:
        epoch: from 1.
        metrics: the dev split's (`score.metrics.evaluate`), with train_loss and seconds; all NaN but seconds where
            the run diverged.
        probabilities: of the dev split, float32 [n, classes]; None where the run diverged.
    """

    epoch: int
    metrics: dict[str, float]
    probabilities: np.ndarray | None

    @property
    def diverged(self) -> bool:
        """Whether the loss or a prediction was no longer finite."""
        return self.probabilities is None


class Trainer:
    """One model and one traced step that serve all runs of a checkpoint.

    A run begins by putting weights and optimizer back, so that its numbers are those of a freshly built model.
    `forward` is the seam for another way to compute the same logits from the same weights.

    A checkpoint that was loaded in the scope of a `replicas.strategy` is trained by all of its replicas: each computes
    the gradient on its share of every batch, the sum over the replicas is clipped and updates every copy of the
    weights. A step is thus the one of a single device up to rounding, dropout's draw aside (`bert.dropout`); what is
    saved is the same too, so that a run can go on with another number of replicas.
    """

    def __init__(self, checkpoint: Checkpoint, forward: Forward | None = None) -> None:
        self.checkpoint = checkpoint
        self._forward = forward or checkpoint.logits
        self._strategy = checkpoint.model.distribute_strategy
        self._dropout = DropoutKey(checkpoint.model)
        with self._strategy.scope():
            self._optimizer = AdamW(checkpoint.model.trainable_variables)
        tokens, scalar = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.float32)
        batches = (Batch(tokens, tokens, tokens, tf.TensorSpec([None], tf.int32), scalar),) * self.replicas
        # Nothing here branches on a tensor's value, and not converting the code makes tracing a third shorter.
        self._step = tf.function(
            self._train_step,
            input_signature=[batches, tf.TensorSpec([], tf.int32), scalar, scalar, scalar],
            autograph=False,
        )
        self._predict = tf.function(self._predict_step, input_signature=[batches], autograph=False)

    @property
    def replicas(self) -> int:
        """How many devices train the model together."""
        return int(self._strategy.num_replicas_in_sync)

    def run(
        self,
        train: Labelled,
        dev: Labelled,
        settings: TrainSettings,
        folder: Path,
        on_step: OnStep | None = None,
        keep_weights: bool = False,
    ) -> Iterator[EpochResult]:
        """Trains and yields after every epoch.

        After each epoch everything that the next one needs lies in `folder`; called again with the same
        arguments, it yields the epochs that are done from what was saved and goes on after them. A loss that is
        not finite ends the run with an epoch of NaN.

        Args:
            train, dev: the splits.
            settings: the run's settings.
            folder: where its state is kept.
            on_step: called after every step with (steps done in this epoch, steps of an epoch, loss).
            keep_weights: whether `folder` keeps the weights after the last epoch too, so that a finished run,
                called again, leaves the trained model in place.
        """
        steps = -(-len(train.texts) // settings.batch_size)
        rates = learning_rates(settings.learning_rate, steps * settings.epochs, settings.warmup, settings.schedule)
        history = self._resume(settings, folder)
        yield from history
        while len(history) < settings.stop_after and not (history and history[-1].diverged):
            began = perf_counter()
            epoch = len(history) + 1
            order = training_order(train.texts.lengths, settings.batch_size, settings.seed, epoch, settings.grouped)
            batches = pipeline(train.texts, train.labels, order, settings.batch_size, self.replicas)
            loss = self._train_epoch(batches, (epoch - 1) * steps, rates, settings, on_step)
            probabilities = self.probabilities(dev.texts) if np.isfinite(loss) else None
            if probabilities is not None and np.isfinite(probabilities).all():
                metrics = evaluate(dev.labels, probabilities, self.checkpoint.labels)
            else:
                metrics, probabilities = dict.fromkeys(directions(self.checkpoint.labels), float("nan")), None
            metrics |= {"train_loss": loss, "seconds": perf_counter() - began}
            history.append(EpochResult(epoch, metrics, probabilities))
            done = epoch == settings.stop_after or history[-1].diverged
            self._save(folder, history, weights=keep_weights or not done)
            yield history[-1]

    def probabilities(self, texts: Encoded, on_step: OnStep | None = None) -> np.ndarray:
        """The model's class probabilities, float32 [n, classes]; longest texts first, returned in the texts' order."""
        order = np.argsort(-texts.lengths, kind="stable")
        batch_size = EVALUATION_BATCH * self.replicas
        batches = pipeline(texts, np.zeros(len(texts), np.int32), order, batch_size, self.replicas)
        total = -(-len(texts) // batch_size)
        parts = []
        for done, batch in enumerate(batches, start=1):
            parts.append(self._predict(batch).numpy())
            if on_step:
                on_step(done, total, float("nan"))
        sorted_back = np.empty_like(order)
        sorted_back[order] = np.arange(len(order))
        # What stands in for texts that the last batch lacks comes after all texts, where no index reaches.
        return np.concatenate(parts)[sorted_back]

    def _train_epoch(
        self, batches: tf.data.Dataset, first: int, rates: np.ndarray, settings: TrainSettings, on_step: OnStep | None
    ) -> float:
        """The epoch's mean loss over its steps; NaN as soon as one is not finite."""
        total = int(batches.cardinality())
        losses: list[float] = []
        for loss in self._losses(batches, first, rates, settings):
            losses.append(loss)
            if not np.isfinite(loss):
                return float("nan")
            if on_step:
                on_step(len(losses), total, loss)
        return float(np.mean(losses))

    def _losses(
        self, batches: tf.data.Dataset, first: int, rates: np.ndarray, settings: TrainSettings
    ) -> Iterator[float]:
        """Trains; a step's loss is read while the next one runs, so that reading it never keeps a GPU waiting."""
        decay, clip = tf.constant(settings.weight_decay), tf.constant(settings.clip_norm)
        running: tf.Tensor | None = None
        for step, batch in enumerate(batches, start=first):
            begun = self._step(batch, tf.constant(step), tf.constant(rates[step]), decay, clip)
            if running is not None:
                yield float(running)
            running = begun
        if running is not None:
            yield float(running)

    def _train_step(
        self, batches: tuple[Batch, ...], step: tf.Tensor, rate: tf.Tensor, decay: tf.Tensor, clip: tf.Tensor
    ) -> tf.Tensor:
        self._dropout.set_step(step)
        variables = self._optimizer.variables

        def on_replica(batch: Batch) -> tf.Tensor:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                logits = self._forward(batch.ids, batch.types, batch.mask, True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch.labels, logits=logits)
                # Over all replicas, the sum of these is the mean over all texts of the batch.
                loss = tf.reduce_mean(losses) * batch.share
            # Some architectures carry weights that their classifier does not use.
            gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            self._optimizer.apply(gradients, step, rate, decay, clip)
            return loss

        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, self._on_replicas(on_replica, batches), axis=None)

    def _predict_step(self, batches: tuple[Batch, ...]) -> tf.Tensor:
        def on_replica(batch: Batch) -> tf.Tensor:
            return tf.nn.softmax(self._forward(batch.ids, batch.types, batch.mask, False))

        return tf.concat(self._strategy.experimental_local_results(self._on_replicas(on_replica, batches)), axis=0)

    def _on_replicas(self, function: Callable[[Batch], tf.Tensor], batches: tuple[Batch, ...]) -> Any:
        """What every replica makes of its own batch."""
        own = self._strategy.experimental_distribute_values_from_function(
            lambda replica: batches[replica.replica_id_in_sync_group]
        )
        return self._strategy.run(function, args=(own,))

    def _resume(self, settings: TrainSettings, folder: Path) -> list[EpochResult]:
        """Puts the model to the state after the last saved epoch, or to its beginning; the epochs done."""
        self.checkpoint.reset(settings.seed)
        self._optimizer.reset()
        self._dropout.seed(settings.seed)
        path = folder / STATE_FILE
        if not path.exists():
            return []
        try:
            with np.load(path) as state:
                if "v0" in state:
                    for index, variable in enumerate(self._state()):
                        variable.assign(state[f"v{index}"])
                return [
                    EpochResult(epoch, metrics, state.get(f"p{epoch}"))
                    for epoch, metrics in enumerate(json.loads(str(state["history"])), start=1)
                ]
        except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged: delete it to train this run from its first epoch.") from error

    def _save(self, folder: Path, history: list[EpochResult], weights: bool) -> None:
        """Keeps what is known of every epoch and, with `weights` (three times the model), what the next epoch needs."""
        arrays: dict[str, Any] = {"history": np.array(json.dumps([result.metrics for result in history]))}
        arrays |= {f"p{r.epoch}": r.probabilities for r in history if r.probabilities is not None}
        if weights:
            arrays |= {f"v{index}": variable.numpy() for index, variable in enumerate(self._state())}
        with replacing(folder / STATE_FILE) as file:
            np.savez(file, **arrays)

    def _state(self) -> list[tf.Variable]:
        return [*self.checkpoint.model.variables, *self._optimizer.slots]
