import numpy as np
import pandas as pd
import pytest

from benchmarks.schedules import (
    CELL,
    PER_CELL,
    SHARED,
    RowSchedules,
    StepwiseRun,
    compare,
    complete,
    decaying,
    epochs_trained,
)
from benchmarks.trial_series import TrialSeries
from bertgrid_tf.bert.optimizer import cooldown_rates
from bertgrid_tf.trial_config import TrialConfig


def test_rows_end_where_trials_of_a_study_do_and_branches_leave_them_as_they_are(recipe, corpus, tmp_path):
    series = TrialSeries(tmp_path, recipe, corpus)
    runner, values, rate = series.runner, recipe.hyperparameters, recipe.learning_rates[0]
    trainer, dev = runner.models.trainer(values), runner.encoder.split(values, "dev")
    run = StepwiseRun(trainer, runner.encoder.training_set(TrialConfig(values, 1, 1, 1)), values, seed=1)
    rows = RowSchedules(run, lambda: trainer.probabilities(dev.texts), rate, recipe.epochs, values.warmup_ratio)
    cells = {(schedule, epoch): probabilities for schedule, epoch, probabilities in rows.shared()}
    list(series.train("study", 1, learning_rate=rate))
    for epoch in (1, 2):
        np.testing.assert_allclose(cells[SHARED, epoch], series.predictions("study", epoch).probabilities, atol=1e-6)
    assert set(cells) == {
        *((s, 1) for s in (SHARED, "averaged", "branch 0.3", "branch 0.6")),
        *((s, 2) for s in (SHARED, "averaged", PER_CELL)),
    }
    # A row without horizon is that of a study, too.
    list(series.train("branched", 1, learning_rate=rate, lr_schedule="inverse_sqrt", warmup_ratio=0.2))
    for _, epoch, probabilities in rows.rsqrt():
        np.testing.assert_allclose(probabilities, series.predictions("branched", epoch).probabilities, atol=1e-6)
    alike = [name for (name, epoch), own in cells.items() if epoch == 1 and np.array_equal(own, cells[SHARED, 1])]
    assert alike == [SHARED, "branch 0.3"]  # of one step, which is that of the row
    # A branch as long as the epoch, off a row whose rate is at its peak from the first step, is a linear schedule.
    steps = run.steps
    assert cooldown_rates(np.full(steps, rate)) == pytest.approx(decaying(rate, steps, 0))
    run.reset()
    run.train(0, decaying(rate, steps, values.warmup_ratio))
    own = trainer.probabilities(dev.texts)
    assert np.array_equal(own, {(name, epoch): p for name, epoch, p in rows.per_cell()}[PER_CELL, 1])


def cells_of(schedules):
    """Cells of two grids of two rates and two epochs, each schedule's accuracies in that order."""
    places = [("trec", seed, rate, epoch) for seed in (1, 2) for rate in (2e-4, 1e-4) for epoch in (1, 2)]
    return pd.DataFrame(
        [
            {**dict(zip(CELL, place, strict=True)), "schedule": schedule, "dev": dev, "test": score}
            for schedule, (dev_scores, scores) in schedules.items()
            for place, dev, score in zip(places, dev_scores * 2, scores * 2, strict=True)
            if score is not None
        ]
    )


def test_schedules_are_compared_cell_by_cell_and_by_what_dev_selects():
    own = [0.6, 0.7, 0.5, 0.8]
    shared = ([0.1, 0.9, 0.2, 0.3], [0.48, 0.7, 0.49, 0.8])
    branches = ([0.1, None, 0.2, None], [0.6, None, 0.48, None])
    table = complete(cells_of({PER_CELL: (own, own), SHARED: shared, "branch 0.3": branches, "branch 0.6": branches}))
    compared = compare(table).set_index("schedule")
    assert compared["grids"].tolist() == [2] * len(compared)
    assert compared.loc[SHARED, ["difference", "epoch 1", "epoch 2"]].tolist() == pytest.approx([-3.25, -6.5, 0])
    # Its last cells are those of the shared row; dev selects the second of them.
    assert compared.loc["branch 0.3", ["epoch 1", "epoch 2", "pick"]].tolist() == pytest.approx([-1, 0, 70])
    assert compared.loc["own first", ["difference", "pick"]].tolist() == pytest.approx([0, 70])
    own_line = compared.loc[PER_CELL, ["difference", "distance", "correlation", "pick"]]
    assert own_line.tolist() == pytest.approx([0, 0, 1, 80])
    assert compared.loc[SHARED, ["distance", "correlation"]].tolist() == pytest.approx([3.25, 0.8])


def test_cells_are_ranked_by_what_other_seeds_say():
    schedules = dict.fromkeys([PER_CELL, SHARED, "branch 0.3", "branch 0.6"], ([0.6, 0.7, 0.5, 0.8],) * 2)
    table = complete(cells_of(schedules))
    seeds = table.index.get_level_values("seed")
    table.loc[seeds == seeds[0], ("test", PER_CELL)] = [0.8, 0.5, 0.7, 0.6]
    compared = compare(table).set_index("schedule")
    assert compared.loc[PER_CELL, "correlation"] == pytest.approx(-1)
    # One seed agrees with the other's per-cell, one with its own alone.
    assert compared.loc[SHARED, "correlation"] == pytest.approx(0)


@pytest.mark.parametrize(
    ("schedule", "epochs"),
    [
        ("per-cell", 10),
        ("shared", 4),
        ("averaged", 4),
        ("branch 0.3", 4.9),
        ("own first", 5),
        ("own first, branch 0.6", 6.2),
        ("rsqrt", 4.9),
    ],
)
def test_the_epochs_of_a_row_of_four_cells(schedule, epochs):
    assert epochs_trained(schedule, 4) == pytest.approx(epochs)
