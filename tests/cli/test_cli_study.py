"""A study from the command line: tuned, resumed, refused, read, used."""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

import made_up_gpus
import pandas as pd
import pytest
from console_script import BRIEF, COLUMNS, TUNE, Answer, closed_port, content, own_rows, process, write_rows

# A study, from one end to the other


def test_tune_prints_a_line_per_epoch_and_the_summary(first_run):
    folder, out = first_run
    assert out.splitlines()[0] == "sample: 4 trials, up to 6 epochs. Starting TensorFlow …"
    assert re.fullmatch(r"Training on .+\.", out.splitlines()[1])
    runs = [line for line in out.splitlines() if "epochs of" in line]
    assert [line.split("  ")[0] for line in runs] == [
        "sweep context=current",
        "sweep context=current+previous",
        "grid learning_rate=0.002",
        "grid learning_rate=0.001",
    ]
    assert "The winner's weights were kept: they are the final model, and nothing is trained." in out.splitlines()
    for part in ("Sweeps", "accuracy on dev by learning rate and epoch, percent", "Winner: learning_rate="):
        assert part in out
    assert f"bertgrid-tf predict {folder} FILE -o OUT" in out


def test_a_pipe_gets_plain_whole_lines(first_run):
    _, out = first_run
    epochs = [line for line in out.splitlines() if line.startswith("  epoch ")]
    assert len(epochs) == 6
    assert all(re.search(r"study \d+%, .* left$", line) for line in epochs[1:])
    assert "\x1b" not in out
    assert "\r" not in out


