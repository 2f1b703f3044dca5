import io

from rich.console import Console

from bertgrid_tf import recipe as recipes
from bertgrid_tf.report.summary import print_summary
from bertgrid_tf.results import Results

SWEEPS = """parameter,level,epoch,score,chosen,trial_id,status
context,current,2,0.5,False,0000,COMPLETED
context,current+previous,1,0.625,True,0001,COMPLETED
speaker_format,colon,nan,nan,False,0002,FAILED
speaker_format,none,nan,nan,False,0003,RUNNING
"""
CELLS = """learning_rate,epoch,trial_id,accuracy
0.001,1,0004,0.5
0.001,2,0004,0.75
0.0005,1,0005,nan
"""


def shown(folder) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    print_summary(console, Results(folder))
    return console.file.getvalue().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_study_that_is_still_running_shows_what_it_has(tmp_path):
    recipe = recipes.load("sample", None, {"learning_rates": [1e-3, 5e-4], "epochs": 2})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "sweeps.csv").write_text(SWEEPS)
    (tmp_path / "cells.csv").write_text(CELLS)
    rows = [cells(line) for line in shown(tmp_path) if line.startswith("│")]
    assert rows == [
        ["context", "current", "2", "50.00 %", ""],
        ["", "current+previous", "1", "62.50 %", "◀ chosen"],
        ["speaker_format", "colon", "", "failed", ""],
        ["", "none", "", "running", ""],
        ["0.001", "50.00", "75.00*"],
        ["0.0005", "diverged", "·"],
    ]


def test_the_winner_stands_with_its_score_and_its_epoch(tmp_path):
    recipe = recipes.load("sample", None, {"learning_rates": [1e-3, 5e-4], "epochs": 2, "sweeps": {}})
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "best.yaml").write_text(recipe.to_yaml())
    (tmp_path / "cells.csv").write_text(CELLS)
    assert f"Winner: learning_rate=0.001: accuracy 75.00 % after epoch 2 ({tmp_path}/best.yaml)" in shown(tmp_path)


def test_a_sweep_s_run_that_beat_the_grid_is_pointed_out(tmp_path):
    overrides = {"learning_rates": [1e-3, 5e-4], "epochs": 2, "sweep_epochs": 1}
    recipe = recipes.load("sample", None, overrides)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "best.yaml").write_text(recipe.to_yaml())
    (tmp_path / "cells.csv").write_text(CELLS)
    (tmp_path / "sweeps.csv").write_text(SWEEPS)
    assert not [line for line in shown(tmp_path) if "scored better" in line]
    (tmp_path / "sweeps.csv").write_text(SWEEPS.replace("0.625", "0.875"))
    said = next(line for line in shown(tmp_path) if "scored better" in line)
    assert said.startswith("The sweep's run context=current+previous scored better, 87.50 %: its schedule of 1 epochs")
    assert said.endswith("try --epochs 1, or --set grid=independent.")
