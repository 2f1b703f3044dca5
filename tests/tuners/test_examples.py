"""The examples in the docstrings of tuners give what they show."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["oracle", "space", "strategies.hill_climb", "table", "trainable", "tuner"])
def test_examples_give_what_they_show(name):
    result = doctest.testmod(import_module(f"tuners.{name}"))
    assert result.attempted and not result.failed
