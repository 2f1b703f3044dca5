"""What is silently wrong in tables: named in a finding, refused, or read as it was meant."""

import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf.corpus import (
    Columns,
    Corpus,
    Dialogue,
    Utterance,
    check_corpus,
    hold_out,
    load_table,
    read_competition,
    read_split_table,
    read_table,
    sample,
    utterances,
)
from bertgrid_tf.corpus.labels import alike, clean_label, label_key, normalized_labels

TEXT_LABEL = Columns("text", "label")
DIALOGUES = Columns("text", dialogue="d")


def read(path: Path | pd.DataFrame, columns: Columns) -> tuple[list[tuple[str, ...]], list[str]]:
    """The texts of the dialogues, and the messages of the findings."""
    findings = []
    dialogues = read_table(path, columns, findings)
    return [dialogue.texts for dialogue in dialogues], [finding.message for finding in findings]


def texts(*pairs: tuple[str, str]) -> tuple[Dialogue, ...]:
    return tuple(Dialogue((Utterance(text, label),)) for text, label in pairs)


def many(label: str, number: int = 10) -> list[tuple[str, str]]:
    return [(f"{label} {n}", label) for n in range(number)]


TRAIN = many("a") + many("b")
DEV = [("dev a", "a"), ("dev b", "b")]


def messages(train: list[tuple[str, str]], dev: list[tuple[str, str]] = DEV, **splits: list) -> list[str]:
    all_splits = {"train": train, "dev": dev, **splits}
    corpus = Corpus.from_splits("tiny", {split: texts(*pairs) for split, pairs in all_splits.items()})
    return [finding.message for finding in check_corpus(corpus)]


# Dialogue ids


RESTART = "d,text\n0,hello\n0,bye\n1,mid\n0,other\n"


def test_an_id_that_comes_back_is_named_with_its_line(write):
    path = write("t.csv", RESTART)
    dialogues, [finding] = read(path, DIALOGUES)
    assert dialogues == [("hello", "bye", "other"), ("mid",)]
    assert finding == (
        f"Warning: {path}: 1 dialogue goes on after another one has begun, since the id comes back, as '0' (line 5): "
        "where ids restart, name every column of the id (--dialogue-column Season,Episode) or give --dialogue-ids "
        "consecutive; where rows are shuffled, name the column of their order (--order-column)."
    )


def test_consecutive_ids_start_a_new_dialogue_wherever_they_change(write):
    columns = Columns("text", dialogue="d", consecutive=True)
    assert read(write("t.csv", RESTART), columns) == ([("hello", "bye"), ("mid",), ("other",)], [])


@pytest.mark.parametrize("dialogue", ["season, d", ["season", "d"]])
def test_several_columns_make_an_id_together(write, dialogue):
    path = write("t.csv", "season,d,text\n1,0,hello\n1,0,bye\n2,0,mid\n")
    assert read(path, Columns("text", dialogue=dialogue)) == ([("hello", "bye"), ("mid",)], [])


def test_cells_of_several_columns_are_not_confused(write):
    path = write("t.csv", 's,d,text\n"1, 2",3,a\n1,"2, 3",b\n')
    assert read(path, Columns("text", dialogue="s,d"))[0] == [("a",), ("b",)]


def test_an_empty_part_of_an_id_is_refused(write, refusal):
    path = write("t.csv", "s,d,text\n1,,a\n")
    refusal(lambda: read_table(path, Columns("text", dialogue="s,d")), f"{path}, line 2", "'d'", "empty")


def test_a_split_column_that_tears_dialogues_apart_is_named(write):
    torn = "d,text,label,part\n" + "".join(f"{d},{d}.{n},x,{p}\n" for d in "ab" for n, p in enumerate(("train", "dev")))
    path, findings = write("t.csv", torn), []
    read_split_table(path, Columns("text", "label", "d", split="part"), findings)
    assert [finding.sentence for finding in findings] == [f"{path}: 2 dialogues are torn apart by the split column"]
    assert findings[0].examples == ("'a' (line 3)", "'b' (line 5)")


def test_splits_that_are_numbered_each_for_itself_tear_nothing_apart(write):
    path = write("t.csv", "d,text,label,part\n0,a,x,train\n0,b,x,train\n0,c,x,dev\n0,d,x,dev\n")
    findings = []
    assert read_split_table(path, Columns("text", "label", "d", split="part"), findings)["dev"][0].texts == ("c", "d")
    assert findings == []


# The order of utterances


