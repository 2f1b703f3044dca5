"""AdamW with linear warm-up and decay."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bertgrid_tf.hyperparameters import Schedule

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def learning_rates(peak: float, steps: int, warmup_ratio: float, schedule: Schedule) -> np.ndarray:
    """The learning rate of every step, float32 [steps].

    Rises linearly to `peak` over the first `warmup_ratio` share of all steps, then falls linearly to 0 one step after
    the last ("linear"; Devlin et al. 2019, appendix A.2) or stays ("constant").
    """
    step = np.arange(steps, dtype=np.float64)
    rising = round(warmup_ratio * steps)
    rise = (step + 1) / max(rising, 1)
    fall = (steps - step) / max(steps - rising, 1) if schedule == "linear" else np.ones(steps)
    return (peak * np.minimum(np.where(step < rising, rise, 1.0), np.where(step < rising, 1.0, fall))).astype(
        np.float32
    )


class UsedEmbeddingRows(NamedTuple):
    """The rows of a table of embeddings that a run's training texts read; no other ever gets a gradient.

    Attributes:
        used: their indices, ascending, int32 [rows].
        places: where among them each row of the table stands, 0 for the others, int32 [vocabulary].
    """

    used: tf.Tensor
    places: tf.Tensor

    @classmethod
    def of(cls, ids: np.ndarray, vocabulary: int) -> "UsedEmbeddingRows":
        """Those that token ids (int32, any shape) read."""
        used = np.unique(ids).astype(np.int32)
        places = np.zeros(vocabulary, np.int32)
        places[used] = np.arange(len(used))
        return cls(tf.constant(used), tf.constant(places))


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) and clipping by the global norm.

    Biases and LayerNorm's scales are not decayed. Every rate is an argument of `apply`, so that one traced step
    serves all settings; each variable's update is one fused op. Made in the scope of the variables' strategy, its
    moments lie where the variables do.

    Of a table of embeddings, often half of the model, `apply` updates only the rows that the training texts read.
    The moments of the others are 0 and stay so: all that dense Adam does to them is decay, which `decay_others` makes
    up for. The result is that of the dense update but for rounding.

    Args:
        variables: to update.
        table: the one of them that is the table of word embeddings.
        skips: whether a step whose gradients are not all finite is left out, as loss scaling asks for.
    """

    def __init__(self, variables: Sequence[tf.Variable], table: tf.Variable | None = None, skips: bool = False) -> None:
        self.variables = list(variables)
        self.first = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
        self.second = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
        self._decays = [_decays(v.name) for v in self.variables]
        self._table = table
        self._skips = skips

    @property
    def slots(self) -> list[tf.Variable]:
        """First moments, then second moments, in the order of the variables."""
        return self.first + self.second

    def reset(self) -> None:
        """Forgets all moments."""
        for slot in self.slots:
            slot.assign(tf.zeros_like(slot))

    def apply(
        self,
        gradients: Sequence[tf.Tensor],
        step: tf.Tensor,
        rate: tf.Tensor,
        decay: tf.Tensor,
        clip: tf.Tensor,
        rows: UsedEmbeddingRows | None = None,
    ) -> tf.Tensor:
        """Updates the variables; called by every replica, it gives all of their copies the same update.

        Args:
            gradients: in the order of the variables, of this replica's part of the loss; they are summed over the
                replicas. Sparse ones are made dense, so that the norm and the moments are the exact ones.
            step: int32 scalar, 0 for the first.
            rate: learning rate of this step, float32 scalar.
            decay: weight decay per unit of learning rate, float32 scalar.
            clip: largest global norm, float32 scalar.
            rows: of the table; needed where there is one.

        Returns:
            the global norm of the sums before clipping, float32 scalar.
        """
        dense = [
            _of_rows(gradient, rows) if rows and variable is self._table else tf.convert_to_tensor(gradient)
            for variable, gradient in zip(self.variables, gradients, strict=True)
        ]
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            dense = replica.all_reduce(tf.distribute.ReduceOp.SUM, dense)
        clipped, norm = tf.clip_by_global_norm(dense, clip)

        def update() -> tf.Tensor:
            self._update(clipped, step, rate, decay, rows)
            return norm

        return tf.cond(tf.math.is_finite(norm), update, lambda: norm) if self._skips else update()

    def decay_others(self, rows: UsedEmbeddingRows, factor: tf.Tensor) -> None:
        """Multiplies by `factor`, float32 scalar, the table's rows that `apply` left alone: what the decay of all steps
        since the last time comes to."""
        assert self._table is not None
        factors = np.full((self._table.shape[0], 1), factor, np.float32)
        factors[rows.used.numpy()] = 1
        self._table.assign(self._table * factors)

    def _update(
        self,
        gradients: Sequence[tf.Tensor],
        step: tf.Tensor,
        rate: tf.Tensor,
        decay: tf.Tensor,
        rows: UsedEmbeddingRows | None,
    ) -> None:
        power = tf.cast(step + 1, tf.float32)
        powers = tf.pow(BETA_1, power), tf.pow(BETA_2, power)
        for variable, first, second, gradient, decays in zip(
            self.variables, self.first, self.second, gradients, self._decays, strict=True
        ):
            # Ops on the handle, which is that of this replica's own copy: a mirrored variable cannot be assigned to
            # by one replica.
            if rows and variable is self._table:
                _adam_on_rows(variable, first, second, gradient, rows.used, powers, rate, decay)
                continue
            if decays:
                tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=rate * decay * variable)
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
    """What a loss is multiplied by so that float16 holds its gradients (Micikevicius et al. 2018): halved where one
    overflowed, doubled after 2,000 steps in which none did."""

    def __init__(self) -> None:
        self.value = tf.Variable(2.0**15, trainable=False)
        self._held = tf.Variable(0, trainable=False)

    @property
    def state(self) -> list[tf.Variable]:
        """What a resumed run needs."""
        return [self.value, self._held]

    def reset(self) -> None:
        """Starts a run."""
        self.value.assign(2.0**15)
        self._held.assign(0)

    def update(self, finite: tf.Tensor) -> None:
        """After a step whose gradients were all `finite`, or not: bool scalar."""
        held = tf.where(finite, self._held + 1, 0)
        grown = held == 2000
        factor = tf.where(finite, tf.where(grown, 2.0, 1.0), 0.5)
        self.value.assign(tf.clip_by_value(self.value * factor, 1.0, 2.0**24))
        self._held.assign(tf.where(grown, 0, held))