def test_a_terminal_gets_bars_and_ctrl_c_ends_cleanly_with_how_to_go_on(tmp_path):
    pty = pytest.importorskip("pty")
    child, terminal = pty.fork()
    if child == 0:
        # What a shell runs in the background ignores Ctrl-C, and so would what these tests start.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(tmp_path)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "120"}
        words = ["tune", "sample", "--no-sweeps", "--model", "scratch:1x32", "--epochs", "500"]
        os.execv(sys.executable, [sys.executable, "-m", "bertgrid_tf", *words])
    seen, interrupted = "", False
    with contextlib.suppress(OSError):  # what Linux raises where the other end of a terminal is closed
        while part := os.read(terminal, 65536):
            seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", part.decode(errors="replace"))
            if "epoch 2/500" in seen and not interrupted:
                interrupted = bool(os.write(terminal, b"\x03"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    for name in ("epoch", "trial", "study"):
        assert re.search(rf"{name} [━╸╺]+ +\d+ % .* left", seen)
    assert "Traceback" not in seen
    assert "Stopped. Everything up to the last finished epoch is in results/sample: the same command goes on" in seen


def test_results_prints_the_summary_of_tune(bertgrid, first_run):
    folder, out = first_run
    answer = bertgrid("results", folder)
    assert answer.code == 0
    assert out.endswith(answer.out)


@pytest.mark.usefixtures("blank_figures")
def test_repeating_the_command_changes_nothing(bertgrid, study):
    # The first time it names the folder of this copy in best.yaml.
    assert bertgrid(*TUNE, "--results", study.parent).code == 0
    before = content(study)
    answer = bertgrid(*TUNE, "--results", study.parent)
    assert answer.code == 0
    assert "epoch 1/" not in answer.out
    assert content(study) == before


@pytest.mark.usefixtures("blank_figures")
def test_a_table_of_one_s_own_is_tuned_evaluated_and_predicted_with(bertgrid, own):
    tuned = bertgrid("tune", "mine", "--data", own, *COLUMNS, *BRIEF, "--final-model", "scratch:1x32")
    assert tuned.code == 0, tuned.err
    folder = Path("results/mine")
    assert (folder / "model" / "config.json").is_file()

    assert bertgrid("evaluate", folder, "--split", "dev").code == 0
    assert bertgrid("evaluate", folder).refusal == "mine has no split 'test'; choose from train, dev."

    # The study knows its own columns.
    assert bertgrid("predict", folder, own, "-o", "out.csv").code == 0
    assert list(pd.read_csv("out.csv")) == ["id", "label"]

    before = content(folder)
    write_rows(own, own_rows()[:-4])
    changed = bertgrid("tune", "mine", "--data", own, *COLUMNS, *BRIEF, "--final-model", "scratch:1x32")
    assert "no longer those that the study in results/mine began with" in changed.refusal
    assert "no longer those of the study in results/mine" in bertgrid("evaluate", folder, "--split", "dev").refusal
    assert content(folder) == before


@pytest.mark.usefixtures("blank_figures")
def test_the_command_in_best_yaml_retrains_the_winner(bertgrid, study):
    assert bertgrid(*TUNE, "--results", study.parent).code == 0
    command = next(line for line in (study / "best.yaml").read_text().splitlines() if "bertgrid-tf tune" in line)
    repeated = bertgrid(*shlex.split(command.partition("bertgrid-tf ")[2]))
    assert repeated.code == 0, repeated.err
    first, second = (
        answer.out.partition("Final model ")[2].splitlines()[:1] for answer in (bertgrid("results", study), repeated)
    )
    assert first == second
    assert first


@pytest.mark.usefixtures("blank_figures")
def test_names_with_spaces_brackets_and_letters_of_any_script_are_fine(bertgrid, own, tmp_path):
    folder = tmp_path / "리뷰 [red] %s"
    data = write_rows(folder / "my [data].csv", own_rows())
    tuned = bertgrid(
        "tune", "영화 [1]", "--data", data, *COLUMNS, *BRIEF, "--final-model", "scratch:1x32", "--results", folder
    )
    assert tuned.code == 0, tuned.err
    assert f"predict '{folder}/영화 [1]' FILE" in tuned.out
    predicted = bertgrid("predict", folder / "영화 [1]", data, "-o", folder / "[out].csv")
    # A study so brief learns nothing, and says so.
    assert predicted.out.splitlines() == [
        f"80 texts labelled in {folder}/[out].csv.",
        "All 80 texts are labelled good.",
        "Not better than always saying bad (50.00 % on dev): the final model has accuracy 50.00 %, and says good for "
        "every text.",
    ]
    evaluated = bertgrid("evaluate", folder / "영화 [1]", "--split", "dev")
    assert evaluated.out.startswith("Not better than always saying bad (50.00 % on dev): the final model has")
    assert "영화 [1], dev split" in evaluated.out
    assert "\nBaselines: always bad 50.00 %, guessing by frequency 50.00 %.\n" in evaluated.out
    assert f"Written down in {folder}/영화 [1]/evaluations.csv.\n" in evaluated.out


# Checkpoints


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "Checkpoint {} has no weights: put model.safetensors"),
        (
            lambda folder: [(folder / name).unlink() for name in ("vocab.txt", "tokenizer.json")],
            "Checkpoint {} has no vocabulary: put vocab.txt or tokenizer.json there.",
        ),
        (lambda folder: (folder / "config.json").unlink(), "{} is not a checkpoint: it has no config.json."),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"short"),
            "The weights of checkpoint {} cannot be read: ",
        ),
        (
            lambda folder: (folder / "tokenizer.json").write_text('{"version": "1'),
            "The vocabulary of checkpoint {} cannot",
        ),
        (lambda folder: shutil.rmtree(folder), "There is no checkpoint folder {}."),
    ],
)
def test_a_checkpoint_folder_that_lacks_something_is_refused(bertgrid, study, damage, sentence):
    model = study / "model"
    damage(model)
    before = content(study)
    assert bertgrid("tune", "sample", *BRIEF, "--model", model).refusal.startswith(sentence.format(model))
    assert content(study) == before
    assert content(Path("results/sample")) == {}


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_no_command_runs_the_code_of_a_checkpoint(bertgrid, study, tmp_path, monkeypatch, file):
    model, marker = study / "model", tmp_path / "ran"
    keys = json.loads((model / file).read_text())
    names = {"AutoConfig": "own.Own", "AutoTokenizer": ["own.Own", "own.Own"]}
    (model / file).write_text(json.dumps({**keys, "auto_map": names}))
    (model / "own.py").write_text(f"open({str(marker)!r}, 'w')\nclass Own: pass\n")
    (tmp_path / "new.csv").write_text("text\nHello\n")
    for words in (
        ("data", "describe", "sample", "--model", model),
        ("tune", "sample", *BRIEF, "--model", model),
        ("predict", study, tmp_path / "new.csv", "-o", tmp_path / "out.csv", "--text-column", "text"),
        ("doctor", "sample", "--model", model, "--final-model", "none"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
        answer = bertgrid(*words)
        sentence = answer.out if words[0] == "doctor" else answer.refusal
        assert "needs Python code of its own" in re.sub(r"\s+", " ", sentence)
        assert not marker.exists()


def test_a_maximum_length_beyond_the_positions_is_refused(bertgrid):
    for words in (("--set", "max_length=513"), ("--sweep", "max_length=32,513")):
        assert bertgrid("tune", "sample", *BRIEF, *words).refusal.startswith(
            "max_length 513 is beyond the 512 positions of scratch:1x32"
        )


def test_a_tokenizer_that_knows_none_of_the_text_is_refused(bertgrid, study, tmp_path):
    rows = [[f"d{n}", "앤", f"정말 좋은 영화 {n}", ("good", "bad")[n % 2]] for n in range(40)]
    korean = write_rows(tmp_path / "korean.csv", rows)
    tuned = bertgrid("tune", "mine", "--data", korean, *COLUMNS, *BRIEF, "--model", study / "model")
    assert tuned.refusal.startswith(f"The vocabulary of {study / 'model'} does not know these texts: ")
    assert "of their pieces are [UNK]; choose a checkpoint of the texts' language" in tuned.refusal
    Path("out.csv").write_text("mine")
    predicted = bertgrid("predict", study, korean, "--text-column", "text", "-o", "out.csv")
    assert "of their pieces are [UNK]" in predicted.refusal
    assert Path("out.csv").read_text() == "mine"


HUB_AWAY = (
    "Checkpoint someone/some-bert is not in the local cache and the hub cannot be reached: connect, or give "
    "--model a folder with config.json, vocab.txt and model.safetensors."
)


def test_a_hub_that_cannot_be_reached_is_named_as_the_cause(tmp_path):
    # In a process of its own, since the hub's address is read when its library is imported.
    away = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}"}
    asked = process("tune", "sample", *BRIEF, "--model", "someone/some-bert", folder=tmp_path, **away)
    out, err = asked.communicate()
    assert Answer(asked.returncode, out, err).refusal == HUB_AWAY


def test_a_hub_that_is_switched_off_is_named_as_the_cause(bertgrid, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert bertgrid("tune", "sample", *BRIEF, "--model", "someone/some-bert").refusal == HUB_AWAY


# Trials that diverge


@pytest.mark.usefixtures("blank_figures")
def test_a_row_that_diverges_is_recorded_and_the_study_goes_on(bertgrid):
    flags = ("--learning-rates", "0.9,1e-7", "--set", "weight_decay=1e6", "--max-train-samples", "60")
    answer = bertgrid("tune", "sample", *BRIEF, *flags)
    assert answer.code == 0, answer.err
    assert "epoch 1/1  diverged: the loss is no longer a number" in answer.out
    assert re.search(r"│ 0.9 +│ +diverged │", answer.out)
    cells = pd.read_csv("results/sample/cells.csv")
    assert cells.set_index("learning_rate")["accuracy"].isna().to_dict() == {0.9: True, 1e-7: False}
    assert "Winner: learning_rate=1e-07" in answer.out


@pytest.mark.usefixtures("blank_figures")
def test_a_study_all_of_whose_rows_diverge_ends_in_one_sentence(bertgrid):
    flags = ("--learning-rates", "0.9,0.8", "--set", "weight_decay=1e6", "--max-train-samples", "60")
    refusal = bertgrid("tune", "sample", *BRIEF, *flags).refusal
    assert refusal == "Every trial of the grid diverged or failed (results/sample): try lower --learning-rates."
    assert pd.read_csv("results/sample/cells.csv")["accuracy"].isna().all()


# The study folder


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("--seed", "7"), "seed"),
        (("--set", "max_length=24", "--epochs", "3"), "hyperparameters.max_length, epochs"),
        (("--final-model", "none"), "final.model"),
    ],
)
def test_the_folder_of_another_recipe_is_refused_with_the_keys_that_differ(bertgrid, study, words, keys):
    before = content(study)
    assert bertgrid(*TUNE, *words, "--results", study.parent).refusal == (
        f"{study} holds a study of another recipe (they differ in {keys}): give the same settings to go on, "
        "choose another --study NAME, or --fresh to start over."
    )
    assert content(study) == before


