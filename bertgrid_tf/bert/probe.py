"""The largest batch that fits, found by training steps of growing batches in a process of their own.

That process may run out of memory, and may be killed for it, without harm to the one that asks: what was measured
until then has been told.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert import device
from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.encode import Encoded
from bertgrid_tf.bert.memory import Point, largest, predicted
from bertgrid_tf.bert.trainer import Labelled, Trainer, TrainSettings
from bertgrid_tf.bert.unpadded import Precision
from bertgrid_tf.errors import UserError
from bertgrid_tf.machine.alone import Tell, last_told
from bertgrid_tf.machine.host import free_memory, process_memory, readable

SECONDS = 60
"""How long to measure, once the model is loaded."""
STEPS = 3
"""So many are taken; the shortest but for the first, which traces, gives the rate."""
GAIN = 1.05
"""On a CPU, two doublings in a row that are not so much faster end the probe: more memory buys nothing there."""
REFINEMENTS = 3
"""So often the batch that the curve allows is measured itself, and joins the curve."""

Ended = Literal["memory", "most", "time", "rate"]


@dataclass(frozen=True)
class Question:
    """What is to be trained.

    Attributes:
        model: a checkpoint (`checkpoint.load`).
        labels: the classes.
        texts: for the vocabulary of `scratch`.
        max_length: of the made-up texts, all of them so long; tokens.
        precision: of the products.
        most: the largest batch of interest, texts.
        limit: bytes that may be taken of a GPU; None for all.
        sharers: processes that share the host's memory while the study runs.
    """

    model: str
    labels: tuple[str, ...]
    max_length: int
    most: int
    texts: tuple[str, ...] = ()
    precision: Precision = "fp32"
    limit: int | None = None
    sharers: int = 1


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        device: what it was measured on.
        on_gpu: whether that is a GPU.
        limit: bytes that training can take there; on a CPU, beside what a process has that only loaded TensorFlow.
        dimensions: of the model.
        points: the curve, by batch.
        failed: the smallest batch that there was no memory for; None where there was none.
        ended: why no larger batch was tried: for want of "memory", because "most" was reached, for want of "time", or
            because the "rate" did not grow any more.
    """

    device: str
    on_gpu: bool
    limit: int
    dimensions: Dimensions
    points: tuple[Point, ...] = ()
    failed: int | None = None
    ended: Ended = "memory"

    def allowed(self, most: int) -> int:
        """The largest batch up to `most` that takes at most 80 % of the limit by the curve; where time or rate ended
        the probe, none beyond what was measured."""
        if self.ended in ("time", "rate"):
            most = min(most, self.points[-1].batch)
        limit: float = self.limit
        if self.failed is not None:
            most, limit = min(most, self.failed - 1), min(limit, predicted(self.points, self.failed))
        return largest(self.points, limit, most)

    def chosen(self, most: int) -> int:
        """The batch to train with: the one allowed or, where a batch failed against what the curve says, the largest up
        to it that was measured."""
        allowed = self.allowed(most)
        if self.failed is None:
            return allowed
        return max(point.batch for point in self.points if point.batch <= allowed)


def probe(question: Question) -> Probe:
    """Measures in a process of its own.

    Raises:
        UserError: not even one text fits; or the checkpoint cannot be loaded there.
        RuntimeError: that process failed for a reason that nobody foresaw.
    """
    found: Probe | None = last_told(_measure, question)
    if found is None or not found.points:
        there = f"the memory of {found.device} ({readable(found.limit)})" if found else "the memory that is left here"
        raise UserError(
            f"{question.model} cannot be trained in {there}, with a single text of {question.max_length} tokens: "
            "choose a smaller model or a smaller max_length."
        )
    return found


def available(sharers: int = 1) -> tuple[str, bool, int]:
    """What is computed on, whether it is a GPU, and how many bytes one of `sharers` processes can take there.

    Of several GPUs, that with the least memory counts. Raises UserError where TensorFlow does not say how much it has.
    """
    gpus = device.gpus()
    if not gpus:
        return "the CPU", False, free_memory() // sharers
    sizes = [device.memory_limit() or gpu.memory or 0 for gpu in gpus]
    least = sizes.index(min(sizes))
    if not sizes[least]:
        raise UserError(
            f"How much memory {gpus[least].name} has is not known: give --gpu-memory, or a number for batch_size."
        )
    return str(gpus[least]), True, sizes[least]


# In the process of its own


