import math
from dataclasses import astuple
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.dummy import DummyClassifier

from bertgrid_tf.metrics.classification import directions, evaluate
from bertgrid_tf.metrics.compare import (
    Split,
    compare_with_baseline,
    compare_with_best,
    difference,
    holm,
    interaction,
    interval,
    mcnemar,
    selection_optimism,
)

LABELS = ("a", "b", "c_d", "e")
P = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def candidate(*predicted: np.ndarray) -> np.ndarray:
    """Runs that are 85 % sure of what they predict."""
    return np.eye(len(LABELS), dtype=np.float32)[np.stack(predicted)] * 0.8 + 0.05


def split(truth: np.ndarray, size: int = 1) -> Split:
    """Texts in dialogues of one size."""
    return Split(truth, np.arange(len(truth)) // size, LABELS)


def made_up(seed: int = 0, n: int = 240, size: int = 4, accuracies: tuple[float, ...] = (0.7, 0.6)):
    """A split, and what candidates of about these accuracies predict for it, int [candidates, n]."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(len(LABELS), size=n, p=[0.5, 0.3, 0.15, 0.05])
    ease = generator.random(n) * 0.8
    right = ease + generator.random((len(accuracies), n)) * 0.2 < np.array(accuracies)[:, None]
    return split(truth, size), np.where(right, truth, (truth + 1) % len(LABELS))


def test_mcnemar_is_the_exact_binomial_test_on_the_texts_that_one_has_right():
    truth = np.zeros(20, int)
    one, other = np.zeros(20, int), np.zeros(20, int)
    one[:2], other[2:12] = 1, 1
    # 2 × P(at most 2 of 12 at one half)
    assert mcnemar(truth, one, other) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar(truth, one, one) == 1


def test_texts_that_both_have_wrong_do_not_count_even_if_they_are_wrong_differently():
    truth, one = np.zeros(6, int), np.array([1, 1, 1, 0, 0, 0])
    assert mcnemar(truth, one, np.array([2, 2, 2, 0, 0, 0])) == 1


def test_holm_of_a_textbook_case():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P)
def test_holm_lies_between_the_p_values_and_bonferroni_and_keeps_their_order(p):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1)).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


@given(st.data())
@settings(max_examples=10)
def test_a_difference_is_that_of_evaluate_in_every_metric(data):
    # Of four classes some are neither there nor predicted.
    texts = st.lists(st.integers(0, 3), min_size=4, max_size=4)
    truth, *predicted = (np.array(data.draw(texts)) for _ in range(4))
    # The other is quite sure of what it predicts, its mistakes too.
    one, other = candidate(*predicted[:2]), np.eye(len(LABELS), dtype=np.float32)[predicted[2:]]
    metrics = (*directions(LABELS), "micro_f1:a,c_d", "roc_auc:b", "average_precision:b,e")
    scores = [evaluate(truth, run, LABELS, metrics) for run in (*one, *other)]
    for metric in metrics:
        of_runs = [of_run[metric] for of_run in scores]
        found = difference(split(truth, 2), one, other, metric)
        assert found.estimate == pytest.approx((of_runs[0] + of_runs[1]) / 2 - of_runs[2], abs=1e-6)


@pytest.mark.parametrize(
    "metric",
    ["macro_f1", "loss", "precision_b", "balanced_accuracy", "mcc"],
)
def test_an_interval_is_students_from_the_spread_over_draws_of_whole_dialogues(metric):
    texts, (predicted, _) = made_up(n=160)
    runs = candidate(predicted)
    generator = np.random.default_rng(1)
    members = texts.dialogues[:, None] == np.arange(40)
    scores = []
    for _ in range(300):
        drawn = np.concatenate([np.flatnonzero(members[:, number]) for number in generator.integers(40, size=40)])
        scores.append(evaluate(texts.truth[drawn], runs[0, drawn], LABELS, [metric])[metric])
    low, high = interval(texts, runs, metric)
    assert (low + high) / 2 == pytest.approx(evaluate(texts.truth, runs[0], LABELS, [metric])[metric], abs=1e-6)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 39) * np.std(scores) * math.sqrt(40 / 39), rel=0.12)


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision", "quadratic_kappa"])
def test_scores_of_ranks_and_of_grades_have_the_spread_over_draws_of_whole_dialogues(metric):
    generator, grades = np.random.default_rng(2), ("1", "2", "3")
    truth = generator.choice(3, 300, p=[0.5, 0.3, 0.2])
    # Many equal probabilities.
    odds = np.exp(generator.normal(size=(300, 3)) + 1.2 * np.eye(3)[truth]).round()
    runs = ((odds + 0.1) / (odds + 0.1).sum(axis=1, keepdims=True))[None]
    scores = []
    for _ in range(200):
        drawn = (4 * generator.integers(75, size=75)[:, None] + np.arange(4)).ravel()
        scores.append(evaluate(truth[drawn], runs[0, drawn], grades, [metric])[metric])
    low, high = interval(Split(truth, np.arange(300) // 4, grades), runs, metric)
    assert (low + high) / 2 == pytest.approx(evaluate(truth, runs[0], grades, [metric])[metric])
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 74) * np.std(scores) * math.sqrt(75 / 74), rel=0.12)


def test_where_all_texts_have_one_class_ranks_are_those_of_chance():
    texts = split(np.zeros(8, int), size=2)
    assert interval(texts, candidate(np.arange(8) % 2), "roc_auc") == (0.5, 0.5)


def test_a_coefficient_may_be_negative_and_its_interval_ends_at_minus_1():
    texts, _ = made_up(n=12, size=1)
    opposite = candidate((texts.truth + 1 + (np.arange(12) == 3)) % 4)
    low, high = interval(texts, opposite, "mcc")
    assert -1 <= low < high < 0


def test_of_dialogues_equally_long_the_interval_is_that_of_a_t_test_on_their_accuracies():
    texts, (predicted, _) = made_up(n=120, size=20)
    of_dialogues = (predicted == texts.truth).reshape(6, 20).mean(axis=1)
    expected = stats.ttest_1samp(of_dialogues, 0).confidence_interval()
    assert interval(texts, candidate(predicted), "accuracy") == pytest.approx(expected, abs=0.05 * np.ptp(expected) / 2)


def test_texts_that_repeat_each_other_in_a_dialogue_tell_no_more_than_one_of_them():
    single, (one, other) = made_up(size=1)
    copied = split(np.repeat(single.truth, 10), 10)
    for metric in ("accuracy", "macro_f1"):
        assert interval(copied, candidate(np.repeat(one, 10)), metric) == pytest.approx(
            interval(single, candidate(one), metric)
        )
    many = difference(copied, candidate(np.repeat(one, 10)), candidate(np.repeat(other, 10)), "macro_f1")
    few = difference(single, candidate(one), candidate(other), "macro_f1")
    assert astuple(many) == pytest.approx(astuple(few))


def test_fifteen_thousand_single_texts_have_the_spread_of_the_binomial():
    generator = np.random.default_rng(0)
    truth = generator.integers(4, size=15_000)
    predicted = np.where(generator.random(15_000) < 0.9, truth, (truth + 1) % 4)
    low, high = interval(split(truth), candidate(predicted), "accuracy")
    share = (predicted == truth).mean()
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(share * (1 - share) / 15_000), rel=0.05)


def test_what_two_candidates_share_does_not_widen_the_interval_of_their_difference():
    texts, (one, other) = made_up(accuracies=(0.7, 0.68))
    found = difference(texts, candidate(one), candidate(other), "accuracy")
    low, high = interval(texts, candidate(one), "accuracy")
    # Of independent candidates it would be √2 times as wide as that of one.
    assert found.high - found.low < 0.7 * (high - low)


@pytest.mark.parametrize("metric", ["macro_f1", "loss"])
def test_a_difference_is_significant_where_its_interval_leaves_out_0(metric):
    for seed in range(20):
        texts, (one, other) = made_up(seed, accuracies=(0.66, 0.6))
        found = difference(texts, candidate(one), candidate(other), metric)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
        turned = difference(texts, candidate(other), candidate(one), metric)
        assert (turned.estimate, turned.low, turned.p) == pytest.approx((-found.estimate, -found.high, found.p))


def test_mcnemar_decides_on_single_texts_and_one_run_alone():
    texts, (one, other) = made_up(size=1, accuracies=(0.62, 0.6))
    exact = mcnemar(texts.truth, one, other)

    def p(texts: Split, *runs: np.ndarray) -> float:
        return difference(texts, candidate(*runs), candidate(other), "accuracy").p

    assert p(texts, one) == exact
    assert p(texts, one, other) != exact
    assert p(split(texts.truth, 4), one) != exact


def test_the_order_of_the_texts_and_the_numbers_of_the_dialogues_do_not_matter():
    texts, (one, other) = made_up()
    shuffled = np.random.default_rng(0).permutation(len(one))
    again = Split(texts.truth[shuffled], 7 * texts.dialogues[shuffled] + 3, LABELS)
    found = difference(texts, candidate(one), candidate(other), "macro_f1")
    turned = difference(again, candidate(one[shuffled]), candidate(other[shuffled]), "macro_f1")
    assert astuple(found) == pytest.approx(astuple(turned))


def test_a_share_stays_within_0_and_1_though_its_interval_is_symmetric():
    truth = np.zeros(20, int)
    predicted = np.array([1] + [0] * 19)
    assert interval(split(truth), candidate(predicted), "accuracy")[1] == 1
    assert interval(split(truth), candidate(1 - predicted), "accuracy")[0] == 0
    assert interval(split(truth), candidate(predicted + 1), "loss")[1] > 1


def test_runs_that_scatter_widen_the_interval_and_make_a_difference_less_sure():
    texts, runs = made_up(n=1000, accuracies=(0.6, 0.7, 0.8, 0.62))
    alike, scattered, other = candidate(runs[1], runs[1]), candidate(runs[0], runs[2]), candidate(runs[3])
    narrow, wide = (interval(texts, one, "accuracy") for one in (alike, scattered))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    assert difference(texts, alike, other, "accuracy").p < 0.001
    assert difference(texts, scattered, other, "accuracy").p > 0.05


def test_two_runs_tell_little_of_how_runs_scatter():
    texts, (one, far, other) = made_up(n=2000, accuracies=(0.6, 0.8, 0.7))
    found = difference(texts, candidate(one, far), candidate(other), "accuracy")
    between = np.std([(run == texts.truth).mean() for run in (one, far)], ddof=1)
    # One degree of freedom, and one run of the other that scatters as much.
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, 1) * between * math.sqrt(1.5), rel=0.1)


def test_the_first_of_equal_candidates_is_the_best_and_the_others_are_tied():
    texts, (one, other) = made_up()
    found = compare_with_best(texts, [candidate(other), candidate(one), candidate(one)], "accuracy", "max")
    assert found.best == 1
    assert found.tied == (False, True, True)
    assert found.p[1:] == (1, 1)
    assert astuple(found.differences[2]) == (0, 0, 0, 1)
    assert found.differences[0].estimate == pytest.approx((other == texts.truth).mean() - (one == texts.truth).mean())


def test_the_lowest_loss_is_the_best():
    texts, (one, other) = made_up()
    found = compare_with_best(texts, [candidate(other), candidate(one)], "loss", "min")
    assert (found.best, found.tied) == (1, (False, True))
    assert found.differences[0].low > 0


def test_p_values_are_corrected_for_the_number_of_comparisons():
    texts, predicted = made_up(accuracies=(0.7, 0.66, 0.66, 0.66))
    found = compare_with_best(texts, [candidate(one) for one in predicted], "accuracy", "max")
    assert found.p[1:] == pytest.approx(holm([one.p for one in found.differences[1:]]))
    assert found.tied == tuple(p >= 0.05 for p in found.p)


def test_a_comparison_has_the_interval_of_every_candidate():
    texts, (one, other) = made_up()
    found = compare_with_best(texts, [candidate(one), candidate(other)], "macro_f1", "max")
    assert found.intervals[1] == pytest.approx(interval(texts, candidate(other), "macro_f1"))


def test_a_candidate_with_one_run_is_taken_to_scatter_like_those_with_several():
    texts, runs = made_up(n=1000, accuracies=(0.6, 0.7, 0.8, 0.62))
    several, one = candidate(*runs[:3]), candidate(runs[3])
    low, high = compare_with_best(texts, [several, one], "accuracy", "max").intervals[1]
    alone = interval(texts, one, "accuracy")
    assert high - low > 2 * (alone[1] - alone[0])


@pytest.mark.filterwarnings("error")
def test_one_dialogue_tells_nothing_of_another():
    texts, (one, other) = made_up(size=240)
    assert np.isnan(interval(texts, candidate(one), "accuracy")).all()
    found = compare_with_best(texts, [candidate(one), candidate(other)], "accuracy", "max")
    assert (found.p, found.tied) == ((1, 1), (True, True))
    assert math.isnan(selection_optimism(texts, [candidate(one), candidate(other)], "accuracy", "max"))


def test_dialogues_that_all_agree_are_as_sure_as_a_sign_test():
    truth = np.zeros(15, int)
    found = difference(split(truth, 3), candidate(truth), candidate(truth + 1), "macro_f1")
    assert found.p == stats.binomtest(5, 5).pvalue


def test_the_selection_among_candidates_is_the_less_optimistic_the_clearer_the_winner():
    texts, predicted = made_up(accuracies=(0.6,) * 6)
    level = [candidate(one) for one in predicted]
    _, (ahead,) = made_up(accuracies=(0.8,))
    optimism = selection_optimism(texts, level, "accuracy", "max")
    assert optimism > 0.005
    assert selection_optimism(texts, [candidate(ahead), *level[1:]], "accuracy", "max") == 0
    assert selection_optimism(texts, level[:1], "accuracy", "max") == 0
    assert selection_optimism(texts, level[:2], "accuracy", "max") < optimism


def test_a_loss_that_was_picked_for_being_low_is_too_low():
    texts, predicted = made_up(accuracies=(0.6,) * 6 + (0.8,))
    *level, ahead = [candidate(one) for one in predicted]
    assert selection_optimism(texts, level, "loss", "min") > 0.01
    assert selection_optimism(texts, [*level, ahead], "loss", "min") == 0


@pytest.mark.parametrize(
    ("n", "at_winner", "verdict"),
    [
        (2000, (0.6, 0.7), "interacts"),
        (2000, (0.7, 0.6), "independent as far as can be seen"),
        (2000, (0.65, 0.65), "independent as far as can be seen"),
        (60, (0.65, 0.65), "too little data to tell"),
        (60, (0.62, 0.65), "too little data to tell"),
    ],
)
@pytest.mark.parametrize(("metric", "direction"), [("accuracy", "max"), ("loss", "min")])
def test_an_audit_asks_whether_the_chosen_level_loses_where_the_search_ended(n, at_winner, verdict, metric, direction):
    texts, predicted = made_up(n=n, accuracies=(0.65, 0.6, *at_winner))
    levels = [candidate(one) for one in predicted]
    # A point of accuracy is 2.8 hundredths of loss here.
    margin = 0.02 if metric == "accuracy" else 0.06
    found = interaction(texts, (levels[0], levels[1]), (levels[2], levels[3]), metric, direction, margin)
    assert found.verdict == verdict
    assert found.at_start == difference(texts, levels[0], levels[1], metric)
    assert found.at_winner == difference(texts, levels[2], levels[3], metric)
    assert found.change.estimate == pytest.approx(found.at_winner.estimate - found.at_start.estimate)
    assert found.change.low < found.change.estimate < found.change.high


SHARES = np.array([0.4, 0.3, 0.2, 0.1])
METRICS = (*directions(LABELS), "micro_f1:b,c_d", "average_precision:e")


def dummy(strategy: str, metric: str, truth: np.ndarray, draws: int = 1) -> float:
    """The mean score of scikit-learn's classifier that reads no text, trained on classes of these shares."""
    trained = np.repeat(np.arange(4), (10 * SHARES).astype(int))
    model = DummyClassifier(strategy=strategy, random_state=np.random.RandomState(0))
    model.fit(np.zeros((10, 1)), trained)
    texts = np.zeros((len(truth), 1))
    return np.mean([evaluate(truth, model.predict_proba(texts), LABELS, [metric])[metric] for _ in range(draws)])


@pytest.mark.parametrize("metric", METRICS)
def test_the_baselines_are_scikit_learns_classifiers_that_read_no_text(metric):
    texts, (predicted, _) = made_up(n=2000)
    found = compare_with_baseline(texts, candidate(predicted), SHARES, metric)
    assert found.label == "a"
    assert found.always == pytest.approx(dummy("prior", metric, texts.truth))
    of_probabilities = metric.split(":")[0] in ("loss", "roc_auc", "average_precision")
    if of_probabilities:
        assert (found.guessing, found.by_guessing) == (found.always, False)
    else:
        assert found.guessing == pytest.approx(dummy("stratified", metric, texts.truth, draws=60), abs=0.005)
        assert found.by_guessing == (found.guessing > found.always + 1e-12)
    score = evaluate(texts.truth, candidate(predicted)[0], LABELS, [metric])[metric]
    assert found.lead.estimate == pytest.approx(score - found.score, abs=1e-6)


def test_a_model_beats_its_baseline_where_the_paired_difference_is_significant():
    texts, (good, near) = made_up(accuracies=(0.8, 0.55))
    lead = compare_with_baseline(texts, candidate(good), SHARES, "accuracy")
    assert lead.beaten and lead.lead.low > 0
    # Right in some texts more than the largest class, and not significantly so.
    few = np.zeros_like(near)
    few[:40] = texts.truth[:40]
    few[40:100] = np.where(texts.truth[40:100] == 0, 1, 0)
    level = compare_with_baseline(texts, candidate(few), SHARES, "accuracy")
    assert not level.beaten and level.lead.low <= 0
    assert not compare_with_baseline(texts, candidate(few), SHARES, "loss").beaten
    assert compare_with_baseline(texts, candidate(good), SHARES, "loss").lead.high < 0


def test_the_baseline_has_no_variance_between_runs():
    texts, runs = made_up(n=1000, accuracies=(0.6, 0.7, 0.8))
    several = candidate(*runs)
    low, high = interval(texts, several, "loss")
    lead = compare_with_baseline(texts, several, SHARES, "loss").lead
    assert lead.high - lead.low == pytest.approx(high - low, rel=0.05)


def test_a_split_of_one_dialogue_is_compared_by_the_scores_alone():
    texts, (good, _) = made_up(size=240)
    found = compare_with_baseline(texts, candidate(good), SHARES, "accuracy")
    assert found.beaten and math.isnan(found.lead.low)
    assert not compare_with_baseline(texts, candidate(np.full(240, 3)), SHARES, "accuracy").beaten


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.lists(st.integers(1, 50), min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(1, 4),
    st.sampled_from(METRICS),
)
def test_a_constant_predictor_never_beats_the_baseline(truth, counts, constant, size, metric):
    texts, shares = split(np.array(truth), size), np.array(counts) / sum(counts)
    same = candidate(np.full(len(truth), constant))
    assert not compare_with_baseline(texts, same, shares, metric).beaten


def test_of_a_metric_of_labels_it_does_not_count_how_sure_a_constant_predictor_is():
    texts, same = split(np.full(40, 2)), candidate(np.full(40, 2))
    same[:, ::2] = (same[:, ::2] + 0.25) / 2
    assert not compare_with_baseline(texts, same, SHARES, "accuracy").beaten


def test_a_model_may_beat_the_baseline_in_loss_though_it_predicts_one_class_alone():
    texts, _ = made_up()
    unsure = np.where(np.eye(4)[texts.truth] == 1, 0.35, 0.0)[None] + 0.1
    unsure[..., 0] = 0.5
    unsure /= unsure.sum(axis=2, keepdims=True)
    assert (unsure.argmax(axis=2) == 0).all()
    assert compare_with_baseline(texts, unsure, SHARES, "loss").beaten
    assert not compare_with_baseline(texts, unsure, SHARES, "accuracy").beaten


def test_the_numbers_of_a_study_stay_those_of_earlier_releases():
    texts, predicted = made_up(n=60)
    one, other = (candidate(each) for each in predicted)
    assert interval(texts, one, "macro_f1") == pytest.approx((0.4022654392702826, 0.7570210324764225))
    assert difference(texts, one, other, "macro_f1").p == pytest.approx(0.04781706245771221)


def test_draws_in_chunks_are_the_same_draws(monkeypatch):
    texts, predicted = made_up(n=60, accuracies=(0.6,) * 3)
    candidates = [candidate(one) for one in predicted]

    def results():
        optimism = selection_optimism(texts, candidates, "accuracy", "max")
        return [
            optimism,
            *interval(texts, candidates[0], "macro_f1"),
            *astuple(difference(texts, *candidates[:2], "loss")),
        ]

    whole = results()
    monkeypatch.setattr("bertgrid_tf.metrics.compare._CHUNK", 5000)
    assert results() == pytest.approx(whole)


def test_a_lead_of_two_points_does_not_matter_unless_otherwise_asked():
    texts, predicted = made_up(n=120, size=1, accuracies=(0.65, 0.6, 0.65, 0.65))
    pairs = [tuple(candidate(one) for one in pair) for pair in (predicted[:2], predicted[2:])]
    found = interaction(texts, *pairs, "accuracy", "max")
    worst = -found.at_winner.low
    assert 0.02 < worst < 0.1
    assert found.verdict == "too little data to tell"
    assert interaction(texts, *pairs, "accuracy", "max", worst - 1e-9).verdict == "too little data to tell"
    assert interaction(texts, *pairs, "accuracy", "max", worst).verdict == "independent as far as can be seen"


def test_the_optimism_is_what_the_best_of_one_half_loses_on_the_other_by_root_2():
    truth = np.zeros(8, int)
    predicted = [1 - np.array(right) for right in ([1, 1, 1, 0, 0, 1, 0, 1], [0, 1, 0, 1, 1, 1, 1, 0])]
    right = np.array(predicted) == truth
    losses = []
    for half in combinations(range(8), 4):
        inside = np.isin(np.arange(8), half)
        selected, fair = (right[:, texts].mean(axis=1) for texts in (inside, ~inside))
        losses.append(selected.max() - fair[selected.argmax()])
    expected = np.mean(losses) / math.sqrt(2)
    candidates = [candidate(one) for one in predicted]
    assert selection_optimism(split(truth), candidates, "accuracy", "max") == pytest.approx(expected, rel=0.15)
