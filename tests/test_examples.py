"""The scripts of examples/ run, and print what they promise."""

import re
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_study

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs a script in an empty folder, and returns its output."""
    monkeypatch.chdir(tmp_path)

    def run_script(name: str) -> str:
        monkeypatch.setattr(sys, "argv", [name])
        with tiny_study.blank_figures():
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_every_example_has_a_test_here():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"own_dataframe.py", "own_keras_model.py", "a_callback.py"}


def test_dataframes_are_tuned_on_and_new_texts_are_classified(run):
    lines = run("own_dataframe.py").splitlines()
    assert any(line.startswith("The winner's weights were kept") for line in lines)
    assert "p_negative" in lines[-4]
    assert [line.split()[1] for line in lines[-3:-1]] == ["positive", "negative"]
    assert lines[-1] == "The report: results/reviews/report.html"
    assert Path("results/reviews/report.html").is_file()


@pytest.mark.slow
def test_a_callback_logs_every_epoch_and_prints_every_new_best_accuracy(run):
    best = [float(line.rpartition(" ")[2]) for line in run("a_callback.py").splitlines()]
    log, cells = (
        pd.read_csv("epochs.csv", names=["trial", "epoch", "accuracy"]),
        pd.read_csv("results/sample/cells.csv"),
    )
    assert log["accuracy"].tolist() == cells["accuracy"].tolist()
    assert best == sorted(set(best))
    assert best[-1] == pytest.approx(cells["accuracy"].max(), abs=1e-4)


@pytest.mark.slow
def test_a_keras_model_of_one_s_own_is_searched(run):
    out = run("own_keras_model.py")
    assert re.search(r"^Best: 0\.\d+ at learning rate 0\.0", out, re.MULTILINE)
    assert len(list(Path("results/perceptron").glob("trial_*"))) == 4
