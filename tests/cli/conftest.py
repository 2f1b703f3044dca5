"""What the tests of the commands share: an empty folder to run them in, and one finished study."""

import io
import os
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from console_script import TUNE, Answer, Command, own_rows, write_rows

from bertgrid_tf import cli


@pytest.fixture
def bertgrid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the console script in an empty folder."""
    for variable in [name for name in os.environ if name.startswith("BERTGRID_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["bertgrid-tf", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has Matplotlib write empty figures: real ones take longer than all training of a study of seconds."""
    blank = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **how: file.write(blank))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A table of one's own: 20 dialogues of 4 utterances, 2 speakers, 2 classes."""
    return write_rows(tmp_path / "own.csv", own_rows())


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished study of the sample that no test may change, and what the command printed."""
    results = tmp_path_factory.mktemp("results")
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(sys, "argv", ["bertgrid-tf", *TUNE, "--results", str(results)])
        cli.app(standalone_mode=False)
    return results / "sample", out.getvalue()


@pytest.fixture
def study(first_run: tuple[Path, str], tmp_path: Path) -> Path:
    """A finished study that a test may change: `*TUNE, "--results", study.parent` made it."""
    return Path(shutil.copytree(first_run[0], tmp_path / "results" / "sample"))
