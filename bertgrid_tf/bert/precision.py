"""The fastest precision to train in, of those whose loss agrees with that of float32."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bertgrid_tf.bert.device import gpus
from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.hyperparameters import Precision
from bertgrid_tf.trial_config import TrialConfig

STEPS = 12
"""Training steps that are measured in each precision, after one that traces."""
AGREEMENT = 0.02
"""Largest relative difference of the mean loss to that of fp32; that of bfloat16 was 0.001."""
GAIN = 1.1
"""A coarser precision is taken where it is faster than fp32 by this factor."""


@dataclass(frozen=True)
class PrecisionTiming:
    """One precision as measured.

    Attributes:
        precision: Precision of matrix products.
        examples_per_second: Trained texts at the median time of a step.
        loss: Mean loss of the steps; NaN where one was not finite.
    """

    precision: Precision
    examples_per_second: float
    loss: float

    def agrees(self, plain: "PrecisionTiming") -> bool:
        """Whether the loss is near enough to that of fp32."""
        return abs(self.loss - plain.loss) <= AGREEMENT * plain.loss


def candidates() -> tuple[Precision, ...]:
    """Return the precisions to compare: fp32, and bf16 on CPUs and GPUs since Ampere, fp16 with an older GPU."""
    oldest = min((gpu.capability or (0, 0) for gpu in gpus()), default=(8, 0))
    return ("fp32", "bf16" if oldest >= (8, 0) else "fp16")


def measure(
    trainer: Callable[[Precision], Trainer], train: EncodedDataset, config: TrialConfig
) -> list[PrecisionTiming]:
    """Time the first steps of a run in each of the `candidates`; in fp32 alone where the model has no other."""
    timings: list[PrecisionTiming] = []
    for precision in candidates():
        built = trainer(precision)
        losses, seconds = built.time_steps(train, config, STEPS + 1)
        rate = int(config.hyperparameters.batch_size) / float(np.median(seconds[1:] if len(seconds) > 1 else seconds))
        timings.append(PrecisionTiming(precision, rate, float(np.mean(losses))))
        if not built.unpadded:
            break
    return timings


def choose(plain: PrecisionTiming, *others: PrecisionTiming) -> PrecisionTiming:
    """Return the first precision that is at least 10 % faster than fp32 and whose loss agrees, or else fp32.

    Example:
        >>> choose(PrecisionTiming("fp32", 100, 0.700), PrecisionTiming("bf16", 150, 0.701)).precision
        'bf16'
    """
    fast = (other for other in others if other.examples_per_second >= GAIN * plain.examples_per_second)
    return next((other for other in fast if other.agrees(plain)), plain)
