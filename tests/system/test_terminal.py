"""A terminal that is not UTF-8 gets plain characters, and no command fails on it."""

import os
import subprocess
import sys

import pytest

CODE = """
from bertgrid_tf.system.terminal import use_plain_characters
use_plain_characters()
from rich.console import Console
from rich.table import Table
table = Table("sweep", "≈")
table.add_row("2 × 3", "◀ chosen ▶ é ² 영")
Console(width=60).print(table, "≤ 5 s …")
"""


def output(encoding: str) -> str:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode(encoding)


def test_ascii_reads_alike():
    shown = output("ascii")
    assert "2 x 3" in shown
    assert r"< chosen > e 2 \uc601" in shown
    assert "<= 5 s ..." in shown
    assert "+---" in shown


@pytest.mark.parametrize(("encoding", "row"), [("latin-1", "< chosen > é ²"), ("euc-kr", "◀ chosen ▶ e ² 영")])
def test_what_a_terminal_has_is_printed_as_it_is(encoding, row):
    shown = output(encoding)
    assert "2 × 3" in shown
    assert row in shown


def test_utf_8_loses_nothing():
    shown = output("utf-8")
    assert "◀ chosen ▶ é ² 영" in shown
    assert "≤ 5 s …" in shown
    assert "┏━━━" in shown


@pytest.mark.parametrize(
    "words", [("tune", "sample", "--dry-run"), ("data", "list"), ("tune", "--help"), ("tune", "영화")]
)
def test_no_command_fails_on_an_ascii_terminal(words):
    command = [sys.executable, "-m", "bertgrid_tf", *words]
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode in (0, 2)
    assert b"Traceback" not in done.stderr
    assert (done.stdout + done.stderr).isascii()


def test_on_forty_columns_the_help_names_every_flag_in_full():
    environment = os.environ | {"COLUMNS": "40"}
    command = [sys.executable, "-m", "bertgrid_tf", "tune", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert all(len(line) <= 40 for line in done.stdout.splitlines())
    for flag in ("--learning-rates <str>", "--check-interactions", "--validation-split <str>"):
        assert flag in done.stdout
