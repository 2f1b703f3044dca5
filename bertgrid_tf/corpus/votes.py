"""Distributions of the raters' votes as soft labels."""

import numpy as np

from bertgrid_tf.corpus.dialogue import Corpus, utterances
from bertgrid_tf.errors import UserError

VOTED = ("neutral", "joy", "sadness", "fear", "anger", "surprise", "disgust")
"""The classes of the raters' votes in EmotionLines, in the order of the votes."""


def vote_shares(corpus: Corpus, with_dev: bool = False) -> np.ndarray:
    """Compute the share of votes for each class of every utterance of train, and of dev, float32 [utterances, classes].

    Five raters assigned one of seven classes to every utterance of EmotionLines. The label is the class with at least
    three votes, or "non-neutral" without such a class. Raters could not vote for "non-neutral", so an utterance whose
    label has no vote is treated as if all raters had voted for the label. The label thus has the largest share of every
    utterance.

    Raises:
        UserError: An utterance has no votes for the seven classes.
    """
    lines = list(utterances((*corpus.splits["train"], *(corpus.splits["dev"] if with_dev else ()))))
    ids = {label: i for i, label in enumerate(corpus.labels)}
    shares = np.zeros((len(lines), len(ids)), np.float32)
    for row, line in zip(shares, lines, strict=True):
        if line.votes is None or len(line.votes) != len(VOTED):
            raise UserError(
                f"soft_label_weight needs the raters' votes, and {corpus.name} has none for {line.text!r}: leave it at "
                "0."
            )
        votes = {label: count for label, count in zip(VOTED, line.votes, strict=True) if count and label in ids}
        if line.label not in votes:
            votes = {line.label or "": 1}
        for label, count in votes.items():
            row[ids[label]] = count / sum(votes.values())
    return shares
