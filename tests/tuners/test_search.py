"""The trials of a search, the levels that it adopts and its results."""

import math
import threading
import time

import keras_tuner
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_tuner.engine.trial import Trial, TrialStatus
from toy_trainable import ToyTrainable, accuracy, fails, hyperparameters, search, stages, trials

import tuners.state
from tuners import Best, CasualGridOracle, CasualGridSearch, SweepLevel, TunerError

SWEEPS = {"layout": ["current", "previous", "next"], "batch_size": [16, 32]}
START = {"learning_rate": 1e-5, "warm_up": 0.1}


# Stages


def test_each_sweep_adopts_its_best_level_before_the_next_starts(tmp_path):
    tuner = search(tmp_path, ToyTrainable(), sweeps=SWEEPS, start=START)
    tuner.search()
    assert [
        (stage, hyperparameters(trial)["layout"], hyperparameters(trial)["batch_size"])
        for stage, trial in zip(stages(tuner), trials(tuner), strict=True)
    ] == [
        ("sweep:layout", "current", 16),
        ("sweep:layout", "previous", 16),
        ("sweep:layout", "next", 16),
        ("sweep:batch_size", "previous", 32),
        ("grid", "previous", 32),
        ("grid", "previous", 32),
    ]
    assert tuner.oracle.incumbent == {
        "layout": "previous",
        "batch_size": 32,
        "learning_rate": 1e-5,
        "warm_up": 0.1,
    }


def test_a_tuner_alone_never_waits(tmp_path, monkeypatch):
    monkeypatch.setattr("tuners.tuner.time.sleep", lambda seconds: pytest.fail("a trial was there to be run"))
    tuner = search(tmp_path, ToyTrainable(), sweeps=SWEEPS, start=START)
    tuner.search()
    assert len(trials(tuner)) == 6


def test_the_incumbents_level_is_trained_once_and_its_score_reused_by_later_sweeps(tmp_path):
    tuner = search(tmp_path, ToyTrainable(), sweeps=SWEEPS, start=START)
    tuner.search()
    found = tuner.oracle.sweep_results
    assert [(level.parameter, level.level, level.trial_id, level.chosen) for level in found] == [
        ("layout", "current", "0000", False),
        ("layout", "previous", "0001", True),
        ("layout", "next", "0002", False),
        ("batch_size", 16, "0001", False),
        ("batch_size", 32, "0003", True),
    ]
    assert isinstance(found[0], SweepLevel)
    assert found[1].score == pytest.approx(0.66)


def test_a_grid_row_that_a_sweep_has_trained_is_not_trained_twice(tmp_path):
    trainable = ToyTrainable()
    tuner = search(tmp_path, trainable, sweeps=SWEEPS, start=START, sweep_epochs=3)
    tuner.search()
    assert stages(tuner).count("grid") == 1
    assert not np.isnan(tuner.oracle.table().scores).any()
    assert len(trainable.trained) == len({str(epoch) for epoch in trainable.trained}) == tuner.oracle.plan().epochs


def test_without_sweeps_only_the_grid_is_trained(tmp_path):
    tuner = search(tmp_path, ToyTrainable())
    tuner.search()
    assert stages(tuner) == ["grid", "grid"]
    assert tuner.oracle.sweep_results == []


def test_a_sweep_of_one_level_is_adopted_without_a_trial(tmp_path):
    tuner = search(tmp_path, ToyTrainable(), sweeps={"layout": ["next"]}, start={"layout": "current"})
    tuner.search()
    assert stages(tuner) == ["grid", "grid"]
    assert tuner.oracle.incumbent["layout"] == "next"
    (level,) = tuner.oracle.sweep_results
    assert (level.chosen, level.trial_id, level.status) == (True, None, "SKIPPED")


def test_a_start_value_that_is_no_level_holds_until_its_sweep_and_is_not_tried(tmp_path):
    tuner = search(
        tmp_path,
        ToyTrainable(),
        sweeps={"batch_size": [16, 32], "layout": ["current", "next"]},
        start={"layout": "previous"},
    )
    tuner.search()
    assert [
        (hyperparameters(trial)["layout"], hyperparameters(trial)["batch_size"]) for trial in trials(tuner)[:4]
    ] == [
        ("previous", 16),
        ("previous", 32),
        ("current", 32),
        ("next", 32),
    ]
    assert tuner.oracle.incumbent["layout"] == "next"


