import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.throughput import BASELINE, Measurement, contenders, products
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.recipe import load_recipe

ROUNDS = st.lists(st.floats(0.1, 100), min_size=1, max_size=9)


def test_a_rate_is_that_of_the_median_epoch():
    assert Measurement((1.0, 2.0, 40.0), 0).rate(64) == 32


@given(ROUNDS, st.floats(0.2, 5))
def test_a_machine_that_slows_down_for_a_round_does_not_change_the_ratio(seconds, times):
    theirs, ours = Measurement(tuple(times * one for one in seconds), 0), Measurement(tuple(seconds), 0)
    assert ours.faster_than(theirs) == pytest.approx(times)


def test_everyone_trains_in_every_precision_with_the_same_settings():
    recipes = {
        precision: load_recipe("friends", overrides={"precision": precision, "sweeps": {}})
        for precision in ("fp32", "bf16")
    }
    made = contenders(recipes, {"batch_size": 32}, {"folder": "somewhere"})
    assert len({(one.name, one.precision) for one in made}) == len(made) == 8
    for one in made:
        if one.name == "bertgrid-tf":
            assert one.request["recipe"]["hyperparameters"]["precision"] == one.precision
        else:
            assert (one.request["precision"], one.request["batch_size"]) == (one.precision, 32)
    assert (BASELINE, "fp32") in {(one.name, one.precision) for one in made}


def test_the_products_are_the_layers_and_their_weights_gradients():
    size = Dimensions(layers=2, width=4, heads=1, intermediate=16, vocabulary=9, positions=8, types=2, classes=3)
    assert products(size, 10) == [
        (10, 4, 4),
        (10, 4, 16),
        (10, 16, 4),
        (4, 10, 4),
        (4, 10, 16),
        (16, 10, 4),
    ]
