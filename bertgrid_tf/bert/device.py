"""The devices that TensorFlow computes on."""

import importlib.util
import os
import time
from collections import Counter
from pathlib import Path

import tensorflow as tf

from bertgrid_tf.errors import UserError
from bertgrid_tf.system.container import container_runtime
from bertgrid_tf.system.gpu import Gpu, GpuUnavailable, explain_missing_gpu, query_driver
from bertgrid_tf.system.host import description, readable

_MIB = 2**20


def let_memory_grow() -> None:
    """Let TensorFlow allocate GPU memory as needed, so that a prediction can run beside a study.

    TensorFlow refuses the call after its first computation.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


let_memory_grow()


def limit_memory(limit: int) -> None:
    """Limit the memory that TensorFlow takes of each GPU, if there is one; only before its first computation.

    Args:
        limit: Bytes; at least one MiB.

    Raises:
        UserError: A GPU has less memory.
    """
    for gpu in gpus():
        if gpu.memory is not None and limit > gpu.memory:
            raise UserError(
                f"--gpu-memory {readable(limit)} is more than the {readable(gpu.memory)} of {gpu.name}: give less."
            )
    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return
    # A limit is a logical device's, for which TensorFlow ignores the configured growth and would allocate all of the
    # limit at once. The variable is still read by the allocator.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    capped = tf.config.LogicalDeviceConfiguration(memory_limit=limit // _MIB)
    for device in devices:
        tf.config.set_logical_device_configuration(device, [capped])


def memory_limit() -> int | None:
    """Return the bytes that `limit_memory` set; None where there is no limit, or no GPU."""
    for device in tf.config.list_physical_devices("GPU"):
        for capped in tf.config.get_logical_device_configuration(device) or ():
            return int(capped.memory_limit) * _MIB
    return None


def gpus() -> list[Gpu]:
    """Return the GPUs that TensorFlow lists, in its order."""
    devices = tf.config.list_physical_devices("GPU")
    driver = query_driver() if devices else None
    listed = []
    for device in devices:
        details = tf.config.experimental.get_device_details(device)
        name = str(details.get("device_name", device.name))
        # NVML and CUDA number GPUs differently, and CUDA_VISIBLE_DEVICES renumbers them: both share only names.
        listed.append(Gpu(name, driver.memory(name) if driver else None, details.get("compute_capability")))
    return listed


def device_name() -> str:
    """Return the GPUs with their memory and its limit; or "the CPU"."""
    counted = Counter(map(str, gpus()))
    if not counted:
        return "the CPU"
    names = " and ".join(name if count == 1 else f"{count} × {name}" for name, count in counted.items())
    limit = memory_limit()
    each = " of each" if counted.total() > 1 else ""
    return names if limit is None else f"{names}, at most {readable(limit)}{each}"


def hardware() -> str:
    """Return the GPUs, if any, and the host's processor and memory in words."""
    host = description()
    return f"{device_name()}; {host}" if gpus() else host


def missing_gpu() -> GpuUnavailable | None:
    """Return why TensorFlow computes on the CPU; None where it computes on a GPU."""
    if tf.config.list_physical_devices("GPU"):
        return None
    build, cuda = tf.sysconfig.get_build_info(), None
    # All of NVIDIA's wheels with CUDA's libraries lie below this package.
    if build["is_cuda_build"] and importlib.util.find_spec("nvidia"):
        cuda = int(build["cuda_version"].split(".")[0])
    host_driver, visible = Path("/proc/driver/nvidia/version").exists(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return explain_missing_gpu(cuda, query_driver(), container_runtime(), host_driver, visible)


def rounds_to_tf32() -> bool:
    """Return whether float32 matrices are multiplied in NVIDIA's TF32, the default of GPUs since Ampere."""
    newest = max((gpu.capability for gpu in gpus() if gpu.capability), default=(0, 0))
    return newest >= (8, 0) and bool(tf.config.experimental.tensor_float_32_execution_enabled())


def matmul_rate(dtype: tf.DType, seconds: float) -> float:
    """Measure BERT-base's feed-forward products, [rows, 768]·[768, 3072]·[3072, 768].

    Args:
        dtype: Type of the matrices.
        seconds: Approximate duration of the measurement.

    Returns:
        FLOP/s; the best rate with up to 2,048 rows, as many as can be multiplied in that time.
    """
    # Kernels on a GPU take less than it takes to start them one by one.
    layers = 10 if gpus() else 1
    wide = tf.cast(tf.random.stateless_normal([768, 3072], (1, 1), stddev=768**-0.5), dtype)
    narrow = tf.cast(tf.random.stateless_normal([3072, 768], (1, 2), stddev=3072**-0.5), dtype)

    # A traced function is a cycle of references: what it captures lives until the garbage collector comes.
    @tf.function(reduce_retracing=True)
    def feed_forward(texts: tf.Tensor, wide: tf.Tensor, narrow: tf.Tensor) -> tf.Tensor:
        for _ in range(layers):
            texts = tf.matmul(tf.matmul(texts, wide), narrow)
        return tf.reduce_max(texts)

    best, rows = 0.0, 64
    end = time.perf_counter() + seconds
    while best == 0 or time.perf_counter() < end:
        texts = tf.cast(tf.random.stateless_normal([rows, 768], (1, 3)), dtype)
        feed_forward(texts, wide, narrow).numpy()  # traces, and chooses the kernels
        begin = time.perf_counter()
        feed_forward(texts, wide, narrow).numpy()
        took = time.perf_counter() - begin
        best = max(best, layers * 2 * 2 * rows * 768 * 3072 / took)
        if time.perf_counter() + 2 * 4 * took < end:
            rows = min(4 * rows, 2048)
    return best


def memory_rate(seconds: float) -> float:
    """Measure the memory's rate, adding one vector of 64 MiB to another.

    Args:
        seconds: Approximate duration of the measurement.

    Returns:
        Bytes/s, two vectors read and one written; the best rate.
    """
    total, added = tf.Variable(tf.zeros([2**24]), shape=[None]), tf.ones([2**24])
    # Operations on a GPU take less than it takes to start them one by one.
    passes = 10 if gpus() else 1

    @tf.function
    def add(added: tf.Tensor) -> tf.Tensor:
        for _ in range(passes):
            total.assign_add(added)
        return total[0]

    add(added).numpy()  # traces
    best, end = 0.0, time.perf_counter() + seconds
    while best == 0 or time.perf_counter() < end:
        begin = time.perf_counter()
        add(added).numpy()
        best = max(best, passes * 3 * 4 * 2**24 / (time.perf_counter() - begin))
    total.assign(tf.zeros([0]))  # The traced function keeps the variable, as in `matmul_rate`.
    return best
