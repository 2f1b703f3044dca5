"""The texts that a study's runs label otherwise than the data: likely label errors, and hard texts."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from bertgrid_tf.analysis.study_scores import StudyScores
from bertgrid_tf.corpus import Corpus, Dialogue, Utterance, utterances
from bertgrid_tf.storage.predictions import read_predictions
from bertgrid_tf.storage.records import HARD, LIKELY_ERROR, Mistake

CONTEXT = 2
"""Utterances before a text that are its context."""


def list_mistakes(scores: StudyScores, corpus: Corpus) -> list[Mistake]:
    """List the texts whose label is not the class with the highest mean probability over a study's runs.

    On dev every run counts with its best epoch. On train, if the final model has a member for each fold, the one that
    was trained without a text is its only run. A run that predicts one class for all texts does not count, since it
    tells nothing about a text. A mistake is a likely label error if

    * every run contradicts the label, and the mean probability of the predicted class is above one half,
    * the text is off the diagonal of the confident joint (`confident_classes`),
    * the diagonal is the largest in the joint's row of the label. Confident learning presumes this: where more texts of
      a class are counted as one other, the runs have not learned the class.

    The other mistakes are hard texts.

    Args:
        scores: The study's.
        corpus: Its corpus.

    Returns:
        The mistakes of dev and then of train, those with the highest probability of the predicted class first; none
        where no run counts.
    """
    runs, folder = scores.runs(), scores.folder
    mistakes = _mistakes(runs, scores.split.truth, corpus, "dev") if runs else []
    if folder.out_of_fold_file.exists():
        read = read_predictions(folder.out_of_fold_file, corpus.labels, folder.read_metadata().classes["train"])
        mistakes += _mistakes([read.probabilities], read.truth, corpus, "train")
    return mistakes


def _mistakes(
    runs: Sequence[np.ndarray], truth: np.ndarray, corpus: Corpus, split: Literal["dev", "train"]
) -> list[Mistake]:
    runs = [run for run in runs if len(np.unique(run.argmax(axis=1))) > 1]
    if not runs:
        return []
    labels, dialogues = corpus.labels, corpus.splits[split]
    mean = np.stack(runs).mean(axis=0, dtype=np.float64)
    contradicting = np.sum([run.argmax(axis=1) != truth for run in runs], axis=0)
    confident, predicted = confident_classes(truth, mean), mean.argmax(axis=1)
    joint = np.zeros((len(labels), len(labels)), int)
    np.add.at(joint, (truth[confident >= 0], confident[confident >= 0]), 1)
    learned = joint.diagonal() >= joint.max(axis=1)
    off_diagonal = (confident >= 0) & (confident != truth) & learned[truth]
    likely = off_diagonal & (contradicting == len(runs)) & (mean.max(axis=1) > 0.5)
    texts, contexts = list(utterances(dialogues)), _contexts(dialogues)
    wrong = np.flatnonzero(predicted != truth)
    return [
        Mistake(
            id=texts[at].key or str(at + 1),
            context=contexts[at],
            text=" / ".join(texts[at].texts),
            label=labels[truth[at]],
            predicted=labels[predicted[at]],
            p_predicted=round(float(mean[at, predicted[at]]), 4),
            p_label=round(float(mean[at, truth[at]]), 4),
            contradicting=int(contradicting[at]),
            runs=len(runs),
            kind=LIKELY_ERROR if likely[at] else HARD,
            split=split,
        )
        for at in wrong[np.argsort(-mean[wrong, predicted[wrong]], kind="stable")]
    ]


def confident_classes(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the class that each text is confidently counted as in the confident joint of confident learning.

    That is the most probable of the classes whose probability reaches the class's threshold, which is the mean
    probability of the class over the texts that are labelled with it. A text whose class is another than its label
    is off the diagonal of the joint.

    Source: Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70 (2021),
    section 3.1.

    Args:
        truth: The class ids, int [texts].
        probabilities: float [texts, classes], of models that were not trained on these texts.

    Returns:
        Class ids, int [texts]; -1 where no class reaches its threshold.

    Example:
        >>> probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.95, 0.05]])
        >>> confident_classes(np.array([0, 0, 1, 1, 1]), probabilities)
        array([ 0, -1,  1,  1,  0])
    """
    counts = np.bincount(truth, minlength=probabilities.shape[1])
    sums = np.bincount(truth, probabilities[np.arange(len(truth)), truth], probabilities.shape[1])
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    return np.where(reached.max(axis=1) < 0, -1, reached.argmax(axis=1))


def _contexts(dialogues: Sequence[Dialogue]) -> list[str]:
    return [
        " / ".join(_line(line) for line in dialogue.utterances[max(place - CONTEXT, 0) : place])
        for dialogue in dialogues
        for place in range(len(dialogue.utterances))
    ]


def _line(utterance: Utterance) -> str:
    return f"{utterance.speaker}: {utterance.text}" if utterance.speaker else utterance.text
