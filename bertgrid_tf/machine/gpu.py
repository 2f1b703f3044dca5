"""NVIDIA GPUs: what there is of them, and why TensorFlow sees none."""

import ctypes
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertgrid_tf.errors import UserError
from bertgrid_tf.machine import container
from bertgrid_tf.machine.container import WITH_GPUS, Engine
from bertgrid_tf.machine.host import readable

Version = tuple[int, int]

CUDA_LIBRARIES = (
    "libcudart.so.12",
    "libcublas.so.12",
    "libcublasLt.so.12",
    "libcufft.so.11",
    "libcusolver.so.11",
    "libcusparse.so.12",
    "libcudnn.so.9",
)
"""What TensorFlow 2.20 looks for before it lists a GPU: where one is missing, it lists none."""

_DRIVER = "libcuda.so.1"
_NO_DEVICE = "CUDA_ERROR_NO_DEVICE"
_SIZES = {"m": 10**6, "mb": 10**6, "mib": 2**20, "g": 10**9, "gb": 10**9, "gib": 2**30}


def parse_memory(text: str) -> int:
    """The bytes of `16GB`, `16G` (10⁹ each), `16GiB` (2³⁰ each), `14500MB` or `14500MiB`.

    Raises UserError for anything else, and for less than one MiB, TensorFlow's unit.
    """
    read = re.fullmatch(r"(\d+(?:\.\d+)?) *([mg](?:i?b)?)", text.strip().lower())
    if read is None:
        raise UserError(f"--gpu-memory {text!r} cannot be read: write it as 16GB, 16GiB or 14500MB.")
    size = int(float(read[1]) * _SIZES[read[2]])
    if size < 2**20:
        raise UserError(f"--gpu-memory {text} is too little: give what TensorFlow may take of each GPU, as 16GB.")
    return size


@dataclass(frozen=True)
class Gpu:
    """A GPU as TensorFlow lists it.

    Attributes:
        name: the model's.
        memory: bytes in all; None where the driver does not say.
        capability: NVIDIA's compute capability, major and minor; None where TensorFlow does not say.
    """

    name: str
    memory: int | None = None
    capability: Version | None = None

    def __str__(self) -> str:
        return self.name if self.memory is None else f"{self.name} ({readable(self.memory)})"


@dataclass(frozen=True)
class Driver:
    """The driver's library, as it answers.

    Attributes:
        cuda: the CUDA version that it supports.
        error: the name of the error at its start; None where it started.
    """

    cuda: Version
    error: str | None = None


