import pandas as pd
import pytest

from benchmarks.precision import differences, points


def scores(seed: int, precision: str, *accuracies: float) -> list[dict]:
    return [
        {"seed": seed, "variant": precision, "epoch": epoch, "accuracy": accuracy}
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
    # Student's t with 2 degrees of freedom: 4.303 standard errors on either side.
    assert points([0.0, 0.5, 1.0]) == "+0.50 (-0.74 to +1.74)"
    assert points([0.5]) == "+0.50"
