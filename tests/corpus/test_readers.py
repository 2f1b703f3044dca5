import json
import unicodedata

import pytest

from bertgrid_tf.corpus import (
    Dialogue,
    Utterance,
    label_counts,
    read_competition,
    read_emotionlines,
    read_nsmc,
    utterances,
)


def _line(**changes):
    return {"speaker": "Ada", "utterance": "Hi.", "emotion": "joy", "annotation": "0500000", **changes}


def test_emotionlines_dialogues_keep_their_lines_in_order(write):
    path = write("d.json", json.dumps([[_line(), _line(speaker="Ben", utterance=" Oh. ")], [_line(emotion="fear")]]))
    first, second = read_emotionlines(path)
    assert first.utterances == (
        Utterance("Hi.", "joy", "Ada", (0, 5, 0, 0, 0, 0, 0)),
        Utterance("Oh.", "joy", "Ben", (0, 5, 0, 0, 0, 0, 0)),
    )
    assert second.utterances[0].label == "fear"


def test_c1_bytes_become_the_characters_they_stand_for(write):
    text = "It\x92s \x93here\x94 \x96 now\x85\xa0yes\x81"
    path = write("d.json", json.dumps([[_line(utterance=text, speaker="Ad\x92a")]]))
    (line,) = read_emotionlines(path)[0].utterances
    assert line.text == "It’s “here” – now… yes"
    assert line.speaker == "Ad’a"


def test_half_a_surrogate_pair_does_not_survive(write):
    (line,) = read_emotionlines(write("d.json", json.dumps([[_line(utterance="a\ud83d")]])))[0].utterances
    assert line.text.encode() == "a\ufffd".encode()


def test_empty_text_speaker_and_missing_votes_are_kept_as_such(write):
    path = write("d.json", json.dumps([[{"speaker": " ", "utterance": "", "emotion": "joy"}]]))
    assert read_emotionlines(path)[0].utterances == (Utterance("", "joy"),)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["empty"]),
        ("\ufeff \n", ["empty"]),
        ("speaker,utterance\nAda,Hi", ["not JSON", "line 1"]),
        ('[[{"speaker": "Ada",\n "utter', ["breaks off", "line 2"]),
        ('[[{"speaker": "Ada"', ["breaks off"]),
        ('[[{"speaker": }]]', ["not JSON", "line 1, column 15"]),
        ("{}", ["list of dialogues"]),
        ("[]", ["list of dialogues"]),
        ("[" * 100_000, ["list of dialogues"]),
        (json.dumps([[_line()], _line()]), ["dialogue 2", "list of utterances"]),
        (json.dumps([[_line()], []]), ["dialogue 2", "list of utterances"]),
        (json.dumps([[_line(), "Hi."]]), ["dialogue 1, utterance 2", "object"]),
        (
            json.dumps([[{"text": "Hi.", "emotion": "joy"}]]),
            ["dialogue 1, utterance 1", "'speaker'", "'text', 'emotion'"],
        ),
        (json.dumps([[_line(), _line(utterance=3)]]), ["dialogue 1, utterance 2", "'utterance'"]),
        (json.dumps([[_line(emotion=" ")]]), ["dialogue 1, utterance 1", "'emotion'"]),
        (json.dumps([[_line(annotation="5 votes")]]), ["dialogue 1, utterance 1", "'annotation'"]),
    ],
)
def test_a_file_that_is_no_emotionlines_is_refused_with_its_place(content, parts, write, refusal):
    path = write("friends_dev.json", content)
    refusal(lambda: read_emotionlines(path), path, *parts)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_broken_utf8_is_refused_with_line_and_offset(mark, write, refusal):
    path = write("d.json", mark + b'[["a",\n"caf\xe9"]]')
    refusal(lambda: read_emotionlines(path), path, "UTF-8", "line 2", "0xe9", f"offset {len(mark) + 11}")


@pytest.mark.parametrize("read", [read_emotionlines, read_nsmc, read_competition])
def test_a_missing_file_and_a_folder_are_refused(read, tmp_path, refusal):
    refusal(lambda: read(tmp_path / "absent.txt"), tmp_path / "absent.txt", "does not exist")
    refusal(lambda: read(tmp_path), tmp_path, "folder")


