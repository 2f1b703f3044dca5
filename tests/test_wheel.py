"""The package as `pip` installs it from a built wheel: nothing of the checkout is there."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bertgrid_tf", "tuners")
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-cache-dir")


def output(*command: object, folder: Path) -> str:
    """The output of a command that succeeds, in a process that knows nothing of the checkout."""
    unset = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
    environment = {
        k: v
        for k, v in os.environ.items()
        if k not in unset and (not k.startswith("BERTGRID_") or k == "BERTGRID_BANK")
    }
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline from the files that the image is built from."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", source / "dist")
    output(*PIP, "wheel", *options, source, folder=source)
    (built,) = (source / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel alone, which sees the dependencies of this process."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    output(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, folder=folder)
    purelib = output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    # Paths in a .pth file come after the environment's own packages, and the .pth files in them are not read.
    (Path(purelib) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if "__pycache__" not in path.parts]
    names = {str(path.relative_to(ROOT)) for path in files if path.is_file()}
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        fields = message_from_bytes(archive.read(metadata))
    assert packed == names
    assert {"bertgrid_tf/py.typed", "bertgrid_tf/recipes/sample.yaml", "bertgrid_tf/report/page.html.j2"} < packed
    assert {*fields["Requires-Python"].split(",")} == {">=3.10", "<3.14"}


def test_an_installed_wheel_answers_from_its_own_files(installed, tmp_path):
    code = "import bertgrid_tf, tuners; print(bertgrid_tf.__file__, tuners.__file__, sep='\\n')"
    for file in output(installed / "python", "-c", code, folder=tmp_path).splitlines():
        assert Path(file).is_relative_to(installed.parent)
    version = output(installed / "bertgrid-tf", "--version", folder=tmp_path)
    assert re.fullmatch(r"bertgrid-tf \d+\.\d+\.\d+, Python 3\.1\d\.\d+\n", version)


def test_an_installed_wheel_plans_the_sample_with_its_own_recipe(installed, tmp_path):
    assert "in all" in output(installed / "bertgrid-tf", "tune", "sample", "--dry-run", folder=tmp_path)
    assert "friends" in output(installed / "bertgrid-tf", "data", "list", folder=tmp_path)
    assert not list(tmp_path.iterdir())
