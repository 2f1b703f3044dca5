"""Settings against the default: rows that are trained once, and the difference that the cells of a seed make."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.schedules import CELL
from benchmarks.settings import DEFAULT, SETTINGS, compare, main, pairs, read
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import load_recipe

GRID = [
    "--learning-rates",
    "2e-3,1e-3",
    "--epochs",
    "2",
    "--seeds",
    "1",
    "--max-train-samples",
    "60",
    "--max-test-samples",
    "30",
]
TRAIN = ["train", "sample", "--model", "scratch:1x32", "--set", "max_length=16", *GRID]


def test_rows_are_trained_once_and_compared(tmp_path, capsys):
    file = tmp_path / "settings.csv"
    flags = [*TRAIN, "--out", str(file), "--settings", "label_smoothing=0.3"]
    main(flags)
    whole = read(file)
    assert whole.groupby(["setting", "learning_rate"]).size().to_dict() == {
        (setting, rate): 2 for setting in (DEFAULT, "label_smoothing=0.3") for rate in (1e-3, 2e-3)
    }
    assert whole.notna().all(axis=None)
    whole[:-2].to_csv(file, index=False)
    main(flags)
    resumed = read(file)
    pd.testing.assert_frame_equal(resumed[:-2], whole[:-2])
    pd.testing.assert_frame_equal(resumed.drop(columns="train_seconds"), whole.drop(columns="train_seconds"))
    capsys.readouterr()
    main(["compare", "--out", str(file)])
    assert "label_smoothing=0.3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "reason"),
    [("epochs=2", "epochs is no hyper"), ("layer_decay=2", "layer_decay must be"), ("frozen_layers=1", "none of")],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(tmp_path, given, reason):
    with pytest.raises(UserError, match=reason):
        main([*TRAIN, "--out", str(tmp_path / "out.csv"), "--settings", f"label_smoothing=0.1,{given}"])
    assert not (tmp_path / "out.csv").exists()


def test_the_settings_are_hyperparameters_with_other_values_than_the_default():
    plain = load_recipe("friends")
    for key, value in pairs(",".join(SETTINGS)):
        assert load_recipe("friends", plain, {key: value}).hyperparameters != plain.hyperparameters


def made_up(setting: str, seed: int, dev: list[float], test: list[float], seconds: float) -> pd.DataFrame:
    """A grid of a row of two cells."""
    places = [dict(zip(CELL, ("trec", seed, 1e-4, epoch), strict=True)) for epoch in (1, 2)]
    cells = pd.DataFrame(places)
    scores = {"dev_accuracy": dev, "test_accuracy": test, "dev_macro_f1": dev, "test_macro_f1": [s / 2 for s in test]}
    return cells.assign(setting=setting, **scores, train_seconds=seconds)


def test_a_difference_is_that_of_the_cells_that_dev_selects_seed_by_seed():
    cells = pd.concat(
        [
            made_up(DEFAULT, 1, [0.5, 0.6], [0.9, 0.5], 2.0),
            made_up(DEFAULT, 2, [0.5, 0.6], [0.9, 0.6], 2.0),
            made_up("layer_decay=0.9", 1, [0.6, 0.5], [0.52, 0.4], 1.0),
            made_up("layer_decay=0.9", 2, [0.6, np.nan], [0.64, np.nan], 1.0),
            made_up("layer_decay=0.9", 3, [0.6, 0.5], [1.0, 0.4], 1.0),  # without a default to compare it with
        ]
    )
    of_trec, of_all = compare(cells).to_dict("records")
    assert {**of_trec, "corpus": "all"} == of_all
    assert (of_all["setting"], of_all["grids"], of_all["time"]) == ("layer_decay=0.9", 2, 0.5)
    assert (of_all["accuracy"], of_all["macro_f1"]) == pytest.approx((3, 1.5))
    # Two pairs, 2 and 4: 12.7 standard errors of 1 on both sides.
    assert (of_all["accuracy_low"], of_all["accuracy_high"]) == pytest.approx((3 - 12.706, 3 + 12.706), abs=1e-2)
    assert of_all["cells"] == pytest.approx(100 * ((0.46 - 0.7) + (0.64 - 0.75)) / 2)
