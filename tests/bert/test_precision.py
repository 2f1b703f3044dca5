import made_up_gpus
import numpy as np
import pytest
from made_up_gpus import A10, M60, T4

from bertgrid_tf.bert.precision import Tried, candidates, choose, measure
from bertgrid_tf.bert.trainer import Trainer, TrainSettings

SETTINGS = TrainSettings(learning_rate=1e-3, schedule_epochs=1, stop_epoch=1, batch_size=8, seed=5)


@pytest.mark.parametrize(
    ("cards", "other"), [([], "bf16"), ([A10], "bf16"), ([T4], "fp16"), ([A10, T4], "fp16"), ([M60, A10], "bf16")]
)
def test_what_may_pay_depends_on_the_oldest_gpu_that_is_used(monkeypatch, cards, other):
    # TensorFlow leaves the M60 alone, whose capability of 5.2 it has no kernels for.
    made_up_gpus.give(monkeypatch, *cards)
    monkeypatch.setattr("bertgrid_tf.bert.device.least_capability", lambda: (6, 0))
    assert candidates() == ("fp32", other)


@pytest.mark.parametrize(
    ("pace", "agrees", "chosen"),
    [(150, True, "bf16"), (105, True, "fp32"), (50, True, "fp32"), (150, False, "fp32")],
    ids=["faster", "hardly faster", "slower", "another loss"],
)
def test_a_coarser_precision_must_be_clearly_faster_and_agree(pace, agrees, chosen):
    assert choose([Tried("fp32", 100.0, 0.7, True), Tried("bf16", pace, 0.7, agrees)]) == chosen


def test_every_candidate_trains_the_same_steps(checkpoint, train):
    plain, coarse = measure(lambda precision: Trainer(checkpoint, precision), train, SETTINGS)
    assert (plain.precision, coarse.precision) == ("fp32", "bf16")
    assert plain.agrees
    assert coarse.agrees
    assert plain.loss == pytest.approx(coarse.loss, rel=0.01)
    assert plain.loss != coarse.loss
    assert min(plain.examples_per_second, coarse.examples_per_second) > 0


def test_a_loss_that_is_no_number_agrees_with_nothing(checkpoint, train):
    class Broken(Trainer):
        def rehearse(self, *args):
            losses, seconds = super().rehearse(*args)
            return (losses if self.precision == "fp32" else losses * np.nan), seconds

    tried = measure(lambda precision: Broken(checkpoint, precision), train, SETTINGS)
    assert [one.agrees for one in tried] == [True, False]
    assert choose(tried) == "fp32"


def test_a_model_without_another_precision_is_measured_in_fp32_alone(checkpoint, train):
    trainer = Trainer(checkpoint, forward=checkpoint.logits)
    (tried,) = measure(lambda precision: trainer, train, SETTINGS)
    assert tried.precision == "fp32"


def test_a_rehearsal_is_the_beginning_of_a_run(trainer, train, dev, tmp_path):
    losses: list[float] = []
    list(trainer.run(train, dev, SETTINGS, tmp_path, lambda done, steps, loss: losses.append(loss)))
    rehearsed, seconds = trainer.rehearse(train, SETTINGS, 3)
    assert list(rehearsed) == losses[:3]
    assert len(seconds) == 3
    assert len(trainer.rehearse(train, SETTINGS, 99)[0]) == len(losses)
