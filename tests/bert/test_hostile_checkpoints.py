"""No code of a checkpoint is run: each payload here would write a file, and none does.

Whoever is asked for leave to run code answers yes.
"""

import contextlib
import io
import json
import pickle
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras
from families import wordpiece
from tiny_bert import trial
from transformers import AutoProcessor

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.checkpoint_files import complete_folder, described_folder
from bertgrid_tf.bert.tokenizer import load_tokenizer
from bertgrid_tf.bert.trainer import STATE_FILE
from bertgrid_tf.errors import UserError

OWN_CODE = "needs Python code of its own .* no code of a checkpoint is run"
OTHER_FILES = "of a tokenizer only the files of its folder are read, by their usual names: delete that key"


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def folder(tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A BERT without weights, in the working folder, with Python files of all names that somebody may import."""
    folder = tmp_path / "folder"
    folder.mkdir()
    rows = wordpiece()(folder, ["the film was fun"])
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": rows}))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    for name in ("own", "modeling", "tokenization", "tokenization_bert", "configuration_bert", "setup", "__init__"):
        classes = "".join(f"class {kind}: pass\n" for kind in ("Config", "Model", "Tokenizer", "Processor"))
        (folder / f"{name}.py").write_text(f"open({str(marker)!r}, 'w')\n{classes}")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 20))
    monkeypatch.chdir(folder)
    return folder


def state(file: Path, **keys: object) -> None:
    """Set keys of a JSON file."""
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.exists() else {}), **keys}))


def test_the_payloads_would_write_their_file(folder, marker):
    runpy.run_path(str(folder / "own.py"))
    assert marker.exists()
    marker.unlink()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists()


@pytest.mark.parametrize(
    ("file", "keys", "sentence"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}, OWN_CODE),
        ("config.json", {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}, OWN_CODE),
        ("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}, OWN_CODE),
        ("config.json", {"tokenizer_class": "own.Tokenizer"}, OWN_CODE),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.Tokenizer", "own.Tokenizer"]}}, OWN_CODE),
        ("tokenizer_config.json", {"auto_map": ["own.Tokenizer", None]}, OWN_CODE),
        ("tokenizer_config.json", {"tokenizer_class": "own.Tokenizer"}, OWN_CODE),
        ("tokenizer_config.json", {"tokenizer_class": ["BertTokenizer"]}, OWN_CODE),
        # Of transformers, but no tokenizers: they read further files, which name code.
        ("tokenizer_config.json", {"tokenizer_class": "AutoProcessor"}, OWN_CODE),
        ("tokenizer_config.json", {"tokenizer_class": "AutoTokenizer"}, OWN_CODE),
        ("tokenizer_config.json", {"tokenizer_class": "pipeline"}, OWN_CODE),
        # Its vocabulary is a pickle.
        ("tokenizer_config.json", {"tokenizer_class": "TransfoXLTokenizer"}, "has no fast version in transformers"),
        ("tokenizer_config.json", {"vocab_file": "/etc/hostname"}, OTHER_FILES),
        ("tokenizer_config.json", {"gguf_file": "own.gguf"}, OTHER_FILES),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "/dev/zero"}}, OTHER_FILES),
        ("tokenizer_config.json", {"init_inputs": ["/etc/hostname"]}, OTHER_FILES),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["../tokenizer.json"]}, OTHER_FILES),
        ("tokenizer.json", {"model": {"type": "own.Tokenizer"}}, "vocabulary of checkpoint .* cannot be read"),
        ("tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": 9}, "merges": ["a a"]}}, "cannot be read"),
        ("model.safetensors.index.json", {"metadata": {}, "weight_map": {"a": "../own.safetensors"}}, "weight_map"),
    ],
    ids=str,
)
def test_what_names_code_or_files_of_its_own_is_refused_in_one_sentence(
    folder, marker, monkeypatch, file, keys, sentence
):
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    state(folder / "preprocessor_config.json", auto_map={"AutoProcessor": "own.Processor"})
    (folder / "vocab.pkl").write_bytes(pickle.dumps(Payload(marker)))
    if file.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    state(folder / file, **keys)
    with pytest.raises(UserError, match=sentence) as refused:
        load_tokenizer(str(folder))
    assert "\n" not in str(refused.value)
    assert not marker.exists()


def test_a_class_of_transformers_that_is_no_tokenizer_would_have_run_code(folder, marker):
    state(folder / "preprocessor_config.json", auto_map={"AutoProcessor": "own.Processor"})
    with pytest.raises(AttributeError):
        AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    assert marker.exists()


def test_a_tokenizer_file_elsewhere_is_refused_where_it_would_be_read(folder):
    state(folder / "tokenizer_config.json", tokenizer_file="/elsewhere/tokenizer.json")
    tokenizer = load_tokenizer(str(folder))  # transformers ignores it, since the folder has no tokenizer.json
    tokenizer.save_pretrained(folder)
    state(folder / "tokenizer_config.json", tokenizer_file="/elsewhere/tokenizer.json")
    with pytest.raises(UserError, match=f"names '/elsewhere/tokenizer.json' as tokenizer_file, and {OTHER_FILES}"):
        load_tokenizer(str(folder))


def test_pickled_weights_are_refused_and_not_fallen_back_on(folder, marker):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    (folder / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(UserError, match=r"weights of checkpoint .* cannot be read: model\.safetensors: "):
        load(str(folder), ("a", "b"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"pytorch_model\.bin alone cannot be read"):
        load(str(folder), ("a", "b"))
    for name in ("model.safetensors", "tf_model.h5"):
        (folder / "pytorch_model.bin").rename(folder / name)
        with pytest.raises(UserError, match=rf"weights of checkpoint .* cannot be read: {name}: "):
            load(str(folder), ("a", "b"))
        (folder / name).rename(folder / "pytorch_model.bin")
    assert not marker.exists()


def test_a_keras_file_with_a_lambda_layer_gives_its_weights_alone(folder):
    (folder / "model.safetensors").unlink()
    layer = tf_keras.layers.Lambda(lambda x: (__import__("pathlib").Path("ran").touch(), x)[1], input_shape=(1,))
    model = tf_keras.Sequential([layer])
    with pytest.warns(UserWarning, match="legacy"):
        model.save("tf_model.h5")
    Path("ran").unlink()
    tf_keras.models.load_model("tf_model.h5", compile=False)  # runs it
    Path("ran").unlink()
    with h5py.File("tf_model.h5", "r+") as file:
        assert "Lambda" in file.attrs["model_config"]
    with pytest.raises(UserError, match="lacks weights of its encoder"):
        load(str(folder), ("a", "b"))
    assert not Path("ran").exists()


def test_a_deeply_nested_tokenizer_config_is_no_way_around(folder):
    inner: dict[str, object] = {"vocab_file": "/etc/hostname"}
    for _ in range(300):
        inner = {"a": [inner]}
    state(folder / "tokenizer_config.json", **inner)
    with pytest.raises(UserError):
        load_tokenizer(str(folder))


def test_a_chat_template_is_not_rendered(folder, marker):
    template = f"{{{{ cycler.__init__.__globals__.os.system('touch {marker}') }}}}"
    state(folder / "tokenizer_config.json", chat_template=template)
    (folder / "chat_template.jinja").write_text(template)
    assert load_tokenizer(str(folder)).tokenize("film") == ["film"]
    assert not marker.exists()


def test_python_files_beside_a_checkpoint_are_not_imported(folder, marker):
    assert complete_folder(".") == Path()
    assert described_folder(str(folder)) == folder
    load_tokenizer(".")
    assert not marker.exists()


def test_the_state_of_a_trial_is_not_unpickled(trainer, tmp_path, marker):
    np.savez(tmp_path / STATE_FILE, history=np.array([Payload(marker)], object))
    with contextlib.suppress(UserError):
        trainer._resume(trial(), tmp_path, 1)
    assert not marker.exists()
