"""The checks of this machine: their findings, and which of them keep a study from running."""

import errno
import json
import os
import platform
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread

import ordinary_user
import pytest
from huggingface_hub import constants
from made_up_gpus import A10, give

from bertgrid_tf import corpus as corpora
from bertgrid_tf import recipe
from bertgrid_tf.corpus import SOURCES
from bertgrid_tf.errors import UserError
from bertgrid_tf.study import doctor
from bertgrid_tf.study.doctor import CheckResult
from bertgrid_tf.system import host

NOWHERE = "http://127.0.0.1:9"
"""An address at which nothing answers."""
CHECKS = [
    *("packages", "Keras", "memory", "results", "cache", "corpus", "checkpoints", "processor", "TensorFlow"),
    "precision",
]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that answers every request with the status in its path."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run(*words: object, **environment: str):
    """Run the command in a process of its own, which reads the hub's address when it starts."""
    cli = ("-c", "from bertgrid_tf.cli import main; main()", "doctor")
    variables = {"HF_ENDPOINT": NOWHERE, "TF_USE_LEGACY_KERAS": "1", "HF_HUB_OFFLINE": "", "NO_PROXY": "*"}
    return ordinary_user.run(*cli, *words, environment=variables | environment)


@pytest.mark.slow
def test_the_sample_can_run_without_a_hub(tmp_path):
    folders = ("--results", tmp_path / "results", "--data-dir", tmp_path / "data")
    done = run("--json", *folders, HF_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    answer = json.loads(done.stdout)
    assert (answer["study"], answer["could_run"]) == ("sample", True)
    assert [finding["name"] for finding in answer["findings"]] == CHECKS
    found = {finding["name"]: finding["text"] for finding in answer["findings"]}
    assert found["checkpoints"] == "scratch:2x128, scratch:2x256: all here"
    assert found["precision"].count("TFLOP/s") == 3
    assert not [*tmp_path.iterdir()]


def test_a_study_that_could_not_run_has_exit_code_1_and_no_secret_is_printed(tmp_path):
    study_folder = tmp_path / "results"
    study_folder.mkdir(mode=0o555)
    cache = {"HF_HOME": str(tmp_path / "cache"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    secrets = {"HF_TOKEN": "hf_secret", "HF_ENDPOINT": "http://me:pass-word@127.0.0.1:9"}
    done = run("friends", "--results", study_folder, **cache, **secrets)
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    assert "hf_secret" not in done.stdout
    assert "pass-word" not in done.stdout
    problems = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("problem")}
    assert f"{study_folder} cannot be written (Permission denied) ▶ " in problems["results"]
    assert "http://…@127.0.0.1:9 cannot be reached ▶ connect, or give --model" in problems["checkpoints"]
    assert done.stdout.endswith("`bertgrid-tf tune friends` cannot run here: see the problems above.\n")


def test_where_tensorflow_does_not_load_the_checks_that_need_it_are_left_out(tmp_path):
    done = run("--json", "--results", tmp_path, TF_USE_LEGACY_KERAS="0")
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert [finding["name"] for finding in findings] == CHECKS[: CHECKS.index("TensorFlow") + 1]
    assert findings[1] == {
        "name": "Keras",
        "status": "problem",
        "text": "TF_USE_LEGACY_KERAS=0 asks for Keras 3",
        "remedy": "unset it, or set it to 1",
    }
    assert findings[-1]["text"].startswith("RuntimeError: TF_USE_LEGACY_KERAS must be 1")


def test_a_study_without_a_recipe_is_refused():
    done = run("freinds")
    assert done.returncode == 2
    assert done.stderr.startswith("There is no recipe 'freinds': choose from friends, nsmc, sample")


def test_a_check_that_fails_is_a_problem_without_secrets(monkeypatch, tmp_path):
    def fails() -> CheckResult:
        raise ValueError("cannot read\nthe token hf_secret")

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(doctor, "packages", fails)
    (found,) = doctor.examine(recipe.load_recipe("sample"), tmp_path, [tmp_path])
    assert found == CheckResult("problem", "ValueError: cannot read the token …", name="packages")


def test_the_versions_here_fit():
    assert doctor.packages().status == "ok"


def test_a_package_that_does_not_fit_or_is_missing_is_a_problem(monkeypatch):
    version = metadata.version

    def other(name: str) -> str:
        if name == "pandas":
            raise metadata.PackageNotFoundError(name)
        return "4.57.0" if name == "transformers" else version(name)

    monkeypatch.setattr(metadata, "version", other)
    found = doctor.packages()
    assert found.status == "problem"
    assert "transformers==4.54.1 is needed, and 4.57.0 is installed" in found.text
    assert "pandas>=2.2 is needed, and none is installed" in found.text


@pytest.mark.parametrize(("machine", "last"), [("x86_64", "processor"), ("aarch64", "precision")])
def test_an_x86_processor_needs_avx_and_tensorflow_is_not_tried_without(monkeypatch, tmp_path, machine, last):
    monkeypatch.setattr(host, "processor", lambda: ("Old", []))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(doctor, "precision", lambda: CheckResult("ok", ""))
    *_, found = doctor.examine(recipe.load_recipe("sample"), tmp_path, [tmp_path])
    assert (found.name, found.status == "problem") == (last, machine == "x86_64")


@pytest.mark.parametrize(
    ("size", "shared", "status"), [(8000, 1000, "ok"), (3000, 1000, "warning"), (8000, 64, "warning")]
)
def test_little_memory_is_a_warning(monkeypatch, size, shared, status):
    monkeypatch.setattr(host, "memory", lambda: size * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(shared * 10**6, 0, 0))
    found = doctor.memory()
    assert (found.status, found.remedy is None) == (status, status == "ok")


def test_little_space_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**10, 0, 2 * 10**9))
    text = f"{tmp_path}/not/yet, 2.0 GB free; a bert-base takes 5.0 GB"
    assert doctor.folder(tmp_path / "not" / "yet", "…") == CheckResult("warning", text, "make room, or …")


