"""Made-up GPUs in TensorFlow's list of devices and in the driver's."""

from types import SimpleNamespace

import pynvml
import pytest
import tensorflow as tf

A10 = ("NVIDIA A10", 24_146_608_128, (8, 6))
T4 = ("Tesla T4", 15_843_721_216, (7, 5))

RESERVED = 600_000_000
"""Bytes of each GPU that the driver keeps for itself."""

Caps = dict[str, list[tf.config.LogicalDeviceConfiguration]]


def give(patch: pytest.MonkeyPatch, *cards: tuple[str, int | None, tuple[int, int]]) -> Caps:
    """Have TensorFlow list GPUs of the given name, usable memory in bytes and compute capability, and no others.

    Returns:
        The logical devices of each, as they are configured from now on.
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
    give_driver(patch, *((name, memory) for name, memory, _ in cards))
    return caps


def give_driver(patch: pytest.MonkeyPatch, *cards: tuple[str, int | None]) -> None:
    """Have NVML answer for a driver of CUDA 12.4 and GPUs of the given name and usable memory, the last one first."""

    def memory(card: tuple[str, int | None], version: int) -> SimpleNamespace:
        if card[1] is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(total=card[1] + RESERVED, reserved=RESERVED)

    patch.setattr(pynvml, "nvmlInit", lambda: None)
    patch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "550.90.07")
    patch.setattr(pynvml, "nvmlSystemGetCudaDriverVersion_v2", lambda: 12_040)
    patch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(cards))
    patch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: cards[::-1][index])
    patch.setattr(pynvml, "nvmlDeviceGetName", lambda card: card[0])
    patch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", memory)
