"""Optuna's GridSampler over Hugging Face's Trainer: a model is loaded for every cell, batches are padded to their
longest text."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import optuna
import transformers
from optuna.samplers import GridSampler

from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.torch_model import build, trainer
from benchmarks.contenders.trials import Recorder
from benchmarks.texts import Padded


class Epochs(transformers.TrainerCallback):
    """Tells the recorder of every epoch and its evaluation."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began = perf_counter()

    def on_evaluate(self, *args: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        self._recorder.epoch(perf_counter() - self._began, metrics["eval_accuracy"])


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    train, dev = Padded.load(asked["train"]), Padded.load(asked["dev"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(asked["model"])
    grid = {"learning_rate": asked["learning_rates"], "epochs": list(range(1, asked["epochs"] + 1))}

    def play() -> Reply:
        recorder = Recorder()

        def objective(trial: optuna.Trial) -> float:
            rate = trial.suggest_categorical("learning_rate", grid["learning_rate"])
            epochs = trial.suggest_categorical("epochs", grid["epochs"])
            recorder.begin(rate)
            trainer(
                build(asked["model"], asked["classes"]),
                tokenizer,
                train,
                folder=asked["folder"],
                padding="dynamic",
                max_length=asked["max_length"],
                batch_size=asked["batch_size"],
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