OUT_OF_ORDER = "d,Utterance_ID,text\nx,10,third\nx,2,second\nx,1,first\ny,1,one\ny,2,two\n"


def test_a_column_that_looks_like_an_order_and_disagrees_is_named(write):
    path = write("t.csv", OUT_OF_ORDER)
    dialogues, findings = read(path, DIALOGUES)
    assert dialogues == [("third", "second", "first"), ("one", "two")]
    assert findings == [
        f"Warning: {path}: 1 dialogue is in another order than the column 'Utterance_ID', which looks like the order "
        "of the utterances, as 'x' (10, 2, 1): --order-column Utterance_ID sorts by it."
    ]


def test_an_order_column_sorts_numbers_as_numbers_within_each_dialogue(write):
    columns = Columns("text", dialogue="d", order="Utterance_ID")
    expected = [("first", "second", "third"), ("one", "two")]
    path = write("t.csv", OUT_OF_ORDER)
    assert read(path, columns) == (expected, [])
    assert read(pd.read_csv(path), columns) == (expected, [])


def test_an_order_column_of_times_sorts_as_texts(write):
    path = write("t.csv", "d,at,text\nx,00:10,b\nx,00:09,a\n")
    assert read(path, Columns("text", dialogue="d", order="at"))[0] == [("a", "b")]


def test_rows_that_are_shuffled_across_dialogues_are_put_in_order_without_a_finding(write):
    path = write("t.csv", "d,turn,text\nx,1,b\ny,0,c\nx,0,a\n")
    assert read(path, Columns("text", dialogue="d", order="turn")) == ([("a", "b"), ("c",)], [])


def test_an_order_that_repeats_itself_in_a_dialogue_is_named_with_the_ids_that_come_back(write):
    path = write("t.csv", "d,turn,text\nx,0,a\nx,1,b\ny,0,c\nx,0,d\n")
    dialogues, findings = read(path, Columns("text", dialogue="d", order="turn"))
    assert dialogues == [("a", "d", "b"), ("c",)]
    assert [finding.partition(",")[0] for finding in findings] == [
        f"Warning: {path}: 1 dialogue has a value of the column 'turn' twice",
        f"Warning: {path}: 1 dialogue goes on after another one has begun",
    ]


def test_an_empty_cell_of_the_order_is_refused(write, refusal):
    path = write("t.csv", "d,turn,text\nx,,a\n")
    refusal(lambda: read_table(path, Columns("text", dialogue="d", order="turn")), f"{path}, line 2", "'turn'")


@pytest.mark.parametrize("name", ["score", "turn"])
def test_columns_that_are_no_order_are_not_taken_for_one(write, name):
    values = {"score": (3, 1), "turn": (1, 1)}[name]
    path = write("t.csv", f"d,{name},text\n" + "".join(f"x,{value},a\n" for value in values))
    assert read(path, DIALOGUES)[1] == []


def test_the_competition_file_is_ordered_by_its_own_column(write):
    path = write("en_data.csv", "id,i_dialog,i_utterance,speaker,utterance\n7,0,1,Ben,second\n8,0,0,Ada,first\n")
    assert [(line.text, line.key) for line in utterances(read_competition(path))] == [("first", "8"), ("second", "7")]


# Equal texts


def test_texts_of_train_in_dev_and_test_are_counted_and_quoted():
    found = messages(TRAIN, [*DEV, ("a 1", "a")], test=[("b 1", "b"), ("b 2", "b"), ("new", "a")])
    assert found == [
        "Warning: 1 of the 3 texts of dev (33.3 %) stands in train too, as 'a 1': take them out of one of the two, "
        "since the scores on dev are too good by them.",
        "Warning: 2 of the 3 texts of test (66.7 %) stand in train too, as 'b 1', 'b 2': take them out of one of the "
        "two, since the scores on test are too good by them.",
    ]


def test_a_dev_file_equal_to_train_is_a_finding(write):
    path = write("t.csv", "text,label\n" + "".join(f"{text},{label}\n" for text, label in TRAIN))
    [finding] = check_corpus(load_table(path, TEXT_LABEL, dev=path))
    assert (finding.severity, finding.count) == ("warning", 20)
    assert "20 of the 20 texts of dev (100.0 %)" in finding.message


def test_a_few_equal_texts_of_many_are_a_note():
    dev = [(f"dev {n}", "ab"[n % 2]) for n in range(200)]
    assert messages(TRAIN, [*dev, ("a 1", "a")])[0].startswith("Note: 1 of the 201 texts of dev (0.5 %)")