@pytest.mark.usefixtures("blank_figures")
def test_fresh_starts_over(bertgrid, study):
    (study / "oracle.json").write_text("{")
    (study / "grid.csv").unlink()
    answer = bertgrid(*BRIEF_SAMPLE, "--fresh", "--results", study.parent)
    assert answer.code == 0, answer.err
    assert len(json.loads((study / "final.json").read_text())["epochs"]) == 1
    assert not (study / "trial_0003").exists()
    assert pd.read_csv(study / "grid.csv").shape == (1, 2)


BRIEF_SAMPLE = ("tune", "sample", *BRIEF, "--max-train-samples", "60")


def test_a_folder_that_is_no_study_s_is_neither_used_nor_deleted(bertgrid):
    Path("results/sample").mkdir(parents=True)
    Path("results/sample/thesis.txt").write_text("mine")
    for words in ((), ("--fresh",)):
        assert bertgrid("tune", "sample", *BRIEF, *words).refusal == (
            "results/sample holds other files than a study's: choose another folder with --results or --study."
        )
        assert content(Path("results/sample")) == {"thesis.txt": b"mine"}


def test_a_study_without_its_recipe_is_neither_used_nor_deleted(bertgrid, study):
    (study / "recipe.yaml").unlink()
    before = content(study)
    for words in ((), ("--fresh",)):
        assert bertgrid(*TUNE, *words, "--results", study.parent).refusal == (
            f"{study / 'recipe.yaml'} is missing from the study there: restore it from a copy, or choose another "
            "folder with --results or --study."
        )
    assert content(study) == before


