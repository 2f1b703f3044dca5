import gzip
import tracemalloc

import pandas as pd
import pytest

from bertgrid_tf.corpus import (
    Columns,
    Dialogue,
    Utterance,
    load_table,
    read_split_table,
    read_table,
    read_windows,
    utterances,
)
from bertgrid_tf.errors import UserError

TEXT_LABEL = Columns("text", "label")


def _texts(dialogues):
    return [[line.text for line in dialogue.utterances] for dialogue in dialogues]


def test_rows_without_dialogue_column_stand_alone_and_are_numbered(write):
    path = write("mine.csv", "\ufefflabel,text\npos,good\nneg, bad \n")
    assert read_table(path, TEXT_LABEL) == (
        Dialogue((Utterance("good", "pos", key="1"),)),
        Dialogue((Utterance("bad", "neg", key="2"),)),
    )


def test_rows_of_one_dialogue_need_not_be_adjacent(write):
    path = write("mine.csv", "d,who,text,id\n2,Ada,a,x\n1,,b,y\n2,Ben,c,z\n")
    assert read_table(path, Columns("text", dialogue="d", speaker="who", key="id")) == (
        Dialogue((Utterance("a", speaker="Ada", key="x"), Utterance("c", speaker="Ben", key="z"))),
        Dialogue((Utterance("b", key="y"),)),
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'text,label\r\n"a\tb, ""c""\nd",x\r\n'),
        ("t.tsv", 'text\tlabel\n"a\tb, ""c""\nd\t"\tx\n'),
        ("t.TAB", 'text\tlabel\n"a\tb, ""c""\nd\t"\tx\n'),
        ("t.txt", '"a\tb, ""c""\nd\t"\tx\n'.join(["text\tlabel\n", ""])),
        ("t.dat", 'text,label\n"a\tb, ""c""\nd",x\n'),
    ],
)
def test_the_extension_or_else_the_header_tells_tabs_from_commas(name, content, write):
    assert _texts(read_table(write(name, content), TEXT_LABEL)) == [['a\tb, "c"\nd']]


def test_columns_without_a_name_are_passed_over(write):
    assert _texts(read_table(write("t.csv", "text,label,,\na,x,,\n"), TEXT_LABEL)) == [["a"]]


def test_rows_with_a_second_text_are_pairs_an_empty_cell_too(write):
    path = write("t.csv", "q,a,label\nwho?, Ann ,yes\nwhy?,,no\n")
    pairs = read_table(path, Columns("q", "label", text_pair="a"))
    assert pairs == (
        Dialogue((Utterance("who?", "yes", key="1", text_pair="Ann"),)),
        Dialogue((Utterance("why?", "no", key="2", text_pair=""),)),
    )
    assert pairs[0].texts == ("who?", "Ann")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text_pair": "text"}, "The column 'text' is named twice"),
        ({"text_pair": "label"}, "The column 'label' is named twice"),
        ({"text_pair": "b", "dialogue": "d"}, "A pair of texts has neither context nor speakers"),
        ({"text_pair": "b", "speaker": "who"}, "A pair of texts has neither context nor speakers"),
    ],
)
def test_a_second_text_that_cannot_be_one_is_refused(columns, message):
    with pytest.raises(UserError, match=message):
        Columns("text", "label", **columns)


def test_an_empty_text_is_kept(write):
    assert _texts(read_table(write("t.csv", "text,label\n,x\n"), TEXT_LABEL)) == [[""]]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["empty"]),
        ("text,label\n", ["no rows"]),
        ("sentence,label\na,x\n", ["no column 'text'", "sentence, label"]),
        ("text,label,text\na,x,b\n", ["2 columns", "'text'"]),
        ('text,label\n"two\nlines",x\nb\n', ["line 4", "1 fields", "2"]),
        ("text,label\na,x\nb,x,c\n", ["line 3", "3 fields", "2"]),
        ("text,label\na,x\n\nb,\n", ["line 4", "'label' is empty"]),
        ("text,label\na,x\ntext,label\nb,y\n", ["line 3", "header is repeated"]),
        ('text,label\na,x\n"b,y\nc,z\n', ["line 3", "quote"]),
        ('text,label\n"a"b,x\n', ["line 2", "quote"]),
        (b"text,label\na\xff,x\n", ["UTF-8", "line 2"]),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_its_place(content, parts, write, refusal):
    path = write("mine.csv", content)
    refusal(lambda: read_table(path, TEXT_LABEL), path, *parts)


