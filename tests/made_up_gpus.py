"""GPUs in TensorFlow's list of devices that are not there."""

import pytest
import tensorflow as tf

from bertgrid_tf.bert import device

A10 = ("NVIDIA A10", 24_146_608_128, (8, 6))
T4 = ("Tesla T4", 15_843_721_216, (7, 5))
M60 = ("Tesla M60", 7_986_610_176, (5, 2))

Caps = dict[str, list[tf.config.LogicalDeviceConfiguration]]


def give(patch: pytest.MonkeyPatch, *cards: tuple[str, int | None, tuple[int, int]]) -> Caps:
    """Has TensorFlow list GPUs of the given name, memory in bytes and compute capability, and no others.

    Returns:
        the logical devices of each, as they are configured from now on.
    """
    caps: Caps = {}
    physical = [tf.config.PhysicalDevice(f"/physical_device:GPU:{i}", "GPU") for i in range(len(cards))]
    details = {
        gpu.name: {"device_name": name, "compute_capability": capability}
        for gpu, (name, _, capability) in zip(physical, cards, strict=True)
    }
    patch.setattr(tf.config, "list_physical_devices", lambda kind=None: physical)
    patch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details[gpu.name])
    patch.setattr(tf.config, "set_logical_device_configuration", lambda gpu, to: caps.update({gpu.name: to}))
    patch.setattr(tf.config, "get_logical_device_configuration", lambda gpu: caps.get(gpu.name))
    patch.setattr(device, "device_memory", lambda ordinal: cards[ordinal][1])
    return caps