def test_a_truncated_state_of_the_search_is_named_and_kept(bertgrid, study):
    (study / "oracle.json").write_text((study / "oracle.json").read_text()[:100])
    before = content(study)
    refusal = bertgrid(*TUNE, "--results", study.parent).refusal
    assert refusal.startswith(f"{study / 'oracle.json'} is damaged (")
    assert refusal.endswith("restore it from a copy, or start over with --fresh.")
    assert content(study) == before


def test_trials_without_their_oracle_are_refused_in_the_command_line_s_words(bertgrid, study):
    (study / "oracle.json").unlink()
    before = content(study)
    assert bertgrid(*TUNE, "--results", study.parent).refusal == (
        f"{study} holds trials but no oracle.json: restore it from a copy, choose another --study NAME or --fresh."
    )
    assert content(study) == before


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"labels": 1}'])
def test_damaged_metadata_of_a_study_are_named(bertgrid, study, text):
    copy, final = (
        "restore it from a copy, or start the study over with --fresh.",
        "run the study's `tune` command again, which trains the final model again.",
    )
    for name, command, remedy in (
        ("study.json", [*TUNE, "--results", study.parent], copy),
        ("study.json", ["evaluate", study], copy),
        ("final.json", ["results", study], final),
        ("final.json", ["evaluate", study], final),
    ):
        whole = (study / name).read_text()
        (study / name).write_text(text)
        before = content(study)
        refusal = bertgrid(*command).refusal
        assert refusal.startswith(f"{study / name} is damaged (")
        assert refusal.endswith(f"): {remedy}")
        assert content(study) == before
        (study / name).write_text(whole)


@pytest.mark.usefixtures("blank_figures")
def test_labels_for_another_command_go_to_the_standard_output_and_sentences_beside_it(bertgrid, study, tmp_path):
    (tmp_path / "new.csv").write_text("text\nhello\n")
    kept, piped = os.dup(1), tmp_path / "piped.csv"
    with piped.open("w") as file:
        os.dup2(file.fileno(), 1)
        try:
            answer = bertgrid("predict", study, tmp_path / "new.csv", "--text-column", "text", "-o", "-")
        finally:
            os.dup2(kept, 1)
            os.close(kept)
    assert (answer.code, answer.out) == (0, "")
    assert answer.err.startswith("1 text labelled in /dev/stdout.\n")
    assert re.fullmatch(r"id,label\n1,[a-z-]+\n", piped.read_text())
    assert not Path("-").exists()


