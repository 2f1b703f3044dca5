"""The page of a GPU's figures: what it lacks is run and added, what went wrong is marked."""

import re
import shlex
from argparse import Namespace
from pathlib import Path

import pytest
import typer

from benchmarks.gpu import ROOMS, Section, main, sections, write_page
from bertgrid_tf.cli import app
from bertgrid_tf.errors import UserError

ROOT = Path(__file__).parents[2]
SECTIONS = [
    Section("First", "Why.", "echo run >> runs; echo one"),
    Section("Second", "", "printf 'bar 1\\rbar 2\\n'; exit 2", (0, 2)),
    Section("Third", "", "false | cat"),
]


def test_a_page_has_every_command_with_what_it_printed_and_marks_what_went_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path("gpu.md")
    assert write_page(page, SECTIONS, None) == ["Third"]
    text = re.sub(r"\d+ s\b", "0 s", page.read_text())
    assert text.startswith("# GPU\n\n")
    assert "## First\n\nWhy.\n\n```sh\necho run >> runs; echo one\n```\n\n```\none\n```\n\n0 s.\n\n## Second" in text
    assert "```\nbar 2\n```\n\n0 s.\n\n## Third" in text
    assert text.endswith("```\n\n```\n\n**It ended with code 1**, after 0 s.\n")


def test_a_page_goes_on_with_what_it_lacks_and_keeps_the_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = Path("gpu.md")
    write_page(page, SECTIONS[1:], None)
    assert write_page(page, SECTIONS, None) == []
    assert re.findall("(?m)^## (.*)", page.read_text()) == ["First", "Second", "Third"]
    write_page(page, SECTIONS, "First")
    assert Path("runs").read_text() == "run\n" * 2
    assert re.findall("(?m)^## (.*)", page.read_text()) == ["First", "Second", "Third"]
    with pytest.raises(
        UserError, match=r"--only 'Fourth' is no section of the page: give one of First, Second, Third\."
    ):
        write_page(page, SECTIONS, "Fourth")


def test_every_command_of_the_page_exists():
    flags = {"model": "my model", "data_dir": "data", "gpu_memory": "16GB", "work": "work", "large": "scratch:2x64"}
    listed = sections(Namespace(**flags, max_train_samples=60))
    assert len({section.name for section in listed}) == len(listed)
    tune = typer.main.get_command(app)
    for section in listed:
        for module in re.findall(r"python -m (benchmarks\.\w+)", section.line):
            assert (ROOT / f"{module.replace('.', '/')}.py").exists()
        for call in re.findall(r"bertgrid-tf ([^;|&>}]*)", section.line):
            name, *words = shlex.split(call)
            tune.commands[name].make_context(name, words)
    assert all((ROOT / "tests" / room).exists() for room in ROOMS)


@pytest.mark.slow
def test_the_memory_of_batches_is_beside_its_estimate(tmp_path, capsys):
    main(["checkpoint", "--model", "scratch:1x32", "--out", str(tmp_path / "tiny")])
    main(["batches", "--model", str(tmp_path / "tiny"), "--most", "2", "--set", "max_length=16"])
    rows = [line.strip("│ ").split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [int(row[0]) for row in rows] == [1, 2]


def test_without_the_libraries_compared_with_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.command.find_spec", lambda package: package == "pytest")
    page = tmp_path / "gpu.md"
    with pytest.raises(UserError, match=r"^torch, accelerate: not installed; pip install '\.\[benchmarks,test\]'\.$"):
        main(["all", "--model", "m", "--data-dir", "d", "--work", str(tmp_path / "work"), "--out", str(page)])
    assert not page.exists()
