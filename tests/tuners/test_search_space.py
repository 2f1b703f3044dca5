"""What can be searched, and what is refused in one sentence."""

import keras_tuner
import numpy as np
import pytest

from tuners import CasualGridOracle, SearchSpace, TunerError


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rates": []}, "learning_rates must name at least one"),
        ({"learning_rates": [1e-5, 0.0]}, "must be a positive number, not 0.0"),
        ({"learning_rates": [float("nan")]}, "^learning_rate: nan is not a finite number"),
        ({"learning_rates": ["fast"]}, "must be a positive number, not 'fast'"),
        ({"learning_rates": [1e-5, 1e-5]}, "names a level twice"),
        ({"epochs": 0}, "epochs must be a whole number from 1 to 1,000,000, not 0"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"sweep_epochs": 0}, "sweep_epochs must be"),
        ({"grid_schedule": "rows"}, "grid_schedule is one of 'shared', 'per-cell'"),
        ({"sweeps": {"layout": []}}, "the sweep of layout must name at least one"),
        ({"sweeps": {"layout": ["a", "a"]}}, "the sweep of layout names a level twice"),
        ({"sweeps": {"layout": ["a", None]}}, "layout: None is not a bool, int, float or str"),
        ({"sweeps": {"layout": ["a", 1]}}, "must be of one type"),
        ({"sweeps": {"learning_rate": [1e-5]}}, "learning_rate belongs to the learning-rate × epoch grid"),
        ({"sweeps": {"tuner/stage": ["a"]}}, "cannot be the name of a parameter"),
        ({"start": {"epochs": 3}}, "start must not name epochs"),
        ({"start": {"learning_rate": -1.0}}, "must be a positive number"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, sentence):
    with pytest.raises(TunerError, match=sentence):
        CasualGridOracle("val_accuracy", **{"learning_rates": [1e-5], "epochs": 2, **changes})


@pytest.mark.parametrize(
    "objective", ["val_f1", keras_tuner.Objective("val_f1", "up"), None, ["val_loss", "val_accuracy"]]
)
def test_an_objective_without_a_direction_is_refused(objective):
    with pytest.raises(TunerError, match=r"objective|val_f1"):
        CasualGridOracle(objective, [1e-5], 1)


def test_an_objective_of_ones_own_needs_its_direction():
    oracle = CasualGridOracle(keras_tuner.Objective("val_f1", "max"), [1e-5], 1)
    assert (oracle.objective.name, oracle.objective.direction) == ("val_f1", "max")


def test_the_oracle_of_a_space_has_its_parts_and_the_seed():
    given = {"learning_rates": [1e-5], "epochs": 2, "sweeps": {"batch_size": [16, 32]}, "sweep_epochs": 2}
    of_space = CasualGridOracle.over(SearchSpace.of(**given), "val_accuracy", 7, max_retries_per_trial=2)
    plain = CasualGridOracle("val_accuracy", **given, seed=7, max_retries_per_trial=2)
    assert of_space.get_state() == plain.get_state()


def test_whole_and_decimal_levels_are_all_decimal_and_numpys_are_plain():
    space = SearchSpace.of(np.array([1e-5]), np.int64(2), {"oversample_ratio": [0, 0.5, 1]}, {"oversample_ratio": 1})
    assert [type(level) for level in (*space.sweeps["oversample_ratio"], space.start["oversample_ratio"])] == [
        float
    ] * 4
    assert type(space.learning_rates[0]) is float
    assert type(space.epochs) is int


def test_levels_that_differ_in_type_only_are_different_configurations():
    plan = SearchSpace.of([1e-5], 1, {"cased": [True, False], "batch_size": [1, 0]}).plan()
    assert [stage.trials for stage in plan.stages] == [2, 1, 0]


def test_the_plan_compares_with_the_full_product():
    """The paper's search: seven learning rates × ten epochs, four speaker formats, six contexts."""
    space = SearchSpace.of(
        [2e-5, 6e-6, 5e-6, 4e-6, 3e-6, 2e-6, 1e-6], 10, {"speaker": list("abcd"), "context": list("abcdef")}
    )
    stages, full_product_epochs = space.plan()
    assert [(stage.name, stage.trials, stage.epochs) for stage in stages] == [
        ("sweep:speaker", 4, 4),
        ("sweep:context", 5, 5),
        ("grid", 7, 70),
    ]
    assert (space.plan().trials, space.plan().epochs, full_product_epochs) == (16, 79, 24 * 70)


CHECKED = SearchSpace.of([2e-5, 6e-6], 3, {"batch_size": [16, 32]}, {"learning_rate": 2e-5}, sweep_epochs=2)
VALUES = {"batch_size": 16, "learning_rate": 2e-5, "schedule_epochs": 3, "stop_epoch": 2, "tuner/stage": "grid"}


@pytest.mark.parametrize(
    "values",
    [{}, {"schedule_epochs": 1, "stop_epoch": 1}, {"learning_rate": 3e-5}, {"tuner/stage": "sweep:batch_size"}],
    ids=str,
)
def test_the_values_of_a_trial_are_of_the_search_space(values):
    CHECKED.check(VALUES | values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("learning_rate", rate) for rate in (0.0, -2e-5, float("inf"), float("nan"), 1, "2e-5")),
        *(("schedule_epochs", epochs) for epochs in (0, 4, 1.0, True, "3")),
        *(("stop_epoch", epochs) for epochs in (0, 4, 2.0)),
        ("batch_size", 64),
        ("tuner/stage", "sweep:layout"),
    ],
)
def test_a_value_outside_the_search_space_is_named(name, value):
    with pytest.raises(ValueError, match=f"the value .* of {name} is not in the search space"):
        CHECKED.check(VALUES | {"schedule_epochs": 3, "stop_epoch": 1} | {name: value})


def test_other_parameters_than_those_of_the_search_space_are_refused():
    for values in ({}, [], VALUES | {"layout": "a"}):
        with pytest.raises(ValueError, match="its parameters are not those"):
            CHECKED.check(values)