def test_what_the_rest_of_a_study_decides_is_made_anew_where_it_is_damaged(bertgrid, study):
    tables = ("cells.csv", "sweeps.csv", "lengths.csv", "mistakes.csv", "times.csv", "best.yaml")
    trials = ("trial_0001/trial.json", "trial_0002/hyperparameters.json", "model/correction.json")
    predictions = [f"predictions/{name}.csv" for name in ("trial_0000-1", "trial_0002-2", "final-1")]
    before = content(study)
    for name in (*tables, *trials, *predictions):
        (study / name).write_bytes((study / name).read_bytes()[:-20] + b"\xff")
    (study / "predictions/trial_0003-1.csv").unlink()
    refusal = bertgrid("results", study).refusal
    assert "is damaged (" in refusal
    assert ": run the study's `tune` command again, which " in refusal
    answer = bertgrid(*TUNE, "--results", study.parent)
    assert answer.code == 0
    for name in (*tables, *predictions, "model/correction.json"):
        assert f"{study / name} is damaged (" in answer.out
    assert answer.out.count("it is made anew.") == 11
    after = content(study)
    same = {*tables, *trials, *predictions, "grid.csv", "final.json"} - {"times.csv", "best.yaml"}
    assert {name for name in same if before[name] != after[name]} == set()
    # The winner's command names the folder, which is a copy.
    assert after["best.yaml"].partition(b"corpus:")[2] == before["best.yaml"].partition(b"corpus:")[2]
    assert bertgrid("results", study).code == 0


@pytest.mark.usefixtures("blank_figures")
def test_a_trial_whose_predictions_and_state_are_damaged_is_trained_again(bertgrid, study):
    before = content(study)
    for name in ("predictions/trial_0003-2.csv", "trial_0003/state.npz"):
        (study / name).write_bytes(before[name][:200])
    (study / "final.json").write_text("{}")
    answer = bertgrid(*TUNE, "--results", study.parent)
    assert answer.code == 0
    assert f"{study / 'trial_0003/state.npz'} is damaged (" in answer.out
    after = content(study)
    kept = [name for name in before if name.startswith("predictions") or name == "model/model.safetensors"]
    assert [name for name in kept if before[name] != after[name]] == []


def test_a_model_with_other_classes_than_the_study_is_damaged_and_trained_again_where_it_is_deleted(
    bertgrid, study, own
):
    config = study / "model" / "config.json"
    labels = json.loads((study / "study.json").read_text())["labels"]
    config.write_text(config.read_text().replace(f'"0": "{labels[0]}"', '"0": "rage"'))
    for command in (("evaluate", study), ("predict", study, own, "--text-column", "text", "-o", "out.csv")):
        assert bertgrid(*command).refusal == (
            f"{config} is damaged (its classes are not those of study.json): restore the folder from a copy, or delete "
            "it: the study's `tune` command then trains the final model again."
        )


@pytest.mark.parametrize("command", [("results",), ("evaluate",), ("predict", "-o", "out.csv", "own.csv")])
def test_a_folder_without_a_study_is_refused(bertgrid, tmp_path, command):
    name, *rest = command
    for folder in (tmp_path / "none", tmp_path):
        assert bertgrid(name, folder, *rest).refusal == (
            f"{folder} is no study folder: it has no recipe.yaml; name the folder of a study."
        )


# The final model in use


@pytest.mark.usefixtures("blank_figures")
def test_opening_the_test_split_is_written_down_every_time(bertgrid, study):
    for times in (1, 2):
        answer = bertgrid("evaluate", study, "--split", "test")
        assert answer.code == 0
        assert f"Written down in {study}/evaluations.csv." in answer.out
        opened = pd.read_csv(study / "evaluations.csv")
        assert list(opened["split"]) == ["test"] * 2 * times
        assert list(opened["of"]) == ["final", "corrected"] * times
    reached = f"accuracy {100 * opened['accuracy'][0]:.2f} %"
    assert f"{reached} (" in answer.out
    reached = rf"Final model .*; {re.escape(reached)} \(.*\) on the sealed test split"
    assert re.search(reached, bertgrid("results", study).out)
    assert f"calibration error {100 * opened['calibration_error'][0]:.1f} points" in answer.out
    assert opened["f1_joy"][0] == opened["f1_joy"][2]
    assert pd.to_datetime(opened["opened"]).is_monotonic_increasing


def test_the_memory_that_a_final_model_may_take_has_a_cap(bertgrid, study, own, monkeypatch):
    predict = ("predict", study, own, "--text-column", "text", "-o", "out.csv")
    for words in (("evaluate", study), predict):
        refused = bertgrid(*words, "--gpu-memory", "lots").refusal
        assert refused.startswith("--gpu-memory 'lots' is not a size of at least 1 MiB: ")
    made_up_gpus.give(monkeypatch, made_up_gpus.T4)
    refused = bertgrid(*predict, "--gpu-memory", "20GB").refusal
    assert refused == "--gpu-memory 20 GB is more than the 16 GB of Tesla T4: give less."


