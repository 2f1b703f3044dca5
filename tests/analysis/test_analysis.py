from collections.abc import Callable
from dataclasses import replace
from itertools import count

import made_up_study
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_up_study import right_in, write_trial

from bertgrid_tf.analysis import StudyScores, analyze, class_report, compare_studies, dev_baseline, fit_correction
from bertgrid_tf.analysis.gains import _change, averaging_gains
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.errors import UserError
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.storage.predictions import Predictions, write_predictions
from bertgrid_tf.storage.records import FinalTrial, FollowUpTrial, Soup
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import INTERACTIONS, SEEDS, TrialConfig

RightFor = Callable[[float], np.ndarray]


@pytest.fixture
def right_for() -> RightFor:
    """Gives probabilities that are right for a share of the texts; in a test, others are drawn at every call."""
    seeds = count()
    return lambda share: right_in(share, next(seeds))


def config(folder: StudyFolder, stop_epoch: int, seed: int, stage: str, **changed: object) -> TrialConfig:
    """The trial of the study's hyperparameters, some of them changed, trained to the end of its schedule."""
    config = TrialConfig(folder.read_recipe().hyperparameters, stop_epoch, stop_epoch, seed, stage)
    return config.with_hyperparameters(**changed)


def test_the_tied_set_is_what_does_not_differ_from_the_best(tmp_path, right_for):
    cells = {(1e-3, 1): right_for(0.5), (1e-3, 2): right_for(0.79), (5e-4, 1): None, (5e-4, 2): right_for(0.80)}
    analysis = analyze(made_up_study.make(tmp_path / "study", cells))
    assert [(cell.learning_rate, cell.epoch) for cell in analysis.tied] == [(1e-3, 2), (5e-4, 2)]
    assert (analysis.best.learning_rate, analysis.best.epoch, analysis.best.p) == (5e-4, 2, 1)
    assert analysis.best.score.value == 0.8
    assert analysis.best.score.low < 0.8 < analysis.best.score.high
    far, _, diverged, _ = analysis.cells
    assert far.p < 0.05
    assert diverged.score is None
    assert not diverged.tied
    assert analysis.optimism > 0
    assert [gain.name for gain in analysis.gains] == ["logit adjustment", "temperature"]


def test_the_cost_has_the_median_mfu_and_roofline_of_the_grid_s_epochs(tmp_path, right_for):
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): right_for(0.8), (1e-3, 2): right_for(0.8)})
    cost = analyze(study_folder).cost
    assert (cost.tokens_per_second, cost.padding_share, cost.mfu, cost.roofline) == (500.0, 0.0, 0.25, 0.5)
    cells = pd.read_csv(study_folder.cells_file, dtype={"trial_id": str})
    for unknown, known in ((cells.index == 0, 0.25), (cells.index >= 0, None)):
        cells.loc[unknown, "limit_seconds"] = np.nan
        cells.to_csv(study_folder.cells_file, index=False, na_rep="nan")
        assert analyze(study_folder).cost.mfu == known


def test_of_tied_cells_the_cheapest_has_the_fewest_epochs_and_wins_if_it_is_to(tmp_path, right_for):
    cells = {(1e-3, 1): right_for(0.79), (1e-3, 2): right_for(0.795), (1e-3, 3): right_for(0.80)}
    best = analyze(made_up_study.make(tmp_path / "best", cells))
    assert (best.best.epoch, best.cheapest_tied.epoch) == (3, 1)
    cheap = analyze(made_up_study.make(tmp_path / "cheap", cells, selection="cheapest-equivalent"))
    assert cheap.best.epoch == 1


