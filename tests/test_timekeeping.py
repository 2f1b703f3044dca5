"""Studies with a budget, on a simulated time: a training step takes a second."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tiny_study import SECONDS, Recorder, run, tiny

from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.budget import Budget, Decisions
from bertgrid_tf.clock import Clock, Work
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Settings
from bertgrid_tf.results import Results
from bertgrid_tf.run import Runs
from bertgrid_tf.timekeeping import OutOfTimeError
from bertgrid_tf.timekeeping.deadline import LEFT_OUT, Ahead, Deadline, TimedPool, TimedRun
from tuners.pool import Report

# Of 4 steps an epoch: 2 epochs of sweeping, 4 of the grid, and a final model of 2 at most.
WHOLE = {"learning_rate": 1e-3}


class Time:
    """A time that passes with the steps of a study."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step_seconds = 1.0

    def __call__(self) -> float:
        return self.now

    def pass_step(self) -> None:
        self.now += self.step_seconds


@pytest.fixture(scope="module", autouse=True)
def one_model_each():
    """A model is built and traced once for all studies here: most of what a study of seconds takes."""
    build, built = Runs.trainer, {}

    def trainer(self: Runs, settings: Settings, final: bool = False) -> Trainer:
        what = (self.recipe.limit_train, settings.model)
        if what not in built:
            built[what] = build(self, settings, final)
        return built[what]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runs, "trainer", trainer)
        yield


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    passing = Time()
    monkeypatch.setattr("bertgrid_tf.timekeeping.timekeeper.monotonic", passing)
    return passing


def study(folder: Path, time: Time, seconds: float | None = None, then: Callable[[], None] = lambda: None, **recipe):
    """What a study within so many seconds was told of."""

    def step() -> None:
        time.pass_step()
        then()

    budget = None if seconds is None else Budget(seconds, time.now)
    return run(folder, tiny(**WHOLE | recipe), listener=Recorder(step), budget=budget)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study without a budget."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    run(folder, tiny(**WHOLE))
    return folder


def tables(folder: Path) -> dict[str, str]:
    results = Results(folder)
    predictions = {path.name: path.read_text() for path in results.predictions.iterdir()}
    cells = pd.read_csv(results.cells_file).drop(columns=SECONDS).to_csv()
    return predictions | {"cells": cells, "sweeps": results.sweeps_file.read_text()}


def decided(folder: Path) -> list[str]:
    return [json.loads(line)["decision"] for line in Results(folder).budget_file.read_text().splitlines()]


def test_a_budget_that_everything_fits_changes_nothing_and_nothing_is_trained_twice(whole, time, tmp_path):
    told = study(tmp_path / "study", time, 1000)
    assert tables(tmp_path / "study") == tables(whole)
    planned = 2 + 4 + len(Results(whole).final().epochs)
    assert told.steps == 4 * planned
    assert decided(tmp_path / "study") == ["recipe", "grid"]
    fits = "All that was asked for fits --budget 16m40s."
    assert told.notes == [f"{fits} What of the grid fits is chosen again after the sweeps.", fits]
    assert not Results(tmp_path / "study").opening.exists()


def test_what_does_not_fit_is_left_out_and_the_study_ends_in_time_with_a_final_model(time, tmp_path):
    folder = tmp_path / "study"
    told = study(folder, time, 40)
    results = Results(folder)
    assert time.now <= 40
    assert results.model.is_dir()
    assert "Chosen to fit --budget 40s, without" in told.notes[0]
    assert Decisions(results.budget_file).chosen(tiny(**WHOLE)) != tiny(**WHOLE)
    # What was asked for stays the study's recipe; the rest of its table is empty.
    assert results.recipe() == tiny(**WHOLE)
    assert results.table().scores.shape == (2, 2)
    assert not results.table().tried.all()


def test_the_least_is_one_epoch_at_the_start_s_learning_rate(time, tmp_path):
    with pytest.raises(UserError, match=r"give --budget \d+s or more") as refused:
        study(tmp_path / "study", time, 8)
    least = float(str(refused.value).split("give --budget ")[1].split("s")[0])
    # What was spent on finding out is spent; another session begins.
    told = study(tmp_path / "study", time, least + time.now)
    assert [stage for stage, _ in told.runs if stage != "sweep:context"] == ["grid", "final"]
    assert Results(tmp_path / "study").best().learning_rates == [1e-3]
    assert len(Results(tmp_path / "study").final().epochs) == 1


