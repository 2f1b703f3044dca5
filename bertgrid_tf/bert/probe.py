"""Memory and speed of growing batches, measured by training steps in a child process."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert import device
from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.encode import EncodedDataset, EncodedTexts
from bertgrid_tf.bert.memory import Point, largest, predicted
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters, Pooling, Precision
from bertgrid_tf.system.host import free_memory, process_memory, readable
from bertgrid_tf.system.isolated_process import Send, run_isolated
from bertgrid_tf.trial_config import TrialConfig

STEPS = 4
"""Training steps of each batch size; the median time after the first step, which traces, gives the rate."""
GAIN = 1.05
"""On a CPU, two doublings in a row that are not faster by this factor end the probe."""


@dataclass(frozen=True)
class Question:
    """The training whose largest batch is wanted.

    Attributes:
        model: A checkpoint (`checkpoint.load`).
        labels: Class names.
        texts: Texts for the vocabulary of a `scratch` model.
        max_length: Tokens of every measured text.
        precision: Precision of matrix products.
        most: The largest batch of interest in texts.
        frozen_layers: Lowest layers that are not trained.
        pooling: What the head reads.
    """

    model: str
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    max_length: int
    precision: Precision
    most: int
    frozen_layers: int = 0
    pooling: Pooling = "cls"


def available(sharers: int = 1) -> tuple[str, bool, int]:
    """Return the device, whether it is a GPU, and the bytes that one of `sharers` processes can take of its memory.

    Of several GPUs, the one with the least memory counts.

    Raises:
        UserError: The memory of the GPU is not known.
    """
    limit = device.memory_limit()
    gpu = min(device.gpus(), key=lambda gpu: limit or gpu.memory or 0, default=None)
    if gpu is None:
        return "the CPU", False, free_memory() // sharers
    if not (size := limit or gpu.memory):
        raise UserError(f"How much memory {gpu.name} has is not known: give --gpu-memory, or a number for batch_size.")
    return str(gpu), True, size


def probe(question: Question, limit: int) -> list[Point]:
    """Measure batches of 1, 2, 4, 8 … texts in a child process, then the batch that the curve allows (`grow`).

    Raises:
        UserError: A single text does not fit `limit` bytes, or the checkpoint cannot be loaded.
    """
    points: list[Point] | None = run_isolated(_measure, (question, limit, device.memory_limit()))
    if not points or points[0].peak > limit:
        raise UserError(
            f"{question.model} cannot be trained in {readable(limit)} of memory, with a single text of "
            f"{question.max_length} tokens: choose a smaller model or a smaller max_length."
        )
    return points


def no_faster(points: Sequence[Point], on_gpu: bool) -> bool:
    """Whether larger batches gain no speed on a CPU; a GPU's memory is always filled."""
    rates = [point.rate for point in points]
    return not on_gpu and len(rates) > 2 and all(b < GAIN * a for a, b in pairwise(rates[-3:]))


def grow(train: Callable[[int], Point], limit: int, most: int, on_gpu: bool, send: Send) -> list[Point]:
    """Double the batch while it fits and, on a CPU, gets faster; then measure the largest that the curve allows.

    Args:
        train: Measures a batch, or raises MemoryError.
        limit: Most bytes, by the curve, of a batch that is tried.
        most: The largest batch of interest in texts.
        on_gpu: Whether a GPU trains.
        send: Called with the curve after each batch; the result where this process is killed for the next one.
    """
    points: list[Point] = []
    batch = 1
    with suppress(MemoryError):
        while batch <= most and (not points or predicted(points, batch) <= limit) and not no_faster(points, on_gpu):
            points.append(train(batch))
            send(points)
            batch *= 2
        allowed = largest(points, limit, most)
        if allowed > points[-1].batch and not no_faster(points, on_gpu):
            points.append(train(allowed))
    return points


def _measure(question: tuple[Question, int, int | None], send: Send) -> list[Point]:
    """Load the model and measure it; the question comes with the limits of a batch and of each GPU's memory."""
    training, limit, gpu_memory = question
    if gpu_memory is not None:
        device.limit_memory(gpu_memory)
    on_gpu = bool(device.gpus())
    tf.zeros(1)  # TensorFlow's own memory counts to the base.
    base = 0 if on_gpu else process_memory("VmRSS")
    # Where memory ends, Linux is to kill this process before any other.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        checkpoint = load(training.model, training.labels, texts=training.texts)
        trainer = Trainer(checkpoint, training.precision, training.frozen_layers, training.pooling)
    except tf.errors.ResourceExhaustedError:
        return []
    vocabulary, length = checkpoint.model.config.vocab_size, training.max_length

    def train(batch: int) -> Point:
        # The texts hold every token of the vocabulary, so that all rows of the embeddings are updated.
        count = max(STEPS * batch, -(-vocabulary // length))
        starts = np.arange(count + 1) * length
        ids = np.arange(starts[-1], dtype=np.int32) % vocabulary
        texts = EncodedTexts(ids, np.zeros_like(ids), starts, np.diff(starts), checkpoint.tokenizer.pad_token_id)
        data = EncodedDataset(texts, (np.arange(count) % len(training.labels)).astype(np.int32))
        config = TrialConfig(Hyperparameters(learning_rate=1e-5, batch_size=batch), 1, 1)
        _reset_peak(on_gpu)
        try:
            _, seconds = trainer.time_steps(data, config, STEPS)
        except tf.errors.OpError as error:
            # A GPU's libraries have many errors for a lack of memory: any counts where a smaller batch was trained.
            if batch > 1 or isinstance(error, tf.errors.ResourceExhaustedError):
                raise MemoryError from error
            raise
        if trainer.micro_batches > 1:
            raise MemoryError
        return Point(batch, _peak(on_gpu) - base, batch / float(np.median(seconds[1:])))

    return grow(train, limit, training.most, on_gpu, send)


def _reset_peak(on_gpu: bool) -> None:
    if on_gpu:
        tf.config.experimental.reset_memory_stats("GPU:0")
    else:
        # Where this is forbidden, the peak of loading the model counts to the first batches.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _peak(on_gpu: bool) -> int:
    """Return the peak bytes since `_reset_peak`: of tensors on a GPU, or of resident memory."""
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"]) if on_gpu else process_memory("VmHWM")