def test_one_text_with_two_labels_is_a_finding():
    assert messages([*TRAIN, ("a 1", "b"), ("a 1", "b")]) == [
        "Warning: 1 text of train and dev occurs with different labels, as 'a 1' ('b': 2, 'a': 1): decide for one "
        "label each."
    ]


def test_pairs_are_equal_where_both_texts_are():
    def pairs(*rows: tuple[str, str, str]) -> list[Dialogue]:
        return [Dialogue((Utterance(text, label, text_pair=pair),)) for text, pair, label in rows]

    train = pairs(*(("a", f"{n}", "xy"[n % 2]) for n in range(20)))
    assert [
        finding.message for finding in check_corpus(Corpus.from_splits("c", {"train": train, "dev": train[:2]}))
    ] == [
        "Warning: 2 of the 2 texts of dev (100.0 %) stand in train too, as 'a / 0', 'a / 1': take them out of one of "
        "the two, since the scores on dev are too good by them."
    ]
    dev = pairs(("a", "b", "x"), ("b", "0", "y"), ("", "0", "x"), ("a", "", "y"))
    assert [finding.message for finding in check_corpus(Corpus.from_splits("c", {"train": train, "dev": dev}))] == [
        "Warning: 2 of the 4 texts of dev are half empty: check the text column, or take such rows out."
    ]
    twice = [*train, *pairs(("a", "0", "y"))]
    [finding] = check_corpus(Corpus.from_splits("c", {"train": twice, "dev": pairs(("b", "0", "y"), ("b", "1", "x"))}))
    assert finding.sentence == "1 text of train and dev occurs with different labels"
    assert finding.examples == ("'a / 0' ('x': 1, 'y': 1)",)
    kept, held_out = hold_out([*train, *train], 0.1, seed=0)
    assert not {dialogue.texts for dialogue in kept} & {dialogue.texts for dialogue in held_out}


def test_short_utterances_may_come_again_in_other_dialogues_but_not_long_ones_or_whole_dialogues():
    long = "I have never in my life heard of such a thing."
    filling = [Dialogue((Utterance(f"a {n}", "a"), Utterance(f"b {n}", "b"))) for n in range(10)]
    train = [
        *filling,
        Dialogue((Utterance("Yeah.", "a"), Utterance(long, "b"))),
        Dialogue((Utterance("Hi.", "a"), Utterance("Bye.", "b"))),
    ]
    other = Dialogue((Utterance("Yeah.", "b"), Utterance("Hm?", "a")))
    assert check_corpus(Corpus.from_splits("tiny", {"train": train, "dev": [other]})) == ()
    dev = [other, Dialogue((Utterance(long, "b"), Utterance("Yeah.", "a"))), train[-1]]
    [finding] = check_corpus(Corpus.from_splits("tiny", {"train": train, "dev": dev}))
    assert finding.examples == (repr(long), "'Hi.'", "'Bye.'")
    assert "3 of the 6 texts of dev" in finding.sentence


def test_the_sample_has_no_finding():
    assert check_corpus(sample()) == ()


def test_friends_has_a_note_about_the_scene_that_its_test_split_shares_with_train(real_data):
    from bertgrid_tf.corpus import load

    [finding] = check_corpus(load("friends", [real_data]))
    assert (finding.severity, finding.count) == ("note", 3)


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ab")), max_size=60), st.integers(0, 9))
def test_a_held_out_share_never_separates_equal_texts(repeated, seed):
    single = [(f"single {n}", "ab"[n % 2]) for n in range(60)]
    dialogues = texts(*single, *((f"text {number}", label) for number, label in repeated))
    kept, held = hold_out(dialogues, 0.2, seed)
    assert not {dialogue.texts for dialogue in kept} & {dialogue.texts for dialogue in held}
    assert sorted(kept + held, key=repr) == sorted(dialogues, key=repr)
    for label in "ab":
        of_class = sum(dialogue.labels == (label,) for dialogue in dialogues)
        assert sum(dialogue.labels == (label,) for dialogue in held) == pytest.approx(0.2 * of_class, abs=1)


@given(st.lists(st.integers(0, 9), min_size=20, max_size=40), st.integers(0, 9))
def test_a_held_out_share_never_separates_equal_dialogues(numbers, seed):
    single = [Dialogue((Utterance(f"{n}", "a"), Utterance("Yes.", "b"))) for n in range(100, 120)]
    dialogues = (*single, *(Dialogue((Utterance(f"{n}", "a"), Utterance("Yes.", "b"))) for n in numbers))
    kept, held = hold_out(dialogues, 0.3, seed)
    assert not {dialogue.texts for dialogue in kept} & {dialogue.texts for dialogue in held}


