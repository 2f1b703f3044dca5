"""Processor and memory, as a container may use them."""

import os
from pathlib import Path

import pytest

from bertgrid_tf.machine import host

CPUINFO = """\
processor\t: 0
model name\t: A Processor
flags\t\t: fpu sse2 avx avx2 avx512f avx512_bf16 amx_bf16 amx_tile

processor\t: 1
model name\t: A Processor
flags\t\t: fpu sse2 avx avx2 avx512f avx512_bf16 amx_bf16 amx_tile
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 8 GiB whose control groups set no limit."""
    for file, content in {
        "proc/cpuinfo": CPUINFO,
        "proc/meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
        "proc/self/cgroup": "0::/docker/one\n",
        "sys/fs/cgroup/docker/one/memory.max": "max\n",
        "sys/fs/cgroup/docker/one/cpu.max": "max 100000\n",
    }.items():
        write(tmp_path / file, content)
    return tmp_path


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def test_a_processor_says_which_extensions_it_has(root):
    processor = host.cpu(root)
    assert processor.model == "A Processor"
    assert processor.extensions == ("AVX", "AVX2", "AVX512", "AVX512_BF16", "AMX")
    assert processor.cores == len(os.sched_getaffinity(0))


def test_an_arm_processor_has_features(root):
    write(root / "proc/cpuinfo", "processor : 0\nFeatures : fp asimd sve bf16\n")
    assert host.cpu(root).extensions == ("NEON", "SVE", "BF16")


def test_without_a_limit_all_memory_may_be_used(root):
    assert host.memory(root) == 8 * 2**30
    write(root / "proc/self/cgroup", "")
    assert host.memory(root) == 8 * 2**30


@pytest.mark.parametrize("group", ["docker/one", "docker", ""])
def test_the_limit_of_a_group_or_of_one_above_it_counts(root, group):
    write(root / "sys/fs/cgroup" / group / "memory.max", f"{2**30}\n")
    write(root / "sys/fs/cgroup" / group / "cpu.max", "50000 100000\n")
    assert host.memory(root) == 2**30
    assert host.cpu(root).cores == 1


def test_old_control_groups_count_too(root):
    write(root / "proc/self/cgroup", "4:memory:/docker/one\n1:cpu,cpuacct:/docker/one\n0::/\n")
    write(root / "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2**30}\n")
    write(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n")
    write(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert host.memory(root) == 2**30
    assert host.cpu(root).cores == 1
    write(root / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    assert host.memory(root) == 8 * 2**30
    assert host.cpu(root).cores == len(os.sched_getaffinity(0))


def test_what_others_have_taken_is_not_free(root):
    write(root / "proc/meminfo", "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n")
    assert host.free_memory(root) == 4 * 2**30
    write(root / "sys/fs/cgroup/docker/memory.max", f"{3 * 2**30}\n")
    write(root / "sys/fs/cgroup/docker/memory.current", f"{2 * 2**30}\n")
    write(root / "sys/fs/cgroup/docker/memory.stat", f"anon {2**30}\ninactive_file {2**29}\n")
    write(root / "sys/fs/cgroup/memory.stat", "anon 1\n")  # of the topmost group, which has no limit
    assert host.free_memory(root) == 3 * 2**29
    write(root / "sys/fs/cgroup/docker/memory.current", f"{4 * 2**30}\n")
    assert host.free_memory(root) == 0


def test_what_is_free_in_an_old_control_group(root):
    write(root / "proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n")
    write(root / "proc/self/cgroup", "4:memory:/docker/one\n0::/\n")
    write(root / "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{2**30}\n")
    write(root / "sys/fs/cgroup/memory/memory.usage_in_bytes", f"{2**30}\n")
    write(root / "sys/fs/cgroup/memory/memory.stat", f"inactive_file 1\ntotal_inactive_file {2**28}\n")
    assert host.free_memory(root) == 2**28
    write(root / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert host.free_memory(root) == 4 * 2**30


@pytest.mark.parametrize(
    ("size", "written"),
    [(0, "0 MB"), (436_000_000, "436 MB"), (1_300_000_000, "1.3 GB"), (24_146_000_000, "24 GB")],
)
def test_sizes_are_written_in_units_of_ten(size, written):
    assert host.readable(size) == written
