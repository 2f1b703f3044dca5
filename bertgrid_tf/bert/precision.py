"""Which precision trains fastest here, of those whose loss agrees with that of float32."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bertgrid_tf.bert.device import gpus
from bertgrid_tf.bert.trainer import Labelled, Trainer, TrainSettings
from bertgrid_tf.bert.unpadded import Precision

STEPS = 12
"""Training steps that are measured in each precision, after one that traces."""
AGREEMENT = 0.02
"""How far the mean loss of these steps may be from that of fp32, as a share of it. bfloat16 was 0.001 off."""
WORTH = 0.9
"""A coarser precision is worth it where it takes at most this share of fp32's time."""


@dataclass(frozen=True)
class Tried:
    """One precision as measured.

    Attributes:
        precision: of matrix products.
        examples_per_second: texts trained, at the median time of a step.
        loss: mean of the steps'; NaN where one was not finite.
        agrees: whether the loss is near enough to that of fp32.
    """

    precision: Precision
    examples_per_second: float
    loss: float
    agrees: bool


def candidates() -> tuple[Precision, ...]:
    """The precisions that may pay on what TensorFlow computes on, fp32 first.

    bfloat16 on CPUs and on GPUs since Ampere, float16 on GPUs before; all GPUs of a host are to have what is chosen.
    """
    oldest = min((gpu.capability or (0, 0) for gpu in gpus()), default=(8, 0))
    return ("fp32", "bf16" if oldest >= (8, 0) else "fp16")


def measure(trainer: Callable[[Precision], Trainer], train: Labelled, settings: TrainSettings) -> list[Tried]:
    """Trains the first steps of a run in each of the `candidates`, or in fp32 alone where the model has no other.

    Args:
        trainer: gives the trainer of a precision.
        train: the training texts.
        settings: of the run.
    """
    tried: list[Tried] = []
    for precision in candidates():
        built = trainer(precision)
        losses, seconds = built.rehearse(train, settings, STEPS + 1)
        loss = float(np.mean(losses))
        plain = tried[0].loss if tried else loss
        pace = settings.batch_size / float(np.median(seconds[1:] if len(seconds) > 1 else seconds))
        tried.append(Tried(precision, pace, loss, bool(abs(loss - plain) <= AGREEMENT * plain)))
        if not built.unpadded:
            break
    return tried


def choose(tried: list[Tried]) -> Precision:
    """The fastest of those that agree; fp32, which stands first, unless another is worth it."""
    plain, *others = tried
    worth = [one for one in others if one.agrees and one.examples_per_second * WORTH >= plain.examples_per_second]
    return max(worth, key=lambda one: one.examples_per_second, default=plain).precision
