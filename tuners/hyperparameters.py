"""Conversion between KerasTuner's `HyperParameters` and a search space."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras_tuner
from keras_tuner.engine import hyperparameters as kinds

from tuners.errors import TunerError
from tuners.space import SearchSpace, Value


class Declared(NamedTuple):
    """Parts of a search space that hyperparameters declare; see `SearchSpace`."""

    learning_rates: Sequence[float] | None
    epochs: int | None
    sweeps: Mapping[str, Sequence[Value]]
    start: Mapping[str, Value]


def read_hyperparameters(hyperparameters: keras_tuner.HyperParameters | None) -> Declared:
    """Read a search space: `learning_rate` and `epochs` make the grid, every other one that is not fixed is a sweep.

    Raises:
        TunerError: A hyperparameter is conditional, or continuous without a step.
    """
    rates, epochs = None, None
    sweeps: dict[str, Sequence[Value]] = {}
    start: dict[str, Value] = {}
    for hp in hyperparameters.space if hyperparameters is not None else []:
        if hp.conditions:
            raise TunerError(
                f"{hp.name} depends on another hyperparameter, which a search of one parameter at a time "
                "cannot follow: register it without a condition"
            )
        if hp.name == "epochs":
            epochs = hp.max_value if isinstance(hp, kinds.Int) else max(hp.values)
            continue
        start[hp.name] = hp.default
        if hp.name == "learning_rate":
            rates = _levels(hp)
        elif not isinstance(hp, kinds.Fixed):
            sweeps[hp.name] = _levels(hp)
    return Declared(rates, epochs, sweeps, start)


def _levels(hp: kinds.HyperParameter) -> list[Any]:
    if isinstance(hp, kinds.Int | kinds.Float) and hp.step is None:
        raise TunerError(f"{hp.name} has no steps to sweep over: give it a step, or make it a Choice")
    # With logarithmic steps KerasTuner computes an Int's values as floats.
    return [round(level) if isinstance(hp, kinds.Int) else level for level in hp.values]


def show_hyperparameters(space: SearchSpace) -> keras_tuner.HyperParameters:
    """Declare a search space for KerasTuner's own tools."""
    hyperparameters = keras_tuner.HyperParameters()
    for name, value in space.start.items():
        if name == "learning_rate":
            continue
        levels = space.sweeps.get(name)
        if levels is None:
            hyperparameters.Fixed(name, value)
        elif isinstance(value, bool):
            # A Choice would turn True into 1.
            hyperparameters.Boolean(name, default=value)
        else:
            hyperparameters.Choice(name, list(levels), default=value if value in levels else None)
    hyperparameters.Choice("learning_rate", list(space.learning_rates))
    for name in ("schedule_epochs", "stop_epoch"):
        hyperparameters.Int(name, 1, max(space.epochs, space.sweep_epochs))
    return hyperparameters
