"""Whatever bytes a file of a study folder has, reading it gives a value or one sentence that names the file."""

import json
import os
import re
import shutil
from pathlib import Path

import made_up_study
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_study import right_in

from bertgrid_tf.analysis import analyze
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.metrics.correction import Correction
from bertgrid_tf.storage.predictions import read_predictions
from bertgrid_tf.storage.records import (
    FinalTrial,
    FollowUpTrial,
    MeasuredSetting,
    Mistake,
    SearchConfidence,
    Soup,
    StageTime,
)
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import TrialConfig

READERS = {
    "recipe.yaml": StudyFolder.read_recipe,
    "best.yaml": StudyFolder.read_best,
    "study.json": StudyFolder.read_metadata,
    "confidence.json": StudyFolder.read_confidence,
    "final.json": StudyFolder.read_final,
    "auto_settings.json": StudyFolder.read_auto_settings,
    "soup.json": StudyFolder.read_soup,
    "model/correction.json": StudyFolder.read_correction,
    "follow_up/seed2_0.001_2.json": StudyFolder.read_follow_ups,
    "trial_0000/trial.json": StudyFolder.read_trials,
    "sweeps.csv": StudyFolder.read_sweeps,
    "cells.csv": StudyFolder.read_table,
    "lengths.csv": StudyFolder.read_lengths,
    "times.csv": StudyFolder.read_times,
    "mistakes.csv": StudyFolder.read_mistakes,
    "evaluations.csv": StudyFolder.read_evaluations,
    "tracking.json": StudyFolder.tracking_id,
    "budget.jsonl": lambda folder: BudgetLog(folder.budget_file).sentences(),
    "predictions/trial_0100-1.csv": lambda folder: read_predictions(
        folder.predictions / "trial_0100-1.csv", made_up_study.LABELS, {"joy": 200, "neutral": 200}
    ),
    "model/config.json": lambda folder: folder.loading(folder.model).__enter__(),
}
WAYS_OUT = re.compile(
    r"(run the study's `tune` command again, which (writes it|fits it|trains the (trial|final model))|"
    r"restore (it|the folder) from a copy, or (start the study over with --fresh|delete it)|move that away|give back)"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study with a file of every kind that is read back."""
    levels = [("context", "current", right_in(0.7), "COMPLETED*"), ("context", "current+previous", None, "FAILED")]
    folder = made_up_study.make(
        tmp_path_factory.mktemp("whole") / "study",
        {(1e-3, 1): right_in(0.8), (1e-3, 2): right_in(0.7)},
        levels,
        sweeps={"context": ["current", "current+previous"]},
    )
    hyperparameters, epochs = Hyperparameters(), [{"accuracy": 0.5}]
    folder.write_best(folder.read_recipe(), "The winner")
    folder.write_confidence(SearchConfidence(0.5))
    folder.write_final(FinalTrial(hyperparameters, 2, epochs))
    config = TrialConfig(hyperparameters, 2, 2, seed=2, stage="seeds")
    folder.write_follow_up(FollowUpTrial("seed2_0.001_2", config, epochs))
    folder.write_auto_settings(
        {"hyperparameters.batch_size": MeasuredSetting(16, {"model": "x"}, "CPU", "it fits", [])}
    )
    folder.write_soup(Soup([(1e-3, 1)], [(1e-4, 2)], epochs[0]))
    folder.write_correction(Correction(0.5, [0.5, 0.5], 1.5))
    folder.write_lengths([3, 3, 4])
    folder.write_times([StageTime("start", None, 2.0, 1.0)])
    folder.write_mistakes([Mistake("1", "", "Hi", "joy", "neutral", 0.7, 0.3, 1, 1, "hard")])
    folder.append_evaluations([{"opened": "2026-01-01", "split": "test", "of": "final", "accuracy": 0.5}])
    folder.tracking_id()
    log = BudgetLog(folder.budget_file)
    log.choose(60, folder.read_recipe(), folder.read_recipe())
    log.add("stop", trial="learning_rate=0.001", epoch=1)
    names = {"id2label": {"0": "joy", "1": "neutral"}}
    (folder.model / "config.json").write_text(json.dumps(names))
    folder.trial_folder("0000").mkdir()
    values = config.values | {"tuner/stage": "grid"}
    trial = {"trial_id": "0000", "hyperparameters": {"space": [], "values": values}, "status": "RUNNING"}
    (folder.trial_folder("0000") / "trial.json").write_text(json.dumps(trial | {"score": None, "best_step": 0}))
    return folder


@pytest.fixture(scope="module")
def copy(whole: StudyFolder, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return StudyFolder(Path(shutil.copytree(whole.path, tmp_path_factory.mktemp("copy") / "study")))


@pytest.mark.parametrize("name", READERS)
def test_every_file_is_read_as_it_was_written(copy, name):
    READERS[name](copy)


def refused(folder: StudyFolder, name: str) -> str | None:
    try:
        READERS[name](folder)
    except UserError as error:
        sentence = str(error)
        assert "\n" not in sentence
        assert str(folder.path / name) in sentence
        assert WAYS_OUT.search(sentence), sentence
        return sentence
    return None


DAMAGES = st.one_of(
    st.binary(max_size=200).map(lambda new: lambda content: new),
    st.tuples(st.floats(0, 1), st.binary(max_size=20), st.integers(0, 30)).map(
        lambda drawn: (
            lambda content: content[: (at := int(drawn[0] * len(content)))] + drawn[1] + content[at + drawn[2] :]
        )
    ),
    st.tuples(
        st.sampled_from([b"0", b"1", b"0.5", b"0.75", b'"', b",", b"\n", b":"]),
        st.sampled_from([b"-1", b"NaN", b"1e999", b"9" * 5000, b"null", b"[]", b"\0", b"\\ud800", b"x" * 200_000, b""]),
        st.integers(1, 3),
    ).map(lambda drawn: lambda content: content.replace(*drawn)),
    st.sampled_from([b"[" * 100_000, b"{}", b"[1]", b"&a [*a]", b"a: 1\na: 2", b"PK\x03\x04"]).map(
        lambda new: lambda content: new
    ),
    st.just(lambda content: content + content),
)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=30)
@given(damage=DAMAGES)
def test_whatever_bytes_a_file_has_it_is_a_value_or_one_sentence_with_a_way_out(whole, copy, name, damage):
    content = (whole.path / name).read_bytes()
    (copy.path / name).write_bytes(damage(content))
    try:
        refused(copy, name)
    finally:
        (copy.path / name).write_bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_what_stands_in_a_file_s_place_is_neither_read_nor_waited_for(whole, tmp_path, name):
    folder = StudyFolder(Path(shutil.copytree(whole.path, tmp_path / "study")))
    for make in (os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")):
        path = folder.path / name
        path.unlink() if path.exists() and not path.is_dir() else None
        make(path)
        assert "is in its place): move that away" in str(refused(folder, name))
        path.rmdir() if path.is_dir() else path.unlink()


def test_a_link_to_itself_is_to_be_moved_away(whole, tmp_path):
    folder = StudyFolder(Path(shutil.copytree(whole.path, tmp_path / "study")))
    [file] = folder.follow_up.iterdir()
    file.unlink()
    file.symlink_to(file.name)
    with pytest.raises(
        UserError, match=r"seed2.* cannot be read \(Too many levels of symbolic links\): move that away"
    ):
        folder.read_follow_ups()


def with_key(*keys: str, value: object):
    def damage(content: bytes) -> bytes:
        record = inner = json.loads(content)
        for key in keys[:-1]:
            inner = inner[int(key) if isinstance(inner, list) else key]
        inner[keys[-1]] = value
        return json.dumps(record).encode()

    return damage


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("study.json", with_key("labels", value=["joy", "joy"])),
        ("study.json", with_key("labels", value=["joy", "anger"])),
        ("study.json", with_key("classes", value={})),
        ("study.json", with_key("classes", "train", "joy", value=-1)),
        ("confidence.json", with_key("tied", value=1.5)),
        ("final.json", with_key("epochs", value=[])),
        ("final.json", with_key("epochs", value=[{"macro_f1": 0.5}])),
        ("final.json", with_key("epochs", value=[{"accuracy": float("nan")}])),
        ("final.json", with_key("schedule_epochs", value=10**30)),
        ("auto_settings.json", with_key("hyperparameters.batch_size", "value", value=0)),
        ("auto_settings.json", with_key("hyperparameters.batch_size", "value", value="auto")),
        ("model/correction.json", with_key("priors", value=[1.0])),
        ("model/correction.json", with_key("temperature", value=0)),
        ("model/config.json", with_key("id2label", "0", value="anger")),
        ("follow_up/seed2_0.001_2.json", with_key("name", value="seed3_0.001_2")),
        ("trial_0000/trial.json", with_key("hyperparameters", "values", "batch_size", value=0)),
        ("cells.csv", lambda content: content.replace(b"0.001,2,", b"0.001,1,")),
        ("cells.csv", lambda content: content.replace(b"0.001,2,", b"0.001,3,")),
        ("cells.csv", lambda content: content.replace(b"accuracy", b"precision")),
        ("sweeps.csv", lambda content: content.replace(b"context,current,1", b"context,next,1")),
        ("sweeps.csv", lambda content: content.replace(b"context,current,1", b"context,current,nan")),
        ("lengths.csv", lambda content: content.replace(b"3,2", b"3,99999999999")),
        ("times.csv", lambda content: content.replace(b"1.000", b"-1.0")),
        ("predictions/trial_0100-1.csv", lambda content: content.replace(b"0.75", b"0.5", 1)),
        ("predictions/trial_0100-1.csv", lambda content: content.replace(b"0.75,0.25", b"1.75,-0.75", 1)),
        ("predictions/trial_0100-1.csv", lambda content: content[: content.rindex(b"\n", 0, -1) + 1]),
        ("predictions/trial_0100-1.csv", lambda content: content.replace(b",joy,", b",anger,", 1)),
        ("predictions/trial_0100-1.csv", lambda content: content.replace(b"p_joy,p_neutral", b"p_neutral,p_joy")),
        ("predictions/trial_0100-1.csv", lambda content: content.replace(b"\n0,", b"\n0.5,", 1)),
        ("budget.jsonl", lambda content: content.replace(b'"seconds"', b'"minutes"')),
        ("budget.jsonl", lambda content: content.replace(b'"epoch": 1', b'"epoch": 0')),
    ],
)
def test_what_could_not_have_been_written_is_damage_and_not_data(whole, copy, name, damage):
    content = (whole.path / name).read_bytes()
    damaged = damage(content)
    assert damaged != content
    (copy.path / name).write_bytes(damaged)
    try:
        assert "is damaged (" in str(refused(copy, name))
    finally:
        (copy.path / name).write_bytes(content)


def test_predictions_of_other_texts_than_the_study_s_others_are_damage(whole, tmp_path):
    folder = StudyFolder(Path(shutil.copytree(whole.path, tmp_path / "study")))
    path = folder.predictions / "trial_0100-2.csv"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *np.roll(lines, 1)]) + "\n")
    folder.final_file.unlink()
    with pytest.raises(UserError, match=r"trial_0100-2\.csv is damaged \(its texts are not those of the study's other"):
        analyze(folder)


def test_a_half_written_last_decision_has_no_effect(whole, tmp_path):
    path = tmp_path / "budget.jsonl"
    content = (whole.path / "budget.jsonl").read_bytes()
    path.write_bytes(content + b'{"decision": "st\xff')
    log = BudgetLog(path)
    log.add("end")
    assert path.read_bytes() == content + b'{"decision": "end"}\n'
