"""The spine of the house: every floor imports what stands below it, and nothing above."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"__main__"},
    {"cli"},
    {"__init__", "api"},
    {"study"},
    {"report"},
    {"inference"},
    {"analysis"},
    {"budget", "bank"},
    {"training"},
    {"bert"},
    {"storage"},
    {"data", "trial_config"},
    {"recipe"},
    {"hyperparameters"},
    {"corpus", "system", "metrics", "tuners"},
    {"errors"},
]
"""The rooms, from the top floor down; those of one floor do not know each other."""


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imported_rooms(file: Path) -> set[str]:
    """The rooms that a file imports, at its top or inside its functions, but not for type checking alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node not in typing_only:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {room for module in modules if (room := room_of(module))}


def room_of(module: str) -> str | None:
    """The room of a module of ours; None for the bare package, whose version and settings all may know."""
    package, *inner = module.split(".")
    if package == "tuners":
        return package
    here = ROOT / package
    known = package == "bertgrid_tf" and inner and ((here / inner[0]).is_dir() or (here / f"{inner[0]}.py").exists())
    return inner[0] if known else None


FILES = sorted([*ROOT.glob("bertgrid_tf/**/*.py"), *ROOT.glob("tuners/**/*.py")])


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_import_goes_down(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    here = "tuners" if parts[0] == "tuners" else parts[1]
    upwards = {room for room in imported_rooms(file) - {here} if floor_of(room) <= floor_of(here)}
    assert not upwards


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a process has after running `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_corpora_and_tables_need_no_tensorflow():
    loaded = loaded_by(
        "import bertgrid_tf.corpus, bertgrid_tf.budget.plan, bertgrid_tf.storage.study_folder, bertgrid_tf.system.gpu\n"
        "import bertgrid_tf.study.doctor, bertgrid_tf.report.summary, tuners.table, tuners.space"
    )
    assert "numpy" in loaded
    assert not loaded & {"tensorflow", "transformers", "keras", "keras_tuner"}


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "import os; os.environ.pop('TF_USE_LEGACY_KERAS', 0); import tensorflow as tf; tf.keras.Model\n"
            "import bertgrid_tf.bert",
            "TensorFlow was imported before bertgrid_tf and without TF_USE_LEGACY_KERAS=1",
        ),
        (
            "import os; os.environ['TF_USE_LEGACY_KERAS'] = '0'\nimport bertgrid_tf.bert",
            "TF_USE_LEGACY_KERAS must be 1",
        ),
    ],
)
def test_a_tensorflow_with_keras_3_gets_a_clear_error(code, sentence):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert sentence in done.stderr.splitlines()[-1]


def test_importing_bert_says_nothing_and_takes_no_folder_named_datasets_for_a_package():
    code = (
        "import bertgrid_tf.bert.trainer\n"
        "from transformers.utils import is_datasets_available\n"
        "assert not is_datasets_available()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert (ROOT / "datasets").is_dir()
    assert not list((ROOT / "datasets").glob("**/*.py"))
