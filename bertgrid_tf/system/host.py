"""Processor and memory of this machine, as far as this process may use them."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

# The flags of /proc/cpuinfo that decide the speed of a matrix product.
_EXTENSIONS = ("avx", "avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
# By controller ("" in version 2): a control group's files with its limit and its usage, and the line of memory.stat
# with its file caches, which can be dropped.
_CONTROL_GROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def readable(size: int) -> str:
    """Write a size in bytes in GB (10⁹) or MB (10⁶)."""
    if size < 10**9:
        return f"{size / 10**6:.0f} MB"
    return f"{size / 10**9:.{1 if size < 10**10 else 0}f} GB"


def processor(root: Path = Path("/")) -> tuple[str, list[str]]:
    """Return model name and vector extensions ("AVX2", …) of the processor, by /proc/cpuinfo below `root`."""
    lines = (root / "proc/cpuinfo").read_text().splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = fields.get("flags", fields.get("Features", "")).split()
    return fields.get("model name", platform.machine()), [flag.upper() for flag in _EXTENSIONS if flag in flags]


def description() -> str:
    """Return cores, processor and memory in words."""
    model, extensions = processor()
    cores = len(os.sched_getaffinity(0))
    return f"{cores} core{'s' * (cores > 1)} of {model} ({', '.join(extensions)}), {readable(memory())}"


def memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process may use: the machine's, or the least limit of its control groups."""
    return min([_size(root / "proc/meminfo", "MemTotal"), *(limit for limit, _ in _control_groups(root))])


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process may still take: those available, or the least its groups leave."""
    left = (limit - taken for limit, taken in _control_groups(root))
    return max(min([_size(root / "proc/meminfo", "MemAvailable"), *left]), 0)


def process_memory(name: Literal["VmRSS", "VmHWM"]) -> int:
    """Return the resident bytes of this process, now or at their peak (`getrusage` includes the parent's at exec)."""
    return _size(Path("/proc/self/status"), name)


def return_freed_memory() -> None:
    """Return what this process has freed to the system, where the C library has a call for that (glibc's).

    glibc keeps freed blocks below 32 MB between those that are still in use, and would do so to the end of the process.
    """
    with suppress(AttributeError):  # musl's, macOS's
        ctypes.CDLL(None).malloc_trim(0)


def _size(file: Path, name: str) -> int:
    """Read a size in bytes from a file of /proc, which has it in kB."""
    lines = file.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _control_groups(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and usage without file caches, in bytes, of this process's control group and those above it.

    A container may have its group mounted as the root, under a path that it does not see.
    """
    membership = root / "proc/self/cgroup"
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, path = line.split(":", 2)
        for controller in _CONTROL_GROUP_FILES.keys() & set(controllers.split(",")):
            limit, usage, cache = _CONTROL_GROUP_FILES[controller]
            top = root / "sys/fs/cgroup" / controller
            group = top / path.lstrip("/")
            for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(top))):
                # The topmost group of version 2 has no limit of its own.
                if (folder / limit).is_file() and (most := (folder / limit).read_text().strip()) != "max":
                    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                    yield int(most), int((folder / usage).read_text()) - int(stat[cache])