def test_a_repeated_id_is_refused(write, refusal):
    path = write("mine.csv", "id,text\n7,a\n8,b\n7,c\n")
    refusal(lambda: read_table(path, Columns("text", key="id")), path, "line 4", "'7'", "line 2")


def test_an_empty_dialogue_id_is_refused(write, refusal):
    path = write("mine.csv", "d,text\n1,a\n,b\n")
    refusal(lambda: read_table(path, Columns("text", dialogue="d")), path, "line 3", "'d'")


def test_a_split_column_makes_the_splits(write):
    rows = [
        "train,1,a,x",
        "valid,1,b,x",
        "Train,1,c,y",
        "val,2,d,y",
        "validation,2,e,x",
        "test,1,f,",
        "dev,3,g,x",
    ]
    path = write("mine.csv", "\n".join(["part,d,text,label", *rows]))
    splits = read_split_table(path, Columns("text", "label", dialogue="d", split="part"))
    assert {split: _texts(dialogues) for split, dialogues in splits.items()} == {
        "train": [["a", "c"]],
        "dev": [["b"], ["d", "e"], ["g"]],
        "test": [["f"]],
    }
    corpus = load_table(path, Columns("text", "label", dialogue="d", split="part"))
    assert corpus.name == "mine"
    assert corpus.labels == ("x", "y")
    assert corpus.splits == splits


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (["train,a,x", "extra,b,y"], ["line 3", "'part'", "'extra'"]),
        (["train,a,x", ",b,y"], ["line 3", "'part'", "''"]),
        (["dev,a,x", "test,b,y"], ["'part'", "train"]),
        (["train,a,x", "train,b,y", "test,c,x", "test,d,"], ["line 5", "'label' is empty"]),
        (["train,a,x", "train,b,"], ["line 3", "'label' is empty"]),
    ],
)
def test_a_split_column_that_makes_no_splits_is_refused(rows, parts, write, refusal):
    path = write("mine.csv", "\n".join(["part,text,label", *rows]))
    refusal(lambda: load_table(path, Columns("text", "label", split="part")), path, *parts)


def test_files_make_the_splits(write):
    train = write("train.csv", "text,label\na,x\nb,y\n")
    dev = write("dev.tsv", "label\ttext\nx\tc\n")
    test = write("test.csv", "text,label\nd,\ne,\n")
    corpus = load_table(train, TEXT_LABEL, dev=dev, test=test, name="own")
    assert corpus.name == "own"
    assert {split: _texts(dialogues) for split, dialogues in corpus.splits.items()} == {
        "train": [["a"], ["b"]],
        "dev": [["c"]],
        "test": [["d"], ["e"]],
    }


def test_without_dev_split_a_share_of_whole_dialogues_is_held_out(write):
    rows = [f"{number // 4},text {number},{'xy'[number % 3 == 0]}" for number in range(200)]
    path = write("mine.csv", "\n".join(["d,text,label", *rows]))
    columns = Columns("text", "label", dialogue="d")
    corpus = load_table(path, columns, validation_split=0.2, seed=3)
    assert {len(dialogue.utterances) for split in corpus.splits.values() for dialogue in split} == {4}
    assert len(list(utterances(corpus.splits["dev"]))) == pytest.approx(40, abs=4)
    assert load_table(path, columns, validation_split=0.2, seed=3) == corpus
    assert load_table(path, columns, validation_split=0.2, seed=4) != corpus


def test_splits_given_twice_or_no_label_column_are_refused(write, refusal):
    path = write("mine.csv", "part,text,label\ntrain,a,x\n")
    refusal(lambda: load_table(path, Columns("text", "label", split="part"), dev=path), path, "twice", "'part'")
    refusal(lambda: load_table(path, Columns("text")), path, "labels")