@settings(max_examples=12)
@given(
    rates=st.permutations([1e-3, 5e-4, 2e-4]),
    scores=arrays(float, (2, 3, 2), elements=st.sampled_from([0.5, 0.8, 0.81])),
    seeds=st.sampled_from([1, 2]),
)
def test_of_equal_cells_the_one_of_fewer_epochs_wins_then_that_of_the_earlier_row(
    tmp_path_factory, rates, scores, seeds
):
    draws = count()
    folder = tmp_path_factory.mktemp("study")
    places = [(row, epoch) for row in range(3) for epoch in (1, 2)]
    cells = {(rates[row], epoch): right_in(scores[0, row, epoch - 1], next(draws)) for row, epoch in places}
    study_folder = made_up_study.make(folder, cells, n_seeds=seeds)
    if seeds == 2:
        for row, rate in enumerate(rates):
            name, second = f"seed2_{row}", scores[1, row]
            metrics = [
                write_trial(study_folder, name, epoch, right_in(second[epoch - 1], next(draws))) for epoch in (1, 2)
            ]
            study_folder.write_follow_up(
                FollowUpTrial(
                    name, config(study_folder, stop_epoch=2, seed=2, stage=SEEDS, learning_rate=rate), metrics
                )
            )
    means = scores[:seeds].mean(axis=0)
    row, epoch = min(places, key=lambda place: (-means[place[0], place[1] - 1], place[1], place[0]))
    winner = StudyScores(study_folder).winner()
    assert (winner.learning_rate, winner.epoch) == (rates[row], epoch)


@pytest.mark.parametrize(
    ("changed", "joy"),
    [
        ({}, 0.25),
        ({"undersample": "neutral"}, 0.5),
        ({"undersample": "neutral:0.5"}, 0.4),
        ({"oversample_ratio": 0.5}, 0.4),
        ({"class_weights": "balanced"}, 0.5),
        ({"class_weights": "sqrt"}, 1 / (1 + 3**0.5)),
        ({"undersample": "neutral:0.5", "oversample_ratio": 1.0}, 0.5),
        ({"undersample": "neutral:0.5", "class_weights": "balanced"}, 0.5),
    ],
    ids=str,
)
def test_a_correction_divides_by_the_shares_of_the_classes_as_they_were_trained_on(tmp_path, right_for, changed, joy):
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): right_for(0.8)})
    metadata = study_folder.read_metadata()
    study_folder.write_metadata(replace(metadata, classes=metadata.classes | {"train": {"joy": 100, "neutral": 300}}))
    model = study_folder.read_recipe().hyperparameters.model_copy(update=changed)
    scored = StudyScores(study_folder)
    assert fit_correction(scored, scored.of_cell(1e-3, 1), model).correction.priors == pytest.approx([joy, 1 - joy])


def test_cells_that_were_repeated_are_compared_by_the_mean_over_their_seeds(tmp_path, right_for):
    cells = {(1e-3, 1): right_for(0.80), (5e-4, 1): right_for(0.79), (2e-4, 1): right_for(0.785)}
    study_folder = made_up_study.make(tmp_path / "study", cells, n_seeds=2)
    for rate, other in ((1e-3, 0.70), (5e-4, 0.79)):
        name = f"seed2_{rate:g}_1"
        metrics = write_trial(study_folder, name, 1, right_for(other))
        study_folder.write_follow_up(
            FollowUpTrial(name, config(study_folder, stop_epoch=1, seed=2, stage=SEEDS, learning_rate=rate), [metrics])
        )
    analysis = analyze(study_folder)
    assert (analysis.best.learning_rate, analysis.best.score.value) == (5e-4, pytest.approx(0.79))
    assert [(one.learning_rate, list(one.scores)) for one in analysis.seed_repeats] == [
        (1e-3, pytest.approx([0.80, 0.70])),
        (5e-4, pytest.approx([0.79, 0.79])),
    ]
    # What was not good enough to be repeated is out, whatever its one score.
    assert not analysis.cells[-1].tied


