"""Is a difference real? Candidates that were scored on the same texts, compared by drawing whole dialogues.

The texts of a dialogue share its speakers and its subject, and a model that is at home in them is right more often: a
dialogue, not a text, is what one dev split has and another has not. So a score's spread is that over draws of
dialogues, with replacement (the cluster bootstrap; Field & Welsh 2007, Bootstrapping clustered data, JRSS B 69), and
all candidates are scored on the same draws, which pairs them.

Intervals and p values are Student's, of the bootstrap's standard error, with as many degrees of freedom as there are
dialogues less one: percentiles of the draws are too narrow where dialogues are few. McNemar's exact test is used where
it holds, for accuracy on texts that stand alone. Of 2,000 pairs of equally good models that disagree on 20 % of the
texts, so many percent were found to differ at 5 %:

    dialogues (texts)      accuracy   macro-F1   accuracy, by McNemar
    100 (1,178)                 5.1        5.1       10.3
    100 (1,178)                 5.5        5.4       22.7   (models that suit different dialogues)
     30 (350)                   4.3        5.1        8.5
     12 (150)                   6.0        6.3        8.2
    500 (500)                   2.9        4.6        2.9   (which is what is used)

and the intervals held the true accuracy in 94 to 96 %. What rests on a handful of texts, as the F1 of a rare class
does, is less sure than its interval says.

Where some candidate has runs with several seeds, it is the *settings* that are compared: the runs' own variance, pooled
over the candidates, is added. With three seeds, 2 points apart (standard deviation), a difference was then found in
4.9 %. Where each has one run, a p value speaks of these runs and not of another seed's: settings without a difference
were told apart by one run each in 13 % (seeds 1 point apart) and 33 % (2 points).

These figures are those of `pytest tests/score/test_promises.py -m "slow or not slow" -rP`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, nan, sqrt
from typing import Literal

import numpy as np

from bertgrid_tf.score.metrics import Direction

ALPHA = 0.05
DRAWS = 2000
HALVES = 500

# What a wrong choice may cost before it matters: about what 1,178 texts can tell (see `interaction`).
MARGIN = 0.02

Verdict = Literal["independent as far as can be seen", "interacts", "too little data to tell"]
INDEPENDENT: Verdict = "independent as far as can be seen"
INTERACTS: Verdict = "interacts"
TOO_LITTLE_DATA: Verdict = "too little data to tell"

# Probabilities by the runs of one setting, which differ in their seed alone: float [runs, n, classes].
Candidate = np.ndarray

# Floats in the largest array of a chunk of draws: 32 MB.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Split:
    """What all candidates are scored on.

    Attributes:
        truth: label ids, int [n].
        dialogues: the number of each text's dialogue, int [n].
        labels: class names in the order of their ids.
    """

    truth: np.ndarray
    dialogues: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """A difference of scores in the metric's own unit, with its 95 % interval and the p value of there being none.

    Of a split that is a single dialogue nothing can be told: `low` and `high` are NaN, `p` is 1.
    """

    estimate: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """Candidates compared with the best of them.

    Attributes:
        best: its index; of equal ones the first.
        p: of no difference from the best, after Holm's correction; 1 for the best itself.
        tied: whether it cannot be told from the best at 5 %.
        differences: each candidate less the best; their p values are as they are without the correction.
        intervals: of each candidate's score, as `interval` gives it, but with the variance between runs pooled.
    """

    best: int
    p: tuple[float, ...]
    tied: tuple[bool, ...]
    differences: tuple[Difference, ...]
    intervals: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Interaction:
    """Whether the choice of a parameter's level holds at another learning rate and epoch.

    Attributes:
        at_start: chosen level less runner-up where they were swept.
        at_winner: chosen level less runner-up at the winning learning rate and epoch.
        change: `at_winner` less `at_start`.
        verdict: what is made of it.
    """

    at_start: Difference
    at_winner: Difference
    change: Difference
    verdict: Verdict


def mcnemar(truth: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """The p value of McNemar's exact test that two classifiers are equally often right, two-sided (McNemar 1947).

    It takes the texts as independent of each other, and finds too much where they are not.

    Args:
        truth: label ids, int [n].
        one, other: predicted label ids, int [n].
    """
    from scipy.stats import binomtest

    only_one = int(((one == truth) & (other != truth)).sum())
    only_other = int(((one != truth) & (other == truth)).sum())
    discordant = only_one + only_other
    return float(binomtest(only_one, discordant).pvalue) if discordant else 1.0


def holm(p: Sequence[float]) -> np.ndarray:
    """P values of several tests, corrected so that an error in any of them is as rare as said (Holm 1979).

    Returns:
        float [tests], in the order given.
    """
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)


def interval(split: Split, candidate: Candidate, metric: str) -> tuple[float, float]:
    """The 95 % interval of a candidate's score (its mean over runs), over dialogues and, if there are several, runs.

    Args:
        split: what it is scored on.
        candidate: float [runs, n, classes].
        metric: any that `metrics.evaluate` gives.

    Returns:
        Its ends in the metric's own unit; NaN where the split is a single dialogue.
    """
    return _interval(_score_all(split, [candidate], metric), 0)


def difference(split: Split, one: Candidate, other: Candidate, metric: str) -> Difference:
    """One candidate's score less another's, both on the same draws of dialogues.

    The p value of a difference in accuracy is McNemar's where both have one run and every dialogue is a single text;
    otherwise, and for any other metric, it is Student's and agrees with the interval.

    Args:
        split: what they are scored on.
        one, other: float [runs, n, classes]; they may have different numbers of runs.
        metric: any that `metrics.evaluate` gives.
    """
    return _difference(_score_all(split, [one, other], metric), 0, 1)


def compare_with_best(split: Split, candidates: Sequence[Candidate], metric: str, direction: Direction) -> Comparison:
    """Which candidates cannot be told from the best of them.

    Each is compared with the best by `difference`, and Holm's correction is over these comparisons. It also pays for
    the best having been picked by its score: of 2, 4, 10 and 24 candidates without any difference, a designated one was
    among the tied in 97.0 to 98.5 % of 1,000 simulations, in accuracy and in macro-F1.

    Of two candidates that disagree on 20 % of 1,178 texts the one that is worse by 5 points of accuracy was told from
    the other in 85 % (97 % where no dialogue suits one of them more); one bad one among 24 was in 96 %. That one good
    candidate stands out is harder: of 3, 9 and 23 that are 5 points worse, 83, 72 and 61 % were told from it.
    """
    scored = _score_all(split, candidates, metric)
    best = int((scored.observed if direction == "max" else -scored.observed).argmax())
    everyone = range(len(candidates))
    differences = tuple(_difference(scored, index, best) for index in everyone)
    others = [index for index in everyone if index != best]
    p = np.ones(len(candidates))
    p[others] = holm([differences[index].p for index in others])
    return Comparison(
        best=best,
        p=tuple(p.tolist()),
        tied=tuple((p >= ALPHA).tolist()),
        differences=differences,
        intervals=tuple(_interval(scored, index) for index in everyone),
    )


def selection_optimism(split: Split, candidates: Sequence[Candidate], metric: str, direction: Direction) -> float:
    """By how much the best candidate's score is expected to be too good because it was picked for it.

    The selection is done again, on random halves of the dialogues: the best of one half is scored on the other, which
    had no part in picking it (as Cawley & Talbot 2010, JMLR 11, ask). Half of the texts scatter √2 times as much as
    all, and the mean loss is divided by that, which is exact for equal candidates and a little too much where one is
    ahead. To score the best of a bootstrap draw on the whole split instead, which overlaps it, gives too little: the
    candidates' scores there are already as far apart as chance made them.

    In points of accuracy on 1,178 texts, means of 500 simulations and in brackets the truth: 24 equal candidates 2.26
    (2.10); the paper's 70 cells for Friends 2.41 (2.27); one of 10 ahead by 3 points 1.08 (0.74), by 8 points 0.01
    (0.06, which is chance).

    Returns:
        At least 0, in the metric's own unit; NaN where the split is a single dialogue. The luck of the runs' seeds is
        no part of it.
    """
    tally = _tally(split, candidates, metric)
    dialogues = len(tally.support)
    if dialogues == 1:
        return nan

    def halves(generator: np.random.Generator, rows: int) -> np.ndarray:
        return generator.permuted(np.tile(np.arange(dialogues) < dialogues // 2, (rows, 1)), axis=1)

    lost = 0.0
    for half in _chunks(tally, halves, HALVES):
        one, other = (_means(tally, _scores(tally, weights)) for weights in (half, ~half))
        if direction == "min":
            one, other = -one, -other
        ahead = one - other
        best_of_one, best_of_other = (scores.argmax(axis=1)[:, None] for scores in (one, other))
        both = np.take_along_axis(ahead, best_of_one, axis=1) - np.take_along_axis(ahead, best_of_other, axis=1)
        lost += float(both.sum()) / 2
    return lost / HALVES / sqrt(2)


def interaction(
    split: Split,
    at_start: tuple[Candidate, Candidate],
    at_winner: tuple[Candidate, Candidate],
    metric: str,
    direction: Direction,
    margin: float = MARGIN,
) -> Interaction:
    """Whether a parameter that was swept at one learning rate would have been chosen otherwise at the winning one.

    What counts is the choice, hence the two levels at the winner: it "interacts" if the runner-up is better there at
    5 %. There is "too little data to tell" if it is not, but the interval leaves room for its being better by more
    than the margin. The change is shown and not judged: the chosen level was picked for its score at the start, so that
    its lead is expected to shrink.

    Args:
        split: what all are scored on.
        at_start: the chosen level and the runner-up where they were swept.
        at_winner: the same at the winning learning rate and epoch.
        metric: any that `metrics.evaluate` gives.
        direction: in which the metric is better.
        margin: in the metric's own unit. The default, 2 points, is about the smallest paired difference that 1,178
            texts can show: 1.8 points where two models disagree on 10 % of them, 2.6 where on 20 %.
    """
    scored = _score_all(split, [*at_start, *at_winner], metric)
    start, winner = _difference(scored, 0, 1), _difference(scored, 2, 3)
    change = _contrast(scored, np.array([-1, 1, 1, -1]))
    lead, at_worst = (winner.estimate, winner.low) if direction == "max" else (-winner.estimate, -winner.high)
    if lead < 0 and winner.p < ALPHA:
        verdict = INTERACTS
    elif at_worst >= -margin:
        verdict = INDEPENDENT
    else:
        verdict = TOO_LITTLE_DATA
    return Interaction(start, winner, change, verdict)


@dataclass(frozen=True)
class _Tally:
    """Of each dialogue what a metric is computed from, so that a draw of dialogues is a sum.

    Attributes:
        metric, labels: whose metric.
        runs: of each candidate, int [candidates].
        counts: texts rightly given to each class, texts given to each class, sum of the cross-entropies in nats; float
            [dialogues, all runs, 2 * classes + 1], the candidates' runs one after another.
        support: texts of each class, float [dialogues, classes].
    """

    metric: str
    labels: tuple[str, ...]
    runs: np.ndarray
    counts: np.ndarray
    support: np.ndarray


def _tally(split: Split, candidates: Sequence[Candidate], metric: str) -> _Tally:
    probabilities = np.concatenate(candidates)
    classes, n = len(split.labels), len(split.truth)
    numbers, dialogue = np.unique(split.dialogues, return_inverse=True)
    run = np.arange(len(probabilities))[:, None]
    predicted = probabilities.argmax(axis=2)
    likelihood = np.maximum(probabilities[:, np.arange(n), split.truth], np.finfo(np.float32).tiny)
    counts = np.zeros((len(numbers), len(probabilities), 2 * classes + 1))
    np.add.at(counts, (dialogue, run, predicted), predicted == split.truth)
    np.add.at(counts, (dialogue, run, classes + predicted), 1)
    np.add.at(counts[..., -1], (dialogue, run), -np.log(likelihood))
    support = np.zeros((len(numbers), classes))
    np.add.at(support, (dialogue, split.truth), 1)
    return _Tally(metric, split.labels, np.array([len(candidate) for candidate in candidates]), counts, support)


def _scores(tally: _Tally, weights: np.ndarray) -> np.ndarray:
    """The metric as `metrics.evaluate` defines it, of each run on each draw: float [draws, all runs].

    Args:
        tally: of all dialogues.
        weights: how often each draw has each dialogue, [draws, dialogues].
    """
    weights = weights.astype(np.float64)
    classes = len(tally.labels)
    counts = (weights @ tally.counts.reshape(len(tally.counts), -1)).reshape(len(weights), *tally.counts.shape[1:])
    right, predicted, loss = counts[..., :classes], counts[..., classes:-1], counts[..., -1]
    support = (weights @ tally.support)[:, None]
    texts = support.sum(axis=2)
    if tally.metric == "loss":
        return loss / texts
    if tally.metric == "accuracy":
        return right.sum(axis=2) / texts
    f1 = 2 * right / np.maximum(predicted + support, 1)
    if tally.metric == "macro_f1":
        return f1.mean(axis=2)
    if tally.metric == "weighted_f1":
        return (f1 * support).sum(axis=2) / texts
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(support, 1)
    name, _, label = tally.metric.partition("_")
    return {"precision": precision, "recall": recall, "f1": f1}[name][..., tally.labels.index(label)]


def _means(tally: _Tally, scores: np.ndarray) -> np.ndarray:
    """Each candidate's mean over its runs: [draws, all runs] ▶ [draws, candidates]."""
    return np.add.reduceat(scores, np.cumsum(tally.runs) - tally.runs, axis=1) / tally.runs


