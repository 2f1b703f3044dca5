"""The rules of each search, decision by decision; nothing is trained, and no TensorFlow is loaded."""

import math

import numpy as np
import pytest

from tuners.space import SearchSpace
from tuners.strategies import Asha, BayesianOptimization, Genetic, HillClimb
from tuners.strategies.asha import shuffled_rates
from tuners.strategies.strategy import IDLE, ObservedTrial, SearchState, Strategy, score_noise

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
        (HillClimb(), 0, [(1.25e-5, 6), (2.5e-5, 5), (1e-4, 2), (5e-5, 2)]),
        (HillClimb(examples=1178), 0, [(1.25e-5, 7), (2.5e-5, 6), (1e-4, 2), (5e-5, 2)]),
        (
            Asha(),
            1,
            [
                (1.25e-5, 10),
                (1e-4, 4),
                (6.25e-6, 1),
                (2.5e-5, 10),
                (1.5625e-6, 1),
                (3.125e-6, 1),
                (7.8125e-7, 1),
                (5e-5, 8),
            ],
        ),
        (BayesianOptimization(share=0.1), 0, [(1.25e-5, 7), (2.5e-5, 1)]),
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


@pytest.mark.parametrize("strategy", [HillClimb, BayesianOptimization])
def test_the_share_of_the_grid_is_rounded_down_and_half_a_row_is_the_least(strategy):
    assert strategy().max_epochs(space_of(epochs=5)) == 5
    assert strategy(share=0.4).max_epochs(space_of(epochs=7)) == 11
    assert strategy().max_epochs(space_of([2e-5], epochs=5)) == 3
    assert Asha().max_epochs(space_of(epochs=5)) == 20


def test_evolution_takes_its_share_of_the_sweeps_and_the_grid():
    space = space_of(epochs=5, layout=["a", "b", "c"], cased=[True, False])
    assert space.plan().epochs == 3 + 1 + 20
    assert Genetic().max_epochs(space) == 6
    assert Genetic(share=0.01).max_epochs(space) == 3


def test_noise_is_that_of_a_share_and_0_for_any_other_score():
    assert score_noise(state((2e-5, [0.2, 0.1])), 100) == pytest.approx(0.04)
    assert score_noise(state((2e-5, [0.2])), None) == 0
    assert score_noise(state(), 100) == 0
    for best in (0.0, 1.0, -0.5, 1.5):
        assert score_noise(state((2e-5, [best])), 100) == 0


def test_a_trial_counts_with_the_first_of_its_best_epochs():
    assert ObservedTrial({}, [0.5, 0.7, 0.7, NAN], True).best_epoch == 2
    assert ObservedTrial({}, [0.5, 0.7, 0.7, NAN], True).best == 0.7
    assert (ObservedTrial({}, [NAN], True).best_epoch, ObservedTrial({}, [NAN], True).best) == (0, -math.inf)
    assert state((2e-5, [0.1, 0.2]), (1e-5, [0.3])).epochs == 3


# Climbing


def test_equal_scores_are_no_fall_where_they_are_compared_exactly():
    assert not stops(HillClimb(), state((8e-5, [0.5, 0.6]), epochs=10))
    assert not stops(HillClimb(), state((8e-5, [0.6, 0.6]), epochs=10))
    assert stops(HillClimb(), state((8e-5, [0.6, 0.599]), epochs=10))
    assert stops(HillClimb(), state((8e-5, [0.6, 0.6, 0.6]), epochs=10))


def test_a_row_stops_when_the_budget_is_spent():
    # A quarter of four rows of ten epochs.
    rising = [0.1 * epoch for epoch in range(1, 7)]
    assert not stops(HillClimb(), state((8e-5, [0.1] * 3), (4e-5, rising), epochs=10, ended=1))
    assert stops(HillClimb(), state((8e-5, [0.1] * 4), (4e-5, rising), epochs=10, ended=1))
    assert HillClimb().propose(state((8e-5, [0.1] * 4), (4e-5, rising), epochs=10, ended=2)) is None
    assert HillClimb().propose(state((8e-5, [0.1] * 4), (4e-5, rising), epochs=10, ended=1)) is IDLE


