"""Callbacks: the events of a study."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.storage.records import MeasuredSetting
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import TrialConfig


class Callback:
    """Receives the events of a study; every method does nothing unless it is overridden.

    A trial is known by the name of its folder and predictions. With workers, trials run in other processes:
    `on_train_batch_end` is not called then, and epochs of several trials come interleaved.

    Example:
        >>> class BestSoFar(Callback):
        ...     best = 0.0
        ...
        ...     def on_epoch_end(self, trial, epoch, metrics):
        ...         self.best = max(self.best, metrics["accuracy"])
        >>> callback = BestSoFar()
        >>> callback.on_epoch_end("trial_0000", 1, {"accuracy": 0.5})
        >>> callback.best
        0.5
    """

    def on_study_begin(self, study: StudyFolder, estimator: TimeEstimator) -> None:
        """Receive the study's folder and the estimator of elapsed and remaining time; called first."""

    def on_message(self, message: str) -> None:
        """Receive a sentence about a decision or about the data that a person should know of."""

    def on_auto_setting(self, key: str, setting: MeasuredSetting) -> None:
        """Receive the measured value of a recipe's key that is `auto`."""

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        """Receive a trial that begins or resumes; an epoch of it has `steps` training steps."""

    def on_train_batch_end(self, trial: str, step: int, steps: int, loss: float) -> None:
        """Receive the loss of training step `step` (from 1) of the current epoch's `steps`."""

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Receive the dev metrics of an epoch (from 1); epochs of a resumed trial that were saved are sent again."""

    def on_trial_end(self, trial: str) -> None:
        """Receive the name of a trial whose last epoch has ended."""

    def on_workers_begin(self, count: int, share: str) -> None:
        """Receive the number of workers, and in words the share of a host that each has."""

    def on_worker_begin(self, host: str) -> None:
        """Receive the host of a worker that is ready."""

    def on_worker_lost(self, trial: str | None, host: str) -> None:
        """Receive the host of a lost worker; its trial, if it had one, resumes on another."""

    def on_study_end(self) -> None:
        """Receive the end of the study, whose files are written."""


class CallbackList(Callback):
    """Calls every callback in turn."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = list(callbacks)


def _call_all(name: str) -> Callable[..., None]:
    def call(self: CallbackList, *arguments: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, name)(*arguments)

    return call


for _name in vars(Callback):
    if _name.startswith("on_"):
        setattr(CallbackList, _name, _call_all(_name))
