"""What `score.compare` promises, in simulations of which the truth is known.

Each candidate is right on a text where the text's ease, which all candidates share, plus what the candidate makes of
this dialogue and of this text lies below a threshold: its accuracy is known, and so is how often two disagree. By
default two candidates disagree on 20 % of the texts, as two runs on Friends do, and sizes are those of its dev split.
The figures in the docstrings of `score.compare` are those that `pytest -m "slow or not slow" -rP` prints here.
"""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from bertgrid_tf.metrics.compare import (
    Split,
    compare_with_best,
    difference,
    interval,
    mcnemar,
    selection_optimism,
)

LABELS = ("anger", "disgust", "fear", "joy", "neutral", "non-neutral", "sadness", "surprise")
SHARES = np.array([0.049, 0.023, 0.017, 0.121, 0.45, 0.191, 0.033, 0.116])

# Variance of the ease, by text and by dialogue, and of what one candidate makes of a dialogue; of 1 in all.
BY_TEXT, BY_DIALOGUE, AFFINITY = 0.75, 0.05, 0.03

# The cells of the paper's table for Friends, in points of accuracy.
PAPER = [
    *(55.8, 56.7, 56.4, 57.1, 55.4, 56.4, 55.4, 55.1, 55.0, 55.1, 54.2, 57.4, 58.0, 58.0, 57.4, 57.4, 56.9, 56.3),
    *(55.7, 56.4, 51.9, 55.4, 57.5, 57.4, 57.2, 57.4, 56.9, 57.0, 55.9, 55.8, 51.4, 55.3, 57.6, 57.2, 57.2, 57.0),
    *(57.2, 57.0, 56.4, 57.1, 42.0, 53.9, 56.1, 56.9, 57.8, 57.7, 57.7, 56.9, 56.9, 56.6, 38.3, 50.5, 54.3, 55.8),
    *(56.3, 57.4, 56.9, 57.4, 56.0, 56.7, 31.4, 41.0, 41.8, 49.1, 51.9, 54.8, 55.1, 55.0, 55.9, 56.3),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Thousands of small products: threads would only wait for each other."""
    with threadpool_limits(1):
        yield


def simulate(
    generator: np.random.Generator,
    accuracies: list[float],
    texts: int = 1178,
    dialogues: int = 100,
    affinity: float = AFFINITY,
    runs: int = 1,
    between_runs: float = 0.0,
) -> tuple[Split, list[np.ndarray]]:
    """A dev split and what candidates of these accuracies say of it.

    Args:
        affinity: see AFFINITY.
        runs: of each candidate.
        between_runs: standard deviation of their true accuracies, about.
    """
    k = len(accuracies)
    # Every dialogue has a text at least.
    dialogue = np.sort(np.r_[np.arange(dialogues), generator.integers(dialogues, size=texts - dialogues)])
    ease = math.sqrt(BY_TEXT) * generator.standard_normal(texts)
    ease += math.sqrt(BY_DIALOGUE) * generator.standard_normal(dialogues)[dialogue]
    difficulty = ease + math.sqrt(affinity) * generator.standard_normal((k, 1, dialogues))[..., dialogue]
    rest = 1 - BY_TEXT - BY_DIALOGUE - affinity
    difficulty = difficulty + math.sqrt(rest) * generator.standard_normal((k, runs, texts))
    # A point of the threshold is 0.39 points of accuracy near 58 %.
    apart = between_runs / stats.norm.pdf(0.2)
    difficulty += apart * generator.standard_normal((k, runs, 1))
    right = difficulty < stats.norm.ppf(accuracies)[:, None, None] * math.sqrt(1 + apart**2)
    truth = generator.choice(len(LABELS), size=texts, p=SHARES)
    predicted = np.where(right, truth, (truth + generator.integers(1, len(LABELS), size=texts)) % len(LABELS))
    return Split(truth, dialogue, LABELS), list(np.eye(len(LABELS), dtype=np.float32)[predicted] * 0.9 + 0.0125)


def share(name: str, found: list[bool]) -> float:
    """Of the simulations that found it; printed for those who want to know."""
    print(f"{name}: {100 * np.mean(found):.1f} % of {len(found)}")
    return float(np.mean(found))


def tied_holds_the_best(k: int, metric: str, affinity: float, simulations: int) -> float:
    generator = np.random.default_rng(k)
    held = []
    for _ in range(simulations):
        split, candidates = simulate(generator, [0.58] * k, affinity=affinity)
        held.append(compare_with_best(split, candidates, metric, "max").tied[0])
    return share(f"{k} equal candidates, {metric}, affinity {affinity}", held)


@pytest.mark.parametrize(
    ("k", "metric", "affinity"), [(2, "accuracy", 0.1), (4, "macro_f1", AFFINITY), (24, "accuracy", AFFINITY)]
)
def test_the_tied_set_holds_the_best_where_there_is_no_difference(k, metric, affinity):
    assert tied_holds_the_best(k, metric, affinity, 100) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("affinity", [AFFINITY, 0.1])
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@pytest.mark.parametrize("k", [2, 4, 10, 24])
def test_the_tied_set_holds_the_best_in_a_thousand_simulations(k, metric, affinity):
    assert tied_holds_the_best(k, metric, affinity, 1000) >= 0.95


def found_behind(k: int, affinity: float, simulations: int) -> float:
    generator = np.random.default_rng(k)
    found = []
    for _ in range(simulations):
        split, candidates = simulate(generator, [0.58] * (k - 1) + [0.53], affinity=affinity)
        found.append(not compare_with_best(split, candidates, "accuracy", "max").tied[-1])
    return share(f"one of {k} behind by 5 points, affinity {affinity}", found)


def test_a_difference_of_5_points_is_found():
    assert found_behind(2, AFFINITY, 250) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("k", "affinity"), [(2, 0.0), (2, AFFINITY), (4, AFFINITY), (10, AFFINITY), (24, AFFINITY)])
def test_a_difference_of_5_points_is_found_among_several_candidates(k, affinity):
    assert found_behind(k, affinity, 1000) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("k", [4, 10, 24])
def test_the_candidates_5_points_behind_a_single_good_one_are_told_from_it_less_often(k):
    generator = np.random.default_rng(k)
    found = []
    for _ in range(500):
        split, candidates = simulate(generator, [0.58] + [0.53] * (k - 1))
        found += [not tied for tied in compare_with_best(split, candidates, "accuracy", "max").tied[1:]]
    assert share(f"{k - 1} of {k} behind by 5 points", found) >= 0.5


SIZES = [(1178, 100, AFFINITY), (1178, 100, 0.1), (350, 30, AFFINITY), (150, 12, AFFINITY)]


def false_finds(texts: int, dialogues: int, affinity: float, metric: str, simulations: int) -> float:
    generator = np.random.default_rng(texts)
    found = []
    for _ in range(simulations):
        split, (one, other) = simulate(generator, [0.58, 0.58], texts, dialogues, affinity)
        found.append(difference(split, one, other, metric).p < 0.05)
    return share(f"no difference in {metric}, {texts} texts in {dialogues} dialogues, affinity {affinity}", found)


def test_no_difference_is_found_at_the_rate_that_is_promised():
    assert false_finds(150, 12, AFFINITY, "accuracy", 400) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
@pytest.mark.parametrize(("texts", "dialogues", "affinity"), [*SIZES, (500, 500, AFFINITY)])
def test_no_difference_is_found_at_the_rate_that_is_promised_whatever_the_size(texts, dialogues, affinity, metric):
    assert false_finds(texts, dialogues, affinity, metric, 2000) <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize(("texts", "dialogues", "affinity"), SIZES)
def test_mcnemar_finds_too_much_where_dialogues_have_several_texts(texts, dialogues, affinity):
    generator = np.random.default_rng(texts)
    found = []
    for _ in range(2000):
        split, candidates = simulate(generator, [0.58, 0.58], texts, dialogues, affinity)
        found.append(mcnemar(split.truth, *(one[0].argmax(axis=1) for one in candidates)) < 0.05)
    assert share(f"no difference by McNemar, {texts} texts in {dialogues} dialogues, affinity {affinity}", found) > 0.07


def false_finds_of_settings(runs: int, between_runs: float, simulations: int) -> float:
    generator = np.random.default_rng(runs)
    found = []
    for _ in range(simulations):
        split, (one, other) = simulate(generator, [0.58, 0.58], runs=runs, between_runs=between_runs)
        found.append(difference(split, one, other, "accuracy").p < 0.05)
    return share(f"no difference between settings of {runs} runs, {100 * between_runs:g} points between runs", found)


def test_the_luck_of_seeds_is_no_difference_where_there_are_several():
    assert false_finds_of_settings(3, 0.02, 250) <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("between_runs", [0.0, 0.01, 0.02])
@pytest.mark.parametrize("runs", [2, 3, 5])
def test_the_luck_of_seeds_is_no_difference_whatever_their_number(runs, between_runs):
    assert false_finds_of_settings(runs, between_runs, 1000) <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("between_runs", [0.01, 0.02])
def test_the_luck_of_one_seed_is_taken_for_a_difference(between_runs):
    assert false_finds_of_settings(1, between_runs, 1000) > 0.08


def held(texts: int, dialogues: int, accuracy: float, simulations: int) -> float:
    generator = np.random.default_rng(texts)
    found = []
    for _ in range(simulations):
        split, (one,) = simulate(generator, [accuracy], texts, dialogues)
        low, high = interval(split, one, "accuracy")
        found.append(low <= accuracy <= high)
    return share(f"interval of {100 * accuracy:g} %, {texts} texts in {dialogues} dialogues", found)


def test_an_interval_holds_the_true_accuracy():
    assert held(1178, 100, 0.58, 300) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "dialogues", "accuracy"),
    [(1178, 100, 0.58), (350, 30, 0.58), (150, 12, 0.58), (500, 500, 0.58), (202, 60, 0.97)],
)
def test_an_interval_holds_the_true_accuracy_whatever_the_size(texts, dialogues, accuracy):
    assert held(texts, dialogues, accuracy, 2000) >= 0.92


def optimism(name: str, accuracies: list[float], simulations: int) -> tuple[float, float]:
    """By how much the winner's score was too good, on average, and by how much it was said to be; in points."""
    generator = np.random.default_rng(len(accuracies))
    true, said = [], []
    for _ in range(simulations):
        split, candidates = simulate(generator, accuracies)
        scores = [float((one[0].argmax(axis=1) == split.truth).mean()) for one in candidates]
        best = int(np.argmax(scores))
        true.append(100 * (scores[best] - accuracies[best]))
        said.append(100 * selection_optimism(split, candidates, "accuracy", "max"))
    print(
        f"optimism, {name}: {np.mean(true):.2f} ± {np.std(true) / math.sqrt(simulations):.2f}, said {np.mean(said):.2f}"
    )
    return float(np.mean(true)), float(np.mean(said))


def test_the_optimism_of_equal_candidates_is_estimated_on_average():
    true, said = optimism("10 equal", [0.58] * 10, 150)
    assert said == pytest.approx(true, abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "accuracies", "within"),
    [
        ("4 equal", [0.58] * 4, 0.25),
        ("24 equal", [0.58] * 24, 0.25),
        ("the paper's grid", [cell / 100 for cell in PAPER], 0.25),
        ("1 of 10 ahead by 3 points", [0.6] + [0.57] * 9, 0.6),
        ("1 of 10 ahead by 8 points", [0.65] + [0.57] * 9, 0.25),
    ],
)
def test_the_optimism_is_estimated_on_average_and_rather_too_high(name, accuracies, within):
    true, said = optimism(name, accuracies, 500)
    assert true - 0.25 <= said <= true + within
