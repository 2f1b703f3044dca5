"""Which dev texts the runs of a study contradict, and which of them are likely label errors."""

from pathlib import Path

import made_up_study
import numpy as np
import pytest
from made_up_study import LABELS, TRUTH, write_trial

from bertgrid_tf.analysis import StudyScores, analyze, list_mistakes
from bertgrid_tf.analysis.mistakes import confident_classes
from bertgrid_tf.corpus import Corpus, Dialogue, Utterance
from bertgrid_tf.errors import UserError
from bertgrid_tf.report.answer import answer, label_errors
from bertgrid_tf.storage.predictions import Predictions, write_predictions
from bertgrid_tf.storage.records import HARD, LIKELY_ERROR, FollowUpTrial, Mistake
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import SEEDS, TrialConfig

DEV = tuple(
    Dialogue(
        tuple(
            Utterance(f"text {at}", LABELS[TRUTH[at]], "Ross" if at % 2 else None, key=f"k{at}" if at == 5 else None)
            for at in range(first, first + made_up_study.A_DIALOGUE)
        )
    )
    for first in range(0, made_up_study.TEXTS, made_up_study.A_DIALOGUE)
)
CORPUS = Corpus.from_splits("made up", {"train": DEV, "dev": DEV})


def run(*wrong: tuple[int, float]) -> np.ndarray:
    """Predictions that give the label 0.8, and the other class the given probability for some texts."""
    probabilities = np.where(np.arange(2) == TRUTH[:, None], 0.8, 0.2).astype(np.float32)
    for at, other in wrong:
        probabilities[at] = np.where(np.arange(2) == TRUTH[at], 1 - other, other)
    return probabilities


def study(folder: Path, *runs: np.ndarray) -> StudyFolder:
    rates = [1e-3 / 2**number for number in range(len(runs))]
    return made_up_study.make(folder, dict(zip([(rate, 1) for rate in rates], runs, strict=True)))


def mistakes(folder: StudyFolder) -> list[Mistake]:
    return list_mistakes(StudyScores(folder), CORPUS)


def test_a_text_that_every_run_contradicts_is_a_likely_label_error_and_another_wrong_one_is_hard(tmp_path):
    folder = study(tmp_path / "study", run((5, 0.9), (8, 0.95), (20, 0.9)), run((5, 0.98), (8, 0.4), (20, 0.2)))
    assert mistakes(folder) == [
        Mistake("k5", "text 4", "text 5", "neutral", "joy", 0.94, 0.06, 2, 2, LIKELY_ERROR),
        Mistake("9", "", "text 8", "joy", "neutral", 0.675, 0.325, 1, 2, HARD),
        Mistake("21", "", "text 20", "joy", "neutral", 0.55, 0.45, 1, 2, HARD),
    ]


def test_of_a_training_text_the_only_run_is_the_member_that_was_trained_without_it(tmp_path):
    folder = study(tmp_path / "study", run((5, 0.9)))
    out_of_fold = Predictions(made_up_study.DIALOGUES, TRUTH, run((8, 0.95)))
    write_predictions(folder.out_of_fold_file, out_of_fold, LABELS)
    of_dev, of_train = mistakes(folder)
    assert (of_dev.id, of_dev.split) == ("k5", "dev")
    assert of_train == Mistake("9", "", "text 8", "joy", "neutral", 0.95, 0.05, 1, 1, LIKELY_ERROR, "train")
    folder.write_mistakes([of_dev, of_train])
    assert folder.read_mistakes() == [of_dev, of_train]
    (_, sentence) = label_errors(analyze(folder))
    assert sentence.startswith("Training texts that the model that was trained without their fold puts into another")


def test_a_contradicted_text_below_the_confidence_of_the_other_class_is_hard(tmp_path):
    (only,) = mistakes(study(tmp_path / "study", run((6, 0.6)), run((6, 0.7))))
    assert (only.contradicting, only.runs, only.kind) == (2, 2, HARD)


def test_a_text_whose_predicted_class_has_at_most_half_of_the_probability_is_hard(tmp_path, monkeypatch):
    labels = ("a", "b", "c")
    truth = np.arange(made_up_study.TEXTS) % 3
    monkeypatch.setattr(made_up_study, "LABELS", labels)
    monkeypatch.setattr(made_up_study, "TRUTH", truth)
    probabilities = np.where(np.arange(3) == truth[:, None], 0.5, 0.25).astype(np.float32)
    probabilities[[0, 3]] = [[0.05, 0.5, 0.45], [0.05, 0.6, 0.35]]
    folder, dev = study(tmp_path / "study", probabilities), [Dialogue((Utterance("", labels[one]),)) for one in truth]
    listed = list_mistakes(StudyScores(folder), Corpus.from_splits("made up", {"train": dev, "dev": dev}))
    assert [(one.id, one.kind) for one in listed] == [("4", LIKELY_ERROR), ("1", HARD)]


