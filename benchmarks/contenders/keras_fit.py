"""`model.fit`: a round is an epoch, from its beginning to its end."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import tf_keras

from benchmarks.contenders.keras_model import build, dataset, use_precision
from benchmarks.contenders.process import Reply, serve
from benchmarks.texts import PaddedTexts


class EpochSeconds(tf_keras.callbacks.Callback):
    """Times every epoch without its validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stop the clock, as it turns out for the last batch."""
        self._last_step = perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the seconds."""
        self.seconds.append(self._last_step - self._began)


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds of one epoch."""
    use_precision(request["precision"])
    model = build(request["model"], request["classes"], request["learning_rate"])
    rows = dataset(PaddedTexts.load(request["train"]), request["batch_size"], shuffle=True)

    def play() -> Reply:
        clock = EpochSeconds()
        model.fit(rows, epochs=1, verbose=0, callbacks=[clock])
        return {"seconds": clock.seconds[-1]}

    return play


if __name__ == "__main__":
    serve(prepare)
