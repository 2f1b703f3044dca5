"""A study whose search leaves cells out."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from tiny_study import corpus_of, run, tiny

from bertgrid_tf import recipe as recipes
from bertgrid_tf.analysis import analyze
from bertgrid_tf.budget.plan import plan
from bertgrid_tf.errors import UserError
from bertgrid_tf.report.plan import plan_table
from bertgrid_tf.report.summary import print_summary
from bertgrid_tf.storage.study_folder import StudyFolder


def shown(*renderables: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(*renderables)
    return console.file.getvalue()


@pytest.mark.parametrize("search", ["surface", pytest.param("genetic", marks=pytest.mark.slow)])
def test_a_study_that_leaves_cells_out_reports_it_and_trains_its_winner(tmp_path, search):
    recipe = tiny(search=search, learning_rates=[4e-3, 2e-3, 1e-3], epochs=4)
    planned = plan(recipe, corpus_of(recipe))
    recorder = run(tmp_path / "study", recipe)
    study_folder = StudyFolder(tmp_path / "study")
    table = study_folder.read_table()
    assert table is not None
    assert table.scores.shape == (3, 4)
    assert 0 < table.tried.sum() <= next(stage.epochs for stage in planned.stages if stage.name == "grid") < 12
    assert recorder.steps <= planned.steps
    assert ("sweep:context" in recorder.stages) == (search != "genetic")
    # Cells that were never tried are empty.
    assert (
        pd.read_csv(study_folder.grid_file).drop(columns="learning_rate").notna().to_numpy().sum() == table.tried.sum()
    )
    best = study_folder.read_best()
    assert best.learning_rates == [table.best().learning_rate]
    assert len(study_folder.read_final().epochs) == table.best().epoch
    assert study_folder.read_final().schedule_epochs == 4
    console = Console(file=io.StringIO(), width=120)
    print_summary(console, study_folder, analyze(study_folder))
    assert f"Search {search}: {12 - table.tried.sum()} of 12 cells were left out" in console.file.getvalue()
    assert ("with a probability of" in console.file.getvalue()) == (search == "surface")
    assert run(tmp_path / "study", recipe).steps == 0
    # Nothing needs the weights of rows that were ended early.
    for state in study_folder.path.glob("trial_*/state.npz"):
        with np.load(state) as arrays:
            assert "v0" not in arrays


@pytest.mark.parametrize(("search", "epochs"), [("grid", "12"), ("surface", "≤ 4"), ("genetic", "≤ 3")])
def test_the_plan_of_a_search_is_an_upper_bound(search, epochs):
    recipe = tiny(search=search, learning_rates=[4e-3, 2e-3, 1e-3], epochs=4)
    lines = shown(plan_table(plan(recipe, corpus_of(recipe)))).splitlines()
    (grid,) = [line for line in lines if "grid" in line]
    assert grid.split("│")[3].strip() == epochs
    assert any("sweep:context" in line for line in lines) == (search != "genetic")
    assert lines[-1].startswith("Every combination of all levels would be ")


@pytest.mark.parametrize(("search", "compared"), [("grid", False), ("surface", True)])
def test_the_plan_of_a_grid_alone_is_not_compared_with_itself(search, compared):
    recipe = tiny(search=search, sweeps={}, learning_rates=[4e-3, 2e-3, 1e-3], epochs=4)
    assert ("Every combination" in shown(plan_table(plan(recipe, corpus_of(recipe))))) == compared


def test_a_search_that_stops_rows_needs_rows():
    with pytest.raises(UserError, match="search surface stops rows, which grid_schedule per-cell does not have"):
        tiny(search="surface", grid_schedule="per-cell")
    with pytest.raises(UserError, match="search"):
        recipes.load_recipe("sample", None, {"search": "best"})
