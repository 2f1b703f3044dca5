"""A search with several trials at a time has the results of a search with one, whatever ends first."""

import zlib
from pathlib import Path

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_trainable import LAYOUTS, ToyTrainable, accuracy, fails, search, stages, trials

from benchmarks.search.simulation import SimulatedPool
from tuners import CasualGridOracle, TunerError
from tuners.parallel import ParallelSearch
from tuners.pool import Report, follow

SPACE = {
    "objective": "val_accuracy",
    "learning_rates": [1e-5, 2e-5, 3e-5],
    "epochs": 3,
    "sweeps": {"layout": [*LAYOUTS], "batch_size": [16, 32]},
    "sweep_epochs": 2,
}


def parallel(folder: Path, pool, **space) -> ParallelSearch:
    oracle = CasualGridOracle(**SPACE | space)
    oracle.verbose = 0
    return ParallelSearch(pool, oracle, folder, "study")


def found(tuner) -> tuple:
    oracle = tuner.oracle
    return (
        [
            (trial.trial_id, trial.status, trial.hyperparameters.values, oracle.history(trial))
            for trial in trials(tuner)
        ],
        oracle.sweep_results,
        oracle.table().scores.tolist(),
    )


@pytest.fixture(scope="module")
def of_one_worker(tmp_path_factory) -> dict[str, tuple]:
    """What one worker finds, by the schedule of the grid."""
    schedules = ("shared", "per-cell")
    return {name: found(one_at_a_time(tmp_path_factory.mktemp(name), grid_schedule=name)) for name in schedules}


def one_at_a_time(folder: Path, trainable=None, **space):
    tuner = search(folder, trainable or ToyTrainable(), **SPACE | space)
    tuner.search()
    return tuner


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 9),
    durations=st.lists(st.floats(0, 100), min_size=1, max_size=12),
    grid_schedule=st.sampled_from(["shared", "per-cell"]),
)
def test_whatever_ends_first_the_trials_and_the_tables_are_those_of_one_worker(
    tmp_path_factory, of_one_worker, size, durations, grid_schedule
):
    def seconds(hyperparameters, epoch):
        cell = (hyperparameters["layout"], hyperparameters["batch_size"], hyperparameters["learning_rate"], epoch)
        return durations[zlib.crc32(repr(cell).encode()) % len(durations)]

    tuner = parallel(
        tmp_path_factory.mktemp("many"), SimulatedPool(ToyTrainable(), size, seconds), grid_schedule=grid_schedule
    )
    tuner.search()
    assert found(tuner) == of_one_worker[grid_schedule]


def test_nothing_of_a_later_stage_starts_before_the_earlier_is_decided(tmp_path):
    # The first level takes longest, and idle workers are plenty.
    pool = SimulatedPool(
        ToyTrainable(), 8, lambda hyperparameters, epoch: 100 if hyperparameters["layout"] == "current" else 1
    )
    begun = []
    tuner = parallel(tmp_path, pool)
    tuner._on_trial_begin = lambda trial: begun.append((pool.clock, trial.hyperparameters.values["tuner/stage"]))
    tuner.search()
    assert [stage for _, stage in begun] == stages(tuner)
    # Two epochs of the slow layout, then everything at once; two epochs of the fast one, then the grid at once.
    assert {stage: time for time, stage in begun} == {"sweep:layout": 0, "sweep:batch_size": 200, "grid": 202}
    assert pool.clock == 205


def test_workers_share_the_time_and_each_trains_one_trial_at_a_time(tmp_path):
    clocks = {}
    for size in (1, 2, 3):
        pool = SimulatedPool(ToyTrainable(), size, lambda hyperparameters, epoch: 1)
        parallel(tmp_path / str(size), pool, sweeps={}).search()
        assert pool.busy == 9
        clocks[size] = pool.clock
    assert clocks == {1: 9, 2: 6, 3: 3}


