"""Searches of KerasTuner and Optuna on known learning curves.

Each takes a search space, the learning curve of a rate, a seed and a budget of epochs, and returns its trials as
`simulate_search` does. They draw a learning rate between the lowest and the highest, in log, and get the nearest row
(with a choice of seven rows, KerasTuner's Hyperband could not fill its first bracket). An epoch costs once: a trial
resumes where its pruner left it, and a row that was trained before is looked up, which the libraries do not do.
"""

import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from tuners.space import SearchSpace
from tuners.strategies import ObservedTrial

Curve = Callable[[float], Sequence[float]]
Peer = Callable[[SearchSpace, Curve, int, int], list[ObservedTrial]]

MAX_PROPOSALS = 40
"""After this many proposals a search that only repeats known rows has ended."""


class _Trained:
    """The rows trained so far, within a budget of epochs."""

    def __init__(self, curve: Curve, budget: int) -> None:
        self._curve = curve
        self.left = budget
        self.reached: dict[float, int] = {}

    def train(self, rate: float, epoch: int) -> float | None:
        """Train a row to `epoch`; its score there, or None where the budget ends before."""
        new = max(epoch - self.reached.get(rate, 0), 0)
        # The rest of the budget is spent even where no score comes of it.
        self.reached[rate] = self.reached.get(rate, 0) + min(new, self.left)
        self.left -= min(new, self.left)
        return float(self._curve(rate)[epoch - 1]) if self.reached[rate] >= epoch else None

    def trials(self) -> list[ObservedTrial]:
        """Return the trials of all rows, as far as they were trained."""
        return [
            ObservedTrial({"learning_rate": rate}, tuple(float(score) for score in self._curve(rate)[:epoch]), True)
            for rate, epoch in self.reached.items()
            if epoch
        ]


def peers() -> dict[str, Peer]:
    """Return the installed peers by name."""
    installed: dict[str, Peer] = {
        "random rows": random_rows,
        "KerasTuner Hyperband": keras_tuner_hyperband,
        "KerasTuner Bayesian": keras_tuner_bayesian,
    }
    if find_spec("optuna") is not None:
        installed["Optuna TPE"] = optuna_tpe("none")
        installed["Optuna TPE, median"] = optuna_tpe("median")
        installed["Optuna TPE, Hyperband"] = optuna_tpe("hyperband")
    return installed


def random_rows(space: SearchSpace, curve: Curve, seed: int, budget: int) -> list[ObservedTrial]:
    """Train rows in random order, each to its last epoch."""
    return train_rows(np.random.default_rng(seed).permutation(space.learning_rates), space, curve, budget)


def train_rows(rates: Iterable[float], space: SearchSpace, curve: Curve, budget: int) -> list[ObservedTrial]:
    """Train rows in the order of `rates`, each to its last epoch, as far as the budget goes."""
    trained = _Trained(curve, budget)
    for rate in rates:
        if trained.left:
            trained.train(float(rate), min(space.epochs, trained.left))
    return trained.trials()


def keras_tuner_hyperband(space: SearchSpace, curve: Curve, seed: int, budget: int) -> list[ObservedTrial]:
    """Run KerasTuner's Hyperband with a reduction factor of 3; a promoted trial resumes."""
    import keras_tuner

    oracle = keras_tuner.oracles.HyperbandOracle(
        keras_tuner.Objective("score", "max"), max_epochs=space.epochs, hyperparameters=_rows(space), seed=seed or 1
    )

    def train(trained: _Trained, values: dict[str, Any]) -> float | None:
        epochs = int(values.get("tuner/epochs", space.epochs))
        scores = [trained.train(_nearest(space, values["learning_rate"]), epoch + 1) for epoch in range(epochs)]
        return max((score for score in scores if score is not None), default=None)

    return _drive(oracle, train, curve, budget)


def keras_tuner_bayesian(space: SearchSpace, curve: Curve, seed: int, budget: int) -> list[ObservedTrial]:
    """Run KerasTuner's Bayesian optimization over learning rate and epochs, one trial a cell."""
    import keras_tuner

    declared = _rows(space)
    declared.Int("epochs", 1, space.epochs)
    oracle = keras_tuner.oracles.BayesianOptimizationOracle(
        keras_tuner.Objective("score", "max"), max_trials=MAX_PROPOSALS, hyperparameters=declared, seed=seed or 1
    )

    def train(trained: _Trained, sampled: dict[str, Any]) -> float | None:
        return trained.train(_nearest(space, sampled["learning_rate"]), int(sampled["epochs"]))

    return _drive(oracle, train, curve, budget)


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


def _drive(oracle: Any, train: Callable[..., float | None], curve: Curve, budget: int) -> list[ObservedTrial]:
    """Run the trials of a KerasTuner oracle."""
    trained = _Trained(curve, budget)
    oracle.verbose = 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # scikit-learn warns of length scales at their bounds.
        warnings.simplefilter("ignore")
        oracle._set_project_dir(folder, "peer")
        for _ in range(MAX_PROPOSALS):
            trial = oracle.create_trial("tuner0")
            if trial.status != "RUNNING" or not trained.left:
                break
            score = train(trained, trial.hyperparameters.values)
            if score is None:
                break
            oracle.update_trial(trial.trial_id, {"score": score})
            trial.status = "COMPLETED"
            oracle.end_trial(trial)
    return trained.trials()


def optuna_tpe(pruning: str) -> Peer:
    """Return Optuna's TPE over the rows, with the median pruner, the Hyperband pruner or none.

    A trial counts with its best epoch.
    """

    def search(space: SearchSpace, curve: Curve, seed: int, budget: int) -> list[ObservedTrial]:
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
        trained = _Trained(curve, budget)
        for _ in range(MAX_PROPOSALS):
            trial = study.ask()
            low, high = min(space.learning_rates), max(space.learning_rates)
            rate = _nearest(space, trial.suggest_float("learning_rate", low, high, log=True))
            best, pruned = -np.inf, False
            for epoch in range(1, space.epochs + 1):
                score = trained.train(rate, epoch)
                if score is None:
                    return trained.trials()
                best = max(best, score)
                trial.report(best, epoch)
                if pruned := trial.should_prune():
                    break
            study.tell(trial, None if pruned else best, optuna.trial.TrialState.PRUNED if pruned else None)
        return trained.trials()

    return search
