"""Processor and memory, as a container may use them."""

import platform
from pathlib import Path

import pytest

from bertgrid_tf.system import host

GIB = 2**30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The files of a machine with 8 GiB, of which 4 are available, whose control groups set no limit."""
    write(tmp_path / "proc/cpuinfo", "model name : A Processor\nflags : fpu sse2 avx avx2 avx512_bf16 amx_tile\n\n")
    write(tmp_path / "proc/meminfo", f"MemTotal: {8 * 2**20} kB\nMemFree: 1 kB\nMemAvailable: {4 * 2**20} kB\n")
    write(tmp_path / "proc/self/cgroup", "0::/docker/one\n")
    write(tmp_path / "sys/fs/cgroup/docker/one/memory.max", "max\n")
    return tmp_path


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def test_a_processor_has_a_name_and_extensions(root):
    assert host.processor(root) == ("A Processor", ["AVX", "AVX2", "AVX512_BF16"])


def test_an_arm_processor_has_features(root):
    write(root / "proc/cpuinfo", "processor : 0\nFeatures : fp asimd sve bf16\n")
    assert host.processor(root)[1] == ["ASIMD", "SVE", "BF16"]


@pytest.mark.parametrize("membership", ["0::/docker/one\n", ""])
def test_without_a_limit_all_memory_may_be_used(root, membership):
    write(root / "proc/self/cgroup", membership)
    assert (host.memory(root), host.free_memory(root)) == (8 * GIB, 4 * GIB)


@pytest.mark.parametrize("group", ["docker/one", "docker", ""])
def test_the_limit_of_a_group_or_of_one_above_it_counts_without_its_file_caches(root, group):
    folder = root / "sys/fs/cgroup" / group
    write(folder / "memory.max", f"{3 * GIB}\n")
    write(folder / "memory.current", f"{2 * GIB}\n")
    write(folder / "memory.stat", f"anon {GIB}\ninactive_file {GIB // 2}\n")
    assert (host.memory(root), host.free_memory(root)) == (3 * GIB, 3 * GIB // 2)
    write(folder / "memory.current", f"{4 * GIB}\n")
    assert host.free_memory(root) == 0


def test_control_groups_of_version_1_count_too(root):
    folder = root / "sys/fs/cgroup/memory"
    write(root / "proc/self/cgroup", "4:memory:/docker/one\n1:cpu,cpuacct:/docker/one\n0::/\n")
    write(folder / "memory.limit_in_bytes", f"{GIB}\n")
    write(folder / "memory.usage_in_bytes", f"{GIB}\n")
    write(folder / "memory.stat", f"inactive_file 1\ntotal_inactive_file {GIB // 4}\n")
    assert (host.memory(root), host.free_memory(root)) == (GIB, GIB // 4)
    write(folder / "memory.limit_in_bytes", "9223372036854771712\n")
    assert (host.memory(root), host.free_memory(root)) == (8 * GIB, 4 * GIB)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 MB"), (436_000_000, "436 MB"), (1_300_000_000, "1.3 GB"), (24_146_000_000, "24 GB")]
)
def test_sizes_are_written_in_units_of_ten(size, text):
    assert host.readable(size) == text


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no call for it")
def test_freed_memory_between_what_is_in_use_is_returned():
    # Below the size from which glibc takes blocks of the system one by one; pages of zeros could be in use by nobody.
    blocks = [b"x" * 100_000 for _ in range(2_000)]
    kept = blocks[::2]
    del blocks
    before = host.process_memory("VmRSS")
    host.return_freed_memory()
    assert host.process_memory("VmRSS") < before - sum(map(len, kept)) // 2


def test_where_the_c_library_has_no_call_nothing_is_returned(monkeypatch):
    monkeypatch.setattr(host.ctypes, "CDLL", lambda name: object())
    host.return_freed_memory()
