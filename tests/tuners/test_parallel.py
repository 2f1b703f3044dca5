"""A search with several trials at a time has the results of a search with one, whatever ends first."""

import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_trainable import LAYOUTS, ToyTrainable, accuracy, fails, search, stages, trials

from benchmarks.search.simulation import SimulatedPool
from tuners import CasualGridOracle, TunerError
from tuners.parallel import ParallelSearch
from tuners.pool import LocalPool, Report, train

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


def row(rate: float, stop_epoch: int = 3) -> dict[str, float]:
    return {"learning_rate": rate, "schedule_epochs": 3, "stop_epoch": stop_epoch}


def pools(trainable) -> list:
    return [SimulatedPool(trainable, 2, lambda hyperparameters, epoch: 1), LocalPool(trainable)]


@pytest.mark.parametrize("of", [0, 1])
def test_trials_are_trained_as_many_at_a_time_as_there_are_workers(tmp_path, of):
    rows = {name: row(rate, stop) for name, rate, stop in (("a", 1e-5, 3), ("b", 2e-5, 1), ("c", 3e-5, 2))}
    pool, asked, scores = pools(ToyTrainable())[of], [], {name: [] for name in rows}

    def waiting():
        for name, values in rows.items():
            asked.append((name, sum(map(len, scores.values()))))
            yield name, values, tmp_path / name

    def on_epoch_end(name, epoch, metrics) -> bool:
        assert epoch == len(scores[name]) + 1
        scores[name].append(metrics["val_accuracy"])
        return True

    for name in rows:
        (tmp_path / name).mkdir()
    ended = list(train(pool, waiting(), on_epoch_end))
    assert scores == {name: [accuracy(v, e + 1) for e in range(v["stop_epoch"])] for name, v in rows.items()}
    # Two begin at once, and the third when the first of them has ended.
    assert ended == [(name, None) for name in ("bac" if pool.size == 2 else "abc")]
    assert asked == ([("a", 0), ("b", 0), ("c", 2)] if pool.size == 2 else [("a", 0), ("b", 3), ("c", 4)])


@pytest.mark.parametrize("of", [0, 1])
def test_a_trial_that_fails_or_is_stopped_lets_the_others_go_on(tmp_path, of):
    failing = fails(lambda values, epoch: None if values["learning_rate"] == 1e-5 else accuracy(values, epoch))
    rows = {"fails": 1e-5, "stops": 2e-5, "ends": 3e-5}
    for name in rows:
        (tmp_path / name).mkdir()
    scored = []

    def on_epoch_end(name, epoch, metrics) -> bool:
        scored.append((name, epoch))
        return name != "stops" or epoch < 2

    pool = pools(ToyTrainable(failing))[of]
    ended = dict(train(pool, [(name, row(rate), tmp_path / name) for name, rate in rows.items()], on_epoch_end))
    assert ended == {"fails": "does not fit the memory", "stops": None, "ends": None}
    assert sorted(scored) == [("ends", 1), ("ends", 2), ("ends", 3), ("stops", 1), ("stops", 2)]


def test_an_error_that_is_no_failure_of_a_trial_ends_all(tmp_path):
    def broken(hyperparameters, folder):
        raise ZeroDivisionError

    for pool in pools(broken):
        with pytest.raises(ZeroDivisionError):
            list(train(pool, [("a", row(1e-5), tmp_path)], lambda *epoch: True))


def test_a_trial_that_restarts_reports_no_epoch_twice(tmp_path):
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
    pool.lost, scored, values = False, [], row(2e-5)

    def on_epoch_end(name, epoch, metrics) -> bool:
        scored.append((epoch, metrics["val_accuracy"]))
        return True

    list(train(pool, [("final", values, tmp_path)], on_epoch_end))
    assert pool.lost
    assert scored == [(epoch, accuracy(values, epoch)) for epoch in (1, 2, 3)]


def test_a_clock_does_not_go_backwards(tmp_path):
    for seconds in (-1.0, float("nan"), float("inf")):
        with pytest.raises(TunerError, match="cannot take"):
            SimulatedPool(ToyTrainable(), 1, lambda hyperparameters, epoch, s=seconds: s).start(
                "a", {"stop_epoch": 1}, tmp_path
            )