def test_classes_of_one_text_each_are_divided_all_the_same():
    kept, held = hold_out(texts(("Great!", "joy"), ("Oh no!", "anger")) * 10, 0.2, 0)
    assert (len(kept), len(held)) == (16, 4)
    kept, held = hold_out((Dialogue((Utterance("a", "x"), Utterance("b", "y"))),) * 10, 0.2, 0)
    assert (len(kept), len(held)) == (8, 2)


# Labels


NFC, NFD = unicodedata.normalize("NFC", "기쁨"), unicodedata.normalize("NFD", "기쁨")
JOYS = ["joy", "joy\xa0", "joy\u200b", "Joy"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (JOYS, ["'joy' (11 texts)", "'joy\\xa0' (11 texts)", "'joy\\u200b' (11 texts)", "'Joy' (11 texts)"]),
        ([NFC, NFD], ["'기쁨' (11 texts)", "'\\u1100\\u1175\\u1108\\u1173\\u11b7' (11 texts)"]),
        (["0", "0.0"], ["'0' (11 texts)", "'0.0' (11 texts)"]),
        (["very good", "very\u3000good "], ["'very good' (11 texts)", "'very\\u3000good ' (11 texts)"]),
    ],
)
def test_labels_that_print_alike_are_named_with_what_they_hide(labels, names):
    train = [pair for label in labels for pair in many(label)]
    found = messages(train, [(f"dev {label}", label) for label in labels])
    assert found[0].startswith(f"Warning: {len(labels)} classes differ only in case, blanks, invisible characters")
    assert all(name in found[0] for name in names)
    assert found[0].endswith(": --normalize-labels reads them as one.")


@pytest.mark.parametrize("label", ["nan", "NULL", "None", "N/A", "\xa0", "-"])
def test_labels_that_stand_for_a_missing_value_are_named(label):
    [finding] = messages([*TRAIN, *many(label)], [*DEV, ("other", label)])
    assert finding == (
        f"Warning: 11 texts of the class {label!r} may have no label: take them out if this stands for a missing value."
    )


def test_a_class_none_in_small_letters_is_but_a_note():
    [finding] = messages([*TRAIN, *many("none")], [*DEV, ("other", "none")])
    assert finding.startswith("Note: 11 texts of the class 'none'")


def test_normalized_labels_are_one_class_in_the_most_frequent_spelling(write):
    rows = [f"{number},{label}" for number, label in enumerate(["joy"] * 5 + JOYS[1:] * 2 + ["anger"] * 9)]
    path = write("t.csv", "text,label\n" + "\n".join(rows) + "\n")
    assert load_table(path, TEXT_LABEL, normalize_labels=True).labels == ("anger", "joy")
    assert load_table(path, TEXT_LABEL).labels == tuple(sorted({"anger", *JOYS}))


def test_class_ids_of_one_file_and_floats_of_another_are_refused_with_the_remedy_or_normalized(write, refusal):
    train = write("train.csv", "text,label\n" + "".join(f"t{n},{n % 2}\n" for n in range(20)))
    dev = write("dev.csv", "text,label\nd0,0.0\nd1,1.0\n")
    refusal(
        lambda: load_table(train, TEXT_LABEL, dev=dev),
        "the dev split has the label '0.0', which the train split spells '0'; give --normalize-labels",
    )
    corpus = load_table(train, TEXT_LABEL, dev=dev, normalize_labels=True)
    assert [dialogue.labels for dialogue in corpus.splits["dev"]] == [("0",), ("1",)]


def test_a_label_that_is_blank_when_normalized_is_refused_as_missing(write, refusal):
    path = write("t.csv", "text,label\n" + "".join(f"t{n},{n % 2}\n" for n in range(20)) + "t,\u200b\n")
    refusal(lambda: load_table(path, TEXT_LABEL, normalize_labels=True), "1 utterances", "no label")


LABEL_TEXTS = st.text(st.sampled_from("aAbß기0.1 \xa0\u200b\u0301é½①ﬁ¨") | st.characters(), max_size=6)


@given(st.dictionaries(LABEL_TEXTS, st.integers(1, 5), max_size=8))
def test_normalizing_labels_is_idempotent_and_leaves_none_that_print_alike(counts):
    chosen = normalized_labels(counts)
    once = dict.fromkeys(chosen.values(), 1)
    assert normalized_labels(once) == {label: label for label in once}
    assert alike(once) == []


