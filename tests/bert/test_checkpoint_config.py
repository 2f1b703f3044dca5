"""A damaged config, vocabulary or weights file is one sentence, before anything is built of it."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from families import wordpiece
from safetensors.numpy import load_file, save_file

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.checkpoint_config import LARGEST_FILE
from bertgrid_tf.bert.checkpoint_files import complete_folder
from bertgrid_tf.bert.tokenizer import load_tokenizer
from bertgrid_tf.errors import UserError

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BERT with all of its shapes that are compared."""
    rows = wordpiece()(tmp_path, ["the film was fun"])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": rows, **SIZES}))
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    shapes = {
        "embeddings.word_embeddings": (rows, 8),
        "embeddings.position_embeddings": (12, 8),
        "embeddings.token_type_embeddings": (2, 8),
        **{f"encoder.layer.{layer}.intermediate.dense": (16, 8) for layer in (0, 1)},
    }
    weights = {f"bert.{name}.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert complete_folder(str(tmp_path)) == tmp_path
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as refused:
        complete_folder(str(folder))
        load_tokenizer(str(folder))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def with_keys(folder: Path, **keys: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))
    return folder


NO_NUMBERS = (None, "8", [8], {}, True, float("nan"), float("inf"), 10**30)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        *[(key, (*NO_NUMBERS, 0, -1, 8.5, 10**9)) for key in SIZES if key != "type_vocab_size"],
        ("vocab_size", (*NO_NUMBERS, 0, -1)),
        ("type_vocab_size", (*NO_NUMBERS, -1, 10**9)),
        ("layer_norm_eps", (*NO_NUMBERS, 0, -1, 1)),
        ("initializer_range", (*NO_NUMBERS, 0, -0.1, 2)),
        *[(key, (*NO_NUMBERS, -0.1, 1)) for key in ("hidden_dropout_prob", "attention_probs_dropout_prob")],
        ("classifier_dropout", (*NO_NUMBERS[1:], 1)),
        ("hidden_act", (None, 1, "glu", "unknown", ["gelu"])),
        ("position_embedding_type", ("relative_key", None)),
        ("is_decoder", (True, "no")),
        ("return_dict", (False,)),
        ("output_attentions", ("x", 1.5)),
        ("pruned_heads", ({"0": [1]}, [0])),
        ("num_labels", (*NO_NUMBERS, 0)),
        ("id2label", ([], "x", {"a": "b"})),
        ("architectures", ("BertModel", [1])),
        ("pad_token_id", ("x", -1, 1.5)),
    ],
)
def test_a_config_that_no_model_can_have_names_its_key(folder, key, values):
    for value in values:
        sentence = refusal(with_keys(folder, **{key: value}))
        assert sentence.startswith(f"{folder}/config.json is damaged: {key} must "), sentence


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"num_attention_heads": 3}, "hidden_size 8 is no multiple of its num_attention_heads 3"),
        ({"pad_token_id": 5_000}, "pad_token_id 5000 is beyond the"),
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, "num_labels is 3, and id2label names 2 labels"),
        ({"torch_dtype": 0}, "cannot be read: "),
        ({"problem_type": "\ud800"}, "received \\\\ud800 but only"),
        ({"vocab_size": 5_000}, "another model: by it, bert.embeddings.word_embeddings.weight has the shape"),
        ({"max_position_embeddings": 512}, r"position_embeddings.weight has the shape \(512, 8\), and .* \(12, 8\)"),
        ({"type_vocab_size": 1}, r"token_type_embeddings.weight has the shape \(1, 8\), and the file has \(2, 8\)"),
        ({"hidden_size": 16}, r"another model: by it, .* has the shape \(\d+, 16\)"),
        ({"intermediate_size": 32}, r"intermediate.dense.weight has the shape \(32, 8\), and the file has \(16, 8\)"),
        ({"num_hidden_layers": 1}, "it states num_hidden_layers 1, and the weights have 2 layers"),
        ({"num_hidden_layers": 12}, "it states num_hidden_layers 12, and the weights have 2 layers"),
        ({"model_type": ["bert"]}, r"is of type \['bert'\], for which transformers has no"),
        ({"model_type": "roberta", "pad_token_id": "\ud800"}, r"pad_token_id must be a valid integer, not '\\ud800'"),
        ({"model_type": "albert", "inner_group_num": 0}, "inner_group_num must be greater"),
        ({"model_type": "deberta-v2", "position_buckets": 10**9}, "position_buckets must be less"),
        ({"model_type": "deberta-v2", "pos_att_type": 0}, "pos_att_type must be a valid string, not 0"),
        ({"model_type": "distilbert", "dim": 0}, "dim must be greater than or equal to 1, not 0"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_named(folder, keys, sentence):
    with pytest.raises(UserError, match=sentence):
        complete_folder(str(with_keys(folder, **keys)))


def test_null_is_a_value_where_it_is_the_default(folder):
    complete_folder(str(with_keys(folder, classifier_dropout=None, architectures=None, torch_dtype=None)))


def nested(file: Path) -> None:
    file.write_bytes(b"[" * 100_000)


def endless(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def sparse(file: Path) -> None:
    with file.open("ab") as content:
        content.truncate(LARGEST_FILE + 1)


def of_itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "absent": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-3]),
    "begun": lambda file: file.write_bytes(file.read_bytes()[:9]),
    "random": lambda file: file.write_bytes(np.random.default_rng(1).bytes(999)),
    "zeros": lambda file: file.write_bytes(bytes(999)),
    "nested": nested,
    "no object": lambda file: file.write_bytes(b'"x"'),
    "long number": lambda file: file.write_bytes(b'{"a": ' + b"9" * 5_000 + b"}"),
    "folder": lambda file: (file.unlink(), file.mkdir()),
    "endless": endless,
    "sparse": sparse,
    "link to itself": of_itself,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"])
