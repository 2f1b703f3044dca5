"""Class weights, focal loss, the raters' votes and refitted heads as settings of a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import ElectraConfig

from bertgrid_tf import recipe as recipes
from bertgrid_tf.bert.checkpoint import load_tokenizer
from bertgrid_tf.budget.plan import training_indices
from bertgrid_tf.corpus import Corpus, Dialogue, Utterance, utterances
from bertgrid_tf.corpus.balance import class_weights
from bertgrid_tf.corpus.votes import VOTED, vote_shares
from bertgrid_tf.data import open_corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.trial_runner import TrialRunner


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
def runs(tmp_path_factory) -> TrialRunner:
    return TrialRunner(voted(open_corpus(recipe(), [])), recipe(), tmp_path_factory.mktemp("predictions"))


def scores(runs: TrialRunner, folder: Path, **changed: object) -> list[dict[str, float]]:
    folder.mkdir()
    values = runs.recipe.hyperparameters.model_dump() | {"schedule_epochs": 1, "stop_epoch": 1} | changed
    return [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in runs(values, folder)]


@pytest.mark.parametrize(
    "changed",
    [
        {"class_weights": "sqrt"},
        {"class_weights": "balanced"},
        {"focal_gamma": 2.0},
        {"soft_label_weight": 0.5},
        {"head": "refit"},
        {"head": "smote"},
        {"head": "rose"},
        {
            "class_weights": "effective",
            "focal_gamma": 1.0,
            "soft_label_weight": 1.0,
            "head": "smote",
            "oversample_ratio": 0.5,
        },
    ],
    ids=str,
)
def test_each_setting_changes_the_numbers_and_is_repeatable(runs, tmp_path, changed):
    plain, other, follow_up_trials = (
        scores(runs, tmp_path / name, **values) for name, values in (("a", {}), ("b", changed), ("c", changed))
    )
    assert np.isfinite(list(other[0].values())).all()
    assert other == follow_up_trials
    assert other != plain


def test_votes_and_weights_come_along_where_texts_are_drawn_again(runs):
    hyperparameters = runs.recipe.hyperparameters.model_copy(
        update={
            "oversample_ratio": 1.0,
            "undersample": "neutral:0.5",
            "soft_label_weight": 0.25,
            "class_weights": "sqrt",
        }
    )
    found = runs._training_texts(hyperparameters)
    visited = training_indices(runs.recipe, runs.corpus, hyperparameters)
    assert len(visited) > len(set(visited.tolist()))
    own = [utterance.label for utterance in utterances(runs.corpus.splits["train"])]
    labels = np.array([runs.corpus.labels.index(own[i]) for i in visited])
    expected = 0.75 * np.eye(len(runs.corpus.labels))[labels] + 0.25 * vote_shares(runs.corpus)[visited]
    np.testing.assert_allclose(found.targets, expected * class_weights(labels, "sqrt")[:, None], rtol=1e-5)
    assert found.targets.dtype == np.float32
    np.testing.assert_array_equal(found.labels, labels)


def test_without_them_there_are_labels_alone(runs):
    assert runs._training_texts(runs.recipe.hyperparameters).targets is None


def test_a_refitted_head_is_work_of_another_kind_and_a_loss_is_not(runs):
    values = runs.recipe.hyperparameters.model_dump()
    for changed in ({"class_weights": "balanced"}, {"focal_gamma": 2.0}, {"soft_label_weight": 1.0}):
        assert runs.work(values | changed) == runs.work(values)
    assert runs.work(values | {"head": "smote"}).kind != runs.work(values).kind


@pytest.mark.parametrize("changed", [{"soft_label_weight": 0.5}, {"sweeps": {"soft_label_weight": [0, 1]}}], ids=str)
def test_a_corpus_without_votes_has_no_soft_labels(tmp_path, changed):
    asked = recipe(**changed)
    with pytest.raises(
        UserError, match=r"soft_label_weight needs the raters' votes, and sample has none for '.+': leave it"
    ):
        TrialRunner(open_corpus(asked, []), asked, tmp_path).check()
    TrialRunner(voted(open_corpus(asked, [])), asked, tmp_path).check()


@pytest.mark.parametrize("changed", [{"head": "smote"}, {"sweeps": {"head": ["trained", "rose"]}}], ids=str)
def test_a_head_is_refitted_on_bert_alone(tmp_path, changed):
    tokenizer = load_tokenizer("scratch", [line.text for line in utterances(open_corpus(recipe(), []).splits["train"])])
    tokenizer.save_pretrained(tmp_path)
    ElectraConfig(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    asked = recipe(**{"model": str(tmp_path)} | changed)
    with pytest.raises(UserError, match=r"head (smote|rose) is for BERT; \S+ is of type 'electra': use trained\."):
        TrialRunner(open_corpus(asked, []), asked, tmp_path).check()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"class_weights": "half"}, "class_weights must be 'none', 'balanced', 'sqrt' or 'effective', not 'half'"),
        ({"focal_gamma": -1}, "focal must be at least 0, not -1"),
        ({"focal_gamma": "nan"}, "focal must be"),
        ({"soft_label_weight": 1.5}, "soft_label_weight must be at most 1, not 1.5"),
        ({"head": "both"}, "head must be 'trained', 'refit', 'smote' or 'rose', not 'both'"),
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
        "head": ["trained", "rose"],
    }
    assert recipe(sweeps=levels).sweeps == levels
