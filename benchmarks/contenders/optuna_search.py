"""Optuna over Hugging Face's Trainer: a model for every trial, batches padded to their longest text."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import optuna
import transformers
from optuna.pruners import HyperbandPruner, NopPruner
from optuna.samplers import GridSampler, TPESampler
from optuna.trial import TrialState

from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.torch_model import TextDataset, build, trainer
from benchmarks.contenders.trials import EpochRecorder
from benchmarks.texts import PaddedTexts


class Epochs(transformers.TrainerCallback):
    """Records every epoch with its evaluation, and reports it to Optuna, which may prune the trial.

    Args:
        recorder: The recorder.
        trial: Optuna's trial.
        test: Returns the accuracy of the model on the test split; None where it is not to be scored.
    """

    def __init__(self, recorder: EpochRecorder, trial: optuna.Trial, test: Callable[[], float] | None = None) -> None:
        self._recorder = recorder
        self._trial = trial
        self._test = test

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def on_evaluate(self, *args: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        """Record the epoch."""
        accuracy = metrics["eval_accuracy"]
        self._recorder.epoch(perf_counter() - self._began, accuracy, self._test)
        self._trial.report(accuracy, len(self._recorder.trials[-1].accuracy))
        if self._trial.should_prune():
            raise optuna.TrialPruned


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds of a whole search.

    Args:
        request: That of `contenders.keras_tuner_search`, but with "padding" (`contenders.torch_model`) and the "search"
            "grid", a trial per cell, or "hyperband": TPE over the learning rates, and HyperbandPruner over the epochs.
    """
    train, dev = PaddedTexts.load(request["train"]), PaddedTexts.load(request["dev"])
    test = TextDataset(PaddedTexts.load(request["test"])) if "test" in request else None
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["model"], trust_remote_code=False)
    rates, most, seed = request["learning_rates"], request["epochs"], request["seed"]

    def play() -> Reply:
        recorder = EpochRecorder(request.get("began"))

        def accuracy(rate: float, epochs: int, trial: optuna.Trial) -> float:
            """Train a trial, and return the accuracy of its best epoch on dev."""
            recorder.begin(rate)
            transformers.set_seed(seed)
            made = trainer(
                build(request["model"], request["classes"]),
                tokenizer,
                train,
                folder=f"{request['folder']}/{trial.number}",
                padding=request["padding"],
                max_length=request["max_length"],
                batch_size=request["batch_size"],
                learning_rate=rate,
                epochs=epochs,
                precision=request["precision"],
                callbacks=[],
                dev=dev,
                seed=seed,
                save=test is not None,
            )
            made.add_callback(Epochs(recorder, trial, test and (lambda: made.predict(test).metrics["test_accuracy"])))
            made.train()
            return max(recorder.trials[-1].accuracy)

        def cell(trial: optuna.Trial) -> float:
            rate = trial.suggest_categorical("learning_rate", rates)
            return accuracy(rate, trial.suggest_categorical("epochs", list(range(1, most + 1))), trial)

        def row(trial: optuna.Trial) -> float:
            # Numbered by their size, so that TPE knows which are neighbours.
            rate = sorted(rates)[trial.suggest_int("row", 0, len(rates) - 1)]
            for earlier in trial.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
                if earlier.params == trial.params:
                    return earlier.value  # TPE may ask for it twice: nobody would train it again
            return accuracy(rate, most, trial)

        if request["search"] == "grid":
            sampler = GridSampler({"learning_rate": rates, "epochs": list(range(1, most + 1))})
            optuna.create_study(direction="maximize", sampler=sampler, pruner=NopPruner()).optimize(cell)
        else:
            # By default the first ten trials would be drawn at random, which is more than there are rates.
            sampler = TPESampler(n_startup_trials=3, seed=seed)
            pruner = HyperbandPruner(min_resource=1, max_resource=most, reduction_factor=3)
            # The name decides of the brackets.
            study = optuna.create_study(direction="maximize", study_name="rates", sampler=sampler, pruner=pruner)
            study.optimize(row, n_trials=2 * len(rates))
        return recorder.end()

    return play


if __name__ == "__main__":
    serve(prepare)
