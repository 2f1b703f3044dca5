"""The checks of this machine: what each finds, what it says, and what of it keeps a study from running."""

import errno
import json
import os
import platform
import shutil
import socket
from collections import namedtuple
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread

import ordinary_user
import pytest
from huggingface_hub import constants
from made_up_gpus import A10, M60, T4, give
from rich.console import Console

from bertgrid_tf import doctor, recipe
from bertgrid_tf.corpus import SOURCES
from bertgrid_tf.doctor import Finding
from bertgrid_tf.machine import host
from bertgrid_tf.report.doctor import finding_line

CLI = "from bertgrid_tf.cli import main; main()"
NOWHERE = "http://127.0.0.1:9"
"""An address at which nothing answers."""


def checked(*words: object, **environment: str):
    """What `doctor` prints and how it ends, in a process of its own, where it reads the hub's address."""
    asked = {"HF_ENDPOINT": NOWHERE, "TF_USE_LEGACY_KERAS": "1", "HF_HUB_OFFLINE": "", "NO_PROXY": "*"} | environment
    return ordinary_user.run("-c", CLI, "doctor", *words, environment=asked)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked here is on this machine, or nowhere."""
    monkeypatch.setenv("NO_PROXY", "*")


def silent(address: str) -> None:
    """A server that answers, whatever the address."""


def deaf(address: str) -> str:
    """A server that does not."""
    return "cannot be reached"


# The command


def test_the_sample_can_run_without_a_hub_and_no_secret_is_printed(tmp_path):
    done = checked(
        *("--json", "--results", tmp_path / "results", "--data-dir", tmp_path / "data"),
        HF_ENDPOINT="http://me:pass-word@127.0.0.1:9",
        HF_TOKEN="hf_secret",
        HF_HOME=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for secret in ("hf_secret", "pass-word"):
        assert secret not in done.stdout
    answer = json.loads(done.stdout)
    assert (answer["study"], answer["could_run"]) == ("sample", True)
    found = {finding["name"]: finding for finding in answer["findings"]}
    assert found["hub"] | {"remedy": ""} == {
        "name": "hub",
        "status": "warning",
        "text": "http://…@127.0.0.1:9 cannot be reached",
        "remedy": "",
    }
    assert found["token"]["text"] == "HF_TOKEN is set"
    assert found["transformers"] == {"name": "transformers", "status": "ok", "text": "4.54.1", "remedy": None}
    assert found["precision"]["text"].count("FLOP/s") == 3
    assert not [*tmp_path.iterdir()]


def test_what_keeps_a_study_from_running_is_said_and_the_exit_code_is_1(tmp_path):
    results = tmp_path / "results"
    results.mkdir(mode=0o555)
    done = checked("friends", "--results", results, TF_USE_LEGACY_KERAS="0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    problems = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("problem")}
    assert f"{results} cannot be written (Permission denied) ▶ " in problems["results"]
    assert "TF_USE_LEGACY_KERAS=0 asks for Keras 3 ▶ unset it, or set it to 1" in problems["Keras"]
    assert "RuntimeError: TF_USE_LEGACY_KERAS must be 1" in problems["TensorFlow"]
    assert done.stdout.endswith("`bertgrid-tf tune friends` cannot run here: see the problems above.\n")


def test_findings_come_before_tensorflow_has_been_loaded(tmp_path):
    names = []
    for finding in doctor.examine("no-such-study", tmp_path, [tmp_path]):
        names.append(finding.name)
        if finding.name == "recipe":
            break
    assert names[0] == "Python"
    code = (
        "import sys; from pathlib import Path; from bertgrid_tf import doctor\n"
        "for finding in doctor.examine('sample', Path(), [Path()]):\n"
        "    if finding.name == 'corpus': break\n"
        "print('tensorflow' in sys.modules)"
    )
    done = ordinary_user.run("-c", code, environment={"HF_ENDPOINT": NOWHERE})
    assert done.stdout == "False\n", done.stderr


# A check that fails itself


def test_a_check_that_breaks_is_a_problem_and_no_traceback(monkeypatch, tmp_path):
    def breaks() -> Finding:
        raise ValueError("cannot read\nthe token hf_secret")

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(doctor, "memory", breaks)
    found = next(finding for finding in doctor.examine("sample", tmp_path, [tmp_path]) if finding.name == "memory")
    assert found == Finding("memory", "problem", "ValueError: cannot read the token …")


def test_a_study_that_there_is_not_is_a_problem(tmp_path):
    findings = doctor.examine("freinds", tmp_path, [tmp_path])
    found = next(finding for finding in findings if finding.name == "recipe")
    assert found.status == "problem"
    assert found.text.startswith("There is no recipe 'freinds': choose from friends, nsmc, sample")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@hub.example/x is gone", "https://…@hub.example/x is gone"),
        ("https://hub.example/x@y", "https://hub.example/x@y"),
        ("token hf_secret", "token …"),
        ("the 1st core", "the 1st core"),
    ],
)
def test_secrets_are_left_out(monkeypatch, text, shown):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("ANY_KEY", "1")
    assert doctor.without_secrets(text) == shown


# Versions


def test_the_versions_here_are_those_that_are_asked_for():
    for name in ("tensorflow", "tf-keras", "keras-tuner", "transformers"):
        assert doctor.package_version(name).status == "ok"
    assert doctor.other_packages().status == "ok"
    assert doctor.python() == Finding("Python", "ok", platform.python_version())


def test_another_transformers_is_a_problem_with_its_reason(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "4.57.0")
    found = doctor.package_version("transformers")
    assert found.status == "problem"
    assert found.text == (
        "4.57.0, where ==4.54.1 is needed: 4.54.1 is the last release whose TensorFlow classes load .safetensors"
    )


def test_a_package_that_is_missing_is_a_problem(monkeypatch):
    version = metadata.version

    def without_pandas(name: str) -> str:
        if name == "pandas":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_pandas)
    found = doctor.other_packages()
    assert (found.status, found.text) == ("problem", "pandas not installed, where >=2.2 is needed")


# The machine


@pytest.mark.parametrize(("machine", "status"), [("x86_64", "problem"), ("aarch64", "ok")])
def test_an_x86_processor_needs_avx_and_tensorflow_is_not_tried_without(monkeypatch, tmp_path, machine, status):
    monkeypatch.setattr(host, "cpu", lambda: host.Cpu("Old", 2, ()))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert doctor.cpu().status == status
    if status == "problem":
        names = [finding.name for finding in doctor.examine("sample", tmp_path, [tmp_path])]
        assert "corpus" in names
        assert "TensorFlow" not in names


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("megabytes", "status"), [(64, "warning"), (1000, "ok")])
def test_little_shared_memory_is_worth_a_warning(monkeypatch, megabytes, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(megabytes * 10**6, 0, 0))
    found = doctor.shared_memory()
    assert found.status == status
    assert (found.remedy is None) == (status == "ok")


@pytest.mark.parametrize(("size", "status"), [(3 * 10**9, "warning"), (8 * 10**9, "ok")])
def test_little_memory_is_worth_a_warning(monkeypatch, size, status):
    monkeypatch.setattr(host, "memory", lambda: size)
    assert doctor.memory().status == status


def test_little_space_is_worth_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**10, 0, 2 * 10**9))
    found = doctor.folder("results", tmp_path / "not" / "yet", "give another with --results")
    assert found.status == "warning"
    assert found.text.startswith(f"{tmp_path}/not/yet has 2.0 GB left")


def test_a_folder_below_a_file_is_a_problem_unless_it_is_optional(tmp_path):
    (tmp_path / "file").touch()
    check = partial(doctor.folder, "results", tmp_path / "file" / "below", "give another with --results")
    assert check().status == "problem"
    assert check().text == f"{tmp_path}/file/below cannot be written ({os.strerror(errno.ENOTDIR)})"
    assert check(if_blocked="warning").status == "warning"


# GPUs


def test_gpus_are_named_with_memory_and_compute_capability(monkeypatch):
    give(monkeypatch, A10, A10)
    assert doctor.gpus() == Finding("GPU", "ok", "2 × NVIDIA A10 (24 GB), compute capability 8.6")


def test_a_gpu_that_is_too_old_is_a_problem_unless_there_is_another(monkeypatch):
    give(monkeypatch, M60)
    assert doctor.gpus().status == "problem"
    give(monkeypatch, M60, T4)
    found = doctor.gpus()
    assert found.status == "warning"
    assert found.text == "Tesla T4 (16 GB), compute capability 7.5; too old for TensorFlow: Tesla M60 (8.0 GB)"


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"fp32": 1, "bf16": 2, "fp16": 0.1}, "bf16 pays, 2.0 times fp32"),
        ({"fp32": 1, "bf16": 2, "fp16": 2.1}, "bf16 pays, 2.0 times fp32"),
        ({"fp32": 1, "bf16": 0.5, "fp16": 4}, "fp16 pays, 4.0 times fp32"),
        ({"fp32": 1, "bf16": 1.1, "fp16": 0.1}, "fp32 is as fast as any"),
    ],
)
def test_a_format_pays_where_it_is_clearly_faster(rates, said):
    assert doctor.worthwhile(rates) == said


@pytest.mark.parametrize(
    ("rate", "written"),
    [(3.14e8, "0.31 GFLOP/s"), (2e9, "2.0 GFLOP/s"), (2.07e11, "207 GFLOP/s"), (1.24e12, "1.2 TFLOP/s")],
)
def test_rates_have_two_digits_at_least(rate, written):
    assert doctor.flops(rate) == written


# The hub


@pytest.fixture
def server():
    """The address of a server that answers every request with the status in its path."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "failure"), [(200, None), (404, None), (307, None), (503, "answers with status 503")]
)
def test_a_server_that_answers_is_reached(monkeypatch, server, status, failure):
    monkeypatch.setattr(constants, "ENDPOINT", f"{server}/{status}")
    found = doctor.hub(doctor._answer)
    assert found.status == ("warning" if failure else "ok")
    assert failure is None or failure in found.text