def test_without_a_gpu_the_cap_on_its_memory_is_ignored_with_a_warning(bertgrid, study, own, monkeypatch):
    made_up_gpus.give(monkeypatch)
    monkeypatch.setenv("BERTGRID_GPU_MEMORY", "16GB")
    for words in (("evaluate", study), ("predict", study, own, "--text-column", "text", "-o", "out.csv")):
        line = bertgrid(*words).out.splitlines()[0]
        assert re.fullmatch(r"Computing on the CPU: .+, so that --gpu-memory is ignored\.", line)


def test_a_split_that_there_is_not_is_refused(bertgrid, study):
    assert bertgrid("evaluate", study, "--split", "tset").refusal == (
        "sample has no split 'tset'; choose from train, dev, test."
    )
    assert not (study / "evaluations.csv").exists()


def test_a_study_without_a_final_model_neither_evaluates_nor_predicts(bertgrid, study, own):
    shutil.rmtree(study / "model")
    (study / "final.json").unlink()
    for words in (("evaluate", study), ("predict", study, own, "--text-column", "text", "-o", "out.csv")):
        assert bertgrid(*words).refusal == (
            f"The study in {study} has no final model yet: run its `tune` command again to go on."
        )


def test_the_competition_s_file_is_answered_as_it_wants(bertgrid, study):
    lines = ["id,i_dialog,i_utterance,speaker,utterance", '7,0,0,Ann,"Well, hello"', "3,0,1,Bob,Hi", "9,1,0,Ann,Oh"]
    Path("en_data.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert bertgrid("predict", study, "en_data.csv", "-o", "out.csv").out.startswith("3 texts labelled in out.csv.\n")
    with Path("out.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["Id", "Expected"]
    assert [key for key, _ in rows] == ["7", "3", "9"]
    assert {label for _, label in rows} <= {
        "anger",
        "disgust",
        "fear",
        "joy",
        "neutral",
        "non-neutral",
        "sadness",
        "surprise",
    }


def test_a_file_in_nsmc_s_format_is_labelled_by_its_ids(bertgrid, study):
    Path("ratings.txt").write_text('id\tdocument\tlabel\n12\tso "great\t1\n11\t\t0\n')
    assert bertgrid("predict", study, "ratings.txt", "-o", "out.csv").code == 0
    labelled = pd.read_csv("out.csv")
    assert list(labelled) == ["id", "label"]
    assert list(labelled["id"]) == [12, 11]


def test_a_table_is_labelled_with_probabilities_and_ids_of_its_own(bertgrid, study, own):
    flags = ("--text-column", "text", "--dialogue-column", "dlg", "--speaker-column", "who", "--proba")
    assert bertgrid("predict", study, own, *flags, "-o", "deep/out.csv").code == 0
    labelled = pd.read_csv("deep/out.csv")
    probabilities = labelled.filter(like="p_")
    assert list(labelled["id"]) == list(range(1, 81))
    assert len(probabilities.columns) == 8
    assert probabilities.sum(axis=1).sub(1).abs().max() < 1e-5
    assert list("p_" + labelled["label"]) == list(probabilities.idxmax(axis=1))

    keyed = write_rows(own, [[f"k{n}", "hello"] for n in range(3)], "key,text")
    assert bertgrid("predict", study, keyed, "--text-column", "text", "--id-column", "key", "-o", "out.csv").code == 0
    assert list(pd.read_csv("out.csv")["id"]) == ["k0", "k1", "k2"]


def test_dialogue_columns_change_what_the_model_sees(bertgrid, study, own):
    # The winner's layout shows the previous utterance, if not the speaker.
    final = json.loads((study / "final.json").read_text())
    final["hyperparameters"]["context"] = "current+previous"
    (study / "final.json").write_text(json.dumps(final))
    alone = ("--text-column", "text", "--proba", "-o", "alone.csv")
    assert bertgrid("predict", study, own, *alone).code == 0
    assert bertgrid("predict", study, own, *alone[:-1], "together.csv", "--dialogue-column", "dlg").code == 0
    one, other = (pd.read_csv(name).filter(like="p_").to_numpy() for name in ("alone.csv", "together.csv"))
    first = [n for n in range(80) if n % 4 == 0]
    later = [n for n in range(80) if n % 4]
    assert abs(one[first] - other[first]).max() < 1e-5
    assert abs(one[later] - other[later]).max() > 1e-5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["own.csv", "-o", "out.csv"],
            "own.csv: say which column holds the text with --text-column; its columns are dlg",
        ),
        (["own.csv", "--text-column", "txt", "-o", "out.csv"], "own.csv has no column 'txt'; its columns are dlg, who"),
        (
            ["own.csv", "--id-column", "dlg", "-o", "out.csv"],
            "--text-pair-column, --dialogue-column, --speaker-column and --id-column need",
        ),
        (
            ["own.csv", "--text-column", "text", "--id-column", "dlg", "-o", "out.csv"],
            "own.csv, line 3: the id 'd0' in the column 'dlg' stands on line 2 already; ids must differ.",
        ),
        (["none.csv", "-o", "out.csv"], "none.csv does not exist; check the name."),
        (["empty.csv", "-o", "out.csv"], "empty.csv is empty."),
        ([".", "-o", "out.csv"], ". is a folder; name a file in it"),
        (["own.csv", "--text-column", "text", "-o", "."], ". is a folder: name a file in it with -o."),
        (
            ["own.csv", "--text-column", "text", "-o", "./own.csv"],
            "own.csv is the file with the texts: name another with",
        ),
        (
            ["own.csv", "--text-column", "text", "-o", "empty.csv/x"],
            "empty.csv/x cannot be written, since empty.csv is no",
        ),
    ],
)
def test_what_cannot_be_labelled_is_refused_before_anything_is_written(bertgrid, study, words, sentence):
    write_rows(Path("own.csv"), own_rows())
    Path("empty.csv").write_text("")
    Path("out.csv").write_text("mine")
    before = content(Path.cwd())
    assert bertgrid("predict", study, *words).refusal.startswith(sentence)
    assert content(Path.cwd()) == before


