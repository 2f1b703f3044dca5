"""The search on a posterior over whole surfaces."""

import numpy as np
import pytest

from tuners.space import SearchSpace
from tuners.strategies import IDLE, ObservedTrial, RecordedTable, SearchState, Surface

RATES = [1.6e-4, 8e-5, 4e-5, 2e-5, 1e-5]
SPACE = SearchSpace.of(RATES, 6, start={"learning_rate": 4e-5})


def recorded(best: float, weight: float = 0.9) -> RecordedTable:
    """A table whose rows rise to their last epoch, the higher the nearer to `best`."""
    rates = np.array([2e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5, 6e-6])
    tops = 0.8 - 0.08 * np.abs(np.log2(rates / best))
    return RecordedTable(rates, 0.4 + (tops[:, None] - 0.4) * (1 - np.exp(-np.arange(1, 7) / 2)), 0.4, weight)


def searched(*rows: tuple[float, list[float]], running: bool = False) -> SearchState:
    trials = [
        ObservedTrial({"learning_rate": rate, "stop_epoch": 6}, scores, not (running and number == len(rows)))
        for number, (rate, scores) in enumerate(rows, start=1)
    ]
    return SearchState(SPACE, SPACE.start, trials, 1)


RISING = [0.5, 0.6, 0.66, 0.7, 0.73, 0.74]
FLAT = [0.4, 0.4, 0.4]


@pytest.mark.parametrize("best", [1.25e-5, 2.5e-5, 1e-4])
def test_the_first_row_is_the_best_of_like_studies(best):
    proposal = Surface(examples=1000, tables=[recorded(best)]).propose(searched())
    assert abs(np.log2(proposal["learning_rate"] / best)) <= 0.5


def test_what_no_like_study_tells_is_near_the_start():
    assert Surface(examples=1000).propose(searched())["learning_rate"] in (8e-5, 4e-5, 2e-5)


def test_a_row_that_rises_as_expected_is_trained_to_its_end_and_the_search_ends_with_its_budget():
    surface = Surface(examples=1000, tables=[recorded(4e-5)])
    for epoch in range(1, 6):
        state = searched((4e-5, RISING[:epoch]), running=True)
        assert not surface.should_stop(state, state.trials[0])
    assert surface.max_epochs(SPACE) == 6
    assert surface.propose(searched((4e-5, RISING))) is None


def test_a_row_that_never_leaves_the_baseline_makes_room_where_another_row_rose():
    surface = Surface(0.5, 1000, [recorded(4e-5)])
    state = searched((4e-5, RISING), (1.6e-4, FLAT), running=True)
    assert surface.should_stop(state, state.trials[-1])


def test_after_a_diverged_row_comes_another():
    diverged = searched((4e-5, [float("nan")]))
    assert Surface(0.5, 1000).propose(diverged)["learning_rate"] != 4e-5


def test_a_running_row_keeps_its_epochs_of_the_budget():
    surface, state = Surface(0.4, 1000, [recorded(4e-5)]), searched((4e-5, [0.5]), running=True)
    assert surface.propose(state)["learning_rate"] != 4e-5
    assert Surface(0.2, 1000, [recorded(4e-5)]).propose(state) is IDLE


@pytest.mark.parametrize(("scale", "offset"), [(1, -2), (250, 0), (0.01, 0.3)])
def test_the_unit_of_an_objective_that_is_no_share_does_not_count(scale, offset):
    def courses(scale, offset):
        surface = Surface(0.5, None, [recorded(4e-5)])
        for rows in [[(4e-5, RISING)], [(4e-5, RISING), (2e-5, [0.45, 0.5, 0.52])], [(1e-5, [0.41, 0.4])]]:
            state = searched(*((rate, [scale * score + offset for score in scores]) for rate, scores in rows))
            yield surface.propose(state), surface.should_stop(state, state.trials[-1]), surface.tied_probability(state)

    assert list(courses(scale, offset)) == list(courses(1, 0))


def test_the_more_is_seen_the_surer_is_the_best_cell():
    surface = Surface(1, 1000, [recorded(4e-5)])
    lower = [score - 0.1 for score in RISING]
    one, all_rows = (
        searched((4e-5, RISING)),
        searched((4e-5, RISING), *((rate, lower) for rate in RATES if rate != 4e-5)),
    )
    assert 0 < surface.tied_probability(one) < surface.tied_probability(all_rows)
    assert surface.tied_probability(all_rows) > 0.9


def test_of_a_long_schedule_some_epochs_are_looked_at():
    space = SearchSpace.of(RATES, 200, start={"learning_rate": 4e-5})
    trial = ObservedTrial({"learning_rate": 4e-5, "stop_epoch": 200}, [0.4] * 50, False)
    surface, state = Surface(0.5, 1000, [recorded(4e-5)]), SearchState(space, space.start, [trial], 1)
    assert not surface.should_stop(state, trial)
    assert 0 <= surface.tied_probability(state) <= 1
