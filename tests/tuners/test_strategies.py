"""What every search of the coupled act keeps to: the conformance suite, and what each strategy does of its own."""

import math
from functools import partial
from pathlib import Path
from typing import get_args

import keras_tuner
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killed import KILLED, die_at_replacement, in_a_child, status_of
from toy_trainable import ToyTrainable, fails, hyperparameters, search, trials

from benchmarks.search.simulation import SimulatedPool, simulate_search
from tuners import CasualGridOracle, TunerError
from tuners.parallel import ParallelSearch
from tuners.pool import Report
from tuners.space import key
from tuners.strategies import Genetic, Search, Surface, strategy

SEARCHES = get_args(Search)
STRATEGIES = [name for name in SEARCHES if name != "grid"]
RATES = [8e-5, 4e-5, 2e-5, 1e-5]
SPACE = {
    "objective": "val_accuracy",
    "learning_rates": RATES,
    "epochs": 5,
    "sweeps": {"layout": ["current", "previous"]},
    "start": {"learning_rate": 2e-5},
    "seed": 3,
}


def peak(hyperparameters, epoch: int) -> float:
    """Best at 4e-5, epoch 3, layout `previous`."""
    distance = abs(math.log2(hyperparameters["learning_rate"] / 4e-5))
    return 0.8 - 0.05 * distance - 0.02 * abs(epoch - 3) + 0.1 * (hyperparameters.get("layout") == "previous")


def study(folder: Path, name, score=peak, **space):
    folder.mkdir(exist_ok=True)
    oracle = CasualGridOracle(**SPACE | space, search=searching(name))
    return search(folder, ToyTrainable(score, log=folder / "log"), oracle)


def searching(name):
    """A search that leaves cells out, but not as many as it may: more than a row."""
    return (strategy(name, 0.6, 100) or name) if isinstance(name, str) else name


def course(tuner) -> str:
    """All that was run and found; as text, since NaN is not equal to itself."""
    oracle = tuner.oracle
    reported = [
        (trial.trial_id, trial.status, hyperparameters(trial), oracle.history(trial)) for trial in trials(tuner)
    ]
    return str((reported, oracle.sweep_results, oracle.table().scores.tolist(), oracle.incumbent))


def max_epochs(oracle: CasualGridOracle, name: str) -> int:
    chosen = strategy(name, 0.6)
    planned = {stage.name: stage.epochs for stage in oracle.plan().stages}
    sweeps = sum(planned.values()) - planned["grid"] if chosen is None or chosen.sweeps else 0
    return sweeps + (planned["grid"] if chosen is None else chosen.max_epochs(oracle.search_space))


# Conformance


