"""A study that grows trains what is missing, and equals one that was whole from the start."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras_tuner.engine.trial import TrialStatus
from toy_trainable import ToyTrainable, accuracy, search, stages

from tuners import CasualGridOracle, CasualGridSearch, TunerError

RATES = [1e-5, 2e-5, 3e-5, 4e-5]
START = {"layout": "current", "batch_size": 16, "learning_rate": 2e-5}
SMALL = {
    "objective": "val_accuracy",
    "learning_rates": [1e-5, 2e-5],
    "epochs": 2,
    "sweeps": {"layout": ["current", "previous"]},
    "start": START,
    "seed": 1,
}
WHOLE = SMALL | {
    "learning_rates": [4e-5, 2e-5, 1e-5],
    "sweeps": {"layout": ["next", "current", "previous"], "batch_size": [16, 32]},
}


FREE = {"without_horizon": lambda _: True}


class KilledError(Exception):
    """Stands for a kill: nothing of the trial is reported any more."""


def study(folder: Path, space: dict, score=accuracy, **more) -> tuple[CasualGridSearch, ToyTrainable]:
    folder.mkdir(exist_ok=True)
    trainable = ToyTrainable(score)
    return search(folder, trainable, CasualGridOracle(**space, **more)), trainable


def searched(folder: Path, space: dict, score=accuracy, **more) -> tuple[CasualGridSearch, ToyTrainable]:
    tuner, trainable = study(folder, space, score, **more)
    tuner.search()
    return tuner, trainable


def dying_after(epochs: int, score=accuracy):
    trained = []

    def dying(hyperparameters, epoch):
        if len(trained) == epochs:
            raise KilledError
        trained.append(epoch)
        return score(hyperparameters, epoch)

    return dying


def results(tuner: CasualGridSearch) -> tuple:
    """All that a search decides, without the ids of its trials."""
    oracle = tuner.oracle
    sweeps = [replace(level, trial_id=None) for level in oracle.sweep_results]
    cells = [replace(cell, trial_id="") for cell in oracle.cells()]
    return oracle.table(), str(sweeps), replace(oracle.best(), trial_id=""), str(cells), oracle.incumbent


# Sweeps whose adopted levels stay, in each of which growth may add others.
SPACES = st.fixed_dictionaries(
    {
        "learning_rates": st.lists(st.sampled_from(RATES), min_size=1, unique=True),
        "epochs": st.integers(1, 4),
        "layout": st.lists(st.sampled_from(["current", "next"]), unique=True).map(lambda levels: [*levels, "previous"]),
        "batch_size": st.lists(st.just(16), max_size=1).map(lambda levels: [*levels, 32]),
    }
)


def space_of(drawn: dict, schedule: str) -> dict:
    sweeps = {name: drawn[name] for name in ("layout", "batch_size")}
    grid = {name: drawn[name] for name in ("learning_rates", "epochs")}
    start = {"layout": "previous", "batch_size": 32, "learning_rate": 2e-5}
    return SMALL | grid | {"sweeps": sweeps, "grid_schedule": schedule, "start": start}


def union(former: dict, added: dict) -> dict:
    new = {name: [one for one in added[name] if one not in former[name]] for name in former.keys() - {"epochs"}}
    # New values stand in front; the former ones alone in another order would be no change.
    lists = {name: [*more, *former[name]] for name, more in new.items()}
    return lists | {"epochs": max(former["epochs"], added["epochs"])}


@pytest.mark.parametrize("schedule", ["shared", "per-cell"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(former=SPACES, added=SPACES, kills=st.lists(st.integers(0, 6), max_size=3))
def test_a_study_that_grew_and_was_killed_equals_one_that_was_whole(tmp_path_factory, schedule, former, added, kills):
    folder = tmp_path_factory.mktemp("grown")
    grown = union(former, added)
    steps, trained = [space_of(former, schedule), space_of(grown, schedule)], 0
    # The first kill is the smaller study's; after it, it grows unfinished.
    for number, epochs in enumerate(kills):
        tuner, trainable = study(folder / "grown", steps[number > 0], dying_after(epochs), **FREE)
        try:
            tuner.search()
        except KilledError:
            trained -= 1
        trained += len(trainable.trained)
    tuner, trainable = searched(folder / "grown", steps[1], **FREE)
    trained += len(trainable.trained)
    whole, at_once = searched(folder / "whole", steps[1], **FREE)
    assert results(tuner) == results(whole)
    # A trial of a sweep that was a row of fewer epochs is trained beside the longer row.
    assert trained <= len(at_once.trained) + grown["epochs"]


def test_a_larger_grid_trains_its_new_rows_alone_and_then_nothing(tmp_path):
    searched(tmp_path, SMALL)
    tuner, trainable = study(tmp_path, SMALL | {"learning_rates": [3e-5, 2e-5, 1e-5]})
    missing, bound = tuner.oracle.missing()
    assert ([(one.stage, one.hyperparameters["learning_rate"], one.epochs) for one in missing], bound) == (
        [("grid", 3e-5, 2)],
        0,
    )
    tuner.search()
    assert [(values["learning_rate"], epoch) for values, epoch in trainable.trained] == [(3e-5, 1), (3e-5, 2)]
    assert tuner.oracle.table().learning_rates == (3e-5, 2e-5, 1e-5)
    again, trainable = searched(tmp_path, SMALL | {"learning_rates": [3e-5, 2e-5, 1e-5]})
    assert trainable.trained == []
    assert again.oracle.missing() == ([], 0)


def test_the_same_rates_and_levels_in_another_order_change_nothing(tmp_path):
    searched(tmp_path, SMALL)
    before = {path: path.read_bytes() for path in tmp_path.glob("study/trial_*/*")}
    tuner, trainable = searched(
        tmp_path, SMALL | {"learning_rates": [2e-5, 1e-5], "sweeps": {"layout": ["previous", "current"]}}
    )
    assert trainable.trained == []
    assert tuner.oracle.table().learning_rates == (1e-5, 2e-5)
    assert {path: path.read_bytes() for path in tmp_path.glob("study/trial_*/*")} == before


def test_rows_without_a_horizon_go_on_and_others_are_refused_with_what_they_would_cost(tmp_path):
    searched(tmp_path, SMALL)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    with pytest.raises(TunerError, match=r"the 2 rows .* a schedule of 2 epochs, so that 4 would .* anew, 8 epochs"):
        study(tmp_path, SMALL | {"epochs": 4})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    _, trainable = searched(tmp_path, SMALL | {"epochs": 4}, **FREE)
    assert [epoch for _, epoch in trainable.trained] == [3, 4, 3, 4]
    searched(tmp_path / "surface", SMALL | {"search": "surface"})
    with pytest.raises(TunerError, match="search surface has stopped rows by the 2 epochs of the grid"):
        study(tmp_path / "surface", SMALL | {"search": "surface", "epochs": 4}, **FREE)


def test_a_study_whose_rows_have_not_begun_takes_any_number_of_epochs(tmp_path):
    tuner, _ = study(tmp_path, SMALL, dying_after(1))
    with pytest.raises(KilledError):
        tuner.search()
    tuner, _ = searched(tmp_path, SMALL | {"epochs": 3})
    assert tuner.oracle.table().scores.shape == (2, 3)


def test_a_better_level_that_comes_after_the_grid_is_marked_and_changes_nothing(tmp_path):
    former, _ = searched(tmp_path, SMALL | {"sweeps": {"layout": ["current", "next"], "batch_size": [16, 32]}})
    grown = SMALL | {"sweeps": {"layout": ["current", "next", "previous"], "batch_size": [16, 32]}}
    for _ in range(2):
        tuner, trainable = searched(tmp_path, grown)
        marks = [(level.level, level.chosen, level.overruled) for level in tuner.oracle.sweep_results]
        assert marks == [
            ("current", False, False),
            ("next", True, False),
            ("previous", False, True),
            (16, False, False),
            (32, True, False),
        ]
        assert tuner.oracle.table() == former.oracle.table()
        assert tuner.oracle.best() == former.oracle.best()
    assert trainable.trained == []
    # Where no later stage has begun, it is adopted.
    tuner, _ = study(tmp_path / "early", SMALL | {"sweeps": {"layout": ["current", "next"]}}, dying_after(2))
    with pytest.raises(KilledError):
        tuner.search()
    (path,) = (tmp_path / "early" / "study").glob("trial_0002")
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    tuner, _ = searched(tmp_path / "early", SMALL | {"sweeps": {"layout": ["current", "next", "previous"]}})
    assert [level.level for level in tuner.oracle.sweep_results if level.chosen] == ["previous"]


def test_a_parameter_that_was_not_swept_can_be_if_the_start_s_value_is_among_its_levels(tmp_path):
    searched(tmp_path, SMALL)
    tuner, trainable = searched(tmp_path, SMALL | {"sweeps": SMALL["sweeps"] | {"batch_size": [16, 32]}})
    assert len(trainable.trained) == 1
    assert [level.level for level in tuner.oracle.sweep_results if level.overruled] == [32]
    with pytest.raises(TunerError, match=r"sweeps.batch_size \(\[16, 32\] there, absent here\)"):
        study(tmp_path, SMALL)
    searched(tmp_path / "other", SMALL)
    with pytest.raises(TunerError, match=r"sweeps.batch_size \(absent there, \[32\] here\)"):
        study(tmp_path / "other", SMALL | {"sweeps": SMALL["sweeps"] | {"batch_size": [32]}})


def test_an_unfinished_row_waits_for_the_levels_that_are_added_to_a_sweep(tmp_path):
    tuner, _ = study(tmp_path, SMALL | {"search": "surface", "learning_rates": RATES, "epochs": 4}, dying_after(3))
    with pytest.raises(KilledError):
        tuner.search()
    assert [trial.status for trial in tuner.oracle.trials.values()][-1] == TrialStatus.RUNNING
    grown = SMALL | {"search": "surface", "learning_rates": RATES, "epochs": 4}
    grown["sweeps"] = {"layout": ["current", "previous", "next"]}
    tuner, trainable = searched(tmp_path, grown)
    assert trainable.trained[0][0]["layout"] == "next"
    assert stages(tuner)[2:4] == ["grid", "sweep:layout"]


@pytest.mark.parametrize("name", ["genetic", "surface"])
def test_a_search_that_leaves_cells_out_goes_on_alike_whether_it_was_killed_or_not(tmp_path, name):
    small = SMALL | {"search": name, "epochs": 4, "sweeps": {}}
    grown = small | {"learning_rates": [8e-5, 4e-5, 3e-5, 2e-5, 1e-5, 5e-6]}
    for folder in ("whole", "killed"):
        searched(tmp_path / folder, small)
    for epochs in (0, 1, 2):
        tuner, _ = study(tmp_path / "killed", grown, dying_after(epochs))
        if tuner.oracle.missing()[1]:
            try:
                tuner.search()
            except KilledError:
                continue
    tuner, trainable = searched(tmp_path / "whole", grown)
    assert len(trainable.trained) <= 24
    assert results(searched(tmp_path / "killed", grown)[0]) == results(tuner)


def test_reading_what_is_missing_writes_nothing(tmp_path):
    searched(tmp_path, SMALL)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    oracle = CasualGridOracle(**SMALL | {"epochs": 3, "learning_rates": [1e-5, 2e-5, 5e-5]}, **FREE)
    oracle.peek(tmp_path / "study")
    assert [one.epochs for one in oracle.missing()[0]] == [1, 1, 3]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    assert json.loads((tmp_path / "study" / "oracle.json").read_text())["casual_grid"]["epochs"] == 2


def test_rows_that_a_narrowed_search_has_cut_stay_as_long_as_they_are(tmp_path):
    asked = SMALL | {"epochs": 4}
    for rates, trained_now in (([1e-5, 2e-5], 2 * 2 + 2), ([1e-5, 2e-5, 3e-5], 2)):
        oracle = CasualGridOracle(**asked | {"learning_rates": rates})
        oracle.narrow(replace(oracle.search_space, epochs=2))
        trainable = ToyTrainable()
        search(tmp_path, trainable, oracle).search()
        assert len(trainable.trained) == trained_now
        assert oracle.table().scores.shape == (len(rates), 2)
