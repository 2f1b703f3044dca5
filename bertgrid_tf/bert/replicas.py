"""The devices that train one model together, each on its share of every batch."""

from functools import cache
from typing import Literal

import tensorflow as tf

from bertgrid_tf.errors import UserError


def replica_devices() -> list[str]:
    """The names of the devices that can hold a replica: the GPUs; where there is none, the CPU, which is one device
    unless it was divided (`tf.config.set_logical_device_configuration`)."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def replica_count(gpus: int | Literal["all"]) -> int:
    """How many replicas `gpus` asks for. Raises UserError where there are fewer devices."""
    seen = len(tf.config.list_logical_devices("GPU"))
    return resolve_gpu_count(gpus, len(replica_devices()), f"TensorFlow sees {seen or 'no'} GPU{'s' * (seen > 1)}")


def resolve_gpu_count(gpus: int | Literal["all"], there: int, why_no_more: str) -> int:
    """Return the number of GPUs that train the final model, of the `there` available ones.

    Raises:
        UserError: `gpus` asks for more; the error's sentence gives `why_no_more`.
    """
    if gpus != "all" and gpus > there:
        raise UserError(
            f"The final model cannot be trained on {gpus} GPUs, since {why_no_more}: "
            f"choose --final-gpus {there} or all."
        )
    return there if gpus == "all" else gpus


@cache
def strategy(replicas: int) -> tf.distribute.Strategy:
    """Where a model that is built in this strategy's scope lives.

    One replica is TensorFlow's default strategy, which adds nothing. Several are a `MirroredStrategy`: every
    variable has a copy on each of the first `replicas` devices, kept equal by giving all of them the same update.
    """
    if replicas == 1:
        return tf.distribute.get_strategy()
    devices = replica_devices()[:replicas]
    # On GPUs the default sums with NCCL. It counts its groups of devices anew in every strategy of a process, and two
    # of different sizes then get into each other's way: hence the cache, and on CPUs a way to sum that has no groups.
    on_cpus = not tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice() if on_cpus else None)