def test_the_levels_of_a_sweep_are_compared_with_its_best(tmp_path, right_for):
    levels = [
        ("context", "current", right_for(0.5), "COMPLETED"),
        ("context", "current+previous", right_for(0.8), "COMPLETED*"),
        ("context", "current+next", right_for(0.79), "COMPLETED"),
        ("oversample_ratio", "0.0", None, "RUNNING"),
        ("oversample_ratio", "1.0", None, "FAILED"),
    ]
    sweeps = {"context": ["current", "current+previous", "current+next"], "oversample_ratio": [0, 1]}
    context, oversample_ratio = analyze(made_up_study.make(tmp_path / "study", {}, levels, sweeps=sweeps)).sweeps
    assert [(level.level, level.tied, level.chosen) for level in context.levels] == [
        ("current", False, False),
        ("current+previous", True, True),
        ("current+next", True, False),
    ]
    assert [(level.level, level.score, level.status) for level in oversample_ratio.levels] == [
        (0.0, None, "RUNNING"),
        (1.0, None, "FAILED"),
    ]


def test_a_parameter_whose_runner_up_wins_at_the_winner_interacts(tmp_path, right_for):
    levels = [
        ("context", "current", right_for(0.5), "COMPLETED"),
        ("context", "current+previous", right_for(0.6), "COMPLETED*"),
    ]
    sweeps = {"context": ["current", "current+previous"]}
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): right_for(0.7)}, levels, sweeps=sweeps)
    trial = config(study_folder, stop_epoch=1, seed=1, stage=INTERACTIONS, context="current")
    checked = replace(trial, parameter="context")
    for reached, verdict in ((0.9, "interacts"), (0.6, "independent as far as can be seen")):
        metrics = write_trial(study_folder, "interaction_context", 1, right_for(reached))
        study_folder.write_follow_up(FollowUpTrial("interaction_context", checked, [metrics]))
        (check,) = analyze(study_folder).interaction_checks
        assert (check.parameter, check.chosen, check.runner_up) == ("context", "current+previous", "current")
        assert check.at_sweep.value == pytest.approx(0.1)
        assert check.at_winner.value == pytest.approx(0.7 - reached)
        assert check.verdict == verdict


def test_a_check_of_a_sweep_without_a_chosen_level_is_damage(tmp_path, right_for):
    levels = [("context", level, right_for(0.5), "COMPLETED") for level in ("current", "current+previous")]
    sweeps = {"context": ["current", "current+previous"]}
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): right_for(0.7)}, levels, sweeps=sweeps)
    checked = config(study_folder, stop_epoch=1, seed=1, stage=INTERACTIONS, context="current")
    metrics = write_trial(study_folder, "interaction_context", 1, right_for(0.6))
    check = FollowUpTrial("interaction_context", replace(checked, parameter="context"), [metrics])
    study_folder.write_follow_up(check)
    with pytest.raises(UserError, match="no chosen level of context beside current"):
        StudyScores(study_folder).interaction_checks(StudyScores(study_folder).cells[0])


def test_studies_are_compared_text_by_text_where_their_dev_splits_are_the_same(tmp_path, right_for):
    one = made_up_study.make(tmp_path / "one", {(1e-3, 1): right_for(0.8)})
    worse = made_up_study.make(tmp_path / "worse", {(1e-3, 1): right_for(0.6)})
    assert [(study.best, study.tied) for study in compare_studies([worse, one])] == [(False, False), (True, True)]
    empty = made_up_study.make(tmp_path / "empty", {})
    assert compare_studies([one, empty]) is None
    other = made_up_study.make(tmp_path / "other", {}, metric="macro_f1")
    with pytest.raises(UserError, match="decide by accuracy and macro_f1"):
        compare_studies([one, other])


