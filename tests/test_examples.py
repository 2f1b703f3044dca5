"""The scripts of examples/ run, and print what they promise."""

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_study

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs a script in an empty folder; what it prints."""
    monkeypatch.chdir(tmp_path)

    def run_script(name: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *words])
        with tiny_study.blank_figures():
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_every_example_has_a_test_here():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"own_dataframe.py", "callback.py", "own_keras_model.py"}


def test_a_dataframe_is_tuned_on_and_new_texts_are_classified(run):
    out = run("own_dataframe.py", "scratch:1x32")
    assert "final model scratch:1x32" in out
    assert "p_negative  p_positive" in out
    assert out.splitlines()[-1] == "The report: results/reviews/report.html"
    assert Path("results/reviews/report.html").is_file()


def test_a_callback_prints_every_new_best_accuracy(run):
    lines = run("callback.py", "scratch:1x32").splitlines()
    scores = [float(line.rpartition(" ")[2]) for line in lines]
    cells = pd.read_csv("results/sample/cells.csv")
    assert scores == sorted(set(scores))
    assert scores[-1] == pytest.approx(cells["accuracy"].max(), abs=1e-4)


def test_a_keras_model_of_one_s_own_is_searched(run):
    out = run("own_keras_model.py")
    assert "units" in out
    assert len(list(Path("results/perceptron").glob("trial_*"))) == 4