def search(
    probe: Probe,
    train: Callable[[int], Point],
    most: int,
    tell: Callable[[Probe], None],
    now: Callable[[], float] = time.perf_counter,
) -> Probe:
    """Measures batches of 1, 2, 4, 8 … texts until memory, `most`, time or rate end it, then the batch that is allowed.

    Args:
        probe: what is known before.
        train: measures a batch, or raises MemoryError.
        most: the largest batch of interest.
        tell: called before and after each batch. Before it, the batch is told to have failed: if this process is killed
            for it, that was the last word, and a true one.
        now: a clock, in seconds.
    """

    def tried(probe: Probe, batch: int) -> Probe:
        failed = replace(probe, failed=batch)
        tell(failed)
        try:
            point = train(batch)
        except MemoryError:
            return failed
        probe = replace(probe, points=tuple(sorted((*probe.points, point))))
        tell(probe)
        return probe

    def in_time(batch: int) -> bool:
        return now() + STEPS * batch / probe.points[-1].rate < end

    probe, batch = tried(probe, 1), 2
    end = now() + SECONDS
    while probe.failed is None:
        rates = [point.rate for point in probe.points]
        slow = not probe.on_gpu and len(rates) > 2 and all(b < GAIN * a for a, b in pairwise(rates[-3:]))
        if batch > most:
            probe = replace(probe, ended="most")
        elif slow:
            probe = replace(probe, ended="rate")
        elif not in_time(batch):
            probe = replace(probe, ended="time")
        elif predicted(probe.points, batch) < probe.limit:
            probe, batch = tried(probe, batch), 2 * batch
            continue
        break
    for _ in range(REFINEMENTS):
        if not probe.points:
            break
        choice = probe.allowed(most)
        if choice in [point.batch for point in probe.points] or not in_time(choice):
            break
        probe = tried(probe, choice)
    return probe


def _measure(question: Question, tell: Tell) -> Probe:
    """Loads the model and measures it."""
    if question.limit is not None:
        device.limit_memory(question.limit)
    tf.zeros(1)  # has TensorFlow take what it takes in any case
    name, on_gpu, limit = available(question.sharers)
    base = process_memory("VmRSS")
    if not on_gpu:
        _watch(base + limit)
    with _memory_errors(proven=False):
        checkpoint = load(question.model, question.labels, texts=question.texts)
        trainer = Trainer(checkpoint, question.precision)
    vocabulary = checkpoint.model.config.vocab_size

    def texts(count: int) -> Labelled:
        """So many at least, and as many as it takes for every token to be among them."""
        count = max(count, -(-vocabulary // question.max_length))
        starts = np.arange(count + 1) * question.max_length
        ids = np.arange(starts[-1], dtype=np.int32) % vocabulary
        encoded = Encoded(ids, np.zeros_like(ids), starts, np.diff(starts), checkpoint.tokenizer.pad_token_id)
        return Labelled(encoded, (np.arange(count) % len(question.labels)).astype(np.int32))

    def train(batch: int) -> Point:
        settings = TrainSettings(learning_rate=1e-5, schedule_epochs=1, stop_epoch=1, batch_size=batch)
        made = texts(STEPS * batch)
        _reset_peak(on_gpu)
        with _memory_errors(proven=batch > 1):
            _, seconds = trainer.rehearse(made, settings, STEPS)
        if trainer.parts > 1:
            raise MemoryError
        return Point(batch, _peak(on_gpu) - (0 if on_gpu else base), batch / seconds[1:].min())

    dimensions = Dimensions.of(checkpoint.model.config, len(question.labels))
    return search(Probe(name, on_gpu, limit, dimensions), train, question.most, tell)


def _watch(most: int) -> None:
    """Ends this process when it has more than `most` bytes, before the machine is driven out of memory; should it come
    to that all the same, Linux ends it before any other."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")

    def watch() -> None:
        while process_memory("VmRSS") <= most:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _memory_errors(proven: bool) -> Iterator[None]:
    """Has a lack of memory be Python's MemoryError. A GPU's libraries have many words for it: where the same was
    `proven` to work with fewer texts, every failure is taken for one."""
    try:
        yield
    except tf.errors.OpError as error:
        if proven or isinstance(error, tf.errors.ResourceExhaustedError):
            raise MemoryError(error.message) from error
        raise


def _reset_peak(on_gpu: bool) -> None:
    if on_gpu:
        tf.config.experimental.reset_memory_stats("GPU:0")
    else:
        # Where this is not allowed, the first batches are told to have taken what loading the model took.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _peak(on_gpu: bool) -> int:
    """Bytes at the worst moment since `_reset_peak`: what tensors take of a GPU, or resident memory."""
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) if on_gpu else process_memory("VmHWM")
