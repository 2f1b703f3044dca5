"""NVIDIA GPUs: the driver's description of them, and the reason why TensorFlow lists none."""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, Field, TypeAdapter, ValidationError

from bertgrid_tf.errors import UserError
from bertgrid_tf.machine.container import ContainerRuntime, container_runtime
from bertgrid_tf.machine.host import readable

_WITH_GPUS: Mapping[ContainerRuntime, str] = {
    "docker": "start it with `docker run --gpus all …` (the host needs the NVIDIA Container Toolkit)",
    "podman": "start it with `podman run --device nvidia.com/gpu=all …` (the host needs the NVIDIA Container Toolkit)",
    "apptainer": "start it with `apptainer run --nv …`",
    "kubernetes": "give its pod the limit `nvidia.com/gpu: 1`",
}


def parse_memory(text: str) -> int:
    """Parse a memory size: `16GB` or `16G` (10⁹ bytes each), `16GiB` (2³⁰), `14500MB`.

    Returns:
        Bytes; at least one MiB, the unit of TensorFlow's limit.

    Raises:
        UserError: The text is no size, or a smaller one.
    """
    try:
        return TypeAdapter(Annotated[ByteSize, Field(ge=2**20)]).validate_python(text)
    except ValidationError:
        raise UserError(
            f"--gpu-memory {text!r} is not a size of at least 1 MiB: write it as 16GB, 16GiB or 14500MB."
        ) from None


@dataclass(frozen=True)
class Gpu:
    """A GPU that TensorFlow lists.

    Attributes:
        name: Model name.
        memory: Usable memory in bytes; None where the driver does not report it.
        capability: Compute capability, major and minor; None where TensorFlow does not report it.
    """

    name: str
    memory: int | None = None
    capability: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.name if self.memory is None else f"{self.name} ({readable(self.memory)})"


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver, as its management library (NVML) describes it.

    Attributes:
        version: Release, as "550.90.07".
        cuda: Newest major version of CUDA that it supports.
        gpus: Name and usable memory (bytes, None where not reported) of every GPU, in no order of TensorFlow's.
        error: Message of the failed start; "" where the driver answers.
    """

    version: str = ""
    cuda: int = 0
    gpus: tuple[tuple[str, int | None], ...] = ()
    error: str = ""

    def memory(self, name: str) -> int | None:
        """Return the bytes that can be used of a GPU of this name; the least where several bear it."""
        sizes = [size for gpu, size in self.gpus if gpu == name]
        return min((size for size in sizes if size is not None), default=None)


def query_driver() -> Driver | None:
    """Ask NVML for the driver and its GPUs; None where there is no driver, or none is loaded."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        gpus = tuple((pynvml.nvmlDeviceGetName(handle), _usable_memory(handle)) for handle in handles)
        return Driver(pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlSystemGetCudaDriverVersion_v2() // 1000, gpus)
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return None
    except pynvml.NVMLError as error:
        return Driver(error=str(error))


def _usable_memory(handle: object) -> int | None:
    import pynvml

    try:
        # The second version tells the driver's own share apart, which no process can take.
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError:
        return None
    return int(memory.total - memory.reserved)


@dataclass(frozen=True)
class GpuUnavailable:
    """The reason why TensorFlow computes on the CPU; clauses without a full stop.

    Attributes:
        reason: What is missing.
        remedy: What to do; None where nothing is amiss.
    """

    reason: str
    remedy: str | None = None

    @property
    def needs_attention(self) -> bool:
        """Whether there is a GPU, or may well be one, that a person expects to be used."""
        return self.remedy is not None

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason


@dataclass(frozen=True)
class GpuFacts:
    """The facts that decide why TensorFlow lists no GPU.

    Attributes:
        cuda: Major version of CUDA that TensorFlow was built with; None for a build without CUDA.
        cuda_libraries: Whether CUDA's libraries are installed beside TensorFlow (the extra `gpu`).
        driver: The driver; None where there is none. A container has one together with its GPUs.
        host_driver: Whether the kernel, a container's host's too, has NVIDIA's module.
        runtime: What runs the container around this process; None outside a container.
        visible: CUDA_VISIBLE_DEVICES.
    """

    cuda: int | None = None
    cuda_libraries: bool = False
    driver: Driver | None = None
    host_driver: bool = False
    runtime: ContainerRuntime | None = None
    visible: str | None = None

    @classmethod
    def gather(cls, cuda: int | None) -> "GpuFacts":
        """Collect the facts of this machine; TensorFlow alone knows `cuda`."""
        libraries, host_driver = importlib.util.find_spec("nvidia"), Path("/proc/driver/nvidia/version")
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return cls(cuda, libraries is not None, query_driver(), host_driver.exists(), container_runtime(), visible)

    def explain(self) -> GpuUnavailable:
        """Return the one reason why TensorFlow lists no GPU."""
        has_cuda = self.cuda is not None and self.cuda_libraries
        add_cuda = "use the gpu image" if self.runtime else "install the extra `gpu` of bertgrid-tf"
        on_host = " on the host" if self.runtime else ""
        if self.driver is None or not (self.driver.gpus or self.driver.error):
            return self._without_driver(has_cuda)
        if self.driver.error:
            restart = f"restart the {'container' if self.runtime else 'machine'}, and run `nvidia-smi`{on_host}"
            return GpuUnavailable(f"the NVIDIA driver does not start ({self.driver.error})", restart)
        # CUDA ignores everything from the first unknown name on.
        first = "0" if self.visible is None else self.visible.split(",")[0].strip()
        if not first.startswith(("GPU-", "MIG-")) and first not in map(str, range(len(self.driver.gpus))):
            reason = f"CUDA_VISIBLE_DEVICES={self.visible!r} hides the GPUs"
            return GpuUnavailable(reason, "unset it, or name some of `nvidia-smi -L`")
        if self.cuda is None or not has_cuda:
            return GpuUnavailable("there is an NVIDIA GPU, but TensorFlow has no CUDA libraries", add_cuda)
        # Within a major version, CUDA runs on older drivers too.
        if self.driver.cuda < self.cuda:
            has, needs = f"driver {self.driver.version} supports CUDA {self.driver.cuda}", f"needs CUDA {self.cuda}"
            return GpuUnavailable(f"the NVIDIA {has}, and TensorFlow {needs}", f"install a newer driver{on_host}")
        log = "read its log: `TF_CPP_MIN_LOG_LEVEL=0 bertgrid-tf doctor`"
        return GpuUnavailable("TensorFlow lists no GPU, though the driver and CUDA's libraries are here", log)

    def _without_driver(self, has_cuda: bool) -> GpuUnavailable:
        if self.runtime is None:
            return GpuUnavailable("there is no NVIDIA GPU here, or no driver for it")
        start = _WITH_GPUS[self.runtime]
        if self.host_driver:
            reason = "the host has an NVIDIA GPU, but this container was started without it"
            return GpuUnavailable(reason, start if has_cuda else f"use the gpu image, and {start}")
        if not has_cuda:
            return GpuUnavailable("there are no CUDA libraries here")
        return GpuUnavailable("this container was started without a GPU", f"if the host has one, {start}")
