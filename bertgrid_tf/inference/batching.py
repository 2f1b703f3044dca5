"""Requests ▶ batches: one thread owns the model, and requests that come within milliseconds share a batch."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic, sleep

import numpy as np

from bertgrid_tf.corpus import Dialogue, Utterance, texts_of
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.storage.study_folder import StudyFolder

BATCH_TEXTS = 64
"""Texts from which on a batch takes no further request: the first to wait must not wait for all the others' texts."""


class BusyError(Exception):
    """As many texts wait for the model as may."""


@dataclass(frozen=True)
class Answer:
    """The answer to one request.

    Attributes:
        probabilities: The probabilities of the classes with the study's correction, float [texts, classes].
        remarks: Sentences about texts whose labels are guesses.
    """

    probabilities: np.ndarray
    remarks: Sequence[str]


@dataclass(frozen=True)
class _Request:
    dialogues: Sequence[Dialogue]
    texts: int
    arrived: float = field(default_factory=monotonic)
    answer: Future[Answer] = field(default_factory=Future)


class Batcher:
    """The model of a study, which answers concurrent requests in batches.

    A request's probabilities are those that `predict` gives for its texts, within rounding: which texts share a batch
    decides about the last digits.

    Args:
        folder: The study.
        soup: Whether to use the soup instead of the final model.
        wait_seconds: How long a request waits for others to share its batch, where the model is idle.
        max_waiting: The most texts that wait for the model.

    Attributes:
        labels: The class names in the order of their ids.
        batches: The number of batches so far.

    Raises:
        UserError: The study has no such model.
    """

    def __init__(
        self, folder: StudyFolder, soup: bool = False, wait_seconds: float = 0.002, max_waiting: int = 1024
    ) -> None:
        self._predictor = Predictor(folder, soup)
        self._correction = None if soup else folder.read_correction()
        self._wait_seconds, self._max_waiting = wait_seconds, max_waiting
        self._queue = deque[_Request]()
        self._waiting = 0
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, "model")
        self.labels = self._predictor.labels
        self.batches = 0
        # The first pass traces the model, which takes seconds.
        empty = Utterance("", text_pair="" if folder.read_recipe().has_pairs else None)
        self._worker.submit(self._predictor.probabilities, [Dialogue((empty,))]).result()

    def submit(self, dialogues: Sequence[Dialogue]) -> Future[Answer]:
        """Queue a request of at least one text.

        Returns:
            The future answer; its exception is a UserError where the vocabulary does not know the texts.

        Raises:
            BusyError: Too many texts wait.
        """
        request = _Request(dialogues, sum(len(dialogue.utterances) for dialogue in dialogues))
        with self._lock:
            if self._waiting + request.texts > self._max_waiting:
                raise BusyError
            self._waiting += request.texts
            self._queue.append(request)
        self._worker.submit(self._answer_next)
        return request.answer

    def _answer_next(self) -> None:
        """Answer the requests that wait, as many as share a batch; none where an earlier batch had them all."""
        if self._queue:
            sleep(max(self._queue[0].arrived + self._wait_seconds - monotonic(), 0))
            self._answer([request for request in self._take() if request.answer.set_running_or_notify_cancel()])

    def _take(self) -> list[_Request]:
        taken, texts = list[_Request](), 0
        with self._lock:
            while self._queue and (not taken or texts + self._queue[0].texts <= BATCH_TEXTS):
                taken.append(self._queue.popleft())
                texts += taken[-1].texts
            self._waiting -= texts
        return taken

    def _answer(self, batch: Sequence[_Request]) -> None:
        try:
            self._classify(batch)
        except BaseException as error:  # A panic of the tokenizers' Rust is no Exception.
            left = [request for request in batch if not request.answer.done()]
            for request in left:
                if len(left) > 1:  # One request's failure is not the others'.
                    self._answer([request])
                else:
                    request.answer.set_exception(error)

    def _classify(self, batch: Sequence[_Request]) -> None:
        pieces, known = dict[str, list[int]](), list[tuple[_Request, list[str]]]()
        for request in batch:
            coverage = self._predictor.coverage()
            pieces |= coverage.add(texts_of(request.dialogues), worded_only=True)
            try:
                coverage.check()
            except UserError as error:
                request.answer.set_exception(error)
            else:
                known.append((request, coverage.remarks()))
        if not known:
            return
        dialogues = [dialogue for request, _ in known for dialogue in request.dialogues]
        probabilities = self._predictor.probabilities(dialogues, pieces=pieces)
        if self._correction:
            probabilities = self._correction.apply(probabilities)
        self.batches += 1
        begin = 0
        for request, remarks in known:
            request.answer.set_result(Answer(probabilities[begin : begin + request.texts], remarks))
            begin += request.texts