@pytest.mark.parametrize("name", SEARCHES)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 5),
    epochs=st.integers(1, 5),
    levels=st.integers(1, 3),
    start=st.integers(0, 4),
    direction=st.sampled_from(["max", "min"]),
    seed=st.integers(0, 9),
    # One in seven epochs diverges, one in seven fails.
    outcomes=st.lists(st.sampled_from(["diverges", "fails", *["scores"] * 5]), min_size=30, max_size=30),
    draw=st.randoms(use_true_random=False),
)
def test_a_search_ends_within_its_bound_trains_nothing_twice_and_returns_its_best_cell(
    tmp_path_factory, name, rows, epochs, levels, start, direction, seed, outcomes, draw
):
    rates = RATES[:rows] + [1e-6] * (rows > 4)

    def score(hyperparameters, epoch):
        outcome = outcomes[(rates.index(hyperparameters["learning_rate"]) * 7 + epoch) % 30]
        return {"diverges": math.nan, "fails": None, "scores": draw.random()}[outcome]

    oracle = CasualGridOracle(
        keras_tuner.Objective("val_accuracy", direction),
        rates,
        epochs,
        sweeps={"level": list(range(levels))},
        start={"learning_rate": rates[start % rows]},
        search=searching(name),
        seed=seed,
    )
    trainable = ToyTrainable(fails(score))
    tuner = search(tmp_path_factory.mktemp(name), trainable, oracle)
    tuner.search()
    configurations = [key(hyperparameters(trial)) for trial in trials(tuner)]
    assert len(configurations) == len(set(configurations))
    assert {trial.status for trial in trials(tuner)} <= {"COMPLETED", "FAILED"}
    # A failed run trains epochs that it does not tell of in the end.
    assert sum(len(oracle.history(trial)) for trial in trials(tuner)) <= max_epochs(oracle, name)
    table = oracle.table()
    tried = [(cell.learning_rate, cell.epoch) for cell in oracle.cells()]
    assert len(tried) == len(set(tried)) == table.tried.sum()
    if np.isnan(table.scores).all():
        with pytest.raises(TunerError, match="no cell"):
            oracle.best()
    else:
        best = oracle.best()
        history = dict(oracle.history(oracle.trials[best.trial_id]))
        assert history[best.epoch] == best.score == table.best().score
        assert best.hyperparameters["stop_epoch"] == best.epoch
        assert best.hyperparameters["schedule_epochs"] == epochs
        assert {name: best.hyperparameters[name] for name in ("level",)} == {"level": oracle.incumbent["level"]}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_killed_search_resumes_as_if_it_had_not_been(tmp_path, name):
    def score(hyperparameters, epoch):
        return math.nan if hyperparameters["learning_rate"] == 8e-5 and epoch == 3 else peak(hyperparameters, epoch)

    whole = study(tmp_path / "whole", name, score)
    whole.search()

    def work(folder: Path, number: int, after: bool) -> None:
        die_at_replacement(folder, number, after)
        study(folder, name, score).search()

    # Every seventh write, before and after in turn; the step is odd, so that every kind of write has its turn.
    for number in range(1, 100, 7):
        folder = tmp_path / f"killed{number}"
        folder.mkdir()
        status = status_of(in_a_child(partial(work, folder, number, number % 2 == 0)))
        resumed = study(folder, name, score)
        resumed.search()
        assert course(resumed) == course(whole), f"killed at write {number}"
        if status == 0:
            break
        assert status == KILLED
    assert number > 10


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_seed_repeats_a_search(tmp_path, name):
    for folder in ("one", "two"):
        study(tmp_path / folder, name).search()
    assert (tmp_path / "one" / "log").read_text() == (tmp_path / "two" / "log").read_text()


def test_what_a_search_draws_depends_on_its_seed(tmp_path):
    logs = set()
    for seed in range(5):
        study(tmp_path / str(seed), "genetic", seed=seed).search()
        logs.add((tmp_path / str(seed) / "log").read_text())
    assert len(logs) > 1


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(size=st.integers(2, 5), durations=st.lists(st.integers(1, 9), min_size=7, max_size=7))
def test_several_workers_make_a_valid_search(tmp_path_factory, name, size, durations):
    def seconds(hyperparameters, epoch):
        return durations[(int(hyperparameters["learning_rate"] * 1e5) + epoch) % 7]

    oracle = CasualGridOracle(**SPACE, search=searching(name))
    oracle.verbose = 0
    tuner = ParallelSearch(
        SimulatedPool(ToyTrainable(peak), size, seconds), oracle, tmp_path_factory.mktemp("many"), "study"
    )
    tuner.search()
    configurations = [key(hyperparameters(trial)) for trial in trials(tuner)]
    assert len(configurations) == len(set(configurations))
    assert {trial.status for trial in trials(tuner)} == {"COMPLETED"}
    # When the last epoch of a budget is reported, the other workers are in the middle of one.
    assert sum(len(oracle.history(trial)) for trial in trials(tuner)) < max_epochs(oracle, name) + size
    assert oracle.best().score == oracle.table().best().score


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_interrupted_search_with_workers_trains_no_epoch_twice(tmp_path, name):
    class Interrupted(SimulatedPool):
        def wait(self) -> Report:
            if self.busy >= 4:
                raise KeyboardInterrupt
            return super().wait()

    trainable = ToyTrainable(peak, log=tmp_path / "log")

    def go_on(pool):
        oracle = CasualGridOracle(**SPACE, search=searching(name))
        oracle.verbose = 0
        tuner = ParallelSearch(pool, oracle, tmp_path, "study")
        tuner.search()
        return tuner

    with pytest.raises(KeyboardInterrupt):
        go_on(Interrupted(trainable, 3, lambda hyperparameters, epoch: 1))
    tuner = go_on(SimulatedPool(trainable, 2, lambda hyperparameters, epoch: 1))
    assert {trial.status for trial in trials(tuner)} == {"COMPLETED"}
    epochs = (tmp_path / "log").read_text().splitlines()
    assert len(epochs) == len(set(epochs))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_space_of_one_cell_is_searched(tmp_path, name):
    tuner = search(tmp_path, ToyTrainable(), CasualGridOracle("val_accuracy", [2e-5], 1, search=name))
    tuner.search()
    assert (tuner.oracle.best().epoch, len(trials(tuner))) == (1, 1)


