"""The arithmetic of whole searches: costs, extrapolation, overhead, growth."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.contenders.steps import growth, overheads, step_seconds
from benchmarks.contenders.trials import Cost, EpochRecorder, Trial, epochs_of_cells, trials_of
from benchmarks.grid import BASELINE, KINDER, Searched, full_size

SECONDS = st.floats(0.01, 100)


def ran(cost: Cost, lengths: list[int], rates: list[float] | None = None) -> tuple[Trial, ...]:
    """Trials of so many epochs that take exactly what the cost says."""
    trials, now = [], cost.start
    for length, rate in zip(lengths, rates or [1e-4] * len(lengths), strict=True):
        ended = now + cost.setup + length * cost.epoch
        trials.append(Trial(rate, now, ended, [cost.epoch] * length, [0.5] * length))
        now = ended
    return tuple(trials)


@given(SECONDS, SECONDS, SECONDS, st.lists(st.integers(1, 10), min_size=1, max_size=12))
def test_costs_are_recovered_from_trials_and_give_the_wall_clock(start, setup, epoch, lengths):
    cost = Cost(start, setup, epoch)
    trials = ran(cost, lengths)
    found = Cost.of(start, trials)
    assert found.setup == pytest.approx(setup, abs=1e-6)
    assert found.epoch == pytest.approx(epoch)
    assert found.seconds(len(lengths), sum(lengths)) == pytest.approx(trials[-1].ended)


def test_a_first_epoch_that_traces_is_no_measure_of_an_epoch():
    trial = Trial(1e-4, 0.0, 20.0, [12.0, 2.0, 2.0], [0.5, 0.5, 0.5])
    assert Cost.of(0.0, [trial]) == Cost(0.0, 14.0, 2.0)
    assert Cost.of(0.0, [Trial(1e-4, 0.0, 20.0, [12.0], [0.5])]).epoch == 12.0


def test_more_texts_make_the_epochs_longer_and_nothing_else():
    assert Cost(1.0, 10.0, 5.0).seconds(trials=3, epochs=4, texts=2.0) == 1 + 30 + 40


def test_the_check_predicts_the_grid_from_its_first_row():
    cost = Cost(3.0, 7.0, 2.0)
    trials = ran(cost, [1, 2, 3] * 2, [1e-4] * 3 + [5e-5] * 3)
    search = Searched("cells", trials[-1].ended, trials, 0)
    assert search.start == pytest.approx(3)
    assert search.epochs == epochs_of_cells(2, 3) == 12
    assert search.cost(1e-4).seconds(6, 12) == pytest.approx(search.wall)


def test_the_best_cell_is_the_one_of_fewer_epochs_where_two_are_equal():
    trials = Trial(1e-4, 0, 1, [1, 1, 1], [0.4, 0.6, 0.6]), Trial(5e-5, 1, 2, [1], [0.5])
    assert Searched("rows", 2.0, trials, 0).best() == (0.6, 1e-4, 2)


def test_the_full_grid_is_the_one_of_the_paper():
    assert full_size(BASELINE) == (70, 385)
    assert full_size(KINDER) == (7, 70)
    assert full_size("bertgrid-tf, bf16") == (7, 70)


def test_a_recorder_loses_no_time_between_trials():
    recorder = EpochRecorder()
    for rate in (1e-4, 5e-5):
        recorder.begin(rate)
        recorder.epoch(0.1, 0.5)
    first, second = trials_of(recorder.end())
    assert first.ended == second.began
    assert second.ended > second.began
    assert (first.learning_rate, first.epochs, second.accuracy) == (1e-4, [0.1], [0.5])


def test_the_clock_stands_still_while_the_test_split_is_scored(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("benchmarks.contenders.trials.monotonic", lambda: now[0])

    def test():
        now[0] += 40
        return 0.25

    recorder = EpochRecorder(began=90.0)  # when the process started
    recorder.begin(1e-4)
    for seconds in (5, 3):
        now[0] += seconds
        recorder.epoch(seconds, 0.5, test)
    now[0] += 2
    (trial,) = trials_of(recorder.end())
    assert (trial.began, trial.scored, trial.ended, trial.test) == (10, [15, 18], 20, [0.25, 0.25])


@given(
    st.floats(0.01, 2),
    st.lists(st.floats(0, 20), min_size=2, max_size=8),
    st.integers(4, 9),
    st.booleans(),
)
def test_overhead_is_the_time_between_trials_however_late_a_step_is_recorded(each, gaps, steps, late):
    begins = list(accumulate((gap + steps * each for gap in gaps), initial=0.0))
    ends = [[begin + each * step for step in range(1, steps + 1)] for begin in begins]
    if late:  # each step is recorded as the next one ends, the last at its own end
        ends = [[*trial[1:], trial[-1]] for trial in ends]
    assert step_seconds(ends) == pytest.approx(each)
    assert overheads(ends) == pytest.approx(gaps, abs=1e-6)


def test_growth_begins_with_the_fifth_trial():
    assert growth([1, 2, 3, 4, 100, 90, 102]) == pytest.approx(0.02)
