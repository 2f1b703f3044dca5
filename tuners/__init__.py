"""Casual grid search on KerasTuner: sweep what is independent, then fill the learning-rate × epoch grid.

from tuners import CasualGridOracle, CasualGridSearch, KerasTrainable

oracle = CasualGridOracle("val_accuracy", learning_rates=[1e-2, 1e-3], epochs=5, sweeps={"units": [8, 32]})
tuner = CasualGridSearch(KerasTrainable(build), oracle, directory="results", project_name="mine")
tuner.search(x, y, validation_data=(x_val, y_val))
tuner.results_summary()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuners.decisions import Best as Best
    from tuners.decisions import ScoredCell as ScoredCell
    from tuners.decisions import SweepLevel as SweepLevel
    from tuners.errors import TunerError as TunerError
    from tuners.keras_trainable import KerasTrainable as KerasTrainable
    from tuners.oracle import CasualGridOracle as CasualGridOracle
    from tuners.space import SearchSpace as SearchSpace
    from tuners.table import Table as Table
    from tuners.trainable import Trainable as Trainable
    from tuners.tuner import CasualGridSearch as CasualGridSearch

_MODULES = {
    "Best": "decisions",
    "CasualGridOracle": "oracle",
    "CasualGridSearch": "tuner",
    "KerasTrainable": "keras_trainable",
    "ScoredCell": "decisions",
    "SearchSpace": "space",
    "SweepLevel": "decisions",
    "Table": "table",
    "Trainable": "trainable",
    "TunerError": "errors",
}


def __getattr__(name: str) -> Any:
    # KerasTuner imports TensorFlow, several seconds that a reader of tables need not wait for.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
