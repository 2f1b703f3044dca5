"""The house's arrows: which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What each room may import of ours, beside itself and `errors`.
ARROWS = {
    "cli": {
        "budget",
        "evidence",
        "export",
        "recipe",
        "data",
        "study",
        "inference",
        "run",
        "results",
        "report",
        "corpus",
        "bert",
        "workers",
        "tuners",
        "doctor",
        "machine",
        "auto_settings",
    },
    "auto_settings": {"bert", "budget", "corpus", "machine", "recipe", "results", "run"},
    "budget": {"corpus", "recipe", "results", "tuners"},
    "study": {
        "follow_up",
        "bert",
        "soup",
        "budget",
        "evidence",
        "report",
        "auto_settings",
        "recipe",
        "results",
        "run",
        "workers",
        "corpus",
        "files",
        "tuners",
        "machine",
        "bertgrid_tf",
    },
    "inference": {
        "budget",
        "evidence",
        "bert",
        "corpus",
        "data",
        "files",
        "machine",
        "predictions",
        "recipe",
        "results",
        "run",
        "score",
    },
    "workers": {"auto_settings", "recipe", "results", "corpus", "run", "bert", "tuners", "bertgrid_tf"},
    "run": {"bert", "budget", "corpus", "predictions", "recipe", "score", "soup"},
    "export": {"bert", "corpus", "recipe", "results", "run", "score"},
    "predictions": {"files"},
    "soup": {"bert", "files", "recipe", "score"},
    "follow_up": {"budget", "evidence", "recipe", "results"},
    "evidence": {"budget", "corpus", "predictions", "recipe", "results", "score", "tuners"},
    "data": {"corpus", "recipe", "machine"},
    "results": {"files", "recipe", "score", "tuners"},
    "recipe": {"corpus", "score"},
    "doctor": {"bert", "corpus", "data", "machine", "recipe", "bertgrid_tf"},
    "report": {
        "budget",
        "corpus",
        "doctor",
        "evidence",
        "files",
        "inference",
        "recipe",
        "results",
        "score",
        "tuners",
    },
    "bert": {"files", "machine", "score", "bertgrid_tf"},
    "corpus": set(),
    "machine": set(),
    "score": set(),
    "files": {"tuners"},
    "errors": set(),
    "tuners": set(),
    "__init__": set(),
    "__main__": {"cli"},
}


def room(module: str) -> str:
    first, *rest = module.split(".")
    return rest[0] if first == "bertgrid_tf" and rest else first


def imports(file: Path) -> set[str]:
    """The rooms of ours that a file imports, at its top or inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "bertgrid_tf":
            modules = {alias.name for alias in node.names if alias.name != "__version__"}
            found |= {f"bertgrid_tf.{name}" for name in modules} or {"bertgrid_tf"}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {room(module) for module in found if module.split(".")[0] in ("bertgrid_tf", "tuners")}


FILES = sorted([*ROOT.glob("bertgrid_tf/**/*.py"), *ROOT.glob("tuners/**/*.py")])


def room_of(file: Path) -> str:
    package, *inner = file.relative_to(ROOT).with_suffix("").parts
    return package if package == "tuners" else inner[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_import_runs_against_the_arrows(file):
    here = room_of(file)
    assert imports(file) - {here, "errors"} <= ARROWS[here]


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a process has after running `code`."""
    script = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_corpora_and_tables_need_no_tensorflow():
    loaded = loaded_by(
        "import bertgrid_tf.corpus, bertgrid_tf.budget.plan, bertgrid_tf.storage.study_folder, bertgrid_tf.system.gpu\n"
        "import bertgrid_tf.study.doctor, tuners.table, tuners.space"
    )
    assert "numpy" in loaded
    assert not loaded & {"tensorflow", "transformers", "keras", "keras_tuner"}


def test_tuners_know_nothing_of_bertgrid():
    loaded = loaded_by("import tuners; tuners.CasualGridSearch, tuners.KerasTrainable")
    assert "keras_tuner" in loaded
    assert "bertgrid_tf" not in loaded


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
