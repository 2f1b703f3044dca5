"""One training run: texts in, a score after every epoch out, resumable after each."""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert.batches import Batch, equal_sizes, padded_batches, pipeline, sizes_within, training_order
from bertgrid_tf.bert.checkpoint import Checkpoint
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.dropout import DropoutKey
from bertgrid_tf.bert.encode import EncodedDataset, EncodedTexts
from bertgrid_tf.bert.head import refit
from bertgrid_tf.bert.layers import layer_numbers
from bertgrid_tf.bert.loss import per_example_loss
from bertgrid_tf.bert.optimizer import AdamW, LossScale, StepUpdate, UsedEmbeddingRows, cooldown_rates, learning_rates
from bertgrid_tf.bert.roofline import Roofline, roofline
from bertgrid_tf.bert.unpadded import Unpadded, supports
from bertgrid_tf.errors import DamagedError, UserError
from bertgrid_tf.hyperparameters import WARMUP_EPOCHS, Pooling, Precision
from bertgrid_tf.metrics.classification import directions, evaluate
from bertgrid_tf.storage.files import checked, reading, replacing
from bertgrid_tf.trial_config import TrialConfig
from tuners.files import open_arrays, parse_json

EVALUATION_TOKENS = 8_192
"""Tokens of an evaluation batch on each device: more would gain no speed, and take memory."""
READ_TOKENS = 1 << 20
"""Tokens of the training texts that are read at a time where all of them are read."""
STATE_FILE = "state.npz"

