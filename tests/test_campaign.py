"""A slice of the campaign, always the same: the first cases of the series that train next to nothing."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def campaign(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.campaign", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_first_cases_of_the_cheap_series_hold_and_are_written_down(tmp_path):
    words = ("--only", "cli,recipes,corpora,downloads", "--cases", "2", "--dir", str(tmp_path))
    done = campaign(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| in all | 8 | 0 | 0 | 0 | 0 |" in done.stdout
    (outcomes,) = tmp_path.glob("*/outcomes-1.jsonl")
    assert len(outcomes.read_text().splitlines()) == 8


def test_a_series_that_there_is_not_is_refused():
    assert "there is no series kill; choose from kills, signals," in campaign("--only", "kill").stderr
