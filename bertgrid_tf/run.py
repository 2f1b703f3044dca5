"""One configuration on one corpus ▶ scores, epoch by epoch: where dialogues meet BERT."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bertgrid_tf.bert.checkpoint import check_available, load, load_tokenizer
from bertgrid_tf.bert.encode import Encoded, check_room, encode
from bertgrid_tf.bert.trainer import EpochResult, Labelled, OnStep, Trainer, TrainSettings
from bertgrid_tf.corpus import (
    NONE_MARKER,
    SAYS_MARKER,
    Corpus,
    Dialogue,
    Layout,
    render,
    resample,
    segment_count,
    speaker_counts,
    utterances,
)
from bertgrid_tf.errors import UserError
from bertgrid_tf.files import write_table
from bertgrid_tf.recipe import Recipe, Settings, Value

OnRun = Callable[[Mapping[str, Value], int], None]


@dataclass(frozen=True)
class Schedule:
    """How long a run is.

    Attributes:
        horizon: epochs that warm-up and decay are spread over.
        stop_after: epochs to train.
    """

    horizon: int
    stop_after: int


def encode_dialogues(
    tokenizer: Any, dialogues: Sequence[Dialogue], settings: Settings, speakers: Mapping[str, int]
) -> Encoded:
    """Every utterance as the settings lay it out.

    Args:
        tokenizer: the checkpoint's.
        dialogues: of any split, labelled or not.
        settings: context, speaker_format, rare_speaker and max_length count.
        speakers: the training split's `corpus.speaker_counts`.
    """
    layout = Layout(settings.context, settings.speaker_format, settings.rare_speaker)
    texts = [(example.segments, example.focus) for example in render(dialogues, layout, speakers)]
    return encode(tokenizer, texts, settings.max_length)


def token_lengths(corpus: Corpus, settings: Settings) -> dict[str, np.ndarray]:
    """Tokens of every input in the settings' layout before any cut, int64 [utterances], by split."""
    train = corpus.splits["train"]
    tokenizer = load_tokenizer(settings.model, (utterance.text for utterance in utterances(train)))
    speakers = speaker_counts(train)
    return {
        split: encode_dialogues(tokenizer, dialogues, settings, speakers).full_lengths
        for split, dialogues in corpus.splits.items()
    }


