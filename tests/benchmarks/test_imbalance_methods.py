from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmarks.imbalance import COMPARED, METHODS, NONE, differences, show, tied
from benchmarks.trial_series import TrialSeries, train_variants, trial_name
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.recipe import load_recipe
from bertgrid_tf.storage.predictions import predictions_file, read_predictions

LABELS = ("joy", "fear")
TRUTH = np.arange(200) % 2
SPLIT = Split(TRUTH, np.arange(200) // 10, LABELS)


def right_on(texts: int) -> np.ndarray:
    """Two seeds' probabilities of a method that has so many texts of each ten right."""
    chosen = np.where(np.arange(200) % 10 < texts, TRUTH, 1 - TRUTH)
    return np.stack([0.2 + 0.6 * np.eye(2)[chosen]] * 2)


def test_every_method_is_a_setting_of_friends_and_none_is_its_recipe():
    plain = load_recipe("friends").hyperparameters
    for method, changed in METHODS.items():
        assert (Hyperparameters.model_validate(plain.model_dump() | changed) == plain) == (method == NONE)


def test_differences_are_the_methods_less_none_whichever_is_better():
    found = differences({NONE: right_on(6), "better": right_on(8), "worse": right_on(4)}, SPLIT, "accuracy")
    assert list(found) == ["better", "worse"]
    assert [difference.estimate for difference, _ in found.values()] == pytest.approx([0.2, -0.2])
    for difference, p in found.values():
        assert difference.low <= difference.estimate <= difference.high
        assert difference.p <= p < 0.05


def test_methods_that_are_tied_with_the_best_are_named_behind_it():
    methods = {NONE: right_on(4), "better": right_on(8), "best": right_on(9), "worse": right_on(2)}
    methods["best's twin"] = methods["best"]
    assert tied(methods, SPLIT, "accuracy") == ["best", "best's twin"]


@pytest.mark.slow
def test_trials_resume_and_leave_their_predictions(recipe, corpus, tmp_path):
    methods = {method: METHODS[method] for method in (NONE, "head_retraining rose")}
    first = list(train_variants(TrialSeries(tmp_path, recipe, corpus), [1, 2], methods))
    assert [(trial["epoch"], trial["seed"], trial["variant"]) for trial in first] == [
        (epoch, seed, method) for seed in (1, 2) for method in methods for epoch in (1, 2)
    ]
    assert list(train_variants(TrialSeries(tmp_path, recipe, corpus), [1, 2], methods)) == first
    for trial in first:
        name = trial_name(trial["seed"], trial["variant"])
        file = predictions_file(tmp_path / "predictions", name, trial["epoch"])
        found = read_predictions(file, corpus.labels)
        assert (found.probabilities.argmax(axis=1) == found.truth).mean() == pytest.approx(trial["accuracy"])


def test_the_table_has_means_over_the_seeds_and_what_is_compared():
    scores = dict(zip(COMPARED, (0.5, 0.25), strict=True))
    rows = [
        {"seed": seed, "variant": method, **scores, "recall_joy": seed / 10, "recall_fear": 0.0}
        for seed in (1, 2)
        for method in (NONE, "focal_gamma 2")
    ]
    console = Console(width=200, file=StringIO())
    compared = differences({NONE: right_on(6), "focal_gamma 2": right_on(8)}, SPLIT, "accuracy")
    show(console, pd.DataFrame(rows), LABELS, {"accuracy": compared})
    lines = [line for line in console.file.getvalue().splitlines() if "focal_gamma 2" in line]
    assert len(lines) == 1
    for cell in ("+20.00 (", "50.00 %", "25.00 %", "15.00 %", "0.00 %"):
        assert cell in lines[0]
