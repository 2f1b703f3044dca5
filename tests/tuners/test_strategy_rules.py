"""The rules of each search, decision by decision; nothing is trained, and no TensorFlow is loaded."""

import math

import numpy as np
import pytest

from tuners.space import SearchSpace
from tuners.strategies import IDLE, Genetic, ObservedTrial, SearchState, Strategy

RATES = [8e-5, 4e-5, 2e-5, 1e-5]
NAN = math.nan


def space_of(rates=RATES, epochs: int = 5, start: float = 2e-5, **sweeps) -> SearchSpace:
    return SearchSpace.of(rates, epochs, sweeps, {"learning_rate": start})


def state(*rows: tuple[float, list[float]], ended: int | None = None, seed: int = 1, **space) -> SearchState:
    """Rows of which the first `ended` have ended; by default all but the last."""
    searched = space_of(**space)
    ended = len(rows) - 1 if ended is None else ended
    trials = [
        ObservedTrial({"learning_rate": rate, "stop_epoch": searched.epochs}, scores, number < ended)
        for number, (rate, scores) in enumerate(rows)
    ]
    return SearchState(searched, searched.start, trials, seed)


def stops(strategy: Strategy, state: SearchState) -> bool:
    """Whether the latest row ends."""
    return strategy.should_stop(state, state.trials[-1])


def course(strategy: Strategy, space: SearchSpace, seed: int = 0) -> list[tuple[float, int]]:
    """Learning rate and epochs of every trial of a search on a hill, one trial at a time."""

    def score(rate: float, epoch: int) -> float:
        return 0.7 - 0.03 * abs(math.log2(rate / 3e-5)) - 0.01 * abs(epoch - 4 - math.log2(3e-5 / rate))

    trials: list[ObservedTrial] = []
    while not isinstance(given := strategy.propose(SearchState(space, space.start, trials, seed)) or IDLE, type(IDLE)):
        hyperparameters = {**space.start, "stop_epoch": space.epochs, **given}
        scores: list[float] = []
        for epoch in range(1, int(hyperparameters["stop_epoch"]) + 1):
            scores.append(score(float(hyperparameters["learning_rate"]), epoch))
            running = ObservedTrial(hyperparameters, tuple(scores), False)
            if strategy.should_stop(SearchState(space, space.start, [*trials, running], seed), running):
                break
        trials.append(ObservedTrial(hyperparameters, tuple(scores), True))
    return [(trial.rate, len(trial.scores)) for trial in trials]


WIDE = space_of([1e-4 / 2**row for row in range(8)], epochs=10, start=1e-5)


@pytest.mark.parametrize(
    ("strategy", "seed", "trained"),
    [
        (Genetic(), 1, [(1.25e-5, 5), (6.25e-6, 4), (3.125e-6, 5), (1.5625e-6, 2), (5e-5, 2), (2.5e-5, 2)]),
        (
            Genetic(share=0.8),
            0,
            [
                (1.25e-5, 5),
                (6.25e-6, 9),
                (7.8125e-7, 1),
                (7.8125e-7, 9),
                (1.25e-5, 9),
                (3.125e-6, 4),
                (1.5625e-6, 3),
                (2.5e-5, 5),
                (2.5e-5, 6),
                (5e-5, 4),
                (5e-5, 5),
                (1e-4, 3),
            ],
        ),
    ],
    ids=str,
)
def test_a_seed_takes_the_course_that_it_took_when_studies_were_begun(strategy, seed, trained):
    """A study that was begun with an earlier version is resumed with this one."""
    assert course(strategy, WIDE, seed) == trained


def test_evolution_takes_its_share_of_the_sweeps_and_the_grid():
    space = space_of(epochs=5, layout=["a", "b", "c"], cased=[True, False])
    assert space.plan().epochs == 3 + 1 + 20
    assert Genetic().max_epochs(space) == 6
    assert Genetic(share=0.01).max_epochs(space) == 3


