"""Follow a study with a callback, which writes a CSV line per epoch: `python examples/a_callback.py`."""

import csv
from collections.abc import Mapping
from pathlib import Path

import bertgrid_tf as bg


class EpochLog(bg.Callback):
    """Appends the accuracy of every epoch to a CSV file, and prints every new best.

    Args:
        file: The CSV file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.best = 0.0

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the epoch, and compare its accuracy on dev with the best so far."""
        with self.file.open("a", newline="") as file:
            csv.writer(file).writerow([trial, epoch, metrics["accuracy"]])
        if metrics["accuracy"] > self.best:
            self.best = metrics["accuracy"]
            print(f"{trial}, epoch {epoch}: accuracy {self.best:.4f}")


def main() -> None:
    """Tune a small, untrained BERT on the embedded sample."""
    bg.tune(
        "sample",
        model="scratch:1x32",
        final_model="none",
        sweeps={},
        learning_rates=[5e-3, 2e-3],
        epochs=3,
        callbacks=[EpochLog(Path("epochs.csv"))],
        progress=False,
    )


if __name__ == "__main__":
    main()
