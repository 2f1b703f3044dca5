import io

import pytest
from rich.console import Console

from bertgrid_tf.budget.time_estimator import StageWork, TimeEstimator, Work
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.report.progress import Bars, Lines
from bertgrid_tf.storage.records import StageTime

METRICS = {"accuracy": 0.5, "macro_f1": 0.25, "loss": 1.5, "seconds": 75.0}
VALUES = {"context": "current", "learning_rate": 2e-5, "model": "scratch"}
WORK = Work("kind", "scratch", 1, 32, 12, 100.0, 0.0)


class Study:
    """Tells the clock and the listener of a study on a time of its own, in which a step takes a second."""

    def __init__(self, callback: Lines, stages: list[StageWork], workers: int = 1) -> None:
        self.now = 0.0
        self.callback = callback
        self.clock = TimeEstimator(0.0, workers, now=lambda: self.now)
        self.clock.expect(stages)
        callback.on_study_begin(self.clock)

    def begin(self, run: str, stage: str, epochs: int) -> None:
        self.clock.begin(run, stage, WORK, epochs)
        self.callback.on_trial_begin(run, stage, VALUES, epochs, WORK.steps)

    def steps(self, run: str, count: int) -> None:
        for done in range(1, count + 1):
            self.now += 1
            self.clock.step(run, done)
            self.callback.on_train_batch_end(run, done, WORK.steps, 1.0)

    def score(self, run: str, epoch: int) -> None:
        self.clock.epoch(run, epoch, METRICS["seconds"])
        self.callback.on_epoch_end(run, epoch, METRICS)


STAGES = [
    StageWork("sweep:context", ((WORK, 1),)),
    StageWork("grid", ((WORK, 10),) * 2, at_most=True),
    StageWork("final", ((WORK, 5),)),
]


def told(kind: type[Lines]) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=kind is Bars)
    with kind(console, "accuracy") as callback:
        study = Study(callback, STAGES)
        study.begin("0000", "sweep:context", 1)
        study.steps("0000", 12)
        study.score("0000", 1)
        study.begin("0001", "grid", 10)
        study.score("0001", 1)
    return console.file.getvalue()


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_every_run_and_every_epoch_has_a_line(kind):
    lines = told(kind)
    assert "sweep context=current" in lines
    assert "grid learning_rate=2e-05" in lines
    assert "epoch 1/1  accuracy 50.00 %  macro_f1 25.00 %  loss 1.5000  1 min 15 s  " in lines


@pytest.mark.parametrize(
    ("gpus", "end"),
    [(1, "rate=2e-05  6"), (2, ", batch 32 = 2 × 16 per GPU  6"), (3, ", batch 32 = 3 × 10 or 11 per GPU  6")],
)
def test_the_final_model_s_line_says_how_its_batch_is_divided(gpus, end):
    console = Console(file=io.StringIO(), width=200)
    with Lines(console, "accuracy") as callback:
        callback.on_trial_begin("final", "final", VALUES | {"batch_size": 32, "gpus": gpus}, 6, 4)
    assert f"{end} epochs of 4 steps" in console.file.getvalue()


def test_what_every_stage_will_take_is_told_after_the_first_steps():
    line = told(Lines).splitlines()[1]
    # 2 s of the sweep, 20 epochs of 12 s, 5 epochs.
    assert line == "predicted: sweep:context 2 s, grid at most 4 min 00 s, final at most 1 min 00 s: 5 min 02 s in all"


def test_every_epoch_says_what_is_over_and_what_is_left():
    lines = told(Lines).splitlines()
    assert lines[2].endswith("study 4%, 5 min 00 s left")
    assert "predicted" not in "".join(lines[2:])


def test_a_resumed_study_is_as_far_as_it_was():
    console = Console(file=io.StringIO(), width=200)
    callback = Lines(console, "accuracy")
    study = Study(callback, [StageWork("grid", ((WORK, 2),))])
    study.clock = TimeEstimator(0.0, earlier=[StageTime("grid", measured=75.0)], now=lambda: 0.0)
    study.clock.expect([StageWork("grid", ((WORK, 2),))])
    callback.on_study_begin(study.clock)
    study.begin("0000", "grid", 2)
    study.score("0000", 1)
    assert "study 50%, 1 min 15 s left" in console.file.getvalue()


def test_what_was_decided_is_told():
    console = Console(file=io.StringIO(), width=200)
    Lines(console, "accuracy").on_message("Chosen to fit [2h].")
    assert console.file.getvalue() == "Chosen to fit [2h].\n"


def test_no_bar_is_drawn_elsewhere_than_on_a_terminal():
    assert "\x1b" not in told(Lines)
    assert "study" in told(Bars)


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_runs_beside_one_another_are_told_apart_and_the_time_left_is_shared(kind):
    console = Console(file=io.StringIO(), width=200, force_terminal=kind is Bars)
    with kind(console, "accuracy") as callback:
        study = Study(callback, [StageWork("grid", ((WORK, 2),) * 2)], workers=2)
        callback.on_workers_begin(2, "1 GPU")
        callback.on_worker_begin("alpha")
        study.begin("0000", "sweep:context", 2)
        study.begin("0001", "grid", 2)
        study.score("0001", 1)
        study.score("0000", 1)
        callback.on_worker_lost("0000", "beta")
        study.score("0000", 1)
        callback.on_worker_lost(None, "")
    told = console.file.getvalue()
    assert "sweep context=current  epoch 1/2  accuracy 50.00 %" in told
    assert "grid learning_rate=2e-05  epoch 1/2" in told
    # An epoch takes 75 s; of two runs of two each, one epoch is done.
    assert "2 min 30 s left" in told
    assert "worker ready on alpha" in told
    assert "sweep context=current goes on elsewhere" in told


def test_numbers_have_their_units():
    assert score("macro_f1", 0.5678) == "56.78 %"
    assert score("train_loss", 1.0) == "1.0000"
    assert score("accuracy", float("nan")) == "diverged"
    assert [duration(s) for s in (0.4, 59.6, 61, 3599, 3600, 7384)] == [
        "0 s",
        "1 min 00 s",
        "1 min 01 s",
        "59 min 59 s",
        "1 h 00 min",
        "2 h 03 min",
    ]
