"""Optuna's GridSampler over Hugging Face's Trainer: a model for every cell, batches padded to their longest text."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import optuna
import transformers
from optuna.samplers import GridSampler

from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.torch_model import build, trainer
from benchmarks.contenders.trials import EpochRecorder
from benchmarks.texts import PaddedTexts


class Epochs(transformers.TrainerCallback):
    """Records every epoch with its evaluation."""

    def __init__(self, recorder: EpochRecorder) -> None:
        self._recorder = recorder

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def on_evaluate(self, *args: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        """Record the epoch."""
        self._recorder.epoch(perf_counter() - self._began, metrics["eval_accuracy"])


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds of a whole search."""
    train, dev = PaddedTexts.load(request["train"]), PaddedTexts.load(request["dev"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["model"], trust_remote_code=False)
    grid = {"learning_rate": request["learning_rates"], "epochs": list(range(1, request["epochs"] + 1))}

    def play() -> Reply:
        recorder = EpochRecorder()

        def objective(trial: optuna.Trial) -> float:
            rate = trial.suggest_categorical("learning_rate", grid["learning_rate"])
            epochs = trial.suggest_categorical("epochs", grid["epochs"])
            recorder.begin(rate)
            trainer(
                build(request["model"], request["classes"]),
                tokenizer,
                train,
                folder=request["folder"],
                padding="dynamic",
                max_length=request["max_length"],
                batch_size=request["batch_size"],
                learning_rate=rate,
                epochs=epochs,
                precision="fp32",
                callbacks=[Epochs(recorder)],
                dev=dev,
            ).train()
            return recorder.trials[-1].accuracy[-1]

        optuna.create_study(direction="maximize", sampler=GridSampler(grid)).optimize(objective)
        return recorder.end()

    return play


if __name__ == "__main__":
    serve(prepare)
