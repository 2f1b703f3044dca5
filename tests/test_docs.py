"""The documentation agrees with the code: keys, rooms, links, commands and examples."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
import tiny_study
import typer
import yaml

from bertgrid_tf import cli
from bertgrid_tf.cli import app
from bertgrid_tf.corpus import SOURCES, sample
from bertgrid_tf.recipe import Recipe, keys_in_markdown, load_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*.md")])
# Whatever stands in for `bertgrid-tf` on a command line.
PROGRAM = re.compile(r"(?:^|\s)(?:(?<!-t )bertgrid-tf|docker/run|docker/slurm/study\.sbatch|run --rm study)(?=\s)")
NEEDS = {"a network", "Docker", "a GPU", "a checkpoint", "a cluster", "a server", "a study", "openssl"}
NEEDS |= {"minutes", "hours"}


def test_the_recipe_page_has_the_tables_that_the_recipe_prints():
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    tables = page.partition("<!-- keys -->")[2].partition("<!-- /keys -->")[0]
    assert tables.strip() == keys_in_markdown().strip(), "put there what `python -m bertgrid_tf.recipe` prints"


def test_the_drawing_of_the_house_names_every_room():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    drawing = re.findall(r"[\w.]+/?", readme.split("## The house")[1].split("```")[1])
    rooms = {path.name for path in ROOT.glob("bertgrid_tf/*.py")}
    rooms |= {f"{path.parent.name}/" for path in ROOT.glob("bertgrid_tf/*/__init__.py")}
    # The package itself and its one exception are no rooms.
    assert rooms - {"__init__.py", "__main__.py", "errors.py"} <= set(drawing)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", page.read_text(encoding="utf-8")):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def shell_lines(page: Path) -> Iterator[tuple[str, set[str]]]:
    """The command lines of a page's blocks, each with what it needs: by its own comment, or by one above it."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        above: set[str] = set()
        for line in block.splitlines():
            command, comment = [*re.split(r"(?:^|\s+)#", line, maxsplit=1), ""][:2]
            needs = {need for need in comment.partition("needs: ")[2].split(", ") if need}
            assert needs <= NEEDS, line
            if command:
                yield command, needs or above
            else:
                above = needs or above


def commands(page: Path) -> list[tuple[str, bool]]:
    """The command lines of a page, each with whether it is complete, as in a block, or a mention in the text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    mentions = re.findall(r"`([^`]+)`", text)
    all_lines = [(line, True) for line, _ in shell_lines(page)]
    all_lines += [(" ".join(mention.split()), False) for mention in mentions]
    return [(line, complete) for line, complete in all_lines if "--entrypoint" not in line]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Runs command lines in a folder with `examples/`, two tables, and the sample in the place of Friends."""
    for variable in [name for name in os.environ if name.startswith("BERTGRID_") and name != "BERTGRID_BANK"]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    for table in ("reviews.csv", "new.csv"):
        shutil.copy(Path("examples", table), table)
    Path("datasets", "friends").mkdir(parents=True)
    for split, dialogues in sample().splits.items():
        lines = [
            [{"speaker": u.speaker, "utterance": u.text, "emotion": u.label} for u in d.utterances] for d in dialogues
        ]
        Path("datasets", "friends", f"friends_{split}.json").write_text(json.dumps(lines), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    servers: list[subprocess.Popen[bytes]] = []

    def run(line: str) -> None:
        program, *words = shlex.split(line.replace("127.0.0.1:8000", address))
        assert program in {"bertgrid-tf", "head", "curl"}, "neither run by this test nor marked with what it needs"
        if program != "bertgrid-tf":
            if shutil.which(program):
                subprocess.run([program, *words, *(("--fail",) if program == "curl" else ())], check=True)
        elif words[0] == "serve":
            environment = os.environ | {"BERTGRID_HTTP_PORT": address.partition(":")[2], "PYTHONPATH": str(ROOT)}
            servers.append(subprocess.Popen([sys.executable, "-m", "bertgrid_tf", *words], env=environment))
            while True:
                try:
                    urlopen(f"http://{address}/healthz", timeout=5)
                    break
                except OSError:
                    assert servers[-1].poll() is None
                    time.sleep(0.2)
        else:
            monkeypatch.setattr(sys, "argv", ["bertgrid-tf", *words])
            with tiny_study.blank_figures():
                try:
                    cli.main()
                except SystemExit as ended:
                    assert not ended.code

    yield run
    for server in servers:
        server.terminate()
        assert server.wait() == 0


def test_every_command_is_run_here_or_says_what_it_needs(shell):
    for page in sorted(PAGES, key=lambda page: page.name != "index.md"):
        for line, needs in shell_lines(page):
            if not needs:
                print(f"{page.name}: {line}", flush=True)
                shell(line)
    table = Path("reviews.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    assert f"```\n{''.join(table[:4])}```" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_parses(page):
    for line, complete in commands(page):
        for words in map(shlex.split, PROGRAM.split(line)[1:]):
            command, name = typer.main.get_command(app), "bertgrid-tf"
            words = [word for word in words if word != "…"]
            while (group := getattr(command, "commands", None)) and words and not words[0].startswith("-"):
                name, *words = words
                assert name in group, line
                command = group[name]
            if group:
                continue
            try:
                command.make_context(name, words)
            except Exception as error:  # typer has click's exceptions, or its own copy of them
                assert type(error).__name__ == "MissingParameter" and not complete, f"{line}: {error}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_key_and_value_of_a_page_s_commands_is_a_recipe_s(page):
    for line, _ in commands(page):
        for flag, key, value in re.findall(r"--(set|sweep) ([a-z_.]+)=(\S+?)(?=[\s\]]|$)", line):
            override = {key: value} if flag == "set" else {f"sweeps.{key}": value.split(",")}
            load_recipe("sample", None, override)


@pytest.mark.parametrize("source", SOURCES.values(), ids=lambda source: source.name)
def test_a_public_corpus_has_a_page_with_the_size_and_the_checksum_of_every_file(source):
    page = (ROOT / "datasets" / f"{source.name}.md").read_text(encoding="utf-8")
    for file in source.files:
        assert f"| `{file.name}` | {file.size:,} | `{file.sha256}` |" in page


def test_every_benchmark_and_every_target_of_make_in_a_page_s_commands_exists():
    flags = {flag for path in ROOT.glob("benchmarks/**/*.py") for flag in re.findall(r'"(--[\w-]+)"', path.read_text())}
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for line, _ in commands(page):
            if match := re.search(r"python -m (benchmarks[\w.]*\w)(.*)", line):
                path = ROOT.joinpath(*match[1].split("."))
                assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), line
                assert set(re.findall(r"--[\w-]+", match[2])) <= flags, line
            if match := re.fullmatch(r"make ([\w-]+).*", line):
                assert match[1] in targets, line


def test_every_module_that_a_page_names_exists():
    for page in PAGES:
        for module in re.findall(r"`([\w/]+/\w+\.py)`", page.read_text(encoding="utf-8")):
            places = (ROOT, ROOT / "bertgrid_tf")
            assert "NAME" in module or any((place / module).exists() for place in places), f"{page.name}: {module}"


def test_the_recipes_and_the_python_of_the_pages_can_be_read():
    blocks = 0
    for page in PAGES:
        for language, code in re.findall(r"^```(yaml|python)\n(.*?)^```", page.read_text("utf-8"), re.M | re.DOTALL):
            blocks += 1
            if language == "yaml":
                Recipe.model_validate(yaml.safe_load(code))
            else:
                compile(code, page.name, "exec")
    assert blocks
