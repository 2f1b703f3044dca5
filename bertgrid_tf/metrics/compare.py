"""Paired comparison of candidates that are scored on the same texts, by a bootstrap over whole dialogues.

The texts of a dialogue share its speakers and its subject, and a model that suits a dialogue is right more often in all
of it: splits differ by dialogues, not by independent texts. So the spread of a score is its spread over draws of
dialogues, with replacement (the cluster bootstrap; Field & Welsh 2007, Bootstrapping clustered data, JRSS B 69), and
all candidates are scored on the same draws, which pairs the candidates.

Intervals and p values are Student's, from the standard error of the bootstrap, with as many degrees of freedom as there
are dialogues less one: percentiles of the draws are too narrow where dialogues are few. For accuracy on independent
texts, McNemar's exact test is used instead. Percentage of 2,000 pairs of equally good models, which disagree on 20 % of
the texts, whose difference was significant at 5 %:

    dialogues (texts)      accuracy   macro-F1   accuracy, by McNemar
    100 (1,178)                 5.1        5.1       10.3
    100 (1,178)                 5.5        5.4       22.7   (models that suit different dialogues)
     30 (350)                   4.3        5.1        8.5
     12 (150)                   6.0        6.3        8.2
    500 (500)                   2.9        4.6        2.9   (the test in use here)

The intervals covered the true accuracy in 94 to 96 %. A score that depends on a handful of texts, such as the F1 of a
rare class, is less certain than its interval suggests.

Where a candidate has runs with several seeds, *settings* are compared: the variance between runs, pooled over the
candidates, is added. With three seeds, 2 points apart (standard deviation), 4.9 % of the differences between equal
settings were significant. Where each candidate has one run, a p value is about these runs and not about other seeds:
single runs of two equal settings differed significantly in 13 % (seeds 1 point apart) and 33 % (2 points).

`roc_auc` and `average_precision` are no functions of sums over dialogues. Their draws are first-order approximations,
exact on the whole split: each text has the derivative of the score by its weight, as in the infinitesimal jackknife
(Jaeckel 1972); for `roc_auc` these are the structural components of DeLong et al. 1988 (Biometrics 44:3). Their
intervals are those of an exact bootstrap within 5 % of the width; for the average precision of one class of 8 texts
they are 40 % wider. In a draw without a class, the mean is that over the other classes.

These figures are those of `pytest tests/metrics/test_promises.py -m "slow or not slow" -rP`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, nan, sqrt
from typing import Literal

import numpy as np

from bertgrid_tf.metrics.classification import OF_PROBABILITIES, Direction, Tally, direction, unit

ALPHA = 0.05
DRAWS = 2000
HALVES = 500

# The cost of a wrong choice that does not matter: about the smallest difference that 1,178 texts show (`interaction`).
MARGIN = 0.02

Verdict = Literal["independent as far as can be seen", "interacts", "too little data to tell"]
INDEPENDENT: Verdict = "independent as far as can be seen"
INTERACTS: Verdict = "interacts"
TOO_LITTLE_DATA: Verdict = "too little data to tell"

# The probabilities of the runs of one setting, which differ in their seed alone: float [runs, n, classes].
Candidate = np.ndarray

# The number of floats in the largest array of a chunk of draws: 32 MB.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Split:
    """The labelled texts on which all candidates are scored.

    Attributes:
        truth: The class ids, int [n].
        dialogues: The number of each text's dialogue, int [n].
        labels: The class names in the order of their ids.
    """

    truth: np.ndarray
    dialogues: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """A difference of scores in the unit of the metric, with its uncertainty.

    Attributes:
        estimate: The difference on the split.
        low: The lower end of the 95 % interval; NaN for a split of a single dialogue.
        high: The upper end of the 95 % interval; NaN for a split of a single dialogue.
        p: The p value of no difference; 1 for a split of a single dialogue.
    """

    estimate: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """A comparison of candidates with the best candidate.

    Attributes:
        best: The index of the best candidate; the first of equal candidates.
        p: The p value of no difference from the best for each candidate, after Holm's correction; 1 for the best.
        tied: For each candidate, whether its difference from the best is not significant at 5 %.
        differences: The score of each candidate less that of the best; the p values are uncorrected.
        intervals: The 95 % interval of each candidate's score as in `interval`, but with the variance between runs
            pooled.
    """

    best: int
    p: tuple[float, ...]
    tied: tuple[bool, ...]
    differences: tuple[Difference, ...]
    intervals: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Interaction:
    """The choice of a parameter's level, checked at another learning rate and epoch.

    Attributes:
        at_start: The score of the chosen level less the runner-up's at the configuration of the sweep.
        at_winner: The score of the chosen level less the runner-up's at the winning learning rate and epoch.
        change: The difference `at_winner` less `at_start`.
        verdict: The conclusion from `at_winner`.
    """

    at_start: Difference
    at_winner: Difference
    change: Difference
    verdict: Verdict


@dataclass(frozen=True)
class Baseline:
    """The scores of two classifiers that read no text, and the lead of a candidate over the better one.

    Attributes:
        label: The largest class of the training split.
        always: The score of predicting that class for every text, with the classes' shares in the training split as
            probabilities (scikit-learn's `DummyClassifier(strategy="prior")`).
        guessing: The score of drawing every prediction from these shares (`strategy="stratified"`): that of the
            expected confusion matrix. For a metric of probabilities, `always`.
        by_guessing: Whether guessing is the better of the two.
        lead: The score of the candidate less that of the better one.
        beaten: Whether the candidate is better than both, significantly at 5 % where the split is several dialogues;
            never where its predictions are the same for all texts.
    """

    label: str
    always: float
    guessing: float
    by_guessing: bool
    lead: Difference
    beaten: bool

    @property
    def score(self) -> float:
        """The score of the better one."""
        return self.guessing if self.by_guessing else self.always


def mcnemar(truth: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Compute the two-sided p value of McNemar's exact test that two classifiers have the same accuracy.

    All arguments are class ids, int [n]: the true ones, and those that each classifier predicts.

    The test presumes that the texts are independent, and rejects too often where they are not.

    Source: McNemar 1947, Psychometrika 12:2.

    Example:
        >>> import numpy as np
        >>> from bertgrid_tf.metrics.compare import mcnemar
        >>> truth = np.array([0, 0, 1, 1])
        >>> mcnemar(truth, first=np.array([0, 0, 1, 0]), second=np.array([1, 0, 1, 0]))
        1.0
    """
    from scipy.stats import binomtest

    only_first = int(((first == truth) & (second != truth)).sum())
    only_second = int(((first != truth) & (second == truth)).sum())
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(p: Sequence[float]) -> np.ndarray:
    """Correct the p values of several tests for the family-wise error rate, in their order, float [tests].

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6:2.

    Example:
        >>> from bertgrid_tf.metrics.compare import holm
        >>> holm([0.5, 0.25, 0.125]).tolist()
        [0.5, 0.5, 0.375]
    """
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)


