"""What TensorFlow computes on."""

import os
import re
import time
from collections import Counter

import tensorflow as tf

from bertgrid_tf.errors import UserError
from bertgrid_tf.machine.gpu import Gpu, NoGpu, Version, device_memory, gather, why_none
from bertgrid_tf.machine.host import description, readable

_MIB = 2**20


def let_memory_grow() -> None:
    """Takes GPU memory as it is needed, so that a prediction can run beside a study. Before the first computation."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def limit_memory(limit: int) -> None:
    """Caps what TensorFlow takes of each GPU; does nothing where there is none. Before the first computation.

    Args:
        limit: bytes; at least one MiB.

    Raises:
        UserError: a GPU has less memory.
    """
    there = gpus()
    for gpu in there:
        if gpu.memory is not None and limit > gpu.memory:
            raise UserError(
                f"--gpu-memory {readable(limit)} is more than the {readable(gpu.memory)} of {gpu.name}: give less."
            )
    if not there:
        return
    # A limit is a logical device's, and for those TensorFlow ignores the growth that was configured: all of the limit
    # would be taken at once. The variable is what its allocator still asks for.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    capped = tf.config.LogicalDeviceConfiguration(memory_limit=limit // _MIB)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.set_logical_device_configuration(device, [capped])


def memory_limit() -> int | None:
    """Bytes that `limit_memory` lets TensorFlow take of each GPU; None where there is no limit, or no GPU."""
    for device in tf.config.list_physical_devices("GPU"):
        for capped in tf.config.get_logical_device_configuration(device) or ():
            return int(capped.memory_limit) * _MIB
    return None


def gpus() -> list[Gpu]:
    """The GPUs that TensorFlow computes on, in its order."""
    return [gpu for gpu in _listed() if not _is_too_weak(gpu)]


def too_weak() -> list[Gpu]:
    """The GPUs that TensorFlow lists but has no kernels for, so that it leaves them alone."""
    return [gpu for gpu in _listed() if _is_too_weak(gpu)]


def device_name() -> str:
    """What TensorFlow computes on: every GPU with its memory, and how much of it may be taken; or "the CPU"."""
    counted = Counter(map(str, gpus()))
    if not counted:
        return "the CPU"
    names = " and ".join(name if count == 1 else f"{count} × {name}" for name, count in counted.items())
    limit = memory_limit()
    each = " of each" if counted.total() > 1 else ""
    return names if limit is None else f"{names}, at most {readable(limit)}{each}"


def hardware() -> str:
    """What TensorFlow computes on, and the host around it."""
    host = description()
    return f"{device_name()}; {host}" if gpus() else host


def missing_gpu() -> NoGpu | None:
    """Why TensorFlow computes on the CPU; None where it computes on a GPU."""
    return None if gpus() else why_none(gather(built_for_cuda(), too_weak()))


def built_for_cuda() -> Version | None:
    """The CUDA version that TensorFlow was built with; None where it was built without."""
    build = tf.sysconfig.get_build_info()
    if not build["is_cuda_build"]:
        return None
    major, minor, *_ = map(int, build["cuda_version"].split("."))
    return major, minor


def least_capability() -> Version:
    """The compute capability of the oldest GPUs that TensorFlow was built for."""
    built = tf.sysconfig.get_build_info().get("cuda_compute_capabilities", [])
    digits = [re.sub(r"\D", "", name) for name in built]  # as sm_60, compute_90, sm_120
    return min(((int(number[:-1]), int(number[-1])) for number in digits), default=(0, 0))


def rounds_to_tf32() -> bool:
    """Whether float32 matrices are multiplied in NVIDIA's TF32, as GPUs since Ampere do unless they are told not to."""
    newest = max((gpu.capability for gpu in gpus() if gpu.capability), default=(0, 0))
    return newest >= (8, 0) and bool(tf.config.experimental.tensor_float_32_execution_enabled())


def matmul_rate(dtype: tf.DType, seconds: float) -> float:
    """FLOP/s of BERT-base's feed-forward products, [rows, 768]·[768, 3072]·[3072, 768], on what TensorFlow computes on.

    Args:
        dtype: of the matrices.
        seconds: about how long to measure.

    Returns:
        the best rate seen, with 2,048 rows, or as many as can be multiplied in that time.
    """
    # Kernels on a GPU take less than it takes to start them one by one.
    layers = 10 if gpus() else 1
    wide = tf.cast(tf.random.stateless_normal([768, 3072], (1, 1), stddev=768**-0.5), dtype)
    narrow = tf.cast(tf.random.stateless_normal([3072, 768], (1, 2), stddev=3072**-0.5), dtype)

    @tf.function(reduce_retracing=True)
    def feed_forward(texts: tf.Tensor) -> tf.Tensor:
        for _ in range(layers):
            texts = tf.matmul(tf.matmul(texts, wide), narrow)
        return tf.reduce_max(texts)

    best, rows = 0.0, 64
    end = time.perf_counter() + seconds
    while best == 0 or time.perf_counter() < end:
        texts = tf.cast(tf.random.stateless_normal([rows, 768], (1, 3)), dtype)
        feed_forward(texts).numpy()  # traces, and chooses the kernels
        begin = time.perf_counter()
        feed_forward(texts).numpy()
        took = time.perf_counter() - begin
        best = max(best, layers * 2 * 2 * rows * 768 * 3072 / took)
        if time.perf_counter() + 2 * 4 * took < end:
            rows = min(4 * rows, 2048)
    return best


def _listed() -> list[Gpu]:
    """All GPUs that TensorFlow lists, which it does whatever their age."""
    found = []
    for ordinal, device in enumerate(tf.config.list_physical_devices("GPU")):
        details = tf.config.experimental.get_device_details(device)
        name = str(details.get("device_name", device.name))
        found.append(Gpu(name, device_memory(ordinal), details.get("compute_capability")))
    return found


def _is_too_weak(gpu: Gpu) -> bool:
    return gpu.capability is not None and gpu.capability < least_capability()
