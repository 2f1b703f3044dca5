"""Runs in Ray's actors, on one host and on two; workers and hosts that die."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import ray_cluster
import toy_trainable
from toy_trainable import LAYOUTS, ToyTrainable, accuracy, fails, search, trials

from tuners import CasualGridOracle, TunerError, ray_pool
from tuners.parallel import ParallelSearch
from tuners.ray_pool import RayPool, Share, cluster, shares

ray_cluster.takes_along(toy_trainable, sys.modules[__name__])

SPACE = {
    "objective": "val_accuracy",
    "learning_rates": [1e-5, 2e-5, 3e-5],
    "epochs": 4,
    "sweeps": {"layout": [*LAYOUTS]},
    "sweep_epochs": 2,
}


def of_a_failing_level() -> ToyTrainable:
    return ToyTrainable(
        fails(
            lambda hyperparameters, epoch: (
                None if hyperparameters["layout"] == "next" else accuracy(hyperparameters, epoch)
            )
        )
    )


def broken() -> ToyTrainable:
    raise TunerError("no checkpoint here")


class Buggy(ToyTrainable):
    def __call__(self, hyperparameters, folder):
        yield {"val_accuracy": 1 / 0}


class Deadly(ToyTrainable):
    """Kills its process in the second epoch of one level, as the kernel does where memory runs out."""

    def __call__(self, hyperparameters, folder):
        for epoch, metrics in enumerate(super().__call__(hyperparameters, folder)):
            if hyperparameters["layout"] == "previous" and epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield metrics


def dead_at_birth() -> ToyTrainable:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.fixture(scope="module")
def host():
    """Ray on this host, with room for three workers of one core."""
    with cluster() as hosts:
        yield hosts


def search_in(folder: Path, pool: RayPool, on_epoch_end=lambda *reported: None) -> ParallelSearch:
    oracle = CasualGridOracle(**SPACE)
    oracle.verbose = 0
    with pool:
        tuner = ParallelSearch(pool, oracle, folder, "study", on_epoch_end=on_epoch_end)
        tuner.search()
    return tuner


def same_as_alone(tuner, folder: Path, trainable: ToyTrainable | None = None) -> None:
    alone = search(folder / "alone", trainable or ToyTrainable(), **SPACE)
    alone.search()
    # As text, in which the nan of a failed trial equals another.
    assert repr(tuner.oracle.sweep_results) == repr(alone.oracle.sweep_results)
    assert tuner.oracle.table() == alone.oracle.table()


def test_two_workers_have_the_results_of_one_and_report_their_hosts(host, tmp_path):
    hosts = []
    pool = RayPool(of_a_failing_level, 2, Share(1, 0), on_worker_begin=hosts.append)
    # As a search of more than milliseconds would, this one waits for both.
    tuner = search_in(
        tmp_path,
        pool,
        on_epoch_end=lambda *reported: ray_cluster.wait_for(lambda: len(ray_cluster.workers(busy=False)) == 2),
    )
    same_as_alone(tuner, tmp_path, of_a_failing_level())
    [failed] = [trial for trial in trials(tuner) if trial.status == "FAILED"]
    assert failed.message == "does not fit the memory"
    assert hosts
    ray_cluster.wait_for(lambda: not ray_cluster.workers(busy=False))


def test_an_exception_of_a_trainable_ends_the_search_and_keeps_its_results(host, tmp_path):
    with pytest.raises(ZeroDivisionError):
        search_in(tmp_path, RayPool(Buggy, 1, Share(1, 0)))
    assert {json.loads(path.read_text())["status"] for path in tmp_path.glob("study/trial_*/trial.json")} == {"RUNNING"}
    same_as_alone(search_in(tmp_path, RayPool(ToyTrainable, 2, Share(1, 0))), tmp_path)


def test_a_worker_that_cannot_start_gives_its_reason(host, tmp_path):
    with pytest.raises(TunerError, match=r"^no checkpoint here$"):
        search_in(tmp_path, RayPool(broken, 2, Share(1, 0)))


def test_workers_that_die_as_they_start_are_replaced_twice(host, tmp_path):
    lost = []
    with pytest.raises(TunerError, match="workers die as they start"):
        search_in(
            tmp_path, RayPool(dead_at_birth, 1, Share(1, 0), on_worker_lost=lambda trial, host: lost.append(trial))
        )
    assert lost == [None] * 3


def test_a_trial_that_kills_its_worker_each_time_fails_and_the_search_continues(host, tmp_path):
    lost = []
    tuner = search_in(tmp_path, RayPool(Deadly, 2, Share(1, 0), on_worker_lost=lambda trial, host: lost.append(trial)))
    [failed] = [trial for trial in trials(tuner) if trial.status == "FAILED"]
    assert failed.hyperparameters.values["layout"] == "previous"
    assert "lost its worker 3 times in epoch 2" in failed.message
    assert lost == [f"trial_{failed.trial_id}"] * 3
    assert tuner.oracle.incumbent["layout"] == "next"


def test_ray_of_this_host_listens_on_the_loopback_address_and_in_a_private_folder_alone(host, tmp_path):
    with RayPool(ToyTrainable, 1, Share(1, 0)):
        # The server of the cluster, two of the raylet, an agent that may start after the worker, and the worker.
        ray_cluster.wait_for(lambda: ray_cluster.workers(busy=False) and len(ray_cluster.listening()) > 4)
        addresses = ray_cluster.listening()
        sockets = ray_cluster.socket_files()
    assert sockets
    for file in sockets:
        assert any(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in file.parents), file
    assert len(addresses) > 4
    assert {address.removeprefix("::ffff:") for address in addresses} == {"127.0.0.1"}


@pytest.mark.parametrize("known", ["environment", "open file"])
def test_what_a_killed_driver_leaves_is_swept_up(known, tmp_path):
    folder, others = tmp_path / "ray-1", tmp_path / "ray-11"
    for place in (folder, others):
        place.mkdir()
    with (folder / "log").open("w") as log, (others / "log").open("w") as other_log:
        own = {"env": {ray_pool._FOLDER: str(folder)}} if known == "environment" else {"stdout": log}
        left = subprocess.Popen(["sleep", "60"], **own)
        unrelated = subprocess.Popen(["sleep", "60"], stdout=other_log)
    try:
        subprocess.run(["sh", "-c", ray_pool._SWEEP, str(folder)], stdin=subprocess.DEVNULL, check=True, timeout=20)
        assert left.wait(5) == -signal.SIGKILL
        assert unrelated.poll() is None
        assert [*tmp_path.iterdir()] == [others]
        # The driver, whose search may have ended as it should.
        parent = 'exec 3> "$0/log"; sh -c "$1" "$2" 3>&-; echo spared'
        command = ["sh", "-c", parent, str(others), ray_pool._SWEEP, str(others)]
        assert subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20).stdout == b"spared\n"
        assert unrelated.wait(5) == -signal.SIGKILL
    finally:
        for process in (left, unrelated):
            process.kill()
            process.wait()


DRIVER = """\
import os
from tuners.ray_pool import cluster
with cluster():
    os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_of_a_killed_driver_no_process_and_no_folder_is_left():
    place = Path(tempfile.mkdtemp())  # tmp_path is too long for sockets
    environment = os.environ | {"RAY_TMPDIR": str(place)}
    assert subprocess.run([sys.executable, "-c", DRIVER], env=environment).returncode == -signal.SIGKILL

    def left() -> list[Path]:
        processes = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"RAY_TMPDIR={place}".encode() in (process / "environ").read_bytes():
                    processes.append(process)
        return [*processes, *place.iterdir()]

    ray_cluster.wait_for(lambda: not left())
    place.rmdir()


