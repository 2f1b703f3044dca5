import json
import shutil

import numpy as np
import pytest
import yaml
from console_script import TUNE

from bertgrid_tf.bank.studies import read_studies

ROW = ("--model", "scratch:1x32", "--final-model", "none", "--no-sweeps", "--max-train-samples", "40")


def test_a_study_that_ends_adds_its_table_in_numbers_alone(first_run, bank):
    folder, _ = first_run
    grid = np.loadtxt(folder / "grid.csv", delimiter=",", skiprows=1)
    # The bank has the tables of other tests too.
    alike = [one for one in read_studies(bank) if one.card.metric == "accuracy" and one.scores.shape == (1, 2, 2)]
    study = next(one for one in alike if np.allclose(100 * one.scores[0], grid[:, 1:]))
    assert (study.card.source, study.card.classes, study.card.grid_schedule) == ("user", 8, "shared")
    written = "".join(file.read_text() for file in bank.glob(f"{study.name}*")) + study.name
    assert not any(word in written for word in ("joy", "anger", "sample", str(folder.parent), "wonderful"))


def test_no_bank_keeps_the_table_out_and_a_bank_that_cannot_be_written_ends_no_study(
    bertgrid, monkeypatch, study, tmp_path, blank_figures
):
    repeated = (*TUNE, "--results", study.parent)
    monkeypatch.setenv("BERTGRID_BANK", str(tmp_path / "mine"))
    assert bertgrid(*repeated, "--no-bank").code == 0
    assert not (tmp_path / "mine").exists()
    (tmp_path / "mine").write_text("")
    answer = bertgrid(*repeated)
    assert answer.code == 0
    assert "The table was not added to the bank of studies: Cannot write" in answer.out


def test_suggest_prints_settings_and_the_studies_that_they_rest_on(bertgrid, monkeypatch, bank, tmp_path):
    shutil.copytree(bank, tmp_path / "mine")
    (tmp_path / "mine" / "broken.json").write_text("{")
    monkeypatch.setenv("BERTGRID_BANK", str(tmp_path / "mine"))
    monkeypatch.setenv("COLUMNS", "200")
    answer = bertgrid("suggest", "sample", "--model", "scratch:2x128")
    assert answer.code == 0
    assert answer.out.count("broken.json is damaged") == 1
    for words in ("learning_rates", "epochs", "max_length", "The most alike studies", "scratch-2x128"):
        assert words in answer.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "There is no corpus to read: name one"),
        (("nothing",), "There is no recipe 'nothing'"),
        (("sample", "--model", "./none"), "There is no checkpoint folder ./none."),
    ],
    ids=["no-name", "unknown", "no-checkpoint"],
)
def test_suggest_refuses_what_tune_refuses(bertgrid, words, sentence):
    assert sentence in bertgrid("suggest", *words).refusal


def test_a_plan_takes_suggested_rates_and_epochs(bertgrid):
    answer = bertgrid("tune", "sample", *ROW, "--learning-rates", "suggest", "--epochs", "suggest", "--dry-run")
    assert answer.code == 0
    assert "Suggested: learning rates 0." in answer.out


@pytest.mark.slow
def test_a_resumed_study_repeats_what_was_suggested(bertgrid, monkeypatch, tmp_path, blank_figures):
    command = ("tune", "sample", *ROW, "--learning-rates", "suggest", "--epochs", "1")
    assert bertgrid(*command).code == 0
    first = (tmp_path / "here/results/sample/recipe.yaml").read_text()
    assert min(yaml.safe_load(first)["learning_rates"]) <= yaml.safe_load(first)["hyperparameters"]["learning_rate"]
    # Its own table is in the bank now, and would change the suggestion.
    answer = bertgrid(*command)
    assert answer.code == 0
    assert "Suggested:" not in answer.out
    assert (tmp_path / "here/results/sample/recipe.yaml").read_text() == first
    assert json.loads((tmp_path / "here/results/sample/study.json").read_text())["labels"]
