"""AdamW, its learning-rate schedules, and loss scaling."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bertgrid_tf.hyperparameters import Schedule

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def learning_rates(peak: float, steps: int, rising: int, schedule: Schedule) -> np.ndarray:
    """Compute the learning rate of every step, float32 [steps].

    The rate rises linearly to `peak` over the first `rising` steps, then falls linearly to 0 one step after the last
    ("linear"; Devlin et al. 2019, appendix A.2), stays ("constant"), or falls with the inverse square root of the step
    ("inverse_sqrt"; Vaswani et al. 2017, section 5.3).

    Example:
        >>> learning_rates(1.0, steps=6, rising=2, schedule="linear").tolist()
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
        >>> learning_rates(1.0, steps=5, rising=1, schedule="inverse_sqrt")[[0, 3]].tolist()
        [1.0, 0.5]
    """
    step = np.arange(steps, dtype=np.float64)
    after = {
        "linear": (steps - step) / max(steps - rising, 1),
        "constant": np.ones(steps),
        "inverse_sqrt": np.sqrt(max(rising, 1) / (step + 1)),
    }[schedule]
    return (peak * np.where(step < rising, (step + 1) / max(rising, 1), after)).astype(np.float32)


def cooldown_rates(rates: np.ndarray) -> np.ndarray:
    """Let the rates of a row's last steps fall linearly from its first to 0, one step after them, float32 [steps].

    Example:
        >>> cooldown_rates(np.array([1.0, 0.7, 0.6, 0.5])).tolist()
        [1.0, 0.75, 0.5, 0.25]
    """
    return (rates[0] * np.arange(len(rates), 0, -1) / len(rates)).astype(np.float32)


class UsedEmbeddingRows(NamedTuple):
    """The rows of the word embeddings that the training texts read; no other row ever gets a gradient.

    Attributes:
        used: Indices of the rows, ascending, int32 [rows].
        places: Index into `used` of each row of the embeddings, 0 for unused rows, int32 [vocabulary].
    """

    used: tf.Tensor
    places: tf.Tensor

    @classmethod
    def of(cls, ids: np.ndarray, vocabulary: int) -> "UsedEmbeddingRows":
        """Collect the rows that token ids (int32, any shape) read."""
        used = np.unique(ids).astype(np.int32)
        places = np.zeros(vocabulary, np.int32)
        places[used] = np.arange(len(used))
        return cls(tf.constant(used), tf.constant(places))

    def take(self, gradient: tf.Tensor | tf.IndexedSlices) -> tf.Tensor:
        """Take the used rows of the embeddings' gradient, float32 [rows, width]."""
        if not isinstance(gradient, tf.IndexedSlices):
            return tf.gather(gradient, self.used)
        places = tf.gather(self.places, gradient.indices)
        return tf.math.unsorted_segment_sum(gradient.values, places, tf.size(self.used))


