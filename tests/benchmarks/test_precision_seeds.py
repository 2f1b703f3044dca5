import pandas as pd
import pytest

from benchmarks.paired import Interval
from benchmarks.precision import differences, discordant, points


def scores(seed: int, precision: str, *accuracies: float) -> list[dict]:
    return [
        {"seed": seed, "precision": precision, "epoch": epoch, "accuracy": accuracy}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


def test_differences_are_paired_by_seed_and_epoch_and_in_points():
    found = pd.DataFrame(
        scores(1, "fp32", 0.50, 0.60)
        + scores(1, "bf16", 0.51, 0.58)
        + scores(2, "bf16", 0.40, 0.45)
        + scores(2, "fp32", 0.40, 0.40)
        + scores(3, "fp32", 0.40, 0.40)
        + scores(3, "bf16", 0.40, float("nan"))
    )
    apart = differences(found, "accuracy")
    assert apart.loc[1].tolist() == pytest.approx([1, -2])
    assert apart.loc[2].tolist() == pytest.approx([0, 5])
    assert list(apart.index) == [1, 2]


def test_discordant_texts_are_those_that_one_alone_has_right(tmp_path):
    truth = ["joy", "joy", "fear", "fear", "joy"]
    predicted = {"first": ["joy", "fear", "fear", "joy", "joy"], "second": ["joy", "joy", "joy", "joy", "fear"]}
    for name, labels in predicted.items():
        pd.DataFrame({"label": truth, "predicted": labels}).to_csv(tmp_path / name, index=False)
    pair = (tmp_path / "first", tmp_path / "second")
    assert discordant([pair]) == (2, 1)
    assert discordant([pair, pair]) == (4, 2)


def test_an_interval_is_shown_where_there_is_one():
    assert points(Interval(0.5, -0.25, 1.25)) == "+0.50 (-0.25 to +1.25)"
    assert points(Interval(0.5, float("nan"), float("nan"))) == "+0.50"