def _of_rows(gradient: tf.Tensor | tf.IndexedSlices, rows: UsedEmbeddingRows) -> tf.Tensor:
    """The gradient of the table's used rows, float32 [rows, width]."""
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.gather(gradient, rows.used)
    return tf.math.unsorted_segment_sum(gradient.values, tf.gather(rows.places, gradient.indices), tf.size(rows.used))


def _adam_on_rows(
    variable: tf.Variable,
    first: tf.Variable,
    second: tf.Variable,
    gradient: tf.Tensor,
    used: tf.Tensor,
    powers: tuple[tf.Tensor, tf.Tensor],
    rate: tf.Tensor,
    decay: tf.Tensor,
) -> None:
    """One step of AdamW on the rows `used` of a table."""
    value, moment, square = (
        tf.raw_ops.ResourceGather(resource=one.handle, indices=used, dtype=tf.float32)
        for one in (variable, first, second)
    )
    moment += (1 - BETA_1) * (gradient - moment)
    square += (1 - BETA_2) * (tf.square(gradient) - square)
    corrected = rate * tf.sqrt(1 - powers[1]) / (1 - powers[0])
    value -= rate * decay * value + corrected * moment / (tf.sqrt(square) + EPSILON)
    for one, updated in ((variable, value), (first, moment), (second, square)):
        tf.raw_ops.ResourceScatterUpdate(resource=one.handle, indices=used, updates=updated)


def _decays(name: str) -> bool:
    return not name.endswith(("/bias:0", "/gamma:0", "/beta:0"))