def test_the_opened_test_split_tells_the_final_model_and_what_was_better_for_free(tmp_path, right_for):
    best = right_for(0.8)
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): best, (5e-4, 1): right_for(0.75)})
    model = study_folder.read_recipe().hyperparameters
    study_folder.best_file.write_text(study_folder.read_recipe().to_yaml())
    study_folder.write_final(FinalTrial(model, 1, [write_trial(study_folder, "final", 1, best)]))
    study_folder.write_soup(Soup([(1e-3, 1), (5e-4, 1)], [], write_trial(study_folder, "soup", 1, right_for(0.82))))
    assert analyze(study_folder).test is None
    assert {gain.on_test for gain in analyze(study_folder).gains} == {None}
    for of, right in (("final", right_for(0.6)), ("soup", right_for(0.9))):
        predictions = Predictions(made_up_study.DIALOGUES, made_up_study.TRUTH, right)
        write_predictions(study_folder.evaluation_file("test", of), predictions, made_up_study.LABELS)
    analysis = analyze(study_folder)
    assert (analysis.test.score.value, analysis.test.metrics["accuracy"]) == (0.6, 0.6)
    assert analysis.test.score.low < 0.6 < analysis.test.score.high
    assert analysis.test.confusion.sum() == made_up_study.TEXTS
    gains = {gain.name: gain for gain in analysis.gains}
    soup, temperature = gains["soup"], gains["temperature"]
    assert (soup.on_test.before, soup.on_test.after, soup.kept) == (0.6, 0.9, True)
    assert soup.on_test.p < 0.001 < soup.on_dev.p
    # Right in 0.8 of dev and 0.6 of test, with a confidence of 0.75, and then of 0.8: the cross-entropy decides.
    assert temperature.metric == "loss" and temperature.kept
    assert temperature.on_dev.before == pytest.approx(-0.8 * np.log(0.75) - 0.2 * np.log(0.25))
    assert temperature.on_test.before == pytest.approx(-0.6 * np.log(0.75) - 0.4 * np.log(0.25))
    assert temperature.on_test.after == pytest.approx(-0.6 * np.log(0.8) - 0.4 * np.log(0.2), abs=0.01)
    assert "the calibration error goes from 5.0 % to" in temperature.detail
    assert gains["ensemble"].on_test is None


def test_a_soup_is_not_compared_with_a_final_model_of_another_kind(tmp_path, right_for):
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): (best := right_for(0.8))})
    other = study_folder.read_recipe().hyperparameters.model_copy(update={"model": "bert-large-cased"})
    study_folder.best_file.write_text(study_folder.read_recipe().to_yaml())
    study_folder.write_final(FinalTrial(other, 1, [write_trial(study_folder, "final", 1, best)]))
    study_folder.write_soup(Soup([(1e-3, 1)], [], write_trial(study_folder, "soup", 1, best)))
    for of in ("final", "soup"):
        predictions = Predictions(made_up_study.DIALOGUES, made_up_study.TRUTH, best)
        write_predictions(study_folder.evaluation_file("test", of), predictions, made_up_study.LABELS)
    soup = next(gain for gain in analyze(study_folder).gains if gain.name == "soup")
    assert soup.on_test is None and not soup.kept


def test_a_cell_that_diverged_never_wins_though_it_is_the_first(tmp_path, right_for):
    cells = {(1e-3, 1): None, (1e-3, 2): right_for(0.7), (5e-4, 1): right_for(0.6)}
    scores = StudyScores(made_up_study.make(tmp_path / "study", cells))
    assert (scores.winner().learning_rate, scores.winner().epoch) == (1e-3, 2)
    assert (1e-3, 1) not in scores.tied_at_first()
    nothing = StudyScores(made_up_study.make(tmp_path / "diverged", {(1e-3, 1): None, (5e-4, 1): None}))
    assert nothing.winner() is None
    assert nothing.optimism() is None


def test_the_optimism_needs_two_cells_with_scores(tmp_path, right_for):
    one = made_up_study.make(tmp_path / "one", {(1e-3, 1): right_for(0.7), (5e-4, 1): None})
    assert StudyScores(one).optimism() is None
    two = made_up_study.make(tmp_path / "two", {(1e-3, 1): right_for(0.7), (5e-4, 1): right_for(0.7)})
    assert StudyScores(two).optimism() > 0


