"""A tiny search for the benchmarks to measure."""

import pytest

from bertgrid_tf.corpus import Corpus
from bertgrid_tf.data import open_corpus
from bertgrid_tf.recipe import Recipe, load_recipe

TINY = {
    "model": "scratch:1x32",
    "max_train_samples": 60,
    "sweeps": {},
    "learning_rates": [2e-3, 1e-3],
    "epochs": 2,
    "final.model": "none",
}


@pytest.fixture(scope="module")
def overrides() -> dict[str, object]:
    """Further keys of a module's recipe."""
    return {}


@pytest.fixture(scope="module")
def recipe(overrides: dict[str, object]) -> Recipe:
    return load_recipe("sample", overrides=TINY | overrides)


@pytest.fixture(scope="module")
def corpus(recipe: Recipe) -> Corpus:
    return open_corpus(recipe, [])