def interval(split: Split, candidate: Candidate, metric: str) -> tuple[float, float]:
    """Compute the 95 % interval of a candidate's mean score, over dialogues and, if there are several, runs.

    Both ends are in the unit of the metric, and NaN for a split of a single dialogue.
    """
    return _interval(_score_all(split, [candidate], metric), 0)


def difference(split: Split, first: Candidate, second: Candidate, metric: str) -> Difference:
    """Compare the scores of two candidates on the same draws of dialogues: that of the first less that of the second.

    The p value of a difference in accuracy is McNemar's where both candidates have one run and every dialogue is a
    single text. Every other p value is Student's and agrees with the interval.
    """
    return _difference(_score_all(split, [first, second], metric), 0, 1)


def compare_with_baseline(split: Split, candidate: Candidate, shares: np.ndarray, metric: str) -> Baseline:
    """Compare a candidate with two classifiers that read no text, on the same draws of dialogues.

    The p value is Student's and agrees with the interval.

    Args:
        split: The labelled texts.
        candidate: The candidate, with one run or several.
        shares: The share of each class in the training split, float [classes].
        metric: A metric of `metrics.evaluate`.

    Example:
        >>> import numpy as np
        >>> truth, predicted = np.array([0, 0, 0, 1] * 10), np.array([0, 0, 0, 1] * 10)
        >>> split = Split(truth, np.arange(40), ("neutral", "joy"))
        >>> baseline = compare_with_baseline(split, np.eye(2)[predicted][None], np.array([0.5, 0.5]), "accuracy")
        >>> baseline.label, baseline.always, baseline.guessing, baseline.beaten
        ('neutral', 0.75, 0.5, True)
    """
    constant = np.tile(shares, (1, len(split.truth), 1))
    tally = _tally(split, [candidate, constant, constant], metric)
    of_labels = metric.split(":")[0] not in OF_PROBABILITIES
    if of_labels:
        ids, texts = np.arange(len(shares)), tally.support.sum(axis=1, keepdims=True)
        costs = tally.support @ ((ids[:, None] - ids) ** 2 @ shares)
        tally.counts[:, -1] = np.column_stack([tally.support * shares, texts * shares, costs])
    scored = _score_tally(split, [candidate, constant, constant], tally)
    always, guessing = scored.observed[1:].tolist()
    sign = 1 if direction(metric) == "max" else -1
    # Rounding must not make guessing the better one.
    by_guessing = of_labels and sign * (guessing - always) > 1e-12
    # A classifier without seeds has no variance between runs.
    scored = replace(scored, runs=np.array([len(candidate), inf, inf]))
    lead = _contrast(scored, np.array([1, 0, -1] if by_guessing else [1, -1, 0]))
    predictions = candidate.argmax(axis=2) if of_labels else candidate
    alike = (predictions == predictions[:, :1]).all()
    beaten = sign * lead.estimate > 0 and not alike and (lead.p < ALPHA or scored.dialogues == 1)
    drawn = guessing if of_labels else always
    return Baseline(split.labels[shares.argmax()], always, drawn, by_guessing, lead, bool(beaten))


