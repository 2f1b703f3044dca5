"""The probabilities that `predict` writes: with the study's correction, or corrected for label shift."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bertgrid_tf import cli, open_study
from bertgrid_tf import recipe as recipes
from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.encode import EncodedDataset, encode
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.corpus import Columns, Corpus, Dialogue, Utterance
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.inference.evaluate import evaluate_split
from bertgrid_tf.inference.predict import predict_file, read_texts
from bertgrid_tf.metrics.calibration import expected_calibration_error
from bertgrid_tf.metrics.correction import Correction, detect_shift
from bertgrid_tf.storage.predictions import Predictions, predictions_file, read_predictions, write_predictions
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import TrialConfig

LABELS = ("bad", "good")
CORRECTION = Correction(strength=2.0, priors=[0.999, 0.001], temperature=1.5)
"""As strong as no study's, so that it changes labels that the model is sure of."""


def texts_of(share: float, seed: int) -> tuple[list[str], np.ndarray]:
    """300 texts of which this share is good, and nine in ten have a word of their class; label ids int32 [300]."""
    random = np.random.default_rng(seed)
    labels = (random.random(300) < share).astype(np.int32)
    words = np.where(random.random(300) < 0.9, labels, 1 - labels)
    return [f"{random.choice(['a film', 'it was'])} {('awful', 'lovely')[word]}" for word in words], labels