def test_a_study_that_becomes_slow_ends_its_search_in_time_for_the_final_model(time, tmp_path):
    def slower() -> None:
        # From the second row of the grid on.
        time.step_seconds = 1.0 if time.now < 8 else 4.0

    folder = tmp_path / "study"
    told = study(folder, time, 60, slower, sweeps={})
    results = Results(folder)
    assert told.notes == ["All that was asked for fits --budget 1m."]
    assert time.now <= 60
    assert results.model.is_dir()
    assert decided(folder) == ["recipe", "stop"]
    assert results.table().tried.tolist() == [[True, True], [True, False]]


def test_a_final_model_that_is_slower_than_predicted_is_ended_after_an_epoch_that_is_done(time, tmp_path):
    folder = tmp_path / "study"

    class Slow(Recorder):
        def on_run(self, run, stage, *rest) -> None:
            super().on_run(run, stage, *rest)
            time.step_seconds = 30.0 if stage == "final" else 1.0

    told = Slow(time.pass_step)
    recipe = tiny(**WHOLE | {"learning_rates": [1e-3], "metric": "loss"})
    run(folder, recipe, listener=told, budget=Budget(200, 0.0))
    results = Results(folder)
    assert results.best().epochs == 2
    assert len(results.final().epochs) == 1
    assert decided(folder) == ["recipe", "grid", "final"]
    assert results.model.is_dir()
    # A kill before its scores were written repeats it.
    results.final_file.unlink()
    study(folder, time, **{"learning_rates": [1e-3], "metric": "loss"})
    assert len(results.final().epochs) == 1