@pytest.mark.parametrize(("start", "adopted"), [("c", "c"), ("a", "a"), ("b", "a")])
def test_of_equal_levels_the_incumbents_wins_then_the_earlier(tmp_path, start, adopted):
    equal = {"a": 0.7, "b": 0.6, "c": 0.7}
    trainable = ToyTrainable(lambda hyperparameters, epoch: equal[hyperparameters["level"]])
    tuner = search(tmp_path, trainable, sweeps={"level": ["a", "b", "c"]}, start={"level": start})
    tuner.search()
    assert tuner.oracle.incumbent["level"] == adopted


def test_a_sweep_compares_best_epochs(tmp_path):
    curves = {"early": [0.9, 0.1], "late": [0.2, 0.8]}
    trainable = ToyTrainable(
        lambda hyperparameters, epoch: (
            curves[hyperparameters["level"]][epoch - 1] if hyperparameters["schedule_epochs"] == 2 else 0.5
        )
    )
    chosen = []

    def note(trial):
        chosen.append([level.chosen for level in tuner.oracle.sweep_results])

    tuner = search(tmp_path, trainable, sweeps={"level": ["late", "early"]}, sweep_epochs=2)
    tuner._on_trial_begin = note
    tuner.search()
    assert chosen[:3] == [[False], [False, False], [False, True]]
    assert [(level.level, level.epoch, level.score, level.chosen) for level in tuner.oracle.sweep_results] == [
        ("late", 2, 0.8, False),
        ("early", 1, 0.9, True),
    ]


def test_a_small_objective_is_searched_for_where_its_direction_is_min(tmp_path):
    def trainable(hyperparameters, folder):
        yield from (
            {"val_loss": 1 - accuracy(hyperparameters, epoch)} for epoch in range(1, hyperparameters["stop_epoch"] + 1)
        )

    tuner = search(tmp_path, trainable, objective="val_loss", sweeps=SWEEPS)
    tuner.search()
    assert tuner.oracle.incumbent["layout"] == "previous"
    assert (tuner.oracle.best().learning_rate, tuner.oracle.best().epoch) == (2e-5, 2)
    assert tuner.oracle.get_best_trials()[0].trial_id == tuner.oracle.best().trial_id


def test_a_trainable_gets_every_parameter_and_no_stage(tmp_path):
    seen = []

    def trainable(hyperparameters, folder, *args, **kwargs):
        seen.append((hyperparameters, args, kwargs))
        assert folder.is_dir()
        yield from ToyTrainable()(hyperparameters, folder)

    tuner = search(tmp_path, trainable, sweeps={"batch_size": [16, 32]}, start=START)
    tuner.search("data", extra=1)
    assert seen[0] == (
        {"learning_rate": 1e-5, "warm_up": 0.1, "batch_size": 16, "schedule_epochs": 1, "stop_epoch": 1},
        ("data",),
        {"extra": 1},
    )
    assert hyperparameters(trials(tuner)[0])["tuner/stage"] == "sweep:batch_size"
    assert {trial[0]["stop_epoch"] for trial in seen[2:]} == {trial[0]["schedule_epochs"] for trial in seen[2:]} == {3}


# Grid


def test_a_row_fills_a_cell_after_every_epoch(tmp_path):
    tuner = search(tmp_path, ToyTrainable())
    tuner.search()
    expected = [[accuracy({"learning_rate": rate}, epoch) for epoch in (1, 2, 3)] for rate in (1e-5, 2e-5)]
    np.testing.assert_allclose(tuner.oracle.table().scores, expected)


def test_best_repeats_the_winning_cells_schedule(tmp_path):
    tuner = search(tmp_path, ToyTrainable(), start=START)
    tuner.search()
    hyperparameters = {"learning_rate": 2e-5, "warm_up": 0.1, "schedule_epochs": 3, "stop_epoch": 2}
    assert tuner.oracle.best() == Best(hyperparameters, 2e-5, 2, pytest.approx(0.5), "0001")
    assert tuner.get_best_hyperparameters()[0]["stop_epoch"] == 2