def test_a_trial_counts_with_the_first_of_its_best_epochs():
    assert ObservedTrial({}, [0.5, 0.7, 0.7, NAN], True).best_epoch == 2
    assert ObservedTrial({}, [0.5, 0.7, 0.7, NAN], True).best == 0.7
    assert (ObservedTrial({}, [NAN], True).best_epoch, ObservedTrial({}, [NAN], True).best) == (0, -math.inf)
    assert state((2e-5, [0.1, 0.2]), (1e-5, [0.3])).epochs == 3


# Evolution


def test_evolution_starts_from_the_start_and_then_with_strangers_until_there_are_six():
    space = space_of(layout=["a", "b"])
    first = Genetic(share=4).propose(SearchState(space, space.start, [], 0))
    assert first == {"layout": "a", "learning_rate": 2e-5, "stop_epoch": 3}
    proposed = [
        Genetic(share=4).propose(
            SearchState(space, space.start, [ObservedTrial({**space.start, **first}, [0.5, 0.5, 0.5], True)], seed)
        )
        for seed in range(60)
    ]
    assert {given["layout"] for given in proposed} == {"a", "b"}
    assert {given["learning_rate"] for given in proposed} == set(RATES)
    assert {given["stop_epoch"] for given in proposed} == {1, 2, 3, 4, 5}


def test_a_child_is_its_parents_but_for_a_step_in_a_gene():
    space = space_of(epochs=9, layout=["a", "b", "c"])
    parent = {"layout": "b", "learning_rate": 4e-5, "stop_epoch": 9, "schedule_epochs": 9}
    # Best after the fifth epoch, which is what is inherited.
    trials = [ObservedTrial(parent, [0.1, 0.2, 0.3, 0.4, 0.9, 0.8], True)] * 6
    trials = [ObservedTrial({**parent, "stop_epoch": 4}, trials[0].scores, True)] * 6
    children = [Genetic(share=9).propose(SearchState(space, space.start, trials, seed)) for seed in range(150)]
    assert {child["stop_epoch"] for child in children} == {4, 5, 6, 7}
    assert {child["learning_rate"] for child in children} == {8e-5, 4e-5, 2e-5}
    assert {child["layout"] for child in children} == {"a", "b", "c"}
    inherited = np.mean([child["learning_rate"] == 4e-5 for child in children])
    assert 0.5 < inherited < 0.85
    # A step to a neighbouring rate, none beyond an end.
    for rate, reached in ((8e-5, {8e-5, 4e-5}), (2e-5, {4e-5, 2e-5, 1e-5}), (1e-5, {2e-5, 1e-5})):
        alike = [ObservedTrial({**parent, "learning_rate": rate, "stop_epoch": 4}, trials[0].scores, True)] * 6
        children = [Genetic(share=9).propose(SearchState(space, space.start, alike, seed)) for seed in range(60)]
        assert {child["learning_rate"] for child in children} == reached


def test_evolution_counts_a_running_trial_with_all_of_its_epochs_and_an_ended_one_with_those_it_had():
    space = space_of(epochs=5)
    trial = {"learning_rate": 2e-5, "stop_epoch": 5, "schedule_epochs": 5}
    # A quarter of the grid is five epochs.
    running, failed = ObservedTrial(trial, [0.5], False), ObservedTrial(trial, [0.5], True)
    assert Genetic().propose(SearchState(space, space.start, [running], 0)) is IDLE
    given = Genetic().propose(SearchState(space, space.start, [failed], 0))
    assert 1 <= given["stop_epoch"] <= 4
    spent = ObservedTrial(trial, [0.5] * 5, True)
    assert Genetic().propose(SearchState(space, space.start, [spent], 0)) is None


def test_evolution_trains_no_configuration_again_unless_further():
    space = space_of([2e-5], epochs=2)
    whole = ObservedTrial({"learning_rate": 2e-5, "stop_epoch": 2}, [0.5, 0.6], True)
    half = ObservedTrial({"learning_rate": 2e-5, "stop_epoch": 1}, [0.5], True)
    assert Genetic(share=9).propose(SearchState(space, space.start, [whole], 0)) is None
    assert Genetic(share=9).propose(SearchState(space, space.start, [half], 0)) == {
        "learning_rate": 2e-5,
        "stop_epoch": 2,
    }
