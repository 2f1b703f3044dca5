"""Corpora and tables on the command line: described, fetched, refused."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from console_script import BRIEF, COLUMNS, closed_port, content, own_rows, write_rows

from bertgrid_tf.recipe import Data


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "{path} does not exist; check the name."),
        (lambda path: path.write_text(""), "{path} is empty."),
        (lambda path: path.write_text("dlg,who,text,label\n"), "{path} has a header but no rows."),
        (
            lambda path: path.write_text("dlg,who,words,label\n1,A,hi,good\n"),
            "{path} has no column 'text'; its columns are",
        ),
        (lambda path: path.write_text('dlg,who,text,label\n1,A,"hi,good\n'), "{path}, line 2: the row cannot be read"),
        (
            lambda path: path.write_bytes(b"dlg,who,text,label\n1,A,\xe9,good\n"),
            "{path} is not UTF-8: line 2 has the byte",
        ),
        (
            lambda path: write_rows(path, [row for row in own_rows() if row[3] == "good"]),
            "mine: every utterance of the train split is labelled 'good'; a classifier needs at least two classes.",
        ),
        (
            lambda path: write_rows(path, own_rows()[:1]),
            "1 dialogues with 1 utterances are too few to hold out a share",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(bertgrid, own, damage, sentence):
    damage(own)
    for command in (["tune"], ["data", "describe"]):
        assert bertgrid(*command, "mine", "--data", own, *COLUMNS).refusal.startswith(sentence.format(path=own))
    assert content(Path.cwd()) == {}


def test_a_label_in_dev_that_train_lacks_is_refused(bertgrid, own):
    dev = write_rows(own.with_name("dev.csv"), [["d1", "Ann", "a film", "so-so"]])
    assert bertgrid("tune", "mine", "--data", own, *COLUMNS, "--dev-file", dev).refusal == (
        "mine: the dev split has the label 'so-so', which the train split lacks (it has bad, good); "
        "add training examples of it or take it out."
    )


@pytest.fixture
def friends(tmp_path: Path) -> Path:
    """A data folder with a small corpus in EmotionLines' files."""
    dialogue = [
        {"speaker": "Ann", "utterance": f"line {line}", "emotion": ("joy", "fear")[line % 2], "annotation": "5000000"}
        for line in range(6)
    ]
    (tmp_path / "data" / "friends").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (tmp_path / "data" / "friends" / f"friends_{split}.json").write_text(json.dumps([dialogue] * 3))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: "dialogues", " is not JSON: line 1, column 1: "),
        (
            lambda text: text[: len(text) // 2],
            " breaks off in the middle: its JSON is unfinished, line 1; get it anew.",
        ),
        (lambda text: '{"train": []}', " is not in the EmotionLines format: it must be a list of dialogues."),
        (lambda text: '[["hello"]]', ", dialogue 1, utterance 1 is not in the EmotionLines format"),
        (
            lambda text: text.replace("emotion", "mood"),
            ", dialogue 1, utterance 1 has no key 'emotion'; it has 'speaker'",
        ),
        (lambda text: "", " is empty."),
    ],
)
def test_a_dialogue_file_of_another_kind_is_refused(bertgrid, friends, damage, sentence):
    file = friends / "friends" / "friends_dev.json"
    file.write_text(damage(file.read_text()))
    before = content(friends)
    assert f"{file}{sentence}" in bertgrid("tune", "friends", "--data-dir", friends).refusal
    assert content(friends) == before


def test_a_dialogue_file_that_is_not_utf_8_or_has_a_new_or_only_one_label_is_refused(bertgrid, friends):
    dev, train = (friends / "friends" / f"friends_{split}.json" for split in ("dev", "train"))
    whole = dev.read_text()
    for path, text, sentence in (
        (dev, whole.replace("joy", "rage"), "friends: the dev split has the label 'rage', which the train split lacks"),
        (dev, whole.replace("line 0", "l\udce9ne 0"), f"{dev} is not UTF-8: line 1 has the byte 0xe9"),
        (train, whole.replace("joy", "fear"), "friends: every utterance of the train split is labelled 'fear'"),
    ):
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert bertgrid("tune", "friends", "--data-dir", friends).refusal.startswith(sentence)
        path.write_text(whole)


