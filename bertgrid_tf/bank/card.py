"""The card of a recorded table: what its study was like, in numbers. Neither texts, nor paths, nor names of classes."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bertgrid_tf.bert.checkpoint_files import architecture
from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.bert.scratch import SCRATCH
from bertgrid_tf.bert.word_vectors import describe_vectors
from bertgrid_tf.corpus import Corpus, label_counts, utterances
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.metrics.classification import PER_CLASS, evaluate
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.encoding import CorpusEncoder

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Source = Literal["recorded", "paper", "published", "user"]


class MetaFeatures(BaseModel):
    """A task and a checkpoint in numbers, by which studies are compared; None where a source does not tell.

    Attributes:
        texts: Training texts.
        dev_texts: Dev texts behind a score.
        classes: Number of classes.
        label_entropy: Entropy of the training labels, in bits.
        tokens_mean: Mean tokens of an input before truncation.
        tokens_std: Their standard deviation.
        tokens_p99: Their 99th percentile.
        script: Unicode's word for the letters of most texts, as "latin" or "hangul".
        batch_size: Texts of a step.
        steps: Steps of an epoch.
        max_length: Tokens to which an input is cut.
        warmup_ratio: Warm-up's share of the schedule.
        lr_schedule: As of `Hyperparameters`.
        grid_schedule: How the rows of the table were trained, as in a recipe.
        precision: Of matrix products, as in a recipe.
        family: transformers' model type.
        pretrained: Whether the weights were trained before, and not drawn.
        layers: Layers of the checkpoint.
        width: Width of the checkpoint.
        vector_mean: Root mean square of the mean of the checkpoint's word vectors over the texts.
        vector_variance: Variance of a component of these vectors.
        metric: The metric of the scores; one of a class without its name, as "f1".
        baseline: The metric's value for the shares of the training labels as every text's probabilities; a fraction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: Count | None = None
    dev_texts: Count | None = None
    classes: Count | None = None
    label_entropy: Amount | None = None
    tokens_mean: Amount | None = None
    tokens_std: Amount | None = None
    tokens_p99: Amount | None = None
    script: str | None = None
    batch_size: Count | None = None
    steps: Count | None = None
    max_length: Count | None = None
    warmup_ratio: Amount | None = None
    lr_schedule: str | None = None
    grid_schedule: str | None = None
    precision: str | None = None
    family: str | None = None
    pretrained: bool | None = None
    layers: Count | None = None
    width: Count | None = None
    vector_mean: Amount | None = None
    vector_variance: Amount | None = None
    metric: str = "accuracy"
    baseline: float | None = None


class Card(MetaFeatures):
    """The card of a table.

    Attributes:
        task: Name of the task, the same for all tables of one task; for a user's study a number.
        source: Where the numbers come from: recorded for the bank, the paper's, ranges published elsewhere, or a user's
            study.
        seeds: The seeds, a table each; empty where they are unknown.
        machine: What the table was recorded on.
        seconds: Median seconds of an epoch, dev included.
        date: Day of the recording, as 2026-11-29.
        note: Whatever else a reader should know.
    """

    task: str
    source: Source
    seeds: tuple[int, ...] = ()
    machine: str | None = None
    seconds: Amount | None = None
    date: str | None = None
    note: str | None = None


def meta_features(
    recipe: Recipe, encoder: CorpusEncoder, hyperparameters: Hyperparameters | None = None
) -> MetaFeatures:
    """Measure a task and a checkpoint: tokens, script and word vectors on a sample of the training texts.

    Args:
        recipe: The recipe.
        encoder: Encodes the recipe's corpus.
        hyperparameters: The hyperparameters of the grid's trials; None for the recipe's initial ones. A batch size of
            `auto` is left unknown.

    Raises:
        UserError: The checkpoint cannot be read.
    """
    chosen, corpus = hyperparameters or recipe.hyperparameters, encoder.corpus
    counts, dev_counts = label_counts(corpus.splits["train"]), label_counts(corpus.splits["dev"])
    texts = sum(counts.values())
    sample, encoded = encoder.sample(chosen.model_copy(update={"truncation": "head"}), "train")  # an input a text
    lengths, vectors = encoded.full_lengths, describe_vectors(chosen.model, np.asarray(encoded.ids))
    size = dimensions(chosen.model, len(corpus.labels))
    batch = None if chosen.batch_size == "auto" else int(chosen.batch_size)
    return MetaFeatures(
        texts=texts,
        dev_texts=sum(dev_counts.values()),
        classes=len(corpus.labels),
        label_entropy=_entropy([counts[label] for label in corpus.labels]),
        tokens_mean=round(float(lengths.mean()), 2),
        tokens_std=round(float(lengths.std()), 2),
        tokens_p99=round(float(np.percentile(lengths, 99)), 1),
        script=script(utterance.text for utterance in utterances(sample)),
        batch_size=batch,
        steps=None if batch is None else -(-texts // batch),
        max_length=chosen.max_length,
        warmup_ratio=chosen.warmup_ratio,
        lr_schedule=chosen.lr_schedule,
        grid_schedule=recipe.grid_schedule,
        precision=chosen.precision,
        family=architecture(chosen.model),
        pretrained=SCRATCH.fullmatch(chosen.model) is None,
        layers=size.layers,
        width=size.width,
        vector_mean=None if vectors is None else float(f"{vectors[0]:.4g}"),
        vector_variance=None if vectors is None else float(f"{vectors[1]:.4g}"),
        metric=next((kind for kind in PER_CLASS if recipe.metric.startswith(f"{kind}_")), recipe.metric.split(":")[0]),
        baseline=_baseline(recipe.metric, corpus, counts),
    )


def script(texts: Iterable[str]) -> str | None:
    """Return Unicode's first word for the letters that most of the texts' letters are.

    Example:
        >>> script(["Hello, world!", "좋은 영화"])
        'latin'
    """
    letters = Counter(letter for text in texts for letter in text if letter.isalpha())
    scripts = Counter[str]()
    for letter, count in letters.items():
        scripts[unicodedata.name(letter, "?").split()[0].lower()] += count
    return max(scripts, key=lambda name: scripts[name], default=None)


def _entropy(counts: Iterable[int]) -> float:
    shares = np.array([count for count in counts if count], dtype=np.float64)
    shares /= shares.sum()
    return round(float(-(shares * np.log2(shares)).sum()) + 0.0, 4)


def _baseline(metric: str, corpus: Corpus, counts: Mapping[str | None, int]) -> float:
    """Score the shares of the training labels on dev, as the probabilities of every text."""
    ids = {label: number for number, label in enumerate(corpus.labels)}
    truth = np.array([ids[utterance.label or ""] for utterance in utterances(corpus.splits["dev"])])
    shares = np.array([counts[label] for label in corpus.labels], dtype=np.float64)
    probabilities = np.tile((shares / shares.sum()).astype(np.float32), (len(truth), 1))
    return round(float(evaluate(truth, probabilities, corpus.labels, [metric])[metric]), 4)
