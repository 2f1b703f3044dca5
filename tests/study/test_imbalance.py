"""Class weights, focal loss, the raters' votes and retrained heads as hyperparameters of a trial."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from transformers import DebertaV2Config

from bertgrid_tf import recipe as recipes
from bertgrid_tf.bert.loss import per_example_loss
from bertgrid_tf.bert.tokenizer import load_tokenizer
from bertgrid_tf.corpus import Corpus, Dialogue, Utterance, utterances
from bertgrid_tf.corpus.balance import class_weights
from bertgrid_tf.corpus.votes import VOTED, vote_shares
from bertgrid_tf.data import open_corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.encoding import CorpusEncoder
from bertgrid_tf.training.recipe_checks import check_recipe
from bertgrid_tf.training.resampling import training_indices
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.training.workload_estimator import WorkloadEstimator
from bertgrid_tf.trial_config import TrialConfig


def voted(corpus: Corpus) -> Corpus:
    """Three of five raters agreed on the label of every training text, the others chose among neutral and joy."""

    def judged(line: Utterance) -> Utterance:
        votes = [3 * (label == line.label) for label in VOTED]
        votes[len(line.text) % 2] += 5 - sum(votes)
        return replace(line, votes=tuple(votes))

    train = tuple(Dialogue(tuple(map(judged, dialogue.utterances))) for dialogue in corpus.splits["train"])
    return replace(corpus, splits={**corpus.splits, "train": train})


TINY = {"model": "scratch:1x32", "max_train_samples": 60, "sweeps": {}, "final.model": "none"}


def recipe(**changed: object) -> Recipe:
    return recipes.load_recipe("sample", None, TINY | changed)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return voted(open_corpus(recipe(), []))


@pytest.fixture(scope="module")
def runner(corpus, tmp_path_factory) -> TrialRunner:
    return TrialRunner(corpus, recipe(), tmp_path_factory.mktemp("predictions"))


def config(**changed: object) -> TrialConfig:
    return TrialConfig(recipe().hyperparameters, 1, 1, recipe().seed).with_hyperparameters(**changed)


def scores(runner: TrialRunner, folder: Path, **changed: object) -> list[dict[str, float]]:
    folder.mkdir()
    epochs = runner.run(config(**changed), folder)
    return [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in epochs]


@pytest.fixture(scope="module")
def plain(runner, tmp_path_factory) -> list[dict[str, float]]:
    return scores(runner, tmp_path_factory.mktemp("plain") / "trial")


@pytest.mark.parametrize(
    "changed",
    [
        {"class_weights": "sqrt"},
        {"class_weights": "balanced"},
        {"focal_gamma": 2.0},
        {"soft_label_weight": 0.5},
        {"label_smoothing": 0.1},
        {"head_retraining": "refit"},
        {"head_retraining": "smote"},
        {"head_retraining": "rose"},
        {
            "class_weights": "effective",
            "focal_gamma": 1.0,
            "soft_label_weight": 1.0,
            "label_smoothing": 0.2,
            "head_retraining": "smote",
            "oversample_ratio": 0.5,
        },
    ],
    ids=str,
)
def test_each_hyperparameter_changes_the_numbers_and_is_repeatable(runner, plain, tmp_path, changed):
    other, repeated = (scores(runner, tmp_path / name, **changed) for name in ("one", "other"))
    assert np.isfinite(list(other[0].values())).all()
    assert other == repeated
    assert other != plain


def test_resampled_texts_keep_their_votes_and_weights(corpus):
    hyperparameters = recipe(
        oversample_ratio=1.0, undersample="neutral:0.5", soft_label_weight=0.25, class_weights="sqrt"
    ).hyperparameters
    train = CorpusEncoder(corpus).training_set(TrialConfig(hyperparameters, 1, 1, 1))
    visited = training_indices(corpus, TrialConfig(hyperparameters, 1, 1, 1))
    assert len(visited) > len(set(visited.tolist()))
    own = [utterance.label for utterance in utterances(corpus.splits["train"])]
    labels = np.array([corpus.labels.index(own[i]) for i in visited])
    expected = 0.75 * np.eye(len(corpus.labels))[labels] + 0.25 * vote_shares(corpus)[visited]
    np.testing.assert_allclose(train.targets, expected * class_weights(labels, "sqrt")[:, None], rtol=1e-5)
    assert train.targets.dtype == np.float32
    np.testing.assert_array_equal(train.labels, labels)


def test_smoothed_targets_give_keras_s_loss_times_the_weight_of_the_class(corpus):
    hyperparameters = recipe(label_smoothing=0.1, class_weights="sqrt").hyperparameters
    train = CorpusEncoder(corpus).training_set(TrialConfig(hyperparameters, 1, 1, 1))
    logits = np.random.default_rng(0).normal(size=train.targets.shape).astype(np.float32)
    ours = per_example_loss(tf.constant(logits), tf.constant(train.targets), tf.constant(0.0))
    keras = tf_keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1, reduction="none")
    theirs = keras(np.eye(logits.shape[1], dtype=np.float32)[train.labels], logits)
    np.testing.assert_allclose(ours, theirs * class_weights(train.labels, "sqrt"), rtol=1e-5)


def test_votes_are_smoothed_before_they_are_weighed(corpus):
    hyperparameters = recipe(label_smoothing=0.1, soft_label_weight=1.0, class_weights="balanced").hyperparameters
    train = CorpusEncoder(corpus).training_set(TrialConfig(hyperparameters, 1, 1, 1))
    smoothed = 0.9 * vote_shares(corpus) + 0.1 / len(corpus.labels)
    np.testing.assert_allclose(train.targets, smoothed * class_weights(train.labels, "balanced")[:, None], rtol=1e-5)


def test_without_votes_and_weights_there_are_labels_alone(corpus):
    assert CorpusEncoder(corpus).training_set(TrialConfig(recipe().hyperparameters, 1, 1, 1)).targets is None


def test_a_retrained_head_is_work_of_another_kind_and_a_loss_is_not(corpus):
    workload = WorkloadEstimator(CorpusEncoder(corpus), 1).epoch
    losses = {"class_weights": "balanced", "focal_gamma": 2.0, "soft_label_weight": 1.0, "label_smoothing": 0.1}
    for name, value in losses.items():
        assert workload(config(**{name: value})) == workload(config())
    assert workload(config(head_retraining="smote")).kind != workload(config()).kind


@pytest.mark.parametrize("changed", [{"soft_label_weight": 0.5}, {"sweeps": {"soft_label_weight": [0, 1]}}], ids=str)
def test_a_corpus_without_votes_has_no_soft_labels(changed):
    asked = recipe(**changed)
    with pytest.raises(
        UserError, match=r"soft_label_weight needs the raters' votes, and sample has none for '.+': leave it"
    ):
        check_recipe(asked, open_corpus(asked, []))
    check_recipe(asked, voted(open_corpus(asked, [])))


@pytest.mark.parametrize(
    "changed", [{"head_retraining": "smote"}, {"sweeps": {"head_retraining": ["none", "rose"]}}], ids=str
)
def test_a_head_is_retrained_only_where_no_padding_is_computed(tmp_path, changed):
    tokenizer = load_tokenizer("scratch", [line.text for line in utterances(open_corpus(recipe(), []).splits["train"])])
    tokenizer.save_pretrained(tmp_path)
    DebertaV2Config(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")  # a file of no tensors
    asked = recipe(**{"model": str(tmp_path)} | changed)
    with pytest.raises(
        UserError, match=r"head_retraining (smote|rose) is not for type 'deberta-v2', which \S+ is of: use none\."
    ):
        check_recipe(asked, open_corpus(asked, []))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"class_weights": "half"}, "class_weights must be 'none', 'balanced', 'sqrt' or 'effective', not 'half'"),
        ({"focal_gamma": -1}, "focal_gamma must be a number from 0 to 1,000, not -1"),
        ({"focal_gamma": "nan"}, "focal_gamma must be"),
        ({"soft_label_weight": 1.5}, "soft_label_weight must be a number from 0 to 1, not 1.5"),
        ({"label_smoothing": -0.1}, "label_smoothing must be a number from 0 to 1, not -0.1"),
        ({"head_retraining": "both"}, "head_retraining must be 'none', 'refit', 'smote' or 'rose', not 'both'"),
    ],
    ids=str,
)
def test_a_value_out_of_its_range_is_refused(changed, reason):
    with pytest.raises(UserError, match=reason):
        recipe(**changed)


def test_all_of_them_can_be_swept():
    levels = {
        "class_weights": ["none", "sqrt"],
        "focal_gamma": [0, 2],
        "soft_label_weight": [0, 1],
        "label_smoothing": [0, 0.1],
        "head_retraining": ["none", "rose"],
    }
    assert recipe(sweeps=levels).sweeps == levels
