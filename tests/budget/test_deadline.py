"""Searches with a budget on simulated workers: a test decides on the seconds of an epoch, and nothing is trained."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import keras_tuner
import pytest
from tiny_study import Recorder, tiny

from benchmarks.search.simulation import SimulatedPool
from bertgrid_tf.budget.controller import BudgetController, NotChosenError
from bertgrid_tf.budget.deadline import LEFT_OUT, TimedOracle
from bertgrid_tf.budget.plan import search_space
from bertgrid_tf.budget.time_budget import Budget
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name
from bertgrid_tf.training.workload import EpochWorkload
from tuners.parallel import ParallelSearch
from tuners.strategies import strategy

WORKLOAD = EpochWorkload("kind", "model", 1, 32, 4, 100.0, 10.0)
ROWS = {"sweeps": {}, "learning_rates": [4e-3, 2e-3, 1e-3], "learning_rate": 2e-3, "epochs": 4}
SWEEP = {"sweeps": {"max_length": [16, 32, 48]}, "sweep_epochs": 2, "learning_rates": [1e-3], "epochs": 1}


class Search:
    """The search of a study within a budget.

    Args:
        folder: The study folder.
        budget: Budget in seconds.
        workers: Trials at a time.
        seconds: Returns the seconds of an epoch, given the number of trials that have begun.
        recipe: Overrides of the tiny recipe.
    """

    def __init__(
        self, folder: Path, budget: float, workers: int, seconds: Callable[[int], float] = lambda trial: 10.0, **recipe
    ) -> None:
        self.recipe = tiny(**recipe)
        self.study_folder = StudyFolder(folder)
        self.study_folder.predictions.mkdir(parents=True, exist_ok=True)
        self.began: list[tuple[float, str, float]] = []
        self.seconds = seconds
        self.pool = SimulatedPool(self._run, workers, lambda values, epoch: seconds(len(self.began)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bertgrid_tf.budget.controller.monotonic", lambda: self.pool.clock)
            self.controller = BudgetController(
                self.recipe, lambda config: WORKLOAD, self.study_folder, Recorder(), Budget(budget, 0.0), workers, 1, 1
            )
        try:
            self._search()
        except NotChosenError as ended:
            self.pool.stop(trial_name(ended.trial_id))
            self._search()

    def _run(self, values: Mapping, folder: Path) -> Iterator[dict[str, float]]:
        self.began.append((self.pool.clock, folder.name, values["learning_rate"]))
        return ({"accuracy": 0.5, "seconds": self.seconds(len(self.began))} for _ in range(values["stop_epoch"]))

    def _search(self) -> None:
        objective = keras_tuner.Objective("accuracy", "max")
        self.oracle = TimedOracle.over(search_space(self.recipe), objective, 1, search=self.recipe.search)
        self.oracle.verbose = 0
        self.controller.attach(self.oracle, lambda recipe: strategy(recipe.search, recipe.search_share) or "grid")
        folder, controller = self.study_folder.path, self.controller
        tuner = ParallelSearch(
            self.pool,
            self.oracle,
            folder.parent,
            folder.name,
            on_trial_begin=controller.begin_trial,
            on_epoch_end=controller.trial_epoch,
        )
        controller.resume()
        tuner.search()

    def decided(self, *decisions: str) -> list[dict]:
        return self.controller.log.of(*decisions)

    def epochs(self) -> list[int]:
        return [len(self.oracle.history(trial)) for trial in self.oracle.trials.values()]


def test_one_worker_trains_the_epoch_that_shows_the_speed_and_then_all_of_them_train(tmp_path):
    search = Search(tmp_path / "study", 1000, 3, **ROWS)
    assert [time for time, *_ in search.began] == [0, 10, 10]
    assert search.epochs() == [4, 4, 4]


def test_a_row_that_is_none_of_those_that_fit_is_ended_and_does_not_count(tmp_path):
    search = Search(tmp_path / "study", 100, 1, **ROWS)
    [chosen] = search.decided("recipe")
    assert chosen["epochs"] < 4
    # It was the folder of the ended row too.
    assert [name for _, name, _ in search.began][:2] == ["trial_0000", "trial_0000"]
    assert search.epochs() == [chosen["epochs"]] * len(chosen["learning_rates"])
    assert search.pool.clock + 10 * chosen["epochs"] <= 100


def test_what_was_predicted_before_the_choice_is_predicted_again_for_the_part_that_fits(tmp_path):
    rates = [8e-3, 4e-3, 2e-3, 1e-3, 5e-4, 2.5e-4]
    grid = {"search": "surface", "search_share": 0.3, "learning_rates": rates, "epochs": 6}
    search = Search(tmp_path / "study", 180, 1, **ROWS | grid)
    [chosen] = search.decided("recipe")
    assert (len(chosen["learning_rates"]), chosen["epochs"]) == (5, 6)
    # The trial that showed the speed goes on.
    assert len(search.began) == len(search.oracle.trials)
    grid = {time.stage: time for time in search.controller.estimator.times()}["grid"]
    assert grid.at_beginning == grid.after_first_epoch == grid.measured


def test_the_prediction_of_a_stage_as_it_began_outlasts_the_stages_after_it(tmp_path):
    search = Search(tmp_path / "study", 1000, 1, lambda trial: 10.0 if trial < 2 else 20.0, **SWEEP)
    times = {time.stage: time for time in search.controller.estimator.times()}
    sweep, grid = times["sweep:max_length"], times["grid"]
    assert (sweep.at_beginning, sweep.after_first_epoch, sweep.measured) == (60, 60, 100)
    assert grid.after_first_epoch < grid.at_beginning < grid.measured


def test_a_budget_that_nothing_fits_leaves_no_trial_behind(tmp_path):
    with pytest.raises(UserError, match="--budget 15s is too short"):
        Search(tmp_path / "study", 15, 2, **ROWS)
    assert not list((tmp_path / "study").glob("trial_*"))
    assert not (tmp_path / "study" / "oracle.json").exists()


def test_rows_end_early_when_epochs_become_slow_and_the_search_ends_with_them(tmp_path):
    search = Search(tmp_path / "study", 150, 2, lambda trial: 10.0 if trial < 2 else 60.0, **ROWS)
    assert [search.decided("recipe")[0]["without"], len(search.decided("end"))] == ["", 1]
    stopped = {line["trial"]: line["epoch"] for line in search.decided("stop")}
    assert stopped
    assert all(epoch < 4 for epoch in stopped.values())
    assert len(search.oracle.trials) == 2
    # The final model of the best epoch, the first, still fits.
    assert search.pool.clock + 60 <= 150


def test_a_level_that_no_longer_fits_is_left_out_and_the_grid_begins_whatever_the_time(tmp_path):
    slow = Search(tmp_path / "study", 100, 1, lambda trial: 10.0 if trial < 2 else 60.0, **SWEEP)
    left_out = [line["trial"] for line in slow.decided("leave_out")]
    assert left_out
    failed = [trial for trial in slow.oracle.trials.values() if trial.status == "FAILED"]
    assert [trial.message for trial in failed] == [LEFT_OUT] * len(left_out)
    assert slow.oracle.stage == "grid"
    assert slow.oracle.table().tried.all()


def test_a_search_that_was_ended_is_not_resumed(tmp_path):
    first = Search(tmp_path / "study", 150, 2, lambda trial: 10.0 if trial < 2 else 60.0, **ROWS)
    resumed = Search(tmp_path / "study", 150, 2, **ROWS)
    assert not resumed.began
    assert resumed.oracle.cells() == first.oracle.cells()


def test_a_trial_of_one_cell_trains_all_of_its_epochs_or_is_not_begun(tmp_path):
    rows = ROWS | {"learning_rates": [2e-3], "grid_schedule": "per-cell"}
    # Four epochs of ten seconds, and three that take far longer than they were expected to.
    search = Search(tmp_path / "study", 175, 1, lambda trial: 10.0 if trial < 2 else 40.0, **rows)
    assert search.decided("recipe")[0]["without"] == ""
    assert len(search.decided("end")) == 1
    assert not search.decided("stop")
    assert search.epochs() == [4, 3]
