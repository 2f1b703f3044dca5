"""A study as a library user runs it: resumed, repeated, refused."""

import errno
import fcntl
import gc
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from tiny_study import SECONDS, Recorder, corpus_of, run, tiny
from transformers import DebertaV2Config, ElectraConfig, TFDebertaV2Model, TFElectraModel

from bertgrid_tf import recipe as recipes
from bertgrid_tf.analysis import analyze
from bertgrid_tf.bert import roofline
from bertgrid_tf.bert.tokenizer import load_tokenizer
from bertgrid_tf.budget.plan import plan
from bertgrid_tf.budget.time_estimator import REPORT
from bertgrid_tf.corpus import Corpus, utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.evaluate import evaluate_split
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import LOCK_FILE, StudyFolder
from bertgrid_tf.study import runner
from bertgrid_tf.study.preparation import locked
from bertgrid_tf.study.runner import StudyRunner
from bertgrid_tf.trial_config import FINAL, GRID


def numbers(folder: Path) -> dict[str, str]:
    """Everything in a results folder that the seed decides, as text."""
    study_folder = StudyFolder(folder)
    texts = {
        file.name: file.read_text()
        for file in (study_folder.sweeps_file, study_folder.grid_file, study_folder.mistakes_file)
    }
    texts["best.yaml"] = study_folder.best_file.read_text().replace(str(folder), "FOLDER")
    texts["cells.csv"] = pd.read_csv(study_folder.cells_file).drop(columns=SECONDS).to_csv()
    texts["final"] = str([{**epoch, **dict.fromkeys(SECONDS)} for epoch in study_folder.read_final().epochs])
    return texts | {f"predictions/{file.name}": file.read_text() for file in sorted(study_folder.predictions.iterdir())}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    folder = tmp_path_factory.mktemp("finished") / "study"
    return folder, run(folder)


def test_the_three_acts_come_in_their_order(finished):
    _, recorder = finished
    assert recorder.stages == ["sweep:context", "sweep:context", GRID, GRID, FINAL]
    rates = [config.hyperparameters.learning_rate for config in recorder.configs if config.stage == GRID]
    assert rates == [2e-3, 1e-3]
    assert recorder.configs[-1].hyperparameters.model == "scratch:2x32"


def test_the_plan_is_what_a_study_then_costs(finished):
    _, recorder = finished
    planned = plan(tiny(), corpus_of(tiny()))
    final, steps = recorder.trials[-1]
    assert planned.trials == len(recorder.trials)
    assert planned.steps - (2 - final.stop_epoch) * steps == recorder.steps
    assert (planned.product_trials, planned.product_epochs) == (4, 8)


def test_the_results_folder_holds_what_it_promises(finished):
    folder, _ = finished
    study_folder = StudyFolder(folder)
    table = study_folder.read_table()
    assert table is not None
    assert table.scores.shape == (2, 2)
    sweeps = pd.read_csv(study_folder.sweeps_file)
    assert sweeps["chosen"].sum() == 1
    cells = pd.read_csv(study_folder.cells_file)
    assert {"accuracy", "macro_f1", "weighted_f1", "loss", "f1_joy", "seconds"} <= set(cells)
    np.testing.assert_allclose(
        pd.read_csv(study_folder.grid_file).drop(columns="learning_rate").to_numpy().ravel(),
        100 * cells["accuracy"],
        atol=0.005,
    )
    best = study_folder.read_best()
    assert best.sweeps == {}
    assert best.learning_rates == [table.best().learning_rate]
    assert best.hyperparameters.context == sweeps[sweeps["chosen"]]["level"].item()
    assert [time.stage for time in study_folder.read_times()][-1] == REPORT
    mistakes = {(mistake.text, mistake.label) for mistake in study_folder.read_mistakes()}
    assert mistakes
    assert mistakes <= {(line.text, line.label) for line in utterances(corpus_of(tiny()).splits["dev"])}
    assert (folder / "model" / "config.json").is_file()
    assert not study_folder.final_state.exists()
    assert not list(folder.glob("**/.*.part")) + list(folder.glob("**/*.tmp"))


