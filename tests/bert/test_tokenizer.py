"""Case and accents are inferred from the vocabulary where no file states them."""

import json
from pathlib import Path

import pytest
from families import FAMILIES, pieces, wordpiece

from bertgrid_tf.bert.tokenizer import checkpoint_notes, load_tokenizer
from bertgrid_tf.errors import UserError

CASED = ["Nice start, Mary said", "the end of May", "Paris is nice"]
UNCASED = [text.lower() for text in CASED]
ACCENTED = ["le café était fermé", "où est la gare", "à bientôt"]
KOREAN = ["이 영화 정말 재미있다", "정말 지루하다"]


def write(folder: Path, texts: list[str], kind: str = "bert", tokenizer: dict[str, object] | None = None) -> str:
    """Write a checkpoint with empty weights and, unless it is given, no tokenizer_config.json."""
    folder.mkdir()
    vocabulary = {
        "bert": wordpiece(),
        "albert": next(family.vocabulary for family in FAMILIES if family.name == "albert"),
    }[kind]
    rows = vocabulary(folder, texts)
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "vocab_size": rows}))
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")  # a file of no tensors
    if tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return str(folder)


@pytest.mark.parametrize(
    ("texts", "text", "tokens", "note"),
    [
        (CASED, "Nice Mary nice", ["Nice", "Mary", "nice"], "capital letters, so texts keep their case."),
        (
            UNCASED,
            "Nice Mary",
            ["nice", "mary"],
            "0% of its words have capital letters, so texts are lower-cased, and lose",
        ),
        (ACCENTED, "Le Café", ["le", "café"], "are lower-cased, and keep their accents."),
        (KOREAN, "영화 정말", ["영화", "정말"], "and keep their accents."),
        ([*KOREAN, "KBS MBC"], "KBS 정말", ["KBS", "정말"], "so texts keep their case."),
    ],
    ids=["cased", "uncased", "accented", "Korean", "Korean with Latin words"],
)
def test_case_and_accents_follow_the_vocabulary_where_no_file_states_them(tmp_path, texts, text, tokens, note):
    name = write(tmp_path / "checkpoint", texts)
    assert load_tokenizer(name).tokenize(text) == tokens
    (found,) = checkpoint_notes(name)
    assert found.startswith(
        f"{name} leaves open whether its vocabulary is cased (no do_lower_case in tokenizer_config.json)"
    )
    assert note in found


def test_a_sentencepiece_vocabulary_is_judged_too(tmp_path):
    name = write(tmp_path / "checkpoint", [*CASED, *KOREAN], "albert")
    tokenizer = load_tokenizer(name)
    assert tokenizer.decode(tokenizer("Mary 정말")["input_ids"], skip_special_tokens=True) == "Mary 정말"
    assert checkpoint_notes(name)[0].endswith("so texts keep their case.")


@pytest.mark.parametrize("lower", [True, False])
def test_what_a_file_states_is_not_inferred(tmp_path, lower):
    name = write(tmp_path / "checkpoint", CASED, tokenizer={"do_lower_case": lower})
    assert load_tokenizer(name).tokenize("nice") == ["nice"]
    assert ("Nice" in load_tokenizer(name).tokenize("Nice")) is not lower
    assert checkpoint_notes(name) == []


def test_a_tokenizer_json_without_a_tokenizer_config_keeps_its_own_case(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path / "one", CASED, tokenizer={"do_lower_case": False}))
    name = write(tmp_path / "other", CASED)
    tokenizer.save_pretrained(name)
    (tmp_path / "other" / "tokenizer_config.json").unlink()
    assert load_tokenizer(name).tokenize("Nice Mary") == ["Nice", "Mary"]
    assert checkpoint_notes(name) == []


def test_a_saved_tokenizer_states_what_was_inferred(tmp_path):
    load_tokenizer(write(tmp_path / "one", CASED)).save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["do_lower_case"] is False


def test_a_sentencepiece_vocabulary_in_a_vocab_txt_is_not_read_as_wordpiece(tmp_path):
    # monologg/kobert: tokenizer_78b3253a26.model, a vocab.txt of its pieces, and a tokenizer in Python.
    name = write(tmp_path / "kobert", [text.replace(" ", " ▁") for text in KOREAN], tokenizer={"do_lower_case": False})
    pieces("tokenizer_78b3253a26.model", 0)(tmp_path / "kobert", KOREAN)
    with pytest.raises(
        UserError, match=r"Python code of its own \(its vocab.txt is that of a SentencePiece model\), and no"
    ):
        load_tokenizer(name)


def test_a_tokenizer_without_a_fast_version_is_refused(tmp_path):
    name = write(tmp_path / "checkpoint", CASED, tokenizer={"tokenizer_class": "BertGenerationTokenizer"})
    pieces("spiece.model", 0)(tmp_path / "checkpoint", CASED)
    with pytest.raises(UserError, match=r"BertGenerationTokenizer, has no fast version in transformers|cannot be read"):
        load_tokenizer(name)


def test_a_damaged_vocabulary_is_named(tmp_path):
    name = write(tmp_path / "checkpoint", CASED)
    (tmp_path / "checkpoint" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=rf"The vocabulary of checkpoint {name} cannot be read: "):
        load_tokenizer(name)
