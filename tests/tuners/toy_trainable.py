"""Runs that train nothing: their scores are a known function of the hyperparameters and the epoch."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras_tuner
from keras_tuner.engine.trial import Trial

from tuners import CasualGridOracle, CasualGridSearch

LAYOUTS = {"current": 0.0, "previous": 0.2, "next": 0.1}


def accuracy(hyperparameters: Mapping, epoch: int) -> float:
    """Best at layout `previous`, batch size 32, learning rate 2e-5, epoch 2; the parts add up."""
    return (
        0.5
        + LAYOUTS[hyperparameters.get("layout", "current")]
        + {16: 0.0, 32: 0.05}[hyperparameters.get("batch_size", 16)]
        - 0.03 * abs(epoch - 2)
        - 1000 * abs(hyperparameters["learning_rate"] - 2e-5)
    )


class ToyTrainable:
    """Notes every epoch that it trains in `trained` and in the file `log`, and resumes like a real run.

    `score(hyperparameters, epoch)` may return NaN or raise.
    """

    def __init__(self, score=accuracy, log: Path | None = None) -> None:
        self.score = score
        self.log = log
        self.trained: list[tuple[dict, int]] = []

    def __call__(self, hyperparameters: Mapping, folder: Path) -> Iterator[dict[str, float]]:
        path = folder / "epochs.json"
        scores = json.loads(path.read_text()) if path.exists() else []
        for epoch in range(1, hyperparameters["stop_epoch"] + 1):
            if epoch > len(scores):
                self.trained.append((dict(hyperparameters), epoch))
                if self.log is not None:
                    with self.log.open("a") as log:
                        log.write(f"{json.dumps(hyperparameters, sort_keys=True)} {epoch}\n")
                scores.append(self.score(hyperparameters, epoch))
                temporary = folder / "epochs.tmp"
                temporary.write_text(json.dumps(scores))
                temporary.replace(path)
            yield {"val_accuracy": scores[epoch - 1], "seconds": 1.0}


def search(folder: Path, trainable, oracle: CasualGridOracle | None = None, **space) -> CasualGridSearch:
    """A silent search in `folder`; by default one row of two learning rates × three epochs."""
    if oracle is None:
        space = {"objective": "val_accuracy", "learning_rates": [1e-5, 2e-5], "epochs": 3, **space}
        oracle = CasualGridOracle(**space)
    oracle.verbose = 0
    return CasualGridSearch(trainable, oracle, folder, "study")


def stages(tuner: CasualGridSearch) -> list[str]:
    return [hyperparameters(trial)["tuner/stage"] for trial in trials(tuner)]


def trials(tuner: CasualGridSearch) -> list[Trial]:
    return list(tuner.oracle.trials.values())


def hyperparameters(trial: Trial) -> dict:
    return trial.hyperparameters.values


def fails(score):
    """A score function that fails the trial where `score` is None."""

    def failing(hyperparameters: Mapping, epoch: int) -> float:
        found = score(hyperparameters, epoch)
        if found is None:
            raise keras_tuner.errors.FailedTrialError("does not fit the memory")
        return found

    return failing
