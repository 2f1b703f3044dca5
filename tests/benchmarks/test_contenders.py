"""The contenders that need no PyTorch, on tiny real models."""

import numpy as np
import pytest

from benchmarks.contenders import keras_model, ours, ours_study
from benchmarks.contenders.process import Process
from benchmarks.contenders.trials import trials_of
from benchmarks.layout import padded, their_request
from benchmarks.texts import PaddedTexts
from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.optimizer import learning_rates
from bertgrid_tf.corpus import utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters


@pytest.fixture(scope="module")
def checkpoint(corpus, tmp_path_factory):
    """A tiny classifier in a folder."""
    made = load("scratch:1x32", corpus.labels, texts=[one.text for one in utterances(corpus.splits["train"])])
    made.reset(1)
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    made.save(folder)
    return folder


def request(recipe, folder, **more):
    return {
        "recipe": recipe.model_dump(mode="json"),
        "data_dirs": [],
        "dev_utterances": 40,
        "folder": str(folder),
    } | more


@pytest.mark.slow
def test_the_others_get_the_same_texts_and_weights(recipe, corpus, checkpoint, tmp_path):
    hyperparameters = Hyperparameters.from_values(recipe.hyperparameters.model_dump() | {"model": str(checkpoint)})
    padded(corpus, hyperparameters, "dev").save(tmp_path / "dev.npz")
    texts = PaddedTexts.load(tmp_path / "dev.npz")
    model = keras_model.build(str(checkpoint), len(corpus.labels), 1e-3)
    theirs = model.predict(keras_model.dataset(texts, 32, shuffle=False), verbose=0).logits
    mine = load(str(checkpoint), corpus.labels).logits(texts.ids, texts.types, texts.mask, training=False)
    assert np.allclose(theirs, mine, atol=1e-5)
    accuracy = np.mean(theirs.argmax(axis=1) == texts.labels)
    evaluated = model.evaluate(keras_model.dataset(texts, 32, shuffle=False), verbose=0, return_dict=True)
    assert evaluated["accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 12])
def test_keras_has_our_schedule_and_goes_on_with_it(steps):
    ours = learning_rates(1e-3, steps, round(0.2 * steps), "linear")
    whole, later = keras_model.WarmupDecay(1e-3, steps), keras_model.WarmupDecay(1e-3, steps, done=steps // 2)
    assert [float(whole(step)) for step in range(steps)] == pytest.approx(ours)
    assert [float(later(step)) for step in range(steps - steps // 2)] == pytest.approx(ours[steps // 2 :])


@pytest.mark.slow
def test_hyperband_goes_on_with_trials_and_scores_the_test_split(recipe, corpus, checkpoint, tmp_path):
    given = recipe.hyperparameters.model_copy(update={"model": str(checkpoint)})
    theirs = their_request(
        recipe.model_copy(update={"hyperparameters": given}), corpus, tmp_path, ("train", "dev", "test"), longest=True
    )
    assert PaddedTexts.load(theirs["test"]).mask.sum(axis=0).all()  # no column is of padding alone
    theirs |= {"learning_rates": [n * 1e-3 for n in range(1, 7)], "epochs": 3, "precision": "bf16", "seed": 1}
    with Process("keras_tuner_search", "tensorflow", theirs | {"search": "hyperband"}, tmp_path / "log") as process:
        trials = trials_of(process.play())
    # Three trials of one epoch, the best of which goes on to its third; then two of all three.
    assert [len(trial.test) for trial in trials] == [len(trial.scored) for trial in trials] == [1, 1, 1, 2, 3, 3]
    assert trials[3].learning_rate == max(trials[:3], key=lambda trial: trial.accuracy).learning_rate
    assert trials[0].scored[0] > trials[0].began > 1  # imports count


def test_a_checkpoint_that_the_others_cannot_load_is_refused(recipe, corpus):
    with pytest.raises(UserError, match="--model scratch:1x32 is no checkpoint's folder"):
        padded(corpus, recipe.hyperparameters, "dev")


@pytest.mark.slow
def test_our_epoch_is_timed_with_a_single_dev_text(recipe, corpus, tmp_path):
    assert len(list(utterances(ours.one_dev_text(corpus).splits["dev"]))) == 1
    play = ours.prepare(request(recipe, tmp_path))
    assert play()["seconds"] > 0


@pytest.mark.slow
def test_our_grid_records_every_cell(recipe, tmp_path):
    trials = trials_of(ours_study.prepare(request(recipe, tmp_path, record="epochs"))())
    assert [trial.learning_rate for trial in trials] == [2e-3, 1e-3]
    assert [len(trial.epochs) for trial in trials] == [len(trial.accuracy) for trial in trials] == [2, 2]
    assert all(sum(trial.epochs) <= trial.seconds for trial in trials)


@pytest.mark.slow
def test_our_trials_record_every_step(recipe, corpus, tmp_path):
    reply = ours_study.prepare(request(recipe.model_copy(update={"epochs": 1}), tmp_path, record="steps"))()
    steps = -(-len(list(utterances(corpus.splits["train"]))) // recipe.hyperparameters.batch_size)
    assert [len(trial) for trial in reply["ends"]] == [steps, steps]
    assert all(memory > 10**8 for memory in reply["resident"])


def test_a_contender_that_fails_has_its_error_in_a_sentence(tmp_path):
    wanted = {"framework": "abacus", "products": []}
    with (
        Process("matmul", "tensorflow", wanted, tmp_path / "abacus.log") as process,
        pytest.raises(UserError, match=r"The contender abacus ended with code 1: KeyError: 'abacus'\."),
    ):
        process.play()


@pytest.mark.slow
def test_a_matrix_product_has_a_rate_in_both_precisions(tmp_path):
    wanted = {"framework": "tensorflow", "products": [(64, 32, 32)]}
    with Process("matmul", "tensorflow", wanted, tmp_path / "tensorflow.log") as process:
        reply = process.play()
        assert reply["peak_bytes"] > 10**8
    assert reply["fp32"] > 1e6
    assert reply["bf16"] > 1e6