def test_data_list_says_where_each_corpus_lies(bertgrid, friends, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    rows = {line.split()[1]: line for line in bertgrid("data", "list", "--data-dir", friends).out.splitlines()[3:-1]}
    assert list(rows) == ["sample", "friends", "nsmc"]
    assert str(friends / "friends") in rows["friends"]
    assert "not here: bertgrid-tf data fetch nsmc" in rows["nsmc"]


def test_data_describe_counts_classes_dialogues_and_tokens(bertgrid, own):
    flags = ("--model", "scratch:1x32", "--set", "max_length=9", "--set", "context=current+previous")
    answer = bertgrid("data", "describe", "mine", "--data", own, *COLUMNS, *flags)
    assert answer.code == 0
    for line in (
        "good *│ 36 \\(50.0%\\) │ 4 \\(50.0%\\)",
        "in all *│ +72 │ +8",
        "dialogues *│ +18 │ +2",
        "speakers *│ +2",
    ):
        assert re.search(line, answer.out)
    longer = re.search(r"longer than 9 +│ +([\d.]+)% │ +([\d.]+)%", answer.out)
    assert longer is not None
    assert float(longer[1]) > 50
    assert "scratch:1x32, context current+previous, speakers colon" in " ".join(answer.out.split())


def test_data_describe_lists_what_looks_wrong_and_strict_refuses_it(bertgrid, own):
    rows = [[str(number // 4 % 10), *row[1:]] for number, row in enumerate(own_rows())]
    describe = ("data", "describe", "mine", "--data", write_rows(own, rows), *COLUMNS, "--model", "scratch:1x32")
    findings = [line for line in bertgrid(*describe).out.splitlines() if line.startswith("Warning: ")]
    assert [finding.partition(", ")[0] for finding in findings] == [
        f"Warning: {own}: 10 dialogues go on after another one has begun",
        "Warning: 8 of the 8 texts of dev (100.0 %) stand in train too",
    ]
    refused = bertgrid(*describe, "--strict").refusal
    assert refused.startswith(f"--strict refuses the data (2 warnings): {own}: 10 dialogues go on after another")
    assert "10 dialogues" not in bertgrid(*describe, "--dialogue-ids", "consecutive").out


def test_a_dry_run_lists_what_looks_wrong_too(bertgrid, own):
    dry = ("tune", "mine", "--data", own, *COLUMNS, "--model", "scratch:1x32", "--no-sweeps", "--dry-run")
    assert "Warning: 8 of the 8 texts of dev (100.0 %) stand in train too" in bertgrid(*dry).out
    assert bertgrid(*dry, "--strict").refusal.startswith("--strict refuses the data (1 warning): 8 of the 8 texts")


def test_labels_of_another_task_are_refused_unless_they_are_classes(bertgrid, own):
    write_rows(own, [[*row[:3], ("joy|anger", "joy")[number % 2]] for number, row in enumerate(own_rows())])
    describe = ("data", "describe", "mine", "--data", own, *COLUMNS, "--model", "scratch:1x32")
    assert "(multi-label), as 'joy|anger'" in bertgrid(*describe).refusal
    assert bertgrid(*describe, "--yes-these-are-classes").code == 0


def test_an_order_without_dialogues_is_refused(bertgrid, own):
    columns = ("--text-column", "text", "--label-column", "label", "--order-column", "who")
    refused = bertgrid("data", "describe", "mine", "--data", own, *columns).refusal
    assert refused.endswith("order_column and dialogue_ids are about dialogues: give --dialogue-column too.")


@pytest.mark.parametrize("command", [("data", "fetch", "nsmc"), ("tune", "nsmc"), ("data", "describe", "nsmc")])
def test_a_failed_download_is_refused_with_how_to_place_the_files_by_hand(bertgrid, monkeypatch, command):
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv(variable.upper(), os.environ[variable])
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    refusal = bertgrid(*command, "--data-dir", "data").refusal
    assert refusal.startswith("ratings_train.txt cannot be fetched (https://raw.githubusercontent.com/")
    assert refusal.endswith(
        "or get ratings_train.txt, ratings_test.txt from https://github.com/e9t/nsmc by hand "
        "and place them in data/nsmc."
    )
    assert content(Path.cwd()) == {}


def test_only_public_corpora_can_be_fetched(bertgrid):
    assert bertgrid("data", "fetch", "imdb").refusal == "There is no public corpus 'imdb'; there are friends and nsmc."


def test_describe_has_every_flag_that_names_the_data_of_tune(bertgrid):
    tune, describe = (
        set(re.findall(r"(?<!\S)--[a-z-]+", bertgrid(*words, "--help").out))
        for words in (["tune"], ["data", "describe"])
    )
    keys = {f"--{name.replace('_', '-')}" for name in Data.model_fields if name != "file"}
    assert keys | {"--data", "--seed", "--max-train-samples", "--recipe"} <= tune & describe


def test_without_a_name_the_corpus_is_named_after_its_file(bertgrid, own):
    own = own.rename(own.with_name("My reviews (2).csv"))
    dev = write_rows(own.with_name("dev.csv"), own_rows()[:8])
    answer = bertgrid("data", "describe", "--data", own, *COLUMNS, "--dev-file", dev, "--model", "scratch:1x32")
    assert answer.out.startswith("My-reviews-2: utterances by class")
    assert re.search(r"in all *│ +80 │ +8", answer.out)
    assert bertgrid("tune", "--dry-run").refusal.startswith("There is no corpus to read: name one (friends, nsmc, ")


def test_how_a_table_was_read_is_printed_by_describe_and_tune(bertgrid, own):
    lines = own.read_text().splitlines()
    own.write_text("\n".join([*lines[:3], ",,,", *lines[3:]]).replace(",", ";"), encoding="utf-16")
    notes = [
        f"Note: {own} is encoded in UTF-16-LE, not UTF-8: it is read as that.",
        f"Note: {own}: semicolons separate the cells.",
        f"Note: {own}: 1 wholly blank row is passed over.",
    ]
    for words in (["data", "describe"], ["tune", "--dry-run"]):
        lines = bertgrid(*words, "--data", own, *COLUMNS, "--model", "scratch:1x32").out.splitlines()
        assert [line for line in lines if line.startswith("Note: ")] == notes


def test_a_table_may_come_by_the_standard_input(own):
    lines = [dict(zip(("label", "text"), row[:1:-1], strict=True)) for row in own_rows()]
    words = ["tune", "--data", "-", "--text-column", "text", "--label-column", "label", *BRIEF, "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", "bertgrid_tf", *words],
        input="\n".join(map(json.dumps, lines)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Note: /dev/stdin is read as JSON Lines." in done.stdout.splitlines()