def test_a_failed_and_a_diverged_trial_count_as_with_one_worker(tmp_path):
    def score(hyperparameters, epoch):
        if hyperparameters["layout"] == "previous":
            return None
        return (
            float("nan")
            if hyperparameters["learning_rate"] == 3e-5 and epoch == 2
            else accuracy(hyperparameters, epoch)
        )

    tuner = parallel(tmp_path / "many", SimulatedPool(ToyTrainable(fails(score)), 3, lambda hyperparameters, epoch: 1))
    tuner.search()
    alone = one_at_a_time(tmp_path / "one", ToyTrainable(fails(score)))
    assert str(found(tuner)) == str(found(alone))  # NaN is not equal to itself
    [failed] = [trial for trial in trials(tuner) if trial.status == "FAILED"]
    assert failed.message == "does not fit the memory"


def test_a_trial_without_an_epoch_has_failed_on_a_worker_too(tmp_path):
    pool = SimulatedPool(lambda hyperparameters, folder: iter(()), 2, lambda hyperparameters, epoch: 1)
    tuner = parallel(tmp_path, pool, sweeps={})
    tuner.search()
    assert {(trial.status, trial.message) for trial in trials(tuner)} == {("FAILED", "the trainable yielded no epoch")}


def test_an_interrupted_search_resumes_with_any_number_of_workers(tmp_path):
    class Interrupted(SimulatedPool):
        def wait(self) -> Report:
            if self.busy >= 9:
                raise KeyboardInterrupt
            return super().wait()

    trainable = ToyTrainable(log=tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        parallel(tmp_path, Interrupted(trainable, 3, lambda hyperparameters, epoch: 1)).search()
    tuner = parallel(tmp_path, SimulatedPool(trainable, 2, lambda hyperparameters, epoch: 1))
    tuner.search()
    assert found(tuner) == found(one_at_a_time(tmp_path / "one"))
    epochs = (tmp_path / "log").read_text().splitlines()
    # The epochs that were trained but not yet reported when the search was interrupted are in their folders.
    assert len(epochs) == len(set(epochs))


def test_a_pool_beside_kerastuners_own_chief_is_refused(tmp_path, monkeypatch):
    for name, value in {"TUNER_ID": "chief", "ORACLE_IP": "127.0.0.1", "ORACLE_PORT": "1"}.items():
        monkeypatch.setenv(f"KERASTUNER_{name}", value)
    with pytest.raises(TunerError, match="exclude each other"):
        parallel(tmp_path, SimulatedPool(ToyTrainable(), 1, lambda hyperparameters, epoch: 1))


def test_one_trial_can_be_followed(tmp_path):
    hyperparameters = {"learning_rate": 2e-5, "schedule_epochs": 3, "stop_epoch": 3}
    pool = SimulatedPool(ToyTrainable(), 1, lambda hyperparameters, epoch: 1)
    assert [m["val_accuracy"] for m in follow(pool, "final", hyperparameters, tmp_path)] == [
        accuracy(hyperparameters, e) for e in (1, 2, 3)
    ]
    pool = SimulatedPool(ToyTrainable(fails(lambda hyperparameters, epoch: None)), 1, lambda hyperparameters, epoch: 1)
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="does not fit"):
        list(follow(pool, "final", hyperparameters, tmp_path / "other"))


def test_a_followed_trial_that_restarts_yields_no_epoch_twice(tmp_path):
    class Lossy(SimulatedPool):
        """Tells the first epoch once more, as a pool does when the worker of the second is lost."""

        def wait(self) -> Report:
            report = super().wait()
            if report.epoch == 2 and not self.lost:
                self.lost = True
                del self._epochs[report.name]
                self.start(report.name, self._hyperparameters[report.name], tmp_path)
                return super().wait()
            return report

    pool = Lossy(ToyTrainable(), 1, lambda hyperparameters, epoch: 1)
    pool.lost = False
    hyperparameters = {"learning_rate": 2e-5, "schedule_epochs": 3, "stop_epoch": 3}
    found = [metrics["val_accuracy"] for metrics in follow(pool, "final", hyperparameters, tmp_path)]
    assert pool.lost
    assert found == [accuracy(hyperparameters, epoch) for epoch in (1, 2, 3)]


def test_a_clock_does_not_go_backwards(tmp_path):
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(TunerError, match="cannot take"):
            SimulatedPool(ToyTrainable(), 1, lambda hyperparameters, epoch, s=seconds: s).start(
                "a", {"stop_epoch": 1}, tmp_path
            )