# Reports, comparisons, exports


def test_a_report_is_drawn_with_the_study_and_anew_when_asked(bertgrid, study):
    drawn = (study / "report.html").read_bytes()
    (study / "report.html").unlink()
    shutil.rmtree(study / "figures")
    answer = bertgrid("report", study)
    assert answer.out == f"The report is {study}/report.html, its figures lie in {study}/figures.\n"
    # Its own path stands in it.
    page = (study / "report.html").read_bytes()
    assert len(page) == pytest.approx(len(drawn), rel=0.01)
    assert {"grid.svg", "grid.png", "sweeps.svg", "confusion.png"} <= {
        file.name for file in (study / "figures").iterdir()
    }
    assert (study / "model" / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")


def test_compared_studies_stand_side_by_side_with_their_differences_tested(bertgrid, study):
    copy = shutil.copytree(study, study.parent / "copy")
    answer = bertgrid("compare", study, copy)
    assert "winner's accuracy" in answer.out
    assert "≈ best" in answer.out
    assert bertgrid("compare", study).refusal == "compare needs two study folders or more."
    assert bertgrid("compare", study, study.parent).refusal.startswith(f"{study.parent} is no study folder")


def test_a_model_is_exported_and_not_over_what_is_there(bertgrid, study):
    answer = bertgrid("export", study, "--format", "savedmodel")
    assert answer.out.startswith(f"{study}/savedmodel holds the model: on 16 texts its probabilities are those of the")
    refused = bertgrid("export", study, "--format", "savedmodel").refusal
    assert refused == f"{study}/savedmodel is there already: delete it, or name another folder with -o."
    assert bertgrid("export", study, "--format", "pmml").refusal == (
        "A model cannot be exported as 'pmml': choose from savedmodel, onnx."
    )


def test_a_soup_that_was_not_made_cannot_be_used(bertgrid, study, own):
    refused = bertgrid("predict", study, own, "--text-column", "text", "-o", "out.csv", "--soup").refusal
    assert refused == f"The study in {study} has no soup folder: give --soup to its `tune` command."


def test_soup_and_a_refitted_head_are_not_asked_for_together(bertgrid):
    refused = bertgrid("tune", "sample", "--soup", "--set", "head_retraining=smote").refusal
    assert refused.endswith("soup averages trained heads: give head_retraining none alone, or no soup.")
