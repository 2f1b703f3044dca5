"""The largest batch that fits: found on simulated machines by property, on this one by a process of its own."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_gpus import A10, T4, give
from tiny_bert import LABELS, sentences

from bertgrid_tf.bert import device, probe
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.memory import SHARE, Point, estimate, sizes
from bertgrid_tf.bert.probe import Probe, Question, search
from bertgrid_tf.errors import UserError
from bertgrid_tf.machine import alone

SIZE = Dimensions(layers=1, width=32, heads=1, intermediate=128, vocabulary=100, positions=512, types=2, classes=2)


class KilledError(BaseException):
    """Linux ends the process."""


class Machine:
    """One on which a batch takes `fixed` + `per_text` × texts bytes and, per text, `seconds` of a clock of its own.

    Args:
        has: bytes; a batch that takes more fails.
        dies: whether the process is killed then.
    """

    def __init__(
        self,
        fixed: float,
        per_text: float,
        has: float,
        seconds: Callable[[int], float] = lambda batch: 1e-3,
        dies: bool = False,
    ) -> None:
        self.fixed, self.per_text, self.has = fixed, per_text, has
        self._seconds, self._dies = seconds, dies
        self.time = 0.0
        self.tried: list[int] = []
        self.told: list[Probe] = []

    def takes(self, batch: int) -> int:
        return round(self.fixed + self.per_text * batch)

    def train(self, batch: int) -> Point:
        self.tried.append(batch)
        if self.takes(batch) > self.has:
            raise KilledError if self._dies else MemoryError
        self.time += probe.STEPS * batch * self._seconds(batch)
        return Point(batch, self.takes(batch), 1 / self._seconds(batch))

    def found(self, limit: int, most: int, on_gpu: bool = True) -> Probe:
        """What is known in the end to the one that asked."""
        begin = Probe("a device", on_gpu, limit, SIZE)
        try:
            return search(begin, self.train, most, self.told.append, lambda: self.time)
        except KilledError:
            return self.told[-1]


MACHINES = {
    "fixed": st.integers(0, 10**9),
    "per_text": st.integers(10**5, 10**8),
    "limit": st.integers(2 * 10**9, 10**11),
    "most": st.integers(1, 500),
}


@given(**MACHINES)
def test_memory_is_filled_to_80_percent_and_never_beyond_it(fixed, per_text, limit, most):
    machine = Machine(fixed, per_text, has=limit)
    found = machine.found(limit, most)
    chosen = found.chosen(most)
    assert found.failed is None
    assert max(map(machine.takes, machine.tried)) <= limit
    assert machine.takes(chosen) <= SHARE * limit + 1 or chosen == 1
    larger = [batch for batch in sizes(most) if batch > chosen]
    assert not larger or machine.takes(larger[0]) > SHARE * limit - 1
    assert chosen in machine.tried, "what is chosen has been seen to fit"


@pytest.mark.parametrize("dies", [False, True], ids=["raises", "is killed"])
@given(**MACHINES, there=st.floats(0.3, 1))
def test_where_less_is_there_than_was_thought_what_fits_is_chosen_all_the_same(
    dies, fixed, per_text, limit, most, there
):
    machine = Machine(fixed, per_text, has=there * limit, dies=dies)
    found = machine.found(limit, most)
    if not found.points:
        assert machine.takes(1) > machine.has
        return
    chosen = found.chosen(most)
    assert machine.takes(chosen) <= machine.has
    assert chosen <= most
    if found.failed is not None:
        assert chosen < found.failed


def test_each_batch_is_told_to_have_failed_before_it_is_tried():
    machine = Machine(0, 10, has=100, dies=True)
    found = machine.found(10**6, 64)
    assert machine.tried == [1, 2, 4, 8, 16]
    assert (found.failed, [point.batch for point in found.points]) == (16, [1, 2, 4, 8])
    assert [(told.failed, len(told.points)) for told in machine.told][:4] == [(1, 0), (None, 1), (2, 1), (None, 2)]


def knee(batch: int) -> float:
    """Seconds a text: twice as fast with every doubling up to 8 texts, then as fast."""
    return 1 / min(batch, 8)


def test_a_cpu_s_probe_ends_two_doublings_after_it_gets_no_faster():
    found = Machine(0, 1, 10**9, lambda batch: 1e-3 * knee(batch)).found(10**9, 500, on_gpu=False)
    assert (found.ended, found.points[-1].batch, found.chosen(500)) == ("rate", 32, 32)


def test_a_gpu_s_memory_is_filled_though_it_gets_no_faster():
    found = Machine(0, 1, 10**9, lambda batch: 1e-6 * knee(batch)).found(1000, 500)
    assert (found.ended, found.chosen(500)) == ("most", 496)


def test_a_minute_ends_the_probe_and_nothing_is_chosen_that_was_not_measured():
    machine = Machine(0, 1, 10**9, lambda batch: 1.0)
    found = machine.found(10**9, 500)
    assert (found.ended, found.chosen(500)) == ("time", 8)
    assert machine.time <= probe.SECONDS + probe.STEPS


# The process of its own


def question(**changes: object) -> Question:
    return replace(Question("scratch:1x32", LABELS, 16, most=4, texts=tuple(sentences(64, seed=1)[0])), **changes)


@pytest.fixture(scope="module")
def found() -> Probe:
    return probe.probe(question())


def test_real_steps_are_measured_in_a_process_of_its_own(found):
    assert (found.ended, found.failed, found.chosen(4)) == ("most", None, 4)
    assert [point.batch for point in found.points] == [1, 2, 4]
    assert all(point.rate > 0 and 0 < point.peak < found.limit for point in found.points)
    assert found.dimensions.layers == 1


def test_the_estimate_stands_near_what_a_tiny_model_takes(found):
    for point in found.points:
        assert 0.6 < estimate(found.dimensions, point.batch, 16, "fp32", on_gpu=False).peak / point.peak < 1.6


def test_a_process_that_is_killed_has_told_what_it_found(monkeypatch):
    started, load = [], pickle.load

    class Watched(alone.subprocess.Popen):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    def killing(file) -> Probe:
        told = load(file)
        if len(told.points) == 2:
            started[0].kill()
        return told

    monkeypatch.setattr(alone.subprocess, "Popen", Watched)
    monkeypatch.setattr(alone.pickle, "load", killing)
    found = probe.probe(question(most=4096))
    assert started[0].returncode < 0
    assert found.points[1].batch == 2
    assert 1 <= found.chosen(4096) < (found.failed or 4097)


def test_a_process_that_takes_more_than_there_is_ends_itself_and_that_is_one_sentence():
    # Of memory that so many share, each has less than TensorFlow takes to train anything.
    with pytest.raises(UserError, match=r"^scratch:1x32 cannot be trained in .*: choose a smaller model or"):
        probe.probe(question(sharers=10_000))


@pytest.mark.slow
def test_what_is_wrong_with_a_checkpoint_is_told_here(tmp_path):
    with pytest.raises(UserError, match="is not a checkpoint"):
        probe.probe(question(model=str(tmp_path)))


def test_the_gpu_with_the_least_memory_is_the_limit_and_a_cap_counts(monkeypatch):
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    give(monkeypatch, A10, T4)
    assert probe.available(sharers=2) == ("Tesla T4 (16 GB)", True, T4[1])
    device.limit_memory(8 * 2**30)
    assert probe.available()[2] == 8 * 2**30
    give(monkeypatch, ("A card", None, (8, 6)))
    with pytest.raises(UserError, match=r"^How much memory A card has is not known: give --gpu-memory"):
        probe.available()
