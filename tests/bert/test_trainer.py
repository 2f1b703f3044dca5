import io
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_bert import LABELS, OTHER, UNLIKE, trial, without_dropout

from bertgrid_tf.bert import trainer as trainers
from bertgrid_tf.bert.checkpoint import Checkpoint, load
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.head import refit
from bertgrid_tf.bert.layers import layer_numbers
from bertgrid_tf.bert.roofline import activation_bytes, training_flops, update_bytes
from bertgrid_tf.bert.trainer import EpochResult, Trainer, drop_weights, read_epochs
from bertgrid_tf.errors import UserError

CONFIG = trial()
BRANCHED = trial(lr_schedule="inverse_sqrt", warmup_ratio=0.1)
# 40 texts in batches of 8 are 15 steps in three epochs; the first 20 % of them warm up.
RATES = 1e-3 * np.array([min((step + 1) / 3, (15 - step) / 12) for step in range(15)])


def run(trainer, train, dev, folder: Path, config=CONFIG, **kwargs) -> list[EpochResult]:
    folder.mkdir(exist_ok=True)
    return list(trainer.run(train, dev, config, folder, **kwargs))


DIVERGED = {"accuracy": float("nan"), "train_loss": float("nan"), "train_seconds": 1.0, "seconds": 1.0}
TRAINED = DIVERGED | {"accuracy": 0.5, "train_loss": 0.7}
OF_DEV = np.full((3, 2), 0.5, np.float32)


@pytest.mark.parametrize(
    ("history", "probabilities", "damage"),
    [
        ([TRAINED, DIVERGED], {"p1": OF_DEV}, None),
        ([DIVERGED], {}, None),
        ([DIVERGED, TRAINED], {"p2": OF_DEV}, "the predictions of epoch 1 are missing"),
        ([TRAINED, TRAINED], {"p1": OF_DEV}, "the predictions of epoch 2 are missing"),
        *(
            (
                [{name: value for name, value in TRAINED.items() if name != lost}],
                {"p1": OF_DEV},
                "epoch 1 lacks metrics",
            )
            for lost in TRAINED
        ),
        ([TRAINED], {"p1": OF_DEV[:2]}, "the predictions of epoch 1 are none of dev"),
        ([TRAINED], {"p1": OF_DEV.astype(float)}, "the predictions of epoch 1 are none of dev"),
        ([TRAINED], {"p1": OF_DEV + np.float32(0.001)}, "the predictions of epoch 1 are none of dev"),
        ([TRAINED], {"p1": OF_DEV + np.float32(0.0004)}, None),
    ],
)
def test_the_epochs_of_a_state_are_whole_and_the_last_alone_may_have_diverged(history, probabilities, damage):
    state = {"history": np.array(json.dumps(history)), **probabilities}
    if damage is None:
        assert [(one.epoch, one.diverged, one.restored) for one in read_epochs(state, 3, 2)] == [
            (number, metrics is DIVERGED, True) for number, metrics in enumerate(history, start=1)
        ]
    else:
        with pytest.raises(ValueError, match=damage):
            read_epochs(state, 3, 2)


def same(one: list[EpochResult], other: list[EpochResult]) -> bool:
    """Bit for bit, wall time aside."""
    return len(one) == len(other) and all(
        {**a.metrics, "seconds": 0, "train_seconds": 0} == {**b.metrics, "seconds": 0, "train_seconds": 0}
        and np.array_equal(a.probabilities, b.probabilities)
        for a, b in zip(one, other, strict=True)
    )


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(len(LABELS), dtype=np.float32)[labels]


def test_it_learns(trainer, train, dev, tmp_path):
    results = run(trainer, train, dev, tmp_path, trial(epochs=8, seed=1, learning_rate=5e-3))
    assert results[-1].metrics["accuracy"] >= 0.9
    assert results[-1].metrics["train_loss"] < results[0].metrics["train_loss"]