def test_predictions_are_those_of_every_epoch_of_every_trial(finished):
    folder, _ = finished
    study_folder = StudyFolder(folder)
    labels, dev = corpus_of(tiny()).labels, corpus_of(tiny()).splits["dev"]
    cells = pd.read_csv(study_folder.cells_file, dtype={"trial_id": str})
    scored = [(f"trial_{cell.trial_id}", cell.epoch, cell.accuracy) for cell in cells.itertuples()]
    scored += [
        ("final", epoch, metrics["accuracy"]) for epoch, metrics in enumerate(study_folder.read_final().epochs, start=1)
    ]
    for name, epoch, accuracy in scored:
        read = read_predictions(predictions_file(study_folder.predictions, name, epoch), labels)
        assert (read.probabilities.argmax(axis=1) == read.truth).mean() == pytest.approx(accuracy)
        np.testing.assert_allclose(read.probabilities.sum(axis=1), 1, rtol=1e-4)
        assert np.bincount(read.dialogues).tolist() == [len(dialogue.utterances) for dialogue in dev]


@pytest.mark.slow
def test_the_same_seed_twice_gives_the_same_numbers_bit_for_bit(finished, tmp_path):
    folder, _ = finished
    run(tmp_path / "study")
    assert numbers(tmp_path / "study") == numbers(folder)


def test_a_report_before_the_end_leaves_no_figures_to_the_garbage_collector(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "FIRST_REPORT_SECONDS", 0)
    study_folder, seen = StudyFolder(tmp_path / "study"), []

    class Counter(Recorder):
        def on_trial_begin(self, trial, config, steps):
            super().on_trial_begin(trial, config, steps)
            figures = sum(isinstance(one, Figure) for one in gc.get_objects())
            seen.append((study_folder.report_file.exists(), figures))

    gc.collect()
    gc.disable()
    try:
        run(study_folder.path, tiny(**{"final.model": "none", "sweeps": {}, "epochs": 1}), callback=Counter())
    finally:
        gc.enable()
    assert seen == [(False, 0), (True, 0)]


@pytest.mark.slow
def test_another_seed_gives_other_numbers(finished, tmp_path):
    folder, _ = finished
    run(tmp_path / "study", tiny(**{"seed": 2, "final.model": "none"}))
    losses = [pd.read_csv(StudyFolder(path).cells_file)["train_loss"] for path in (folder, tmp_path / "study")]
    assert (losses[0] != losses[1]).all()


def test_a_finished_study_run_again_trains_nothing(finished):
    folder, _ = finished
    before = numbers(folder)
    assert run(folder).steps == 0
    assert numbers(folder) == before


@pytest.mark.slow
def test_best_yaml_is_a_recipe_that_wins_again(finished, tmp_path):
    folder, _ = finished
    run(tmp_path / "repeated", recipes.load_recipe("sample", folder / "best.yaml"))
    assert StudyFolder(tmp_path / "repeated").read_table().best() == StudyFolder(folder).read_table().best()
    assert numbers(tmp_path / "repeated")["final"] == numbers(folder)["final"]


def test_another_final_model_keeps_the_search_and_nothing_of_the_former_one(finished, tmp_path):
    folder, _ = finished
    shutil.copytree(folder, tmp_path / "study")
    evaluate_split(StudyFolder(tmp_path / "study"), corpus_of(tiny()), "test")
    assert analyze(StudyFolder(tmp_path / "study")).test is not None
    with pytest.raises(UserError, match=r"another recipe \(they differ in final.model\)"):
        run(tmp_path / "study", tiny(**{"final.model": "scratch:1x64"}))
    shutil.rmtree(tmp_path / "study" / "model")
    assert run(tmp_path / "study", tiny(**{"final.model": "scratch:1x64"})).stages == [FINAL]
    assert StudyFolder(tmp_path / "study").read_final().model == "scratch:1x64"
    assert analyze(StudyFolder(tmp_path / "study")).test is None