def test_nsmc_quotes_are_plain_characters(write):
    path = write("r.txt", 'id\tdocument\tlabel\n1\t"좋다\t1\n2\t"a"" b\t0\r\n3\ta\x85b\u2028c\t0\n')
    assert read_nsmc(path) == (
        Dialogue((Utterance('"좋다', "positive", key="1"),)),
        Dialogue((Utterance('"a"" b', "negative", key="2"),)),
        Dialogue((Utterance("a\x85b\u2028c", "negative", key="3"),)),
    )


def test_nsmc_empty_documents_stay_as_empty_text(write):
    path = write("r.txt", "id\tdocument\tlabel\n1\t\t1\n2\t \t0\n")
    assert [line.text for line in utterances(read_nsmc(path))] == ["", ""]


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("id\ttext\tlabel\n1\ta\t1\n", ["'document'", "id, text, label"]),
        ("id\tdocument\tlabel\n", ["no rows"]),
        ("id\tdocument\tlabel\n1\ta\t1\n2\ta\n", ["line 3", "2 fields", "3"]),
        ("id\tdocument\tlabel\n1\ta\tb\t1\n", ["line 2", "4 fields", "3"]),
        ("id\tdocument\tlabel\n1\ta\t2\n", ["line 2", "'2'"]),
        ("id\tdocument\tlabel\n1\ta\t1\nid\tdocument\tlabel\n", ["line 3", "header"]),
        ("id\tid\tdocument\tlabel\n", ["2 columns", "'id'"]),
    ],
)
def test_a_file_that_is_no_nsmc_is_refused_with_its_place(content, parts, write, refusal):
    path = write("ratings_train.txt", content)
    refusal(lambda: read_nsmc(path), path, *parts)


def test_the_competition_file_is_grouped_to_dialogues_with_ids_as_keys(write):
    rows = '0,0,0,Ada,Hi\r\n1,0,1,Ben,"Oh, it\x92s you"\r\n2,4,0,,Hm\r\n'
    path = write("en_data.csv", "\ufeffid,i_dialog,i_utterance,speaker,utterance\r\n" + rows)
    assert read_competition(path) == (
        Dialogue((Utterance("Hi", speaker="Ada", key="0"), Utterance("Oh, it’s you", speaker="Ben", key="1"))),
        Dialogue((Utterance("Hm", key="2"),)),
    )


def test_the_real_friends_corpus_has_the_papers_counts(real_data):
    splits = {
        split: read_emotionlines(real_data / f"friends/friends_{split}.json") for split in ("train", "dev", "test")
    }
    assert {split: len(dialogues) for split, dialogues in splits.items()} == {
        "train": 720,
        "dev": 80,
        "test": 200,
    }
    lines = {split: list(utterances(dialogues)) for split, dialogues in splits.items()}
    assert {split: len(members) for split, members in lines.items()} == {
        "train": 10_561,
        "dev": 1_178,
        "test": 2_764,
    }
    assert label_counts(splits["train"]) == {
        "anger": 513,
        "disgust": 240,
        "fear": 185,
        "joy": 1283,
        "neutral": 4752,
        "non-neutral": 2017,
        "sadness": 351,
        "surprise": 1220,
    }
    every = [line for members in lines.values() for line in members]
    assert all(len(line.votes) == 7 and sum(line.votes) == 5 for line in every)
    text = "".join(line.text + line.speaker for line in every)
    assert not any(unicodedata.category(character) == "Cc" or character == "\xa0" for character in text)
    assert "company’s transition" in lines["train"][0].text


def test_the_real_competition_file_has_1623_rows_in_151_dialogues(real_data):
    dialogues = read_competition(real_data / "friends/en_data.csv")
    assert len(dialogues) == 151
    assert [line.key for line in utterances(dialogues)] == [str(number) for number in range(1623)]
    assert label_counts(dialogues) == {None: 1623}


def test_nsmc_reviews_without_a_label_are_read_to_be_predicted(tmp_path):
    (tmp_path / "new.txt").write_text("id\tdocument\tlabel\n1\t좋다\t\n2\t싫다\t0\n", encoding="utf-8")
    assert [d.utterances[0].label for d in read_nsmc(tmp_path / "new.txt")] == [None, "negative"]
