"""The image's files, as far as they can be tested without an engine; `docker/test` needs one."""

import configparser
import itertools
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.study_folder import StudyFolder

ROOT = Path(__file__).parents[2]
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
LOCKS = {name: ROOT / "docker" / f"requirements-{name}.lock" for name in ("cpu", "gpu", "test", "docs")}

# Records its arguments, has no image where NO_IMAGE is set, and does not answer where NO_ENGINE is.
ENGINE = """#!/bin/sh
printf '%s\\0' "$@" END >>"$RECORD"
if [ -n "$NO_ENGINE" ]; then echo "Cannot connect" >&2; exit 1; fi
if [ "$1" = image ] && [ -n "$NO_IMAGE" ]; then exit 1; fi
echo "$1 ran"
[ "$1" != run ] || exit 7
"""


@dataclass
class Typed:
    """The calls of the engine by `docker/run WORDS`, and their output."""

    calls: list[list[str]]
    code: int
    out: str
    err: str

    @property
    def run(self) -> list[str]:
        (call,) = [call for call in self.calls if call[0] == "run"]
        return call

    def values(self, option: str) -> list[str]:
        return [value for name, value in itertools.pairwise(self.run) if name == option]

    @property
    def mounted(self) -> list[str]:
        """Sources, each of them mounted at its own path."""
        matches = [re.fullmatch(r'type=bind,"source=(.*)","target=(.*)"', value) for value in self.values("--mount")]
        assert all(match and match[1] == match[2] for match in matches)
        return [match[1].replace('""', '"') for match in matches if match]


