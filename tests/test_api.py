"""The Python API: a study tuned on DataFrames, its tables, its model, its errors."""

import html
import io
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_study

import bertgrid_tf as bg

SETTINGS = {
    "text": "line",
    "label": "mood",
    "dialogue": "scene",
    "speaker": "who",
    "model": "scratch:1x32",
    "final_model": "scratch:1x32",
    "context": "current+previous",
    "sweeps": {"batch_size": [8, 16]},
    "sweep_epochs": 1,
    "learning_rates": [2e-3, 1e-3],
    "epochs": 2,
    "n_seeds": 2,
}


class Epochs(bg.Callback):
    """Remembers the trials whose epochs ended, and the messages."""

    def __init__(self) -> None:
        self.trials: list[str] = []
        self.messages: list[str] = []

    def on_message(self, message: str) -> None:
        self.messages.append(message)

    def on_epoch_end(self, trial: str, epoch: int, metrics: object) -> None:
        self.trials.append(trial)


def frame_of(scenes: int) -> pd.DataFrame:
    """Scenes of 3 lines whose rows take turns, so that no two rows of a scene are adjacent."""
    rows = [
        (f"s{scene}", "Ann" if line % 2 else "Bob", f"{('lovely', 'awful')[(scene + line) % 2]} film {line}", mood)
        for line in range(3)
        for scene in range(scenes)
        for mood in [("good", "bad")[(scene + line) % 2]]
    ]
    return pd.DataFrame(rows, columns=["scene", "who", "line", "mood"])


TRAIN, DEV = frame_of(20), frame_of(4)


def tune(folder: Path, **arguments: object) -> bg.Study:
    with tiny_study.blank_figures():
        return bg.tune(
            **{"train": TRAIN, "dev": DEV, "study": "moods", "results": folder, "progress": False} | arguments
        )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[bg.Study, Epochs, str]:
    """A finished study, what a callback received of it, and what it printed."""
    callback, out = Epochs(), io.StringIO()
    with redirect_stdout(out):
        study = tune(tmp_path_factory.mktemp("results"), callbacks=[callback], **SETTINGS)
    return study, callback, out.getvalue()


@pytest.fixture
def study(tuned: tuple[bg.Study, Epochs, str]) -> bg.Study:
    return tuned[0]