def compare_with_best(split: Split, candidates: Sequence[Candidate], metric: str, direction: Direction) -> Comparison:
    """Find the candidates whose scores do not differ significantly from the best score.

    Each candidate is compared with the best by `difference`, with Holm's correction over these comparisons. The
    correction also covers the selection of the best by its score: with 2, 4, 10 and 24 equal candidates, a designated
    candidate was among the tied in 97.0 to 98.5 % of 1,000 simulations, in accuracy and in macro-F1.

    Power: of two candidates that disagree on 20 % of 1,178 texts, the candidate that is worse by 5 points of accuracy
    was significantly worse in 85 % (97 % where no dialogue suits either candidate more); one such candidate among 24
    in 96 %. A single good candidate stands out less: of 3, 9 and 23 candidates that are 5 points worse, 83, 72 and
    61 % were significantly worse.
    """
    scored = _score_all(split, candidates, metric)
    best = int((scored.observed if direction == "max" else -scored.observed).argmax())
    indices = range(len(candidates))
    differences = tuple(_difference(scored, index, best) for index in indices)
    others = [index for index in indices if index != best]
    p = np.ones(len(candidates))
    p[others] = holm([differences[index].p for index in others])
    return Comparison(
        best=best,
        p=tuple(p.tolist()),
        tied=tuple((p >= ALPHA).tolist()),
        differences=differences,
        intervals=tuple(_interval(scored, index) for index in indices),
    )