class Runs:
    """The training runs of one recipe on one corpus: a `tuners.Run`.

    Checkpoints are built and texts encoded once and kept for the next run.
    """

    def __init__(self, corpus: Corpus, recipe: Recipe, predictions: Path, on_run: OnRun, on_step: OnStep) -> None:
        """
        Args:
            corpus: train and dev are used; a test split is not looked at.
            recipe: its seed, metric and markers count; settings come with each run.
            predictions: the folder for every run's dev predictions at its best epoch.
            on_run: called when a run begins, with its values and the steps of one of its epochs.
            on_step: called after every training step (`bert.trainer.Trainer.run`).
        """
        self.corpus = corpus
        self.recipe = recipe
        self._predictions = predictions
        self._on_run = on_run
        self._on_step = on_step
        self._speakers = speaker_counts(corpus.splits["train"])
        # One model at a time: two large ones may not fit the GPU.
        self._trainer = lru_cache(maxsize=1)(self._build_trainer)
        self._encoded = lru_cache(maxsize=4)(self._encode_split)

    def __call__(self, values: Mapping[str, Value], folder: Path) -> Iterator[dict[str, float]]:
        """Trains one configuration and yields the dev metrics of every epoch (`score.metrics.evaluate`)."""
        schedule = Schedule(int(values["epochs"]), int(values["stop_after"]))
        settings = Settings.model_validate({name: values[name] for name in Settings.model_fields})
        for result in self.train(settings, schedule, folder, folder.name):
            yield result.metrics

    def train(
        self, settings: Settings, schedule: Schedule, folder: Path, name: str, keep_weights: bool = False
    ) -> Iterator[EpochResult]:
        """As `__call__`, with typed settings; `name` is that of the predictions' file."""
        trainer = self.trainer(settings)
        self._check_length(settings)
        train = self._split(settings, "train")
        classes = np.array(self.corpus.labels)[train.labels]
        drawn = resample(classes, settings.oversample, settings.undersample, self.recipe.seed)
        train = Labelled(train.texts.take(drawn), train.labels[drawn])
        dev = self._split(settings, "dev")
        run = TrainSettings(
            learning_rate=settings.learning_rate,
            epochs=schedule.horizon,
            stop_after=schedule.stop_after,
            batch_size=settings.batch_size,
            warmup=settings.warmup,
            schedule=settings.schedule,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            grouped=settings.batching == "grouped",
            seed=self.recipe.seed,
        )
        self._on_run(settings.model_dump(), -(-len(drawn) // settings.batch_size))
        best: EpochResult | None = None
        for result in trainer.run(train, dev, run, folder, self._on_step, keep_weights):
            if not result.diverged and (best is None or self._better(result, best)):
                best = result
                self._write_predictions(name, best, dev.labels)
            yield result

    def check(self) -> None:
        """Raises UserError where the recipe's settings do not fit its checkpoint or its texts; trains nothing."""
        settings, sweeps = self.recipe.settings, self.recipe.sweeps
        models = (str(model) for model in sweeps.get("model", ()))
        for model in {settings.model, *models, *self.recipe.final.models()}:
            check_available(model)
        tokenizer = self.trainer(settings).checkpoint.tokenizer
        for max_length in (settings.max_length, *sweeps.get("max_length", ())):
            self._check_length(settings.model_copy(update={"max_length": max_length}))
            for context in (settings.context, *sweeps.get("context", ())):
                check_room(tokenizer, segment_count(str(context)), int(max_length))
        for split in ("train", "dev"):
            self._split(settings, split)

    def trainer(self, settings: Settings) -> Trainer:
        """The trainer of the settings' checkpoint, built at the first call."""
        return self._trainer(settings.model, settings.markers == "tokens")

    def _check_length(self, settings: Settings) -> None:
        reach = self.trainer(settings).checkpoint.max_length
        if settings.max_length > reach:
            raise UserError(f"max_length {settings.max_length} is beyond the {reach} positions of {settings.model}.")

    def _split(self, settings: Settings, split: str) -> Labelled:
        # Only what changes the encoding is the key, so that other sweeps find it again.
        names = ("model", "markers", "context", "speaker_format", "rare_speaker", "max_length")
        return self._encoded(split, tuple((name, getattr(settings, name)) for name in names))

    def _encode_split(self, split: str, encoding: tuple[tuple[str, Any], ...]) -> Labelled:
        dialogues = self.corpus.splits[split]
        settings = self.recipe.settings.model_copy(update=dict(encoding))
        ids = {label: i for i, label in enumerate(self.corpus.labels)}
        labels = np.array([ids[utterance.label or ""] for utterance in utterances(dialogues)], np.int32)
        tokenizer = self.trainer(settings).checkpoint.tokenizer
        return Labelled(encode_dialogues(tokenizer, dialogues, settings, self._speakers), labels)

    def _build_trainer(self, model: str, markers: bool) -> Trainer:
        import gc

        import tf_keras

        # The former model's graphs would stay in Keras's global state.
        tf_keras.backend.clear_session()
        gc.collect()
        texts = (utterance.text for utterance in utterances(self.corpus.splits["train"]))
        added = (NONE_MARKER, SAYS_MARKER) if markers else ()
        return Trainer(load(model, self.corpus.labels, texts=texts, markers=added))

    def _better(self, one: EpochResult, other: EpochResult) -> bool:
        ours, theirs = one.metrics[self.recipe.metric], other.metrics[self.recipe.metric]
        return ours > theirs if self.recipe.direction() == "max" else ours < theirs

    def _write_predictions(self, name: str, result: EpochResult, truth: np.ndarray) -> None:
        assert result.probabilities is not None
        names = np.array(self.corpus.labels)
        table = pd.DataFrame(result.probabilities, columns=[f"p_{label}" for label in self.corpus.labels])
        table.insert(0, "epoch", result.epoch)
        table.insert(1, "label", names[truth])
        table.insert(2, "predicted", names[result.probabilities.argmax(axis=1)])
        write_table(self._predictions / f"{name}.csv", table)
