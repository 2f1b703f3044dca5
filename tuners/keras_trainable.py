"""The trainable of a compiled Keras model, of Keras 3 or tf_keras."""

import gc
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from tuners.errors import DamagedError, TunerError
from tuners.files import open_arrays, parse_json, reading, replacing
from tuners.space import Value

STATE_FILE = "keras_trainable.npz"

_log = logging.getLogger(__name__)


class KerasTrainable:
    """Trains the model of `build` with `fit`, epoch by epoch, and resumes after the last whole epoch.

    Every epoch is one call of `fit` (with `initial_epoch`), so callbacks begin and end with each epoch: those that look
    back over epochs, such as EarlyStopping, see one epoch only. A callback that sets `model.stop_training` ends the
    trial after its epoch. A model that exceeds the memory fails its trial. After every epoch one file in the trial's
    folder is replaced by the weights, the optimizer's variables and the metrics so far.

    The arguments of `CasualGridSearch.search` go to `fit`; a hyperparameter named `batch_size` does so too.

    Example:
        >>> import keras, numpy, tempfile
        >>> from tuners import CasualGridOracle, CasualGridSearch
        >>> def build(hp):
        ...     model = keras.Sequential([keras.Input([4]), keras.layers.Dense(1)])
        ...     model.compile(keras.optimizers.SGD(hp["learning_rate"]), "mse")
        ...     return model
        >>> x = numpy.random.default_rng(0).normal(size=(64, 4))
        >>> oracle = CasualGridOracle("val_loss", learning_rates=[0.1, 1e-5], epochs=2)
        >>> oracle.verbose = 0
        >>> tuner = CasualGridSearch(KerasTrainable(build, seed=0), oracle, tempfile.mkdtemp(), "mine")
        >>> tuner.search(x, x[:, 0], validation_data=(x, x[:, 0]), verbose=0)
        >>> oracle.best().learning_rate, oracle.best().epoch
        (0.1, 2)

    Args:
        build: Returns a compiled model whose variables exist (give it an input shape), given a
            `keras_tuner.HyperParameters` with the trial's hyperparameters, `hp["learning_rate"]` and
            `hp["schedule_epochs"]` (the horizon of a schedule) among them. `hp.Int(…)` and the like give the trial's
            value too.
        seed: Decides the initial weights and, epoch by epoch, order and dropout, so that a resumed trial equals an
            uninterrupted one (for which tf_keras traces its training step every epoch). None leaves the backend's
            random state alone.
    """

    def __init__(self, build: Callable[[keras_tuner.HyperParameters], Any], seed: int | None = None) -> None:
        self.build = build
        self.seed = seed

    def __call__(
        self, hyperparameters: Mapping[str, Value], folder: Path, *args: Any, **kwargs: Any
    ) -> Iterator[dict[str, float]]:
        """Yield the logs of `fit` (losses and metrics, validation ones as `val_…`) after every epoch."""
        for name in ("epochs", "initial_epoch"):
            if name in kwargs:
                raise TunerError(f"{name} is the search's own: leave it out of the arguments of search()")
        if "batch_size" in hyperparameters:
            kwargs.setdefault("batch_size", hyperparameters["batch_size"])
        # Each backend's session would keep the former trial's model alive.
        for keras in _loaded_keras():
            keras.backend.clear_session()
        gc.collect()
        path = folder / STATE_FILE
        self._set_seed(0)
        with _out_of_memory_fails_the_trial():
            model = self.build(_fixed(hyperparameters))
        if not getattr(model, "built", False):
            raise TunerError("the model that build returns has no variables yet: give it an input shape")
        history, stopped = _restore(model, path) if path.exists() else ([], False)
        yield from history
        for epoch in range(len(history), int(hyperparameters["stop_epoch"])):
            if stopped:
                return
            self._set_seed(epoch + 1)
            if self.seed is not None and "tf_keras" in sys.modules and isinstance(model, sys.modules["tf_keras"].Model):
                # Its dropout takes the seed when the step is traced.
                model.train_function = None
            with _out_of_memory_fails_the_trial():
                logs = model.fit(*args, initial_epoch=epoch, epochs=epoch + 1, **kwargs).history
            history.append({name: float(series[-1]) for name, series in logs.items()})
            stopped = bool(model.stop_training)
            _save(model, history, stopped, path)
            yield history[-1]

    def _set_seed(self, offset: int) -> None:
        if self.seed is not None:
            for keras in _loaded_keras():
                keras.utils.set_random_seed(self.seed + offset)


def _fixed(hyperparameters: Mapping[str, Value]) -> keras_tuner.HyperParameters:
    fixed = keras_tuner.HyperParameters()
    # A model-building function that declares `epochs` means the epochs of its schedule.
    for name, value in {**hyperparameters, "epochs": hyperparameters["schedule_epochs"]}.items():
        fixed.Fixed(name, value)
    return fixed


def _loaded_keras() -> list[Any]:
    return [sys.modules[name] for name in ("keras", "tf_keras") if name in sys.modules]


@contextmanager
def _out_of_memory_fails_the_trial() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # TensorFlow's error is known by its name, so that other backends of Keras 3 need no TensorFlow.
        if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
            raise keras_tuner.errors.FailedTrialError(f"out of memory: {error}") from error
        raise


def _variables(model: Any) -> list[Any]:
    """List all variables that training changes; creates the optimizer's slots where they are missing."""
    optimizer = model.optimizer
    if hasattr(optimizer, "build"):
        optimizer.build(model.trainable_variables)
    else:
        optimizer._create_all_weights(model.trainable_variables)  # tf_keras.optimizers.legacy
    slots = optimizer.variables
    return [*model.variables, *(slots() if callable(slots) else slots)]


def _save(model: Any, history: list[dict[str, float]], stopped: bool, path: Path) -> None:
    arrays = [variable.numpy() for variable in _variables(model)]
    # NumPy reads bfloat16 back as raw bytes; float32 holds it exactly.
    arrays = [array.astype(np.float32) if array.dtype.kind == "V" else array for array in arrays]
    progress = json.dumps({"history": history, "stopped": stopped})
    with replacing(path) as file:
        np.savez(file, progress=progress, **{f"variable_{index}": array for index, array in enumerate(arrays)})


def _restore(model: Any, path: Path) -> tuple[list[dict[str, float]], bool]:
    variables = _variables(model)
    try:
        with reading(path, "the trial is trained again from its first epoch") as file, open_arrays(file) as saved:
            progress = parse_json(str(saved["progress"]).encode())
            history = [{str(name): float(value) for name, value in epoch.items()} for epoch in progress["history"]]
            stopped = bool(progress["stopped"])
            arrays = [saved[f"variable_{index}"] for index in range(len(saved.files) - 1)]
            if not all(array.dtype.kind in "biuf" for array in arrays):
                raise ValueError("a variable is no array of numbers")
    except DamagedError as error:
        _log.warning("%s.", error)
        return [], False
    if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
        raise TunerError(f"{path} is of another model than build returns: restore build, or start over")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return history, stopped