def test_an_independent_cell_has_a_schedule_of_its_own_and_counts_its_last_epoch(tmp_path):
    trainable = ToyTrainable(lambda hyperparameters, epoch: hyperparameters["schedule_epochs"] / 10 - epoch / 100)
    tuner = search(tmp_path, trainable, grid_schedule="per-cell", learning_rates=[1e-5])
    tuner.search()
    assert [
        (hyperparameters(trial)["schedule_epochs"], hyperparameters(trial)["stop_epoch"]) for trial in trials(tuner)
    ] == [
        (3, 3),
        (2, 2),
        (1, 1),
    ]
    np.testing.assert_allclose(tuner.oracle.table().scores, [[0.09, 0.18, 0.27]])
    assert trials(tuner)[0].score == pytest.approx(0.27)
    assert (
        tuner.oracle.best().hyperparameters["stop_epoch"] == tuner.oracle.best().hyperparameters["schedule_epochs"] == 3
    )


def test_a_cell_that_a_sweep_has_trained_is_not_trained_twice(tmp_path):
    tuner = search(tmp_path, ToyTrainable(), grid_schedule="per-cell", sweeps={"batch_size": [16, 32]}, sweep_epochs=2)
    tuner.search()
    assert stages(tuner).count("grid") == 5
    assert not np.isnan(tuner.oracle.table().scores).any()


def test_the_best_trials_are_the_grids_before_the_sweeps_and_never_failed_ones(tmp_path):
    def score(hyperparameters, epoch):
        if hyperparameters["schedule_epochs"] == 1:
            return 0.99
        return None if hyperparameters["learning_rate"] == 1e-5 else 0.5

    tuner = search(tmp_path, ToyTrainable(fails(score)), sweeps={"batch_size": [16, 32]})
    tuner.search()
    assert [trial.trial_id for trial in tuner.oracle.get_best_trials(10)] == ["0003", "0000", "0001"]


def test_the_table_is_empty_before_the_grid_and_has_no_best_cell(tmp_path):
    oracle = search(tmp_path, ToyTrainable(), sweeps=SWEEPS).oracle
    assert not oracle.table().tried.any()
    with pytest.raises(TunerError, match="no cell"):
        oracle.best()


def test_every_tried_cell_keeps_all_of_its_metrics(tmp_path):
    trainable = ToyTrainable(
        lambda hyperparameters, epoch: math.nan if hyperparameters["learning_rate"] == 2e-5 and epoch == 2 else 0.5
    )
    tuner = search(tmp_path, trainable)
    tuner.search()
    cells = tuner.oracle.cells()
    assert [(cell.learning_rate, cell.epoch, cell.trial_id) for cell in cells] == [
        (rate, epoch, trial_id) for rate, trial_id in ((1e-5, "0000"), (2e-5, "0001")) for epoch in (1, 2, 3)
    ]
    assert cells[3].metrics == {"val_accuracy": 0.5, "seconds": 1.0}
    assert math.isnan(cells[4].metrics["val_accuracy"])
    assert list(cells[5].metrics) == ["val_accuracy"]


# Failures


def test_a_diverged_epoch_ends_the_row_and_leaves_nan_from_there_on(tmp_path):
    trainable = ToyTrainable(
        lambda hyperparameters, epoch: math.inf if hyperparameters["learning_rate"] == 1e-5 and epoch == 2 else 0.5
    )
    tuner = search(tmp_path, trainable)
    tuner.search()
    np.testing.assert_array_equal(tuner.oracle.table().scores, [[0.5, np.nan, np.nan], [0.5, 0.5, 0.5]])
    assert tuner.oracle.table().tried.all()
    assert [trial.status for trial in trials(tuner)] == [TrialStatus.COMPLETED] * 2
    assert [epoch for hyperparameters, epoch in trainable.trained if hyperparameters["learning_rate"] == 1e-5] == [1, 2]