def selection_optimism(split: Split, candidates: Sequence[Candidate], metric: str, direction: Direction) -> float:
    """Estimate how much the best candidate's score is too good because the candidate was selected by it.

    The selection is repeated on random halves of the dialogues: the best candidate of the first half is scored on the
    second half, which had no part in the selection (as Cawley & Talbot 2010, JMLR 11, ask). Scores on half of the texts
    have √2 times the standard error, and the mean loss is divided by √2, which is exact for equal candidates and a
    little too much where one candidate leads. Scoring the best of a bootstrap draw on the whole split, which overlaps
    the draw, gives too little: the scores on the whole split are already as far apart as chance made them.

    In points of accuracy on 1,178 texts, means of 500 simulations with the truth in brackets: 24 equal candidates 2.26
    (2.10); the paper's 70 cells for Friends 2.41 (2.27); one of 10 candidates ahead by 3 points 1.08 (0.74), by 8
    points 0.01 (0.06, which is chance).

    Returns:
        The optimism in the unit of the metric, at least 0, without the luck of the seeds; NaN for a split of a single
        dialogue.
    """
    tally, runs = _tally(split, candidates, metric), _runs(candidates)
    dialogues = len(tally.support)
    if dialogues == 1:
        return nan

    def halves(generator: np.random.Generator, rows: int) -> np.ndarray:
        return generator.permuted(np.tile(np.arange(dialogues) < dialogues // 2, (rows, 1)), axis=1)

    lost = 0.0
    for half in _chunks(tally, halves, HALVES):
        first, second = (_means(runs, tally.scores(weights)) for weights in (half, ~half))
        if direction == "min":
            first, second = -first, -second
        ahead = first - second
        best_of_first, best_of_second = (scores.argmax(axis=1)[:, None] for scores in (first, second))
        both = np.take_along_axis(ahead, best_of_first, axis=1) - np.take_along_axis(ahead, best_of_second, axis=1)
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
    """Check whether the choice of a swept parameter's level still holds at the winning learning rate and epoch.

    The verdict depends on the difference of the two levels at the winner. The parameter "interacts" if the runner-up is
    significantly better there at 5 %. Otherwise there is "too little data to tell" if the interval includes a lead of
    the runner-up by more than the margin. The change is reported but does not count: the chosen level was selected by
    its score at the start, so that its lead is expected to shrink.

    Args:
        split: The labelled texts.
        at_start: The chosen level and the runner-up at the configuration of the sweep, float [runs, n, classes] each.
        at_winner: The chosen level and the runner-up at the winning learning rate and epoch, likewise.
        metric: A metric of `metrics.evaluate`.
        direction: The direction of improvement of the metric.
        margin: The largest lead of the runner-up that does not matter, in the unit of the metric. The default, 2
            points, is about the smallest paired difference that 1,178 texts can show: 1.8 points where two models
            disagree on 10 % of the texts, 2.6 where they disagree on 20 %.

    Returns:
        The differences at the start and at the winner, their change, and the verdict.
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


def _tally(split: Split, candidates: Sequence[Candidate], metric: str) -> Tally:
    return Tally.of(split.truth, np.concatenate(candidates), split.labels, metric, split.dialogues)


def _runs(candidates: Sequence[Candidate]) -> np.ndarray:
    return np.array([len(candidate) for candidate in candidates])


def _means(runs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Average the scores [draws, all runs] over the runs of each candidate: [draws, candidates]."""
    return np.add.reduceat(scores, np.cumsum(runs) - runs, axis=1) / runs


def _chunks(tally: Tally, weigh: Callable[[np.random.Generator, int], np.ndarray], draws: int) -> Iterator[np.ndarray]:
    """Yield the weights of all draws in chunks that bound the memory; the seed is fixed."""
    generator = np.random.default_rng(0)
    rows = max(1, _CHUNK // max(len(tally.counts), tally.counts[0].size))
    for first in range(0, draws, rows):
        yield weigh(generator, min(rows, draws - first))


@dataclass(frozen=True)
class _Scored:
    """The scores of candidates, with their variation over dialogues and runs."""

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
    return _score_tally(split, candidates, _tally(split, candidates, metric))


def _score_tally(split: Split, candidates: Sequence[Candidate], tally: Tally) -> _Scored:
    dialogues, runs = len(tally.support), _runs(candidates)

    def bootstrap(generator: np.random.Generator, rows: int) -> np.ndarray:
        drawn = generator.integers(dialogues, size=(rows, dialogues)) + dialogues * np.arange(rows)[:, None]
        return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)

    of_runs = tally.scores(np.ones((1, dialogues)))
    observed = _means(runs, of_runs)[0]
    drawn = [_means(runs, tally.scores(weights)) for weights in _chunks(tally, bootstrap, DRAWS)]
    freedom = int((runs - 1).sum())
    squares = float(((of_runs[0] - np.repeat(observed, runs)) ** 2).sum())
    return _Scored(
        split,
        candidates,
        tally.metric,
        dialogues,
        observed,
        np.concatenate(drawn),
        runs,
        squares / freedom if freedom else 0.0,
        freedom,
    )


def _interval(scored: _Scored, index: int) -> tuple[float, float]:
    score = _contrast(scored, np.arange(len(scored.runs)) == index)
    # Student's interval is symmetric, and may leave the range of a share.
    lowest, highest = {"nats": (0, inf), "%": (0, 1), "": (-1, 1)}[unit(scored.metric)]
    low, high = np.clip((score.low, score.high), lowest, highest)
    return float(low), float(high)


def _difference(scored: _Scored, first: int, second: int) -> Difference:
    index = np.arange(len(scored.runs))
    result = _contrast(scored, (index == first).astype(int) - (index == second))
    split = scored.split
    if scored.metric == "accuracy" and scored.dialogues == len(split.truth) and not scored.freedom:
        predictions = (scored.candidates[candidate][0].argmax(axis=1) for candidate in (first, second))
        return replace(result, p=mcnemar(split.truth, *predictions))
    return result


def _contrast(scored: _Scored, coefficients: np.ndarray) -> Difference:
    """Compute a contrast of the candidates' scores, with Student's interval and p value.

    The variance of the contrast is the variance over draws of dialogues plus the variance between runs. Where the
    scores of runs also vary by dialogue, both terms include that variation, so that the sum is conservative (Owen 2007,
    The pigeonhole bootstrap, Ann. Appl. Stat. 1). The degrees of freedom are Satterthwaite's (1946).
    """
    from scipy.stats import t

    estimate = float(scored.observed @ coefficients)
    if scored.dialogues == 1:
        return Difference(estimate, nan, nan, 1.0)
    drawn = scored.drawn @ coefficients
    # The variance of a bootstrap mean divides by n, where the unbiased variance divides by n - 1.
    by_dialogue = float(drawn.var()) * scored.dialogues / (scored.dialogues - 1)
    by_run = scored.between_runs * float((coefficients**2 / scored.runs).sum())
    if np.ptp(drawn) == 0 and by_run == 0:
        # All dialogues agree, which has the probability of a sign test.
        return Difference(estimate, estimate, estimate, 2.0 ** (1 - scored.dialogues) if estimate else 1.0)
    variance = by_dialogue + by_run
    of_runs = by_run**2 / scored.freedom if scored.freedom else 0.0
    freedom = variance**2 / (by_dialogue**2 / (scored.dialogues - 1) + of_runs)
    error = sqrt(variance)
    half = float(t.ppf(1 - ALPHA / 2, freedom)) * error
    return Difference(estimate, estimate - half, estimate + half, float(2 * t.sf(abs(estimate) / error, freedom)))