def test_where_no_final_model_is_asked_for_nothing_is_trained_and_more_gpus_than_there_are_do_not_matter(tmp_path):
    recorder = run(tmp_path / "study", tiny(**{"final.model": "none", "final.gpus": 99, "sweeps": {}, "epochs": 1}))
    assert recorder.stages == [GRID, GRID]
    assert StudyFolder(tmp_path / "study").read_final().gpus == 1
    assert StudyFolder(tmp_path / "study").read_best().final.gpus == 99


ON_TWO_DEVICES = """
import bertgrid_tf.bert
import tensorflow as tf

cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from bertgrid_tf.cli import main

main()
"""


@pytest.mark.slow
def test_the_final_model_alone_is_trained_on_several_devices(finished, tmp_path):
    folder, _ = finished
    flags = (
        "--model scratch:1x32 --final-model scratch:2x32 --max-train-samples 60 --learning-rates 2e-3,1e-3 --epochs 2"
    )
    sweep = "--no-sweeps --sweep context=current,current+previous --set sweep_epochs=1"
    asked = ["tune", "sample", *flags.split(), *sweep.split(), "--final-gpus", "all", "--results", str(tmp_path)]
    command = [sys.executable, "-P", "-c", ON_TWO_DEVICES, *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "batch 16 = 2 × 8 per GPU" in done.stdout
    study_folder = StudyFolder(tmp_path / "sample")
    assert study_folder.read_final().gpus == 2
    assert study_folder.read_best().final.gpus == "all"
    actual, expected = numbers(study_folder.path), numbers(folder)
    for name in expected.keys() - {"best.yaml", "final", "predictions/final-1.csv", "predictions/final-2.csv"}:
        assert actual[name] == expected[name], name


def test_a_per_cell_grid_trains_every_cell_by_itself(tmp_path):
    recorder = run(tmp_path / "study", tiny(**{"final.model": "none", "sweeps": {}, "grid_schedule": "per-cell"}))
    assert [config.schedule_epochs for config in recorder.configs] == [2, 2, 1, 1]
    assert not np.isnan(StudyFolder(tmp_path / "study").read_table().scores).any()


@pytest.mark.parametrize(
    ("changed", "keys"),
    [({"seed": 3}, "seed"), ({"epochs": 3, "max_length": 20}, "hyperparameters.max_length, epochs")],
)
def test_a_folder_of_another_recipe_is_refused_with_the_keys(finished, changed, keys):
    folder, _ = finished
    before = numbers(folder)
    with pytest.raises(UserError, match=rf"another recipe \(they differ in {keys}\)"):
        run(folder, tiny(**changed))
    assert numbers(folder) == before


def test_training_texts_that_are_all_empty_are_refused(tmp_path):
    corpus = corpus_of(tiny())
    emptied = {
        split: tuple(
            replace(dialogue, utterances=tuple(replace(line, text="") for line in dialogue.utterances))
            for dialogue in dialogues
        )
        for split, dialogues in corpus.splits.items()
    }
    with pytest.raises(UserError, match="training texts of sample are all empty"):
        StudyRunner(tiny(), Corpus(corpus.name, corpus.labels, emptied), StudyFolder(tmp_path / "study")).run()


def test_changed_data_are_refused(finished):
    folder, _ = finished
    corpus = corpus_of(tiny())
    shorter = Corpus(corpus.name, corpus.labels, {**corpus.splits, "dev": corpus.splits["dev"][:-1]})
    with pytest.raises(UserError, match="no longer those that the study in"):
        StudyRunner(tiny(), shorter, StudyFolder(folder)).run()


def test_a_fresh_start_that_is_refused_deletes_nothing(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "study")
    before = numbers(tmp_path / "study")
    for overrides in ({"model": "./nowhere"}, {"max_length": 600}, {"final.model": "scratch:1x33"}):
        with pytest.raises(UserError):
            run(tmp_path / "study", tiny(**overrides), fresh=True)
    assert numbers(tmp_path / "study") == before
    assert (tmp_path / "study" / "model").is_dir()


def test_the_machine_is_measured_before_the_first_epoch_whose_time_predicts_the_others(tmp_path, monkeypatch):
    recorder, measured = Recorder(), []
    monkeypatch.setattr(roofline, "matmul_rate", lambda *_: measured.append(recorder.steps) or 1e9)
    for _ in range(2):  # and not for a study that has ended
        monkeypatch.setattr(roofline, "peak", roofline._best_so_far(roofline.peak.__wrapped__))
        run(
            tmp_path / "study",
            tiny(**{"sweeps": {}, "learning_rates": [1e-3], "final.model": "none"}),
            callback=recorder,
        )
        assert measured == [0] * roofline.MEASUREMENTS


def test_changed_checkpoint_files_are_refused(finished, tmp_path):
    checkpoint = shutil.copytree(finished[0] / "model", tmp_path / "checkpoint")
    study = tiny(**{"model": str(checkpoint), "final.model": "none", "sweeps": {}, "epochs": 1})
    run(tmp_path / "study", study)
    config = (checkpoint / "config.json").read_text()
    (checkpoint / "config.json").write_text(config.replace('"hidden_dropout_prob": 0.1', '"hidden_dropout_prob": 0.2'))
    with pytest.raises(UserError, match=r"checkpoint files of .* are no longer those"):
        run(tmp_path / "study", study)


def test_a_level_that_does_not_fit_the_memory_fails_and_the_search_goes_on(tmp_path):
    class TooLarge(Recorder):
        """Stands for a GPU, where TensorFlow raises the same."""

        def on_train_batch_end(self, trial: str, step: int, steps: int, loss: float) -> None:
            config, _ = self.trials[-1]
            if config.hyperparameters.batch_size == 32 or config.stage == FINAL:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    folder = tmp_path / "study"
    with pytest.raises(
        UserError, match=r"final model scratch:2x32 cannot be trained at batch size 16 \(out of memory: OOM"
    ):
        run(folder, tiny(**{"sweeps": {"batch_size": [16, 32]}, "epochs": 1}), callback=TooLarge())
    sweep = pd.read_csv(StudyFolder(folder).sweeps_file)
    assert sweep["status"].tolist() == ["COMPLETED", "FAILED"]
    assert sweep["chosen"].tolist() == [True, False]
    assert not np.isnan(StudyFolder(folder).read_table().scores).any()


def test_two_processes_do_not_work_in_one_folder(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    with (folder / LOCK_FILE).open("w") as lock:
        lock.write("process 12345 on elsewhere")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is being run by process 12345 on elsewhere"):
            run(folder)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_and_no_error(tmp_path, monkeypatch, number):
    def unsupported(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    messages: list[str] = []
    with locked(StudyFolder(tmp_path), messages.append):
        assert f"process {os.getpid()} on " in (tmp_path / LOCK_FILE).read_text()
    assert messages == [
        f"The file system of {tmp_path} has no locks ({os.strerror(number)}): nothing keeps a second process out of "
        "this study, so start none."
    ]


def test_a_maximum_length_beyond_the_positions_is_refused_before_anything_is_written(tmp_path):
    for overrides in ({"max_length": 600}, {"sweeps": {"max_length": [32, 600]}}):
        with pytest.raises(UserError, match="max_length 600 is beyond the 512 positions of scratch:1x32"):
            run(tmp_path / "study", tiny(**overrides))
    assert [path.name for path in (tmp_path / "study").iterdir()] == [LOCK_FILE]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"final.model": "./nowhere"}, "There is no checkpoint folder ./nowhere"),
        ({"final.gpus": 99}, "The final model cannot be trained on 99 GPUs, since TensorFlow sees"),
        ({"sweeps": {"model": ["scratch:1x32", "scratch:1x33"]}}, "scratch:1x33"),
        ({"sweeps": {"max_length": [4, 24], "context": ["current", "current+previous", "previous+current+next"]}}, "4"),
    ],
)
def test_what_a_later_act_could_not_do_is_refused_before_the_first(tmp_path, overrides, sentence):
    recorder = Recorder()
    with pytest.raises(UserError, match=sentence):
        run(tmp_path / "study", tiny(**overrides), callback=recorder)
    assert recorder.steps == 0


