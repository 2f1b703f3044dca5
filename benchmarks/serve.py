"""Measure a served study: requests a second, and how long they take, by the number of concurrent clients.

    python -m benchmarks.serve results/friends [--clients 1,8,32] [--seconds 10] [--data-dir DIR]

Each client sends one text of dev as soon as it has the answer to its last one. The servers, one after the other, each
in a process of its own beside the one of all clients:

* `bertgrid-tf serve`,
* the same with one request a forward pass, without padding as before,
* transformers' `pipeline` of the same model behind FastAPI, one request a forward pass.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from threading import Lock, Thread

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from benchmarks import command
from bertgrid_tf.api import open_study
from bertgrid_tf.corpus import utterances
from bertgrid_tf.data import data_dirs, open_corpus
from bertgrid_tf.errors import UserError

HEADERS = {"Content-Type": "application/json"}
SERVERS = {"serve": "bertgrid-tf serve", "alone": "one request a pass", "pipeline": "transformers' pipeline"}
WARM_UP_SECONDS = 2


def run_server(name: str, study: Path, port: int) -> None:
    """Run one of the servers that is no command, until a signal ends it."""
    import uvicorn
    from fastapi import FastAPI

    if name == "alone":
        from bertgrid_tf.inference import batching

        batching.BATCH_TEXTS = 1
        app = open_study(study).app(wait_seconds=0)
    else:
        from transformers import pipeline

        folder, lock, app = str(open_study(study).path / "model"), Lock(), FastAPI()
        classify = pipeline(
            "text-classification", folder, framework="tf", torch_dtype=None, top_k=None, trust_remote_code=False
        )

        @app.post("/predict")
        def predict(body: dict[str, list[str]]) -> list[list[dict[str, str | float]]]:
            with lock:  # neither model nor tokenizer is for several threads
                answer: list[list[dict[str, str | float]]] = classify(body["texts"])
                return answer

    uvicorn.run(app, port=port, log_level="warning")


@contextmanager
def serving(name: str, study: Path) -> Iterator[int]:
    """Start a server, and yield its port as soon as it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = ["bertgrid_tf", "serve", str(study)] if name == "serve" else ["benchmarks.serve", str(study), "--run", name]
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        while True:
            try:
                ask(HTTPConnection("127.0.0.1", port), "hello")
                break
            except ConnectionRefusedError:
                if process.poll() is not None:
                    code = process.returncode
                    raise UserError(f"The server {SERVERS[name]} has ended with exit code {code}") from None
                time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait()


def ask(connection: HTTPConnection, text: str) -> None:
    """Have a text labelled."""
    connection.request("POST", "/predict", json.dumps({"texts": [text]}), HEADERS)
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        raise UserError(f"The server answers {response.status}: {content[:200].decode()}")


def load(port: int, texts: Sequence[str], clients: int, seconds: float) -> np.ndarray:
    """Let clients ask for some seconds; return the seconds of every request, float64 [requests]."""
    end, latencies = time.perf_counter() + seconds, list[float]()

    def run(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        for text in cycle((*texts[first:], *texts[:first])):
            if (begin := time.perf_counter()) >= end:
                break
            ask(connection, text)
            latencies.append(time.perf_counter() - begin)
        connection.close()

    threads = [Thread(target=run, args=(len(texts) * number // clients,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(latencies)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--clients", type=command.whole_numbers, default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10, help="of every measurement")
    parser.add_argument("--data-dir", type=Path, default=Path("datasets"))
    parser.add_argument("--run", choices=("alone", "pipeline"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.run:
        run_server(flags.run, flags.study, flags.port)
        return
    corpus = open_corpus(open_study(flags.study).recipe, data_dirs(flags.data_dir))
    texts = [utterance.text for utterance in utterances(corpus.splits["dev"])]
    console = Console(width=160, highlight=False)
    numbers = ("clients", "requests/s", "p50 ms", "p99 ms")
    table = Table("server", *(Column(name, justify="right") for name in numbers))
    for name, title in SERVERS.items():
        with serving(name, flags.study) as port:
            for clients in flags.clients:
                load(port, texts, clients, WARM_UP_SECONDS)
                latencies = 1_000 * load(port, texts, clients, flags.seconds)
                middle, late = np.quantile(latencies, (0.5, 0.99))
                rate = len(latencies) / flags.seconds
                table.add_row(title, str(clients), f"{rate:.0f}", f"{middle:.0f}", f"{late:.0f}")
    console.print(table)
    command.print_system(console)


if __name__ == "__main__":
    command.run(main)
