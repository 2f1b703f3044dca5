"""The time estimator on a simulated clock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf.budget.time_estimator import REPORT, START, StageWork, TimeEstimator, makespan
from bertgrid_tf.storage.records import StageTime
from bertgrid_tf.training.workload import EpochWorkload

SMALL = EpochWorkload("small", "small", 2, 128, 20, 5_000.0, 600.0)
LONGER = replace(SMALL, kind="longer", tokens=9_000.0, evaluated_tokens=1_100.0)
LARGE = EpochWorkload("large", "large", 4, 256, 20, 9_000.0, 1_100.0)


class Simulated:
    """A simulated study: `speed` seconds per unit of cost, `startup` to build a model, `reset` otherwise."""

    def __init__(self, workers: int = 1, speed: float = 1e-8, startup: float = 30.0, reset: float = 0.5) -> None:
        self.now = 0.0
        self.estimator = TimeEstimator(0.0, workers, now=lambda: self.now)
        self.speed, self.startup, self.reset = speed, startup, reset
        self._model: object = None

    def run(self, name: str, stage: str, work: EpochWorkload, epochs: int, stop_epoch: int | None = None) -> None:
        self.estimator.begin(name, stage, work, epochs)
        self.now += self.reset if self._model == work.model else self.startup * work.layers / 2
        traced, self._model = self._model != work.model, work.model
        for epoch in range(1, (stop_epoch or epochs) + 1):
            for step in range(1, work.steps + 1):
                self.now += self.speed * work.training_cost / work.steps
                self.estimator.step(name, step)
            # The first scoring is traced too.
            self.now += self.speed * (work.cost - work.training_cost) + 2.0 * (traced and epoch == 1)
            self.estimator.epoch(name, epoch, self.speed * work.cost + 2.0 * (traced and epoch == 1))


def stages(*levels: EpochWorkload, rates: int = 3, epochs: int = 4, final: EpochWorkload = LARGE) -> list[StageWork]:
    return [
        StageWork("sweep:layout", tuple((level, 2) for level in levels)),
        StageWork("grid", ((levels[0], epochs),) * rates),
        StageWork("final", ((final, epochs),)),
    ]


def study(simulated: Simulated, planned: list[StageWork]) -> list[StageTime]:
    simulated.estimator.expect(planned)
    for stage in planned:
        for number, (work, epochs) in enumerate(stage.trials):
            simulated.run(f"{stage.name}{number}", stage.name, work, epochs)
    return simulated.estimator.times()


def test_what_is_predicted_after_the_first_epoch_is_what_every_stage_takes():
    simulated = Simulated()
    times = study(simulated, stages(SMALL, LONGER))
    assert [time.stage for time in times] == [START, "sweep:layout", "grid", "final"]
    for time in times[1:]:
        assert time.measured == pytest.approx(time.after_first_epoch, rel=0.1)
        assert time.measured == pytest.approx(time.at_beginning, rel=0.1)
    assert sum(time.measured for time in times) == pytest.approx(simulated.now)


@given(
    st.floats(1e-10, 1e-6),
    st.floats(0, 100),
    st.floats(0, 2),
    st.lists(st.sampled_from([SMALL, LONGER]), min_size=1, max_size=5),
    st.integers(1, 6),
    st.integers(1, 8),
)
def test_the_time_left_after_the_first_epoch_is_within_15_percent_where_a_kind_s_speed_is_steady(
    speed, startup, reset, levels, rates, epochs
):
    simulated = Simulated(1, speed, startup, reset)
    planned = stages(*levels, rates=rates, epochs=epochs)
    simulated.estimator.expect(planned)
    simulated.run("first", "sweep:layout", levels[0], 2, stop_epoch=1)
    predicted = simulated.estimator.left()
    runs = [(stage.name, *run) for stage in planned for run in stage.trials]
    truth = sum(epochs * speed * work.cost for _, work, epochs in runs) - speed * levels[0].cost
    truth += (len(runs) - 2) * reset + startup * LARGE.layers / 2
    # What a reset and the trace of scoring take is not known yet.
    assert abs(predicted - truth) <= 0.15 * truth + reset * len(runs) + 2 * (LARGE.layers / 2)


def test_the_time_of_a_report_is_that_of_no_other_stage_and_stands_last():
    simulated = Simulated()
    planned = stages(SMALL)
    simulated.estimator.expect(planned)
    simulated.run("sweep0", "sweep:layout", SMALL, 2)
    with simulated.estimator.during(REPORT):
        simulated.now += 5.0
    before = {time.stage: time.measured for time in simulated.estimator.times()}
    simulated.run("grid0", "grid", SMALL, 4)
    times = {time.stage: time.measured for time in simulated.estimator.times()}
    assert list(times) == [START, "sweep:layout", "grid", "final", REPORT]
    assert times[REPORT] == before[REPORT] == 5.0
    assert times["sweep:layout"] == before["sweep:layout"]
    assert sum(times.values()) == pytest.approx(simulated.now)


@pytest.mark.parametrize(("recorded", "expected"), [([StageTime(REPORT, measured=5.0)], 5.0), ([], 3.0)])
def test_a_study_that_has_ended_keeps_its_report_s_time_and_one_killed_before_it_gets_one(recorded, expected):
    now = [0.0]
    estimator = TimeEstimator(0.0, earlier=recorded, now=lambda: now[0])
    with estimator.during(REPORT):
        now[0] += 3.0
    assert {time.stage: time.measured for time in estimator.times()}[REPORT] == expected


def test_the_time_left_falls_as_time_goes_by_and_is_nothing_at_the_end():
    simulated = Simulated()
    simulated.estimator.expect([StageWork("grid", ((SMALL, 3),))])
    assert simulated.estimator.left() is None
    assert simulated.estimator.share() is None
    simulated.run("0", "grid", SMALL, 3, stop_epoch=1)
    epoch = simulated.speed * SMALL.cost
    assert simulated.estimator.left() == pytest.approx(2 * epoch)
    simulated.now += epoch / 2
    assert simulated.estimator.left() == pytest.approx(1.5 * epoch)
    simulated.now -= epoch / 2
    for epoch_number in (2, 3):
        simulated.now += epoch
        simulated.estimator.epoch("0", epoch_number, epoch)
    assert simulated.estimator.left() == 0
    assert simulated.estimator.share() == 1


def test_the_latest_epochs_decide_on_the_speed():
    simulated = Simulated()
    simulated.estimator.expect([StageWork("grid", ((SMALL, 9),) * 2)])
    simulated.run("0", "grid", SMALL, 9)
    simulated.speed *= 3
    simulated.run("1", "grid", SMALL, 9, stop_epoch=4)
    assert simulated.estimator.trial_left("1") == pytest.approx(5 * simulated.speed * SMALL.cost, rel=0.01)


def test_a_trial_that_ends_before_its_last_epoch_is_not_waited_for():
    simulated = Simulated()
    simulated.estimator.expect([StageWork("grid", ((SMALL, 4),) * 2)])
    simulated.run("0", "grid", SMALL, 4, stop_epoch=1)
    simulated.run("1", "grid", SMALL, 4, stop_epoch=3)
    assert simulated.estimator.left() == pytest.approx(simulated.speed * SMALL.cost)


def test_what_is_left_of_unlike_trials_is_those_that_have_not_begun():
    simulated = Simulated(reset=0.0)
    simulated.estimator.expect([StageWork("grid", ((SMALL, 4), (SMALL, 1)))])
    simulated.run("0", "grid", SMALL, 1)
    assert simulated.estimator.left() == pytest.approx(simulated.speed * 4 * SMALL.cost)


def test_a_diverged_trial_has_ended_and_does_not_count_for_the_speed():
    simulated = Simulated()
    simulated.estimator.expect([StageWork("grid", ((SMALL, 4),))])
    simulated.run("0", "grid", SMALL, 4, stop_epoch=2)
    simulated.now += 1
    simulated.estimator.epoch("0", 3, 1.0, diverged=True)
    assert simulated.estimator.left() == 0
    assert simulated.estimator.throughput.seconds(SMALL) == pytest.approx(simulated.speed * SMALL.cost)


def test_where_any_level_may_still_win_what_comes_after_is_predicted_at_their_mean():
    estimator = TimeEstimator(0.0, now=lambda: 0.0)
    estimator.throughput.add(SMALL, 10.0)
    estimator.throughput.add(LONGER, 30.0)
    grid = StageWork("grid", ((SMALL, 2),))
    assert estimator.seconds([grid]) == 20
    assert estimator.seconds([replace(grid, undecided=((SMALL, (SMALL, LONGER)),))]) == 40


def test_a_search_that_leaves_cells_out_takes_its_epochs_at_most_whichever_rows_they_belong_to():
    simulated = Simulated(reset=0.0)
    simulated.estimator.expect([StageWork("grid", ((SMALL, 4), (SMALL, 2)), at_most=True)])
    for run in range(5):
        assert simulated.estimator.left() is None or simulated.estimator.left() > 0
        simulated.run(str(run), "grid", SMALL, 4, stop_epoch=1)
    assert simulated.estimator.left() == pytest.approx(simulated.speed * SMALL.cost)


def test_workers_share_the_epochs_that_a_search_takes_at_most():
    estimator = TimeEstimator(0.0, workers=2, now=lambda: 0.0)
    estimator.throughput.add(SMALL, 10.0)
    assert estimator.seconds([StageWork("grid", ((SMALL, 4), (SMALL, 2)), at_most=True)]) == 30


def test_a_restored_epoch_costs_no_time():
    simulated = Simulated()
    simulated.estimator.expect([StageWork("grid", ((SMALL, 3),))])
    simulated.estimator.begin("0", "grid", SMALL, 3)
    for epoch in (1, 2):
        simulated.estimator.epoch("0", epoch, 40.0)
        assert simulated.estimator.restored
    assert simulated.estimator.left() == 40
    simulated.now += 20
    simulated.estimator.epoch("0", 3, 20.0)
    assert not simulated.estimator.restored
    assert simulated.estimator.elapsed() == 20


def test_a_resumed_study_knows_the_speed_and_the_time_of_the_sessions_before():
    earlier = [StageTime(START, measured=5.0), StageTime("grid", at_beginning=90.0, measured=40.0)]
    estimator = TimeEstimator(0.0, earlier=earlier, now=lambda: 10.0)
    estimator.expect([StageWork("grid", ((SMALL, 2),) * 3)])
    estimator.add_ended("0", "grid", SMALL, 2, [25.0, 20.0])
    assert estimator.left() == pytest.approx(80)
    assert estimator.elapsed() == 55
    estimator.begin("1", "grid", SMALL, 2)
    assert [time.at_beginning for time in estimator.times()] == [None, 90.0]


def test_workers_share_what_is_left_and_the_longest_run_bounds_it():
    estimator = TimeEstimator(0.0, workers=2, now=lambda: 0.0)
    estimator.expect([StageWork("grid", ((SMALL, 2),) * 3)])
    for run in ("0", "1"):
        estimator.begin(run, "grid", SMALL, 2)
        estimator.epoch(run, 1, 10.0)
    # 10 s of either run, then 20 s of the third.
    assert estimator.left() == 30


def test_a_stage_after_the_search_has_workers_of_its_own_which_build_their_models():
    now = [0.0]
    estimator = TimeEstimator(0.0, workers=2, now=lambda: now[0], final_workers=1)
    estimator.expect([StageWork(stage, ((SMALL, 1),) * 2) for stage in ("grid", "seeds", "final")])
    for run in ("0", "1"):
        estimator.begin(run, "grid", SMALL, 1)
    now[0] = 30.0
    for run in ("0", "1"):
        estimator.epoch(run, 1, 10.0)
    # 20 s to build a model: two seeds at a time, and one final model after the other.
    assert [(stage.name, seconds) for stage, seconds in estimator.ahead()] == [
        ("grid", 0),
        ("seeds", 30),
        ("final", 40),
    ]
    estimator.begin("2", "seeds", SMALL, 1)
    now[0] = 60.0
    estimator.epoch("2", 1, 10.0)
    assert estimator.trial_seconds(SMALL, 1) == 10


@given(st.lists(st.floats(0, 1e6), max_size=20), st.integers(1, 8))
def test_trials_on_workers_end_no_sooner_than_they_can_and_not_much_later(seconds, workers):
    longest, even = max(seconds, default=0), sum(seconds) / workers
    assert max(longest, even) * (1 - 1e-9) <= makespan(seconds, workers) <= (longest + even) * (1 + 1e-9)
    assert makespan(seconds, 1) == pytest.approx(sum(seconds))


def test_an_interruption_in_a_trial_s_first_epoch_does_not_count_for_the_others():
    simulated = Simulated()
    simulated.estimator.expect([StageWork("grid", ((SMALL, 3),) * 3)])
    simulated.estimator.begin("0", "grid", SMALL, 3)
    epoch = simulated.speed * SMALL.cost
    for step in range(1, SMALL.steps + 1):
        simulated.now += epoch / SMALL.steps + 60 * (step in (1, SMALL.steps))
        simulated.estimator.step("0", step)
    simulated.estimator.epoch("0", 1, epoch + 120)
    assert simulated.estimator.left() == pytest.approx(8 * epoch, rel=0.2)


def test_a_larger_model_is_predicted_to_take_longer_and_more_tokens_too():
    estimator = TimeEstimator(0.0, now=lambda: 0.0)
    estimator.throughput.add(SMALL, 10.0)
    assert estimator.throughput.seconds(SMALL) == 10
    assert 10 < estimator.throughput.seconds(LONGER) < estimator.throughput.seconds(LARGE)
    estimator.throughput.add(LARGE, 99.0)
    assert estimator.throughput.seconds(replace(LARGE, kind="other")) == 99


def test_the_steps_of_an_epoch_are_what_is_left_of_it_besides_scoring():
    simulated = Simulated()
    simulated.estimator.expect([StageWork("grid", ((SMALL, 2),))])
    simulated.run("0", "grid", SMALL, 2, stop_epoch=1)
    epoch, training = (simulated.speed * cost for cost in (SMALL.cost, SMALL.training_cost))
    assert simulated.estimator.trial_left("0") == simulated.estimator.epoch_left("0") == pytest.approx(epoch)
    for step in range(1, 11):
        simulated.now += training / 20
        simulated.estimator.step("0", step)
    half = epoch - training / 2
    assert simulated.estimator.epoch_left("0") == pytest.approx(half)
    assert simulated.estimator.left() == pytest.approx(half)
    assert simulated.estimator.share() == pytest.approx(simulated.now / (simulated.now + half))


def test_a_model_is_built_once_on_each_worker_and_again_after_another():
    estimator = TimeEstimator(0.0, workers=1, now=lambda: 0.0)
    estimator.throughput.add(SMALL, 10.0)
    assert estimator.trial_seconds(SMALL, 2) == 20
    simulated = Simulated()
    simulated.estimator.expect([StageWork("grid", ((SMALL, 2),) * 2)])
    simulated.run("0", "grid", SMALL, 2)
    simulated.run("1", "grid", SMALL, 2)
    epoch = simulated.speed * SMALL.cost
    assert simulated.estimator.trial_seconds(SMALL, 3) == pytest.approx(3 * epoch + simulated.reset, rel=0.05)
    # Twice the layers take twice as long to build.
    large = simulated.speed * LARGE.cost + 2 * simulated.startup
    assert simulated.estimator.trial_seconds(LARGE, 1) == pytest.approx(large, rel=0.15)
    simulated.run("2", "final", LARGE, 1)
    rebuilt = simulated.estimator.trial_seconds(SMALL, 3) - 3 * epoch
    assert rebuilt == pytest.approx(simulated.startup, rel=0.1)


def test_of_more_trials_than_workers_the_one_that_was_silent_longest_has_ended():
    now = 0.0
    estimator = TimeEstimator(0.0, workers=2, now=lambda: now)
    estimator.expect([StageWork("grid", ((SMALL, 4),) * 3)])
    for trial in ("0", "1"):
        estimator.begin(trial, "grid", SMALL, 4)
    for now, trial, epoch in ((10.0, "0", 1), (11.0, "1", 1), (20.0, "0", 2)):  # noqa: B007  # the clock reads it
        estimator.epoch(trial, epoch, 10.0)
    assert estimator.trial_left("1") == 21
    estimator.begin("2", "grid", SMALL, 4)
    assert estimator.trial_left("1") == 0
    assert estimator.trial_left("0") == 20
    assert estimator.left() == 40


def test_the_speed_of_a_kind_is_its_own_or_that_of_its_model_or_else_the_latest():
    estimator = TimeEstimator(0.0, now=lambda: 0.0)
    estimator.throughput.add(LARGE, 500.0)
    estimator.throughput.add(SMALL, 10.0)
    assert estimator.throughput.seconds(SMALL) == 10
    assert estimator.throughput.seconds(replace(LARGE, kind="another")) == 500
    unknown = replace(SMALL, kind="unknown", model="unknown")
    assert estimator.throughput.seconds(unknown) == 10
    # An estimate counts until its kind is measured, and the latest three measurements after that.
    estimator.throughput.add(LONGER, 99.0, exact=False)
    estimator.throughput.add(LONGER, 20.0)
    assert estimator.throughput.seconds(LONGER) == 20
    estimator.throughput.add(LONGER, 99.0, exact=False)
    for seconds in (30.0, 40.0, 50.0):
        estimator.throughput.add(LONGER, seconds)
    assert estimator.throughput.seconds(LONGER) == 40
