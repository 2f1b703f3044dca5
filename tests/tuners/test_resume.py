"""A study killed at any moment resumes where it stopped, and ends as if it had not been killed."""

import errno
import json
import os
import shutil
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from keras_tuner.engine.trial import TrialStatus
from killed import die_at_replacement, in_a_child, status_of
from toy_trainable import ToyTrainable, accuracy, search, trials

from tuners import CasualGridOracle, CasualGridSearch, TunerError

SPACE = {
    "objective": "val_accuracy",
    "learning_rates": [1e-4, 2e-5],
    "epochs": 3,
    "sweeps": {"layout": ["current", "previous"], "batch_size": [16, 32]},
    "start": {"learning_rate": 2e-5},
}


def score(hyperparameters, epoch):
    """One row diverges, so that a NaN has to survive as well."""
    return float("nan") if hyperparameters["learning_rate"] == 1e-4 and epoch == 2 else accuracy(hyperparameters, epoch)


def study(folder: Path, score=score) -> CasualGridSearch:
    folder.mkdir(exist_ok=True)
    return search(folder, ToyTrainable(score, log=folder / "log"), CasualGridOracle(**SPACE))


def search_until_replacement(folder: Path, number: int, after: bool) -> None:
    die_at_replacement(folder, number, after)
    study(folder).search()


def trained_twice(folder: Path) -> list[str]:
    times = Counter((folder / "log").read_text().splitlines())
    assert max(times.values()) <= 2
    return [epoch for epoch, count in times.items() if count == 2]


def results(tuner: CasualGridSearch):
    oracle = tuner.oracle
    histories = {
        trial.trial_id: (trial.status, trial.metrics.get_config()["metrics"], trial.hyperparameters.values)
        for trial in trials(tuner)
    }
    return oracle.table(), str(oracle.sweep_results), oracle.best(), str(histories)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    tuner = study(tmp_path_factory.mktemp("uninterrupted"))
    tuner.search()
    return results(tuner)


def search_until_epoch(folder: Path, number: int) -> None:
    """Searches; the process is killed within the `number`-th epoch that it trains."""
    trained = Counter()

    def score_or_die(hyperparameters, epoch):
        trained["epochs"] += 1
        if trained["epochs"] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(hyperparameters, epoch)

    study(folder, score_or_die).search()


@pytest.mark.parametrize("killed_in", [(2,) * 7, (1, 1, 1, 5), (3, 1, 2, 4)], ids=str)
def test_process_after_process_that_is_killed_within_an_epoch_loses_that_epoch_alone(
    tmp_path, uninterrupted, killed_in
):
    for number in killed_in:
        assert status_of(in_a_child(partial(search_until_epoch, tmp_path / "killed", number))) == -signal.SIGKILL
    tuner = study(tmp_path / "killed")
    tuner.search()
    assert results(tuner) == uninterrupted
    # Eight epochs, and those in which a process was killed.
    assert len((tmp_path / "killed" / "log").read_text().splitlines()) == 8 + len(killed_in)


def test_an_unfinished_trial_resumes_under_its_own_id_and_only_once(tmp_path):
    status_of(in_a_child(lambda: search_until_replacement(tmp_path, 27, True)))
    tuner = study(tmp_path)
    (unfinished,) = [trial.trial_id for trial in trials(tuner) if trial.status == TrialStatus.RUNNING]
    reported = []
    tuner._on_trial_begin = lambda trial: reported.append(trial.trial_id)
    tuner.search()
    assert reported[0] == unfinished
    assert len(reported) == len(set(reported))


def test_a_finished_study_trains_nothing_when_it_is_restarted(tmp_path):
    study(tmp_path).search()
    log = (tmp_path / "log").read_text()
    tuner = study(tmp_path)
    tuner.search()
    assert (tmp_path / "log").read_text() == log
    assert tuner.oracle.best().trial_id in tuner.oracle.trials


