"""One configuration on one corpus ▶ scores, epoch by epoch: where dialogues meet BERT."""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras

from bertgrid_tf.bert.checkpoint import architecture, identity, load, load_tokenizer, positions
from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.bert.encode import EncodedTexts, check_room, check_vocabulary, encode
from bertgrid_tf.bert.precision import PrecisionTiming, measure
from bertgrid_tf.bert.replicas import replica_count, strategy
from bertgrid_tf.bert.trainer import EncodedDataset, EpochResult, OnTrainBatchEnd, Trainer, TrainSettings
from bertgrid_tf.budget.plan import SOUP, training_indices
from bertgrid_tf.budget.time_estimator import Work
from bertgrid_tf.corpus import (
    NONE_MARKER,
    SAYS_MARKER,
    Corpus,
    Dialogue,
    Layout,
    dialogue_numbers,
    format_inputs,
    segment_count,
    speaker_counts,
    utterances,
)
from bertgrid_tf.corpus.balance import class_weights
from bertgrid_tf.corpus.votes import vote_shares
from bertgrid_tf.errors import UserError
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.recipe import Hyperparameters, Recipe, Value
from bertgrid_tf.storage import predictions
from bertgrid_tf.storage.predictions import Predictions
from bertgrid_tf.training.soup import SoupMember, greedy, keep

SAMPLED_UTTERANCES = 2_000
"""So many, in whole dialogues, tell how long a layout's texts are: their mean is within 2 % of all texts'."""
NOT_OF_SPEED = (
    *("learning_rate", "oversample_ratio", "undersample", "class_weights", "focal_gamma", "soft_label_weight"),
    *("warmup_ratio", "schedule", "weight_decay", "max_grad_norm"),
)
"""The settings that do not change how fast a token is trained."""


def encode_dialogues(
    tokenizer: Any, dialogues: Sequence[Dialogue], hyperparameters: Hyperparameters, speakers: Mapping[str, int]
) -> EncodedTexts:
    """Every utterance as the settings lay it out.

    Args:
        tokenizer: the checkpoint's.
        dialogues: of any split, labelled or not.
        settings: context, speaker_format, min_speaker_count and max_length count.
        speakers: the training split's `corpus.speaker_counts`.
    """
    layout = Layout(hyperparameters.context, hyperparameters.speaker_format, hyperparameters.min_speaker_count)
    texts = [(example.segments, example.focus) for example in format_inputs(dialogues, layout, speakers)]
    return encode(tokenizer, texts, hyperparameters.max_length)


def added_tokens(hyperparameters: Hyperparameters) -> tuple[str, ...]:
    """The markers that are tokens of their own in the settings' checkpoint."""
    return (NONE_MARKER, SAYS_MARKER) if hyperparameters.markers == "tokens" else ()


def token_lengths(corpus: Corpus, hyperparameters: Hyperparameters) -> dict[str, np.ndarray]:
    """Tokens of every input in the settings' layout before any cut, int64 [utterances], by split."""
    train = corpus.splits["train"]
    texts = (utterance.text for utterance in utterances(train))
    tokenizer = load_tokenizer(hyperparameters.model, texts, added_tokens(hyperparameters))
    speakers = speaker_counts(train)
    return {
        split: encode_dialogues(tokenizer, dialogues, hyperparameters, speakers).full_lengths
        for split, dialogues in corpus.splits.items()
    }


