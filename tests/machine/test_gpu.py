"""Why TensorFlow sees no GPU: every case, on a machine without one."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bertgrid_tf.errors import UserError
from bertgrid_tf.machine.gpu import (
    CUDA_LIBRARIES,
    Driver,
    Gpu,
    GpuFacts,
    gather,
    library_version,
    load_library,
    parse_memory,
    why_none,
)

LAPTOP = GpuFacts(cuda=(12, 5), missing_libraries=CUDA_LIBRARIES)
"""No GPU, no container, TensorFlow as pip installs it."""

WORKING = GpuFacts(hardware=True, kernel_driver="555.42", device_files=True, driver=Driver((12, 5)), cuda=(12, 5))
"""A machine on which TensorFlow would see its GPU: each case below takes something away from it."""

GPU_IMAGE = GpuFacts(engine="docker", cuda=(12, 5))
CPU_IMAGE = replace(LAPTOP, engine="docker")
HOST_HAS_ONE = {"hardware": True, "kernel_driver": "555.42"}
WITH_GPUS = "start it with `docker run --gpus all …` (the host needs the NVIDIA Container Toolkit)"

CASES = {
    # Nothing is amiss.
    "laptop": (LAPTOP, "there is no NVIDIA GPU here"),
    "laptop with the extra gpu": (replace(LAPTOP, missing_libraries=()), "there is no NVIDIA GPU here"),
    "laptop with a build for CPUs": (GpuFacts(), "there is no NVIDIA GPU here"),
    "laptop that hides what it lacks": (replace(LAPTOP, visible="-1"), "there is no NVIDIA GPU here"),
    "driver's library alone": (replace(LAPTOP, driver=Driver((12, 5), "x")), "there is no NVIDIA GPU here"),
    "cpu image": (CPU_IMAGE, "there are no CUDA libraries here"),
    "cpu image that asks as images do": (replace(CPU_IMAGE, asked="all"), "there are no CUDA libraries here"),
    # In a container.
    "gpu image": (GPU_IMAGE, f"this container was started without a GPU; if the host has one, {WITH_GPUS}"),
    "gpu image that asks as images do": (
        replace(GPU_IMAGE, asked="all"),
        f"this container was started without a GPU; if the host has one, {WITH_GPUS}",
    ),
    "gpu image on a host with a GPU": (
        replace(GPU_IMAGE, **HOST_HAS_ONE),
        f"the host has an NVIDIA GPU, but this container was started without it; {WITH_GPUS}",
    ),
    "gpu image in podman": (
        replace(GPU_IMAGE, **HOST_HAS_ONE, engine="podman"),
        "the host has an NVIDIA GPU, but this container was started without it; start it with "
        "`podman run --device nvidia.com/gpu=all …` (the host needs the NVIDIA Container Toolkit)",
    ),
    "cpu image on a host with a GPU": (
        replace(CPU_IMAGE, **HOST_HAS_ONE),
        f"the host has an NVIDIA GPU, but this container was started without it; use the gpu image, and {WITH_GPUS}",
    ),
    "no toolkit": (
        replace(GPU_IMAGE, **HOST_HAS_ONE, asked="0"),
        "this container asks for GPUs (NVIDIA_VISIBLE_DEVICES=0), but nothing gave it any; install the NVIDIA "
        "Container Toolkit on the host and make its runtime docker's (`nvidia-ctk runtime configure`)",
    ),
    "no toolkit, host unseen": (
        replace(GPU_IMAGE, asked="GPU-8a1b"),
        "this container asks for GPUs (NVIDIA_VISIBLE_DEVICES=GPU-8a1b), but nothing gave it any; install the NVIDIA "
        "Container Toolkit on the host and make its runtime docker's (`nvidia-ctk runtime configure`)",
    ),
    "no driver on the host": (
        replace(GPU_IMAGE, hardware=True),
        f"the host has an NVIDIA GPU, but its driver is not loaded; install the NVIDIA driver on the host, then "
        f"{WITH_GPUS}",
    ),
    "no compute capability asked for": (
        replace(GPU_IMAGE, **HOST_HAS_ONE, device_files=True),
        "this container has a GPU, but not the driver's library libcuda.so.1; start it with "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    # Outside.
    "no driver": (
        GpuFacts(hardware=True, cuda=(12, 5)),
        "there is an NVIDIA GPU, but not the driver's library libcuda.so.1; install the NVIDIA driver for CUDA 12.5 "
        "or newer",
    ),
    "driver not loaded": (
        GpuFacts(hardware=True, driver=Driver((12, 5), "CUDA_ERROR_NO_DEVICE"), cuda=(12, 5)),
        "there is an NVIDIA GPU, but its kernel driver is not loaded; restart, or `sudo modprobe nvidia`",
    ),
    # The driver and the GPU are there.
    "old driver": (
        replace(WORKING, driver=Driver((11, 4))),
        "the NVIDIA driver is of CUDA 11.4, and TensorFlow needs CUDA 12.5; install a newer driver",
    ),
    "old driver on the host": (
        replace(WORKING, driver=Driver((11, 4)), engine="docker"),
        "the NVIDIA driver is of CUDA 11.4, and TensorFlow needs CUDA 12.5; install a newer driver on the host",
    ),
    "no wheels": (
        replace(WORKING, missing_libraries=("libcudnn.so.9",)),
        "there is a GPU, but TensorFlow lacks CUDA (libcudnn.so.9); install the extra `gpu` of bertgrid-tf",
    ),
    "build for CPUs": (
        replace(WORKING, cuda=None),
        "there is a GPU, but TensorFlow lacks CUDA (its build is for CPUs); install the extra `gpu` of bertgrid-tf",
    ),
    "cpu image with the GPU": (
        replace(WORKING, engine="docker", missing_libraries=("libcudnn.so.9",)),
        "there is a GPU, but TensorFlow lacks CUDA (libcudnn.so.9); use the gpu image",
    ),
    "hidden": (
        replace(WORKING, visible="-1"),
        "CUDA_VISIBLE_DEVICES='-1' hides the GPUs; unset it to compute on them",
    ),
    "hidden by nothing": (
        replace(WORKING, visible=""),
        "CUDA_VISIBLE_DEVICES='' hides the GPUs; unset it to compute on them",
    ),
    "wrong number": (
        replace(WORKING, visible="7", driver=Driver((12, 5), "CUDA_ERROR_NO_DEVICE")),
        "CUDA_VISIBLE_DEVICES='7' names no GPU that is here; choose one of `nvidia-smi -L`",
    ),
    "driver out of order": (
        replace(WORKING, driver=Driver((12, 5), "CUDA_ERROR_UNKNOWN")),
        "the NVIDIA driver does not start (CUDA_ERROR_UNKNOWN); restart the machine, and see what `nvidia-smi` says",
    ),
    "old GPU": (
        replace(WORKING, too_weak=(Gpu("Tesla M60", 8 * 10**9, (5, 2)),)),
        "TensorFlow has no kernels for a GPU of this compute capability: Tesla M60 (5.2); use a newer GPU",
    ),
    "no reason to be seen": (
        WORKING,
        "TensorFlow lists no GPU, though the driver and CUDA's libraries are here; see what it says: "
        "`TF_CPP_MIN_LOG_LEVEL=0 bertgrid-tf doctor`",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_reason_has_its_sentence(case):
    facts, said = CASES[case]
    assert str(why_none(facts)) == said


def test_where_nothing_is_amiss_nothing_is_loud():
    quiet = [case for case, (facts, _) in CASES.items() if not why_none(facts).loud]
    assert quiet == list(CASES)[: list(CASES).index("gpu image")]


def test_no_engine_is_without_its_word_on_gpus():
    for engine in ("docker", "podman", "apptainer", "kubernetes"):
        for facts in (GPU_IMAGE, replace(GPU_IMAGE, **HOST_HAS_ONE), replace(GPU_IMAGE, hardware=True)):
            assert why_none(replace(facts, engine=engine)).loud


# The facts


def place(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


NVIDIA_CARD = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
}


def test_the_facts_are_looked_for_where_linux_has_them(tmp_path):
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.90.07  Release Build\nGCC version: gcc 12\n"
    root = place(
        tmp_path,
        {
            **NVIDIA_CARD,
            "proc/driver/nvidia/version": version,
            "dev/nvidiactl": "",
            "dev/nvidia0": "",
            ".dockerenv": "",
        },
    )
    facts = gather((12, 5), root=root, environ={"CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "all"})
    assert (facts.engine, facts.hardware, facts.device_files) == ("docker", True, True)
    assert (facts.kernel_driver, facts.visible, facts.asked) == ("550.90.07", "0", "all")


@pytest.mark.parametrize(
    "files",
    [
        {},
        NVIDIA_CARD | {"sys/bus/pci/devices/0000:01:00.0/vendor": "0x8086\n"},
        NVIDIA_CARD | {"sys/bus/pci/devices/0000:01:00.0/class": "0x040300\n"},  # the card's sound
        {"dev/nvidia-caps": "", "dev/dxg": ""},
    ],
)
def test_what_is_no_nvidia_gpu_is_not_taken_for_one(tmp_path, files):
    facts = gather((12, 5), root=place(tmp_path, files), environ={})
    assert not (facts.hardware or facts.device_files or facts.kernel_driver)


DRIVER = """
int cuDriverGetVersion(int *version) { *version = %d; return 0; }
int cuInit(unsigned flags) { return %d; }
int cuGetErrorName(int error, const char **name) { *name = "CUDA_ERROR_OF_THE_TEST"; return error == 999; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal > 0; }
int cuDeviceTotalMem_v2(unsigned long *size, int device) { *size = 24146608128; return 0; }
"""

ASK = """
from bertgrid_tf.machine.gpu import device_memory, driver
print(driver(), device_memory(0), device_memory(1))
"""


NEEDS_COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, to build libraries")


def build(library: Path, source: str) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    library.with_suffix(".c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, library.with_suffix(".c")], check=True)


@NEEDS_COMPILER
def test_libraries_are_found_in_nvidia_s_wheels_and_tell_their_version(tmp_path, monkeypatch):
    assert load_library("libcudnn.so.of-the-test") is None
    source = "int cudnnGetProperty(int part, int *value) { *value = 9 - part; return 0; }"
    build(tmp_path / "nvidia/cudnn/lib/libcudnn.so.of-the-test", source)
    source = "int cudaRuntimeGetVersion(int *version) { *version = 12050; return 0; }"
    build(tmp_path / "nvidia/cuda_runtime/lib/libcudart.so.of-the-test", source)
    monkeypatch.syspath_prepend(tmp_path)
    for name, version in (("libcudnn.so.of-the-test", "9.8.7"), ("libcudart.so.of-the-test", "12.5")):
        library = load_library(name)
        assert library is not None
        assert library_version(name, library) == version
        assert library_version("libcufft.so.11", library) == ""


@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("version", "error", "said"),
    [
        (12040, 0, "Driver(cuda=(12, 4), error=None) 24146608128 None"),
        (11040, 100, "Driver(cuda=(11, 4), error='CUDA_ERROR_OF_THE_TEST') None None"),
        (12050, 999, "Driver(cuda=(12, 5), error='error 999') None None"),
    ],
)
def test_a_driver_s_library_is_asked(tmp_path, version, error, said):
    build(tmp_path / "libcuda.so.1", DRIVER % (version, error))
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


# --gpu-memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GB", 16 * 10**9),
        ("16G", 16 * 10**9),
        ("16gb", 16 * 10**9),
        (" 16 GiB ", 16 * 2**30),
        ("14500MB", 14_500 * 10**6),
        ("14500MiB", 14_500 * 2**20),
        ("1.5GB", 1_500_000_000),
    ],
)
def test_memory_is_read_with_its_unit(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "16", "GB", "16XB", "16TB", "-1GB", "1,5GB", "16 GB free", "nan GB", "1e3MB"])
def test_memory_without_a_unit_that_is_known_is_refused(text):
    with pytest.raises(UserError, match=f"^--gpu-memory '{text}' cannot be read: write it as 16GB, 16GiB or 14500MB.$"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["0GB", "0.0G", "0.5MB"])
def test_no_memory_at_all_is_refused(text):
    with pytest.raises(UserError, match=f"^--gpu-memory {text} is too little: give what TensorFlow may take"):
        parse_memory(text)
