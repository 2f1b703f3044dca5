"""The devices that TensorFlow computes on; its GPUs are made up."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import tensorflow as tf
from made_up_gpus import A10, T4, Caps, give

from bertgrid_tf.bert import device
from bertgrid_tf.errors import UserError
from bertgrid_tf.system.host import process_memory


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Caps]:
    """Gives TensorFlow GPUs, and takes them away again."""
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "as it was")
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")
    return lambda *cards: give(monkeypatch, *cards)


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ([], "the CPU"),
        ([A10], "NVIDIA A10 (24 GB)"),
        ([A10, T4, A10], "2 × NVIDIA A10 (24 GB) and Tesla T4 (16 GB)"),
        ([("NVIDIA A10", None, (8, 6))], "NVIDIA A10"),
    ],
)
def test_every_gpu_is_named_and_with_one_none_is_missing(cards, there, name):
    cards(*there)
    assert device.device_name() == name
    assert (device.missing_gpu() is None) == bool(there)


def test_a_cap_holds_for_every_gpu_and_leaves_memory_growing(cards):
    caps = cards(A10, A10)
    assert device.memory_limit() is None
    device.limit_memory(16 * 10**9)
    assert {name: [one.memory_limit for one in to] for name, to in caps.items()} == {
        "/physical_device:GPU:0": [15_258],  # MiB
        "/physical_device:GPU:1": [15_258],
    }
    assert device.memory_limit() == 15_258 * 2**20
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert device.device_name() == "2 × NVIDIA A10 (24 GB), at most 16 GB of each"


def test_a_cap_above_a_gpu_s_memory_is_refused(cards):
    caps = cards(A10, T4)
    device.limit_memory(T4[1])
    assert device.memory_limit() == T4[1] // 2**20 * 2**20
    caps.clear()
    with pytest.raises(UserError, match=r"^--gpu-memory 20 GB is more than the 16 GB of Tesla T4: give less\.$"):
        device.limit_memory(20 * 10**9)
    assert not caps


def test_without_a_gpu_a_cap_changes_nothing(cards):
    caps = cards()
    device.limit_memory(16 * 10**9)
    assert not caps
    assert device.memory_limit() is None
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in os.environ


GROWTH_AND_CAP = """
import os
import bertgrid_tf.bert
import tensorflow as tf
from tensorflow.python.eager import context
from bertgrid_tf.bert import device

gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
context.context()._initialize_physical_devices()
context.context()._physical_devices.append(gpu)
context.context()._visible_device_list.append(gpu)
context.context()._memory_growth_map[gpu] = None
tf.config.experimental.get_device_details = lambda gpu: {"device_name": "A card"}
device.let_memory_grow()
print(context.context().config.gpu_options.allow_growth)
device.limit_memory(16 * 2**30)
options = context.context().config.gpu_options
print(list(options.experimental.virtual_devices[0].memory_limit_mb), options.allow_growth)
print(device.memory_limit() == 16 * 2**30, os.environ["TF_FORCE_GPU_ALLOW_GROWTH"])
"""


def test_a_cap_is_taken_after_growth_and_replaces_it_but_for_the_variable():
    # TensorFlow's context makes the options that its devices are created with; it takes this GPU's word for itself.
    environment = {name: value for name, value in os.environ.items() if name != "TF_FORCE_GPU_ALLOW_GROWTH"}
    done = subprocess.run(
        [sys.executable, "-c", GROWTH_AND_CAP], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["True", "[16384.0] False", "True true"], done.stderr


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_a_rate_is_what_the_processor_can_do(dtype):
    # Between a slow core and the fastest of accelerators.
    assert 1e8 < device.matmul_rate(dtype, 0.1) < 1e16


def test_a_memory_rate_is_what_memory_can_do():
    assert 1e8 < device.memory_rate(0.1) < 1e14


def test_a_memory_rate_leaves_no_vector_to_the_garbage_collector():
    device.memory_rate(0.01)  # loads the kernels
    before = process_memory("VmRSS")
    gc.disable()
    try:
        device.memory_rate(0.01)
    finally:
        gc.enable()
    assert process_memory("VmRSS") < before + 4 * 2**24 // 2  # half of a vector