@dataclass(frozen=True)
class Made:
    """A study's folder, and the uncorrected probabilities of its models."""

    study_folder: StudyFolder
    final: Trainer
    soup: Trainer

    def probabilities(self, texts: Sequence[str], soup: bool = False) -> np.ndarray:
        trainer = self.soup if soup else self.final
        return trainer.probabilities(encode(trainer.checkpoint.tokenizer, [((text,), 0) for text in texts], 16))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A study whose final model was trained on as many good as bad texts, and whose soup was trained on nothing."""
    study_folder = StudyFolder(tmp_path_factory.mktemp("inference") / "study")
    texts, labels = texts_of(0.5, seed=0)
    checkpoint = load("scratch:1x32", LABELS, texts=texts)
    checkpoint.reset(1)
    checkpoint.save(study_folder.soup_model)
    trainer = Trainer(checkpoint)
    train = EncodedDataset(encode(checkpoint.tokenizer, [((text,), 0) for text in texts], 16), labels)
    folder = study_folder.path / "run"
    folder.mkdir()
    config = TrialConfig(Hyperparameters(learning_rate=5e-3, batch_size=8), 3, 3)
    metrics = [epoch.metrics for epoch in trainer.run(train, train, config, folder)]
    checkpoint.save(study_folder.model)
    study = Made(
        study_folder, *(Trainer(load(str(one), LABELS)) for one in (study_folder.model, study_folder.soup_model))
    )

    overrides = {"model": "scratch:1x32", "max_length": 16, "context": "current", "speaker_format": "none"}
    recipe = recipes.load_recipe("sample", None, overrides)
    for file in (study_folder.recipe_file, study_folder.best_file):
        file.write_text(recipe.to_yaml())
    dev_texts, truth = texts_of(0.5, seed=1)
    classes = {"train": {"bad": 149, "good": 151}, "dev": dict(zip(LABELS, np.bincount(truth).tolist(), strict=True))}
    study_folder.write_metadata(StudyMetadata("0" * 16, LABELS, {}, {}, {}, classes=classes))
    study_folder.write_final(FinalTrial(recipe.hyperparameters, 3, metrics))
    dev = Predictions(np.arange(300), truth, study.probabilities(dev_texts))
    write_predictions(predictions_file(study_folder.predictions, "final", 3), dev, LABELS)
    return study


@pytest.fixture
def corrected(made: Made):
    made.study_folder.write_correction(CORRECTION)
    yield made
    made.study_folder.correction_file.unlink()


def table(path: Path, texts: list[str]) -> Path:
    pd.DataFrame({"text": texts}).to_csv(path, index=False)
    return path


def predict(study_folder: StudyFolder, texts: list[str], folder: Path, **flags: bool):
    """Returns the summary of `predict_file`, and the labels and probabilities [texts, classes] that it writes."""
    summary = predict_file(
        study_folder, table(folder / "in.csv", texts), folder / "out.csv", Columns("text"), True, **flags
    )
    written = pd.read_csv(folder / "out.csv")
    return summary, written["label"].tolist(), written[[f"p_{label}" for label in LABELS]].to_numpy()


def likeliest(probabilities: np.ndarray) -> list[str]:
    return [LABELS[i] for i in probabilities.argmax(axis=1)]


@pytest.mark.parametrize("asked", [False, True], ids=["plain", "correct_shift"])
def test_texts_in_dev_s_shares_are_labelled_by_the_corrected_probabilities(corrected, tmp_path, asked):
    texts, _ = texts_of(0.5, seed=2)
    plain = corrected.probabilities(texts)
    expected = CORRECTION.apply(plain)
    assert likeliest(expected) != likeliest(plain)
    summary, labels, probabilities = predict(corrected.study_folder, texts, tmp_path, correct_shift=asked)
    assert not summary.shift.detected
    assert not summary.shift_corrected
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert labels == likeliest(expected)


def test_without_a_correction_the_probabilities_are_the_model_s(made, tmp_path):
    texts, _ = texts_of(0.5, seed=2)
    _, labels, probabilities = predict(made.study_folder, texts, tmp_path)
    np.testing.assert_allclose(probabilities, made.probabilities(texts), atol=1e-5)
    assert labels == likeliest(made.probabilities(texts))


def test_dialogue_ids_that_come_back_in_a_table_to_predict_are_a_finding(made, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(
        "d,text\n" + "".join(f"{d},{text}\n" for d, text in zip("010", texts_of(0.5, seed=2)[0][:3], strict=True))
    )
    summary = predict_file(made.study_folder, path, tmp_path / "out.csv", Columns("text", dialogue="d"))
    assert [finding.examples for finding in summary.findings] == [("'0' (line 4)",)]
    assert pd.read_csv(tmp_path / "out.csv")["id"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("asked", [False, True], ids=["plain", "correct_shift"])
def test_the_soup_s_probabilities_are_its_own_whatever_corrects_the_final_model_s(corrected, tmp_path, asked):
    texts, _ = texts_of(0.9, seed=3)
    summary, labels, probabilities = predict(corrected.study_folder, texts, tmp_path, soup=True, correct_shift=asked)
    expected = corrected.probabilities(texts, soup=True)
    assert np.abs(expected - corrected.probabilities(texts)).max() > 0.1
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert labels == likeliest(expected)
    assert summary.shift is None


def test_a_shift_is_allowed_for_in_place_of_the_correction_where_that_is_asked(corrected, tmp_path):
    texts, truth = texts_of(0.9, seed=3)
    study_folder, plain = corrected.study_folder, corrected.probabilities(texts)
    dev = read_predictions(predictions_file(study_folder.predictions, "final", 3), LABELS)
    expected = detect_shift(dev.truth, dev.probabilities, plain, dev.dialogues, np.arange(300))
    assert expected.detected
    assert expected.correctable

    summary, labels, probabilities = predict(study_folder, texts, tmp_path, correct_shift=True)
    assert summary.shift_corrected
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-4)
    assert labels == likeliest(expected.probabilities)
    assert abs(probabilities[:, 1].mean() - truth.mean()) < abs(plain[:, 1].mean() - truth.mean())

    summary, labels, probabilities = predict(study_folder, texts, tmp_path)
    assert summary.shift.detected
    assert not summary.shift_corrected
    np.testing.assert_allclose(probabilities, CORRECTION.apply(plain), atol=1e-5)
    assert labels == likeliest(CORRECTION.apply(plain))


def test_a_shift_that_leaves_a_class_no_text_is_not_allowed_for(corrected, tmp_path):
    texts = [f"a film lovely {number}" for number in range(120)]
    summary, _, probabilities = predict(corrected.study_folder, texts, tmp_path, correct_shift=True)
    assert summary.shift.detected
    assert not summary.shift.correctable
    assert not summary.shift_corrected
    np.testing.assert_allclose(probabilities, CORRECTION.apply(corrected.probabilities(texts)), atol=1e-5)


@pytest.mark.parametrize(
    ("share", "flags", "sentence"),
    [
        (0.9, (), r"Their classes seem to .* \(p = 0\.\d+\): bad \d+%, good \d+%; --correct-shift allows for that\."),
        (
            0.9,
            ("--correct-shift",),
            r"Their classes seem to .* \(p = 0\.\d+\), which the labels allow for: bad \d+%, good \d+%\.",
        ),
        (0.9, ("--correct-shift", "--soup"), ""),
        (0.5, ("--correct-shift",), ""),
    ],
)
def test_the_command_says_whether_the_classes_shares_differ_and_are_allowed_for(made, tmp_path, share, flags, sentence):
    file, out = table(tmp_path / "in.csv", texts_of(share, seed=3)[0]), tmp_path / "out.csv"
    words = ["predict", made.study_folder.path, file, "-o", out, "--text-column", "text", *flags]
    answer = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    first, *rest = answer.stdout.splitlines()
    assert first == f"300 texts labelled in {out}."
    about_shares = [line for line in rest if not line.startswith("All 300 texts are labelled")]
    assert len(about_shares) == bool(sentence)
    if sentence:
        assert re.fullmatch(sentence, about_shares[0])


@pytest.fixture
def own_columns(made: Made):
    """The study as one of a table with the columns of NSMC, whose recipe reads quotes as quotes."""
    recipe = made.study_folder.recipe_file.read_text()
    data = {"data.text_column": "document", "data.label_column": "label"}
    own = recipes.load_recipe("mine", made.study_folder.read_recipe().model_copy(update={"corpus": "mine"}), data)
    made.study_folder.recipe_file.write_text(own.to_yaml())
    yield made.study_folder
    made.study_folder.recipe_file.write_text(recipe)


def run(folder: StudyFolder, file: Path, *flags: str) -> tuple[str, list[str]]:
    """Returns what `predict` prints, and the lines of the file that it writes."""
    out = file.with_name("out.csv")
    words = ["predict", folder.path, file, "-o", out, *flags]
    answer = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.stdout, out.read_text().splitlines()


def test_a_table_with_the_study_s_own_columns_is_its_own_and_no_published_corpus_s(own_columns, tmp_path):
    texts = pd.DataFrame({"id": ["=7", "8"], "document": ["a lovely film", "it was awful"], "label": ["good", "other"]})
    texts.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    assert run(own_columns, tmp_path / "t.jsonl")[1] == ["id,label", "1,good", "2,bad"]
    texts.to_csv(tmp_path / "t.tsv", index=False, sep="\t")
    assert run(own_columns, tmp_path / "t.tsv", "--id-column", "id")[1] == ["id,label", "=7,good", "8,bad"]


def test_a_submission_has_the_columns_and_the_order_that_the_competition_wants(own_columns, tmp_path):
    lines = ["nr,document,d", "=7,lovely,1", "-8,awful,2", "9,a film lovely,1", "+10,awful,2", "@11,lovely,2"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    flags = ("--id-column", "nr", "--dialogue-column", "d", "--out-columns", "Id, Expected", "--spreadsheet-safe")
    expected = ["Id,Expected", "'=7,good", "'-8,bad", "9,good", "'+10,bad", "'@11,good"]
    assert run(own_columns, tmp_path / "t.csv", *flags)[1] == expected


@pytest.mark.parametrize("names", ["Id", "Id,", "a,b,c", "a,a"])
def test_out_columns_that_are_no_two_names_are_refused(made, tmp_path, names):
    file = table(tmp_path / "in.csv", ["lovely"])
    words = ["predict", made.study_folder.path, file, "-o", tmp_path / "o", "--text-column", "text"]
    with pytest.raises(UserError, match="must be two names, as Id,Expected"):
        CliRunner().invoke(cli.app, [*map(str, words), "--out-columns", names], catch_exceptions=False)


def test_texts_of_emoji_alone_are_labelled_with_a_warning(made, tmp_path):
    out, lines = run(made.study_folder, table(tmp_path / "in.csv", ["😀", "👍👍"]), "--text-column", "text")
    assert len(lines) == 3
    assert "The vocabulary has nothing of 2 of the 2 texts, as '😀', '👍👍': their labels are guesses." in out
    with pytest.warns(UserWarning, match="nothing of 1 of the 2 texts, as '😀'"):
        assert len(open_study(made.study_folder.path).predict(["a film", "😀"])) == 2


def test_a_table_without_header_or_in_another_encoding_is_labelled(made, tmp_path):
    (tmp_path / "t.txt").write_text('a lovely film é\n"it was awful awful awful\n', encoding="latin-1")
    flags = ("--no-header", "--text-column", "1", "--encoding", "latin-1", "--quoting", "none")
    assert run(made.study_folder, tmp_path / "t.txt", *flags)[1] == ["id,label", "1,good", "2,bad"]


def command(made: Made, folder: Path, texts: list[str], *flags: str) -> list[str]:
    """The lines of `predict` after the first."""
    words = ["predict", made.study_folder.path, table(folder / "in.csv", texts), "-o", folder / "out.csv"]
    answer = CliRunner().invoke(cli.app, [*map(str, words), "--text-column", "text", *flags], catch_exceptions=False)
    return answer.stdout.splitlines()[1:]


def test_labels_that_are_all_the_same_are_named(made, tmp_path):
    assert "All 3 texts are labelled good." in command(made, tmp_path, ["a lovely film"] * 3)
    assert not any("are labelled" in line for line in command(made, tmp_path, ["a lovely film", "it was awful"]))
    assert not any("are labelled" in line for line in command(made, tmp_path, ["a lovely film"]))


def test_a_model_that_does_not_beat_the_baseline_on_dev_is_named(made, tmp_path):
    texts = ["a lovely film", "it was awful"]
    assert not any("better than" in line for line in command(made, tmp_path, texts))
    # The soup's dev predictions are not there.
    assert not any("better than" in line for line in command(made, tmp_path, texts, "--soup"))
    _, truth = texts_of(0.5, seed=1)
    dev = Predictions(np.arange(300), truth, np.full((300, 2), [0.4, 0.6], np.float32))
    file = predictions_file(made.study_folder.predictions, "soup", 1)
    write_predictions(file, dev, LABELS)
    share = f"{100 * np.mean(truth):.2f} %"
    sentence = (
        f"Not better than always saying good ({share} on dev): the soup has accuracy {share}, and says good for every "
        "text."
    )
    assert sentence in command(made, tmp_path, texts, "--soup")
    file.unlink()


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr("bertgrid_tf.corpus.table.WINDOW", 50)


@pytest.mark.parametrize("flags", [(), ("--correct-shift",)])
def test_a_table_is_labelled_window_by_window_as_at_once(corrected, tmp_path, monkeypatch, flags):
    file = table(tmp_path / "in.csv", texts_of(0.9, seed=3)[0])
    said, whole = run(corrected.study_folder, file, "--text-column", "text", "--proba", *flags)
    monkeypatch.setattr("bertgrid_tf.corpus.table.WINDOW", 50)
    assert run(corrected.study_folder, file, "--text-column", "text", "--proba", *flags)[0] == said
    in_windows = pd.read_csv(tmp_path / "out.csv")
    at_once = pd.DataFrame([line.split(",") for line in whole[1:]], columns=whole[0].split(","))
    assert in_windows["id"].astype(str).tolist() == at_once["id"].tolist()
    assert in_windows["label"].tolist() == at_once["label"].tolist()
    np.testing.assert_allclose(in_windows["p_good"], at_once["p_good"].astype(float), atol=1e-6)


@pytest.mark.usefixtures("small_windows")
def test_an_error_in_a_late_row_names_it_and_leaves_the_former_file(made, tmp_path):
    file, out = tmp_path / "in.csv", tmp_path / "out" / "out.csv"
    file.write_text("text,n\n" + "a lovely film,1\n" * 120 + "it was awful\n")
    out.parent.mkdir()
    out.write_text("former")
    with pytest.raises(UserError, match=r"in\.csv, line 122: the row has 1 fields, the header has 2"):
        predict_file(made.study_folder, file, out, Columns("text"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(made.study_folder, file, out, Columns("text"), on_batch_end=interrupt)
    assert [path.name for path in out.parent.iterdir()] == ["out.csv"]
    assert out.read_text() == "former"


@pytest.mark.usefixtures("small_windows")
def test_a_pipe_gets_the_labels_of_a_window_before_the_next_is_read(made, tmp_path):
    file, out = tmp_path / "in.csv", tmp_path / "pipe"
    file.write_text("text,n\n" + "a lovely film,1\n" * 60 + "it was awful\n")
    os.mkfifo(out)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(out.read_text)
        with pytest.raises(UserError, match="line 62"):
            predict_file(made.study_folder, file, out, Columns("text"))
        assert read.result().splitlines() == ["id,label", *(f"{n},good" for n in range(1, 51))]


@pytest.mark.usefixtures("small_windows")
def test_a_vocabulary_is_refused_by_all_windows_together_before_any_label_is_written(made, tmp_path):
    foreign, out = ["привет мир и всё"] * 60, tmp_path / "out.csv"
    with pytest.raises(UserError, match="does not know these texts: "):
        predict_file(made.study_folder, table(tmp_path / "in.csv", [*foreign, "a film"]), out, Columns("text"))
    assert not out.exists()
    known = ["a film lovely it was awful"] * 90
    summary = predict_file(made.study_folder, table(tmp_path / "in.csv", [*foreign, *known]), out, Columns("text"))
    assert summary.texts == 150


def test_the_files_of_the_published_corpora_are_read_as_they_are(made, tmp_path):
    (tmp_path / "nsmc.tsv").write_text('id\tdocument\tlabel\n7\ta "lovely film\t1\n8\tit was awful\t0\n')
    assert run(made.study_folder, tmp_path / "nsmc.tsv")[1] == ["id,label", "7,good", "8,bad"]
    asked = "id,i_dialog,i_utterance,speaker,utterance\nb,0,1,Ross,it was awful\na,0,0,Joey,a lovely film\n"
    (tmp_path / "en.csv").write_text(asked)
    assert run(made.study_folder, tmp_path / "en.csv")[1] == ["Id,Expected", "b,bad", "a,good"]
    # With commas, or other columns, it is anybody's table.
    (tmp_path / "other.csv").write_text("id,document,label\n7,a lovely film,1\n")
    with pytest.raises(UserError, match="say which column holds the text with --text-column; its columns are id, doc"):
        run(made.study_folder, tmp_path / "other.csv")
    (tmp_path / "other.tsv").write_text("id\ttext\n7\ta lovely film\n")
    with pytest.raises(UserError, match="say which column holds the text with --text-column; its columns are id, text"):
        run(made.study_folder, tmp_path / "other.tsv")


def test_a_folder_or_the_texts_themselves_are_no_file_to_write(made, tmp_path):
    file = table(tmp_path / "in.csv", ["a lovely film"])
    before = file.read_bytes()
    for out, sentence in (
        (tmp_path, "is a folder: name a file in it with -o"),
        (file, "is the file with the texts: name another with -o"),
        (file / "out.csv", "is no folder to write to: name another with -o"),
    ):
        with pytest.raises(UserError, match=sentence):
            predict_file(made.study_folder, file, out, Columns("text"))
    assert file.read_bytes() == before


def test_the_speakers_and_dialogues_of_the_study_s_own_columns_are_used_where_a_table_has_them(made, tmp_path):
    file = made.study_folder.recipe_file
    before = file.read_text()
    own = {"data.text_column": "t", "data.label_column": "l", "data.speaker_column": "who", "data.dialogue_column": "d"}
    try:
        recipe = made.study_folder.read_recipe().model_copy(update={"corpus": "mine"})
        file.write_text(recipes.load_recipe("mine", recipe, own).to_yaml())
        frame = pd.DataFrame({"t": ["x", "y", "z"], "who": ["Ada", "Ben", ""], "d": [1, 1, 2], "other": ["C"] * 3})
        for columns, names in (
            (None, ["Ada", "Ben", None]),
            (Columns("t"), ["Ada", "Ben", None]),
            (Columns("t", speaker="other"), ["C"] * 3),
        ):
            (window,) = read_texts(made.study_folder, frame, columns)(None)
            assert [len(dialogue.utterances) for dialogue in window.dialogues] == [2, 1]
            assert [line.speaker for dialogue in window.dialogues for line in dialogue.utterances] == names
        (alone,) = read_texts(made.study_folder, frame[["t"]], Columns("t"))(None)
        assert [[line.speaker for line in dialogue.utterances] for dialogue in alone.dialogues] == [[None]] * 3
    finally:
        file.write_text(before)


def test_every_model_of_a_study_is_scored_on_an_opened_split(corrected, tmp_path):
    folder, (texts, truth) = corrected.study_folder, texts_of(0.5, seed=4)
    dialogues = [Dialogue((Utterance(text, LABELS[label]),)) for text, label in zip(texts, truth, strict=True)]
    corpus = Corpus.from_splits("mine", {"train": dialogues, "test": dialogues[:100], "dev": dialogues})
    metadata = folder.read_metadata()
    with pytest.raises(UserError, match="are no longer those of the study"):
        evaluate_split(folder, corpus, "test")
    with pytest.raises(UserError, match="mine has no split 'other'; choose from train, test, dev"):
        evaluate_split(folder, corpus, "other")
    folder.write_metadata(replace(metadata, fingerprint=corpus.fingerprint()))
    batches: list[int] = []
    try:
        evaluation = evaluate_split(folder, corpus, "test", lambda done, total, loss: batches.append(done))
    finally:
        folder.write_metadata(metadata)
    final, soup = (corrected.probabilities(texts[:100], soup=soup) for soup in (False, True))
    for model, probabilities in {"final": final, "soup": soup, "corrected": CORRECTION.apply(final)}.items():
        scores = evaluation.metrics[model]
        assert scores["accuracy"] == pytest.approx((probabilities.argmax(axis=1) == truth[:100]).mean())
        expected = expected_calibration_error(truth[:100], probabilities)
        assert scores["calibration_error"] == pytest.approx(expected, abs=1e-4)
    assert list(evaluation.metrics) == ["final", "soup", "corrected"]
    assert evaluation.final.score.value == evaluation.metrics["final"]["accuracy"]
    # The final model's batches, and then the soup's.
    assert batches == [*range(1, len(batches) // 2 + 1)] * 2
    written = pd.read_csv(folder.path / "evaluations.csv")
    assert written["of"].tolist() == ["final", "soup", "corrected"]
    assert written["accuracy"].tolist() == pytest.approx([scores["accuracy"] for scores in evaluation.metrics.values()])
    assert (written["split"] == "test").all()
    assert pd.to_datetime(written["opened"]).nunique() == 1
    assert (written["texts_bad"] + written["texts_good"] == 100).all()
    for model, probabilities in {"final": final, "soup": soup}.items():
        kept = read_predictions(folder.evaluation_file("test", model), LABELS)
        np.testing.assert_allclose(kept.probabilities, probabilities, atol=1e-5)
        assert (kept.truth == truth[:100]).all()
    assert not folder.evaluation_file("test", "corrected").exists()
