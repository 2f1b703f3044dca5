"""NVIDIA GPUs: the driver's description of them, and the reason why TensorFlow lists none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import ByteSize, Field, TypeAdapter, ValidationError

from bertgrid_tf.errors import UserError
from bertgrid_tf.system.container import ContainerRuntime
from bertgrid_tf.system.host import readable

_WITH_GPUS: Mapping[ContainerRuntime, str] = {
    "docker": "start it with `docker run --gpus all …` (the host needs the NVIDIA Container Toolkit)",
    "podman": "start it with `podman run --device nvidia.com/gpu=all …` (the host needs the NVIDIA Container Toolkit)",
    "apptainer": "start it with `apptainer run --nv …`",
    "kubernetes": "give its pod the limit `nvidia.com/gpu: 1`",
}


def parse_memory(text: str) -> int:
    """Parse a memory size in bytes; raise UserError if it is none, or below one MiB, the unit of TensorFlow's limit.

    Example:
        >>> parse_memory("16GB"), parse_memory("16GiB")
        (16000000000, 17179869184)
    """
    try:
        return TypeAdapter(Annotated[ByteSize, Field(ge=2**20, le=2**60)]).validate_python(text)
    except (ValidationError, OverflowError):
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
        """Return the usable bytes of a GPU of this name, the least of several; None where not reported."""
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
        # The second version separates the driver's own share, which no process can take.
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError:
        return None
    return int(memory.total - memory.reserved)


@dataclass(frozen=True)
class GpuUnavailable:
    """The reason why TensorFlow computes on the CPU; clauses without a full stop.

    Attributes:
        reason: The missing part.
        remedy: The next step; None where nothing is amiss.
    """

    reason: str
    remedy: str | None = None

    @property
    def needs_attention(self) -> bool:
        """Whether there is a GPU, or may well be one, that a person expects to be used."""
        return self.remedy is not None

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}" if self.remedy else self.reason


def explain_missing_gpu(
    cuda: int | None,
    driver: Driver | None,
    runtime: ContainerRuntime | None = None,
    host_driver: bool = False,
    visible: str | None = None,
) -> GpuUnavailable:
    """Return the first reason why TensorFlow lists no GPU.

    Args:
        cuda: Major version of CUDA that TensorFlow was built with; None where its libraries are missing.
        driver: The driver; None where there is none. A container has one together with its GPUs.
        runtime: Runtime of the container around this process; None outside a container.
        host_driver: Whether the kernel, which a container shares with its host, has NVIDIA's module.
        visible: CUDA_VISIBLE_DEVICES.
    """
    on_host = " on the host" if runtime else ""
    if driver is None or not (driver.gpus or driver.error):
        if runtime is None:
            return GpuUnavailable("there is no NVIDIA GPU here, or no driver for it")
        start = _WITH_GPUS[runtime] if cuda else f"use the gpu image, and {_WITH_GPUS[runtime]}"
        # The CPU image on a host without GPUs needs no remedy.
        remedy = f"if the host has one, {start}" if cuda or host_driver else None
        return GpuUnavailable("this container was started without a GPU", remedy)
    if driver.error:
        restart = f"restart the {'container' if runtime else 'machine'}, and run `nvidia-smi`{on_host}"
        return GpuUnavailable(f"the NVIDIA driver does not start ({driver.error})", restart)
    # CUDA ignores everything from the first unknown name on.
    first = "0" if visible is None else visible.split(",")[0].strip()
    if not first.startswith(("GPU-", "MIG-")) and first not in map(str, range(len(driver.gpus))):
        reason = f"CUDA_VISIBLE_DEVICES={visible!r} hides the GPUs"
        return GpuUnavailable(reason, "unset it, or name some of `nvidia-smi -L`")
    if cuda is None:
        remedy = "use the gpu image" if runtime else "install the extra `gpu` of bertgrid-tf"
        return GpuUnavailable("there is an NVIDIA GPU, but TensorFlow has no CUDA libraries", remedy)
    # Within a major version, CUDA runs on older drivers too.
    if driver.cuda < cuda:
        reason = f"the NVIDIA driver {driver.version} supports CUDA {driver.cuda}, and TensorFlow needs CUDA {cuda}"
        return GpuUnavailable(reason, f"install a newer driver{on_host}")
    log = "read its log: `TF_CPP_MIN_LOG_LEVEL=0 bertgrid-tf doctor`"
    return GpuUnavailable("TensorFlow lists no GPU, though the driver and CUDA's libraries are here", log)