ForwardPass = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, bool], tf.Tensor]
OnTrainBatchEnd = Callable[[int, int, float], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochResult:
    """The result of an epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        metrics: Dev metrics (`metrics.classification.evaluate`), all NaN where the run diverged; train_loss,
            train_tokens (without padding), train_seconds, seconds, and without padding train_padding (0),
            limit_seconds, the time of training's matrix products alone at the machine's best measured rate, and
            roofline_seconds, with that of the bytes that must move (`roofline`).
        probabilities: Dev predictions, float32 [texts, classes]; None where the run diverged.
        restored: Whether the epoch was trained before the run resumed, so that the weights are those of a later one.
    """

    epoch: int
    metrics: dict[str, float]
    probabilities: np.ndarray | None
    restored: bool = False

    @property
    def diverged(self) -> bool:
        """Whether the loss or a prediction was no longer finite."""
        return self.probabilities is None


class Trainer:
    """One model and one traced step that serve all runs of a checkpoint.

    A run begins with a reset of weights and optimizer, so that its numbers are those of a freshly built model. BERT and
    its relatives (`bert.families`) compute no padding; other architectures run their own forward pass.

    A checkpoint that was loaded in the scope of a `replicas.strategy` is trained by all replicas: each computes the
    gradient of its share of every batch, and the clipped sum updates every copy of the weights. Where a batch does not
    fit the memory, its gradient is accumulated over micro-batches. Either step equals that of one device with the whole
    batch up to rounding and dropout's draw (`bert.dropout`), and so does the saved state, from which a run can resume
    with another number of replicas.

    Args:
        checkpoint: The model.
        precision: Precision of matrix products.
        frozen_layers: Lowest layers that are not trained, and with any of them no embeddings: they have no pass back,
            no update, and no share in the norm by which gradients are clipped.
        pooling: What the head reads (`Unpadded`).
        forward: Another forward pass over the same weights; None for the fastest known.

    Raises:
        UserError: The precision is not fp32 or pooling not "cls", and the architecture has only its own forward pass.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        precision: Precision = "fp32",
        frozen_layers: int = 0,
        pooling: Pooling = "cls",
        forward: ForwardPass | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.precision = precision
        self.frozen_layers = frozen_layers
        model = checkpoint.model
        self.unpadded = forward is None and supports(model)
        if precision != "fp32" and not self.unpadded:
            raise self._refusal(f"Precision {precision}", "fp32")
        if pooling != "cls" and not self.unpadded:
            raise self._refusal(f"Pooling {pooling}", "cls")
        own = Unpadded(model, precision, pooling) if self.unpadded else checkpoint.logits
        self._forward: ForwardPass = forward or own
        self._strategy = model.distribute_strategy
        self._dropout = DropoutKey(model)
        self.micro_batches = 1
        """Micro-batches of a batch; 1 at the beginning of every run."""
        table = model.get_input_embeddings().weight
        self._vocabulary = int(table.shape[0])
        numbers = layer_numbers(model.trainable_variables, model.base_model_prefix)
        # What is not watched has no gradient, and the tape records nothing of what comes before the first that is.
        trained = [index for index, number in enumerate(numbers) if number > frozen_layers or not frozen_layers]
        variables = [model.trainable_variables[index] for index in trained]
        depths = [max(numbers) - numbers[index] for index in trained]
        with self._strategy.scope():
            self._optimizer = AdamW(variables, None if frozen_layers else table, precision == "fp16", depths)
            self._loss_scale = LossScale() if precision == "fp16" else None
        self._sums: list[tf.Variable] = []
        self._trace()

    def _trace(self) -> None:
        """Declare the traced functions; each is traced at its first call."""
        tokens, scalar = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([], tf.float32)
        labels, targets = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.float32)
        rows = UsedEmbeddingRows(tf.TensorSpec([None], tf.int32), tf.TensorSpec([self._vocabulary], tf.int32))
        update = StepUpdate(tf.TensorSpec([], tf.int32), scalar, scalar, scalar, rows, scalar)

        def batches(labels: tf.TensorSpec) -> tuple[Batch, ...]:
            return (Batch(tokens, tokens, tokens, labels, scalar),) * self.replicas

        def traced(function: Callable[..., Any], *signature: Any) -> Any:
            # Nothing here branches on a tensor's value, and not converting the code makes tracing a third shorter.
            return tf.function(function, input_signature=signature, autograph=False)

        def traced_by_labels(function: Callable[..., tf.Tensor], *rest: Any) -> Callable[..., tf.Tensor]:
            # Two traces, so that plain labels keep the plain loss, which is faster.
            traces = {spec.dtype: traced(function, batches(spec), *rest) for spec in (labels, targets)}
            return lambda own, *others: traces[own[0].labels.dtype](own, *others)

        self._step = traced_by_labels(self._train_step, scalar, update)
        self._accumulate = traced_by_labels(
            self._accumulate_gradients, scalar, update.step, tf.TensorSpec([], tf.int32)
        )
        self._apply_sums = traced(self._update_by_sums, update)
        self._predict = traced(
            lambda batch: self._map_batch(lambda *text: tf.nn.softmax(self._forward(*text)), batch), batches(labels)
        )
        if isinstance(self._forward, Unpadded):
            pooled = self._forward.pooled
            self._pool = traced(lambda batch: self._map_batch(pooled, batch), batches(labels))

    @property
    def replicas(self) -> int:
        """Devices that train the model together."""
        return int(self._strategy.num_replicas_in_sync)

    def run(
        self,
        train: EncodedDataset,
        dev: EncodedDataset,
        config: TrialConfig,
        folder: Path,
        on_train_batch_end: OnTrainBatchEnd | None = None,
        keep_weights: bool = False,
        before_save: Callable[[EpochResult], None] | None = None,
    ) -> Iterator[EpochResult]:
        """Train, and yield after every epoch.

        A run resumes from `folder`: called with the same arguments, it yields the saved epochs and continues after
        them; where the saved state is damaged, it starts over. An epoch's state is written while the next one is
        trained, and so may be incomplete when the epoch is yielded; the last one's is not. A loss that is not finite
        ends the run with an epoch of NaN. A retrained head scores every epoch while training continues with the trained
        one, and so does a branch; after the last epoch the head and the branch stay in the model.

        Args:
            train: The training texts.
            dev: The texts on which each epoch is scored.
            config: Hyperparameters, schedule and seed.
            folder: Folder of the run's state.
            on_train_batch_end: Called with steps done in the epoch, steps of the epoch, those around its branch
                included, and loss.
            keep_weights: Whether the last epoch's state is saved too, so that a finished run leaves the trained model
                in place when it is resumed, and can go on.
            before_save: Called with the result of every epoch that is trained here, before the state is saved, while
                the model is the one that was scored: files that it writes exist for every saved epoch, since an epoch
                whose state was not written before a kill is retrained.

        Raises:
            UserError: The saved state cannot be read, or the architecture has no head retraining.
        """
        rows = self.used_rows(train)
        history = self._resume(config, folder, len(dev.labels))
        yield from history
        with _Writer() as self._writer:
            while len(history) < config.stop_epoch and not (history and history[-1].diverged):
                began, epoch = perf_counter(), len(history) + 1
                losses, before_branch = self._train_epoch(train, config, epoch, rows, on_train_batch_end)
                loss = float(np.mean(losses)) if np.isfinite(losses[-1]) else float("nan")
                train_seconds = perf_counter() - began
                trained = self._retrain_head(train, config) if np.isfinite(loss) else []
                probabilities = self.probabilities(dev.texts) if np.isfinite(loss) else None
                if probabilities is not None and np.isfinite(probabilities).all():
                    metrics = evaluate(dev.labels, probabilities, self.checkpoint.labels)
                else:
                    metrics, probabilities = dict.fromkeys(directions(self.checkpoint.labels), float("nan")), None
                metrics |= {"train_loss": loss, "train_seconds": train_seconds, "seconds": perf_counter() - began}
                metrics |= self._work(train, config, len(losses), rows)
                history.append(EpochResult(epoch, metrics, probabilities))
                ended = epoch == config.stop_epoch or history[-1].diverged
                self._writer.wait()  # so that no more than one epoch's files are held in memory
                if before_save:
                    before_save(history[-1])
                goes_on, scored = keep_weights or not ended, list[np.ndarray]()
                if keep_weights and (trained or before_branch):
                    scored = [variable.numpy() for variable in self.checkpoint.model.variables]
                if goes_on and not before_branch:
                    for variable, value in trained:
                        variable.assign(value)
                state = before_branch or [variable.numpy() for variable in self._state()] if goes_on else []
                self._writer.write(folder / STATE_FILE, _arrays(history, state, scored))
                self._restore(scored if ended else before_branch)
                if ended:
                    self._writer.wait()
                yield history[-1]

    def _train_epoch(
        self,
        train: EncodedDataset,
        config: TrialConfig,
        epoch: int,
        rows: UsedEmbeddingRows,
        on_train_batch_end: OnTrainBatchEnd | None,
    ) -> tuple[list[float], list[np.ndarray]]:
        """Train an epoch, up to a loss that is not finite; return its losses, and the state before a branch."""
        losses, before_branch = list[float](), list[np.ndarray]()
        stretches = _stretches(train, config, epoch)
        steps = sum(len(stretch.rates) for stretch in stretches)
        for stretch in stretches:
            if stretch.is_branch:
                self._writer.wait()  # as before the scored epoch's files
                before_branch = [variable.numpy() for variable in self._state()]
            for loss in self._losses(train, config, stretch, rows):
                losses.append(loss)
                if not np.isfinite(loss):
                    return losses, []
                if on_train_batch_end:
                    on_train_batch_end(len(losses), steps, loss)
                self._writer.check()
            values = config.hyperparameters
            self._optimizer.decay_others(rows, stretch.rates, values.weight_decay, values.layer_decay)
        return losses, before_branch

    def time_steps(self, train: EncodedDataset, config: TrialConfig, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Train the first steps of a run without keeping anything.

        Returns:
            Losses in nats and times in seconds, float64 [steps] up to an epoch's (without its branch); the first time
            includes tracing.
        """
        self._reset(config)
        rows, losses, ends = self.used_rows(train), list[float](), [perf_counter()]
        first = _stretches(train, config, 1)[0]
        for loss in self._losses(train, config, first._replace(rates=first.rates[:steps]), rows):
            losses.append(loss)
            ends.append(perf_counter())
        return np.array(losses), np.diff(ends)

    def probabilities(self, texts: EncodedTexts, on_batch_end: OnTrainBatchEnd | None = None) -> np.ndarray:
        """Predict class probabilities, float32 [texts, classes].

        A text of several windows has the mean of theirs, whose cross-entropy is at most the mean one that is trained.
        """
        return texts.mean_of_texts(self._map_texts(self._predict, texts, on_batch_end))

    def features(self, texts: EncodedTexts) -> np.ndarray:
        """Compute the vectors that the head reads (`Unpadded.pooled`), float32 [texts, width].

        Raises:
            UserError: The architecture has only its own forward pass.
        """
        self._unpadded_pass()
        return self._map_texts(self._pool, texts)

    def _unpadded_pass(self) -> Unpadded:
        if not isinstance(self._forward, Unpadded):
            raise self._refusal("Head retraining", "head_retraining none")
        return self._forward

    def _refusal(self, feature: str, instead: str) -> UserError:
        checkpoint = self.checkpoint
        kind = checkpoint.model.config.model_type
        return UserError(f"{feature} is not for type {kind!r}, which {checkpoint.name} is of: use {instead}.")

    def least_time(self, train: EncodedDataset, config: TrialConfig, rows: UsedEmbeddingRows) -> Roofline:
        """Return the least time of training an epoch without padding and branches; `rows` are `train`'s."""
        size = Dimensions.of(self.checkpoint.model.config, len(self.checkpoint.labels))
        work = (size, train.texts.lengths, _steps(train, config), len(rows.used))
        return roofline(*work, self.precision, self.replicas, self.frozen_layers)

    def _work(
        self, train: EncodedDataset, config: TrialConfig, steps: int, rows: UsedEmbeddingRows
    ) -> dict[str, float]:
        """Return the tokens of an epoch's steps, and the least seconds that training them takes."""
        passes = steps / _steps(train, config)
        work = {"train_tokens": passes * float(train.texts.lengths.sum())}
        if not self.unpadded:
            return work
        least = self.least_time(train, config, rows)
        limits = {"limit_seconds": passes * least.products, "roofline_seconds": passes * least.seconds}
        return work | {"train_padding": 0.0} | limits

    def _map_texts(
        self,
        traced: Callable[[tuple[Batch, ...]], tf.Tensor],
        texts: EncodedTexts,
        on_batch_end: OnTrainBatchEnd | None = None,
    ) -> np.ndarray:
        """Compute rows of texts in batches, the longest texts first; the rows are in the texts' own order."""
        order = np.argsort(-texts.lengths, kind="stable")
        sizes = sizes_within(texts.lengths[order], EVALUATION_TOKENS * self.replicas)
        # A single batch has none to be prepared beside it, and starting a pipeline takes longer than a short text.
        batches = (padded_batches if len(sizes) == 1 else pipeline)(
            texts, np.zeros(len(texts), np.int32), order, sizes, self.replicas
        )
        rows = []
        for done, batch in enumerate(batches, start=1):
            rows.append(traced(batch).numpy())
            if on_batch_end:
                on_batch_end(done, len(sizes), float("nan"))
        # Rows of empty shares come after all texts, where no index reaches.
        return np.concatenate(rows)[np.argsort(order)]

    def _retrain_head(self, train: EncodedDataset, config: TrialConfig) -> list[tuple[tf.Variable, np.ndarray]]:
        """Retrain the head if configured; return its variables, each with the trained value."""
        method = config.hyperparameters.head_retraining
        if method == "none":
            return []
        features, classes = self.features(train.texts), self._unpadded_pass().classes
        if not np.isfinite(features).all():
            return []  # The run has diverged, as its metrics will show.
        trained = [(variable, variable.numpy()) for variable in (classes.kernel, classes.bias)]
        retrained = refit(features, train.labels, method, config.seed)
        for (variable, _), value in zip(trained, retrained, strict=True):
            variable.assign(value)
        return trained

    def _losses(
        self, train: EncodedDataset, config: TrialConfig, stretch: "_Stretch", rows: UsedEmbeddingRows
    ) -> Iterator[float]:
        """Train consecutive steps of an epoch, and yield their losses.

        A loss is read while the next step runs, so that reading never keeps a GPU waiting.
        """
        hyperparameters = config.hyperparameters
        gamma = tf.constant(hyperparameters.focal_gamma)
        decay, clip = tf.constant(hyperparameters.weight_decay), tf.constant(hyperparameters.max_grad_norm)
        layer_decay = tf.constant(hyperparameters.layer_decay)
        epoch, first, rates = stretch.epoch, stretch.first, stretch.rates
        begin = (epoch - 1) * _steps(train, config) + first
        running: tf.Tensor | None = None
        for number, batch in enumerate(self._batches(train, config, epoch, len(rates), first)):
            rate = tf.constant(rates[number])
            update = StepUpdate(tf.constant(begin + number), rate, decay, clip, rows, layer_decay)
            started = self._start_step(batch, gamma, update)
            if running is not None:
                yield float(running)
            running = started
        if running is not None:
            yield float(running)

    def _start_step(self, batches: tuple[Batch, ...], gamma: tf.Tensor, update: StepUpdate) -> tf.Tensor:
        """Start a step, in more micro-batches where memory ends, and return its loss."""
        while True:
            try:
                step = self._step if self.micro_batches == 1 else self._step_in_micro_batches
                return step(batches, gamma, update)
            except tf.errors.ResourceExhaustedError:
                # The update needs all gradients, so that a failed step has changed nothing and can be repeated.
                texts = max(len(batch.labels) for batch in batches)
                if self.micro_batches >= texts:
                    raise
                self.micro_batches = min(2 * self.micro_batches, texts)
                _log.warning("Out of memory with %d texts: from now on in %d micro-batches.", texts, self.micro_batches)

    def _step_in_micro_batches(self, batches: tuple[Batch, ...], gamma: tf.Tensor, update: StepUpdate) -> tf.Tensor:
        if not self._sums:
            with self._strategy.scope():
                self._sums = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self._optimizer.variables]
        for total in self._sums:
            total.assign(tf.zeros_like(total))
        loss = tf.constant(0.0)
        for number in range(self.micro_batches):
            part = tuple(_micro_batch(batch, number, self.micro_batches) for batch in batches)
            loss += self._accumulate(part, gamma, update.step, tf.constant(number))
        self._apply_sums(update)
        return loss

    def _train_step(self, batches: tuple[Batch, ...], gamma: tf.Tensor, update: StepUpdate) -> tf.Tensor:
        self._dropout.set_step(update.step)

        def on_replica(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
            loss, gradients = self._gradients(batch, gamma)
            return loss, self._optimizer.apply(gradients, update)

        losses, norms = self._on_replicas(on_replica, batches)
        self._rescale(norms)
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)

    def _accumulate_gradients(
        self, batches: tuple[Batch, ...], gamma: tf.Tensor, step: tf.Tensor, number: tf.Tensor
    ) -> tf.Tensor:
        """Add the gradients of one micro-batch to the sums, and return its share of the loss."""
        self._dropout.set_step(step, number)

        def on_replica(batch: Batch) -> tf.Tensor:
            loss, gradients = self._gradients(batch, gamma)
            for total, gradient in zip(self._sums, gradients, strict=True):
                tf.raw_ops.AssignAddVariableOp(resource=total.handle, value=tf.convert_to_tensor(gradient))
            return loss

        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, self._on_replicas(on_replica, batches), axis=None)

    def _update_by_sums(self, update: StepUpdate) -> None:
        def on_replica() -> tf.Tensor:
            return self._optimizer.apply([tf.convert_to_tensor(total) for total in self._sums], update)

        self._rescale(self._strategy.run(on_replica))

    def _gradients(self, batch: Batch, gamma: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Compute a replica's part of the batch's mean loss, and its gradients."""
        variables = self._optimizer.variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            logits = self._forward(batch.ids, batch.types, batch.mask, True)
            # The sum over all replicas is the mean over all texts of the batch.
            loss = tf.reduce_mean(per_example_loss(logits, batch.labels, gamma)) * batch.share
            scaled = loss if self._loss_scale is None else loss * self._loss_scale.value
        # Some architectures carry weights that their classifier does not use.
        gradients = tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if self._loss_scale is not None:
            gradients = [gradient / self._loss_scale.value for gradient in map(tf.convert_to_tensor, gradients)]
        return loss, gradients

    def _rescale(self, norms: Any) -> None:
        """Adapt the loss scale to the norm of the gradients, which every replica knows."""
        if self._loss_scale is not None:
            self._loss_scale.update(tf.math.is_finite(self._strategy.experimental_local_results(norms)[0]))

    def _map_batch(self, function: ForwardPass, batches: tuple[Batch, ...]) -> tf.Tensor:
        """Apply `function` to all texts of a batch, without dropout."""

        def on_replica(batch: Batch) -> tf.Tensor:
            return function(batch.ids, batch.types, batch.mask, False)

        return tf.concat(self._strategy.experimental_local_results(self._on_replicas(on_replica, batches)), axis=0)

    def _on_replicas(self, function: Callable[[Batch], tf.Tensor], batches: tuple[Batch, ...]) -> Any:
        """Run `function` on every replica, each with its own batch."""
        own = self._strategy.experimental_distribute_values_from_function(
            lambda replica: batches[replica.replica_id_in_sync_group]
        )
        return self._strategy.run(function, args=(own,))

    def _batches(
        self, train: EncodedDataset, config: TrialConfig, epoch: int, steps: int, first: int = 0
    ) -> Iterator[tuple[Batch, ...]]:
        """Make `steps` batches of an epoch, from the one numbered `first` on, counted from 0."""
        hyperparameters, batch_size = config.hyperparameters, int(config.hyperparameters.batch_size)
        grouping = hyperparameters.group_by_length
        grouped = grouping == "always" or (grouping == "auto" and not self.unpadded)
        order = training_order(train.texts.lengths, batch_size, config.seed, epoch, grouped)
        sizes = equal_sizes(len(order), batch_size)
        labels = train.labels if train.targets is None else train.targets
        if hyperparameters.focal_gamma and train.targets is None:
            labels = np.eye(len(self.checkpoint.labels), dtype=np.float32)[labels]
        return pipeline(train.texts, labels, order[first * batch_size :], sizes[first : first + steps], self.replicas)

    def used_rows(self, train: EncodedDataset) -> UsedEmbeddingRows:
        """Return the rows of the word embeddings that occur in `train`, which all of its ids are read for."""
        used = np.zeros(self._vocabulary, bool)
        used[train.texts.pad_id] = True
        for start in range(0, len(train.texts.ids), READ_TOKENS):
            used[train.texts.ids[start : start + READ_TOKENS]] = True
        return UsedEmbeddingRows.of(np.flatnonzero(used), self._vocabulary)

    def _reset(self, config: TrialConfig) -> None:
        """Reset all that training changes."""
        self.checkpoint.reset(config.seed, config.hyperparameters.reinit_layers)
        self._optimizer.reset()
        self._dropout.seed(config.seed)
        if self._dropout.set_rates(config.hyperparameters.dropout_rates):
            self._trace()
        self.micro_batches = 1
        if self._loss_scale is not None:
            self._loss_scale.reset()

    def _resume(self, config: TrialConfig, folder: Path, texts: int) -> list[EpochResult]:
        """Restore the state after the last saved epoch, or reset it, and return the saved epochs."""
        self._reset(config)
        path = folder / STATE_FILE
        if not path.exists():
            return []
        try:
            with reading(path, "the run is trained again from its first epoch") as file, open_arrays(file) as state:
                history = read_epochs(state, texts, len(self.checkpoint.labels))
                values, scored = read_weights(state), read_weights(state, "w")
                for arrays in (values, scored):
                    _check_shapes(arrays, self._state()[: len(arrays)])
                if not history:
                    raise ValueError("it has no epoch")
        except DamagedError as error:
            _log.warning(str(error))
            return []
        ends = len(history) >= config.stop_epoch or history[-1].diverged
        # A run that was ended early, and goes on after all, has no optimizer state to go on with.
        if not ends and len(values) < len(self._state()):
            return []
        self._restore((scored if ends else ()) or values)
        return history

    def _restore(self, values: Sequence[np.ndarray]) -> None:
        """Assign values to the first variables of the state."""
        for variable, value in zip(self._state(), values, strict=False):
            variable.assign(value)

    def save_weights(self, file: Path, history: Sequence[EpochResult]) -> None:
        """Save a run's epochs so far with the model's weights, in the background of the run that calls this.

        The file is there before the state of the epoch is; it serves as the STATE_FILE of a run that has ended with
        this epoch.
        """
        self._writer.write(file, _arrays(history, [variable.numpy() for variable in self.checkpoint.model.variables]))

    def load_weights(self, file: Path, remedy: str) -> list[np.ndarray]:
        """Read the model's weights from a file of `save_weights`, an array for every variable of the model.

        Args:
            file: The file.
            remedy: What to do where it is damaged, for the error's sentence.

        Raises:
            DamagedError: The file is damaged, or has the weights of another model.
        """
        with reading(file, remedy) as opened, open_arrays(opened) as state:
            values = read_weights(state)
            _check_shapes(values, self.checkpoint.model.variables)
        return values

    def _state(self) -> list[tf.Variable]:
        """List all that training changes (three times the model), the model's variables first."""
        scale = [] if self._loss_scale is None else self._loss_scale.state
        return [*self.checkpoint.model.variables, *self._optimizer.slots, *scale]


class _Writer(AbstractContextManager["_Writer"]):
    """Writes arrays in a thread, file after file, while training goes on; the block ends when all are written."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()

    def write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a file after those before it."""
        self._pending.append(self._thread.submit(_write, path, arrays))

    def check(self) -> None:
        """Raise what has kept a file from being written, if anything has so far."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def wait(self) -> None:
        """Wait until all files are written; raises as `check` does."""
        while self._pending:
            self._pending.popleft().result()

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()


def _arrays(
    history: Sequence[EpochResult], state: Sequence[np.ndarray], scored: Sequence[np.ndarray] = ()
) -> dict[str, np.ndarray]:
    """Name the result of every epoch, and the values of variables (`read_weights`), for `_write`."""
    arrays: dict[str, Any] = {"history": np.array(json.dumps([result.metrics for result in history]))}
    arrays |= {f"p{r.epoch}": r.probabilities for r in history if r.probabilities is not None}
    named = {"v": state, "w": scored}
    return arrays | {f"{name}{index}": value for name, values in named.items() for index, value in enumerate(values)}


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_weights(state: Any, name: str = "v") -> list[np.ndarray]:
    """Read variables in an open STATE_FILE, in their order; empty where it has none.

    Args:
        state: The file.
        name: "v" for those with which the run goes on, "w" for the scored model's where they are others.
    """
    return [state[f"{name}{index}"] for index in range(sum(file.startswith(name) for file in state.files))]


def _check_shapes(values: Sequence[np.ndarray], variables: Sequence[tf.Variable]) -> None:
    """Raise ValueError unless arrays are values of variables."""
    shapes = [(tuple(one.shape), one.dtype.as_numpy_dtype) for one in variables]
    if [(value.shape, value.dtype) for value in values] != shapes:
        raise ValueError("its weights are those of another model")


def drop_weights(folder: Path) -> None:
    """Reduce the state of a run that has ended to its epochs' results, without the weights to go on with."""
    path = folder / STATE_FILE
    if not path.exists():
        return
    try:
        with reading(path, "nothing reads it again") as file, open_arrays(file) as state:
            if "v0" not in state:
                return
            kept = {name: state[name] for name in state.files if not name.startswith(("v", "w"))}
    except DamagedError:
        return
    _write(path, kept)


def read_epochs(state: Any, texts: int, classes: int) -> list[EpochResult]:
    """Read the results of the epochs in an open STATE_FILE, for dev's number of texts.

    Raises:
        ValueError: A part is damaged; further errors as for `numpy.load`.
    """
    history = checked(list[dict[str, float]], parse_json(str(state["history"]).encode()))
    results = [EpochResult(n, metrics, state.get(f"p{n}"), restored=True) for n, metrics in enumerate(history, start=1)]
    for result in results:
        if not {"accuracy", "train_loss", "train_seconds", "seconds"} <= result.metrics.keys():
            raise ValueError(f"epoch {result.epoch} lacks metrics")
        if (of := result.probabilities) is None:
            if result is not results[-1] or not np.isnan(result.metrics["accuracy"]):
                raise ValueError(f"the predictions of epoch {result.epoch} are missing")
        elif of.shape != (texts, classes) or of.dtype != np.float32 or not np.allclose(of.sum(axis=1), 1, atol=1e-3):
            raise ValueError(f"the predictions of epoch {result.epoch} are none of dev")
    return results


class _Stretch(NamedTuple):
    """Consecutive steps of one epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        first: Number of the first step in the epoch, from 0.
        rates: Learning rate of every step, float32 [steps].
        is_branch: Whether the run goes on from where these steps began.
    """

    epoch: int
    first: int
    rates: np.ndarray
    is_branch: bool = False


def _steps(train: EncodedDataset, config: TrialConfig) -> int:
    """Return the steps of an epoch."""
    return -(-len(train.texts) // int(config.hyperparameters.batch_size))


def _stretches(train: EncodedDataset, config: TrialConfig, epoch: int) -> list[_Stretch]:
    """Plan the steps that lead from one score to the next one: an epoch, or one of a row of branches."""
    values, steps = config.hyperparameters, _steps(train, config)
    horizon = WARMUP_EPOCHS if values.has_branches else config.schedule_epochs
    rising = round(values.warmup_ratio * (steps * horizon))
    last = steps * (config.schedule_epochs if values.needs_horizon else epoch)
    rates = learning_rates(values.learning_rate, last, rising, values.lr_schedule)
    own = rates[(epoch - 1) * steps : epoch * steps]
    if not values.has_branches:
        return [_Stretch(epoch, 0, own)]
    fork = steps - values.branch_steps(steps)
    before = [_Stretch(epoch - 1, fork, rates[(epoch - 2) * steps + fork : (epoch - 1) * steps])] if epoch > 1 else []
    branch = _Stretch(epoch, fork, cooldown_rates(own[fork:]), is_branch=True)
    return [*before, *([_Stretch(epoch, 0, own[:fork])] if fork else []), branch]


def _micro_batch(batch: Batch, number: int, count: int) -> Batch:
    """Slice one of `count` nearly equal micro-batches; an empty one is filled with a text whose share is 0."""
    texts = len(batch.labels)
    begin, end = texts * number // count, texts * (number + 1) // count
    share = batch.share * ((end - begin) / texts)
    ids, types, mask, labels = (tensor[begin : max(end, begin + 1)] for tensor in batch[:-1])
    return Batch(ids, types, mask, labels, share)