@pytest.fixture
def docker_run(tmp_path):
    """Types `docker/run WORDS` in a folder, with scripts in place of the engine and nvidia-smi."""
    commands = tmp_path / "bin"
    commands.mkdir()

    def executable(name: str, text: str) -> None:
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)

    executable("docker", ENGINE)

    def typed(*words: str, cwd: Path, gpu: bool = False, **variables: str) -> Typed:
        executable("nvidia-smi", f"#!/bin/sh\nexit {0 if gpu else 9}\n")
        record = tmp_path / "record"
        record.write_bytes(b"")
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        given = {"PATH": f"{commands}:{os.environ['PATH']}", "HOME": str(home), "RECORD": str(record)} | variables
        done = subprocess.run(
            [ROOT / "docker" / "run", *words],
            cwd=cwd,
            env=given,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        calls = [call.split("\0")[:-1] for call in record.read_text().split("END\0")[:-1]]
        return Typed(calls, done.returncode, done.stdout, done.stderr)

    return typed


@pytest.fixture
def here(tmp_path):
    folder = tmp_path / 'my "own", folder'
    folder.mkdir()
    return folder


def test_words_reach_the_command_as_they_were_typed(docker_run, here):
    words = ["tune", "my texts", "--set", "a=b c", "", "$HOME", "*"]
    typed = docker_run(*words, cwd=here)
    assert typed.run[typed.run.index("bertgrid-tf:cpu") + 1 :] == words


def test_the_caller_s_user_groups_and_folder_are_those_inside(docker_run, here):
    typed = docker_run("data", "list", cwd=here)
    assert typed.values("--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert set(typed.values("--group-add")) == {str(group) for group in {os.getgid(), *os.getgroups()}}
    assert typed.values("--workdir") == [str(here)]
    assert typed.mounted[0] == str(here)
    assert {"--rm", "--read-only"} < set(typed.run)


def test_the_exit_code_and_the_output_are_the_command_s(docker_run, here):
    typed = docker_run("tune", "sample", cwd=here)
    assert typed.code == 7
    assert typed.out == "run ran\n"
    assert "--tty" not in typed.run


def test_corpora_and_results_lie_here_and_checkpoints_in_the_user_s_cache(docker_run, here, tmp_path):
    typed = docker_run("tune", "friends", cwd=here)
    assert {"BERTGRID_DATA", "BERTGRID_RESULTS", "HF_HOME"} <= set(typed.values("--env"))
    assert typed.mounted == [str(here), str(tmp_path / "home" / ".cache" / "huggingface")]
    cached = docker_run("tune", "friends", cwd=here, XDG_CACHE_HOME=str(tmp_path / "other"))
    assert cached.mounted[1] == str(tmp_path / "other" / "huggingface")


def test_folders_named_in_arguments_are_mounted_once(docker_run, here, tmp_path):
    outside = [tmp_path / name for name in ("corpora", "tables", "models", "checkpoints")]
    for folder in outside:
        (folder / "deep").mkdir(parents=True)
    typed = docker_run(
        *(
            "tune",
            "mine",
            f"--data={outside[1]}/new.csv",
            "--model",
            "../models/deep",
            "--set",
            "final.model=../models",
        ),
        *("--dev-file", f"{outside[1]}/dev.csv", "--text-column", "/", "--study", "no/such"),
        cwd=here,
        BERTGRID_DATA=str(outside[0]),
        HF_HOME=str(outside[3]),
    )
    assert sorted(typed.mounted) == sorted(
        map(str, (here, outside[0], outside[1], outside[2] / "deep", outside[2], outside[3]))
    )


def test_folders_that_a_study_s_recipe_or_another_one_names_are_mounted(docker_run, here, tmp_path):
    tables = tmp_path / "a folder of tables, whose name has spaces and more letters than a line of YAML"
    for folder in (tables, tmp_path / "models", tmp_path / "others"):
        folder.mkdir()
    recipe = Recipe.model_validate(
        {
            "corpus": "mine",
            "data": {"file": tables / "#1: texts.csv", "text_column": "text", "label_column": "label"},
            "sweeps": {"model": [str(tmp_path / "models" / "small")]},
            "final": {"model": "../others/large"},
        }
    )
    StudyFolder(here / "results" / "mine").write_recipe(recipe)
    shutil.copy(here / "results" / "mine" / "recipe.yaml", here / "recipe.yml")
    for words in (["evaluate", "results/mine"], ["tune", "mine", "--recipe=recipe.yml"]):
        typed = docker_run(*words, cwd=here)
        assert typed.mounted[2:] == [str(tables), str(tmp_path / "models"), str(tmp_path / "others")]
        assert typed.run[-len(words) :] == words


def test_a_link_s_folder_is_mounted_behind_the_link_too(docker_run, here, tmp_path):
    (tmp_path / "large").mkdir()
    (here / "datasets").symlink_to(tmp_path / "large")
    assert str(tmp_path / "large") in docker_run("tune", "friends", cwd=here).mounted


def test_a_folder_that_would_hide_the_image_s_own_is_refused(docker_run, here):
    typed = docker_run("predict", "results/mine", "new.csv", "-o", "/usr/labels.csv", cwd=here)
    assert (typed.code, typed.calls) == (2, [])
    assert typed.err == "docker/run: /usr would hide a folder of the image's own; work in another one.\n"


def test_a_token_is_passed_by_name_and_its_value_is_nowhere(docker_run, here):
    typed = docker_run("tune", "friends", cwd=here, HF_TOKEN="hf_secret", BERTGRID_EPOCHS="5", BERTGRID_DOCKER_ARGS="")
    assert {"HF_TOKEN", "BERTGRID_EPOCHS"} < set(typed.values("--env"))
    assert "BERTGRID_DOCKER_ARGS" not in typed.run
    assert "hf_secret" not in f"{typed.calls}{typed.out}{typed.err}"


def test_a_token_of_serve_is_taken_for_no_folder(docker_run, here, tmp_path):
    (tmp_path / "secrets").mkdir()
    typed = docker_run("serve", "results/mine", cwd=here, BERTGRID_TOKEN=str(tmp_path / "secrets" / "x"))
    assert "BERTGRID_TOKEN" in typed.values("--env")
    assert str(tmp_path / "secrets") not in typed.mounted


def test_the_port_of_serve_is_published_on_this_host_alone(docker_run, here):
    def published(*words: str, **variables: str) -> list[str]:
        return docker_run(*words, cwd=here, **variables).values("--publish")

    assert published("serve", "results/mine") == ["127.0.0.1:8000:8000"]
    assert published("serve", "results/mine", "--port", "9000") == ["127.0.0.1:9000:9000"]
    assert published("serve", "--port=9000", "results/mine", BERTGRID_HTTP_PORT="9001") == ["127.0.0.1:9000:9000"]
    assert published("serve", "results/mine", BERTGRID_HTTP_PORT="9001") == ["127.0.0.1:9001:9001"]
    assert published("predict", "results/mine", "new.csv", "-o", "out.csv") == []


def test_a_gpu_is_used_where_there_is_one(docker_run, here):
    typed = docker_run("tune", "friends", cwd=here, gpu=True)
    assert typed.values("--gpus") == ["all"]
    assert "bertgrid-tf:gpu" in typed.run
    assert "bertgrid-tf:cpu" in docker_run("tune", "sample", cwd=here, gpu=True, BERTGRID_DOCKER_VARIANT="cpu").run


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_without_a_gpu_none_is_asked_for(docker_run, here):
    assert "--gpus" not in docker_run("tune", "friends", cwd=here).run
    typed = docker_run("tune", "friends", cwd=here, BERTGRID_DOCKER_VARIANT="gpu")
    assert "--gpus" not in typed.run
    assert "bertgrid-tf:gpu" in typed.run


def test_a_missing_image_is_built_first_and_a_present_one_is_not(docker_run, here):
    typed = docker_run(
        "--help", cwd=here, NO_IMAGE="1", BERTGRID_DOCKER_VARIANT="cpu", BERTGRID_DOCKER_BUILD_ARGS="--network host"
    )
    assert [call[0] for call in typed.calls] == ["image", "version", "build", "run"]
    assert typed.calls[2] == [
        *("build", "--build-arg", "VARIANT=cpu", "--target", "runtime", "--network", "host"),
        *("--tag", "bertgrid-tf:cpu", "--tag", "bertgrid-tf", str(ROOT)),
    ]
    assert "build ran" not in typed.out
    assert [call[0] for call in docker_run("--help", cwd=here).calls] == ["image", "run"]


def test_an_engine_that_does_not_answer_says_so_itself(docker_run, here):
    typed = docker_run("--help", cwd=here, NO_ENGINE="1")
    assert (typed.code, typed.err) == (1, "Cannot connect\n")


def test_more_arguments_come_last_so_that_they_win(docker_run, here):
    typed = docker_run("--help", cwd=here, BERTGRID_DOCKER_ARGS="--network none --shm-size 8g")
    assert typed.run[-6:] == ["--network", "none", "--shm-size", "8g", "bertgrid-tf:cpu", "--help"]
    assert typed.values("--shm-size") == ["2g", "8g"]


def test_another_engine_s_command_is_used_where_one_is_named(docker_run, here, tmp_path):
    (tmp_path / "bin" / "docker").rename(tmp_path / "bin" / "podman")
    assert docker_run("--help", cwd=here, DOCKER="podman").run


@pytest.mark.parametrize(
    "words", [("hadolint", "Dockerfile"), ("shellcheck", "docker/run", "docker/test", ".ci/run")], ids=lambda w: w[0]
)
def test_the_linters_pass(words):
    command = Path(sys.executable).parent / words[0]
    if not command.exists():
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run([command, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pins(lock: Path, python: str) -> dict[str, str]:
    """Package ▶ version, of the lines that apply to a Python on Linux."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"} | LINUX
    lines = (Requirement(line) for line in re.findall(r"^([\w.-]+==.*?) \\$", lock.read_text(), re.MULTILINE))
    return {
        line.name: str(line.specifier).removeprefix("==")
        for line in lines
        if line.marker is None or line.marker.evaluate(environment)
    }


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.mark.parametrize("name", LOCKS)
def test_every_version_that_is_locked_has_its_hashes(name):
    for entry in re.split(r"\n(?=\S)", re.sub(r"^ *#.*\n", "", LOCKS[name].read_text(), flags=re.MULTILINE)):
        assert re.match(r"[\w.-]+==\S+( ;.*)? \\\n +--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_agree_on_shared_packages(python):
    cpu, gpu, test, docs = (pins(lock, python) for lock in LOCKS.values())
    assert cpu.items() < gpu.items()
    assert cpu.items() < test.items()
    assert cpu.items() < docs.items()
    assert all(docs[name] == test[name] for name in docs.keys() & test.keys())
    assert {name.split("-")[0] for name in gpu.keys() - cpu.keys()} == {"nvidia"}


def test_every_python_but_the_oldest_gets_the_same_versions():
    for lock in LOCKS.values():
        assert pins(lock, "3.11") == pins(lock, "3.12") == pins(lock, "3.13")


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("name", "extras"),
    [
        *(("cpu", ["files", "ray", "serve"]), ("gpu", ["files", "ray", "serve", "gpu"])),
        ("test", ["files", "ray", "serve", "onnx", "mlflow", "wandb", "test", "dev"]),
        ("docs", ["files", "ray", "serve", "docs"]),
    ],
    ids=str,
)
def test_the_locks_satisfy_setup_cfg(name, extras, python):
    asked = [setup()["options"]["install_requires"], *(setup()["options.extras_require"][extra] for extra in extras)]
    locked = pins(LOCKS[name], python)
    for line in "\n".join(asked).splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert requirement.specifier.contains(locked[requirement.name.lower()]), line


def test_setup_cfg_the_makefile_and_the_workflow_name_the_same_pythons():
    parser = setup()
    assert parser["options"]["python_requires"] == ">=3.10,<3.14"
    classified = re.findall(r"Python :: (3\.\d+)", parser["metadata"]["classifiers"])
    filtered = re.search(r"filter ([\d. ]+),", (ROOT / "Makefile").read_text())
    assert tuple(classified) == PYTHONS == tuple(filtered[1].split() if filtered else ())
    assert parser["mypy"]["python_version"] == PYTHONS[0]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert {*workflow["jobs"]["ci"]["strategy"]["matrix"]["python"]} < {*PYTHONS}
    assert f'target-version = "py{PYTHONS[0].replace(".", "")}"' in (ROOT / "pyproject.toml").read_text()


def make(*words: str) -> subprocess.CompletedProcess[str]:
    # Not as a part of the `make test` that may run this.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--dry-run", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_refuses_other_pythons_before_it_makes_an_environment(tmp_path):
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)
    for python, what in ((old, "Python 3.9"), (tmp_path / "none", "no Python")):
        done = make("test", f"PYTHON={python}")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert f"bertgrid-tf needs Python 3.10 to 3.13, and {python} is {what}: name one, as in `make test PYTHON=" in (
            done.stderr
        )


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("version", PYTHONS)
def test_make_takes_any_of_its_pythons_into_an_environment_of_its_own(version, tmp_path):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    done = make("tune", f"PYTHON={python}", f"VENV={tmp_path}")
    assert done.returncode == 0
    assert f"{python} -m venv --clear {tmp_path}\n" in done.stdout
    assert f"touch {tmp_path}/.installed-{version}\n" in done.stdout


def test_the_image_s_label_is_the_package_s_version():
    assert f"ARG VERSION={setup()['metadata']['version']}\n" in (ROOT / "Dockerfile").read_text()


def travels(path: str) -> bool:
    """Whether a file goes to the engine, by .dockerignore: the last line that matches it or a folder above it wins."""
    above = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 2)]
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").replace("**/", "*")
        if line and not line.startswith("#") and any(fnmatch(name, pattern) for name in above):
            sent = line.startswith("!")
    return sent


@pytest.mark.parametrize(
    "path",
    [
        *("datasets/friends/friends_train.json", "datasets/mine.csv", "results/friends/model/model.safetensors"),
        *(
            ".git/config",
            ".venv/bin/python",
            ".env",
            "minilm/model.safetensors",
            "bertgrid_tf/cli/__pycache__/__init__.pyc",
        ),
    ],
)
def test_data_results_secrets_and_history_stay_out_of_images(path):
    assert not travels(path)


def test_files_that_the_image_copies_travel_to_the_engine():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split() if source != "."]
    assert "bertgrid_tf" in sources
    for source in [
        *sources,
        "CONTRIBUTING.md",
        "datasets/friends.md",
        "tests/conftest.py",
        "docs/recipe.md",
        "docker/run",
    ]:
        assert travels(source.replace("${VARIANT}", "cpu")), source
