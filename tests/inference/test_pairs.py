"""A study of pairs of texts, from its table to every use of its model."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import tiny_study
from typer.testing import CliRunner

import bertgrid_tf as bg
from bertgrid_tf import cli
from bertgrid_tf.errors import UserError

COLUMNS = {"text": "question", "text_pair": "answer", "label": "label"}
BRIEF = {
    "model": "scratch:1x32",
    "learning_rates": [5e-3],
    "epochs": 3,
    "batch_size": 4,
    "max_length": 12,
    "progress": False,
}
NEW = [("is it fun", "it was awful"), ("is it fun", "it was lovely"), ("it was awful", "is it fun")]


def frame_of(rows: int) -> pd.DataFrame:
    words = [("lovely", "awful")[row % 2] for row in range(rows)]
    return pd.DataFrame(
        {
            "question": [f"is the film {row} fun" for row in range(rows)],
            "answer": [f"it was {word}" for word in words],
            "label": words,
        }
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> bg.Study:
    with tiny_study.blank_figures():
        return bg.tune(
            train=frame_of(60), dev=frame_of(8), study="qa", results=tmp_path_factory.mktemp("r"), **COLUMNS, **BRIEF
        )


def run(*words: object) -> tuple[int, str]:
    answer = CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "500"}, catch_exceptions=False)
    return answer.exit_code, " ".join(answer.output.split())


def test_the_second_text_decides_with_the_first(study):
    table = study.predict(NEW)
    assert len({round(value, 5) for value in table["p_lovely"]}) == 3
    dev = frame_of(8)
    predicted = study.predict(dev)
    assert predicted["label"].tolist() == dev["label"].tolist()
    assert study.evaluate("dev").final.metrics["accuracy"] == 1
    pd.testing.assert_frame_equal(study.predict(list(zip(dev["question"], dev["answer"], strict=True))), predicted)
    renamed = dev.rename(columns={"question": "q", "answer": "a"})
    pd.testing.assert_frame_equal(study.predict(renamed, text="q", text_pair="a"), predicted)
    assert study.path.joinpath("recipe.yaml").read_text().count("text_pair_column: answer") == 1


def test_a_table_of_pairs_is_labelled_and_one_without_second_texts_is_refused(study, tmp_path):
    new, out = tmp_path / "new.csv", tmp_path / "out.csv"
    pd.DataFrame(NEW, columns=["question", "answer"]).to_csv(new, index=False)
    assert run("predict", study.path, new, "-o", out, "--proba")[0] == 0
    expected = study.predict(NEW)
    np.testing.assert_allclose(pd.read_csv(out)["p_lovely"], expected["p_lovely"], atol=1e-5)
    # The study's own column of the second text goes with another one of the first.
    pd.DataFrame(NEW, columns=["q", "answer"]).to_csv(new, index=False)
    assert run("predict", study.path, new, "-o", out, "--text-column", "q")[0] == 0
    pd.DataFrame(NEW, columns=["question", "a"]).to_csv(new, index=False)
    assert run("predict", study.path, new, "-o", out, "--text-pair-column", "a")[0] == 0
    for flags, sentence in (
        ((), "has no column 'answer'; its columns are question, a."),
        (("--text-column", "a"), "trained on pairs of texts: give every text its second one (--text-pair-column)."),
        (("--text-pair-column", "question"), "The column 'question' is named twice"),
        (("--text-pair-column", "a", "--dialogue-column", "a"), "A pair of texts has neither context nor speakers"),
    ):
        with pytest.raises(UserError, match=re.escape(sentence)):
            run("predict", study.path, new, "-o", tmp_path / "none.csv", *flags)
    assert not (tmp_path / "none.csv").exists()
    with pytest.raises(UserError, match="give every text its second one"):
        study.predict(["is it fun"])


@pytest.mark.slow
def test_pairs_are_served_and_exported(study, tmp_path):
    from test_serve import post, running  # skips the test where the extra is not installed

    expected = study.predict(NEW)
    with running(study.app()) as url:
        answers = post(url, pairs=[{"text": text, "text_pair": pair} for text, pair in NEW]).json()["predictions"]
        refused = post(url, texts=["is it fun"])
    given = [answer["probabilities"]["lovely"] for answer in answers]
    np.testing.assert_allclose(given, expected["p_lovely"], atol=1e-5)
    assert refused.status_code == 422
    assert "give every text its second one" in refused.json()["detail"]
    assert study.export("savedmodel", tmp_path / "exported").difference < 1e-4
    assert "An input is a pair of texts." in (study.path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text_pair": "reply"}, "has no column 'reply'"),
        ({"text_pair": "question"}, "The column 'question' is named twice"),
        ({"dialogue": "question"}, "A pair of texts has neither context nor speakers"),
        ({"context": "current+previous"}, "context current\\+previous is of dialogues, not of pairs"),
        ({"sweeps": {"context": ["current", "current+next"]}}, "context current\\+next is of dialogues, not of pairs"),
        ({"max_length": 3}, "max_length 3 leaves no room beside the 3 special tokens"),
    ],
)
def test_what_makes_no_pairs_is_refused_before_anything_is_trained(changes, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        bg.tune(train=frame_of(40), study="qa", results=tmp_path, **COLUMNS | BRIEF | changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("column", "kind"), [("question", "first"), ("answer", "second")])
def test_a_column_without_any_text_is_refused(column, kind, tmp_path):
    with pytest.raises(UserError, match=f"The {kind} texts of qa are all empty: is it the right column?"):
        bg.tune(train=frame_of(40).assign(**{column: None}), study="qa", results=tmp_path, **COLUMNS, **BRIEF)


def test_pairs_in_json_lines_are_described_and_planned(tmp_path):
    table = tmp_path / "qa.jsonl"
    rows = frame_of(40).to_dict("records")
    del rows[3]["answer"]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--data", table, "--text-column", "question", "--text-pair-column", "answer", "--label-column", "label")
    code, output = run("data", "describe", "qa", *words, "--model", "scratch:1x32")
    assert code == 0, output
    assert "1 of the 36 texts of train is half empty" in output
    code, output = run("tune", "qa", *words, "--model", "scratch:1x32", "--dry-run", "--results", tmp_path)
    assert code == 0, output