class TrialRunner:
    """The training runs of one recipe on one corpus: a `tuners.Trainable`.

    Checkpoints are built and texts encoded once and kept for the next run.
    """

    def __init__(
        self, corpus: Corpus, recipe: Recipe, predictions: Path, on_train_batch_end: OnTrainBatchEnd | None = None
    ) -> None:
        """
        Args:
            corpus: train and dev are used; a test split is not looked at.
            recipe: its seed, metric and markers count; settings come with each run.
            predictions: the folder for what every run predicts on dev after each epoch (`predictions.write`).
            on_step: called after every training step (`bert.trainer.Trainer.run`).
        """
        self.corpus = corpus
        self.recipe = recipe
        self._predictions = predictions
        self._on_train_batch_end = on_train_batch_end
        self._speakers = speaker_counts(corpus.splits["train"])
        self._dev_dialogues = dialogue_numbers(corpus.splits["dev"])
        self._checkpoints: dict[str, str] | None = None
        self._built: tuple[tuple[str, str, str, int], Trainer] | None = None
        self._encoded = lru_cache(maxsize=4)(self._encode_split)
        self._work = lru_cache(maxsize=None)(self._work_of)
        self._tokenizer = lru_cache(maxsize=None)(self._load_tokenizer)

    def __call__(self, values: Mapping[str, Value], folder: Path) -> Iterator[dict[str, float]]:
        """Trains one configuration and yields the dev metrics of every epoch (`score.metrics.evaluate`).

        Raises FailedTrialError where it does not fit the memory, so that the search goes on without it.
        """
        for result in self._train(values, folder, final=False):
            yield result.metrics

    def final(self, values: Mapping[str, Value], folder: Path, model: Path) -> Iterator[dict[str, float]]:
        """As `__call__` for the final model, which is saved in the folder `model` after its last epoch, unless it
        diverged.

        It is trained on the recipe's `final.gpus`, and its weights stay in `folder`.
        """
        for result in self._train(values, folder, final=True):
            yield result.metrics
        if not result.diverged:
            hyperparameters = Hyperparameters.of(values)
            checkpoint = self.trainer(hyperparameters, final=True).checkpoint
            # Where plain transformers is to truncate.
            checkpoint.tokenizer.model_max_length = hyperparameters.max_length
            checkpoint.save(model)

    def _train(self, values: Mapping[str, Value], folder: Path, final: bool) -> Iterator[EpochResult]:
        hyperparameters = Hyperparameters.of(values)
        try:
            trainer = self.trainer(hyperparameters, final)
            train, dev = self._training_texts(hyperparameters), self._split(hyperparameters, "dev")
            run = self._train_settings(hyperparameters, int(values["schedule_epochs"]), int(values["stop_epoch"]))
            tokens = {"train_tokens": float(train.texts.lengths.sum())}
            if trainer.unpadded:
                tokens["train_padding"] = 0.0
            best = -np.inf
            for result in trainer.run(train, dev, run, folder, self._on_train_batch_end, keep_weights=final):
                if result.probabilities is not None:
                    self._write_predictions(folder.name, result.epoch, dev, result.probabilities)
                    score = self.recipe.signed(result.metrics[self.recipe.metric])
                    if self.recipe.soup and score > best and not (final or result.restored):
                        keep(trainer, folder, result.epoch)
                    best = max(best, score)
                yield replace(result, metrics=result.metrics | tokens)
        except tf.errors.ResourceExhaustedError as error:
            raise keras_tuner.errors.FailedTrialError(f"out of memory: {error.message}") from error

    def soup(
        self, hyperparameters: Hyperparameters, rows: Sequence[SoupMember], model: Path
    ) -> tuple[list[SoupMember], dict[str, float]]:
        """Averages the weights of rows of these settings (`soup.greedy`), and saves the result in the folder `model`
        unless it is one of them.

        Returns:
            the rows that went in, and the dev metrics.
        """
        trainer, dev = self.trainer(hyperparameters), self._split(hyperparameters, "dev")
        chosen, probabilities = greedy(trainer, rows, dev.texts, dev.labels, self.recipe)
        self._write_predictions(SOUP, 1, dev, probabilities)
        if len(chosen) > 1:
            trainer.checkpoint.save(model)
        return chosen, evaluate(dev.labels, probabilities, self.corpus.labels)

    def _write_predictions(self, run: str, epoch: int, dev: EncodedDataset, probabilities: np.ndarray) -> None:
        found = Predictions(self._dev_dialogues, dev.labels, probabilities)
        predictions.write(predictions.file(self._predictions, run, epoch), found, self.corpus.labels)

    def padded(self) -> dict[str, str]:
        """The recipe's checkpoints that are no BERT, so that padding is computed, with their types."""
        models = dict.fromkeys([*self.recipe.searched_models(), *self.recipe.final_models()])
        return {model: kind for model in models if (kind := architecture(model)) != "bert"}

    def precisions(self) -> list[PrecisionTiming]:
        """How fast the recipe's start configuration trains here in each precision (`bert.precision.measure`)."""
        hyperparameters = self.recipe.hyperparameters
        train = self._training_texts(hyperparameters)
        run = self._train_settings(hyperparameters, self.recipe.epochs, self.recipe.epochs)
        return measure(
            lambda precision: self.trainer(hyperparameters.model_copy(update={"precision": precision})), train, run
        )

    def _training_texts(self, hyperparameters: Hyperparameters) -> EncodedDataset:
        """The training split, resampled, with the targets that class weights and votes make of its labels."""
        train = self._split(hyperparameters, "train")
        visited = training_indices(self.recipe, self.corpus, hyperparameters)
        texts, labels, share = train.texts.take(visited), train.labels[visited], hyperparameters.soft_label_weight
        if hyperparameters.class_weights == "none" and not share:
            return EncodedDataset(texts, labels)
        targets = np.eye(len(self.corpus.labels), dtype=np.float32)[labels]
        if share:
            targets = (1 - share) * targets + share * vote_shares(self.corpus)[visited]
        return EncodedDataset(texts, labels, targets * class_weights(labels, hyperparameters.class_weights)[:, None])

    def _train_settings(self, hyperparameters: Hyperparameters, epochs: int, stop_epoch: int) -> TrainSettings:
        return TrainSettings(
            learning_rate=hyperparameters.learning_rate,
            schedule_epochs=epochs,
            stop_epoch=stop_epoch,
            batch_size=int(hyperparameters.batch_size),
            warmup_ratio=hyperparameters.warmup_ratio,
            schedule=hyperparameters.schedule,
            weight_decay=hyperparameters.weight_decay,
            max_grad_norm=hyperparameters.max_grad_norm,
            group_by_length=hyperparameters.group_by_length,
            seed=self.recipe.seed,
            focal_gamma=hyperparameters.focal_gamma,
            head=hyperparameters.head,
        )

    def check(self, final_here: bool = True) -> None:
        """Raises UserError where the recipe does not fit one of its checkpoints, the texts or, if the final model is
        trained in this process, the devices; trains nothing."""
        hyperparameters, sweeps = self.recipe.hyperparameters, self.recipe.sweeps
        texts = [utterance.text for utterance in utterances(self.corpus.splits["train"])]
        if not any(texts):
            raise UserError(f"The training texts of {self.corpus.name} are all empty: is it the right column?")
        searched, final = self.recipe.searched_models(), self.recipe.final_models()
        if final and final_here:
            self.replicas(final=True)  # which counts the devices
        for model in sorted({*searched, *final}):
            reach, tokenizer = positions(model), load_tokenizer(model, texts)
            check_vocabulary(tokenizer, model, texts)
            for max_length in map(int, (hyperparameters.max_length, *sweeps.get("max_length", ()))):
                if max_length > reach:
                    raise UserError(f"max_length {max_length} is beyond the {reach} positions of {model}.")
                for context in map(str, (hyperparameters.context, *sweeps.get("context", ()))):
                    check_room(tokenizer, segment_count(context), max_length)
        if any((hyperparameters.soft_label_weight, *sweeps.get("soft_label_weight", ()))):
            vote_shares(self.corpus)
        for key, plain in (("precision", "fp32"), ("head", "trained")):
            for level in (getattr(hyperparameters, key), *sweeps.get(key, ())):
                if level != plain and (padded := self.padded()):
                    model, kind = next(iter(padded.items()))
                    raise UserError(f"{key} {level} is for BERT; {model} is of type {kind!r}: use {plain}.")

    def work(self, values: Mapping[str, Value]) -> Work:
        """What one epoch of a run of these values is, as far as its time goes.

        Its tokens are estimated from a sample of each split, so that nothing need be encoded for it; with `gpus` among
        the values they are those of one of them.
        """
        hyperparameters = Hyperparameters.of(values)
        return self._work(hyperparameters.model_copy(update={"learning_rate": 1.0}), int(values.get("gpus", 1)))

    def _work_of(self, hyperparameters: Hyperparameters, gpus: int) -> Work:
        classes = [utterance.label or "" for utterance in utterances(self.corpus.splits["train"])]
        visited = training_indices(self.recipe, self.corpus, hyperparameters)
        train, dev = (self._sampled_lengths(hyperparameters, split) for split in ("train", "dev"))
        of_class = train.groupby(level=0).mean()
        counts = Counter(classes[i] for i in visited)
        tokens = sum(count * float(of_class.get(label, train.mean())) for label, count in counts.items())
        scored = float(dev.mean()) * sum(1 for _ in utterances(self.corpus.splits["dev"]))
        if hyperparameters.head != "trained":
            scored += tokens  # to whose features the head is refitted
        kind = (gpus, *(item for item in hyperparameters.model_dump().items() if item[0] not in NOT_OF_SPEED))
        built = (hyperparameters.model, hyperparameters.markers, hyperparameters.precision, gpus)
        steps = -(-len(visited) // int(hyperparameters.batch_size))
        size = dimensions(hyperparameters.model, len(self.corpus.labels))
        return Work(kind, built, size.layers, size.width, steps, tokens / gpus, scored / gpus)

    def lengths(self, hyperparameters: Hyperparameters) -> np.ndarray:
        """Tokens of a sample of the training inputs, int [texts]."""
        return self._sampled_lengths(hyperparameters, "train").to_numpy()

    def _sampled_lengths(self, hyperparameters: Hyperparameters, split: str) -> pd.Series:
        """Tokens of the sampled texts of a split, by their class."""
        dialogues = self.corpus.splits[split]
        total = sum(1 for _ in utterances(dialogues))
        sample = dialogues[:: -(-total // SAMPLED_UTTERANCES)]
        tokenizer = self._tokenizer(hyperparameters.model, added_tokens(hyperparameters))
        lengths = encode_dialogues(tokenizer, sample, hyperparameters, self._speakers).lengths
        return pd.Series(lengths, [utterance.label or "" for utterance in utterances(sample)])

    def _load_tokenizer(self, model: str, markers: tuple[str, ...]) -> Any:
        return load_tokenizer(model, (utterance.text for utterance in utterances(self.corpus.splits["train"])), markers)

    def checkpoints(self) -> dict[str, str]:
        """What each model of the search is (`bert.checkpoint.identity`); read once, since it takes all of the files."""
        if self._checkpoints is None:
            self._checkpoints = {model: identity(model) for model in sorted(self.recipe.searched_models())}
        return self._checkpoints

    def replicas(self, final: bool) -> int:
        """How many devices train a model of the search, or the final one, together. Raises UserError where there are
        fewer than the recipe asks for."""
        return replica_count(self.recipe.final.gpus) if final else 1

    def trainer(self, hyperparameters: Hyperparameters, final: bool = False) -> Trainer:
        """The trainer of the settings' checkpoint on the search's or the final model's devices, built at the first call
        and kept until another is asked for."""
        replicas = self.replicas(final)
        wanted = (hyperparameters.model, hyperparameters.markers, hyperparameters.precision, replicas)
        if self._built is None or self._built[0] != wanted:
            # One model at a time: two large ones may not fit the GPU. What is left of the former one would also
            # live on in Keras's global state.
            self._built = None
            tf_keras.backend.clear_session()
            gc.collect()
            texts = (utterance.text for utterance in utterances(self.corpus.splits["train"]))
            with strategy(replicas).scope():
                checkpoint = load(
                    hyperparameters.model, self.corpus.labels, texts=texts, markers=added_tokens(hyperparameters)
                )
            self._built = (wanted, Trainer(checkpoint, hyperparameters.computed_in))
        return self._built[1]

    def _split(self, hyperparameters: Hyperparameters, split: str) -> EncodedDataset:
        # Only what changes the encoding is the key, so that other sweeps find it again.
        names = ("model", "markers", "context", "speaker_format", "min_speaker_count", "max_length")
        return self._encoded(split, tuple((name, getattr(hyperparameters, name)) for name in names))

    def _encode_split(self, split: str, encoding: tuple[tuple[str, Any], ...]) -> EncodedDataset:
        dialogues = self.corpus.splits[split]
        hyperparameters = self.recipe.hyperparameters.model_copy(update=dict(encoding))
        ids = {label: i for i, label in enumerate(self.corpus.labels)}
        labels = np.array([ids[utterance.label or ""] for utterance in utterances(dialogues)], np.int32)
        tokenizer = self._tokenizer(hyperparameters.model, added_tokens(hyperparameters))
        return EncodedDataset(encode_dialogues(tokenizer, dialogues, hyperparameters, self._speakers), labels)
