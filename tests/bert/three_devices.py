"""Training on several devices.

`test_replicas.py` runs this with pytest in a process of its own, since a CPU can be divided into logical devices only
before TensorFlow has used it.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tiny_bert import LABELS, OTHER, UNLIKE, labelled, trial, without_dropout

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.dropout import DropoutKey
from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.bert.replicas import replica_count, replica_devices, strategy
from bertgrid_tf.bert.trainer import EpochResult, Trainer
from bertgrid_tf.errors import UserError
from bertgrid_tf.trial_config import TrialConfig

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 3
)

# 42 texts: the last batch has 2, fewer than three devices.
CONFIG = trial()
SEVERAL = pytest.mark.parametrize("replicas", [2, 3])

# What was seen is a tenth of these or less. The largest difference is that of the keys' biases: softmax cancels them,
# so that their gradients are nothing but rounding, which Adam divides by its own size.
LOSS, GRADIENT, WEIGHT, PROBABILITY = 2e-6, 1e-6, 3e-4, 1e-5
REFITTED = 1e-2
"""Of the weights of a head that L-BFGS has refitted."""


@pytest.fixture(scope="session")
def trainers(texts) -> Callable[..., Trainer]:
    """A trainer by its number of replicas; with dropout only where asked for."""
    built: dict[tuple[int, bool], Trainer] = {}

    def trainer(replicas: int, dropout: bool = False) -> Trainer:
        if (replicas, dropout) not in built:
            with strategy(replicas).scope():
                checkpoint = load("scratch:1x32", LABELS, texts=texts)
            built[replicas, dropout] = Trainer(checkpoint if dropout else without_dropout(checkpoint))
        return built[replicas, dropout]

    return trainer


@pytest.fixture(scope="session")
def train(checkpoint) -> EncodedDataset:
    return labelled(checkpoint, 42, seed=2)


class Run:
    """A run's epochs and losses, and the arrays of the state that it left."""

    def __init__(
        self,
        trainer: Trainer,
        train: EncodedDataset,
        dev: EncodedDataset,
        folder: Path,
        config: TrialConfig = CONFIG,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.losses: list[float] = []
        self.epochs: list[EpochResult] = list(
            trainer.run(
                train,
                dev,
                config,
                folder,
                lambda done, steps, loss: self.losses.append(loss),
                keep_weights=True,
            )
        )
        with np.load(folder / "state.npz") as state:
            self.state = {name: state[name] for name in state if name.startswith(("v", "w"))}

    def is_close_to(self, other: "Run", probability: float = PROBABILITY, refitted: Collection[str] = ()) -> bool:
        return (
            np.allclose(self.losses, other.losses[-len(self.losses) :], rtol=0, atol=LOSS)
            and self.state.keys() == other.state.keys()
            and all(
                np.allclose(self.state[v], other.state[v], rtol=0, atol=REFITTED if v in refitted else WEIGHT)
                for v in self.state
            )
            and np.allclose(self.epochs[-1].probabilities, other.epochs[-1].probabilities, rtol=0, atol=probability)
        )

    def equals(self, other: "Run") -> bool:
        return all(np.array_equal(self.state[v], other.state[v]) for v in other.state) and all(
            np.array_equal(a.probabilities, b.probabilities) for a, b in zip(self.epochs, other.epochs, strict=True)
        )


def copies_are_equal(trainer: Trainer) -> bool:
    """Bit for bit, weights and moments, on all devices."""
    copies = [[copy.numpy() for copy in variable.values] for variable in trainer._state()]
    assert {len(values) for values in copies} == {trainer.replicas}
    return all(np.array_equal(first, copy) for first, *rest in copies for copy in rest)


@SEVERAL
def test_a_step_on_several_devices_is_that_of_one(trainers, train, dev, tmp_path, replicas):
    # One batch; 20 texts are 7, 7 and 6 on three devices.
    config = trial(epochs=1, batch_size=20, max_grad_norm=0.1)
    batch = EncodedDataset(train.texts.take(np.arange(20)), train.labels[:20])
    one = Run(trainers(1), batch, dev, tmp_path / "one", config)
    several = Run(trainers(replicas), batch, dev, tmp_path / "several", config)
    assert len(one.losses) == 1
    assert several.is_close_to(one)
    # After one step the first moments are a tenth of the clipped gradient.
    variables = len(trainers(1).checkpoint.model.variables)
    for index in range(variables, 2 * variables):
        np.testing.assert_allclose(several.state[f"v{index}"], one.state[f"v{index}"], rtol=0, atol=GRADIENT / 10)


@pytest.mark.parametrize(("replicas", "grouped"), [(2, False), (3, True)])
def test_a_run_on_several_devices_is_that_of_one_but_for_rounding(trainers, train, dev, tmp_path, replicas, grouped):
    config = trial(group_by_length="always" if grouped else "never")
    one = Run(trainers(1), train, dev, tmp_path / "one", config)
    several = Run(trainers(replicas), train, dev, tmp_path / "several", config)
    assert len(several.losses) == 18
    assert several.is_close_to(one)
    assert copies_are_equal(trainers(replicas))


def test_a_batch_with_fewer_texts_than_devices_is_trained_as_on_one(trainers, train, dev, tmp_path):
    config = trial(epochs=1, batch_size=2)
    few = EncodedDataset(train.texts.take(np.arange(5)), train.labels[:5])
    one = Run(trainers(1), few, dev, tmp_path / "one", config)
    assert Run(trainers(3), few, dev, tmp_path / "three", config).is_close_to(one)


@pytest.mark.parametrize(("begun", "resumed"), [(1, 2), (2, 1), (3, 2)])
def test_a_run_goes_on_with_another_number_of_devices(trainers, train, dev, tmp_path, begun, resumed):
    whole = Run(trainers(1), train, dev, tmp_path / "whole")
    broken = trainers(begun).run(train, dev, CONFIG, tmp_path)
    next(broken)
    broken.close()
    rest = Run(trainers(resumed), train, dev, tmp_path)
    assert len(rest.losses) == 12
    assert rest.is_close_to(whole)


@pytest.mark.parametrize("schedule", ["linear", "inverse_sqrt"])
def test_a_resumed_run_on_several_devices_equals_an_uninterrupted_one(trainers, train, dev, tmp_path, schedule):
    trainer, config = trainers(2, dropout=True), CONFIG.with_hyperparameters(lr_schedule=schedule)
    whole = Run(trainer, train, dev, tmp_path / "whole", config)
    broken = trainer.run(train, dev, config, tmp_path)
    next(broken)
    broken.close()
    Run(trainer, train, dev, tmp_path / "another run in between", OTHER)
    assert Run(trainer, train, dev, tmp_path, config).equals(whole)
    assert copies_are_equal(trainer)


def test_every_device_drops_other_units_and_the_first_those_of_a_single_device():
    def masks(replicas: int) -> list[np.ndarray]:
        """The masks of two layers on each device."""
        with strategy(replicas).scope():
            model = tf_keras.Sequential([tf_keras.layers.Dropout(0.5), tf_keras.layers.Dropout(0.5)])
        key = DropoutKey(model)
        key.seed(1)

        @tf.function
        def drop() -> list[tf.Tensor]:
            key.set_step(tf.constant(7))
            made = strategy(replicas).run(lambda: [layer(tf.ones([8, 50]), training=True) for layer in model.layers])
            return [strategy(replicas).experimental_local_results(layer) for layer in made]

        return [device.numpy() for layer in drop() for device in layer]

    drawn = masks(3)
    assert len({mask.tobytes() for mask in drawn}) == 6
    np.testing.assert_array_equal(masks(1), [drawn[0], drawn[3]])


@SEVERAL
@pytest.mark.parametrize("count", [1, 2, 20])
def test_probabilities_come_in_the_order_of_the_texts(trainers, dev, replicas, count):
    asked = dev.texts.take(np.arange(count))
    for trainer in (trainers(1), trainers(replicas)):
        trainer.checkpoint.reset(0)
    several = trainers(replicas).probabilities(asked)
    assert several.shape == (count, 2)
    np.testing.assert_allclose(several, trainers(1).probabilities(asked), rtol=0, atol=PROBABILITY)


def test_one_trace_for_each_device_serves_every_shape_and_every_run_to_a_loss_that_is_no_number(
    trainers, train, dev, tmp_path
):
    traces, factor = 0, tf.Variable(1.0, trainable=False)
    checkpoint = trainers(2).checkpoint

    def counting(ids, types, mask, training):
        nonlocal traces
        traces += 1
        return checkpoint.logits(ids, types, mask, training) * factor.read_value()

    trainer = Trainer(checkpoint, forward=counting)
    # The checkpoint drops nothing, and is traced anew for a trial that does.
    own = dict.fromkeys(("hidden_dropout", "attention_dropout", "classifier_dropout"), "checkpoint")
    for number, config in enumerate((CONFIG, UNLIKE.with_hyperparameters(**own))):
        Run(trainer, train, dev, tmp_path / str(number), config)
    factor.assign(np.inf)
    assert [result.diverged for result in trainer.run(train, dev, CONFIG, tmp_path)] == [True]
    assert traces == 2 * 2  # training and prediction


def test_a_saved_model_is_loaded_onto_several_devices_and_saved_from_them(trainers, train, dev, tmp_path):
    begin = trainers(1).checkpoint
    begin.reset(0)
    begin.save(tmp_path / "begin")
    with strategy(2).scope():
        plain = load(str(tmp_path / "begin"), LABELS)
        checkpoint = load(str(tmp_path / "begin"), LABELS, markers=["[None]"])
    for saved, loaded in zip(begin.model.variables, plain.model.variables, strict=True):
        for copy in loaded.values:
            np.testing.assert_array_equal(copy, saved)
    trainer = Trainer(checkpoint)
    assert trainer.replicas == 2
    Run(trainer, train, dev, tmp_path / "run")
    assert copies_are_equal(trainer)
    checkpoint.save(tmp_path / "trained")
    plain = Trainer(load(str(tmp_path / "trained"), LABELS))
    assert plain.replicas == 1
    np.testing.assert_allclose(
        plain.probabilities(dev.texts), trainer.probabilities(dev.texts), rtol=0, atol=PROBABILITY
    )


def test_all_are_those_there_are_and_more_are_refused():
    assert len(replica_devices()) == replica_count("all") == 3
    assert replica_count(2) == 2
    with pytest.raises(UserError, match="on 4 GPUs, since TensorFlow sees no GPU: choose --final-gpus 3 or all"):
        replica_count(4)


@pytest.mark.parametrize("head", ["none", "smote"])
def test_weighted_targets_and_a_refitted_head_are_those_of_one_device(trainers, train, dev, tmp_path, head):
    targets = (0.1 + 0.8 * np.eye(2, dtype=np.float32)[train.labels]) * np.float32([[2.0], [0.5]])[train.labels]
    config = CONFIG.with_hyperparameters(focal_gamma=1.0, head_retraining=head)
    one, several = (
        Run(trainers(count), replace(train, targets=targets), dev, tmp_path / str(count), config) for count in (1, 3)
    )
    # Where L-BFGS stops moves more than the features that it is given do.
    classes = trainers(1)._unpadded_pass().classes
    variables = trainers(1).checkpoint.model.variables
    refitted = {
        f"w{n}"
        for n, variable in enumerate(variables)
        if any(variable is own for own in (classes.kernel, classes.bias))
    }
    assert len(refitted) == 2
    assert several.is_close_to(one) if head == "none" else several.is_close_to(one, 1e-3, refitted)
    assert copies_are_equal(trainers(3))
