"""The driver's description of the GPUs, and every reason why TensorFlow lists none, on a machine without one."""

from dataclasses import replace

import pynvml
import pytest
from made_up_gpus import give_driver

from bertgrid_tf.errors import UserError
from bertgrid_tf.machine.gpu import Driver, GpuFacts, parse_memory, query_driver

CPU_ONLY = GpuFacts(cuda=12)
"""No GPU, no container, TensorFlow as pip installs it."""
WORKING = GpuFacts(cuda=12, cuda_libraries=True, driver=Driver("550.90", 12, (("A10", 1), ("A10", 1))))
"""A machine on which TensorFlow would list its GPUs: cases below take something away from it."""
GPU_IMAGE = GpuFacts(cuda=12, cuda_libraries=True, runtime="docker")
CPU_IMAGE = replace(CPU_ONLY, runtime="docker")
START = "start it with `docker run --gpus all …` (the host needs the NVIDIA Container Toolkit)"
NOT_GIVEN = "the host has an NVIDIA GPU, but this container was started without it"
UNSET = "unset it, or name some of `nvidia-smi -L`"

NOTHING_AMISS = {
    "laptop": (CPU_ONLY, "there is no NVIDIA GPU here, or no driver for it"),
    "driver without a GPU": (
        replace(WORKING, driver=Driver("550.90", 12)),
        "there is no NVIDIA GPU here, or no driver for it",
    ),
    "cpu image": (CPU_IMAGE, "there are no CUDA libraries here"),
}
AMISS = {
    "gpu image without a GPU": (
        GPU_IMAGE,
        f"this container was started without a GPU; if the host has one, {START}",
    ),
    "gpu image on a host with a GPU": (replace(GPU_IMAGE, host_driver=True), f"{NOT_GIVEN}; {START}"),
    "podman": (
        replace(GPU_IMAGE, host_driver=True, runtime="podman"),
        f"{NOT_GIVEN}; {START.replace('docker run --gpus all', 'podman run --device nvidia.com/gpu=all')}",
    ),
    "cpu image on a host with a GPU": (
        replace(CPU_IMAGE, host_driver=True),
        f"{NOT_GIVEN}; use the gpu image, and {START}",
    ),
    "no CUDA": (
        replace(WORKING, cuda_libraries=False),
        "there is an NVIDIA GPU, but TensorFlow has no CUDA libraries; install the extra `gpu` of bertgrid-tf",
    ),
    "build for CPUs": (
        replace(WORKING, cuda=None),
        "there is an NVIDIA GPU, but TensorFlow has no CUDA libraries; install the extra `gpu` of bertgrid-tf",
    ),
    "cpu image with a GPU": (
        replace(WORKING, cuda_libraries=False, runtime="docker"),
        "there is an NVIDIA GPU, but TensorFlow has no CUDA libraries; use the gpu image",
    ),
    "old driver": (
        replace(WORKING, driver=Driver("470.82", 11, (("A10", 1),)), runtime="docker"),
        "the NVIDIA driver 470.82 supports CUDA 11, and TensorFlow needs CUDA 12; install a newer driver on the host",
    ),
    "driver out of order": (
        replace(WORKING, driver=Driver(error="Driver/library version mismatch")),
        "the NVIDIA driver does not start (Driver/library version mismatch); restart the machine, and run `nvidia-smi`",
    ),
    "hidden": (replace(WORKING, visible="-1"), f"CUDA_VISIBLE_DEVICES='-1' hides the GPUs; {UNSET}"),
    "hidden by nothing": (replace(WORKING, visible=""), f"CUDA_VISIBLE_DEVICES='' hides the GPUs; {UNSET}"),
    "wrong number": (replace(WORKING, visible="2,0"), f"CUDA_VISIBLE_DEVICES='2,0' hides the GPUs; {UNSET}"),
    **{
        f"unknown reason, {visible} visible": (
            replace(WORKING, visible=visible),
            "TensorFlow lists no GPU, though the driver and CUDA's libraries are here; read its log: "
            "`TF_CPP_MIN_LOG_LEVEL=0 bertgrid-tf doctor`",
        )
        for visible in (None, "1", " 0,7", "GPU-8a1b", "MIG-8a1b")
    },
}


@pytest.mark.parametrize("case", [*NOTHING_AMISS, *AMISS])
def test_every_reason_has_its_sentence_and_only_a_gpu_that_could_be_used_needs_attention(case):
    facts, sentence = (NOTHING_AMISS | AMISS)[case]
    assert str(facts.explain()) == sentence
    assert facts.explain().needs_attention == (case in AMISS)


@pytest.mark.parametrize("runtime", ["docker", "podman", "apptainer", "kubernetes"])
def test_every_container_runtime_has_a_way_to_gpus(runtime):
    assert replace(GPU_IMAGE, runtime=runtime).explain().needs_attention


def test_the_driver_describes_itself_and_its_gpus(monkeypatch):
    give_driver(monkeypatch, ("A10", 24), ("T4", 16), ("A10", 12), ("GB10", None))
    driver = query_driver()
    assert driver is not None
    assert (driver.version, driver.cuda, len(driver.gpus)) == ("550.90.07", 12, 4)
    assert [driver.memory(name) for name in ("A10", "T4", "GB10", "A10 MIG 1g.5gb")] == [12, 16, None, None]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, None),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, None),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, Driver(error="RM has detected an NVML/RM version mismatch.")),
    ],
)
def test_a_driver_that_does_not_start_is_told_from_none(monkeypatch, error, expected):
    def fails() -> None:
        raise pynvml.NVMLError(error)

    give_driver(monkeypatch)
    monkeypatch.setattr(pynvml, "nvmlInit", fails)
    assert query_driver() == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GB", 16 * 10**9),
        ("16g", 16 * 10**9),
        (" 16 GiB ", 16 * 2**30),
        ("14500MiB", 14_500 * 2**20),
        ("1MiB", 2**20),
    ],
)
def test_memory_is_read_with_its_unit(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "16", "GB", "16XB", "-1GB", "1,5GB", "nan GB", "0GB", "0.5MB"])
def test_memory_that_is_no_size_or_a_tiny_one_is_refused(text):
    with pytest.raises(UserError, match=f"^--gpu-memory '{text}' is not a size of at least 1 MiB: write it as 16GB, "):
        parse_memory(text)