def test_a_second_search_with_the_same_tuner_trains_nothing(tmp_path):
    tuner = study(tmp_path)
    tuner.search()
    log = (tmp_path / "log").read_text()
    tuner.search()
    assert (tmp_path / "log").read_text() == log


def test_a_trial_that_lost_its_epochs_reports_all_of_them(tmp_path):
    status_of(in_a_child(lambda: search_until_replacement(tmp_path, 29, True)))
    tuner = study(tmp_path)
    (unfinished,) = [trial for trial in trials(tuner) if trial.status == TrialStatus.RUNNING]
    assert len(unfinished.metrics.get_history("val_accuracy")) == 2
    tuner.oracle.update_trial(unfinished.trial_id, {"val_accuracy": 0.25}, step=1)
    (only,) = unfinished.metrics.get_history("val_accuracy")
    assert (only.step, only.value) == (1, [0.25])
    assert not unfinished.metrics.get_history("seconds")


def test_overwriting_starts_over_and_leaves_other_files_alone(tmp_path):
    study(tmp_path).search()
    (tmp_path / "study" / "recipe.yaml").write_text("mine")
    oracle = CasualGridOracle("val_accuracy", [1e-3], 1)
    oracle.verbose = 0
    tuner = CasualGridSearch(
        ToyTrainable(lambda hyperparameters, epoch: 0.5), oracle, tmp_path, "study", overwrite=True
    )
    tuner.search()
    assert list(oracle.trials) == ["0000"]
    assert {path.name for path in (tmp_path / "study").iterdir()} == {
        "recipe.yaml",
        "oracle.json",
        "trial_0000",
    }


def test_a_study_that_was_half_overwritten_is_refused_until_it_is_wholly(tmp_path, monkeypatch):
    study(tmp_path).search()
    remove = shutil.rmtree

    def remove_and_stop(folder):
        remove(folder)
        raise KeyboardInterrupt

    def overwrite():
        CasualGridSearch(ToyTrainable(), CasualGridOracle(**SPACE), tmp_path, "study", overwrite=True)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", remove_and_stop)
        overwrite()
    with pytest.raises(TunerError, match="is missing"):
        study(tmp_path)
    overwrite()
    assert list((tmp_path / "study").iterdir()) == []


def test_nothing_depends_on_kerastuners_tuner_file(tmp_path):
    study(tmp_path).search()
    assert not list((tmp_path / "study").glob("tuner*.json"))
    assert len(study(tmp_path).oracle.trials) == 5


@pytest.mark.parametrize("number", range(1, 21, 3))
def test_a_full_disk_ends_a_search_with_a_sentence_and_it_resumes_after_room_is_made(
    tmp_path, monkeypatch, uninterrupted, number
):
    fsync, calls = os.fsync, Counter()

    def full(file):
        # Of every file, and then of the folder that it lies in.
        calls["fsync"] += 1
        if calls["fsync"] >= 2 * number - 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TunerError, match=r"^Cannot write .*json: No space left on device: make room and restart"):
            study(tmp_path / "full").search()
    tuner = study(tmp_path / "full")
    tuner.search()
    assert results(tuner) == uninterrupted
    assert trained_twice(tmp_path / "full") == []


def test_a_trial_that_ended_after_the_oracle_was_written_last_comes_after_the_others(tmp_path):
    search(tmp_path, ToyTrainable(), learning_rates=[1e-5, 2e-5, 3e-5]).search()
    path = tmp_path / "study" / "oracle.json"
    state = json.loads(path.read_text())
    assert state["end_order"] == ["0000", "0001", "0002"]
    path.write_text(json.dumps(state | {"end_order": ["0002", "0001"], "start_order": ["0000", "0001"]}))
    oracle = search(tmp_path, ToyTrainable(), learning_rates=[1e-5, 2e-5, 3e-5]).oracle
    assert oracle.end_order == ["0002", "0001", "0000"]
    assert oracle.start_order == ["0000", "0001", "0002"]
