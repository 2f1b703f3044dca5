"""The devices that train one model together, each on its share of every batch."""

from functools import cache
from typing import Literal

import tensorflow as tf

from bertgrid_tf.errors import UserError


def replica_devices() -> list[str]:
    """Return the names of the GPUs, or without any those of the CPU's logical devices."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def replica_count(gpus: int | Literal["all"]) -> int:
    """Return the number of replicas for `gpus`; raise UserError where there are fewer devices."""
    seen = len(tf.config.list_logical_devices("GPU"))
    return resolve_gpu_count(gpus, len(replica_devices()), f"TensorFlow sees {seen or 'no'} GPU{'s' * (seen > 1)}")


def resolve_gpu_count(gpus: int | Literal["all"], there: int, why_no_more: str) -> int:
    """Return the number of GPUs that train the final model; raise UserError, with the reason, if fewer are `there`."""
    if gpus != "all" and gpus > there:
        raise UserError(
            f"The final model cannot be trained on {gpus} GPUs, since {why_no_more}: "
            f"choose --final-gpus {there} or all."
        )
    return there if gpus == "all" else gpus


@cache
def strategy(replicas: int) -> tf.distribute.Strategy:
    """Return the strategy in whose scope a model of this many replicas is built.

    One replica has TensorFlow's default strategy, which adds nothing. Several have a `MirroredStrategy`: every variable
    has a copy on each of the first `replicas` devices, and all copies get the same update.
    """
    if replicas == 1:
        return tf.distribute.get_strategy()
    devices = replica_devices()[:replicas]
    # On GPUs the default sums with NCCL, which numbers its groups of devices anew in every strategy of a process, so
    # that groups of different sizes collide: hence the cache, and on CPUs a reduction that has no groups.
    on_cpus = not tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice() if on_cpus else None)