class StepUpdate(NamedTuple):
    """The numbers of one optimizer step.

    Attributes:
        step: Number of the step in the run, int32 scalar, from 0.
        rate: Learning rate, float32 scalar.
        decay: Weight decay per unit of learning rate, float32 scalar.
        clip: Largest global norm of the gradient, float32 scalar.
        rows: The trained rows of the word embeddings; None for an optimizer without `table`.
        layer_decay: Learning rate of a layer as a multiple of that of the layer above, float32 scalar; None for an
            optimizer without `depths`.
    """

    step: tf.Tensor
    rate: tf.Tensor
    decay: tf.Tensor
    clip: tf.Tensor
    rows: UsedEmbeddingRows | None = None
    layer_decay: tf.Tensor | None = None


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) and clipping by the global norm.

    Biases and LayerNorm's parameters are not decayed. Every rate is an argument of `apply`, so that one traced step
    serves all hyperparameters; the update of a variable is one fused op. The moments are placed as the variables are if
    the optimizer is made in the scope of their strategy.

    Of the word embeddings, often half of the model, `apply` updates only the rows that the training texts read. The
    moments of the other rows stay 0: dense Adam would only decay these rows, which `decay_others` does. The result is
    that of the dense update up to rounding.

    Args:
        variables: The variables to train.
        table: The word embeddings among them; None to update every variable densely.
        skips: Whether a step whose gradients are not all finite is left out, as loss scaling requires.
        depths: The layers above each variable, the head included: every layer has a learning rate of its own; None for
            one rate (Howard and Ruder 2018, arXiv 1801.06146, section 3.2).
    """

    def __init__(
        self,
        variables: Sequence[tf.Variable],
        table: tf.Variable | None = None,
        skips: bool = False,
        depths: Sequence[int] | None = None,
    ) -> None:
        self.variables = list(variables)
        self.first = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
        self.second = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
        self._table = table
        self._skips = skips
        self._depths = list(depths or [0] * len(self.variables))

    @property
    def slots(self) -> list[tf.Variable]:
        """First moments, then second moments, in the order of the variables."""
        return self.first + self.second

    def reset(self) -> None:
        """Set all moments to 0."""
        for slot in self.slots:
            slot.assign(tf.zeros_like(slot))

    def apply(self, gradients: Sequence[tf.Tensor], update: StepUpdate) -> tf.Tensor:
        """Update the variables; every replica calls this, and every copy of a variable gets the same update.

        Args:
            gradients: Gradients of this replica's part of the loss, in the order of the variables; they are summed over
                the replicas. Sparse ones are made dense, so that the norm and the moments are the exact ones.
            update: The numbers of the step.

        Returns:
            The global norm of the summed gradients before clipping, float32 scalar.
        """
        dense = [
            update.rows.take(gradient) if update.rows and variable is self._table else tf.convert_to_tensor(gradient)
            for variable, gradient in zip(self.variables, gradients, strict=True)
        ]
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            dense = replica.all_reduce(tf.distribute.ReduceOp.SUM, dense)
        clipped, norm = tf.clip_by_global_norm(dense, update.clip)

        def updated() -> tf.Tensor:
            self._update(clipped, update)
            return norm

        return tf.cond(tf.math.is_finite(norm), updated, lambda: norm) if self._skips else updated()

    def decay_others(self, rows: UsedEmbeddingRows, rates: np.ndarray, decay: float, layer_decay: float = 1.0) -> None:
        """Decay the embeddings, if trained, that `apply` leaves out, as all steps since the last call would have.

        Args:
            rows: The rows that `apply` has updated.
            rates: Learning rate of every step, float32 [steps].
            decay: Weight decay per unit of learning rate.
            layer_decay: As in `StepUpdate`.
        """
        if self._table is None:
            return
        depth = next(depth for one, depth in zip(self.variables, self._depths, strict=True) if one is self._table)
        factor = np.prod(1 - decay * layer_decay**depth * rates, dtype=np.float64)
        factors = np.full((self._table.shape[0], 1), factor, np.float32)
        factors[rows.used.numpy()] = 1
        self._table.assign(self._table * factors)

    def _update(self, gradients: Sequence[tf.Tensor], update: StepUpdate) -> None:
        power = tf.cast(update.step + 1, tf.float32)
        powers = tf.pow(BETA_1, power), tf.pow(BETA_2, power)
        rates = [update.rate]
        while len(rates) <= max(self._depths):
            rates.append(rates[-1] * update.layer_decay)
        slots = zip(self.variables, self.first, self.second, strict=True)
        for (variable, first, second), gradient, depth in zip(slots, gradients, self._depths, strict=True):
            rate = rates[depth]
            # Ops on the handle, which is that of this replica's own copy: a mirrored variable cannot be assigned to
            # by one replica.
            if update.rows and variable is self._table:
                _adam_on_rows(variable, first, second, gradient, powers, update._replace(rate=rate))
                continue
            if not variable.name.endswith(("/bias:0", "/gamma:0", "/beta:0")):
                decrease = rate * update.decay * variable
                tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=decrease)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rate,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )


class LossScale:
    """The factor of a loss that keeps its gradients within float16 (Micikevicius et al. 2018, section 3.2).

    The factor is halved where a gradient overflows, and doubled after 2,000 steps without overflow.
    """

    def __init__(self) -> None:
        self.value = tf.Variable(2.0**15, trainable=False)
        self._finite_steps = tf.Variable(0, trainable=False)

    @property
    def state(self) -> list[tf.Variable]:
        """The variables that a resumed run needs."""
        return [self.value, self._finite_steps]

    def reset(self) -> None:
        """Set the factor for the first step of a run."""
        self.value.assign(2.0**15)
        self._finite_steps.assign(0)

    def update(self, finite: tf.Tensor) -> None:
        """Adapt the factor after a step whose gradients were all finite or not, bool scalar."""
        steps = tf.where(finite, self._finite_steps + 1, 0)
        grown = steps == 2000
        factor = tf.where(finite, tf.where(grown, 2.0, 1.0), 0.5)
        self.value.assign(tf.clip_by_value(self.value * factor, 1.0, 2.0**24))
        self._finite_steps.assign(tf.where(grown, 0, steps))


def _adam_on_rows(
    table: tf.Variable,
    first: tf.Variable,
    second: tf.Variable,
    gradient: tf.Tensor,
    powers: tuple[tf.Tensor, tf.Tensor],
    update: StepUpdate,
) -> None:
    """Update the used rows of the embeddings."""
    assert update.rows
    variables = (table, first, second)
    value, moment, square = (
        tf.raw_ops.ResourceGather(resource=variable.handle, indices=update.rows.used, dtype=tf.float32)
        for variable in variables
    )
    moment += (1 - BETA_1) * (gradient - moment)
    square += (1 - BETA_2) * (tf.square(gradient) - square)
    corrected = update.rate * tf.sqrt(1 - powers[1]) / (1 - powers[0])
    value -= update.rate * update.decay * value + corrected * moment / (tf.sqrt(square) + EPSILON)
    for variable, new in zip(variables, (value, moment, square), strict=True):
        tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=update.rows.used, updates=new)
