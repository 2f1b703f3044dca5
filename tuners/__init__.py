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
    from tuners.decisions import Best, ScoredCell, SweepLevel
    from tuners.errors import TunerError
    from tuners.keras_trainable import KerasTrainable
    from tuners.oracle import CasualGridOracle
    from tuners.space import Plan, SearchSpace, Stage, Value
    from tuners.table import Cell, Table
    from tuners.trainable import Trainable
    from tuners.tuner import CasualGridSearch

__all__ = [
    "Best",
    "CasualGridOracle",
    "CasualGridSearch",
    "Cell",
    "KerasTrainable",
    "Plan",
    "ScoredCell",
    "SearchSpace",
    "Stage",
    "SweepLevel",
    "Table",
    "Trainable",
    "TunerError",
    "Value",
]

_MODULES = {
    "TunerError": "errors",
    "KerasTrainable": "keras_trainable",
    "Best": "decisions",
    "CasualGridOracle": "oracle",
    "ScoredCell": "decisions",
    "SweepLevel": "decisions",
    "Plan": "space",
    "SearchSpace": "space",
    "Stage": "space",
    "Value": "space",
    "Cell": "table",
    "Table": "table",
    "CasualGridSearch": "tuner",
    "Trainable": "trainable",
}


def __getattr__(name: str) -> Any:
    # KerasTuner brings TensorFlow along, several seconds that a reader of tables need not wait for.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
