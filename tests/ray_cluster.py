"""A Ray cluster of several hosts on this one: each a raylet with processes of its own.

Skips the tests that import it where Ray is not installed.
"""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("ray", reason="Ray is not installed")

from ray import cloudpickle
from ray.cluster_utils import Cluster


def takes_along(*modules: ModuleType) -> None:
    """Has what these modules define travel to the workers as code, since workers do not see the tests' folder."""
    for module in modules:
        cloudpickle.register_pickle_by_value(module)


def start(*cpus: int) -> tuple[Cluster, list]:
    """A head host of so many cores, and one more host for each further number."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    return cluster, [cluster.add_node(num_cpus=count) for count in cpus[1:]]


def workers(busy: bool = True, host=None) -> list[int]:
    """The processes of workers, those that are training if `busy`; of one host of the cluster only, if given."""
    title = b"ray::TrialActor.advance" if busy else b"ray::TrialActor"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if not (process / "cmdline").read_bytes().startswith(title):
                continue
            parent = parent_of(int(process.name))
        except (OSError, IndexError):
            continue
        # Other tests on this machine may have workers of their own.
        if parent == raylet(host) if host else parent_of(parent) == os.getpid():
            found.append(int(process.name))
    return found


def listening() -> list[str]:
    """The addresses on which this process and its descendants listen."""
    inodes, addresses = sockets(), []
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                words = bytes.fromhex(fields[1].split(":")[0])
                packed = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                addresses.append(socket.inet_ntop(family, packed))
    return addresses


def socket_files() -> list[Path]:
    """The files of the Unix sockets of this process and its descendants."""
    inodes = sockets()
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return sorted({Path(row[7]) for row in rows if len(row) > 7 and row[6] in inodes and row[7].startswith("/")})


def sockets() -> set[str]:
    """The inodes of the sockets of this process and its descendants."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            ancestor = int(process.name)
            while ancestor not in (0, os.getpid()):
                ancestor = parent_of(ancestor)
            for descriptor in (process / "fd").iterdir() if ancestor else ():
                with suppress(FileNotFoundError):  # closed meanwhile
                    link = str(descriptor.readlink())
                    if link.startswith("socket:["):
                        inodes.add(link[len("socket:[") : -1])
    return inodes


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def raylet(host) -> int:
    return host.all_processes["raylet"][0].process.pid


def kill_one_worker(host=None) -> None:
    """Kills a worker that is training with -9."""
    wait_for(lambda: workers(host=host))
    os.kill(workers(host=host)[0], signal.SIGKILL)


def wait_for(what: Callable[[], object]) -> None:
    """Returns when `what` is true; fails after a minute."""
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)
