"""The documentation agrees with the code: keys, rooms, links, commands and examples."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from bertgrid_tf.cli import app
from bertgrid_tf.corpus import SOURCES
from bertgrid_tf.recipe import Recipe, keys_in_markdown, load_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("datasets/*.md")])
# Whatever stands in for `bertgrid-tf` on a command line.
PROGRAM = re.compile(r"(?:^|\s)(?:(?<!-t )bertgrid-tf|docker/run|docker/slurm/study\.sbatch|run --rm study)(?=\s)")


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


def commands(page: Path) -> list[tuple[str, bool]]:
    """The command lines of a page, each with whether it is complete, as in a block, or a mention in the text."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"(^|\s+)#.*", "", line) for block in blocks for line in block.splitlines()]
    mentions = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    all_lines = [(line, True) for line in lines] + [(" ".join(mention.split()), False) for mention in mentions]
    return [(line, complete) for line, complete in all_lines if "--entrypoint" not in line]


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


def test_every_benchmark_of_a_page_exists():
    for page in PAGES:
        for module in re.findall(r"python -m (benchmarks[\w.]*\w)", page.read_text(encoding="utf-8")):
            path = ROOT.joinpath(*module.split("."))
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


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
