"""Trials that crash or diverge are retried and given up as KerasTuner's own oracle does it."""

import math

import pytest
from keras_tuner.engine.trial import TrialStatus
from toy_trainable import ToyTrainable, fails, search, trials

from tuners import CasualGridOracle


def oracle(**hyperparameters) -> CasualGridOracle:
    return CasualGridOracle("val_accuracy", [1e-5, 2e-5], 3, **hyperparameters)


class Flaky:
    """A score that is an error, or NaN, the first `times` times at one learning rate's `epoch`, and 0.5 otherwise."""

    def __init__(self, times: int, epoch: int = 1, error: Exception | None = None) -> None:
        self.left, self.epoch, self.error = times, epoch, error

    def __call__(self, hyperparameters, epoch: int) -> float:
        if hyperparameters["learning_rate"] == 1e-5 and epoch == self.epoch and self.left:
            self.left -= 1
            if self.error is not None:
                raise self.error
            return math.nan
        return 0.5


def statuses(tuner) -> list[str]:
    return [trial.status for trial in trials(tuner)]


@pytest.mark.parametrize(("retries", "status"), [(0, "FAILED"), (1, "FAILED"), (2, "COMPLETED")])
def test_an_invalid_trial_is_retried_as_often_as_allowed_and_then_failed(tmp_path, retries, status):
    asked = search(tmp_path, ToyTrainable(), oracle(max_retries_per_trial=retries)).oracle
    for _ in range(min(retries, 2) + 1):
        trial = asked.create_trial("tuner0")
        assert (trial.trial_id, trial.status) == ("0000", TrialStatus.RUNNING)
        asked.update_trial("0000", {"val_accuracy": 0.5}, step=1)
        trial.status = TrialStatus.COMPLETED if _ == 2 else TrialStatus.INVALID
        asked.end_trial(trial)
    assert asked.trials["0000"].status == status
    assert asked.create_trial("tuner0").trial_id == "0001"
    assert asked.end_order == ["0000"]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_crashed_trial_resumes_from_its_saved_epochs(tmp_path, times):
    trainable = ToyTrainable(Flaky(times, epoch=2, error=ZeroDivisionError("no luck")))
    tuner = search(tmp_path, trainable, oracle(max_retries_per_trial=2))
    tuner.search()
    assert statuses(tuner) == ["FAILED" if times == 3 else "COMPLETED", "COMPLETED"]
    assert [epoch for hyperparameters, epoch in trainable.trained if hyperparameters["learning_rate"] == 1e-5].count(
        1
    ) == 1
    if times == 3:
        assert "no luck" in trials(tuner)[0].message


def test_without_a_finite_epoch_a_trial_is_invalid_and_its_retry_starts_over(tmp_path):
    trainable = ToyTrainable(Flaky(1))
    tuner = search(tmp_path, trainable, oracle(max_retries_per_trial=1))
    tuner.search()
    assert statuses(tuner) == ["COMPLETED", "COMPLETED"]
    assert [epoch for hyperparameters, epoch in trainable.trained if hyperparameters["learning_rate"] == 1e-5] == [
        1,
        1,
        2,
        3,
    ]
    assert not math.isnan(tuner.oracle.table().scores.sum())


def test_a_row_that_diverged_later_counts_and_is_not_retried(tmp_path):
    trainable = ToyTrainable(Flaky(9, epoch=2))
    tuner = search(tmp_path, trainable, oracle(max_retries_per_trial=5))
    tuner.search()
    assert statuses(tuner) == ["COMPLETED", "COMPLETED"]
    assert [epoch for hyperparameters, epoch in trainable.trained if hyperparameters["learning_rate"] == 1e-5] == [1, 2]
    assert tuner.oracle.table().scores[0, 0] == 0.5


def test_by_default_nothing_is_retried(tmp_path):
    trainable = ToyTrainable(Flaky(1))
    tuner = search(tmp_path, trainable, oracle())
    tuner.search()
    assert statuses(tuner) == ["FAILED", "COMPLETED"]
    assert [epoch for hyperparameters, epoch in trainable.trained if hyperparameters["learning_rate"] == 1e-5] == [1]


def test_a_sweep_is_not_decided_while_a_level_waits_for_its_retry(tmp_path):
    def score(hyperparameters, epoch):
        if hyperparameters["batch_size"] == 32 and not crashed:
            crashed.append(True)
            raise ZeroDivisionError
        return hyperparameters["batch_size"] / 100

    crashed: list[bool] = []
    tuner = search(tmp_path, ToyTrainable(score), oracle(sweeps={"batch_size": [16, 32]}, max_retries_per_trial=1))
    tuner.search()
    assert tuner.oracle.incumbent["batch_size"] == 32


@pytest.mark.parametrize("kill_after", [1, 2])
def test_a_resumed_study_counts_the_retries_of_before(tmp_path, kill_after):
    trainable = ToyTrainable(Flaky(9, epoch=2, error=ZeroDivisionError()))
    tuner = search(tmp_path, trainable, oracle(max_retries_per_trial=2))
    for _ in range(kill_after):
        trial = tuner.oracle.create_trial("tuner0")
        tuner._try_run_and_update_trial(trial)
        tuner.on_trial_end(trial)
    assert trial.status == TrialStatus.INVALID
    # Another process: the oracle knows what the files say.
    resumed = search(tmp_path, trainable, oracle(max_retries_per_trial=2))
    resumed.search()
    assert statuses(resumed) == ["FAILED", "COMPLETED"]
    assert [epoch for hyperparameters, epoch in trainable.trained if hyperparameters["learning_rate"] == 1e-5].count(
        2
    ) == 3


def test_failures_in_a_row_do_not_end_the_search(tmp_path):
    failing = ToyTrainable(fails(lambda hyperparameters, epoch: None))
    tuner = search(tmp_path, failing, CasualGridOracle("val_accuracy", [1e-5] + [r / 1e4 for r in range(1, 6)], 1))
    tuner.search()
    assert statuses(tuner) == ["FAILED"] * 6
