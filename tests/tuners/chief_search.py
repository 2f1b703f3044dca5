"""One process of KerasTuner's own distributed mode: `KERASTUNER_TUNER_ID=… python chief_search.py FOLDER`."""

import sys
import time
from pathlib import Path

from toy_trainable import LAYOUTS, ToyTrainable, accuracy, search

SPACE = {
    "objective": "val_accuracy",
    "learning_rates": [1e-5, 2e-5, 3e-5],
    "epochs": 3,
    "sweeps": {"layout": [*LAYOUTS]},
}


def slowly(hyperparameters, epoch: int) -> float:
    time.sleep(0.1)
    return accuracy(hyperparameters, epoch)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    search(folder, ToyTrainable(slowly, folder / "log"), **SPACE).search()
