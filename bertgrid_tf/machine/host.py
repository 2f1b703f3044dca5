"""Processor and memory of this machine, as far as this process may use them."""

import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# As /proc/cpuinfo writes them, and as their makers do: those that decide the speed of a matrix product.
_EXTENSIONS = {
    "avx": "AVX",
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_bf16": "AVX512_BF16",
    "amx_bf16": "AMX",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "BF16",
}


def readable(size: int) -> str:
    """A size in bytes, in GB (10⁹) or MB (10⁶)."""
    if size < 10**9:
        return f"{size / 10**6:.0f} MB"
    return f"{size / 10**9:.{1 if size < 10**10 else 0}f} GB"


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        model: what it calls itself.
        cores: those that this process may use, a container's share rounded up.
        extensions: its vector extensions, as "AVX2".
    """

    model: str
    cores: int
    extensions: tuple[str, ...]


def cpu(root: Path = Path("/")) -> Cpu:
    """The processor, by /proc/cpuinfo below `root`, the process's affinity and its control groups' quota."""
    lines = (root / "proc/cpuinfo").read_text().splitlines()
    keys = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    flags = keys.get("flags", keys.get("Features", "")).split()
    cores = len(os.sched_getaffinity(0))
    for quota in _quotas(root):
        cores = min(cores, math.ceil(quota))
    return Cpu(
        keys.get("model name", platform.machine()),
        cores,
        tuple(name for flag, name in _EXTENSIONS.items() if flag in flags),
    )


def description() -> str:
    """Processor and memory, in words."""
    processor = cpu()
    cores = f"{processor.cores} core{'s' if processor.cores > 1 else ''}"
    return f"{cores} of {processor.model} ({', '.join(processor.extensions)}), {readable(memory())}"


def memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit where that is less."""
    limits = [*_control_files(root, "", "memory.max"), *_control_files(root, "memory", "memory.limit_in_bytes")]
    return min([_meminfo(root, "MemTotal"), *(int(limit) for limit in limits if limit != "max")])


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may take beside what it and others have taken: what the machine has available,
    or what its control group's limit leaves where that is less.

    File caches that can be dropped do not count as taken.
    """
    free = [_meminfo(root, "MemAvailable")]
    for controller, names in (
        ("", ("memory.max", "memory.current", "inactive_file")),
        ("memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
    ):
        limit, usage, cache = names
        for group in _control_groups(root, controller):
            # The topmost group has no limit of its own.
            if not (group / limit).is_file() or (most := (group / limit).read_text().strip()) == "max":
                continue
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            free.append(int(most) - int((group / usage).read_text()) + int(stat[cache]))
    return max(min(free), 0)


def process_memory(name: Literal["VmRSS", "VmHWM"]) -> int:
    """Bytes of memory that this process has resident, now or at its most. (`getrusage` counts a parent's before exec
    too.)"""
    return _size(Path("/proc/self/status"), name)


def _meminfo(root: Path, name: str) -> int:
    return _size(root / "proc/meminfo", name)


def _size(file: Path, name: str) -> int:
    """A size that a file of /proc tells in kB, in bytes."""
    lines = file.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _quotas(root: Path) -> Iterator[float]:
    """The cores that each control group may use; none where it may use all."""
    for content in _control_files(root, "", "cpu.max"):
        quota, period = content.split()
        if quota != "max":
            yield int(quota) / int(period)
    old = zip(
        _control_files(root, "cpu", "cpu.cfs_quota_us"), _control_files(root, "cpu", "cpu.cfs_period_us"), strict=True
    )
    for quota, period in old:
        if int(quota) > 0:
            yield int(quota) / int(period)


def _control_files(root: Path, controller: str, name: str) -> list[str]:
    """A file of every one of the process's control groups that has it."""
    files = (group / name for group in _control_groups(root, controller))
    return [file.read_text().strip() for file in files if file.is_file()]


def _control_groups(root: Path, controller: str) -> list[Path]:
    """The process's control group and those above it, for a controller of version 1, or "" for version 2.

    A container may have its group mounted as the root, under a path that it does not see.
    """
    membership = root / "proc/self/cgroup"
    lines = membership.read_text().splitlines() if membership.exists() else []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controller
            group = top / path.lstrip("/")
            found += [group, *(parent for parent in group.parents if parent.is_relative_to(top))]
    return found
