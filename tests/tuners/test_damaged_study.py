"""A study that is damaged, or is another search's, is refused in one sentence."""

import json
import os
import shutil

import pytest
from toy_trainable import ToyTrainable, search

from tuners import CasualGridOracle, CasualGridSearch, TunerError

SPACE = {
    "objective": "val_accuracy",
    "learning_rates": [1e-5, 2e-5],
    "epochs": 2,
    "sweeps": {"layout": ["current", "next"], "batch_size": [16, 32]},
    "start": {"warm_up": 0.1},
    "seed": 1,
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    search(folder, ToyTrainable(), CasualGridOracle(**SPACE)).search()
    return folder / "study"


@pytest.fixture
def study(searched, tmp_path):
    return shutil.copytree(searched, tmp_path / "study")


def refusal(study, **changes) -> str:
    with pytest.raises(TunerError) as refused:
        search(study.parent, ToyTrainable(), CasualGridOracle(**{**SPACE, **changes}))
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert "overwrite=True" in sentence
    return sentence


DAMAGES = {
    "half": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "a list": lambda text: b"[1]",
    "an empty object": lambda text: b"{}",
    "no text": lambda text: b"\xff\xfe\x00",
    "deep": lambda text: b"[" * 100_000,
    "every key twice": lambda text: text[:-1] + b", " + text[1:],
    "digits": lambda text: b'{"trial_id": ' + b"1" * 5000 + b"}",
    "half a pair": lambda text: b'{"x": "\\ud800", ' + text[1:],
}


def edited(**changes):
    return lambda text: json.dumps(json.loads(text) | changes).encode()


def with_values(**changes):
    def damage(text):
        state = json.loads(text)
        state["hyperparameters"]["values"] |= changes
        return json.dumps(state).encode()

    return damage


DAMAGED_TRIALS = DAMAGES | {
    "another id": edited(trial_id="0002"),
    "an unknown status": edited(status="DONE"),
    "another score": edited(score=0.99),
    "a score of no epoch": edited(best_step=2),
    "metrics of another type": edited(metrics={"metrics": {"val_accuracy": {"direction": "max", "observations": [1]}}}),
    "epochs that are missing": edited(metrics={"metrics": {"val_accuracy": {"direction": "max", "observations": []}}}),
    "times as a text": edited(run_times="1"),
    "a level that is none": with_values(batch_size=64),
    "a level of another type": with_values(batch_size=32.0),
    "a longer training": with_values(stop_epoch=2),
    "another level": with_values(layout="current", batch_size=32),
    "a rate below 0": with_values(learning_rate=-1e-5),
    "a parameter more": with_values(colour="red"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_truncated_or_foreign_oracle_file_is_named(study, damage):
    path = study / "oracle.json"
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refusal(study)


@pytest.mark.parametrize("damage", DAMAGED_TRIALS.values(), ids=DAMAGED_TRIALS)
def test_a_damaged_trial_is_trained_again_under_its_own_id_and_nothing_else_is(study, damage, caplog):
    whole = search(study.parent, ToyTrainable(), CasualGridOracle(**SPACE)).oracle
    path, before = study / "trial_0001" / "trial.json", {}
    for file in study.glob("trial_*/*"):
        before[file] = file.read_bytes()
    path.write_bytes(damage(path.read_bytes()))
    trainable = ToyTrainable()
    tuner = search(study.parent, trainable, CasualGridOracle(**SPACE))
    assert f"{path} is damaged (" in caplog.text
    tuner.search()
    # From the state of its epoch, which is whole.
    assert trainable.trained == []
    assert tuner.oracle.table() == whole.table()
    assert {file: file.read_bytes() for file in study.glob("trial_*/*")} == before


def test_hyperparameters_that_are_damaged_are_written_anew(study, caplog):
    path = study / "trial_0001" / "hyperparameters.json"
    whole = path.read_text()
    path.write_text(whole[:-20])
    trainable = ToyTrainable()
    search(study.parent, trainable, CasualGridOracle(**SPACE)).search()
    assert f"{path} is damaged (" in caplog.text
    assert caplog.text.rstrip().endswith("): it is made anew.")
    assert trainable.trained == []
    assert path.read_text() == whole


def test_a_trial_of_which_nothing_is_whole_is_trained_from_its_first_epoch(study):
    whole = search(study.parent, ToyTrainable(), CasualGridOracle(**SPACE)).oracle
    for name in ("trial.json", "hyperparameters.json", "epochs.json"):
        (study / "trial_0001" / name).write_text("{")
    trainable = ToyTrainable()
    tuner = search(study.parent, trainable, CasualGridOracle(**SPACE))
    tuner.search()
    assert len(trainable.trained) == 1
    assert sorted(tuner.oracle.trials) == sorted(whole.trials)
    assert tuner.oracle.table() == whole.table()
    assert str(tuner.oracle.sweep_results) == str(whole.sweep_results)


@pytest.mark.parametrize("name", ["oracle.json", "trial_0001/trial.json"])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["a folder", "a pipe"])
def test_what_is_no_file_is_neither_read_nor_waited_for(study, name, make):
    (study / name).unlink()
    make(study / name)
    with pytest.raises(TunerError, match=rf"{name} cannot be read \(a (folder|pipe or a device) is in its place\)"):
        search(study.parent, ToyTrainable(), CasualGridOracle(**SPACE))


@pytest.mark.parametrize("key", ["start_order", "end_order", "display", "hyperparameters", "seed"])
def test_an_oracle_file_that_lacks_a_part_is_named(study, key):
    path = study / "oracle.json"
    state = json.loads(path.read_text())
    del state[key]
    path.write_text(json.dumps(state))
    assert key in refusal(study)


@pytest.mark.parametrize("trial", ["0001", "0004"])
def test_a_missing_trial_is_named(study, trial):
    (study / f"trial_{trial}" / "trial.json").unlink()
    assert f"trial_{trial}/trial.json is missing" in refusal(study)


def test_trials_without_an_oracle_file_are_not_taken_for_a_new_study(study):
    (study / "oracle.json").unlink()
    assert "no oracle.json" in refusal(study)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rates": [1e-5, 3e-5]}, "learning_rates ([1e-05, 2e-05] there, [1e-05, 3e-05] here)"),
        ({"epochs": 1}, "epochs (2 there, 1 here)"),
        ({"sweep_epochs": 2}, "sweep_epochs (1 there, 2 here)"),
        ({"grid_schedule": "per-cell"}, 'grid_schedule ("shared" there, "per-cell" here)'),
        ({"objective": "val_loss"}, 'objective (["val_accuracy", "max"] there, ["val_loss", "min"] here)'),
        ({"seed": 2}, "seed (1 there, 2 here)"),
        ({"start": {"warm_up": 0.2}}, "start.warm_up (0.1 there, 0.2 here)"),
        (
            {"sweeps": {"layout": ["current", "next"], "batch_size": [16]}},
            "sweeps.batch_size ([16, 32] there, [16] here)",
        ),
        ({"sweeps": {"layout": ["current", "next"]}}, "sweeps.batch_size ([16, 32] there, absent here)"),
        (
            {"sweeps": {"batch_size": [16, 32], "layout": ["current", "next"]}},
            'order of the sweeps (["layout", "batch_size"] there, ["batch_size", "layout"] here)',
        ),
    ],
)
def test_another_searchs_study_is_refused_with_the_differing_keys(study, changes, named):
    assert named in refusal(study, **changes)


def test_only_the_differing_keys_are_named(study):
    assert "learning_rates (" not in refusal(study, epochs=1)


def test_the_study_of_another_oracle_is_refused(study):
    state = json.loads((study / "oracle.json").read_text())
    del state["casual_grid"]
    (study / "oracle.json").write_text(json.dumps(state))
    assert "another oracle" in refusal(study)


def test_a_damaged_study_can_be_overwritten_and_is_then_searched_anew(study):
    whole = search(study.parent, ToyTrainable(), CasualGridOracle(**SPACE)).oracle.table()
    (study / "oracle.json").write_text("{")
    trainable, oracle = ToyTrainable(), CasualGridOracle(**SPACE)
    oracle.verbose = 0
    tuner = CasualGridSearch(trainable, oracle, study.parent, "study", overwrite=True)
    assert list(study.iterdir()) == []
    tuner.search()
    # Two sweeps of two levels, of which the chosen one of the first is a level of the second; two rows of two epochs.
    assert len(trainable.trained) == 3 + 4
    assert search(study.parent, ToyTrainable(), CasualGridOracle(**SPACE)).oracle.table() == whole