@pytest.mark.slow
def test_a_sweep_over_models_trains_each_and_the_final_model_follows_the_winner(tmp_path):
    recipe = tiny(
        **{
            "sweeps": {"model": ["scratch:1x32", "scratch:1x64"]},
            "final.model": {"scratch:1x32": "scratch:2x32", "scratch:1x64": "scratch:2x64"},
            "epochs": 1,
        }
    )
    run(tmp_path / "study", recipe)
    winner = StudyFolder(tmp_path / "study").read_best().hyperparameters.model
    assert StudyFolder(tmp_path / "study").read_final().model == winner.replace("1x", "2x")


@pytest.mark.slow
def test_a_bert_from_scratch_finds_out_that_the_sample_s_labels_depend_on_the_line_before(tmp_path):
    recipe = recipes.load_recipe(
        "sample", None, {"final.model": "none", "learning_rates": [1e-3], "epochs": 1, "sweep_epochs": 3}
    )
    recipe = recipe.model_copy(update={"sweeps": {"context": ["current", "current+previous"]}})
    run(tmp_path / "study", recipe)
    sweep = pd.read_csv(StudyFolder(tmp_path / "study").sweeps_file).set_index("level")
    assert sweep.loc["current+previous", "score"] > sweep.loc["current", "score"] + 0.05
    assert sweep.loc["current+previous", "chosen"]