def driver() -> Driver | None:
    """Starts the driver's library and asks it; None where it cannot be loaded."""
    library = load_library(_DRIVER)
    if library is None:
        return None
    version, name = ctypes.c_int(), ctypes.c_char_p()
    library.cuDriverGetVersion(ctypes.byref(version))
    failed = library.cuInit(0)
    if failed and library.cuGetErrorName(failed, ctypes.byref(name)) == 0 and name.value:
        error = name.value.decode()
    else:
        error = f"error {failed}"
    return Driver((version.value // 1000, version.value % 1000 // 10), error if failed else None)


def device_memory(ordinal: int) -> int | None:
    """Bytes of the memory of a GPU, numbered as TensorFlow numbers them; None where the driver does not say."""
    library = load_library(_DRIVER)
    device, size = ctypes.c_int(), ctypes.c_size_t()
    if library is None or library.cuInit(0) or library.cuDeviceGet(ctypes.byref(device), ordinal):
        return None
    return None if library.cuDeviceTotalMem_v2(ctypes.byref(size), device) else size.value


def library_version(name: str, library: ctypes.CDLL) -> str:
    """The version of one of CUDA_LIBRARIES; "" where it does not say."""
    stem = name.removeprefix("lib").split(".")[0]
    number, numbers = ctypes.c_int(), []
    try:
        if stem == "cudart":
            library.cudaRuntimeGetVersion(ctypes.byref(number))
            return dotted((number.value // 1000, number.value % 1000 // 10))
        for part in range(3):  # major, minor, patch
            getattr(library, f"{stem}GetProperty")(part, ctypes.byref(number))
            numbers.append(str(number.value))
    except AttributeError:
        return ""
    return ".".join(numbers)


def load_library(name: str) -> ctypes.CDLL | None:
    """A shared library, from where TensorFlow finds it: the loader's path, or NVIDIA's wheels beside TensorFlow."""
    wheels = importlib.util.find_spec("nvidia")
    folders = wheels.submodule_search_locations or () if wheels else ()
    for place in (name, *(str(file) for folder in folders for file in Path(folder).glob(f"*/lib/{name}"))):
        try:
            return ctypes.CDLL(place)
        except OSError:
            continue
    return None


@dataclass(frozen=True)
class GpuFacts:
    """What tells the reasons apart for which TensorFlow lists no GPU that it can use.

    Attributes:
        engine: of the container around us.
        hardware: whether a display controller of NVIDIA's is on the PCI bus. A container sees the host's bus.
        kernel_driver: version of NVIDIA's kernel module. A container sees the host's.
        device_files: whether there are device files, through which a GPU is used. A container has those it was given.
        driver: its library's answer; None where there is no library. A container has it together with the GPU.
        cuda: the CUDA version that TensorFlow was built with; None where without.
        missing_libraries: those of CUDA_LIBRARIES that cannot be loaded.
        visible: CUDA_VISIBLE_DEVICES.
        asked: NVIDIA_VISIBLE_DEVICES, by which a container asks NVIDIA's runtime for GPUs.
        too_weak: the GPUs that TensorFlow has no kernels for.
    """

    engine: Engine | None = None
    hardware: bool = False
    kernel_driver: str | None = None
    device_files: bool = False
    driver: Driver | None = None
    cuda: Version | None = None
    missing_libraries: tuple[str, ...] = ()
    visible: str | None = None
    asked: str | None = None
    too_weak: tuple[Gpu, ...] = ()


def gather(
    cuda: Version | None,
    too_weak: Sequence[Gpu] = (),
    root: Path = Path("/"),
    environ: Mapping[str, str] = os.environ,
) -> GpuFacts:
    """Looks at this machine.

    Args:
        cuda, too_weak: see `GpuFacts`; what only TensorFlow knows.
        root: of the file system.
        environ: the process's environment.
    """
    answer = driver()
    module = root / "proc/driver/nvidia/version"
    version = re.search(r"\s(\d{3,}\.\d[\d.]*)\s", module.read_text()) if module.exists() else None
    return GpuFacts(
        engine=container.engine(root, environ),
        hardware=any(map(_is_nvidia_display, (root / "sys/bus/pci/devices").glob("*"))),
        kernel_driver=version[1] if version else None,
        # Windows' Linux has one device file for GPUs of every make: only with NVIDIA's library is it NVIDIA's.
        device_files=any((root / "dev").glob("nvidia[0-9c]*")) or ((root / "dev/dxg").exists() and answer is not None),
        driver=answer,
        cuda=cuda,
        missing_libraries=tuple(name for name in CUDA_LIBRARIES if load_library(name) is None),
        visible=environ.get("CUDA_VISIBLE_DEVICES"),
        asked=environ.get("NVIDIA_VISIBLE_DEVICES"),
        too_weak=tuple(too_weak),
    )


def _is_nvidia_display(device: Path) -> bool:
    try:
        vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
    except OSError:
        return False
    return vendor == "0x10de" and kind.startswith("0x03")


@dataclass(frozen=True)
class NoGpu:
    """Why TensorFlow computes on the CPU; clauses without a full stop.

    Attributes:
        reason: what is missing.
        remedy: what to do; None where nothing is amiss.
    """

    reason: str
    remedy: str | None = None

    @property
    def loud(self) -> bool:
        """Whether there is a GPU, or may well be one, that a person expects to be used."""
        return self.remedy is not None

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason


def why_none(facts: GpuFacts) -> NoGpu:
    """The reason for which TensorFlow lists no GPU that it can use."""
    driver, visible = facts.driver, facts.visible
    if not (facts.hardware or facts.kernel_driver or facts.device_files):
        return _nothing_to_see(facts)
    if visible is not None and (not visible.strip() or visible.strip().startswith("-")):
        return NoGpu(f"CUDA_VISIBLE_DEVICES={visible!r} hides the GPUs", "unset it to compute on them")
    if not facts.device_files or driver is None:
        return _not_given(facts) if facts.engine else _no_driver(facts)
    on_host = " on the host" if facts.engine else ""
    if facts.cuda is None or facts.missing_libraries:
        lacking = "its build is for CPUs" if facts.cuda is None else ", ".join(facts.missing_libraries)
        return NoGpu(
            f"there is a GPU, but TensorFlow lacks CUDA ({lacking})",
            with_cuda(facts.engine),
        )
    # Within a major version, CUDA runs on older drivers too.
    if driver.cuda[0] < facts.cuda[0]:
        return NoGpu(
            f"the NVIDIA driver is of CUDA {dotted(driver.cuda)}, and TensorFlow needs CUDA {dotted(facts.cuda)}",
            f"install a newer driver{on_host}",
        )
    if driver.error == _NO_DEVICE and visible:
        return NoGpu(f"CUDA_VISIBLE_DEVICES={visible!r} names no GPU that is here", "choose one of `nvidia-smi -L`")
    if driver.error:
        thing = "container" if facts.engine else "machine"
        return NoGpu(
            f"the NVIDIA driver does not start ({driver.error})",
            f"restart the {thing}, and see what `nvidia-smi` says{on_host}",
        )
    if facts.too_weak:
        names = ", ".join(f"{gpu.name} ({dotted(gpu.capability)})" for gpu in facts.too_weak if gpu.capability)
        return NoGpu(f"TensorFlow has no kernels for a GPU of this compute capability: {names}", "use a newer GPU")
    return NoGpu(
        "TensorFlow lists no GPU, though the driver and CUDA's libraries are here",
        "see what it says: `TF_CPP_MIN_LOG_LEVEL=0 bertgrid-tf doctor`",
    )


def with_cuda(engine: Engine | None) -> str:
    """How one comes by CUDA's libraries."""
    return "use the gpu image" if engine else "install the extra `gpu` of bertgrid-tf"


def _nothing_to_see(facts: GpuFacts) -> NoGpu:
    if facts.engine is None:
        return NoGpu("there is no NVIDIA GPU here")
    if _asks(facts):
        return _toolkit(facts)
    if facts.cuda is None or facts.missing_libraries:
        return NoGpu("there are no CUDA libraries here")
    return NoGpu("this container was started without a GPU", f"if the host has one, {WITH_GPUS[facts.engine]}")


def _not_given(facts: GpuFacts) -> NoGpu:
    """A container on a host with a GPU that it has not, or not wholly, got."""
    assert facts.engine is not None
    if facts.device_files:
        return NoGpu(
            f"this container has a GPU, but not the driver's library {_DRIVER}",
            WITH_GPUS[facts.engine]
            if facts.engine == "apptainer"
            else "start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )
    if not facts.kernel_driver:
        return NoGpu(
            "the host has an NVIDIA GPU, but its driver is not loaded",
            f"install the NVIDIA driver on the host, then {WITH_GPUS[facts.engine]}",
        )
    if _asks(facts):
        return _toolkit(facts)
    other_image = "use the gpu image, and " if facts.cuda is None or facts.missing_libraries else ""
    return NoGpu(
        "the host has an NVIDIA GPU, but this container was started without it",
        f"{other_image}{WITH_GPUS[facts.engine]}",
    )


def _toolkit(facts: GpuFacts) -> NoGpu:
    return NoGpu(
        f"this container asks for GPUs (NVIDIA_VISIBLE_DEVICES={facts.asked}), but nothing gave it any",
        "install the NVIDIA Container Toolkit on the host and make its runtime docker's (`nvidia-ctk runtime "
        "configure`)",
    )


def _no_driver(facts: GpuFacts) -> NoGpu:
    """A machine with a GPU whose driver is not there, or not wholly."""
    if facts.driver is None:
        needed = f" for CUDA {dotted(facts.cuda)} or newer" if facts.cuda else ""
        return NoGpu(
            f"there is an NVIDIA GPU, but not the driver's library {_DRIVER}", f"install the NVIDIA driver{needed}"
        )
    return NoGpu("there is an NVIDIA GPU, but its kernel driver is not loaded", "restart, or `sudo modprobe nvidia`")


def _asks(facts: GpuFacts) -> bool:
    # "void" and "none" are NVIDIA's words for no GPU; "all" is what images say of themselves, ours too, whoever starts
    # them and however.
    return facts.engine is not None and (facts.asked or "void") not in ("void", "none", "all")


def dotted(version: Version) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))
