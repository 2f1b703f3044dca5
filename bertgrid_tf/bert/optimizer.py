"""AdamW with linear warm-up and decay."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

Schedule = Literal["linear", "constant"]


def learning_rates(peak: float, steps: int, warmup: float, schedule: Schedule) -> np.ndarray:
    """The learning rate of every step, float32 [steps].

    Rises linearly to `peak` over the first `warmup` share of all steps, then falls linearly to 0 one step after
    the last ("linear"; Devlin et al. 2019, appendix A.2) or stays ("constant").
    """
    step = np.arange(steps, dtype=np.float64)
    rising = round(warmup * steps)
    rise = (step + 1) / max(rising, 1)
    fall = (steps - step) / max(steps - rising, 1) if schedule == "linear" else np.ones(steps)
    return (peak * np.minimum(np.where(step < rising, rise, 1.0), np.where(step < rising, 1.0, fall))).astype(
        np.float32
    )


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) and clipping by the global norm.

    Biases and LayerNorm's scales are not decayed. Every rate is an argument of `apply`, so that one traced step
    serves all settings; each variable's update is one fused op. Made in the scope of the variables' strategy, its
    moments lie where the variables do.
    """

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        self.variables = list(variables)
        self.first = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
        self.second = [tf.Variable(tf.zeros_like(v), trainable=False) for v in self.variables]
        self._decays = [_decays(v.name) for v in self.variables]

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
    ) -> tf.Tensor:
        """Updates the variables; called by every replica, it gives all of their copies the same update.

        Args:
            gradients: in the order of the variables, of this replica's part of the loss; they are summed over the
                replicas. Sparse ones are made dense, so that the norm and the moments are the exact ones.
            step: int32 scalar, 0 for the first.
            rate: learning rate of this step, float32 scalar.
            decay: weight decay per unit of learning rate, float32 scalar.
            clip: largest global norm, float32 scalar.

        Returns:
            the global norm of the sums before clipping, float32 scalar.
        """
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            dense = replica.all_reduce(tf.distribute.ReduceOp.SUM, dense)
        clipped, norm = tf.clip_by_global_norm(dense, clip)
        power = tf.cast(step + 1, tf.float32)
        powers = tf.pow(BETA_1, power), tf.pow(BETA_2, power)
        for variable, first, second, gradient, decays in zip(
            self.variables, self.first, self.second, clipped, self._decays, strict=True
        ):
            # Ops on the handle, which is that of this replica's own copy: a mirrored variable cannot be assigned to
            # by one replica.
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
        return norm


def _decays(name: str) -> bool:
    return not name.endswith(("/bias:0", "/gamma:0", "/beta:0"))
