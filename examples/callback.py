"""Follow a study with a callback: `python examples/callback.py [MODEL]`."""

import sys
from collections.abc import Mapping

import bertgrid_tf as bg

MODEL = sys.argv[1] if len(sys.argv) > 1 else "bert-base-cased"


class Record(bg.Callback):
    """Prints every trial that reaches a new best accuracy on dev."""

    def __init__(self) -> None:
        self.best = 0.0

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Compare the accuracy with the best so far."""
        if metrics["accuracy"] > self.best:
            self.best = metrics["accuracy"]
            print(f"{trial}, epoch {epoch}: accuracy {self.best:.4f}")


if __name__ == "__main__":
    bg.tune(
        "sample",
        model=MODEL,
        final_model="none",
        sweeps={},
        max_train_samples=60,
        learning_rates=[1e-3, 1e-4],
        epochs=2,
        callbacks=[Record()],
        progress=False,
    )
