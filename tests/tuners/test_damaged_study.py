"""A study that is damaged, or is another search's, is refused in one sentence."""

import json

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


@pytest.fixture
def study(tmp_path):
    search(tmp_path, ToyTrainable(), CasualGridOracle(**SPACE)).search()
    return tmp_path / "study"


def refusal(study, **changes) -> str:
    with pytest.raises(TunerError) as refused:
        search(study.parent, ToyTrainable(), CasualGridOracle(**{**SPACE, **changes}))
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert "overwrite=True" in sentence
    return sentence


@pytest.mark.parametrize("name", ["oracle.json", "trial_0001/trial.json"])
@pytest.mark.parametrize(
    "damage", [lambda text: text[: len(text) // 2], lambda text: "", lambda text: "[1]", lambda text: "{}"]
)
def test_a_truncated_or_foreign_file_is_named(study, name, damage):
    path = study / name
    path.write_text(damage(path.read_text()))
    assert str(path) in refusal(study)


def test_a_file_that_is_no_text_is_named(study):
    (study / "oracle.json").write_bytes(b"\xff\xfe\x00")
    assert "oracle.json" in refusal(study)


@pytest.mark.parametrize("key", ["start_order", "end_order", "display", "hyperparameters"])
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
        ({"epochs": 3}, "epochs (2 there, 3 here)"),
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
    assert "learning_rates" not in refusal(study, epochs=3)


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
