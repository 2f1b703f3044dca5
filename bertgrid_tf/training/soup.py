"""Averaging the weights of a search's rows (model soups, Wortsman et al. 2022, arXiv 2203.05482)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.recipe import Recipe


@dataclass(frozen=True)
class SoupMember:
    """The weights of a row after its best epoch.

    Attributes:
        learning_rate: The learning rate of the row.
        epoch: The epoch, from 1.
        score: The study's metric on dev.
        file: The file of `Trainer.save_weights`.
    """

    learning_rate: float
    epoch: int
    score: float
    file: Path


def greedy_soup(
    trainer: Trainer, members: Sequence[SoupMember], dev: EncodedDataset, recipe: Recipe
) -> tuple[list[SoupMember], np.ndarray]:
    """Average rows greedily: from the best on, each is added if the dev score is no worse with it.

    The rows began with the same weights and head, so that their weights lie in one basin, where averages are good too.
    The trainer's model is left with the average.

    Args:
        trainer: The trainer of the rows' checkpoint.
        members: One row or more.
        dev: The dev split.
        recipe: The recipe, whose metric decides.

    Returns:
        The rows that were averaged, and the average's probabilities, float32 [texts, classes].
    """
    averaged: list[SoupMember] = []
    total: list[np.ndarray] = []
    best, probabilities = -np.inf, np.empty(0)
    for member in sorted(members, key=lambda member: -recipe.signed(member.score)):
        weights = trainer.load_weights(member.file, "delete it to average the other rows")
        candidate = [mine + theirs for mine, theirs in zip(total, weights, strict=True)] if total else weights
        _assign_mean(trainer, candidate, len(averaged) + 1)
        predicted = trainer.probabilities(dev.texts)
        score = recipe.signed(
            evaluate(dev.labels, predicted, trainer.checkpoint.labels, [recipe.metric])[recipe.metric]
        )
        if score >= best:
            averaged, total, best, probabilities = [*averaged, member], candidate, score, predicted
    _assign_mean(trainer, total, len(averaged))
    return averaged, probabilities


def _assign_mean(trainer: Trainer, total: Sequence[np.ndarray], count: int) -> None:
    for variable, value in zip(trainer.checkpoint.model.variables, total, strict=True):
        variable.assign(value / count)