@given(LABEL_TEXTS)
def test_a_clean_label_is_clean_and_has_the_same_key(label):
    assert clean_label(clean_label(label)) == clean_label(label)
    assert label_key(clean_label(label)) == label_key(label)


# Other tasks


def table(write, labels: list[str]) -> Path:
    rows = "".join(f'text {number},"{label}"\n' for number, label in enumerate(labels))
    return write("t.csv", "text,label\n" + rows)


def test_float_targets_are_refused_as_regression_unless_they_are_classes(write, refusal):
    path = table(write, [f"{number / 97:.4f}" for number in range(97)])
    refusal(
        lambda: load_table(path, TEXT_LABEL),
        f"{path}: the 97 different labels of 97 training texts are numbers, as '0.0000', '0.0103', '0.0206', which "
        "looks like regression",
        "--yes-these-are-classes",
    )
    assert len(load_table(path, TEXT_LABEL, dev=path, any_classes=True).labels) == 97


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        (["2,14", "3", "27"] * 10, ["10 of the 30 training texts", "'2,14'", "multi-label"]),
        (["joy|anger", "joy", "sadness"] * 10, ["'joy|anger'", "multi-label"]),
        (["joy; anger", "joy"] * 10, ["'joy; anger'", "multi-label"]),
        (["joy, anger", "joy", "anger"] * 10, ["'joy, anger'", "multi-label"]),
        (["['joy', 'anger']", "['joy']"] * 10, ["\"['joy', 'anger']\"", "multi-label"]),
        (["[0 1]", "[1 0]"] * 10, ["'[0 1]'", "multi-label"]),
        ([str(number) for number in range(50)], ["50 different labels", "regression"]),
        ([f"comment {number}" for number in range(50)], ["50 different labels", "--label-column"]),
    ],
)
def test_labels_of_another_task_are_refused(write, refusal, labels, parts):
    path = table(write, [label.replace('"', '""') for label in labels])
    refusal(lambda: load_table(path, TEXT_LABEL), path, *parts, "--yes-these-are-classes")
    load_table(path, TEXT_LABEL, dev=path, any_classes=True)


@pytest.mark.parametrize(
    "labels",
    [
        [str(grade / 2) for grade in range(1, 11)] * 5,
        [str(topic) for topic in range(77)] * 2,
        ["Society, Culture", "Health", "Science, Nature"] * 5,
        ["Sci/Tech", "[other]", "joy & fun", "[" * 5000 + "]"] * 5,
    ],
)
def test_grades_many_classes_and_names_with_commas_are_classes(write, labels):
    assert len(load_table(table(write, labels), TEXT_LABEL).labels) == len(set(labels))


# Classes and texts


def test_classes_with_few_training_texts_or_none_in_dev_are_named():
    assert messages([*TRAIN, *many("rare", 2)]) == [
        "Warning: 1 of the 3 classes has fewer than 5 training texts, as 'rare' (2): add texts, or join or leave out "
        "such classes.",
        "Warning: 1 of the 3 classes has no text in dev, as 'rare': no score says how well they are learned; add such "
        "texts to dev, or hold out a larger --validation-split.",
    ]


def test_empty_texts_and_texts_that_repeat_each_other_are_named():
    train = [*TRAIN, ("", "a"), *[("see above", "a")] * 8]
    assert messages(train) == [
        "Warning: 1 of the 29 texts of train is empty: check the text column, or take such rows out.",
        "Warning: 7 of the 29 training texts repeat another one, as 'see above' (8 times): check the text column, or "
        "keep one of each.",
    ]


def test_the_gravest_findings_come_first():
    dev = [(f"dev {n}", "ab"[n % 2]) for n in range(200)]
    found = messages([*TRAIN, *many("rare", 2)], [*dev, ("a 1", "a")])
    assert [finding.partition(":")[0] for finding in found] == ["Warning", "Warning", "Note"]


def test_a_corpus_without_faults_has_no_finding():
    assert messages(TRAIN, test=[("test", "a")]) == []


def test_no_reader_or_check_raises_on_unlabelled_test_texts():
    corpus = Corpus.from_splits(
        "tiny", {"train": texts(*TRAIN), "dev": texts(*DEV), "test": [Dialogue((Utterance("x"),))]}
    )
    assert check_corpus(corpus) == ()