class KilledError(BaseException):
    """Stands for a kill: nothing of the study catches it."""


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with a budget that not everything fits."""
    folder, passing = tmp_path_factory.mktemp("cut") / "study", Time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertgrid_tf.timekeeping.timekeeper.monotonic", passing)
        study(folder, passing, 40)
    return folder


@pytest.mark.parametrize("steps", [2, 4, 5, 9, 14])
def test_a_study_that_is_killed_and_resumed_does_what_it_had_decided(steps, cut, time, tmp_path):
    def kill() -> None:
        if time.now == steps:
            raise KilledError

    folder = tmp_path / "study"
    with pytest.raises(KilledError):
        study(folder, time, 40, kill)
    before = decided(folder) if Results(folder).budget_file.exists() else []
    # A lost epoch's time is not known to the next session; it has what the clock has counted.
    time.now = sum(found.measured for found in Results(folder).times())
    run(folder, tiny(**WHOLE), listener=Recorder(time.pass_step), budget=None if before else Budget(40, time.now))
    # Nothing that was decided is decided again; how fast it goes is measured again.
    assert decided(folder)[: len(before)] == before
    assert decided(folder)[:2] == decided(cut)[:2] == ["recipe", "grid"]
    assert time.now <= 40
    assert Results(folder).model.is_dir()
    if decided(folder) == decided(cut):
        assert tables(folder) == tables(cut)


def test_another_budget_or_a_late_one_is_refused(whole, time, tmp_path):
    shutil.copytree(whole, tmp_path / "whole")
    with pytest.raises(UserError, match="began without a budget: go on without --budget"):
        study(tmp_path / "whole", time, 1000)
    study(tmp_path / "study", time, 1000)
    with pytest.raises(UserError, match="was cut down to --budget 16m40s when it began: go on with that or without"):
        study(tmp_path / "study", time, 2000)
    assert study(tmp_path / "study", time, 1000).steps == 0


def test_the_first_steps_show_already_that_nothing_fits(time, tmp_path):
    with pytest.raises(UserError, match="is too short"):
        study(tmp_path / "study", time, 30, limit_train=400)
    # An epoch has more than 20.
    assert time.now == 10


def test_the_first_steps_choose_another_first_run(time, tmp_path):
    recipe = {"limit_train": 400, "sweeps": {}, "epochs": 6, "learning_rates": [1e-3], "final.model": "none"}
    folder = tmp_path / "study"
    told = study(folder, time, 100, **recipe)
    # The run of 6 epochs was left after 10 steps for one of fewer, whose first epoch counts.
    epochs = Decisions(Results(folder).budget_file).chosen(tiny(**recipe)).epochs
    steps = told.runs[0][1]["of_steps"]
    assert epochs < 6
    assert told.steps == 10 + epochs * steps
    assert time.now <= 100


WORK = Work("kind", "model", 1, 32, 4, 100.0, 10.0)


class Pool:
    """Carries runs of endless epochs, each of 10 s, one after another."""

    size = 2

    def __init__(self, time: Time) -> None:
        self.time = time
        self.epochs: dict[str, int] = {}
        self.due: list[str] = []

    def start(self, name: str, values: object, folder: Path) -> None:
        self.epochs[name] = 0
        self.due.append(name)

    def wait(self) -> Report:
        name = self.due.pop(0)
        self.epochs[name] += 1
        self.time.now += 10
        return Report(name, self.epochs[name], {"accuracy": 0.5})

    def advance(self, name: str) -> None:
        self.due.append(name)

    def stop(self, name: str) -> None:
        del self.epochs[name]


class Following(Ahead):
    """What must follow, said by the test."""

    def __init__(self, winner: int = 1) -> None:
        self.winner = winner

    def best_epoch(self) -> int:
        return self.winner

    def after_sweep(self) -> float:
        return 30.0

    def after_row(self, epoch: int) -> float:
        return 10.0


def timed(seconds: float, folder: Path, following: Following) -> tuple[Time, Deadline, Pool, TimedPool]:
    time = Time()
    clock = Clock(0.0, now=time)
    clock.pace.measure(WORK, 10.0)
    deadline = Deadline(seconds, clock, Decisions(folder / "budget.jsonl"), following)
    pool = Pool(time)
    return time, deadline, pool, TimedPool(pool, deadline)


ROW = TimedRun("learning_rate=1", False, False, WORK, 10, 0)


def test_a_pool_s_rows_are_ended_and_when_none_is_left_so_is_the_search(tmp_path):
    time, deadline, carried, pool = timed(70, tmp_path, Following())
    for name in ("0", "1"):
        assert deadline.admits(name, ROW)
        pool.start(name, {}, tmp_path)
    ended = []
    while len(ended) < 2:
        report = pool.wait()
        if report.metrics is None:
            ended.append(report)
        else:
            pool.advance(report.name)
    assert ended == [Report("0", 3, None), Report("1", 3, None)]
    assert not carried.epochs
    # 10 s are kept for the final model, and a tenth of all for error.
    assert time.now == 60
    assert not deadline.admits("2", ROW)
    pool.start("2", {}, tmp_path)
    with pytest.raises(OutOfTimeError):
        pool.wait()


def test_a_row_that_no_longer_fits_waits_for_those_that_are_under_way(tmp_path):
    _, deadline, _, pool = timed(41, tmp_path, Following())
    assert deadline.admits("0", ROW)
    pool.start("0", {}, tmp_path)
    pool.wait()
    pool.advance("0")
    pool.wait()
    assert not deadline.admits("1", ROW)
    pool.start("1", {}, tmp_path)
    pool.advance("0")
    assert pool.wait() == Report("0", 2, None)
    with pytest.raises(OutOfTimeError):
        pool.wait()


def test_a_level_that_no_longer_fits_fails_and_the_sweep_goes_on(tmp_path):
    _, deadline, carried, pool = timed(60, tmp_path, Following())
    level = TimedRun("context=current", True, True, WORK, 3, 0)
    assert not deadline.admits("0", level)
    pool.start("0", {}, tmp_path)
    assert pool.wait() == Report("0", 0, None, LEFT_OUT)
    assert not carried.epochs
    assert Decisions(tmp_path / "budget.jsonl").of("leave_out")[0]["run"] == "context=current"


def test_the_first_row_begins_whatever_the_time(tmp_path):
    _, deadline, _, _ = timed(1, tmp_path, Following(winner=0))
    assert deadline.admits("0", ROW)
    assert not timed(1, tmp_path, Following(winner=1))[1].admits("0", ROW)


def test_what_a_killed_process_had_trained_is_told_again_whole(tmp_path):
    _, deadline, _, _ = timed(1, tmp_path, Following())
    assert deadline.admits("0", TimedRun("learning_rate=1", False, False, WORK, 10, 3))
    assert [deadline.goes_on("0", epoch) for epoch in (1, 2, 3)] == [True, True, False]