def test_a_damaged_file_is_one_sentence(folder, name, damage):
    damage(folder / name)
    if name == "tokenizer_config.json" and not (folder / name).is_file():
        load_tokenizer(str(folder))  # not every checkpoint has one
    elif name == "vocab.txt" and damage is DAMAGES["cut"]:
        assert len(load_tokenizer(str(folder))) > 5  # nothing tells that its last word was longer
    else:
        assert str(folder) in refusal(folder)


def test_a_panic_of_the_tokenizers_library_is_one_sentence(folder):
    load_tokenizer(str(folder)).save_pretrained(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    for key, value in (("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}), ("model", {})):
        (folder / "tokenizer.json").write_text(json.dumps(content | {key: value}))
        assert "vocabulary of checkpoint" in refusal(folder)


def test_a_vocabulary_without_a_token_for_unknown_characters_is_refused(folder):
    (folder / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\nfilm\n")
    assert "cannot be read: WordPiece error: Missing [UNK] token" in refusal(folder)


def test_a_part_of_a_vocabulary_is_refused(folder):
    with_keys(folder, vocab_size=30_000)
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"] = np.zeros((30_000, 8), np.float32)
    save_file(weights, folder / "model.safetensors")
    assert "does not fit together: its vocabulary has" in refusal(folder)


def test_a_file_of_tensorflow_has_the_same_shapes(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with h5py.File(folder / "tf_model.h5", "w") as file:
        for name, value in weights.items():
            tensorflow = name.replace(".dense.weight", "/dense/kernel").replace("layer.", "layer_._").replace(".", "/")
            tensorflow = tensorflow.replace("layer_/_", "layer_._").replace(
                "n_embeddings/weight", "n_embeddings/embeddings"
            )
            file[f"bert/{tensorflow}:0"] = value.T if tensorflow.endswith("kernel") else value
    assert complete_folder(str(folder)) == folder
    assert "intermediate.dense.weight has the shape (32, 8)" in refusal(with_keys(folder, intermediate_size=32))
    assert "num_hidden_layers 3, and the weights have 2" in refusal(
        with_keys(folder, intermediate_size=16, num_hidden_layers=3)
    )


def test_whatever_transformers_raises_of_weights_is_one_sentence(folder):
    (folder / "model.safetensors").unlink()
    with h5py.File(folder / "tf_model.h5", "w") as file:
        file.attrs["layer_names"] = [b"bert"]
    with pytest.raises(UserError, match=r"weights of checkpoint .* cannot be read: KeyError .Unable to .*'bert'"):
        load(str(folder), ("a", "b"))


def test_weights_that_are_integers_are_refused(folder):
    weights = {name: value.astype(np.int64) for name, value in load_file(folder / "model.safetensors").items()}
    save_file({"bert.embeddings.position_ids": np.arange(12), **weights}, folder / "model.safetensors")
    assert "model.safetensors: its values are of type I64, not F32" in refusal(folder)


def test_a_pooler_of_another_model_is_refused_and_not_drawn(saved):
    weights = load_file(saved / "model.safetensors")
    weights["bert.pooler.dense.weight"] = np.zeros((8, 8), np.float32)
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights of its encoder \(bert\.pooler\.dense\.weight"):
        load(str(saved), ("a", "b"))
