from itertools import islice
from pathlib import Path

import pytest
import yaml

from benchmarks import command
from benchmarks.record import Recording, main, read_list, rows, table, task_recipe
from benchmarks.trial_series import TimeLeft, TrialSeries
from bertgrid_tf.bank.studies import read_studies
from bertgrid_tf.errors import UserError


@pytest.fixture(scope="module")
def overrides():
    return {"metric": "loss"}  # which differs wherever runs do


@pytest.mark.slow
def test_a_killed_recording_resumes_and_ends_with_the_same_table(recipe, corpus, tmp_path):
    whole = list(rows(TrialSeries(tmp_path / "whole", recipe, corpus), recipe, 1))
    assert [(cell.learning_rate, cell.epoch) for cell in whole] == [(2e-3, 1), (2e-3, 2), (1e-3, 1), (1e-3, 2)]

    series = TrialSeries(tmp_path / "killed", recipe, corpus)
    killed = list(islice(rows(series, recipe, 1), 3))
    resumed = list(rows(series, recipe, 1))
    # An epoch from before the kill keeps its seconds, so it was not trained twice.
    assert resumed[:3] == killed
    assert table(resumed, recipe) == table(whole, recipe)


def test_another_schedule_cannot_join_a_recording(recipe, corpus, tmp_path):
    TrialSeries(tmp_path, recipe, corpus)
    with pytest.raises(UserError, match=r"another recipe \(they differ in epochs\): choose another --work"):
        TrialSeries(tmp_path, recipe.model_copy(update={"epochs": 3}), corpus)


@pytest.mark.slow
def test_a_list_is_recorded_into_a_bank_that_names_no_text_path_or_class(tmp_path, monkeypatch):
    texts = [("pos", "good fun"), ("neg", "so dull")] * 20
    lines = [f"{text} {n},{label},{'dev' if n > 29 else 'train'}" for n, (label, text) in enumerate(texts)]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "fun.csv").write_text("text,label,split\n" + "\n".join(lines) + "\n")
    recording = {"tasks": ["fun"], "model": "scratch:1x32", "texts": 24, "learning_rates": [2e-3], "epochs": 2}
    (tmp_path / "list.yaml").write_text(yaml.safe_dump([recording, recording | {"seeds": [1, 2]}]))
    bank = tmp_path / "bank"
    flags = ["--data-dir", str(tmp_path), "--work", str(tmp_path / "work"), "--out", str(bank)]
    monkeypatch.setattr("sys.argv", ["record", str(tmp_path / "list.yaml"), *flags])
    main()
    (study,) = read_studies(bank)
    assert (study.name, study.scores.shape, study.card.seeds) == ("fun-24-scratch-1x32", (2, 1, 2), (1, 2))
    assert (study.card.texts, study.card.classes, study.card.label_entropy) == (24, 2, 1.0)
    written = (bank / "fun-24-scratch-1x32.json").read_text()
    assert not any(word in written for word in (str(tmp_path), "dull", "pos"))


def test_a_list_that_is_none_and_a_checkpoint_without_a_folder_are_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- tasks: trec\n")
    with pytest.raises(UserError, match=r"list\.yaml is no list of recordings"):
        read_list(tmp_path / "list.yaml")
    recording = Recording(tasks=["trec"], model="minilm", learning_rates=[1e-4], epochs=1)
    with pytest.raises(UserError, match="give --checkpoint minilm=DIR"):
        task_recipe(recording, "trec", tmp_path, {})


def test_the_list_of_the_bank_can_be_read():
    assert len({one.name(task) for one in read_list(Path("benchmarks/bank.yaml")) for task in one.tasks}) > 24


def test_time_left_is_the_mean_of_what_epochs_took():
    left = TimeLeft(4)
    left.after(10)
    assert left.after(20) == "2 of 4 epochs, 30 s left"


def test_a_benchmark_reports_a_persons_error_in_a_sentence(capsys):
    def main() -> None:
        raise UserError("There is no such thing: give another.")

    with pytest.raises(SystemExit) as ended:
        command.run(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "There is no such thing: give another.\n"
