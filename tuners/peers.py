"""Other people's searches on known scores, to compare with: KerasTuner's and Optuna's own code, nothing trained.

Each takes a space of learning rates and epochs, the scores of a row, a seed and an epoch budget, and gives its runs as
`tuners.rehearsal.rehearse` does. They draw a rate between the lowest and the highest, in log, and get the nearest row:
of seven rows alone, KerasTuner's Hyperband could not fill its first bracket. What costs epochs is what would be
trained: a run goes on where its pruner left it if its library goes on there, and a row that was trained before is
looked up, which is kinder than the libraries are.
"""

import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from tuners.space import SearchSpace
from tuners.strategies.strategy import Tried

Scores = Callable[[float], Sequence[float]]
Peer = Callable[[SearchSpace, Scores, int, int], list[Tried]]

ASKS = 40
"""A search that has asked so often, and still proposes what it knows, is taken to have ended."""


class _Trained:
    """What has been trained of every row, within a budget of epochs."""

    def __init__(self, scores: Scores, budget: int) -> None:
        self._scores = scores
        self.left = budget
        self.reached: dict[float, int] = {}

    def train(self, rate: float, epoch: int) -> float | None:
        """The score of a row after `epoch` epochs; None where the budget does not reach so far."""
        new = max(epoch - self.reached.get(rate, 0), 0)
        # What is left is spent, though the search does not hear of it.
        self.reached[rate] = self.reached.get(rate, 0) + min(new, self.left)
        self.left -= min(new, self.left)
        return float(self._scores(rate)[epoch - 1]) if self.reached[rate] >= epoch else None

    def runs(self) -> list[Tried]:
        """The rows as far as they were trained."""
        return [
            Tried({"learning_rate": rate}, tuple(float(score) for score in self._scores(rate)[:epoch]), True)
            for rate, epoch in self.reached.items()
            if epoch
        ]


def peers() -> dict[str, Peer]:
    """The peers that can be run here, by name; those of Optuna where it is installed."""
    found: dict[str, Peer] = {
        "random rows": random_rows,
        "KerasTuner Hyperband": keras_tuner_hyperband,
        "KerasTuner Bayesian": keras_tuner_bayesian,
    }
    if find_spec("optuna") is not None:
        found["Optuna TPE"] = optuna_tpe("none")
        found["Optuna TPE, median"] = optuna_tpe("median")
        found["Optuna TPE, Hyperband"] = optuna_tpe("hyperband")
    return found


def random_rows(space: SearchSpace, scores: Scores, seed: int, budget: int) -> list[Tried]:
    """Rows in random order, each to its last epoch."""
    trained = _Trained(scores, budget)
    for rate in np.random.default_rng(seed).permutation(space.learning_rates):
        if trained.left:
            trained.train(float(rate), min(space.epochs, trained.left))
    return trained.runs()


def keras_tuner_hyperband(space: SearchSpace, scores: Scores, seed: int, budget: int) -> list[Tried]:
    """KerasTuner's Hyperband with a reduction factor of 3; a promoted run goes on where it was."""
    import keras_tuner

    oracle = keras_tuner.oracles.HyperbandOracle(
        keras_tuner.Objective("score", "max"), max_epochs=space.epochs, hyperparameters=_rows(space), seed=seed or 1
    )

    def train(trained: _Trained, values: dict[str, Any]) -> float | None:
        epochs = int(values.get("tuner/epochs", space.epochs))
        told = [trained.train(_nearest(space, values["learning_rate"]), epoch + 1) for epoch in range(epochs)]
        return max((score for score in told if score is not None), default=None)

    return _drive(oracle, train, scores, budget)


def keras_tuner_bayesian(space: SearchSpace, scores: Scores, seed: int, budget: int) -> list[Tried]:
    """KerasTuner's Bayesian optimization over learning rate and epochs, a trial for a cell."""
    import keras_tuner

    declared = _rows(space)
    declared.Int("epochs", 1, space.epochs)
    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        keras_tuner.Objective("score", "max"), max_trials=ASKS, hyperparameters=declared, seed=seed or 1
    )

    def train(trained: _Trained, values: dict[str, Any]) -> float | None:
        return trained.train(_nearest(space, values["learning_rate"]), int(values["epochs"]))

    return _drive(oracle, train, scores, budget)


def _rows(space: SearchSpace) -> Any:
    import keras_tuner

    declared = keras_tuner.HyperParameters()
    if len(space.learning_rates) == 1:
        declared.Fixed("learning_rate", space.learning_rates[0])
    else:
        declared.Float("learning_rate", min(space.learning_rates), max(space.learning_rates), sampling="log")
    return declared


def _nearest(space: SearchSpace, rate: float) -> float:
    return min(space.learning_rates, key=lambda row: abs(math.log(row / rate)))


def _drive(oracle: Any, train: Callable[..., float | None], scores: Scores, budget: int) -> list[Tried]:
    """What a tuner of KerasTuner does with an oracle."""
    trained = _Trained(scores, budget)
    oracle.verbose = 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # scikit-learn tells of length scales at their bounds.
        warnings.simplefilter("ignore")
        oracle._set_project_dir(folder, "peer")
        for _ in range(ASKS):
            trial = oracle.create_trial("tuner0")
            if trial.status != "RUNNING" or not trained.left:
                break
            score = train(trained, trial.hyperparameters.values)
            if score is None:
                break
            oracle.update_trial(trial.trial_id, {"score": score})
            trial.status = "COMPLETED"
            oracle.end_trial(trial)
    return trained.runs()


def optuna_tpe(pruning: str) -> Peer:
    """Optuna's TPE over the rows, with its median pruner, its Hyperband pruner, or none; a trial counts with its best
    epoch."""

    def search(space: SearchSpace, scores: Scores, seed: int, budget: int) -> list[Tried]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruner = {
            "none": lambda: optuna.pruners.NopPruner(),
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=2),
            "hyperband": lambda: optuna.pruners.HyperbandPruner(1, space.epochs),
        }[pruning]()
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=3), pruner=pruner
        )
        trained = _Trained(scores, budget)
        for _ in range(ASKS):
            trial = study.ask()
            low, high = min(space.learning_rates), max(space.learning_rates)
            rate = _nearest(space, trial.suggest_float("learning_rate", low, high, log=True))
            best, pruned = -np.inf, False
            for epoch in range(1, space.epochs + 1):
                score = trained.train(rate, epoch)
                if score is None:
                    return trained.runs()
                best = max(best, score)
                trial.report(best, epoch)
                if pruned := trial.should_prune():
                    break
            study.tell(trial, None if pruned else best, optuna.trial.TrialState.PRUNED if pruned else None)
        return trained.runs()

    return search