@pytest.mark.parametrize("address", [NOWHERE, "http://no.such.host.invalid", "no address", "http://[", "http://a..b"])
def test_a_server_that_is_not_there_is_a_warning(monkeypatch, address):
    monkeypatch.setattr(constants, "ENDPOINT", address)
    found = doctor.hub(doctor._answer)
    assert found.status == "warning"
    assert found.text in (f"{address} cannot be reached", f"{address} does not answer within 3 seconds")


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(doctor, "_SECONDS_TO_ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert doctor._answer(address) in ("does not answer within 0.2 seconds", "cannot be reached")


def test_who_is_offline_by_wish_is_not_warned(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = doctor.hub(deaf)
    assert (found.status, found.text.split(":")[0]) == ("ok", "offline by wish (HF_HUB_OFFLINE)")


def test_a_token_is_set_or_not(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert doctor.token().text == "HF_TOKEN is set"
    monkeypatch.delenv("HF_TOKEN")
    assert doctor.token().text.startswith("HF_TOKEN is not set")


# The study's data and checkpoints


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of the hub with one model, of three small files."""
    snapshot = tmp_path / "cache/models--someone--tiny/snapshots/0123"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (snapshot / name).write_bytes(b"x" * 10**6)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_models_in_the_cache_are_listed_with_their_sizes(cache):
    assert doctor.cached_models() == Finding("models", "ok", "someone/tiny (3 MB)")


def test_no_cache_holds_no_models(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert doctor.cached_models() == Finding("models", "ok", "none in the cache")


def test_a_model_in_the_cache_needs_no_hub(cache):
    found = doctor.checkpoint("someone/tiny", deaf)
    assert (found.status, found.text) == ("ok", f"someone/tiny in {cache}/models--someone--tiny/snapshots/0123")


def test_an_incomplete_model_in_the_cache_needs_the_hub(cache):
    next(cache.rglob("model.safetensors")).unlink()
    assert doctor.checkpoint("someone/tiny", deaf).status == "problem"
    assert doctor.checkpoint("someone/tiny", silent).status == "ok"


def test_a_model_that_is_not_here_needs_the_hub(monkeypatch, cache):
    assert doctor.checkpoint("someone/other", silent) == Finding(
        "checkpoint", "ok", "someone/other is not here yet: the study downloads it"
    )
    found = doctor.checkpoint("someone/other", deaf)
    assert found.status == "problem"
    assert found.text.startswith("someone/other is not in the cache, and ")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = doctor.checkpoint("someone/other", silent)
    assert (found.status, found.text) == ("problem", "someone/other is not in the cache, and HF_HUB_OFFLINE is set")


def test_a_model_that_is_not_here_needs_a_cache_that_can_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    found = doctor.checkpoint("someone/other", silent)
    assert found.status == "problem"
    assert f"the cache {tmp_path}/file/hub cannot be written" in found.text


def test_a_folder_and_scratch_need_no_hub(cache):
    snapshot = next(cache.rglob("config.json")).parent
    assert doctor.checkpoint(str(snapshot), deaf).status == "ok"
    assert doctor.checkpoint("scratch:2x128", deaf).text == "scratch:2x128 is drawn, not loaded"


def test_every_checkpoint_of_a_recipe_is_checked():
    assert doctor.models(recipe.load("friends")) == [
        *("bert-base-cased", "bert-base-uncased", "bert-large-cased", "bert-large-uncased"),
    ]
    assert doctor.models(recipe.load("sample")) == ["scratch:2x128", "scratch:2x256"]


def test_a_corpus_is_here_or_can_be_fetched_or_is_a_problem(tmp_path):
    asked, dirs = recipe.load("friends"), [tmp_path / "data", tmp_path / "cache"]
    found = doctor.corpus(asked, dirs, silent)
    assert (found.status, found.text) == ("ok", "friends is not here yet: the study fetches 3 MB first")
    found = doctor.corpus(asked, dirs, deaf)
    assert found.status == "problem"
    assert found.text.endswith(", and raw.githubusercontent.com cannot be reached")
    assert str(tmp_path / "data" / "friends") in (found.remedy or "")
    (tmp_path / "cache").mkdir()
    for file in SOURCES["friends"].files:
        (tmp_path / "cache" / file.name).touch()
    assert doctor.corpus(asked, dirs, deaf) == Finding("corpus", "ok", f"friends in {tmp_path}/cache")


def test_a_corpus_that_is_nowhere_needs_a_folder_that_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    found = doctor.corpus(recipe.load("friends"), [tmp_path / "file" / "data"], silent)
    assert (found.status, found.remedy) == ("problem", "give another with --data-dir")


def test_the_sample_s_corpus_is_in_the_package(tmp_path):
    assert doctor.corpus(recipe.load("sample"), [tmp_path], deaf).status == "ok"


# On the terminal


FOUND = Finding("hub", "warning", "https://hub.example/[x] cannot be reached, " + "for many a reason " * 9, "connect")


def shown(finding: Finding, fold: bool, width: int) -> list[str]:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(finding_line(finding, fold), soft_wrap=not fold)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [40, 70, 200])
def test_a_terminal_of_any_width_gets_columns(width):
    lines = shown(FOUND, True, width)
    assert lines[0].startswith("warning  hub              https://")
    assert all(line.startswith(" " * 26) and len(line) <= width for line in lines[1:])
    assert "".join(line[26:].strip() for line in lines).endswith("▶ connect")


def test_a_pipe_gets_one_line_a_finding():
    assert shown(FOUND, False, 40) == [f"warning  hub              {FOUND.text} ▶ connect"]
    assert shown(replace(FOUND, remedy=None, status="ok"), False, 40) == [f"ok       hub              {FOUND.text}"]
