"""The notebooks of examples/ run on the embedded sample, and end as they promise."""

import ast
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_study

import bertgrid_tf as bg
from bertgrid_tf.corpus import utterances

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))
ELSEWHERE = {"install", "colab"}
"""The tags of the cells that need the package's wheel, or Colab."""
TINY = {"MODEL": "scratch:1x32", "FINAL_MODEL": "none", "LEARNING_RATES": [5e-3], "EPOCHS": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "friends": {
        "CORPUS": "sample",
        "MODEL": "scratch:1x32",
        "FINAL_MODEL": "none",
        "SWEEPS": {"context": ["current", "current+previous"]},
        "BUDGET": None,
    },
    "own_dataframe": {name: TINY[name] for name in ("MODEL", "LEARNING_RATES", "EPOCHS")},
    "resume": TINY | {"CORPUS": "sample", "RESULTS": "drive"},
    "submission": TINY | {"FOLDER": ".", "TEXT": "utterance", "LABEL": "emotion", "KEY": "line"},
}
needs_jupyter = pytest.mark.skipif(
    not (find_spec("nbclient") and find_spec("ipykernel")), reason="nbclient and ipykernel are not installed"
)


@pytest.fixture(autouse=True)
def competition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder that the notebooks run in, with the sample as the tables of a competition."""
    monkeypatch.chdir(tmp_path)
    splits = bg.load_corpus("sample")[1].splits
    for name, split in (("train", "train"), ("test", "dev")):
        rows = [(n, one.text, one.label) for n, one in enumerate(utterances(splits[split]), start=1)]
        table = pd.DataFrame(rows, columns=["line", "utterance", "emotion"])
        (table if name == "train" else table.drop(columns="emotion")).to_csv(f"{name}.csv", index=False)
    return tmp_path


def cells(name: str) -> list[tuple[set[str], str]]:
    """Tags and source of every code cell of a notebook; the settings have those of the sample behind them."""
    found = []
    for cell in json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            tags, source = set(cell["metadata"].get("tags", ())), "".join(cell["source"])
            if "parameters" in tags:
                asked = {target.id for target in ast.walk(ast.parse(source)) if isinstance(target, ast.Name)}
                assert asked == set(SETTINGS[name])
                source += "".join(f"\n{setting} = {value!r}" for setting, value in SETTINGS[name].items())
            found.append((tags, source))
    return [(tags, source) for tags, source in found if not tags & ELSEWHERE]


def run(name: str) -> dict[str, Any]:
    """Runs the cells of a notebook in this process; its variables."""
    variables: dict[str, Any] = {}
    with tiny_study.blank_figures():
        for _, source in cells(name):
            exec(compile(source, name, "exec"), variables)
    return variables


def test_every_notebook_begins_with_the_installation_and_has_settings_for_the_sample():
    assert set(SETTINGS) == set(NOTEBOOKS)
    for name in NOTEBOOKS:
        code = [cell for cell in json.loads((EXAMPLES / f"{name}.ipynb").read_text("utf-8"))["cells"] if cell["id"]]
        first = next(cell for cell in code if cell["cell_type"] == "code")
        assert first["source"] == ["%pip install --quiet ./bertgrid_tf-0.1.0-py3-none-any.whl"]
        assert first["metadata"]["tags"] == ["install"]


@pytest.mark.slow
def test_a_submission_has_a_label_for_every_row_of_the_test_table():
    run("submission")
    submission = pd.read_csv("submission.csv")
    assert submission.columns.tolist() == ["line", "emotion"]
    assert submission["line"].tolist() == pd.read_csv("test.csv")["line"].tolist()
    assert set(submission["emotion"]) <= set(pd.read_csv("train.csv")["emotion"])


@pytest.mark.slow
def test_a_study_on_a_drive_goes_on_where_the_session_ended():
    class Session(bg.Callback):
        def on_epoch_end(self, trial: str, epoch: int, metrics: object) -> None:
            raise KeyboardInterrupt

    asked = {"model": "scratch:1x32", "final_model": "none", "sweeps": {}, "learning_rates": [5e-3], "epochs": 2}
    with tiny_study.blank_figures(), pytest.raises(KeyboardInterrupt):
        bg.tune("sample", results="drive", data_dir="drive/datasets", callbacks=[Session()], **asked)
    state = Path("drive/sample/trial_0000/state.npz").stat().st_mtime_ns
    study = run("resume")["study"]
    assert Path("drive/sample/trial_0000/state.npz").stat().st_mtime_ns > state
    assert study.grid.index.tolist() == [5e-3, 2.5e-3]
    assert study.grid.notna().all(axis=None)


@pytest.mark.slow
def test_dataframe_and_friends_run_to_their_ends():
    own, friends = run("own_dataframe"), run("friends")
    assert own["study"].predict(["a great joke"])["label"].tolist() == ["positive"]
    assert friends["study"].sweeps["parameter"].tolist() == ["context"] * 2
    assert set(pd.read_csv("results/sample/evaluations.csv")["split"]) == {"test"}


@pytest.mark.slow
@needs_jupyter
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_in_jupyter(name, competition):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for _, source in cells(name)])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(competition)}}
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.outputs if output.output_type == "execute_result"]
    assert any("text/html" in output["data"] for output in shown)
    nbformat.validate(nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4))