def test_an_epoch_has_the_least_times_of_its_products_and_bytes(trainer, train, dev, tmp_path, monkeypatch):
    monkeypatch.setattr("bertgrid_tf.bert.roofline.peak", {"fp32": 1e9}.get)
    monkeypatch.setattr("bertgrid_tf.bert.roofline.bandwidth", lambda: 1e6)
    results = run(trainer, train, dev, tmp_path, trial(stop_epoch=2))
    size = Dimensions.of(trainer.checkpoint.model.config, len(trainer.checkpoint.labels))
    lengths, rows = train.texts.lengths, len({*train.texts.ids.tolist(), train.texts.pad_id})
    steps = -(-len(lengths) // trial().hyperparameters.batch_size)
    products = training_flops(size, lengths) / 1e9
    moved = (activation_bytes(size, lengths) + steps * update_bytes(size, rows, "fp32")) / 1e6
    assert [epoch.metrics["limit_seconds"] for epoch in results] == pytest.approx([products] * 2)
    assert [epoch.metrics["roofline_seconds"] for epoch in results] == pytest.approx([products + moved] * 2)


def test_a_reset_run_equals_that_of_a_freshly_built_model(trainer, train, dev, texts, tmp_path):
    first = run(trainer, train, dev, tmp_path / "first")
    again = run(trainer, train, dev, tmp_path / "follow_up")
    fresh = run(Trainer(load("scratch:1x32", LABELS, texts=texts)), train, dev, tmp_path / "fresh")
    assert same(first, again)
    assert same(first, fresh)


def test_the_seed_decides_the_numbers(trainer, train, dev, tmp_path):
    one, other = (run(trainer, train, dev, tmp_path / str(seed), trial(seed=seed)) for seed in (5, 6))
    assert not same(one, other)


@pytest.mark.parametrize("config", [CONFIG, BRANCHED], ids=["linear", "inverse_sqrt"])
@pytest.mark.parametrize("epochs_before_the_kill", [1, 2, 3])
def test_a_resumed_run_equals_an_uninterrupted_one(trainer, train, dev, tmp_path, epochs_before_the_kill, config):
    whole = run(trainer, train, dev, tmp_path / "whole", config)
    broken = trainer.run(train, dev, config, tmp_path)
    for _ in range(epochs_before_the_kill):
        next(broken)
    broken.close()
    run(trainer, train, dev, tmp_path / "another run in between", OTHER)
    steps: list[int] = []
    resumed = run(trainer, train, dev, tmp_path, config, on_train_batch_end=lambda *step: steps.append(step[0]))
    assert same(resumed, whole)
    # An epoch has five steps, and after a branch of two of them these come once more.
    assert steps == list(range(1, 6 if config is CONFIG else 8)) * (3 - epochs_before_the_kill)


@pytest.mark.parametrize(
    ("config", "step_of_the_kill"), [(CONFIG, 8), (BRANCHED, 8), (BRANCHED, 12)], ids=["linear", "trunk", "branch"]
)
def test_a_kill_inside_an_epoch_costs_that_epoch_alone(trainer, train, dev, tmp_path, config, step_of_the_kill):
    class KilledError(Exception):
        pass

    def kill(done: int, total: int, loss: float) -> None:
        nonlocal steps
        steps += 1
        if steps == step_of_the_kill:  # in the second epoch
            raise KilledError

    steps = 0
    whole = run(trainer, train, dev, tmp_path / "whole", config)
    with pytest.raises(KilledError):
        run(trainer, train, dev, tmp_path / "killed", config, on_train_batch_end=kill)
    assert same(run(trainer, train, dev, tmp_path / "killed", config), whole)


@pytest.mark.parametrize(
    "free",
    [{"lr_schedule": "inverse_sqrt"}, {"lr_schedule": "constant", "warmup_ratio": 0, "head_retraining": "refit"}],
    ids=["inverse_sqrt", "constant, with a retrained head"],
)
def test_a_run_without_horizon_goes_on_after_its_end_and_until_then_has_the_scored_model(
    trainer, train, dev, tmp_path, free
):
    short, long = trial(2, **free), trial(3, **free)
    whole = run(trainer, train, dev, tmp_path / "whole", long)
    for _ in range(2):  # trained, and resumed
        grown = run(trainer, train, dev, tmp_path / "grown", short, keep_weights=True)
        assert np.array_equal(trainer.probabilities(dev.texts), grown[-1].probabilities)
        run(trainer, train, dev, tmp_path / "another run in between", OTHER)
    assert same(run(trainer, train, dev, tmp_path / "grown", long, keep_weights=True), whole)


def test_a_state_is_written_while_the_next_epoch_is_trained_and_the_last_before_it_is_yielded(
    trainer, train, dev, tmp_path, monkeypatch
):
    released, written = threading.Event(), []

    def late(path: Path, arrays: dict[str, np.ndarray]) -> None:
        assert released.wait(60)
        written.append(len(json.loads(str(arrays["history"]))))

    monkeypatch.setattr("bertgrid_tf.bert.trainer._write", late)
    steps = []
    epochs = trainer.run(train, dev, CONFIG, tmp_path, lambda *step: steps.append(step))
    assert next(epochs).epoch == 1
    assert not written
    released.set()
    assert [result.epoch for result in epochs] == [2, 3]
    assert written == [1, 2, 3]


def test_a_state_holds_the_weights_of_its_epoch_however_late_it_is_written(trainer, train, dev, tmp_path, monkeypatch):
    whole = run(trainer, train, dev, tmp_path / "whole")
    write = trainers._write
    monkeypatch.setattr(trainers, "_write", lambda *file: (time.sleep(0.2), write(*file)))
    epochs = trainer.run(train, dev, CONFIG, tmp_path, lambda *step: None)
    for _ in range(2):
        next(epochs)
    epochs.close()
    assert same(run(trainer, train, dev, tmp_path), whole)


def test_a_state_that_cannot_be_written_ends_the_run_in_the_next_steps(trainer, train, dev, tmp_path, monkeypatch):
    def full(*file: object) -> None:
        raise UserError("Cannot write: no space left.")

    monkeypatch.setattr("bertgrid_tf.bert.trainer._write", full)
    steps: list[object] = []
    epochs = trainer.run(train, dev, CONFIG, tmp_path, lambda *step: (steps.append(step), time.sleep(0.05)))
    assert next(epochs).epoch == 1
    with pytest.raises(UserError, match="no space left"):
        next(epochs)
    assert len(steps) < 2 * 5  # of five steps an epoch


def test_stopping_early_keeps_the_schedule_of_the_whole_horizon(trainer, train, dev, tmp_path):
    whole = run(trainer, train, dev, tmp_path / "whole")
    assert same(run(trainer, train, dev, tmp_path / "stopped", trial(stop_epoch=2)), whole[:2])


def test_every_step_has_its_number_in_the_run_and_its_rate_in_the_schedule(trainer, train, dev, tmp_path, monkeypatch):
    updates: list[tuple[int, float]] = []
    step = trainer._step

    def recorded(batches, focal_gamma, update):
        updates.append((int(update.step), float(update.rate)))
        return step(batches, focal_gamma, update)

    monkeypatch.setattr(trainer, "_step", recorded)
    run(trainer, train, dev, tmp_path)
    assert [number for number, _ in updates] == list(range(15))
    np.testing.assert_allclose([rate for _, rate in updates], RATES, rtol=1e-6)
    updates.clear()
    # Of five steps an epoch, the last two are a branch; a fifth of two epochs' steps warm up.
    run(trainer, train, dev, tmp_path / "branched", trial(2, lr_schedule="inverse_sqrt"))
    assert [number for number, _ in updates] == [*range(5), *range(3, 10)]
    row = 1e-3 * np.minimum(np.arange(1, 11) / 2, np.sqrt(2 / np.arange(1, 11)))
    rates = [*row[:3], row[3], row[3] / 2, *row[3:8], row[8], row[8] / 2]
    np.testing.assert_allclose([rate for _, rate in updates], rates, rtol=1e-6)


def test_embeddings_that_no_text_reads_are_decayed_by_every_step_s_rate(trainer, checkpoint, train, dev, tmp_path):
    checkpoint.reset(CONFIG.seed)
    table = checkpoint.model.get_input_embeddings().weight
    unread = checkpoint.tokenizer.mask_token_id
    begin = table.numpy()[unread]
    run(trainer, train, dev, tmp_path, trial(weight_decay=50.0), keep_weights=True)
    np.testing.assert_allclose(table.numpy()[unread], begin * np.prod(1 - 50 * RATES), rtol=1e-5)


def test_one_step_moves_a_layer_by_the_layer_decay_less_than_the_layer_above(trainer, checkpoint, train, dev, tmp_path):
    def moved(layer_decay: float) -> list[np.ndarray]:
        checkpoint.reset(CONFIG.seed)
        before = [variable.numpy() for variable in checkpoint.model.variables]
        config = trial(1, batch_size=40, layer_decay=layer_decay, weight_decay=0.5)
        run(trainer, train, dev, tmp_path / str(layer_decay), config, keep_weights=True)
        return [variable - old for variable, old in zip(checkpoint.model.variables, before, strict=True)]

    variables = checkpoint.model.variables
    depths = [2 - number for number in layer_numbers(variables, checkpoint.model.base_model_prefix)]
    assert {*depths} == {0, 1, 2}
    for variable, depth, plain, ours in zip(variables, depths, moved(1.0), moved(0.25), strict=True):
        np.testing.assert_allclose(ours, plain * 0.25**depth, rtol=1e-3, atol=2e-7, err_msg=variable.name)


@pytest.fixture(scope="module")
def frozen(texts) -> Trainer:
    """Two layers, the lower one and the embeddings frozen."""
    return Trainer(load("scratch:2x32", LABELS, texts=texts), frozen_layers=1)


def test_frozen_layers_stay_as_they_are_and_the_others_have_the_gradients_that_they_had(
    frozen, train, dev, texts, tmp_path
):
    config = trial(1, batch_size=40, weight_decay=0.5, max_grad_norm=1e-3)
    whole, norms = Trainer(load("scratch:2x32", LABELS, texts=texts)), []
    for name, trainer in (("frozen", frozen), ("whole", whole)):
        trainer.checkpoint.reset(config.seed)
        before = [variable.numpy() for variable in trainer.checkpoint.model.variables]
        run(trainer, train, dev, tmp_path / name, config, keep_weights=True)
        variables = trainer.checkpoint.model.variables
        moved = [(variable != old).numpy().any() for variable, old in zip(variables, before, strict=True)]
        lowest = 1 if trainer is frozen else -1
        numbers = layer_numbers(variables, trainer.checkpoint.model.base_model_prefix)
        for variable, number, moves in zip(variables, numbers, moved, strict=True):
            assert moves == (number > lowest), variable.name
        # After a step the first moments are a tenth of the clipped gradient, whose norm is that of what is trained.
        norms.append(np.sqrt(sum(float(tf.reduce_sum(slot**2)) for slot in trainer._optimizer.first)))
    assert norms == pytest.approx([1e-4] * 2, rel=1e-3)
    upper = whole._optimizer.first[-len(frozen._optimizer.first) :]
    ratio = np.sqrt(sum(float(tf.reduce_sum(slot**2)) for slot in upper)) / norms[1]
    for one, other in zip(frozen._optimizer.first, upper, strict=True):
        np.testing.assert_allclose(one * ratio, other, rtol=1e-3, atol=1e-9)


def test_a_resumed_run_with_frozen_layers_equals_an_uninterrupted_one(frozen, train, dev, tmp_path):
    whole = run(frozen, train, dev, tmp_path / "whole")
    broken = frozen.run(train, dev, CONFIG, tmp_path)
    next(broken)
    broken.close()
    run(frozen, train, dev, tmp_path / "another run in between", OTHER)
    assert same(run(frozen, train, dev, tmp_path), whole)


def test_a_loss_that_is_no_number_ends_the_run(checkpoint, train, dev, tmp_path):
    class Diverging:
        """Logits that grow out of float32 as the weights move."""

        def __call__(self, ids, types, mask, training):
            return checkpoint.logits(ids, types, mask, training) * np.float32(1e38) * np.float32(10)

    results = run(Trainer(checkpoint, forward=Diverging()), train, dev, tmp_path)
    assert [result.epoch for result in results] == [1]
    assert results[0].diverged
    assert np.isnan(results[0].metrics["accuracy"])
    assert np.isnan(results[0].metrics["f1_good"])
    again = run(Trainer(checkpoint, forward=Diverging()), train, dev, tmp_path)
    assert [result.diverged for result in again] == [True]


class Counting:
    """A model's own forward pass, which counts how often it is traced."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.traces = 0
        self._checkpoint = checkpoint

    def __call__(self, ids, types, mask, training):
        self.traces += 1
        return self._checkpoint.logits(ids, types, mask, training)


def test_one_trace_serves_every_shape_run_and_loss_and_another_one_targets(checkpoint, train, dev, tmp_path):
    counting = Counting(checkpoint)
    trainer = Trainer(checkpoint, forward=counting)
    for number, config in enumerate((CONFIG, UNLIKE)):
        run(trainer, train, dev, tmp_path / str(number), config)
    assert counting.traces == 2  # one for training, one for prediction
    for gamma in (0.0, 2.0):
        config = trial(epochs=1, focal_gamma=gamma)
        run(trainer, replace(train, targets=one_hot(train.labels)), dev, tmp_path / f"targets {gamma}", config)
        run(trainer, train, dev, tmp_path / f"labels {gamma}", config)
    assert counting.traces == 3  # training on targets


def test_probabilities_come_in_the_order_of_the_texts(trainer, checkpoint, dev):
    batches = []
    together = trainer.probabilities(dev.texts, lambda *batch: batches.append(batch))
    assert [done for done, _, _ in batches] == list(range(1, batches[0][1] + 1))
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)
    one_by_one = [trainer.probabilities(dev.texts.take(np.array([i])))[0] for i in range(len(dev.texts))]
    np.testing.assert_allclose(together, one_by_one, atol=1e-5)


def test_padding_changes_no_logit(checkpoint, dev):
    ids = tf.constant(dev.texts.ids[None, : dev.texts.starts[1]])
    padded = tf.pad(ids, [[0, 0], [0, 5]])
    ones = tf.ones_like(ids)
    plain = checkpoint.logits(ids, tf.zeros_like(ids), ones, False)
    with_padding = checkpoint.logits(padded, tf.zeros_like(padded), tf.pad(ones, [[0, 0], [0, 5]]), False)
    np.testing.assert_allclose(plain, with_padding, atol=1e-5)


def test_kept_weights_are_in_place_when_a_finished_run_is_called_again(trainer, checkpoint, train, dev, tmp_path):
    run(trainer, train, dev, tmp_path, keep_weights=True)
    trained = [variable.numpy() for variable in checkpoint.model.variables]
    run(trainer, train, dev, tmp_path / "another", OTHER)
    run(trainer, train, dev, tmp_path, keep_weights=True)
    for before, variable in zip(trained, checkpoint.model.variables, strict=True):
        np.testing.assert_array_equal(before, variable.numpy())


def test_a_run_whose_state_is_damaged_is_trained_again(trainer, train, dev, tmp_path, caplog):
    once = run(trainer, train, dev, tmp_path)
    whole = (tmp_path / "state.npz").read_bytes()
    pickled, short = io.BytesIO(), io.BytesIO()
    np.savez(pickled, history=np.array([{}], dtype=object))
    np.savez(short, history="[]")
    for damaged in (
        whole[: len(whole) // 2],
        whole[:40] + b"x" * 40 + whole[80:],
        pickled.getvalue(),
        short.getvalue(),
    ):
        (tmp_path / "state.npz").write_bytes(damaged)
        again = run(trainer, train, dev, tmp_path)
        assert not any(epoch.restored for epoch in again)
        for one, other in zip(once, again, strict=True):
            np.testing.assert_array_equal(one.probabilities, other.probabilities)
    assert caplog.text.count("state.npz is damaged (") == 4


def test_a_finished_run_keeps_no_weights(trainer, train, dev, tmp_path):
    run(trainer, train, dev, tmp_path)
    with np.load(tmp_path / "state.npz") as state:
        assert not [name for name in state if name.startswith("v")]


@pytest.mark.parametrize(
    "changes", [{"lr_schedule": "inverse_sqrt"}, {"head_retraining": "refit"}], ids=["a branch", "a retrained head"]
)
def test_a_run_that_is_ended_early_leaves_the_model_that_was_scored(trainer, train, dev, tmp_path, changes):
    broken = trainer.run(train, dev, trial(**changes), tmp_path, keep_weights=True)
    first = next(broken)
    broken.close()
    run(trainer, train, dev, tmp_path / "another", OTHER)
    run(trainer, train, dev, tmp_path, trial(stop_epoch=1, **changes), keep_weights=True)
    assert np.array_equal(trainer.probabilities(dev.texts), first.probabilities)
    drop_weights(tmp_path)
    with np.load(tmp_path / "state.npz") as state:
        assert set(state) == {"history", "p1"}


@pytest.mark.parametrize("batch_size", [20, 40])
def test_an_epoch_of_one_or_two_steps_has_a_branch_of_its_last(trainer, train, dev, tmp_path, batch_size):
    steps: list[int] = []
    config = trial(2, lr_schedule="inverse_sqrt", batch_size=batch_size)
    whole = run(trainer, train, dev, tmp_path / "whole", config, on_train_batch_end=lambda *step: steps.append(step[0]))
    assert steps == {20: [1, 2, 1, 2, 3], 40: [1, 1, 2]}[batch_size]
    broken = trainer.run(train, dev, config, tmp_path / "broken")
    (tmp_path / "broken").mkdir()
    next(broken)
    broken.close()
    assert same(run(trainer, train, dev, tmp_path / "broken", config), whole)


def test_a_run_that_was_ended_early_keeps_its_results_and_starts_anew_if_it_is_to_go_on(trainer, train, dev, tmp_path):
    whole = run(trainer, train, dev, tmp_path / "whole")
    broken = trainer.run(train, dev, CONFIG, tmp_path)
    first = next(broken)
    broken.close()
    drop_weights(tmp_path)
    drop_weights(tmp_path / "none")
    steps: list[int] = []
    (kept,) = run(trainer, train, dev, tmp_path, replace(CONFIG, stop_epoch=1))
    assert same([kept], [first])
    assert same(run(trainer, train, dev, tmp_path, on_train_batch_end=lambda *step: steps.append(step[0])), whole)
    assert len(steps) == 15


@pytest.fixture(scope="module")
def calm(texts) -> Trainer:
    """With a model of its own, since targets are traced late; without dropout, whose draw depends on micro-batches."""
    return Trainer(without_dropout(load("scratch:1x32", LABELS, texts=texts)))


def test_dropout_rates_are_a_trial_s_own_where_the_checkpoint_drops_nothing_too(calm, trainer, train, dev, tmp_path):
    none = {f"{place}_dropout": 0 for place in ("hidden", "attention", "classifier")}
    plain = run(calm, train, dev, tmp_path / "plain")
    assert same(run(trainer, train, dev, tmp_path / "none", trial(**none)), plain)
    rates = trial(hidden_dropout=0.4)
    dropped = run(calm, train, dev, tmp_path / "dropped", rates)
    assert not same(dropped, plain)
    broken = calm.run(train, dev, rates, tmp_path)
    next(broken)
    broken.close()
    assert same(run(calm, train, dev, tmp_path / "again"), plain)
    assert same(run(calm, train, dev, tmp_path, rates), dropped)


def test_targets_that_say_what_the_labels_say_train_alike(calm, train, dev, tmp_path):
    plain = run(calm, train, dev, tmp_path / "labels")
    results = run(calm, replace(train, targets=one_hot(train.labels)), dev, tmp_path / "targets")
    for one, other in zip(plain, results, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        assert one.metrics["train_loss"] == pytest.approx(other.metrics["train_loss"], abs=1e-5)


def test_a_class_that_counts_nothing_is_not_learnt(calm, train, dev, tmp_path):
    weighed = replace(train, targets=one_hot(train.labels) * np.float32([1, 0]))
    assert run(calm, weighed, dev, tmp_path, trial(learning_rate=5e-3))[-1].metrics["recall_good"] == 0


def test_soft_targets_are_what_the_probabilities_come_to(calm, train, dev, tmp_path):
    undecided = replace(train, targets=np.full((len(train.texts), 2), [0.7, 0.3], np.float32))
    *_, last = run(calm, undecided, dev, tmp_path, trial(epochs=5, learning_rate=5e-3))
    np.testing.assert_allclose(last.probabilities.mean(axis=0), [0.7, 0.3], atol=0.1)


def test_the_focal_loss_counts_what_is_known_for_less(calm, train, dev, tmp_path):
    losses = {}
    for gamma in (0.0, 1.0, 2.0):
        config = trial(focal_gamma=gamma)
        results = run(calm, train, dev, tmp_path / str(gamma), config)
        targets = replace(train, targets=one_hot(train.labels))
        assert gamma == 0 or same(run(calm, targets, dev, tmp_path / f"{gamma} targets", config), results)
        losses[gamma] = results[0].metrics["train_loss"]
    assert losses[0] > 1.5 * losses[1] > 2.25 * losses[2]


def test_weighted_targets_are_trained_in_micro_batches_with_the_same_result(calm, train, dev, tmp_path):
    weighed = replace(train, targets=one_hot(train.labels) * np.float32([0.5, 2.0]))

    def losses(folder: str, micro_batches: int) -> list[float]:
        results: list[float] = []

        def on_train_batch_end(done: int, total: int, loss: float) -> None:
            calm.micro_batches = micro_batches
            results.append(loss)

        run(calm, weighed, dev, tmp_path / folder, trial(focal_gamma=1.0), on_train_batch_end=on_train_batch_end)
        return results

    # Of 8 texts, micro-batches of one and two.
    np.testing.assert_allclose(losses("in five micro-batches", 5), losses("whole", 1), atol=1e-5)


@pytest.mark.parametrize("head", ["refit", "smote", "rose"])
def test_every_epoch_is_scored_with_a_refitted_head_and_trained_with_its_own(trainer, train, dev, tmp_path, head):
    plain = run(trainer, train, dev, tmp_path / "trained")
    results = run(trainer, train, dev, tmp_path / head, trial(head_retraining=head))
    assert [epoch.metrics["train_loss"] for epoch in results] == [epoch.metrics["train_loss"] for epoch in plain]
    assert all((a.probabilities != b.probabilities).any() for a, b in zip(results, plain, strict=True))
    kernel, bias = refit(trainer.features(train.texts), train.labels, head, CONFIG.seed)
    expected = tf.nn.softmax(trainer.features(dev.texts) @ kernel + bias)
    np.testing.assert_allclose(results[-1].probabilities, expected, atol=1e-5)


def test_a_resumed_run_with_refitted_heads_equals_an_uninterrupted_one(trainer, train, dev, tmp_path):
    config = trial(head_retraining="smote")
    whole = run(trainer, train, dev, tmp_path / "whole", config)
    broken = trainer.run(train, dev, config, tmp_path)
    next(broken)
    broken.close()
    run(trainer, train, dev, tmp_path / "another run in between", OTHER)
    assert same(run(trainer, train, dev, tmp_path, config), whole)


def test_the_refitted_head_is_what_a_finished_run_leaves_in_the_model(trainer, train, dev, tmp_path):
    config = trial(head_retraining="rose")
    last = run(trainer, train, dev, tmp_path, config, keep_weights=True)[-1]
    np.testing.assert_array_equal(trainer.probabilities(dev.texts), last.probabilities)
    run(trainer, train, dev, tmp_path / "another", OTHER)
    run(trainer, train, dev, tmp_path, config, keep_weights=True)
    np.testing.assert_array_equal(trainer.probabilities(dev.texts), last.probabilities)


def test_a_pass_that_shows_no_features_has_no_refitted_head(checkpoint, train, dev, tmp_path):
    trainer = Trainer(checkpoint, forward=checkpoint.logits)
    with pytest.raises(UserError, match="use head_retraining none"):
        run(trainer, train, dev, tmp_path, trial(head_retraining="smote"))
