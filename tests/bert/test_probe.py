"""The batches that are measured: on simulated machines by property, on this one in a child process."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_gpus import A10, T4, give
from tiny_bert import LABELS, sentences

from bertgrid_tf.bert import device, probe
from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.bert.memory import SHARE, Point, estimate, largest
from bertgrid_tf.bert.probe import Question, grow
from bertgrid_tf.errors import UserError

LIMIT = 10**11


class KilledError(BaseException):
    """Linux kills the process."""


class Machine:
    """A machine where a batch takes `fixed` + `per_text` × texts bytes.

    Args:
        has: Bytes; a batch that takes more fails, and kills the process where it `dies`.
        rate: Examples per second of a batch.
    """

    def __init__(
        self,
        fixed: float,
        per_text: float,
        has: float = LIMIT,
        rate: Callable[[int], float] = lambda batch: batch,
        dies: bool = False,
    ) -> None:
        self.fixed, self.per_text, self.has, self._rate, self._dies = fixed, per_text, has, rate, dies
        self.tried: list[int] = []
        self.sent: list[Point] = []

    def takes(self, batch: int) -> int:
        return round(self.fixed + self.per_text * batch)

    def train(self, batch: int) -> Point:
        self.tried.append(batch)
        if self.takes(batch) > self.has:
            raise KilledError if self._dies else MemoryError
        return Point(batch, self.takes(batch), self._rate(batch))

    def send(self, points: list[Point]) -> None:
        self.sent = list(points)

    def curve(self, limit: int, most: int, on_gpu: bool = True) -> list[Point]:
        """The points that the parent has in the end."""
        with suppress(KilledError):
            return grow(self.train, limit, most, on_gpu, self.send)
        return self.sent


def chosen(points: list[Point], limit: int, most: int) -> int:
    return largest(points, limit, min(most, points[-1].batch))


MACHINES = {
    "fixed": st.integers(0, 10**9),
    "per_text": st.integers(10**5, 10**8),
    "limit": st.integers(2 * 10**9, LIMIT),
    "most": st.integers(1, 500),
}


@given(**MACHINES)
def test_memory_is_filled_to_80_percent_and_never_beyond_the_limit(fixed, per_text, limit, most):
    machine = Machine(fixed, per_text, has=limit)
    points = machine.curve(limit, most)
    batch = chosen(points, limit, most)
    assert machine.takes(max(machine.tried)) <= limit
    assert machine.takes(batch) <= SHARE * limit + 1 or batch == 1
    assert batch >= max(most - 7, 1) or machine.takes(batch + 8) > SHARE * limit - 1
    assert [point.batch for point in points] == machine.tried == sorted(machine.tried)


@pytest.mark.parametrize("dies", [False, True], ids=["raises", "is killed"])
@given(**MACHINES, there=st.floats(0.3, 1))
def test_where_less_is_there_than_the_limit_a_batch_that_fits_is_chosen(dies, fixed, per_text, limit, most, there):
    machine = Machine(fixed, per_text, has=there * limit, dies=dies)
    points = machine.curve(limit, most)
    if machine.takes(1) > machine.has:
        assert not points
    else:
        assert machine.takes(chosen(points, limit, most)) <= machine.has


def test_a_cpu_s_batches_grow_until_two_doublings_are_no_faster():
    machine = Machine(0, 1, rate=lambda batch: min(batch, 8))
    assert [point.batch for point in machine.curve(LIMIT, 500, on_gpu=False)] == [1, 2, 4, 8, 16, 32]
    once = Machine(0, 1, rate=lambda batch: 1 if batch == 4 else batch)
    assert once.curve(LIMIT, 64, on_gpu=False)[-1].batch == 64


def test_a_gpu_s_memory_is_filled_though_it_gets_no_faster():
    assert Machine(0, 1, rate=lambda batch: min(batch, 8)).curve(LIMIT, 500)[-1].batch == 496


# The child process


def question(**changes: object) -> Question:
    texts = tuple(sentences(64, seed=1)[0])
    return replace(Question("scratch:1x32", LABELS, texts, max_length=16, precision="fp32", most=4), **changes)


@pytest.mark.slow
def test_real_steps_are_measured_in_a_child_process_near_the_estimate():
    points = probe.probe(question(), LIMIT)
    assert [point.batch for point in points] == [1, 2, 4]
    assert all(point.rate > 0 for point in points)
    size = replace(dimensions("scratch:1x32", len(LABELS)), vocabulary=100)
    for point in points:
        assert 0.6 < estimate(size, point.batch, 16, "fp32", on_gpu=False) / point.peak < 1.6


def test_memory_that_holds_no_text_is_one_sentence(monkeypatch):
    # What a child measures is among the slow tests, and of `batch_size auto` (`study/test_auto_settings.py`).
    for measured in ([Point(1, 10**6 + 1, 1.0)], None):
        monkeypatch.setattr(probe, "run_isolated", lambda function, argument, measured=measured: measured)
        with pytest.raises(UserError, match=r"^scratch:1x32 cannot be trained in 1 MB of memory, .*: choose a smaller"):
            probe.probe(question(), 10**6)
    monkeypatch.setattr(probe, "run_isolated", lambda function, argument: [Point(1, 10**6, 1.0)])
    assert [point.batch for point in probe.probe(question(), 10**6)] == [1]


@pytest.mark.slow
def test_an_error_about_the_checkpoint_is_raised_in_the_parent(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        probe.probe(question(model=str(tmp_path)), LIMIT)


def test_the_gpu_with_the_least_memory_is_the_limit_and_a_cap_counts(monkeypatch):
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    give(monkeypatch, A10, T4)
    assert probe.available(sharers=2) == ("Tesla T4 (16 GB)", True, T4[1])
    device.limit_memory(8 * 2**30)
    assert probe.available()[2] == 8 * 2**30
    give(monkeypatch, ("A card", None, (8, 6)))
    with pytest.raises(UserError, match=r"^How much memory A card has is not known: give --gpu-memory"):
        probe.available()