def _chunks(tally: _Tally, weigh: Callable[[np.random.Generator, int], np.ndarray], draws: int) -> Iterator[np.ndarray]:
    """Weights of all draws, always the same ones, in chunks that bound the memory."""
    generator = np.random.default_rng(0)
    rows = max(1, _CHUNK // max(len(tally.counts), tally.counts[0].size))
    for first in range(0, draws, rows):
        yield weigh(generator, min(rows, draws - first))


@dataclass(frozen=True)
class _Scored:
    """Candidates' scores, and how they vary.

    Attributes:
        split, candidates, metric: what was scored.
        dialogues: how many there are.
        observed: mean over runs on the split, float [candidates].
        drawn: the same on each draw of dialogues, float [draws, candidates].
        runs: of each candidate, int [candidates].
        between_runs: variance of the scores of one candidate's runs, pooled over the candidates; 0 where none has
            several.
        freedom: the degrees of freedom of `between_runs`.
    """

    split: Split
    candidates: Sequence[Candidate]
    metric: str
    dialogues: int
    observed: np.ndarray
    drawn: np.ndarray
    runs: np.ndarray
    between_runs: float
    freedom: int


def _score_all(split: Split, candidates: Sequence[Candidate], metric: str) -> _Scored:
    tally = _tally(split, candidates, metric)
    dialogues = len(tally.support)

    def bootstrap(generator: np.random.Generator, rows: int) -> np.ndarray:
        drawn = generator.integers(dialogues, size=(rows, dialogues)) + dialogues * np.arange(rows)[:, None]
        return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)

    of_runs = _scores(tally, np.ones((1, dialogues)))
    observed = _means(tally, of_runs)[0]
    drawn = [_means(tally, _scores(tally, weights)) for weights in _chunks(tally, bootstrap, DRAWS)]
    freedom = int((tally.runs - 1).sum())
    squares = float(((of_runs[0] - np.repeat(observed, tally.runs)) ** 2).sum())
    return _Scored(
        split,
        candidates,
        metric,
        dialogues,
        observed,
        np.concatenate(drawn),
        tally.runs,
        squares / freedom if freedom else 0.0,
        freedom,
    )


