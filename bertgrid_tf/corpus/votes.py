"""What each rater said, where a label is what most of them did."""

import numpy as np

from bertgrid_tf.corpus.dialogue import Corpus, utterances
from bertgrid_tf.errors import UserError

VOTED = ("neutral", "joy", "sadness", "fear", "anger", "surprise", "disgust")
"""The classes that EmotionLines' raters chose from, in the order of its votes."""


def vote_shares(corpus: Corpus) -> np.ndarray:
    """Each class's share of the raters' votes for every training utterance, float32 [utterances, classes].

    Five raters gave every line of EmotionLines one of seven classes. Its label is the one that at least three of them
    chose, else "non-neutral". Nobody could vote for that, so that votes alone would say that it does not exist: an
    utterance whose label got no vote counts as if all had voted for it. The label thus has the largest share of every
    utterance.

    Raises:
        UserError: an utterance has no votes for these classes.
    """
    lines = list(utterances(corpus.splits["train"]))
    ids = {label: i for i, label in enumerate(corpus.labels)}
    shares = np.zeros((len(lines), len(ids)), np.float32)
    for row, line in zip(shares, lines, strict=True):
        if line.votes is None or len(line.votes) != len(VOTED):
            raise UserError(
                f"soft_labels needs the raters' votes, and {corpus.name} has none for {line.text!r}: leave it at 0."
            )
        votes = {label: count for label, count in zip(VOTED, line.votes, strict=True) if count and label in ids}
        if line.label not in votes:
            votes = {line.label or "": 1}
        for label, count in votes.items():
            row[ids[label]] = count / sum(votes.values())
    return shares