def test_the_cost_leaves_out_epochs_that_diverged_or_were_not_measured(tmp_path, right_for):
    cells = {(1e-3, 1): right_for(0.8), (1e-3, 2): None, (5e-4, 1): right_for(0.8), (5e-4, 2): right_for(0.8)}
    sweeps = {"context": ["current", "current+previous"]}
    study_folder = made_up_study.make(tmp_path / "study", cells, sweeps=sweeps)
    rows = pd.read_csv(study_folder.cells_file, dtype={"trial_id": str})
    rows["train_tokens"], rows["train_seconds"] = [1e3, 1e6, 3e3, 7e3], [2.0, 2.0, 2.0, 0.0]
    rows["train_padding"] = [0.25, 0.5, 0.5, 0.5]
    rows.to_csv(study_folder.cells_file, index=False, na_rep="nan")
    cost = analyze(study_folder).cost
    assert (cost.tokens_per_second, cost.padding_share) == (1000.0, 0.25)
    assert (cost.grid_epochs, cost.product_epochs) == (4, 8)
    empty = analyze(made_up_study.make(tmp_path / "empty", {}, [("context", "current", None, "RUNNING")]))
    assert (empty.cost.tokens_per_second, empty.cost.padding_share, empty.cost.mfu, empty.cost.roofline) == (None,) * 4
    assert (empty.command, empty.predict_command, empty.gains, empty.best) == ("", "", [], None)


def test_a_level_that_was_left_out_for_lack_of_time_has_not_failed(tmp_path, right_for):
    levels = [
        ("context", "current", right_for(0.7), "COMPLETED*"),
        ("context", "current+previous", None, "FAILED"),
        ("context", "current+next", None, "FAILED"),
    ]
    sweeps = {"context": ["current", "current+previous", "current+next"]}
    study_folder = made_up_study.make(tmp_path / "study", {}, levels, sweeps=sweeps)
    BudgetLog(study_folder.budget_file).add("leave_out", trial="context=current+next")
    (context,) = analyze(study_folder).sweeps
    assert [(level.status, level.epoch, level.p) for level in context.levels] == [
        ("COMPLETED", 1, 1.0),
        ("FAILED", None, None),
        ("LEFT_OUT", None, None),
    ]


def test_a_soup_is_kept_unless_it_is_worse_or_has_one_row(tmp_path, right_for):
    best, other = right_for(0.8), right_for(0.75)
    for after, rows, kept in ((0.8, 2, True), (0.79, 2, False), (0.8, 1, False)):
        study_folder = made_up_study.make(tmp_path / f"{after}_{rows}", {(1e-3, 1): best, (5e-4, 1): other})
        places = [(1e-3, 1), (5e-4, 1)]
        soup = write_trial(study_folder, "soup", 1, right_for(after))
        study_folder.write_soup(Soup(places[:rows], places[rows:], soup))
        averaged, ensemble, adjustment, temperature = analyze(study_folder).gains
        assert [averaged.name, ensemble.name, adjustment.name, temperature.name] == [
            "soup",
            "ensemble",
            "logit adjustment",
            "temperature",
        ]
        assert (averaged.on_dev.before, averaged.on_dev.after, averaged.kept) == (0.8, after, kept)
        assert ("No other row's weights improve" in averaged.detail) == (rows == 1)
        # Of two rows that disagree and are equally sure, the first class is predicted.
        both = np.mean([best, other], axis=0).argmax(axis=1) == made_up_study.TRUTH
        assert ensemble.metric == "accuracy" and not ensemble.kept
        assert (ensemble.on_dev.before, ensemble.on_dev.after) == (0.8, pytest.approx(both.mean()))
        # Classes of equal shares leave nothing to adjust.
        assert not adjustment.kept and "Strength 0," in adjustment.detail