def test_a_folder_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "below"
    text = f"{below} cannot be written ({os.strerror(errno.ENOTDIR)})"
    assert doctor.folder(below, "choose another") == CheckResult("problem", text, "choose another")


def test_gpus_are_named_with_their_driver(monkeypatch):
    give(monkeypatch, A10, A10)
    text = f"{metadata.version('tensorflow')} on 2 × NVIDIA A10 (24 GB), driver 550.90.07"
    assert doctor.tensorflow() == CheckResult("ok", text)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of the hub with one model."""
    snapshot = tmp_path / "cache/models--someone--tiny/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "bert", "vocab_size": 6}')
    (snapshot / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    (snapshot / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm\n")
    (snapshot / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")  # a file of no tensors
    (refs := snapshot.parents[1] / "refs").mkdir()
    (refs / "main").write_text("0123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return snapshot


def of_models(*models: str) -> recipe.Recipe:
    return recipe.load_recipe("sample", overrides={"model": models[0], "final.model": models[-1]})


def test_a_model_that_is_not_here_needs_a_hub_that_answers(monkeypatch, cache, server):
    monkeypatch.setattr(constants, "ENDPOINT", f"{server}/503")
    found = doctor.checkpoints(of_models("someone/tiny", "someone/other"), [])
    text = f"not in the cache: someone/other; {server}/503 answers with status 503"
    assert (found.status, found.text) == ("problem", text)


def test_a_model_that_is_here_needs_no_hub(monkeypatch, cache):
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    for other in (str(cache), "scratch:2x128"):
        assert doctor.checkpoints(of_models("someone/tiny", other), []).status == "ok"
    (cache / "model.safetensors").unlink()
    tiny = of_models("someone/tiny")
    assert doctor.checkpoints(tiny, []).text == f"not in the cache: someone/tiny; {NOWHERE} cannot be reached"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert doctor.checkpoints(tiny, []).text == "not in the cache: someone/tiny; HF_HUB_OFFLINE is set"


def test_a_table_and_its_checkpoints_are_checked_as_the_study_would(cache, tmp_path):
    table = tmp_path / "films.csv"
    table.write_text("text,label\n" + "film film,good\nfilm,bad\n" * 20)
    columns = {"data.file": str(table), "data.text_column": "text", "data.label_column": "label"}

    def asked(**changes: object) -> recipe.Recipe:
        return recipe.load_recipe("films", overrides={**columns, "model": str(cache), "final.model": "none", **changes})

    found = doctor.corpus(asked(), [])
    assert (found.status, found.text) == ("ok", f"{table}: 2 classes, 36 texts in train, 4 texts in dev")
    assert doctor.checkpoints(asked(), []) == CheckResult("ok", f"{cache}: all here")
    with pytest.raises(UserError, match="max_length 600 is beyond the 512 positions"):
        doctor.checkpoints(asked(max_length=600), [])
    table.write_text("text,label\n" + "영화,good\n정말,bad\n" * 20)
    with pytest.raises(UserError, match="does not know these texts"):
        doctor.checkpoints(asked(), [])
    (cache / "tokenizer_config.json").unlink()
    table.write_text("text,label\n" + "film film,good\nfilm,bad\n" * 20)
    found = doctor.checkpoints(asked(), [])
    assert found.status == "warning"
    assert "leaves open whether its vocabulary is cased" in found.text
    (cache / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(UserError, match="no TensorFlow classifier"):
        doctor.checkpoints(asked(), [])


@pytest.mark.parametrize("address", [NOWHERE, "http://no.such.host.invalid", "no address", "http://[", "http://a..b"])
def test_an_address_without_a_server_cannot_be_reached(address):
    assert doctor._unreachable(address) == "cannot be reached"


def test_a_download_needs_a_cache_that_can_be_written(monkeypatch, tmp_path, server):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "ENDPOINT", f"{server}/200")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    found = doctor.checkpoints(of_models("someone/other"), [])
    assert found.status == "problem"
    assert f"{tmp_path}/file/hub cannot be written" in found.text


def test_a_corpus_is_here_or_can_be_fetched_or_is_a_problem(monkeypatch, tmp_path, server):
    friends, dirs = recipe.load_recipe("friends"), [tmp_path / "data", tmp_path / "cache"]
    source = SOURCES["friends"]
    monkeypatch.setattr(corpora, "SOURCES", {"friends": replace(source, hosts=(NOWHERE, f"{server}/200"))})
    text = "friends is not here yet: the study fetches 3 MB first"
    assert doctor.corpus(friends, dirs) == CheckResult("ok", text)
    monkeypatch.setattr(corpora, "SOURCES", {"friends": replace(source, hosts=(NOWHERE, f"{server}/503"))})
    found = doctor.corpus(friends, dirs)
    assert found.status == "problem"
    assert found.text.endswith(", and 127.0.0.1:9 cannot be reached")
    assert str(tmp_path / "data" / "friends") in (found.remedy or "")
    (tmp_path / "cache").mkdir()
    for file in source.files:
        (tmp_path / "cache" / file.name).touch()
    assert doctor.corpus(friends, dirs) == CheckResult("ok", f"friends in {tmp_path}/cache")
    (tmp_path / "file").touch()
    found = doctor.corpus(friends, [tmp_path / "file" / "data"])
    assert (found.status, found.remedy) == ("problem", "choose another with --data-dir")