@pytest.mark.parametrize("former", [None, 0o644])
def test_ray_s_token_is_this_user_s_alone(tmp_path, monkeypatch, former):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    token = tmp_path / ".ray" / "auth_token"
    if former:
        token.parent.mkdir()
        token.write_text("secret")
        token.chmod(former)
    ray_pool._keep_token_private()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == "secret" if former else len(token.read_text()) == 64
    assert list(token.parent.iterdir()) == [token]


def test_a_home_in_which_no_token_can_be_kept_is_named(monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(
        TunerError, match=r"token cannot be kept in /dev/null/\.ray/auth_token .*: set HOME to a folder"
    ):
        ray_pool._keep_token_private()


def test_a_place_for_ray_s_sockets_that_cannot_be_written_is_named(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null/tmp")
    with pytest.raises(TunerError, match=r"cannot be kept in /dev/null/tmp .*: set RAY_TMPDIR"), cluster():
        pass


@pytest.mark.parametrize(
    ("errors", "starts", "sentence"),
    [
        (["The current node timed out during startup."] * 9, 3, "does not start on this host .*: run the same command"),
        (["The current node timed out during startup.", "no shared memory"], 2, r"this host \(no shared memory\)"),
    ],
)
def test_a_start_of_ray_that_takes_too_long_is_repeated_twice(monkeypatch, errors, starts, sentence):
    begun = []

    def init(*arguments, **options) -> None:
        begun.append(options)
        raise Exception(errors[len(begun) - 1])  # Ray's own type

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(TunerError, match=sentence), cluster():
        pass
    assert len(begun) == starts


@pytest.mark.slow
def test_idle_workers_cost_no_cpu(host, tmp_path):
    with RayPool(ToyTrainable, 2, Share(1, 0)) as pool:
        ready = Counter()
        pool._on_worker_begin = lambda host: ready.update([host])
        pool.start("a", {"learning_rate": 2e-5, "schedule_epochs": 1, "stop_epoch": 1}, tmp_path)
        pool.wait()
        time.sleep(1)  # what comes with a start
        before = [cpu_seconds(process) for process in ray_cluster.workers(busy=False)]
        time.sleep(2)
        after = [cpu_seconds(process) for process in ray_cluster.workers(busy=False)]
    assert len(before) == 2
    # Ray's own threads tick a little.
    assert sum(after) - sum(before) < 0.1 * 2 * 2


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(
    ("hosts", "workers", "gpus", "share"),
    [
        ([Share(16, 4)], 4, 1, Share(0, 1)),
        ([Share(16, 4), Share(16, 2)], 2, 2, Share(0, 2)),
        ([Share(8, 0)], 1, 1, Share(8, 0)),
        ([Share(8, 0)], 3, 1, Share(2, 0)),
        ([Share(2, 0), Share(2, 0)], 3, 1, Share(1, 0)),
        ([Share(8, 0), Share(2, 0)], 2, 1, Share(4, 0)),
    ],
)
def test_a_worker_has_a_gpu_or_an_equal_share_of_the_cores(hosts, workers, gpus, share):
    assert shares(hosts, workers, gpus) == share
    if gpus == 1:
        assert shares(hosts, workers) == share


@pytest.mark.parametrize(
    ("hosts", "workers", "gpus", "sentence"),
    [
        ([Share(16, 2)], 3, 1, "3 workers are more than the 2 GPUs of this host can carry: give at most 2"),
        (
            [Share(16, 2), Share(8, 2)],
            3,
            2,
            "3 workers of 2 GPUs each are more than the 4 GPUs of the cluster's 2 hosts",
        ),
        ([Share(2, 0)], 3, 1, "3 workers are more than the 2 CPU cores of this host: give at most 2"),
        ([Share(2, 0)], 0, 1, "give at least 1"),
    ],
)
def test_more_workers_than_there_is_room_for_are_refused(hosts, workers, gpus, sentence):
    with pytest.raises(TunerError, match=sentence):
        shares(hosts, workers, gpus)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("here", "'here' is no address of a Ray cluster: give HOST:PORT"),
        ("no-such-host.invalid:6379", "no Ray cluster answers at no-such-host.invalid:6379"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_named_within_seconds(address, sentence):
    began = time.monotonic()
    with pytest.raises(TunerError, match=sentence), cluster(address):
        pass
    assert time.monotonic() - began < 15
