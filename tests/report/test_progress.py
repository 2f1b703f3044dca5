import io

import pytest
from rich.console import Console

from bertgrid_tf.report.format import duration, score
from bertgrid_tf.report.progress import Bars, Lines

METRICS = {"accuracy": 0.5, "macro_f1": 0.25, "loss": 1.5, "seconds": 75.0}
VALUES = {"context": "current", "learning_rate": 2e-5, "model": "scratch"}


def told(kind: type[Lines], total: int = 8) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=kind is Bars)
    with kind(console, "accuracy", total) as listener:
        listener.on_run("0000", "sweep:context", VALUES, 1, 4)
        for step in range(1, 5):
            listener.on_step("0000", step, 4, 1.0)
        listener.on_epoch("0000", 1, METRICS)
        listener.on_run("0001", "grid", VALUES, 1, 4)
        listener.on_epoch("0001", 1, METRICS)
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
    with Lines(console, "accuracy", 24) as listener:
        listener.on_run("final", "final", VALUES | {"batch_size": 32, "gpus": gpus}, 6, 4)
    assert f"{end} epochs of 4 steps" in console.file.getvalue()


def test_an_epoch_that_a_resumed_run_only_repeats_counts_as_done():
    lines = told(Lines).splitlines()
    assert "study 50%" in lines[1]
    assert "study 100%, 0 s left" in lines[3]


def test_what_an_earlier_process_did_counts_as_done():
    console = Console(file=io.StringIO(), width=200)
    listener = Lines(console, "accuracy", 8)
    listener.on_resume(4)
    listener.on_run("0001", "grid", VALUES, 1, 4)
    listener.on_epoch("0001", 1, METRICS)
    assert "study 100%" in console.file.getvalue()


def test_no_bar_is_drawn_elsewhere_than_on_a_terminal():
    assert "\x1b" not in told(Lines)
    assert "study" in told(Bars)


def test_the_time_left_is_the_mean_pace_times_the_steps_that_are_left(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("bertgrid_tf.report.progress.monotonic", lambda: next(clock))
    # Four steps end at 0, 1, 2 and 3, the epoch at 4: three steps and what came with them took 4 s.
    assert "study 50%, 5 s left" in told(Lines)


@pytest.mark.parametrize("kind", [Lines, Bars])
def test_runs_beside_one_another_are_told_apart_and_the_time_left_is_shared(kind):
    console = Console(file=io.StringIO(), width=200, force_terminal=kind is Bars)
    with kind(console, "accuracy", 40) as listener:
        listener.on_workers(2, "1 GPU")
        listener.on_worker("alpha")
        listener.on_run("0000", "sweep:context", VALUES, 2, 10)
        listener.on_run("0001", "grid", VALUES, 2, 10)
        listener.on_epoch("0001", 1, METRICS)
        listener.on_epoch("0000", 1, METRICS)
        listener.on_loss("0000", "beta")
        listener.on_epoch("0000", 1, METRICS)
        listener.on_loss(None, "")
    told = console.file.getvalue()
    # 20 of 40 steps are left; an epoch of 10 takes 75 s, and two run at a time.
    assert "sweep context=current  epoch 1/2  accuracy 50.00 %" in told
    assert "grid learning_rate=2e-05  epoch 1/2" in told
    assert told.count("study 50%, 1 min 15 s left") == 2
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