def test_a_text_of_a_class_that_the_runs_have_not_learned_is_hard(tmp_path):
    joyless = run(*((at, 0.9) for at in range(0, 300, 2)), (5, 0.9))
    kinds = {one.kind: one.label for one in mistakes(study(tmp_path / "study", joyless))}
    assert kinds == {HARD: "joy", LIKELY_ERROR: "neutral"}


def test_the_context_is_the_two_utterances_before_the_text_in_its_dialogue_with_their_speakers(tmp_path):
    folder = study(tmp_path / "study", run((7, 0.9)))
    assert mistakes(folder)[0].context == "Ross: text 5 / text 6"


def test_every_trial_counts_once_by_its_best_epoch_with_sweeps_and_follow_ups(tmp_path):
    good, bad = run((5, 0.9)), run((5, 0.6), *((at, 0.9) for at in range(10, 20)))
    cells = {(1e-3, 1): bad, (1e-3, 2): good, (5e-4, 1): None}
    levels = [("context", "current", good, "COMPLETED*"), ("context", "current+next", None, "FAILED")]
    folder = made_up_study.make(tmp_path / "study", cells, levels, sweeps={"context": ["current", "current+next"]})
    config = TrialConfig(folder.read_recipe().hyperparameters, 2, 2, 2, SEEDS)
    metrics = [write_trial(folder, "seed2_0.001_2", epoch, of) for epoch, of in ((1, good), (2, bad))]
    folder.write_follow_up(FollowUpTrial("seed2_0.001_2", config, metrics))
    assert [(one.id, one.runs, one.p_predicted) for one in mistakes(folder)] == [("k5", 3, 0.9)]


def test_a_run_that_predicts_one_class_for_all_texts_does_not_count(tmp_path):
    constant = np.tile(np.float32([0.9, 0.1]), (made_up_study.TEXTS, 1))
    assert [(one.id, one.runs) for one in mistakes(study(tmp_path / "both", constant, run((5, 0.9))))] == [("k5", 1)]
    assert mistakes(study(tmp_path / "none", constant)) == []


def test_the_threshold_of_a_class_is_the_mean_probability_over_the_texts_labelled_with_it():
    probabilities = np.array([[0.9, 0.1, 0], [0.5, 0.5, 0], [0.65, 0.35, 0], [0.05, 0.95, 0], [0.75, 0.25, 0]])
    # Thresholds: 0.7 for the first class, 0.5167 for the second; none is labelled with the third.
    assert confident_classes(np.array([0, 0, 1, 1, 1]), probabilities).tolist() == [0, -1, -1, 1, 0]
    assert confident_classes(np.array([0, 0]), np.array([[0.9, 0.1], [0.1, 0.9]])).tolist() == [0, -1]
    # The only text of a class has its threshold.
    assert confident_classes(np.array([0, 1]), np.array([[0.75, 0.25], [0.5, 0.5]])).tolist() == [0, 1]


ODD = ['quoted "so", and\nbroken', "nan", "", "\r", "=1+1", "\ud800", "기쁨\x00", "long " * 40_000]


def test_texts_of_any_kind_are_read_as_they_were_written(tmp_path):
    folder = StudyFolder(tmp_path)
    written = [Mistake(str(n), text, text, "nan", "1", 0.5, 0.25, 1, 2, HARD) for n, text in enumerate(ODD)]
    folder.write_mistakes(written)
    read = folder.read_mistakes()
    assert [one.text for one in read] == [text.replace("\ud800", "?").replace("\x00", "") for text in ODD]
    assert (read[0].id, read[0].label, read[0].predicted, read[0].p_label) == ("0", "nan", "1", 0.25)


def test_a_damaged_file_is_a_sentence(tmp_path):
    folder = StudyFolder(tmp_path)
    assert folder.read_mistakes() == []
    folder.mistakes_file.write_text("id,text\n1")
    with pytest.raises(UserError, match=r"mistakes\.csv is damaged .*: run the study's `tune` command again"):
        folder.read_mistakes()


def test_the_answer_counts_the_likely_label_errors(tmp_path):
    folder = study(tmp_path / "study", run((5, 0.9), (8, 0.95)), run((5, 0.98), (8, 0.4)))
    folder.write_mistakes(mistakes(folder))
    assert (
        "Dev texts that the mean of 2 runs puts into another class than their label: 2, of which **1** are likely "
        "label errors (`mistakes.csv`)." in answer(analyze(folder))
    )