@pytest.mark.parametrize(
    ("share", "epochs", "trained", "stop"),
    [
        # Not before 0.35 of the budget and 0.3 of the epochs, and not while too little is left for another row.
        (0.25, 10, 3, False),
        (0.25, 10, 4, True),
        (0.25, 10, 5, True),
        (0.25, 10, 6, False),
        (0.6, 20, 16, False),
        (0.6, 20, 17, True),
        (0.1, 10, 2, False),
        (0.1, 10, 3, False),
    ],
)
def test_a_slow_row_makes_room_when_enough_is_spent_and_enough_is_left(share, epochs, trained, stop):
    rising = [0.3 + 0.001 * epoch for epoch in range(trained)]
    assert stops(HillClimb(share=share), state((2e-5, rising), epochs=epochs)) == stop
    # A row that was better before rises no more.
    if trained > 1:
        dented = [*rising[:-2], rising[-1], rising[-2] + 0.0009]
        assert not stops(HillClimb(share=share, examples=1000), state((2e-5, dented), epochs=epochs))


def test_a_row_at_the_leader_s_best_is_never_without_prospects():
    leader = (2e-5, [0.5, 0.6])
    assert not stops(HillClimb(), state(leader, (4e-5, [0.6, 0.6]), epochs=20))
    assert stops(HillClimb(), state(leader, (4e-5, [0.55, 0.59]), epochs=20))
    # Slower: its last gain once more reaches the leader exactly, or falls short of it.
    assert not stops(HillClimb(), state((2e-5, [0.5, 0.75]), (1e-5, [0.25, 0.5]), epochs=20))
    assert stops(HillClimb(), state((2e-5, [0.5, 0.76]), (1e-5, [0.25, 0.5]), epochs=20))
    # A slower row that falls gains nothing.
    assert stops(HillClimb(examples=10**6), state((2e-5, [0.5, 0.76]), (1e-5, [0.7, 0.7]), epochs=20))
    # A faster row is compared at the epochs that the leader has.
    assert not stops(HillClimb(), state((2e-5, [0.75]), (4e-5, [0.25, 0.5]), epochs=20))


@pytest.mark.parametrize(
    ("rows", "proposed"),
    [
        # A row that peaked early is followed by slower ones, any other by faster ones.
        ([(2e-5, [0.4, 0.6, 0.5, 0.5])], 1e-5),
        ([(2e-5, [0.4, 0.5, 0.6, 0.5, 0.5])], 4e-5),
        ([(2e-5, [0.4, 0.6])], 4e-5),
        # In between, the faster side first.
        ([(1e-5, [0.1]), (2e-5, [0.4, 0.5, 0.6]), (8e-5, [0.1])], 4e-5),
        ([(1e-5, [0.1]), (4e-5, [0.4, 0.5, 0.6]), (8e-5, [0.2])], 2e-5),
        # Where nothing has a score, slower ones, and faster ones in the end.
        ([(2e-5, [NAN])], 1e-5),
        ([(1e-5, [NAN])], 2e-5),
        ([(1e-5, [NAN]), (2e-5, [NAN])], 4e-5),
        # Nothing learned after the first epoch: the fastest of the slower ones, or else any.
        ([(8e-5, [0.5, 0.4]), (1e-5, [0.1]), (2e-5, [0.1])], 4e-5),
    ],
)
def test_the_next_row_is_beside_the_best(rows, proposed):
    assert HillClimb(share=1.0).propose(state(*rows, epochs=10, ended=len(rows))) == {"learning_rate": proposed}


def test_the_step_is_twice_the_distance_to_the_nearest_row_that_was_beaten():
    rates = [1e-6 * 2**row for row in range(10)]
    rows = [(rates[0], [0.1, 0.2, 0.3]), (rates[2], [0.3, 0.4, 0.5])]
    assert HillClimb().propose(state(*rows, rates=rates, start=rates[0], epochs=10, ended=2)) == {
        "learning_rate": rates[6]
    }


# Asha


