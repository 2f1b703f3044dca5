import io
from pathlib import Path

import pytest
from rich.console import Console

from bertgrid_tf.budget.time_estimator import StageWork, TimeEstimator
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.report.progress import ProgressBars, ProgressLines
from bertgrid_tf.storage.records import StageTime
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.workload import EpochWorkload
from bertgrid_tf.trial_config import TrialConfig

METRICS = {"accuracy": 0.5, "macro_f1": 0.25, "loss": 1.5, "seconds": 75.0}
HYPERPARAMETERS = Hyperparameters(context="current", learning_rate=2e-5, model="scratch", batch_size=32)
FOLDER = StudyFolder(Path("study"))
WORK = EpochWorkload("kind", "scratch", 1, 32, 12, 100.0, 0.0)


class Study:
    """Calls the estimator and the callback of a study on a simulated time, in which a step takes a second."""

    def __init__(self, callback: ProgressLines, stages: list[StageWork], workers: int = 1) -> None:
        self.now = 0.0
        self.callback = callback
        self.clock = TimeEstimator(0.0, workers, now=lambda: self.now)
        self.clock.expect(stages)
        callback.on_study_begin(FOLDER, self.clock)

    def begin(self, run: str, stage: str, epochs: int) -> None:
        self.clock.begin(run, stage, WORK, epochs)
        self.callback.on_trial_begin(run, TrialConfig(HYPERPARAMETERS, epochs, epochs, stage=stage), WORK.steps)

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


def printed(kind: type[ProgressLines]) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=kind is ProgressBars)
    with kind(console, "accuracy") as callback:
        study = Study(callback, STAGES)
        study.begin("0000", "sweep:context", 1)
        study.steps("0000", 12)
        study.score("0000", 1)
        study.begin("0001", "grid", 10)
        study.score("0001", 1)
    return console.file.getvalue()


@pytest.mark.parametrize("kind", [ProgressLines, ProgressBars])
def test_every_trial_and_every_epoch_has_a_line(kind):
    lines = printed(kind)
    assert "sweep context=current" in lines
    assert "grid learning_rate=2e-05" in lines
    assert "epoch 1/1  accuracy 50.00 %  macro_f1 25.00 %  loss 1.5000  1 min 15 s  " in lines


@pytest.mark.parametrize(
    ("gpus", "end"),
    [(1, "rate=2e-05  6"), (2, ", batch 32 = 2 × 16 per GPU  6"), (3, ", batch 32 = 3 × 10 or 11 per GPU  6")],
)
def test_the_final_model_s_line_says_how_its_batch_is_divided(gpus, end):
    console = Console(file=io.StringIO(), width=200)
    with ProgressLines(console, "accuracy") as callback:
        callback.on_trial_begin("final", TrialConfig(HYPERPARAMETERS, 6, 6, stage="final", gpus=gpus), 4)
    assert f"{end} epochs of 4 steps" in console.file.getvalue()


def test_the_predicted_time_of_every_stage_is_printed_after_the_first_steps():
    line = printed(ProgressLines).splitlines()[1]
    # 2 s of the sweep, 20 epochs of 12 s, 5 epochs.
    assert line == "predicted: sweep:context 2 s, grid at most 4 min 00 s, final at most 1 min 00 s: 5 min 02 s in all"


def test_every_epoch_has_the_share_of_the_study_and_the_time_left():
    lines = printed(ProgressLines).splitlines()
    assert lines[2].endswith("study 4%, 5 min 00 s left")
    assert "predicted" not in "".join(lines[2:])


def test_a_resumed_study_is_as_far_as_it_was():
    console = Console(file=io.StringIO(), width=200)
    callback = ProgressLines(console, "accuracy")
    study = Study(callback, [StageWork("grid", ((WORK, 2),))])
    study.clock = TimeEstimator(0.0, earlier=[StageTime("grid", measured=75.0)], now=lambda: 0.0)
    study.clock.expect([StageWork("grid", ((WORK, 2),))])
    callback.on_study_begin(FOLDER, study.clock)
    study.begin("0000", "grid", 2)
    study.score("0000", 1)
    assert "study 50%, 1 min 15 s left" in console.file.getvalue()


def test_a_message_is_printed_as_it_is():
    console = Console(file=io.StringIO(), width=200)
    ProgressLines(console, "accuracy").on_message("Chosen to fit [2h].")
    assert console.file.getvalue() == "Chosen to fit [2h].\n"


def test_no_bar_is_drawn_elsewhere_than_on_a_terminal():
    assert "\x1b" not in printed(ProgressLines)
    assert "study" in printed(ProgressBars)


@pytest.mark.parametrize("kind", [ProgressLines, ProgressBars])
def test_parallel_trials_have_their_titles_and_share_the_time_left(kind):
    console = Console(file=io.StringIO(), width=200, force_terminal=kind is ProgressBars)
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
    lines = console.file.getvalue()
    assert "sweep context=current  epoch 1/2  accuracy 50.00 %" in lines
    assert "grid learning_rate=2e-05  epoch 1/2" in lines
    # An epoch takes 75 s; of two runs of two each, one epoch is done.
    assert "2 min 30 s left" in lines
    assert "worker ready on alpha" in lines
    assert "sweep context=current resumes elsewhere" in lines


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


def test_on_forty_columns_the_bars_keep_their_names_and_the_time_left():
    console = Console(file=io.StringIO(), width=40, force_terminal=True, color_system=None)
    with ProgressBars(console, "accuracy") as callback:
        study = Study(callback, STAGES)
        study.begin("0000", "sweep:context", 1)
        study.steps("0000", 12)
        study.score("0000", 1)
        callback._bars.refresh()
    drawn = [line for line in console.file.getvalue().splitlines() if " % " in line][-3:]
    assert [name in line for name, line in zip(("epoch", "trial", "study"), drawn, strict=True)] == [True] * 3
    assert drawn[-1].endswith("4 % 5 min 00 s")
    assert "…" not in "".join(drawn)