def test_a_gain_that_is_not_used_says_why_and_the_temperature_has_the_calibration_error(tmp_path, monkeypatch):
    # Joy is rare and never predicted.
    truth = (np.arange(made_up_study.TEXTS) % 10 > 0).astype(int)
    monkeypatch.setattr(made_up_study, "TRUTH", truth)
    unsure = np.arange(made_up_study.TEXTS) % 7 == 0
    joy = np.where(truth == 0, 0.3, np.where(unsure, 0.35, 0.1))
    probabilities = np.stack([joy, 1 - joy], axis=1).astype(np.float32)
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): probabilities})
    adjustment, temperature = analyze(study_folder).gains
    assert (adjustment.metric, adjustment.kept) == ("macro_f1", False)
    assert adjustment.detail == (
        "Strength 0.5, chosen by cross-validation over dialogues. "
        "It trades accuracy for the rare classes, so it is not used."
    )
    assert temperature.detail == (
        "Temperature 0.61; the predicted class stays the same, and the calibration error goes from 19.3 % to 12.0 %."
    )


def test_a_metric_of_named_classes_has_a_report_and_gains_on_test_too(right_for):
    texts = Split(made_up_study.TRUTH, np.arange(made_up_study.TEXTS), made_up_study.LABELS)
    report = class_report(texts, right_for(0.8)[None], np.array([0.5, 0.5]), "micro_f1:joy")
    assert report.score.value == report.metrics["micro_f1:joy"] > 0
    change = _change(texts, right_for(0.6)[None], right_for(0.8)[None], "micro_f1:joy")
    assert 0 < change.before < change.after


def test_the_gain_of_a_soup_is_in_the_metric_that_decides(tmp_path, right_for):
    one, other = right_for(0.8), right_for(0.6)
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): one, (5e-4, 1): other}, metric="macro_f1")
    soup = write_trial(study_folder, "soup", 1, other)
    study_folder.write_soup(Soup([(1e-3, 1), (5e-4, 1)], [], soup))
    averaged, _ = averaging_gains(StudyScores(study_folder), None)
    expected = [evaluate(made_up_study.TRUTH, of, made_up_study.LABELS)["macro_f1"] for of in (one, other)]
    assert [averaged.on_dev.before, averaged.on_dev.after] == expected


def test_predictions_of_other_numbers_of_texts_than_the_study_counts_are_damaged(tmp_path, right_for):
    study_folder = made_up_study.make(tmp_path / "study", {(1e-3, 1): right_for(0.8)})
    counts = study_folder.read_metadata().classes | {"dev": {"joy": 201, "neutral": 199}}
    study_folder.write_metadata(replace(study_folder.read_metadata(), classes=counts))
    with pytest.raises(UserError, match="its texts are not those of the study"):
        StudyScores(study_folder).of_cell(1e-3, 1)


def test_the_baselines_of_dev_need_the_counts_of_the_classes_alone(tmp_path):
    study_folder = made_up_study.make(tmp_path / "study", {})
    counts = {"train": {"joy": 100, "neutral": 300}, "dev": {"joy": 0, "neutral": 40}}
    study_folder.write_metadata(replace(study_folder.read_metadata(), classes=counts))
    baseline = dev_baseline(study_folder)
    assert (baseline.label, baseline.always, baseline.guessing) == ("neutral", 1.0, pytest.approx(0.75))
    assert not baseline.beaten


@pytest.mark.parametrize("part", ["TRUTH", "DIALOGUES"])
def test_studies_of_other_texts_are_not_compared(tmp_path, right_for, monkeypatch, part):
    one = made_up_study.make(tmp_path / "one", {(1e-3, 1): right_for(0.8)})
    monkeypatch.setattr(made_up_study, part, (np.arange(made_up_study.TEXTS) + 1) // 2 % 2)
    other = made_up_study.make(tmp_path / "other", {(1e-3, 1): right_for(0.6)})
    assert compare_studies([one, other]) is None
    assert compare_studies([other, other]) is not None