def test_a_trial_that_diverges_at_once_has_failed_and_the_search_continues(tmp_path, recwarn):
    tuner = search(
        tmp_path,
        ToyTrainable(lambda hyperparameters, epoch: math.nan if hyperparameters["learning_rate"] == 1e-5 else 0.5),
    )
    tuner.search()
    assert [trial.status for trial in trials(tuner)] == [TrialStatus.FAILED, TrialStatus.COMPLETED]
    assert "no epoch has a finite val_accuracy" in trials(tuner)[0].message
    assert tuner.oracle.table().tried.all()
    assert not [warning for warning in recwarn if "NaN" in str(warning.message)]


def test_a_failed_level_cannot_win_its_sweep(tmp_path):
    trainable = ToyTrainable(
        fails(
            lambda hyperparameters, epoch: (
                None if hyperparameters["batch_size"] == 32 and epoch == 2 else 0.5 + hyperparameters["batch_size"]
            )
        )
    )
    tuner = search(tmp_path, trainable, sweeps={"batch_size": [16, 32]}, sweep_epochs=2)
    tuner.search()
    failed = tuner.oracle.sweep_results[1]
    assert (failed.status, failed.epoch, failed.chosen, math.isnan(failed.score)) == (
        "FAILED",
        None,
        False,
        True,
    )
    assert tuner.oracle.incumbent["batch_size"] == 16


@pytest.mark.parametrize("start", [16, 8])
def test_where_all_levels_failed_the_incumbent_stays(tmp_path, start):
    trainable = ToyTrainable(fails(lambda hyperparameters, epoch: None))
    tuner = search(tmp_path, trainable, sweeps={"batch_size": [16, 32, 64, 128, 256]}, start={"batch_size": start})
    tuner.search()
    assert tuner.oracle.incumbent["batch_size"] == start
    assert [level.level for level in tuner.oracle.sweep_results if level.chosen] == [16] * (start == 16)
    # KerasTuner would have given up after three failures.
    assert stages(tuner).count("grid") == 2


def test_a_failed_row_has_no_score(tmp_path):
    tuner = search(tmp_path, ToyTrainable(fails(lambda hyperparameters, epoch: None if epoch == 3 else 0.5)))
    tuner.search()
    assert np.isnan(tuner.oracle.table().scores).all()
    assert tuner.oracle.table().tried.all()


def test_a_trial_without_an_epoch_has_failed(tmp_path):
    tuner = search(tmp_path, lambda hyperparameters, folder: iter(()))
    tuner.search()
    assert [trial.status for trial in trials(tuner)] == [TrialStatus.FAILED] * 2
    assert "yielded no epoch" in trials(tuner)[0].message


def test_a_trial_that_ends_early_counts_with_its_epochs(tmp_path):
    tuner = search(tmp_path, lambda hyperparameters, folder: iter([{"val_accuracy": 0.5}]))
    tuner.search()
    np.testing.assert_array_equal(tuner.oracle.table().tried, [[True, False, False]] * 2)
    assert tuner.oracle.best().epoch == 1


def test_a_trainable_that_does_not_end_is_refused_after_its_last_epoch(tmp_path):
    def trainable(hyperparameters, folder):
        while True:
            yield {"val_accuracy": 0.5}

    with pytest.raises(TunerError, match="3 epochs"):
        search(tmp_path, trainable).search()


def test_a_trainable_without_the_objective_is_refused(tmp_path):
    with pytest.raises(TunerError, match=r"val_accuracy is not among the metrics of the trainable \(val_loss\)"):
        search(tmp_path, lambda hyperparameters, folder: iter([{"val_loss": 0.5}])).search()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("new_process", [True, False])
def test_a_bug_or_an_interrupt_ends_the_search_which_resumes_with_that_trial(tmp_path, error, new_process):
    armed = [True]

    def score(hyperparameters, epoch):
        if armed and epoch == 2 and hyperparameters["learning_rate"] == 2e-5:
            armed.clear()
            raise error
        return accuracy(hyperparameters, epoch)

    trainable = ToyTrainable(score)
    tuner = search(tmp_path, trainable)
    with pytest.raises(error):
        tuner.search()
    assert trials(tuner)[1].status == TrialStatus.RUNNING
    if new_process:
        tuner = search(tmp_path, trainable)
    tuner.search()
    assert list(tuner.oracle.trials) == ["0000", "0001"]
    assert [epoch for hyperparameters, epoch in trainable.trained] == [1, 2, 3, 1, 2, 2, 3]
    assert [len(seen.value) for seen in trials(tuner)[1].metrics.get_history("val_accuracy")] == [1, 1, 1]


