import io

import made_up_study
from made_up_study import right_in
from rich.console import Console

from bertgrid_tf import recipe as recipes
from bertgrid_tf.analysis import analyze
from bertgrid_tf.budget.time_budget import BudgetLog, candidates
from bertgrid_tf.budget.time_estimator import START
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report.summary import print_summary, times_table
from bertgrid_tf.storage.records import StageTime
from bertgrid_tf.storage.study_folder import StudyFolder

TIMES = [
    StageTime(START, measured=12.0),
    StageTime("sweep:context", 90.0, 110.0, 100.0),
    StageTime("grid", 150.0, 260.0, 200.0),
    StageTime("final", 45.0, 80.0, 50.0),
]


GIVEN = {"learning_rates": [4e-3, 2e-3, 1e-3, 5e-4], "epochs": 2}


def recipe(**overrides: object) -> Recipe:
    return recipes.load_recipe("sample", None, GIVEN | overrides)


def rows(times: list[StageTime], searched: Recipe, ended: bool) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=120)
    console.print(times_table(times, searched, ended))
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_what_a_stage_took_stands_beside_what_was_predicted_with_the_error():
    assert rows(TIMES, recipe(), ended=True) == [
        ["start", "12 s", "", ""],
        ["sweep:context", "1 min 40 s", "1 min 30 s (-10%)", "1 min 50 s (+10%)"],
        ["grid", "3 min 20 s", "2 min 30 s (-25%)", "4 min 20 s (+30%)"],
        ["final", "50 s", "45 s (-10%)", "≤ 1 min 20 s"],
        ["in all", "6 min 02 s", "", ""],
    ]


def test_a_stage_that_has_not_ended_has_no_error_and_one_that_has_not_begun_no_row():
    shown = rows([*TIMES[:3], StageTime("final", None, 80.0)], recipe(), ended=False)
    assert shown[1][2] == "1 min 30 s (-10%)"
    assert shown[2][2:] == ["2 min 30 s", "4 min 20 s"]
    assert shown[3][0] == "in all"


def test_a_search_that_leaves_cells_out_is_predicted_at_most():
    assert rows(TIMES, recipe(search="surface"), ended=True)[2][2:] == ["≤ 2 min 30 s", "≤ 4 min 20 s"]


def test_the_file_of_times_is_read_as_it_was_written(tmp_path):
    study_folder = StudyFolder(tmp_path)
    assert study_folder.read_times() == []
    study_folder.write_times(TIMES)
    assert study_folder.read_times() == TIMES


def test_the_summary_says_what_was_left_out_for_lack_of_time(tmp_path):
    levels = ["current", "current+previous", "current+next"]
    tried = [
        ("context", "current", right_in(0.5), "COMPLETED*"),
        ("context", "current+previous", right_in(0.4), "COMPLETED"),
        ("context", "current+next", None, "FAILED"),
    ]
    study_folder = made_up_study.make(tmp_path / "study", {}, tried, sweeps={"context": levels}, **GIVEN)
    asked = study_folder.read_recipe()
    study_folder.write_times(TIMES)
    decisions = BudgetLog(study_folder.budget_file)
    decisions.choose(600, asked, candidates(asked)[1])
    decisions.add("leave_out", trial="context=current+next")
    console = Console(file=io.StringIO(), width=200)
    print_summary(console, study_folder, analyze(study_folder))
    shown = console.file.getvalue()
    assert "Chosen to fit --budget 10m, without filling the grid, of which search surface trains up to 50%." in shown
    assert "For lack of time within --budget 10m: context=current+next was not begun." in shown
    assert [line.split("│")[4].strip() for line in shown.splitlines() if "│ current+next" in line] == ["left out"]
    assert "6 min 02 s" in shown
