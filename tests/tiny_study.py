"""A study of seconds, and a process that runs it until it is killed: `python -P tiny_study.py FOLDER STEPS`."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bertgrid_tf import recipe as recipes
from bertgrid_tf.budget.time_budget import Budget
from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.data import open_corpus
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.results import Measured
from bertgrid_tf.study import Study
from bertgrid_tf.workers import Workers

TINY = {
    "model": "scratch:1x32",
    "final.model": "scratch:2x32",
    "limit_train": 60,
    "sweeps": {"context": ["current", "current+previous"]},
    "sweep_epochs": 1,
    "learning_rates": [2e-3, 1e-3],
    "epochs": 2,
}

SECONDS = ["seconds", "train_seconds", "limit_seconds"]
"""What of an epoch the seed does not decide."""


class Recorder:
    """Remembers what it is told; calls `after_step` after every step."""

    def __init__(self, after_step: Callable[[], None] = lambda: None) -> None:
        self.runs: list[tuple[str, dict]] = []
        self.steps = 0
        self.notes: list[str] = []
        self.measured: dict[str, Measured] = {}
        self.epochs: list[Mapping[str, float]] = []
        self.workers: tuple[int, str] | None = None
        self.hosts: list[str] = []
        self.lost: list[str | None] = []
        self._after_step = after_step

    def on_clock(self, clock: TimeEstimator) -> None:
        self.clock = clock

    def on_measured(self, key: str, found: Measured) -> None:
        self.measured[key] = found

    def on_note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def on_run(self, run: str, stage: str, values: Mapping[str, object], epochs: int, steps: int) -> None:
        self.runs.append((stage, dict(values) | {"of_epochs": epochs, "of_steps": steps}))

    def on_step(self, run: str, done: int, steps: int, loss: float) -> None:
        self.steps += 1
        self._after_step()

    def on_epoch(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs.append(metrics)

    def on_workers(self, count: int, each: str) -> None:
        self.workers = (count, each)

    def on_worker(self, host: str) -> None:
        self.hosts.append(host)

    def on_loss(self, run: str | None, host: str) -> None:
        self.lost.append(run)


def tiny(**overrides: object) -> Recipe:
    return recipes.load("sample", None, TINY | overrides)


def corpus_of(recipe: Recipe) -> Corpus:
    return open_corpus(recipe, [])


def run(
    folder: Path,
    recipe: Recipe | None = None,
    fresh: bool = False,
    listener: Recorder | None = None,
    workers: Workers | None = None,
    budget: Budget | None = None,
) -> Recorder:
    recipe = recipe or tiny()
    listener = listener or Recorder()
    Study(recipe, corpus_of(recipe), folder, listener, fresh, workers, budget).run()
    return listener


if __name__ == "__main__":

    def kill() -> None:
        if recorder.steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    recorder = Recorder(kill)
    run(Path(sys.argv[1]), listener=recorder)