@pytest.mark.parametrize("name", SEARCHES)
def test_where_all_trials_fail_the_search_ends(tmp_path, name):
    tuner = study(tmp_path, name, fails(lambda hyperparameters, epoch: None))
    tuner.search()
    assert {trial.status for trial in trials(tuner)} == {"FAILED"}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_simulation_takes_the_course_of_the_search(tmp_path, name):
    tuner = study(tmp_path, name, sweeps={"layout": ["current"]})
    tuner.search()
    space = tuner.oracle.search_space
    trained = simulate_search(
        searching(name),
        space,
        lambda rate: [peak({"layout": "current", "learning_rate": rate}, epoch) for epoch in range(1, 6)],
        seed=3,
    )
    assert [(trial.rate, list(trial.scores)) for trial in trained] == [
        (hyperparameters(trial)["learning_rate"], [score for _, score in tuner.oracle.history(trial)])
        for trial in trials(tuner)
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_rows_that_are_stopped_need_rows(name):
    with pytest.raises(TunerError, match=f'search {name} stops rows.*choose grid_schedule "shared"'):
        CasualGridOracle("val_accuracy", RATES, 5, grid_schedule="per-cell", search=name)


def test_an_unknown_search_is_refused_with_those_that_there_are():
    with pytest.raises(TunerError, match=r"no search 'hyper'.*grid, genetic, surface"):
        CasualGridOracle("val_accuracy", RATES, 5, search="hyper")


def test_a_study_resumes_under_the_same_search_only(tmp_path):
    study(tmp_path, "surface").search()
    with pytest.raises(TunerError, match=r"search .*surface.* there, absent here"):
        study(tmp_path, "grid")


def test_a_grid_is_described_without_a_search(tmp_path):
    study(tmp_path, "grid").search()
    assert '"search"' not in (tmp_path / "study" / "oracle.json").read_text()


# Stopped rows


def test_a_stopped_row_counts_with_the_cells_that_it_has(tmp_path):
    tuner = study(tmp_path, Surface(share=0.75, examples=100), sweeps={})
    tuner.search()
    oracle = tuner.oracle
    assert oracle.best().score == max(score for trial in trials(tuner) for _, score in oracle.history(trial))
    stopped = [trial for trial in trials(tuner) if len(oracle.history(trial)) < 5]
    assert stopped
    assert {trial.status for trial in trials(tuner)} == {"COMPLETED"}
    table = oracle.table()
    for trial in stopped:
        row = table.learning_rates.index(hyperparameters(trial)["learning_rate"])
        assert table.tried[row].tolist() == [epoch <= len(oracle.history(trial)) for epoch in range(1, 6)]
    assert oracle.get_best_trials()[0].trial_id == oracle.best().trial_id


# Genetic


def test_evolution_finds_parameters_that_depend_on_each_other(tmp_path):
    def score(hyperparameters, epoch):
        # Either parameter alone makes it worse, so one at a time finds nothing.
        return 0.5 + 0.1 * hyperparameters["a"] if hyperparameters["a"] == hyperparameters["b"] else 0.4

    levels = {"a": [0, 1, 2], "b": [0, 1, 2]}
    trainable = ToyTrainable(score)
    evolved = search(
        tmp_path / "one",
        trainable,
        CasualGridOracle("val_accuracy", RATES, 3, levels, search=Genetic(share=1.5), seed=0),
    )
    evolved.search()
    assert evolved.oracle.best().hyperparameters["a"] == evolved.oracle.best().hyperparameters["b"] == 2
    assert evolved.oracle.sweep_results == []
    swept = search(tmp_path / "two", ToyTrainable(score), CasualGridOracle("val_accuracy", RATES, 3, levels))
    swept.search()
    assert swept.oracle.best().hyperparameters["a"] == 0
