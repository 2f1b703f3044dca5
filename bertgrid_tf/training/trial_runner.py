"""One trial: a configuration on a corpus ▶ dev metrics, epoch by epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import keras_tuner
import numpy as np
import tensorflow as tf

from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.bert.trainer import EpochResult, OnTrainBatchEnd, Trainer
from bertgrid_tf.corpus import Corpus, dialogue_numbers
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.metrics.classification import directions, evaluate
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.predictions import Predictions, held_out, predictions_file, write_predictions
from bertgrid_tf.storage.study_folder import weights_file
from bertgrid_tf.system.host import return_freed_memory
from bertgrid_tf.training.encoding import CorpusEncoder
from bertgrid_tf.training.model_cache import ModelCache
from bertgrid_tf.training.resampling import available_texts
from bertgrid_tf.training.soup import SoupMember, greedy_soup
from bertgrid_tf.trial_config import AFTER_SEARCH, FINAL, SOUP, TrialConfig


class TrialRunner:
    """Runs the trials of one recipe on one corpus; models and encoded texts are kept for the next trial.

    Args:
        corpus: The corpus, of which train and dev are used, and no test split.
        recipe: The recipe, whose `metric`, `soup` and `final` decide of which epochs the weights are kept.
        predictions: Folder for the dev predictions of every epoch (`storage.predictions`).
        on_train_batch_end: Called after every training step (`bert.trainer.Trainer.run`).
    """

    def __init__(
        self, corpus: Corpus, recipe: Recipe, predictions: Path, on_train_batch_end: OnTrainBatchEnd | None = None
    ) -> None:
        self.encoder = CorpusEncoder(corpus)
        self.models = ModelCache(corpus)
        self._corpus = corpus
        self._recipe = recipe
        self._predictions = predictions
        self._on_train_batch_end = on_train_batch_end
        self._dev_dialogues = dialogue_numbers(corpus.splits["dev"])

    def run(self, config: TrialConfig, folder: Path, model: Path | None = None) -> Iterator[dict[str, float]]:
        """Train one configuration, and yield the dev metrics of every epoch (`metrics.classification.evaluate`).

        Args:
            config: The configuration; a final model keeps its weights in `folder`.
            folder: The folder of the trial, with its name, from which it resumes.
            model: The folder in which the final model is saved unless it diverged, after the predictions of the fold
                that it is trained without (`storage.predictions.held_out`); None for other trials.

        Raises:
            keras_tuner.errors.FailedTrialError: The trial does not fit the memory; the search goes on without it.
        """
        result = None
        for result in self._epochs(config, folder):
            yield result.metrics
        if model is not None and result is not None and not result.diverged:
            trainer = self.models.trainer(config.hyperparameters, config.gpus)
            if config.held_out is not None:
                self._predict_held_out(trainer, config, folder.name, result.epoch)
            checkpoint = trainer.checkpoint
            # Plain transformers truncates there.
            checkpoint.tokenizer.model_max_length = config.hyperparameters.max_length
            checkpoint.save(model)

    def average_weights(
        self, hyperparameters: Hyperparameters, members: Sequence[SoupMember], model: Path
    ) -> tuple[list[SoupMember], dict[str, float]]:
        """Average the weights of rows (`soup.greedy_soup`), and save the result in `model` if it is of several.

        Returns:
            The rows that were averaged, and the dev metrics of the average.
        """
        trainer, dev = self.models.trainer(hyperparameters), self.encoder.split(hyperparameters, "dev")
        averaged, probabilities = greedy_soup(trainer, members, dev, self._recipe)
        self._write_predictions(SOUP, 1, dev, probabilities)
        if len(averaged) > 1:
            trainer.checkpoint.save(model)
        metrics = [*directions(self._corpus.labels), self._recipe.metric]
        return averaged, evaluate(dev.labels, probabilities, self._corpus.labels, metrics)

    def _epochs(self, config: TrialConfig, folder: Path) -> Iterator[EpochResult]:
        hyperparameters, of_search = config.hyperparameters, config.stage not in AFTER_SEARCH
        keeps_weights = of_search and (self._recipe.soup or self._recipe.final.matches(hyperparameters))
        per_cell = self._recipe.grid_schedule == "per-cell"
        # What goes on after its last epoch: the final model's trial to be saved, a row when the study grows.
        goes_on = config.stage == FINAL or (of_search and self._recipe.can_lengthen(hyperparameters))
        try:
            trainer = self.models.trainer(hyperparameters, config.gpus)
            train = self.encoder.training_set(config)
            dev = self.encoder.split(hyperparameters, "dev")
            best, best_epoch, metric = -np.inf, 0, self._recipe.metric
            history, on_dev = list[EpochResult](), directions(self._corpus.labels)

            def scored(result: EpochResult) -> dict[str, float]:
                if config.with_dev:  # A score on texts that it was trained on would be none.
                    own = {name: value for name, value in result.metrics.items() if name not in on_dev}
                    return own | ({"train_loss": np.nan} if result.diverged else {})
                named = {}
                if metric not in result.metrics:  # The trainer does not know metrics over named classes.
                    named = {metric: np.nan}
                    if result.probabilities is not None:
                        named = evaluate(dev.labels, result.probabilities, self._corpus.labels, [metric])
                return result.metrics | named

            def keep(result: EpochResult) -> None:
                nonlocal best, best_epoch
                history.append(result)
                # Of a process that was killed before it saved them.
                later = result.epoch + 1
                while (file := predictions_file(self._predictions, folder.name, later)).exists():
                    file.unlink()
                    later += 1
                if result.probabilities is None or config.with_dev:
                    return
                self._write_predictions(folder.name, result.epoch, dev, result.probabilities)
                score = self._recipe.signed(scored(result)[metric])
                # A cell with a schedule of its own counts with its last epoch.
                if result.epoch == config.stop_epoch if per_cell else score > best:
                    best, best_epoch = score, result.epoch
                    # The weights of a restored epoch are gone from the model.
                    if keeps_weights and not result.restored:
                        trainer.save_weights(weights_file(folder, result.epoch), history)

            def delete_before(epoch: int) -> None:
                for earlier in range(1, epoch) if keeps_weights else ():
                    weights_file(folder, earlier).unlink(missing_ok=True)

            # A trial's tensors leave gaps in the C library's memory that those of the next would not all fit in.
            return_freed_memory()
            best_of_saved = 0
            for result in trainer.run(train, dev, config, folder, self._on_train_batch_end, goes_on, before_save=keep):
                if result.restored:
                    keep(result)
                # This epoch is being saved: until it is, its weights cannot take the place of the best so far.
                delete_before(best_of_saved)
                best_of_saved = best_epoch
                yield replace(result, metrics=scored(result))
            delete_before(best_epoch)
        except tf.errors.ResourceExhaustedError as error:
            raise keras_tuner.errors.FailedTrialError(f"out of memory: {error.message}") from error

    def _predict_held_out(self, trainer: Trainer, config: TrialConfig, trial: str, epoch: int) -> None:
        train, dialogues = self.encoder.split(config.hyperparameters, "train"), self._corpus.splits["train"]
        fold = np.setdiff1d(np.arange(len(train.labels)), available_texts(self._corpus, config))
        probabilities = trainer.probabilities(train.texts.select(fold))
        predictions = Predictions(dialogue_numbers(dialogues)[fold], train.labels[fold], probabilities)
        write_predictions(predictions_file(self._predictions, held_out(trial), epoch), predictions, self._corpus.labels)

    def _write_predictions(self, trial: str, epoch: int, dev: EncodedDataset, probabilities: np.ndarray) -> None:
        predictions = Predictions(self._dev_dialogues, dev.labels, probabilities)
        write_predictions(predictions_file(self._predictions, trial, epoch), predictions, self._corpus.labels)
