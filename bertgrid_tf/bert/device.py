"""What TensorFlow computes on."""

import tensorflow as tf


def let_memory_grow() -> None:
    """Takes GPU memory as it is needed, so that a prediction can run beside a study. Before the first computation."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def device_name() -> str:
    """The first GPU's name, or that there is none to be seen."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "the CPU: TensorFlow sees no GPU"
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name))
