"""One training run: texts in, a score after every epoch out, resumable after each."""

import json
import logging
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert.batches import Batch, equal_sizes, pipeline, sizes_within, training_order
from bertgrid_tf.bert.checkpoint import Checkpoint
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.dropout import DropoutKey
from bertgrid_tf.bert.encode import EncodedTexts
from bertgrid_tf.bert.flops import peak, training_flops
from bertgrid_tf.bert.head import Head, refit
from bertgrid_tf.bert.loss import per_example_loss
from bertgrid_tf.bert.optimizer import AdamW, LossScale, Schedule, UsedEmbeddingRows, learning_rates
from bertgrid_tf.bert.unpadded import Precision, Unpadded, supports
from bertgrid_tf.errors import UserError
from bertgrid_tf.metrics.classification import directions, evaluate
from bertgrid_tf.storage.files import replacing

# Of a batch of evaluation, on each device: long texts would fill its memory, many short ones gain nothing more.
EVALUATION_TOKENS = 8_192
STATE_FILE = "state.npz"

ForwardPass = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, bool], tf.Tensor]
OnTrainBatchEnd = Callable[[int, int, float], None]
Batching = Literal["auto", "random", "grouped"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded texts with what they are trained towards.

    Attributes:
        texts: n of them.
        labels: label ids, int32 [n].
        targets: in the labels' place, what each class's −log p counts in a text's loss (`bert.loss`), float32
            [n, classes]; None where that is 1 for the label and 0 for the others. The loss of a batch is the sum over
            its texts divided by their number, whatever the targets sum to.
    """

    texts: EncodedTexts
    labels: np.ndarray
    targets: np.ndarray | None = None


@dataclass(frozen=True)
class TrainSettings:
    """What one run is made of, beside its data.

    Attributes:
        learning_rate: the peak.
        schedule_epochs: the horizon of the schedule.
        stop_epoch: the epochs to train, at most `schedule_epochs`.
        batch_size: texts.
        warmup_ratio: share of all steps over which the rate rises.
        schedule: "linear" decay after warm-up, or "constant".
        weight_decay: per unit of learning rate.
        max_grad_norm: largest global norm of the gradient.
        batching: "random"; "grouped", where texts of like length share a batch; or "auto", random where no padding
            is computed, grouped otherwise.
        seed: decides the order, dropout, the head's first weights, and what it is refitted to.
        focal: γ of the focal loss (`bert.loss`); 0 is cross-entropy.
        head: "trained"; or what it is refitted to after each epoch (`bert.head`).
    """

    learning_rate: float
    schedule_epochs: int
    stop_epoch: int
    batch_size: int = 32
    warmup_ratio: float = 0.2
    schedule: Schedule = "linear"
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    group_by_length: Batching = "auto"
    seed: int = 0
    focal_gamma: float = 0.0
    head: Head = "trained"


@dataclass(frozen=True)
class EpochResult:
    """What is known after an epoch.

    Attributes:
        epoch: from 1.
        metrics: the dev split's (`score.metrics.evaluate`), all NaN where the run diverged; train_loss, train_seconds
            and seconds, and of a BERT limit_seconds: what the matrix products of training, padding none of them, would
            take alone at the best rate of this process's machine (`flops`).
        probabilities: of the dev split, float32 [n, classes]; None where the run diverged.
        told_again: whether it was trained before the run was resumed, so that the weights are later ones.
    """

    epoch: int
    metrics: dict[str, float]
    probabilities: np.ndarray | None
    restored: bool = False

    @property
    def diverged(self) -> bool:
        """Whether the loss or a prediction was no longer finite."""
        return self.probabilities is None


class _Update(NamedTuple):
    """How one step changes the weights: its number, int32 scalar; its learning rate, the decay per unit of that and
    the clipping norm, float32 scalars; the rows of the embeddings that are trained."""

    step: tf.Tensor
    rate: tf.Tensor
    decay: tf.Tensor
    clip: tf.Tensor
    rows: UsedEmbeddingRows


class Trainer:
    """One model and one traced step that serve all runs of a checkpoint.

    A run begins by putting weights and optimizer back, so that its numbers are those of a freshly built model.
    A BERT computes no padding (`bert.unpadded`); the logits of other architectures are their own models'. `forward` is
    the seam for another way to compute them from the same weights.

    A checkpoint that was loaded in the scope of a `replicas.strategy` is trained by all of its replicas: each computes
    the gradient on its share of every batch, the sum over the replicas is clipped and updates every copy of the
    weights. A step is thus the one of a single device up to rounding, dropout's draw aside (`bert.dropout`); what is
    saved is the same too, so that a run can go on with another number of replicas.

    Where a batch does not fit the memory, the gradient is summed over parts of it; that step too is the one of the
    whole batch up to rounding and dropout's draw.

    Raises:
        UserError: another precision than fp32 is asked for, and the architecture has only its own forward pass.
    """

    def __init__(
        self, checkpoint: Checkpoint, precision: Precision = "fp32", forward: ForwardPass | None = None
    ) -> None:
        self.checkpoint = checkpoint
        self.precision = precision
        model = checkpoint.model
        self.unpadded = forward is None and supports(model)
        if precision != "fp32" and not self.unpadded:
            raise UserError(
                f"Precision {precision} is for BERT; {checkpoint.name} is of type {model.config.model_type!r}: "
                "use fp32."
            )
        self._forward: ForwardPass = forward or (Unpadded(model, precision) if self.unpadded else checkpoint.logits)
        self._strategy = model.distribute_strategy
        self._dropout = DropoutKey(model)
        self.parts = 1
        """In how many parts a batch is trained; 1 at the beginning of every run."""
        table = model.get_input_embeddings().weight
        self._vocabulary = int(table.shape[0])
        with self._strategy.scope():
            self._optimizer = AdamW(model.trainable_variables, table, skips=precision == "fp16")
            self._loss_scale = LossScale() if precision == "fp16" else None
        self._sums: list[tf.Variable] = []
        tokens, scalar = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.float32)
        labels, targets = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.float32)
        rows = UsedEmbeddingRows(tf.TensorSpec([None], tf.int32), tf.TensorSpec([self._vocabulary], tf.int32))
        update = _Update(tf.TensorSpec([], tf.int32), scalar, scalar, scalar, rows)

        def batches(labels: tf.TensorSpec) -> tuple[Batch, ...]:
            return (Batch(tokens, tokens, tokens, labels, scalar),) * self.replicas

        def traced(function: Callable[..., Any], *signature: Any) -> Any:
            # Nothing here branches on a tensor's value, and not converting the code makes tracing a third shorter.
            return tf.function(function, input_signature=signature, autograph=False)

        def traced_by_labels(function: Callable[..., tf.Tensor], *rest: Any) -> Callable[..., tf.Tensor]:
            # Apart, so that plain labels keep the plain loss, which is faster; each is traced where it is first needed.
            traces = {spec.dtype: traced(function, batches(spec), *rest) for spec in (labels, targets)}
            return lambda own, *others: traces[own[0].labels.dtype](own, *others)

        self._step = traced_by_labels(self._train_step, scalar, update)
        # Traced only where memory runs out.
        self._add_part = traced_by_labels(self._sum_gradients, scalar, update.step, tf.TensorSpec([], tf.int32))
        self._apply_sums = traced(self._update_by_sums, update)
        self._predict = traced(self._predict_step, batches(labels))
        self._pool = traced(self._pool_step, batches(labels))

    @property
    def replicas(self) -> int:
        """How many devices train the model together."""
        return int(self._strategy.num_replicas_in_sync)

    def run(
        self,
        train: EncodedDataset,
        dev: EncodedDataset,
        hyperparameters: TrainSettings,
        folder: Path,
        on_train_batch_end: OnTrainBatchEnd | None = None,
        keep_weights: bool = False,
    ) -> Iterator[EpochResult]:
        """Trains and yields after every epoch.

        After each epoch everything that the next one needs lies in `folder`; called again with the same
        arguments, it yields the epochs that are done from what was saved and goes on after them. A loss that is
        not finite ends the run with an epoch of NaN.

        With a refitted head, every epoch is scored with it, and training goes on with the trained one; after the last
        epoch the refitted one stays in the model.

        Args:
            train, dev: the splits.
            settings: the run's settings.
            folder: where its state is kept.
            on_step: called after every step with (steps done in this epoch, steps of an epoch, loss).
            keep_weights: whether `folder` keeps the weights after the last epoch too, so that a finished run,
                called again, leaves the trained model in place.

        Raises:
            UserError: the saved state is damaged; or a head is to be refitted, and the architecture has only its own
                forward pass.
        """
        steps = -(-len(train.texts) // hyperparameters.batch_size)
        rates = learning_rates(
            hyperparameters.learning_rate,
            steps * hyperparameters.schedule_epochs,
            hyperparameters.warmup_ratio,
            hyperparameters.schedule,
        )
        rows = self._rows(train)
        history = self._resume(hyperparameters, folder)
        yield from history
        while len(history) < hyperparameters.stop_epoch and not (history and history[-1].diverged):
            began = perf_counter()
            epoch = len(history) + 1
            batches = self._batches(train, hyperparameters, epoch, steps)
            now = rates[(epoch - 1) * steps : epoch * steps]
            loss = self._train_epoch(batches, (epoch - 1) * steps, now, rows, hyperparameters, on_train_batch_end)
            self._optimizer.decay_others(rows, np.prod(1 - hyperparameters.weight_decay * now, dtype=np.float64))
            train_seconds = perf_counter() - began
            trained = self._refit_head(train, hyperparameters) if np.isfinite(loss) else []
            probabilities = self.probabilities(dev.texts) if np.isfinite(loss) else None
            if probabilities is not None and np.isfinite(probabilities).all():
                metrics = evaluate(dev.labels, probabilities, self.checkpoint.labels)
            else:
                metrics, probabilities = dict.fromkeys(directions(self.checkpoint.labels), float("nan")), None
            metrics |= {"train_loss": loss, "train_seconds": train_seconds, "seconds": perf_counter() - began}
            if self.unpadded:
                metrics["limit_seconds"] = self._limit(train.texts)
            history.append(EpochResult(epoch, metrics, probabilities))
            done = epoch == hyperparameters.stop_epoch or history[-1].diverged
            if not done:
                for variable, value in trained:
                    variable.assign(value)
            self._save(folder, history, weights=keep_weights or not done)
            yield history[-1]

    def _limit(self, texts: EncodedTexts) -> float:
        """Seconds that the matrix products of an epoch on these texts would take alone (`flops`)."""
        size = Dimensions.of(self.checkpoint.model.config, len(self.checkpoint.labels))
        return training_flops(size, texts.lengths) / (peak(self.precision) * self.replicas)

    def time_steps(
        self, train: EncodedDataset, hyperparameters: TrainSettings, steps: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Train the first steps of a run and keep nothing of it.

        Returns:
            The steps' losses and seconds, float64 [steps]. The first seconds hold tracing. There are fewer steps where
            the run has fewer.
        """
        self._begin_anew(hyperparameters.seed)
        whole = -(-len(train.texts) // hyperparameters.batch_size)
        rates = learning_rates(
            hyperparameters.learning_rate,
            whole * hyperparameters.schedule_epochs,
            hyperparameters.warmup_ratio,
            hyperparameters.schedule,
        )
        steps = min(steps, whole)
        batches = self._batches(train, hyperparameters, 1, steps)
        losses, ends = [], [perf_counter()]
        for loss in self._losses(batches, 0, rates[:steps], self._rows(train), hyperparameters):
            losses.append(loss)
            ends.append(perf_counter())
        return np.array(losses), np.diff(ends)

    def probabilities(self, texts: EncodedTexts, on_train_batch_end: OnTrainBatchEnd | None = None) -> np.ndarray:
        """The model's class probabilities, float32 [n, classes]; longest texts first, returned in the texts' order."""
        return self._of_texts(self._predict, texts, on_train_batch_end)

    def features(self, texts: EncodedTexts) -> np.ndarray:
        """What the head reads of each text (`Unpadded.pooled`), float32 [n, width].

        Raises:
            UserError: the architecture has only its own forward pass.
        """
        if not isinstance(self._forward, Unpadded):
            raise UserError(
                f"A head is refitted on BERT alone; {self.checkpoint.name} is of type "
                f"{self.checkpoint.model.config.model_type!r}: use head trained."
            )
        return self._of_texts(self._pool, texts)

    def _of_texts(
        self,
        traced: Callable[[tuple[Batch, ...]], tf.Tensor],
        texts: EncodedTexts,
        on_train_batch_end: OnTrainBatchEnd | None = None,
    ) -> np.ndarray:
        order = np.argsort(-texts.lengths, kind="stable")
        sizes = sizes_within(texts.lengths[order], EVALUATION_TOKENS * self.replicas)
        batches = pipeline(texts, np.zeros(len(texts), np.int32), order, sizes, self.replicas)
        total = len(sizes)
        parts = []
        for done, batch in enumerate(batches, start=1):
            parts.append(traced(batch).numpy())
            if on_train_batch_end:
                on_train_batch_end(done, total, float("nan"))
        sorted_back = np.empty_like(order)
        sorted_back[order] = np.arange(len(order))
        # What stands in for texts that the last batch lacks comes after all texts, where no index reaches.
        return np.concatenate(parts)[sorted_back]

    def _refit_head(
        self, train: EncodedDataset, hyperparameters: TrainSettings
    ) -> list[tuple[tf.Variable, np.ndarray]]:
        """Refits the head where the settings say so; its variables, each with the value that was trained."""
        if hyperparameters.head == "trained":
            return []
        features = self.features(train.texts)
        if not np.isfinite(features).all():
            return []  # The scores will tell that the run diverged.
        classifier = self.checkpoint.model.classifier
        trained = [(variable, variable.numpy()) for variable in (classifier.kernel, classifier.bias)]
        refitted = refit(features, train.labels, hyperparameters.head, hyperparameters.seed)
        for (variable, _), value in zip(trained, refitted, strict=True):
            variable.assign(value)
        return trained

    def _train_epoch(
        self,
        batches: tf.data.Dataset,
        first: int,
        rates: np.ndarray,
        rows: UsedEmbeddingRows,
        hyperparameters: TrainSettings,
        on_train_batch_end: OnTrainBatchEnd | None,
    ) -> float:
        """The epoch's mean loss over its steps, of which `rates` are the learning rates; NaN as soon as one is not
        finite."""
        losses: list[float] = []
        for loss in self._losses(batches, first, rates, rows, hyperparameters):
            losses.append(loss)
            if not np.isfinite(loss):
                return float("nan")
            if on_train_batch_end:
                on_train_batch_end(len(losses), len(rates), loss)
        return float(np.mean(losses))

    def _losses(
        self,
        batches: tf.data.Dataset,
        first: int,
        rates: np.ndarray,
        rows: UsedEmbeddingRows,
        hyperparameters: TrainSettings,
    ) -> Iterator[float]:
        """Trains; a step's loss is read while the next one runs, so that reading it never keeps a GPU waiting."""
        focal_gamma = tf.constant(hyperparameters.focal_gamma)
        decay, clip = tf.constant(hyperparameters.weight_decay), tf.constant(hyperparameters.max_grad_norm)
        running: tf.Tensor | None = None
        for number, batch in enumerate(batches):
            begun = self._begin(
                batch, focal_gamma, _Update(tf.constant(first + number), tf.constant(rates[number]), decay, clip, rows)
            )
            if running is not None:
                yield float(running)
            running = begun
        if running is not None:
            yield float(running)

    def _begin(self, batches: tuple[Batch, ...], focal_gamma: tf.Tensor, update: _Update) -> tf.Tensor:
        """Starts a step, in more parts where it takes more memory than there is; its loss."""
        while True:
            try:
                step = self._step if self.parts == 1 else self._step_in_parts
                return step(batches, focal_gamma, update)
            except tf.errors.ResourceExhaustedError:
                # Nothing is updated before all gradients are there, so that the step can begin anew.
                texts = max(len(batch.labels) for batch in batches)
                if self.parts >= texts:
                    raise
                self.parts = min(2 * self.parts, texts)
                _log.warning("Out of memory with %d texts: from now on in %d parts.", texts, self.parts)

    def _step_in_parts(self, batches: tuple[Batch, ...], focal_gamma: tf.Tensor, update: _Update) -> tf.Tensor:
        if not self._sums:
            with self._strategy.scope():
                self._sums = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self._optimizer.variables]
        for total in self._sums:
            total.assign(tf.zeros_like(total))
        loss = tf.constant(0.0)
        for number in range(self.parts):
            part = tuple(_part(batch, number, self.parts) for batch in batches)
            loss += self._add_part(part, focal_gamma, update.step, tf.constant(number))
        self._apply_sums(update)
        return loss

    def _train_step(self, batches: tuple[Batch, ...], focal_gamma: tf.Tensor, update: _Update) -> tf.Tensor:
        self._dropout.set_step(update.step)

        def on_replica(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
            loss, gradients = self._gradients(batch, focal_gamma)
            return loss, self._optimizer.apply(gradients, *update)

        losses, norms = self._on_replicas(on_replica, batches)
        self._rescale(norms)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def _sum_gradients(
        self, batches: tuple[Batch, ...], focal_gamma: tf.Tensor, step: tf.Tensor, part: tf.Tensor
    ) -> tf.Tensor:
        """Adds one part of a batch to the sums; its share of the loss."""
        self._dropout.set_step(step, part)

        def on_replica(batch: Batch) -> tf.Tensor:
            loss, gradients = self._gradients(batch, focal_gamma)
            for total, gradient in zip(self._sums, gradients, strict=True):
                tf.raw_ops.AssignAddVariableOp(resource=total.handle, value=tf.convert_to_tensor(gradient))
            return loss

        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, self._on_replicas(on_replica, batches), axis=None)

    def _update_by_sums(self, update: _Update) -> None:
        def on_replica() -> tf.Tensor:
            return self._optimizer.apply([tf.convert_to_tensor(total) for total in self._sums], *update)

        self._rescale(self._strategy.run(on_replica))

    def _gradients(self, batch: Batch, focal_gamma: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """A replica's part of the batch's mean loss, and its gradients."""
        variables = self._optimizer.variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits = self._forward(batch.ids, batch.types, batch.mask, True)
            # Over all replicas, the sum of these is the mean over all texts of the batch.
            loss = tf.reduce_mean(per_example_loss(logits, batch.labels, focal_gamma)) * batch.share
            scaled = loss if self._loss_scale is None else loss * self._loss_scale.value
        # Some architectures carry weights that their classifier does not use.
        gradients = tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if self._loss_scale is not None:
            gradients = [gradient / self._loss_scale.value for gradient in map(tf.convert_to_tensor, gradients)]
        return loss, gradients

    def _rescale(self, norms: Any) -> None:
        """Adapts the scale of the loss to the norm of the gradients, which every replica knows."""
        if self._loss_scale is not None:
            self._loss_scale.update(tf.math.is_finite(self._strategy.experimental_local_results(norms)[0]))

    def _predict_step(self, batches: tuple[Batch, ...]) -> tf.Tensor:
        return self._of_batch(lambda *text: tf.nn.softmax(self._forward(*text)), batches)

    def _pool_step(self, batches: tuple[Batch, ...]) -> tf.Tensor:
        assert isinstance(self._forward, Unpadded)
        return self._of_batch(self._forward.pooled, batches)

    def _of_batch(self, function: ForwardPass, batches: tuple[Batch, ...]) -> tf.Tensor:
        """What `function` makes of all texts of a batch, without dropout."""

        def on_replica(batch: Batch) -> tf.Tensor:
            return function(batch.ids, batch.types, batch.mask, False)

        return tf.concat(self._strategy.experimental_local_results(self._on_replicas(on_replica, batches)), axis=0)

    def _on_replicas(self, function: Callable[[Batch], tf.Tensor], batches: tuple[Batch, ...]) -> Any:
        """What every replica makes of its own batch."""
        own = self._strategy.experimental_distribute_values_from_function(
            lambda replica: batches[replica.replica_id_in_sync_group]
        )
        return self._strategy.run(function, args=(own,))

    def _batches(
        self, train: EncodedDataset, hyperparameters: TrainSettings, epoch: int, steps: int
    ) -> tf.data.Dataset:
        """The first so many batches of an epoch."""
        grouped = hyperparameters.group_by_length == "grouped" or (
            hyperparameters.group_by_length == "auto" and not self.unpadded
        )
        order = training_order(train.texts.lengths, hyperparameters.batch_size, hyperparameters.seed, epoch, grouped)
        sizes = equal_sizes(len(order), hyperparameters.batch_size)
        labels = train.labels if train.targets is None else train.targets
        if hyperparameters.focal_gamma and train.targets is None:
            labels = np.eye(len(self.checkpoint.labels), dtype=np.float32)[labels]
        return pipeline(train.texts, labels, order, sizes[:steps], self.replicas)

    def _rows(self, train: EncodedDataset) -> UsedEmbeddingRows:
        return UsedEmbeddingRows.of(np.append(train.texts.ids, train.texts.pad_id), self._vocabulary)

    def _begin_anew(self, seed: int) -> None:
        """Puts everything that training changes to its beginning."""
        self.checkpoint.reset(seed)
        self._optimizer.reset()
        self._dropout.seed(seed)
        self.parts = 1
        if self._loss_scale is not None:
            self._loss_scale.reset()

    def _resume(self, hyperparameters: TrainSettings, folder: Path) -> list[EpochResult]:
        """Puts the model to the state after the last saved epoch, or to its beginning; the epochs done."""
        self._begin_anew(hyperparameters.seed)
        path = folder / STATE_FILE
        if not path.exists():
            return []
        try:
            with np.load(path) as state:
                if "v0" in state:
                    for index, variable in enumerate(self._state()):
                        variable.assign(state[f"v{index}"])
                return [
                    EpochResult(epoch, metrics, state.get(f"p{epoch}"), restored=True)
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
        scale = [] if self._loss_scale is None else self._loss_scale.state
        return [*self.checkpoint.model.variables, *self._optimizer.slots, *scale]


def _part(batch: Batch, number: int, parts: int) -> Batch:
    """One of `parts` nearly equal parts of a batch; a single text with a share of 0 where the part has none."""
    texts = len(batch.labels)
    begin, end = texts * number // parts, texts * (number + 1) // parts
    share = batch.share * ((end - begin) / texts)
    ids, types, mask, labels = (tensor[begin : max(end, begin + 1)] for tensor in batch[:-1])
    return Batch(ids, types, mask, labels, share)