def _interval(scored: _Scored, index: int) -> tuple[float, float]:
    found = _contrast(scored, np.arange(len(scored.runs)) == index)
    # Student's interval is symmetric, and may leave the range of a share.
    low, high = np.clip((found.low, found.high), 0, inf if scored.metric == "loss" else 1)
    return float(low), float(high)


def _difference(scored: _Scored, one: int, other: int) -> Difference:
    index = np.arange(len(scored.runs))
    found = _contrast(scored, (index == one).astype(int) - (index == other))
    split = scored.split
    if scored.metric == "accuracy" and scored.dialogues == len(split.truth) and not scored.freedom:
        predictions = (scored.candidates[candidate][0].argmax(axis=1) for candidate in (one, other))
        return replace(found, p=mcnemar(split.truth, *predictions))
    return found


def _contrast(scored: _Scored, coefficients: np.ndarray) -> Difference:
    """The sum of the candidates' scores times coefficients [candidates], with Student's interval and p value.

    Its variance is that over draws of dialogues plus that between runs; where the runs' scores also differ by dialogue,
    both hold that part, and the sum is on the safe side (Owen 2007, The pigeonhole bootstrap, Ann. Appl. Stat. 1). The
    degrees of freedom of the sum are Satterthwaite's (1946).
    """
    from scipy.stats import t

    estimate = float(scored.observed @ coefficients)
    if scored.dialogues == 1:
        return Difference(estimate, nan, nan, 1.0)
    drawn = scored.drawn @ coefficients
    # The variance of a bootstrap mean is that of a sample divided by n; without bias it would be by n - 1.
    by_dialogue = float(drawn.var()) * scored.dialogues / (scored.dialogues - 1)
    by_run = scored.between_runs * float((coefficients**2 / scored.runs).sum())
    if np.ptp(drawn) == 0 and by_run == 0:
        # All dialogues agree, and would so by chance as often as a sign test has it.
        return Difference(estimate, estimate, estimate, 2.0 ** (1 - scored.dialogues) if estimate else 1.0)
    variance = by_dialogue + by_run
    of_runs = by_run**2 / scored.freedom if scored.freedom else 0.0
    freedom = variance**2 / (by_dialogue**2 / (scored.dialogues - 1) + of_runs)
    error = sqrt(variance)
    half = float(t.ppf(1 - ALPHA / 2, freedom)) * error
    return Difference(estimate, estimate - half, estimate + half, float(2 * t.sf(abs(estimate) / error, freedom)))