# The oracle's side


def test_an_oracle_that_stops_a_trial_ends_it_and_the_trial_counts(tmp_path):
    class Impatient(CasualGridOracle):
        def update_trial(self, trial_id, metrics, step=0):
            trial = super().update_trial(trial_id, metrics, step)
            if step == 2:
                trial.status = TrialStatus.STOPPED
            return trial

    closed = []

    def trainable(hyperparameters, folder):
        try:
            yield from ToyTrainable()(hyperparameters, folder)
        finally:
            closed.append(hyperparameters["learning_rate"])

    tuner = search(tmp_path, trainable, Impatient("val_accuracy", [1e-5, 2e-5], 3))
    tuner.search()
    np.testing.assert_array_equal(tuner.oracle.table().tried, [[True, True, False]] * 2)
    assert [trial.status for trial in trials(tuner)] == [TrialStatus.COMPLETED] * 2
    assert closed == [1e-5, 2e-5]


def test_tuners_that_share_an_oracle_wait_for_each_other_between_the_stages(tmp_path):
    asked = []

    class Counting(CasualGridOracle):
        def populate_space(self, trial_id):
            asked.append(trial_id)
            return super().populate_space(trial_id)

    oracle = Counting("val_accuracy", [1e-5, 2e-5], 3, sweeps=SWEEPS, start=START)
    together, met = [], []
    stage_of = {}
    # Broken where a tuner left instead of waiting for the grid.
    two_in_the_grid = threading.Barrier(2, timeout=20)

    def trainable(hyperparameters, folder):
        stage = stage_of[folder.name]
        together.append(stage)
        met.append(set(together))
        if stage == "grid":
            two_in_the_grid.wait()
        time.sleep(0.05)
        yield from ToyTrainable()(hyperparameters, folder)
        together.remove(stage)

    def note(trial):
        stage_of[f"trial_{trial.trial_id}"] = hyperparameters(trial)["tuner/stage"]

    workers = []
    for number in range(3):
        tuner = search(tmp_path, trainable, oracle)
        tuner.tuner_id, tuner._on_trial_begin = f"tuner{number}", note
        workers.append(threading.Thread(target=tuner.search, name=f"worker{number}"))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert all(len(stages) == 1 for stages in met)
    assert len(oracle.trials) == oracle.plan().trials == 6
    assert oracle.best().hyperparameters["layout"] == "previous"
    # Six trials and three farewells; a waiting tuner asks a few times a second, it does not spin.
    assert len(asked) < 40


def test_callbacks_receive_the_progress(tmp_path):
    reported = []
    oracle = CasualGridOracle("val_accuracy", [1e-5], 2)
    oracle.verbose = 0
    CasualGridSearch(
        ToyTrainable(),
        oracle,
        tmp_path,
        "study",
        on_trial_begin=lambda trial: reported.append((trial.trial_id, trial.status)),
        on_epoch_end=lambda trial, epoch, metrics: reported.append((trial.trial_id, epoch, sorted(metrics))),
    ).search()
    metrics = ["seconds", "val_accuracy"]
    assert reported == [("0000", "RUNNING"), ("0000", 1, metrics), ("0000", 2, metrics)]


def test_a_callback_that_returns_false_ends_the_trial_which_counts(tmp_path):
    oracle = CasualGridOracle("val_accuracy", [1e-5, 2e-5], 3)
    oracle.verbose = 0
    trainable = ToyTrainable()
    tuner = CasualGridSearch(
        trainable,
        oracle,
        tmp_path,
        "study",
        on_epoch_end=lambda trial, epoch, metrics: False if (trial.trial_id, epoch) == ("0001", 2) else None,
    )
    tuner.search()
    assert tuner.oracle.table().tried.tolist() == [[True, True, True], [True, True, False]]
    assert [trial.status for trial in trials(tuner)] == [TrialStatus.COMPLETED] * 2
    assert len(trainable.trained) == 5
    best = tuner.get_best_hyperparameters(2)
    assert [found.values["stop_epoch"] for found in best] == [2, 2]
    assert [found.values["learning_rate"] for found in best] == [2e-5, 1e-5]


