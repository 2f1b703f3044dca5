"""Final models against a single one: groups that are trained once, and the differences between repetitions."""

import pandas as pd
import pytest

from benchmarks.final import METRICS, SINGLE, compare, main, read
from bertgrid_tf.errors import UserError

TRAIN = ["train", "sample", "--model", "scratch:1x32", "--set", "max_length=16", "--epochs", "1", "--seeds", "1,11"]
LIMITS = ["--max-train-samples", "60", "--max-dev-samples", "20", "--max-test-samples", "40", "--members", "2"]


def test_groups_are_trained_once_and_scored_on_test(tmp_path, capsys):
    file = tmp_path / "final.csv"
    flags = [*TRAIN[:-1], "1", *LIMITS, "--learning-rates", "2e-3", "--out", str(file)]
    main(flags)
    whole = read(file)
    kinds = ("single", "mean", "soup")
    assert list(whole["model"]) == [f"{kind}, {group}" for group in ("seeds", "train+dev", "folds") for kind in kinds]
    assert whole.notna().all(axis=None)
    assert whole["loss"].nunique() == len(whole)
    whole[:3].to_csv(file, index=False)
    main(flags)
    pd.testing.assert_frame_equal(read(file).drop(columns="train_seconds"), whole.drop(columns="train_seconds"))
    capsys.readouterr()
    main(["compare", "--out", str(file)])
    assert "mean, folds" in capsys.readouterr().out


def test_several_learning_rates_are_refused(tmp_path):
    with pytest.raises(UserError, match="give one"):
        main([*TRAIN, *LIMITS, "--learning-rates", "2e-3,1e-3", "--out", str(tmp_path / "final.csv")])


def test_a_difference_is_that_of_the_repetitions_that_both_have():
    def line(model: str, seed: int, accuracy: float, seconds: float) -> dict[str, object]:
        scores = {**dict.fromkeys(METRICS, accuracy), "train_seconds": seconds}
        return {"corpus": "trec", "seed": seed, "members": 5, "group": "", "model": model, **scores}

    lines = [line(SINGLE, 1, 0.5, 2.0), line(SINGLE, 2, 0.6, 2.0), line("mean, seeds", 1, 0.52, 10.0)]
    lines += [line("mean, seeds", 2, 0.64, 10.0), line("mean, seeds", 3, 1.0, 10.0)]
    of_trec, of_all = compare(pd.DataFrame(lines)).to_dict("records")
    assert {**of_trec, "corpus": "all"} == of_all
    assert (of_all["model"], of_all["repetitions"], of_all["time"]) == ("mean, seeds", 2, 5.0)
    assert (of_all["accuracy"], of_all["loss"]) == pytest.approx((3, 0.03))
    # Two pairs, 2 and 4: 12.7 standard errors of 1 on both sides.
    assert (of_all["accuracy_low"], of_all["accuracy_high"]) == pytest.approx((3 - 12.706, 3 + 12.706), abs=1e-2)
