import pandas as pd
import pytest

from benchmarks.paired import Interval
from benchmarks.precision import differences, points


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


def test_an_interval_is_shown_where_there_is_one():
    assert points(Interval(0.5, -0.25, 1.25)) == "+0.50 (-0.25 to +1.25)"
    assert points(Interval(0.5, float("nan"), float("nan"))) == "+0.50"
