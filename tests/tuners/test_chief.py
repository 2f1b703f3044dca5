"""KerasTuner's own chief and workers, over its gRPC, with our oracle."""

import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

from chief_search import SPACE
from toy_trainable import ToyTrainable, search, trials

from tuners import CasualGridOracle, CasualGridSearch


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def process(name: str, port: int, folder: Path) -> subprocess.Popen:
    here = Path(__file__).parent
    environment = os.environ | {
        "KERASTUNER_TUNER_ID": name,
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
        "PYTHONPATH": f"{here.parents[1]}:{here}",
    }
    command = [sys.executable, "-P", here / "chief_search.py", folder]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_chief_and_two_workers_find_what_one_process_finds_and_train_every_epoch_once(tmp_path):
    port = free_port()
    processes = [process(name, port, tmp_path) for name in ("chief", "worker0", "worker1")]
    try:
        reported = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for left in processes:
            left.kill()
    assert [process.returncode for process in processes] == [0, 0, 0], reported
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