def test_the_import_loads_nothing_heavy_and_no_public_name_needs_tensorflow():
    code = """if True:
        import sys
        import bertgrid_tf
        dir(bertgrid_tf)
        heavy = {"tensorflow", "transformers", "keras", "tf_keras", "keras_tuner", "pandas", "numpy", "pydantic"}
        print(sorted(heavy.intersection(sys.modules)))
        for name in bertgrid_tf.__all__:
            getattr(bertgrid_tf, name)
        print("tensorflow" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nFalse\n"


def test_every_public_name_exists():
    assert all(getattr(bg, name) is not None for name in bg.__all__)
    with pytest.raises(AttributeError, match="no attribute 'tunes'"):
        _ = bg.tunes


def test_without_progress_nothing_is_printed(tuned):
    assert tuned[2] == ""


def test_the_grid_has_the_scores_of_the_cells_by_learning_rate_and_epoch(study):
    cells = pd.read_csv(study.path / "cells.csv")
    assert study.grid.index.tolist() == [2e-3, 1e-3]
    assert study.grid.columns.tolist() == [1, 2]
    for cell in cells.itertuples():
        assert study.grid.loc[cell.learning_rate, cell.epoch] == cell.accuracy


def test_sweeps_and_trials_are_tables_with_numbers(study):
    assert study.sweeps[["parameter", "level", "status"]].to_numpy().tolist() == [
        ["batch_size", "8", "COMPLETED"],
        ["batch_size", "16", "COMPLETED"],
    ]
    assert study.sweeps["chosen"].sum() == 1
    assert (study.mistakes["label"] != study.mistakes["predicted"]).all()
    assert {"id", "context", "text", "p_predicted", "kind"} <= set(study.mistakes)
    trials = study.trials
    assert set(trials["stage"]) == {"sweep:batch_size", "grid", "seeds", "final"}
    assert trials["trial"].is_unique
    assert (trials["status"] == "COMPLETED").all()
    assert trials["score"].between(0, 1).all()
    assert trials.loc[trials["stage"] == "sweep:batch_size", "batch_size"].tolist() == [8, 16]
    grid = trials[trials["stage"] == "grid"].set_index("learning_rate")
    for rate, epoch in grid["epoch"].items():
        assert grid.loc[rate, "score"] == study.grid.loc[rate, epoch] == study.grid.loc[rate].max()


def test_a_callback_receives_the_epochs_of_every_trial(tuned):
    study, callback, _ = tuned
    assert {trial for trial in callback.trials if trial.startswith("trial_")} == set(study.trials["trial"][:4])
    assert "final" in callback.trials


def test_findings_about_the_data_begin_a_study_and_are_in_its_report(tuned):
    study, callback, _ = tuned
    findings = [
        "Warning: 12 of the 12 texts of dev (100.0 %) stand in train too, as 'lovely film 0', 'awful film 1', "
        "'lovely film 2': take them out of one of the two, since the scores on dev are too good by them.",
        "Warning: The train DataFrame: 20 dialogues go on after another one has begun, since the id comes back, "
        "as 's0' (row 21), 's1' (row 22), 's2' (row 23): ",
    ]
    page = html.unescape((study.path / "report.html").read_text(encoding="utf-8"))
    for finding in findings:
        assert any(message.startswith(finding) for message in callback.messages)
        assert finding in page


def test_strict_refuses_findings_before_anything_is_trained(tmp_path):
    with pytest.raises(bg.UserError, match=r"^--strict refuses the data \(3 warnings\): The train DataFrame: 20 dial"):
        tune(tmp_path, strict=True, **SETTINGS)
    assert not list(tmp_path.iterdir())


def test_the_best_is_the_cell_that_the_final_model_repeats(study):
    best, final = study.best, study.trials.iloc[-1]
    assert best.hyperparameters.learning_rate == final["learning_rate"]
    assert (best.epoch, best.schedule_epochs) == (final["epoch"], 2)
    assert best.score.low <= best.score.value <= best.score.high
    assert study.analysis.best.epoch == best.epoch
    assert study.recipe.n_seeds == 2


@pytest.mark.slow
def test_a_study_is_extended_with_its_own_tables(study, tmp_path):
    path = Path(shutil.copytree(study.path, tmp_path / "moods"))
    opened = bg.open_study(path)
    with pytest.raises(bg.UserError, match=r"has no file that its training table could be read from again: give it as"):
        opened.extend(learning_rates=[5e-4])
    with pytest.raises(bg.UserError, match=r"The data of moods are no longer those"):
        opened.extend(learning_rates=[5e-4], data=TRAIN, progress=False)
    with pytest.raises(bg.UserError, match=r"^learning_rates must be a list of numbers, not 0\.0005\.$"):
        opened.extend(learning_rates=5e-4, data={"train": TRAIN, "dev": DEV})
    callback = Epochs()
    with tiny_study.blank_figures():
        grown = opened.extend([5e-4, 1e-3], data={"train": TRAIN, "dev": DEV}, callbacks=[callback], progress=False)
    assert grown is opened
    assert grown.grid.index.tolist() == [2e-3, 1e-3, 5e-4]
    assert callback.trials[:2] == ["trial_0004", "trial_0004"]
    # With the tables at hand, levels are added as well, and what is there trains nothing.
    with tiny_study.blank_figures():
        grown.extend(sweeps={"batch_size": [16, 32]}, progress=False)
    assert grown.sweeps["level"].tolist() == ["8", "16", "32"]


def test_strings_are_classified_in_their_order(study):
    texts = ["lovely film 1", "awful film 2", "lovely film 1"]
    table = study.predict(texts)
    assert table.columns.tolist() == ["label", "p_bad", "p_good"]
    np.testing.assert_allclose(table[["p_bad", "p_good"]].sum(axis=1), 1, atol=1e-5)
    assert (table["label"] == table[["p_bad", "p_good"]].idxmax(axis=1).str.removeprefix("p_")).all()
    np.testing.assert_allclose(table["p_bad"][0], table["p_bad"][2], atol=1e-6)
    assert study.predict(pd.Series(texts, index=list("xyz"))).index.tolist() == list("xyz")


def test_a_dataframe_s_rows_keep_their_order_and_index_and_see_their_dialogue(study):
    whole = DEV.set_index(np.arange(len(DEV)) + 100)
    table = study.predict(whole)
    assert table.index.tolist() == whole.index.tolist()
    for scene, rows in whole.groupby("scene"):
        np.testing.assert_allclose(
            table.loc[rows.index, "p_bad"], study.predict(rows)["p_bad"], atol=1e-5, err_msg=scene
        )
    alone = study.predict(whole["line"].tolist())
    later = np.arange(len(whole)) >= 4
    assert np.abs(table["p_bad"].to_numpy() - alone["p_bad"].to_numpy())[later].max() > 1e-4


def test_columns_of_other_names_can_be_given(study):
    renamed = DEV.rename(columns={"line": "words", "scene": "talk"})
    table = study.predict(renamed, text="words", dialogue="talk", speaker="who")
    np.testing.assert_allclose(table["p_bad"], study.predict(DEV)["p_bad"], atol=1e-6)
    with pytest.raises(
        bg.UserError, match="The DataFrame has no column 'line'; its columns are talk, who, words, mood"
    ):
        study.predict(renamed)


def test_a_study_on_dataframes_is_evaluated_and_asks_for_them_when_it_is_opened_later(study):
    metrics = study.evaluate("dev").metrics["final"]
    assert metrics["accuracy"] == study.trials["score"].iloc[-1]
    later = bg.open_study(study.path)
    with pytest.raises(bg.UserError, match=r"The table of moods is missing: .* pass it again in Python"):
        later.evaluate("dev")
    assert later.evaluate("dev", data={"train": TRAIN, "dev": DEV}).metrics["final"] == metrics
    with pytest.raises(bg.UserError, match="The data of moods are no longer those of the study"):
        later.evaluate("dev", data=TRAIN)
    assert pd.read_csv(study.path / "evaluations.csv")["split"].tolist().count("dev") >= 2


def test_the_same_dataframes_resume_a_study_and_others_are_refused(study):
    callback = Epochs()
    tune(study.path.parent, callbacks=[callback], **SETTINGS)
    tune(study.path.parent, callbacks=[callback], recipe=study.recipe)
    assert callback.trials == []
    with pytest.raises(bg.UserError, match="The data of moods are no longer those that the study in"):
        tune(study.path.parent, **(SETTINGS | {"train": frame_of(21)}))


def test_a_study_shows_itself_in_a_notebook(study):
    html = study._repr_html_()
    assert f"<strong>{study.path}</strong>" in html
    assert "data:image/svg+xml;base64," in html
    assert "learning_rate" in html or "learning rate" in html
    assert "<script" not in html
    assert repr(study) == f"Study({str(study.path)!r})"


def test_a_report_is_drawn_and_its_path_returned(study):
    with tiny_study.blank_figures():
        file = study.report()
    assert file == study.path / "report.html"
    assert file.is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "There is nothing to train on: name a corpus, or give a table as `train`."),
        ({"corpus": "sample", "text": "line"}, "The names of columns need a training table: give `train`."),
        ({"dev": DEV}, "A dev or test table needs a training table: give `train`."),
        ({"corpus": "freinds"}, "There is no recipe 'freinds': choose from friends, nsmc, sample"),
        ({"corpus": "sample", "epochz": 3}, "There is no setting 'epochz'; choose from model, learning_rate"),
        ({"corpus": "sample", "epochs": 0}, "Recipe sample: epochs must be a whole number from 1 to 10,000, not 0."),
        ({"corpus": "sample", "workers": 0}, "workers must be auto or a whole number from 1 to 1,024, not 0."),
        (
            {"corpus": "sample", "workers": 10**9},
            "workers must be auto or a whole number from 1 to 1,024, not 1000000000.",
        ),
        ({"corpus": "sample", "workers": "two"}, "workers must be auto or a whole number from 1 to 1,024, not 'two'."),
        ({"corpus": "sample", "budget": [1]}, "budget must be a time above 0 and below 315,360,000 seconds, not [1]."),
        ({"corpus": "sample", "budget": "9" * 400 + "h"}, "--budget '999"),
        ({"corpus": "sample", "gpu_memory": float("inf")}, "--gpu-memory 'infB' is not a size of at least 1 MiB"),
        ({"corpus": "sample", "gpu_memory": "1e400GB"}, "--gpu-memory '1e400GB' is not a size of at least 1 MiB"),
        ({"corpus": "sample", "study": "a/b"}, "'a/b' is no name for a study folder"),
        ({"corpus": "sample", "budget": "soon"}, "--budget 'soon' is no time to spend"),
        ({"corpus": "sample", "budget": 0}, "budget must be a time above 0 and below 315,360,000 seconds, not 0."),
        (
            {"corpus": "sample", "budget": float("nan")},
            "budget must be a time above 0 and below 315,360,000 seconds, not nan.",
        ),
        ({"corpus": "sample", "gpu_memory": 0}, "--gpu-memory '0B' is not a size of at least 1 MiB"),
        ({"train": ["good fun"]}, "train must be a DataFrame or the path of a table, not a list."),
        ({"train": TRAIN, "text": "words"}, "The train DataFrame has no column 'words'; its columns are scene, who"),
        (
            {"train": TRAIN.assign(mood=[None, *TRAIN["mood"][1:]]), "text": "line", "label": "mood"},
            "The train DataFrame, row 1: the column 'mood' is empty; label the row or take it out.",
        ),
    ],
)
def test_bad_arguments_of_tune_are_refused_in_a_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(bg.UserError) as refused:
        bg.tune(**arguments, progress=False)
    assert str(refused.value).startswith(sentence)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_study_and_texts_that_are_none_are_refused(tmp_path, study):
    with pytest.raises(bg.UserError, match="is no study folder"):
        bg.open_study(tmp_path)
    for texts, sentence in (
        ("one", "predict takes a list of texts"),
        ([], "There are no texts to classify"),
        (["one", None], "Text 2 must be a string, or a pair of strings, not None."),
        ([("one", None)], "Text 1 must be a string, or a pair of strings, not \\('one', None\\)"),
        ([("lovely film", "awful film")], "The model was trained on single texts: leave the second ones out."),
        (["one", "t\ud83dwo"], "Text 2 has half of a surrogate pair: give text.encode"),
    ):
        with pytest.raises(bg.UserError, match=sentence):
            study.predict(texts)


def test_settings_are_suggested_for_dataframes_and_a_damaged_study_of_one_s_own_is_a_warning(monkeypatch, tmp_path):
    columns = {"text": "line", "label": "mood", "dialogue": "scene", "speaker": "who"}
    monkeypatch.setenv("BERTGRID_BANK", str(tmp_path))
    (tmp_path / "mine.json").write_text("{")
    with pytest.warns(UserWarning, match=r"mine\.json is damaged") as warned:
        suggestion = bg.suggest(train=TRAIN, dev=DEV, **columns, model="scratch:1x32")
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert (suggestion.features.texts, suggestion.features.classes, suggestion.features.width) == (len(TRAIN), 2, 32)
    assert suggestion.learning_rate in suggestion.learning_rates
    with pytest.raises(bg.UserError, match="There is nothing to suggest for"):
        bg.suggest()
    with pytest.raises(bg.UserError, match="A dev or test table needs a training table"):
        bg.suggest(dev=DEV)