def save_encoder(folder: Path, cls: type, config: type, **size: int) -> str:
    """Save an encoder that is no BERT, with the tokenizer of one."""
    texts = [utterance.text for utterance in utterances(corpus_of(tiny()).splits["train"])]
    tokenizer = load_tokenizer("scratch", texts)
    size |= {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1}
    model = cls(config(vocab_size=len(tokenizer), **size))
    model.build_in_name_scope()
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return str(folder)


ONE_CELL = {"final.model": "none", "sweeps": {}, "learning_rates": [1e-3], "epochs": 1}


@pytest.mark.slow  # DeBERTa is long in tracing
def test_a_model_that_computes_padding_is_named_and_has_no_other_precision(tmp_path):
    deberta = save_encoder(tmp_path / "deberta", TFDebertaV2Model, DebertaV2Config)
    recipe = tiny(**ONE_CELL, model=deberta)
    recorder = run(tmp_path / "study", recipe)
    assert [message for message in recorder.messages if "deberta" in message] == [
        f"{deberta} is of type deberta-v2, whose own forward pass computes padding too: unless group_by_length is set, "
        "texts of similar length share a batch."
    ]
    hyperparameters = recipe.hyperparameters.model_copy(update={"precision": "bf16"})
    with pytest.raises(UserError, match=r"precision bf16 is not for type 'deberta-v2', which \S+ is of: use fp32"):
        run(tmp_path / "other", recipe.model_copy(update={"hyperparameters": hyperparameters}))


def test_a_relative_of_bert_computes_no_padding_in_any_precision_and_is_averaged(tmp_path):
    electra = save_encoder(tmp_path / "electra", TFElectraModel, ElectraConfig, embedding_size=16)
    changes = {"model": electra, "precision": "bf16", "soup": True, "learning_rates": [1e-3, 2e-3]}
    recorder = run(tmp_path / "study", tiny(**ONE_CELL | changes))
    assert not [message for message in recorder.messages if "electra" in message]
    study = StudyFolder(tmp_path / "study")
    cells = pd.read_csv(study.cells_file)
    assert (cells["train_padding"] == 0).all()
    assert (cells["limit_seconds"] > 0).all()
    assert study.soup_file.exists()
