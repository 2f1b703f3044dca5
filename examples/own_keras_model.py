"""Search sweeps and the learning-rate × epoch grid of any Keras model: `python examples/own_keras_model.py`."""

import keras_tuner
import numpy as np
from tensorflow import keras

from tuners import CasualGridOracle, CasualGridSearch, KerasTrainable


def build(hp: keras_tuner.HyperParameters) -> keras.Model:
    """Return a compiled perceptron with one hidden layer."""
    hidden = keras.layers.Dense(hp["units"], activation="relu")
    model = keras.Sequential([keras.Input([8]), hidden, keras.layers.Dense(2, activation="softmax")])
    optimizer = keras.optimizers.Adam(hp["learning_rate"])
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def main() -> None:
    """Search for the number of units first, then for learning rate and epochs."""
    points = np.random.default_rng(0).normal(size=(400, 8))
    labels = (points[:, 0] * points[:, 1] > 0).astype(int)
    oracle = CasualGridOracle("val_accuracy", learning_rates=[1e-2, 1e-3], epochs=3, sweeps={"units": [4, 16]})
    tuner = CasualGridSearch(KerasTrainable(build, seed=0), oracle, directory="results", project_name="perceptron")
    tuner.search(points[:300], labels[:300], validation_data=(points[300:], labels[300:]), verbose=0)
    tuner.results_summary()


if __name__ == "__main__":
    main()