def test_a_report_costs_the_same_however_many_trials_there_are(tmp_path, monkeypatch):
    tuner = search(tmp_path, ToyTrainable())
    tuner.search()
    written = []

    class Unscanned(dict):
        def __iter__(self):
            raise AssertionError("a report looks at one trial only")

        keys = hyperparameters = items = __iter__

    tuner.oracle.trials = tuner.oracle._decisions.trials = Unscanned(tuner.oracle.trials)
    monkeypatch.setattr(tuners.state, "write_text", lambda path, text: written.append(path.parent.name))
    tuner.oracle.update_trial("0001", {"val_accuracy": 0.5}, step=3)
    assert written == ["trial_0001"]


def test_a_trials_file_does_not_grow_with_the_search_space(tmp_path):
    sizes = set()
    for count in (2, 200):
        oracle = CasualGridOracle("val_accuracy", [(rate + 1) / 1000 for rate in range(count)], 1)
        tuner = search(tmp_path / str(count), ToyTrainable(lambda hyperparameters, epoch: 0.5), oracle)
        trial = tuner.oracle.create_trial("tuner0")
        sizes.add((tmp_path / str(count) / "study" / f"trial_{trial.trial_id}" / "trial.json").stat().st_size)
    assert len(sizes) == 1


def test_an_epoch_reported_twice_with_the_same_metrics_keeps_the_later_ones(tmp_path, monkeypatch):
    tuner = search(tmp_path, ToyTrainable(lambda hyperparameters, epoch: math.nan if epoch == 3 else 0.5))
    tuner.search()
    written = []
    monkeypatch.setattr(tuners.state, "write_text", lambda path, text: written.append(path))
    for epoch, score in ((1, 0.5), (3, math.nan)):
        tuner.oracle.update_trial("0001", {"val_accuracy": score, "seconds": 1.0}, step=epoch)
    assert [epoch for epoch, _ in tuner.oracle.history(trials(tuner)[1])] == [1, 2, 3]
    assert written == []


def test_kerastuners_own_tools_read_the_study(tmp_path):
    tuner = search(tmp_path, ToyTrainable(), sweeps={"batch_size": [16, 32], "cased": [True, False]})
    tuner.search()
    for path in (tmp_path / "study").glob("trial_*/trial.json"):
        assert Trial.load(str(path)).status == TrialStatus.COMPLETED
    reader = keras_tuner.Oracle(keras_tuner.Objective("val_accuracy", "max"))
    reader._set_project_dir(str(tmp_path), "study")
    reader.reload()
    assert reader.get_best_trials()[0].hyperparameters.get("stop_epoch") == 3
    *others, rate, schedule, stop = reader.get_space().space
    assert [hp.name for hp in (rate, schedule, stop)] == ["learning_rate", "schedule_epochs", "stop_epoch"]
    assert [hp.values for hp in (rate, others[0])] == [[1e-5, 2e-5], [16, 32]]
    assert (type(others[1]).__name__, others[1].default) == ("Boolean", True)
    assert [(hp.min_value, hp.max_value) for hp in (schedule, stop)] == [(1, 3)] * 2


def test_the_search_prints_its_course_as_kerastuner_does(tmp_path, capsys):
    oracle = CasualGridOracle("val_accuracy", [1e-5], 1)
    CasualGridSearch(ToyTrainable(), oracle, tmp_path, "study").search()
    assert "Search: Running Trial #1" in capsys.readouterr().out


# Summary


