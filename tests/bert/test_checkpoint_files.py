"""What a checkpoint's files state is known, and what is wrong with them is one sentence, before TensorFlow starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import ordinary_user
import pytest
from families import wordpiece
from local_hub import hub
from safetensors.numpy import save_file

from bertgrid_tf.bert.checkpoint_files import cached, complete_folder, described_folder, identity, positions, split_name
from bertgrid_tf.errors import UserError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 440473133\n"
NO_TENSORS = b"\2\0\0\0\0\0\0\0{}"
"""A .safetensors file without tensors."""


def write(folder: Path, config: dict[str, object] | None = None, tokenizer: dict[str, object] | None = None) -> Path:
    """Write a folder that has all parts of a BERT but for the weights' content."""
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer or {"do_lower_case": True}))
    rows = wordpiece()(folder, ["the film was fun"])
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": rows, **(config or {})}))
    (folder / "model.safetensors").write_bytes(NO_TENSORS)
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write(tmp_path / "bert")


def test_what_the_files_state_needs_no_tensorflow(bert):
    code = (
        "import sys\n"
        "from bertgrid_tf.training import recipe_checks\n"
        "from bertgrid_tf.recipe import load_recipe\n"
        f"recipe = load_recipe('sample', overrides={{'model': {str(bert)!r}, 'final.model': 'none'}})\n"
        "recipe_checks.model_notes(recipe)\n"
        "from bertgrid_tf.data import open_corpus\n"
        "try: recipe_checks.check_recipe(recipe, open_corpus(recipe, []), final_here=False)\n"
        "except Exception as error: print(error)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "does not know these texts" in done.stdout


@pytest.mark.parametrize(
    ("remove", "sentence"),
    [
        (["config.json"], "is not a checkpoint: it has no config.json"),
        (["model.safetensors"], "has no weights: put model.safetensors or tf_model.h5 there"),
        (["vocab.txt"], "has no vocabulary: put vocab.txt or tokenizer.json there"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused(bert, remove, sentence):
    for name in remove:
        (bert / name).unlink()
    for locate in (complete_folder, described_folder, cached, positions, identity):
        with pytest.raises(UserError, match=sentence):
            locate(str(bert))


def test_pytorch_s_own_format_is_named_as_what_cannot_be_read(bert):
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    with pytest.raises(
        UserError, match=r"pytorch_model.bin alone cannot be read: put model.safetensors .*save_pretrained"
    ):
        complete_folder(str(bert))


@pytest.mark.parametrize("file", ["model.safetensors", "vocab.txt", "config.json", "tokenizer_config.json"])
def test_a_git_lfs_pointer_is_no_file(bert, file):
    (bert / file).write_text(POINTER)
    with pytest.raises(UserError, match=rf"{file} is a git-lfs pointer and not the file itself: run `git lfs pull`"):
        complete_folder(str(bert))


def test_pointers_to_weights_that_are_not_read_do_no_harm(bert):
    (bert / "pytorch_model.bin").write_text(POINTER)
    (bert / "tf_model.h5").write_text(POINTER)
    assert complete_folder(str(bert)) == bert


def test_every_shard_that_an_index_names_is_needed_and_identifies_the_checkpoint(bert):
    (bert / "model.safetensors").rename(bert / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (bert / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with pytest.raises(UserError, match=r"lacks model-00002-of-00002.safetensors, which its index names"):
        complete_folder(str(bert))
    (bert / shards["b"]).write_bytes(NO_TENSORS)
    one = identity(str(bert))
    save_file({"a": np.zeros(1)}, bert / shards["b"])
    assert identity(str(bert)) != one


@pytest.mark.parametrize(
    ("config", "tokenizer", "sentence"),
    [
        (
            {"model_type": "t5"},
            {},
            "of type 't5', for which transformers has no TensorFlow classifier; use a BERT, RoBERTa",
        ),
        ({"model_type": "modernbert"}, {}, "of type 'modernbert', for which transformers has no TensorFlow classifier"),
        ({"model_type": None}, {}, 'has no model_type: write one there, as "model_type": "bert"'),
        (
            {"auto_map": {"AutoModel": "x--y.JinaBert"}},
            {},
            r"needs Python code of its own \(.*x--y.JinaBert.*no code of a",
        ),
        ({}, {"auto_map": {"AutoTokenizer": ["tokenization_kobert.KoBertTokenizer", None]}}, "use .* klue/bert-base"),
        ({}, {"tokenizer_class": "KoBertTokenizer"}, r"Python code of its own \('KoBertTokenizer'\)"),
        (
            {"model_type": "roberta", "pad_token_id": 3},
            {},
            "pad_token_id 3, and transformers' roberta in TensorFlow counts",
        ),
    ],
    ids=str,
)
def test_what_transformers_has_no_classes_for_is_refused(tmp_path, config, tokenizer, sentence):
    with pytest.raises(UserError, match=sentence):
        described_folder(str(write(tmp_path / "folder", config, tokenizer)))


def test_code_beside_a_checkpoint_is_not_run(tmp_path):
    folder = write(tmp_path / "kobert", {"auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}})
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match="no code of a checkpoint is run"):
        complete_folder(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here", "a/b/c", "./nothing@v1"])
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(UserError, match="There is no checkpoint folder"):
        complete_folder(name)


def test_a_name_without_the_revision_that_it_announces_is_refused():
    with pytest.raises(UserError, match=r"'someone/tiny@' names no revision: write it as someone/tiny@REVISION"):
        split_name("someone/tiny@")


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path):
    folder = write(tmp_path / "tiny@v1")
    assert complete_folder(str(folder)) == folder


HUB_SCRIPT = """
import sys
from bertgrid_tf.bert.checkpoint_files import cached, complete_folder, described_folder, identity, positions
from bertgrid_tf.errors import UserError
for name in sys.argv[1:]:
    try:
        print("complete", *(file.name for file in complete_folder(name).glob("*.safetensors")))
    except UserError as error:
        print(error)
"""
LOADED = "complete model.safetensors"


def from_hub(address: str, cache: Path, *names: str, file_size: int = 0, script: str = HUB_SCRIPT) -> list[str]:
    """Locate hub models in a child process, since the hub's library reads the address when it is imported."""
    environment = {"HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_TOKEN": "secret", "HF_HUB_DISABLE_XET": "1"}
    done = ordinary_user.run("-c", script, *names, environment=environment, file_size=file_size)
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert "Fetching" not in done.stderr  # the hub's bar of files, of which nearly all may be there already
    return done.stdout.splitlines()


@pytest.fixture
def hub_files(tmp_path: Path) -> Path:
    """Two revisions of a model, and two that cannot be used."""
    write(tmp_path / "main")
    write(tmp_path / "v1", {"max_position_embeddings": 40})
    (write(tmp_path / "bin") / "model.safetensors").rename(tmp_path / "bin" / "pytorch_model.bin")
    write(tmp_path / "t5", {"model_type": "t5"})
    return tmp_path


def test_a_revision_of_a_hub_model_is_another_model(hub_files, tmp_path):
    models = {"someone/tiny": hub_files / "main", "someone/tiny@v1": hub_files / "v1"}
    names = ("someone/tiny", "someone/tiny@v1", "someone/tiny@v2")
    script = HUB_SCRIPT.replace(
        'print("complete"', "print(positions(name), complete_folder(name) == cached(name), identity(name)"
    )
    with hub(models) as (address, _):
        main, revision, unknown = from_hub(address, tmp_path / "cache", *names, script=script)
    assert main.startswith("512 True")
    assert revision.startswith("40 True")
    assert main.split()[2] != revision.split()[2]
    assert unknown == "someone/tiny has no revision v2 on the hub."
    assert from_hub(address, tmp_path / "cache", *names, script=script)[:2] == [main, revision]


def test_weights_are_not_downloaded_for_a_model_that_cannot_be_used_or_to_describe_one(hub_files, tmp_path):
    models = {f"someone/{name}": hub_files / name for name in ("main", "bin", "t5")}
    (hub_files / "main" / "own.py").touch()
    script = HUB_SCRIPT.replace("complete_folder(name).glob", "described_folder(name).glob")
    with hub(models) as (address, asked):
        main, binary, other = from_hub(address, tmp_path / "cache", *models, script=script)
    assert main == "complete"
    assert "has no weights but pytorch_model.bin" in binary
    assert "give a folder with model.safetensors" in binary
    assert "for which transformers has no TensorFlow classifier" in other
    assert not [path for path in asked if path.endswith((".safetensors", ".bin", ".h5", ".py"))]


@pytest.mark.parametrize("listed", ["../../../../escaped.json", 3])
def test_a_hub_that_lists_what_is_no_file_of_the_model_is_refused(bert, tmp_path, listed):
    with hub({"someone/tiny": bert}, [listed]) as (address, _):
        (output,) = from_hub(address, tmp_path / "cache", "someone/tiny")
    assert output.startswith("Checkpoint someone/tiny cannot be downloaded, since the hub's answer is none of a hub (")
    assert not list(tmp_path.rglob("escaped*"))


def test_the_hub_is_asked_once_and_its_cache_serves_when_it_is_gone_or_cannot_be_written(bert, tmp_path):
    with hub({"someone/tiny": bert}) as (address, asked):
        output = from_hub(address, tmp_path, "someone/tiny", "someone/unknown")
        for folder, _, _ in os.walk(tmp_path / "hub"):
            Path(folder).chmod(0o555)
        assert from_hub(address, tmp_path, "someone/tiny") == [LOADED]
    assert output[0] == LOADED
    assert output[1] == "someone/unknown is neither a folder here nor a (public) model on the hub."
    assert not [path for path in asked if path.endswith(".h5")]
    output = from_hub(address, tmp_path, "someone/tiny", "someone/other")
    assert output[0] == LOADED
    assert output[1].startswith("Checkpoint someone/other is not in the local cache and the hub cannot be reached")


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_hub(bert, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o555)
    with hub({"someone/tiny": bert}) as (address, _):
        output = from_hub(address, cache, "someone/tiny")
    assert output[0].startswith(
        f"Checkpoint someone/tiny must be downloaded, but the cache {cache}/hub cannot be written (Permission denied): "
    )


def test_a_full_disk_is_not_blamed_on_the_hub(bert, tmp_path):
    with hub({"someone/tiny": bert}) as (address, _):
        output = from_hub(address, tmp_path, "someone/tiny", file_size=5)
    assert output[0] == (
        f"Checkpoint someone/tiny cannot be stored in {tmp_path}/hub (File too large): mend that, or set HF_HOME to "
        "another folder."
    )
