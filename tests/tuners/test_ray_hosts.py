"""Three workers on two hosts; a worker is killed and a host is shut down in mid-trial."""

import functools
import json
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import ray_cluster
import toy_trainable
from toy_trainable import LAYOUTS, ToyTrainable, accuracy, search

from tuners import CasualGridOracle
from tuners.parallel import ParallelSearch
from tuners.ray_pool import RayPool, cluster, shares

ray_cluster.takes_along(toy_trainable, sys.modules[__name__])

SPACE = {
    "objective": "val_accuracy",
    "learning_rates": [1e-5, 2e-5, 3e-5],
    "epochs": 6,
    "sweeps": {"layout": [*LAYOUTS]},
    "sweep_epochs": 4,
}


class Slow(ToyTrainable):
    """A toy run whose epochs take long enough to be killed in."""

    def __init__(self, log: Path) -> None:
        super().__init__(self.slowly, log)

    @staticmethod
    def slowly(hyperparameters, epoch: int) -> float:
        time.sleep(0.5)
        return accuracy(hyperparameters, epoch)


def test_a_killed_worker_and_a_lost_host_cost_the_epoch_they_were_in_and_nothing_else(tmp_path):
    hosts, (second,) = ray_cluster.start(2, 2)
    lost, done = [], Counter()

    def on_epoch_end(trial, epoch, metrics) -> None:
        done[trial.hyperparameters.values["tuner/stage"]] += 1
        if done["sweep:layout"] == 4 and not lost:
            ray_cluster.kill_one_worker()
        if done["grid"] >= 4 and "shut down" not in lost and ray_cluster.workers(host=second):
            hosts.remove_node(second, allow_graceful=False)
            lost.append("shut down")

    try:
        with (
            cluster(hosts.address) as found,
            RayPool(
                functools.partial(Slow, tmp_path / "log"),
                3,
                shares(found, 3),
                on_worker_lost=lambda trial, host: lost.append(trial),
            ) as pool,
        ):
            assert len(found) == 2
            oracle = CasualGridOracle(**SPACE)
            oracle.verbose = 0
            tuner = ParallelSearch(pool, oracle, tmp_path, "study", on_epoch_end=on_epoch_end)
            tuner.search()
    finally:
        hosts.shutdown()

    alone = search(tmp_path / "alone", ToyTrainable(), **SPACE)
    alone.search()
    assert oracle.table() == alone.oracle.table()
    assert oracle.sweep_results == alone.oracle.sweep_results
    trained = Counter((tmp_path / "log").read_text().splitlines())
    assert set(trained) == {
        f"{json.dumps(hyperparameters, sort_keys=True)} {epoch}" for hyperparameters, epoch in alone.trainable.trained
    }
    retrained = [epoch for epoch, times in trained.items() if times > 1]
    # What was lost is a worker in the sweep, then those of the second host; each was in one epoch.
    assert "shut down" in lost
    losses = [trial for trial in lost if trial not in (None, "shut down")]
    assert 2 <= len(losses) <= 3
    assert len(retrained) <= len(losses)
    assert max(trained.values()) == 2


@pytest.mark.slow
def test_a_trial_is_not_to_blame_for_idle_workers_that_its_host_took_along(tmp_path):
    hosts, (second,) = ray_cluster.start(0, 3)
    lost, epochs = [], []
    try:
        with (
            cluster(hosts.address) as found,
            RayPool(
                functools.partial(Slow, tmp_path / "log"),
                3,
                shares(found, 3),
                on_worker_lost=lambda trial, host: lost.append(trial),
            ) as pool,
        ):
            # A run each, so that the pool knows all three workers; then two of them are idle when their host goes.
            for name in ("a", "b", "c"):
                start(pool, name, tmp_path / name, epochs=8)
            ended = 0
            while ended < 3:
                report = pool.wait()
                ended += report.metrics is None
                if report.metrics is not None:
                    pool.advance(report.name)
            start(pool, "long", tmp_path / "long", epochs=3)
            while (report := pool.wait()).metrics is not None:
                if not epochs:
                    hosts.add_node(num_cpus=3)
                    hosts.remove_node(second, allow_graceful=False)
                epochs.append(report.epoch)
                pool.advance("long")
    finally:
        hosts.shutdown()
    assert report.failure is None
    assert (epochs[-1], set(epochs)) == (3, {1, 2, 3})
    assert lost.count("long") >= 1


def start(pool: RayPool, name: str, folder: Path, epochs: int) -> None:
    folder.mkdir()
    pool.start(name, {"learning_rate": 2e-5, "schedule_epochs": epochs, "stop_epoch": epochs}, folder)
