import made_up_gpus
import numpy as np
import pytest
from made_up_gpus import A10, T4
from tiny_bert import trial

from bertgrid_tf.bert.precision import PrecisionTiming, candidates, choose, measure
from bertgrid_tf.bert.trainer import Trainer

CONFIG = trial(epochs=1)


@pytest.mark.parametrize(("cards", "other"), [([], "bf16"), ([A10], "bf16"), ([T4], "fp16"), ([A10, T4], "fp16")])
def test_what_may_pay_depends_on_the_oldest_gpu_that_is_used(monkeypatch, cards, other):
    made_up_gpus.give(monkeypatch, *cards)
    assert candidates() == ("fp32", other)


@pytest.mark.parametrize(
    ("rate", "agrees", "chosen"),
    [(150, True, "bf16"), (105, True, "fp32"), (50, True, "fp32"), (150, False, "fp32")],
    ids=["faster", "hardly faster", "slower", "another loss"],
)
def test_a_coarser_precision_must_be_clearly_faster_and_agree(rate, agrees, chosen):
    other = PrecisionTiming("bf16", rate, 0.7 if agrees else 0.72)
    assert choose(PrecisionTiming("fp32", 100.0, 0.7), other).precision == chosen


@pytest.fixture(scope="module")
def trainers(trainer) -> dict[str, Trainer]:
    return {"fp32": trainer, "bf16": Trainer(trainer.checkpoint, "bf16")}


def test_every_candidate_trains_the_same_steps(trainers, train):
    plain, coarse = measure(trainers.__getitem__, train, CONFIG)
    assert (plain.precision, coarse.precision) == ("fp32", "bf16")
    assert coarse.agrees(plain)
    assert plain.loss == pytest.approx(coarse.loss, rel=0.01)
    assert plain.loss != coarse.loss
    assert min(plain.examples_per_second, coarse.examples_per_second) > 0


def test_a_loss_that_is_no_number_agrees_with_nothing(trainers, train, monkeypatch):
    losses, seconds = trainers["bf16"].time_steps(train, CONFIG, 2)
    monkeypatch.setattr(trainers["bf16"], "time_steps", lambda *args: (losses * np.nan, seconds))
    timings = measure(trainers.__getitem__, train, CONFIG)
    assert not timings[1].agrees(timings[0])
    assert choose(*timings).precision == "fp32"


def test_a_model_without_another_precision_is_measured_in_fp32_alone(checkpoint, train):
    trainer = Trainer(checkpoint, forward=checkpoint.logits)
    (timings,) = measure(lambda precision: trainer, train, CONFIG)
    assert timings.precision == "fp32"


def test_timed_steps_are_the_beginning_of_a_run(trainer, train, dev, tmp_path):
    losses: list[float] = []
    list(trainer.run(train, dev, CONFIG, tmp_path, lambda done, steps, loss: losses.append(loss)))
    timed, seconds = trainer.time_steps(train, CONFIG, 3)
    assert list(timed) == losses[:3]
    assert len(seconds) == 3
    assert len(trainer.time_steps(train, CONFIG, 99)[0]) == len(losses)
