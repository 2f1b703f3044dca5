"""Averaging the weights of a search's rows (model soups, Wortsman et al. 2022, arXiv 2203.05482)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertgrid_tf.bert.encode import EncodedTexts
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.files import replacing


@dataclass(frozen=True)
class SoupMember:
    """The weights that a row had after its best epoch.

    Attributes:
        learning_rate, epoch: the cell.
        score: on dev.
        file: what `keep` wrote.
    """

    learning_rate: float
    epoch: int
    score: float
    file: Path


def kept(folder: Path, epoch: int) -> Path:
    """Where the weights after a run's best epoch lie, in its folder."""
    return folder / f"weights-{epoch}.npz"


def keep(trainer: Trainer, folder: Path, epoch: int) -> None:
    """Writes the model's weights in a run's folder, in the place of those of an earlier epoch."""
    with replacing(kept(folder, epoch)) as out:
        np.savez(out, *(variable.numpy() for variable in trainer.checkpoint.model.variables))
    for earlier in range(1, epoch):
        kept(folder, earlier).unlink(missing_ok=True)


def greedy(
    trainer: Trainer, ingredients: Sequence[SoupMember], texts: EncodedTexts, truth: np.ndarray, recipe: Recipe
) -> tuple[list[SoupMember], np.ndarray]:
    """The greedy soup: from the best row on, each is averaged in if dev's score is no worse with it.

    The rows began with the same weights and head, so that their weights lie in one basin, where averages are good too.
    The trainer's model is left with the soup.

    Args:
        trainer: of the rows' checkpoint.
        ingredients: at least one.
        texts, truth: the dev split; truth int [n].
        recipe: its metric decides.

    Returns:
        what went in, and the soup's probabilities, float32 [n, classes].
    """
    chosen: list[SoupMember] = []
    total: list[np.ndarray] = []
    best, probabilities = -np.inf, np.empty(0)
    for one in sorted(ingredients, key=lambda one: -recipe.signed(one.score)):
        with np.load(one.file) as stored:
            weights = [stored[name] for name in stored.files]
        tried = [mine + theirs for mine, theirs in zip(total, weights, strict=True)] if total else weights
        _pour(trainer, tried, len(chosen) + 1)
        said = trainer.probabilities(texts)
        reached = recipe.signed(evaluate(truth, said, trainer.checkpoint.labels)[recipe.metric])
        if reached >= best:
            chosen, total, best, probabilities = [*chosen, one], tried, reached, said
    _pour(trainer, total, len(chosen))
    return chosen, probabilities


def _pour(trainer: Trainer, total: Sequence[np.ndarray], count: int) -> None:
    """Gives the model the mean of so many summed weights."""
    for variable, value in zip(trainer.checkpoint.model.variables, total, strict=True):
        variable.assign(value / count)