def test_the_summary_shows_sweeps_table_and_what_failed_or_diverged(tmp_path, capsys):
    def score(hyperparameters, epoch):
        if hyperparameters["batch_size"] == 32:
            return None
        return math.nan if hyperparameters["learning_rate"] == 1e-4 and epoch == 2 else accuracy(hyperparameters, epoch)

    tuner = search(
        tmp_path,
        ToyTrainable(fails(score)),
        learning_rates=[1e-4, 2e-5],
        sweeps={"batch_size": [16, 32]},
        start={"learning_rate": 2e-5},
    )
    tuner.search()
    capsys.readouterr()
    tuner.results_summary(scale=100, digits=1)
    assert (
        capsys.readouterr().out
        == f"""Results summary
Results in {tmp_path}/study
Objective(name="val_accuracy", direction="max")

Sweep       Level  Epoch   Score
batch_size  16         1    47.0*
batch_size  32            failed

Learning rate × epoch
learning rate    1     2     3
       0.0001 39.0   nan   nan
        2e-05 47.0  50.0* 47.0

Best: 50.0 at learning rate 2e-05, epoch 2

Trial 0001 failed: does not fit the memory
Trial 0002 diverged in epoch 2.
"""
    )


@pytest.mark.parametrize("message", [None, " \n"])
def test_a_trial_that_failed_without_a_reason_is_in_the_summary_all_the_same(tmp_path, capsys, message):
    tuner = search(tmp_path, ToyTrainable(), learning_rates=[1e-4], epochs=1)
    trial = tuner.oracle.create_trial("tuner0")
    trial.status, trial.message = TrialStatus.FAILED, message
    tuner.oracle.end_trial(trial)
    capsys.readouterr()
    tuner.results_summary()
    assert capsys.readouterr().out.endswith("\nTrial 0000 failed: no reason given\n")


def test_the_summary_has_shares_with_four_digits_by_default(tmp_path, capsys):
    tuner = search(tmp_path, ToyTrainable())
    tuner.search()
    capsys.readouterr()
    tuner.results_summary()
    assert "Best: 0.5000 at learning rate 2e-05, epoch 2\n" in capsys.readouterr().out


def test_the_summary_of_a_search_that_has_not_begun_says_so(tmp_path, capsys):
    search(tmp_path, ToyTrainable()).results_summary()
    assert "No cell of the grid has a score." in capsys.readouterr().out


# Plan


@settings(max_examples=25, deadline=None)
@given(
    levels=st.lists(st.integers(1, 3), max_size=3),
    start=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    rates=st.integers(1, 3),
    epochs=st.integers(1, 3),
    sweep_epochs=st.integers(1, 3),
    start_rate=st.integers(0, 3),
    grid_schedule=st.sampled_from(["shared", "per-cell"]),
    winners=st.randoms(use_true_random=False),
)
def test_the_plan_counts_the_trials_and_epochs_of_the_search(
    tmp_path_factory, levels, start, rates, epochs, sweep_epochs, start_rate, grid_schedule, winners
):
    trainable = ToyTrainable(lambda hyperparameters, epoch: winners.random())
    tuner = search(
        tmp_path_factory.mktemp("plan"),
        trainable,
        learning_rates=[(row + 1) / 100 for row in range(rates)],
        epochs=epochs,
        sweeps={f"parameter{number}": list(range(count)) for number, count in enumerate(levels)},
        start={f"parameter{number}": start[number] for number in range(len(levels))}
        | {"learning_rate": (start_rate + 1) / 100},
        sweep_epochs=sweep_epochs,
        grid_schedule=grid_schedule,
    )
    plan = tuner.oracle.plan()
    tuner.search()
    names = [f"sweep:parameter{number}" for number in range(len(levels))] + ["grid"]
    assert [(stage.name, stage.trials) for stage in plan.stages] == [
        (name, stages(tuner).count(name)) for name in names
    ]
    assert plan.epochs == len(trainable.trained)
    assert plan.full_product_epochs == math.prod(levels) * rates * (
        epochs if grid_schedule == "shared" else epochs * (epochs + 1) // 2
    )


def test_kerastuner_knows_the_direction_of_an_objective_of_ones_own(tmp_path):
    def trainable(hyperparameters, folder):
        yield {"val_f1": 0.5, "val_loss": 0.1}

    tuner = search(tmp_path, trainable, objective=keras_tuner.Objective("val_f1", "max"))
    tuner.search()
    assert [trials(tuner)[0].metrics.get_direction(name) for name in ("val_f1", "val_loss")] == ["max", "min"]
