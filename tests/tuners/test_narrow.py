"""A search that is narrowed before its grid begins stays the study that it was."""

import json
from dataclasses import replace

import pytest
from toy_trainable import ToyTrainable, search

from tuners import CasualGridOracle, TunerError

SPACE = {
    "objective": "val_accuracy",
    "learning_rates": [1e-5, 2e-5, 3e-5],
    "epochs": 4,
    "sweeps": {"layout": ["current", "previous"]},
    "start": {"layout": "current", "learning_rate": 2e-5},
}


def narrowed(**narrower) -> CasualGridOracle:
    oracle = CasualGridOracle(**SPACE)
    given = {"learning_rates": [2e-5, 3e-5], "epochs": 2} | narrower
    search = given.pop("search", "grid")
    oracle.narrow(replace(oracle.search_space, **given), search)
    return oracle


def test_only_the_rest_of_the_grid_is_trained(tmp_path):
    trainable = ToyTrainable()
    tuner = search(tmp_path, trainable, narrowed())
    assert tuner.oracle.stage == "sweep:layout"
    tuner.search()
    grid = [
        (hyperparameters["learning_rate"], hyperparameters["schedule_epochs"], epoch)
        for hyperparameters, epoch in trainable.trained[2:]
    ]
    assert grid == [(2e-5, 2, 1), (2e-5, 2, 2), (3e-5, 2, 1), (3e-5, 2, 2)]
    assert tuner.oracle.stage == "grid"
    assert tuner.oracle.table().scores.shape == (2, 2)
    assert tuner.oracle.best().hyperparameters["schedule_epochs"] == 2


def test_another_strategy_can_take_the_grid_s_place(tmp_path):
    tuner = search(tmp_path, ToyTrainable(), narrowed(search="surface", learning_rates=(1e-5, 2e-5, 3e-5), epochs=4))
    tuner.search()
    table = tuner.oracle.table()
    assert 0 < table.tried.sum() < table.tried.size


def test_a_study_is_known_by_what_it_was_made_for(tmp_path):
    search(tmp_path, ToyTrainable(), narrowed()).search()
    saved = json.loads((tmp_path / "study" / "oracle.json").read_text())["casual_grid"]
    assert (len(saved["learning_rates"]), saved["epochs"]) == (3, 4)
    copy = ToyTrainable()
    tuner = search(tmp_path, copy, narrowed())
    tuner.search()
    assert not copy.trained
    assert tuner.oracle.best().epoch == 2
    with pytest.raises(TunerError, match="other settings"):
        search(tmp_path, ToyTrainable(), CasualGridOracle(**SPACE | {"epochs": 2}))
