"""KerasTuner's own chief and workers, over its gRPC, with our oracle."""

import os
import signal
import socket
import time
from collections import Counter
from functools import partial
from pathlib import Path

from killed import in_a_child, status_of
from toy_trainable import LAYOUTS, ToyTrainable, accuracy, search, trials

from tuners import CasualGridOracle, CasualGridSearch

SPACE = {
    "objective": "val_accuracy",
    "learning_rates": [1e-5, 2e-5, 3e-5],
    "epochs": 3,
    "sweeps": {"layout": [*LAYOUTS]},
}


def slowly(hyperparameters, epoch: int) -> float:
    time.sleep(0.1)
    return accuracy(hyperparameters, epoch)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def search_as(name: str, port: int, folder: Path) -> None:
    """Be one process of KerasTuner's own distributed mode."""
    os.environ |= {
        "KERASTUNER_TUNER_ID": name,
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }
    search(folder, ToyTrainable(slowly, folder / "log"), **SPACE).search()


def test_a_chief_and_two_workers_find_what_one_process_finds_and_train_every_epoch_once(tmp_path):
    port = free_port()
    left = [in_a_child(partial(search_as, name, port, tmp_path)) for name in ("chief", "worker0", "worker1")]
    try:
        while left:
            status = status_of(left[0])
            del left[0]
            assert status == 0
    finally:
        for child in left:
            os.kill(child, signal.SIGKILL)
            status_of(child)
    alone = search(tmp_path / "alone", ToyTrainable(), **SPACE)
    alone.search()
    oracle = CasualGridOracle(**SPACE)
    # The chief left everything in the folder; reading it back needs no worker.
    resumed = CasualGridSearch(ToyTrainable(), oracle, tmp_path, "study")
    assert oracle.table() == alone.oracle.table()
    assert oracle.sweep_results == alone.oracle.sweep_results
    assert {trial.status for trial in trials(resumed)} == {"COMPLETED"}
    trained = Counter((tmp_path / "log").read_text().splitlines())
    assert len(trained) == len(alone.trainable.trained)
    assert set(trained.values()) == {1}
