"""Processor and memory of this machine, as far as this process may use them."""

import math
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


def memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit where that is less."""
    total = next(
        int(line.split()[1]) * 1024
        for line in (root / "proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    limits = [*_control_files(root, "", "memory.max"), *_control_files(root, "memory", "memory.limit_in_bytes")]
    return min([total, *(int(limit) for limit in limits if limit != "max")])


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
    """A file of the process's control group and of those above it, for a controller of version 1, or "" for version 2.

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
    return [(group / name).read_text().strip() for group in found if (group / name).is_file()]