def test_a_dataframe_is_read_as_the_file_that_it_makes(write):
    frame = pd.DataFrame(
        {"d": [2, 1, 2], "who": ["Ada", None, "Ben"], "text": [" a", "", 'c, "d"'], "label": [0, 1, 0]}
    )
    columns = Columns("text", "label", dialogue="d", speaker="who")
    assert read_table(frame, columns) == read_table(write("t.csv", frame.to_csv(index=False)), columns)


def test_class_ids_beside_a_missing_value_of_a_dataframe_stay_whole_numbers():
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, None], "part": ["train", "train", "test"]})
    splits = read_split_table(frame, Columns("text", "label", split="part"))
    assert [dialogue.utterances[0].label for split in splits.values() for dialogue in split] == ["0", "1", None]


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (pd.DataFrame({"text": [], "label": []}), ["no rows"]),
        (pd.DataFrame({"sentence": ["a"], "label": ["x"]}), ["no column 'text'", "sentence, label"]),
        (pd.DataFrame([["a", "b", "x"]], columns=["text", "text", "label"]), ["2 columns", "'text'"]),
        (pd.DataFrame({"text": ["a", "b"], "label": ["x", float("nan")]}), ["row 2", "'label' is empty"]),
    ],
)
def test_a_dataframe_that_cannot_be_read_is_refused_with_its_row_or_column(frame, parts, refusal):
    refusal(lambda: read_table(frame, TEXT_LABEL), "The DataFrame", *parts)


def test_splits_come_from_files_and_dataframes_alike(write):
    train = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    corpus = load_table(train, TEXT_LABEL, dev=write("dev.csv", "text,label\nc,x\n"))
    assert {split: _texts(dialogues) for split, dialogues in corpus.splits.items()} == {
        "train": [["a"], ["b"]],
        "dev": [["c"]],
    }


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr("bertgrid_tf.corpus.table.WINDOW", 4)


def _windows(path, columns):
    findings = []
    windows = list(read_windows(path, columns, findings))
    whole = []
    assert tuple(dialogue for window in windows for dialogue in window.dialogues) == read_table(path, columns, whole)
    assert findings == whole
    return [[row.number for row in window.rows] for window in windows]


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.csv.gz"])
def test_a_table_is_read_in_windows_of_whole_dialogues(name, write):
    dialogues = "aabbbbbbc"
    if name == "t.jsonl":
        content = "".join(f'{{"d": "{d}", "text": "{n}"}}\n' for n, d in enumerate(dialogues))
        first = 1
    else:
        content = "d,text\n" + "".join(f"{d},{n}\n" for n, d in enumerate(dialogues))
        first = 2
    path = write(name, gzip.compress(content.encode()) if name.endswith("gz") else content)
    rows = [*range(first, first + len(dialogues))]
    assert _windows(path, Columns("text", dialogue="d")) == [rows[:8], rows[8:]]
    assert _windows(path, Columns("text")) == [rows[:4], rows[4:8], rows[8:]]


@pytest.mark.usefixtures("small_windows")
def test_a_table_whose_dialogues_go_on_after_others_is_one_window(write):
    path = write("t.csv", "d,text\n" + "".join(f"{d},{n}\n" for n, d in enumerate("abcdea")))
    assert _windows(path, Columns("text", dialogue="d")) == [[2, 3, 4, 5, 6, 7]]
    assert _windows(path, Columns("text", dialogue="d", consecutive=True)) == [[2, 3, 4, 5], [6, 7]]


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("last", ["3", "3.5", "c"])
def test_the_order_in_a_window_is_of_the_type_of_the_whole_column(last, write):
    turns = ["10", "9", "8", "11", "2", "1", last]
    path = write("t.csv", "d,turn,text\n" + "".join(f"{n // 4},{turn},{turn}\n" for n, turn in enumerate(turns)))
    assert _windows(path, Columns("text", dialogue="d", order="turn")) == [[2, 3, 4, 5], [6, 7, 8]]


def test_the_memory_of_reading_does_not_grow_with_the_table(write, monkeypatch):
    monkeypatch.setattr("bertgrid_tf.corpus.table.WINDOW", 10)

    def peak(rows):
        path = write(f"{rows}.csv", "text\n" + f"{'words ' * 2_000}\n" * rows)
        tracemalloc.start()
        try:
            assert sum(len(window.rows) for window in read_windows(path, Columns("text"))) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(600) < 1.1 * peak(300)