def test_asha_starts_with_the_row_nearest_to_the_start_and_takes_each_of_the_others_once():
    orders = {tuple(shuffled_rates(state(seed=seed))) for seed in range(20)}
    assert {order[0] for order in orders} == {2e-5}
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(RATES))}
    assert len(orders) == 6
    rows = [(rate, [0.5]) for rate in shuffled_rates(state())]
    for number in range(3):
        assert Asha().propose(state(*rows[:number])) == {"learning_rate": rows[number][0]}
    assert Asha().propose(state(*rows)) is IDLE
    assert Asha().propose(state(*rows, ended=4)) is None


@pytest.mark.parametrize(
    ("others", "own", "stop"),
    [
        ([], [0.1], False),
        ([[0.2]], [0.1], True),
        ([[0.2]], [0.2], False),
        ([[0.3], [0.2]], [0.25], True),
        ([[0.3], [0.2], [0.1]], [0.25], False),
        ([[0.3], [0.2], [0.4]], [0.25], True),
        # The third epoch is no rung, the fourth is; a row counts with its best epoch up to the rung.
        ([[0.9, 0.9, 0.9, 0.9]], [0.1, 0.2, 0.3], False),
        ([[0.9, 0.9, 0.9, 0.9]], [0.1, 0.2, 0.3, 0.4], True),
        ([[0.1, 0.1, 0.9]], [0.2, 0.0], False),
        ([[NAN]], [0.1], False),
    ],
)
def test_asha_keeps_the_better_half_of_those_that_have_come_as_far(others, own, stop):
    rows = [(8e-5, scores) for scores in others]
    assert stops(Asha(), state(*rows, (1e-5, own), epochs=10)) == stop


# Bayesian optimization


def test_the_first_score_is_waited_for_and_the_first_row_is_nearest_to_the_start():
    bayes = BayesianOptimization()
    assert bayes.propose(state(start=3e-5)) == {"learning_rate": 4e-5}
    assert bayes.propose(state((4e-5, []), epochs=10)) is IDLE
    assert bayes.propose(state((2e-5, [NAN]), ended=1, epochs=10, start=1.9e-5)) == {"learning_rate": 1e-5}
    assert bayes.propose(state((2e-5, [0.5]), epochs=10)) != IDLE


def test_bayes_follows_the_slope_and_a_diverged_cell_counts_as_the_worst():
    rising = [(8e-5, [0.2, 0.3]), (4e-5, [0.4, 0.5])]
    assert BayesianOptimization(share=1.0).propose(state(*rising, ended=2, epochs=10)) == {"learning_rate": 2e-5}
    falling = [(1e-5, [0.2, 0.3]), (2e-5, [0.4, 0.5])]
    assert BayesianOptimization(share=1.0).propose(state(*falling, ended=2, epochs=10)) == {"learning_rate": 4e-5}
    diverged = [(8e-5, [NAN, NAN]), (4e-5, [0.4, 0.5]), (2e-5, [0.45, 0.55])]
    assert BayesianOptimization(share=1.0).propose(state(*diverged, ended=3, epochs=10)) == {"learning_rate": 1e-5}


def test_a_row_of_bayes_ends_when_no_later_epoch_promises_more_than_the_best():
    bayes, best = BayesianOptimization(share=1.0), (2e-5, [0.5, 0.6, 0.7, 0.7, 0.7])
    assert not stops(bayes, state(best, (1e-5, [0.1]), epochs=5))
    assert stops(bayes, state(best, (1e-5, [0.1, 0.1, 0.1]), epochs=5))
    assert not stops(bayes, state(best, (4e-5, [0.6, 0.75]), epochs=5))
    assert not stops(bayes, state(best, (1e-5, [0.1, 0.1, 0.1, 0.1, 0.1]), epochs=5))
    # The budget of five epochs is spent.
    assert stops(BayesianOptimization(), state((2e-5, [0.5, 0.6, 0.7, 0.8]), (4e-5, [0.9]), epochs=5))
    assert BayesianOptimization().propose(state((2e-5, [0.1] * 5), ended=1, epochs=5)) is None


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
