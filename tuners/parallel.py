"""The tuner of several trials at a time, trained by a pool."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src.distribute.utils import has_chief_oracle

from tuners.errors import TunerError
from tuners.oracle import CasualGridOracle
from tuners.pool import Pool
from tuners.tuner import NO_EPOCH, CasualGridSearch, configuration


class ParallelSearch(CasualGridSearch):
    """A `CasualGridSearch` with as many trials at a time as its pool has workers; `RayPool` has an example.

    The levels of one sweep run in parallel, and so do the rows of the grid; a stage starts when the stage before it is
    decided. The trials, their ids and their scores are those of a search with one trial at a time. An exception other
    than `FailedTrialError` ends the search, whatever the oracle's `max_retries_per_trial`.

    Args:
        pool: Pool that trains the trials, each under the name of its folder; the caller opens and closes the pool.
        oracle, directory, project_name, overwrite, on_trial_begin, on_epoch_end: As for `CasualGridSearch`.

    Raises:
        TunerError: The folder holds a damaged study or that of another search, or the process is a chief or a worker of
            KerasTuner's own distributed mode, which has workers of its own.
    """

    def __init__(
        self,
        pool: Pool,
        oracle: CasualGridOracle,
        directory: str | Path,
        project_name: str,
        overwrite: bool = False,
        on_trial_begin: Callable[[Trial], None] | None = None,
        on_epoch_end: Callable[[Trial, int, Mapping[str, float]], bool | None] | None = None,
    ) -> None:
        if has_chief_oracle():
            raise TunerError("a pool of workers and KerasTuner's own chief (KERASTUNER_TUNER_ID) exclude each other")
        super().__init__(_no_trainable, oracle, directory, project_name, overwrite, on_trial_begin, on_epoch_end)
        self._pool = pool

    def search(self) -> None:
        """Run or resume the search."""
        self.on_search_begin()
        # The oracle returns the unfinished trial of a tuner id, so each worker has an id of its own.
        idle = [f"worker{number}" for number in reversed(range(self._pool.size))]
        running: dict[str, tuple[Trial, str]] = {}
        while True:
            while idle and (trial := self._next(idle[-1])):
                folder = Path(self.get_trial_dir(trial.trial_id))
                running[folder.name] = trial, idle.pop()
                self._pool.start(folder.name, configuration(trial), folder)
            if not running:
                break
            report = self._pool.wait()
            trial, tuner = running[report.name]
            if report.metrics is not None:
                if self._report(trial, report.epoch, report.metrics):
                    self._pool.advance(report.name)
                    continue
                self._pool.stop(report.name)
            trial.message = report.failure or (None if report.epoch else NO_EPOCH)
            trial.status = TrialStatus.COMPLETED if trial.message is None else TrialStatus.FAILED
            self.on_trial_end(trial)
            del running[report.name]
            idle.append(tuner)
        self.on_search_end()

    def _next(self, tuner: str) -> Trial | None:
        """Return the next trial; None at the end of the search, or until a running trial has ended."""
        trial = self.oracle.create_trial(tuner)
        if trial.status in (TrialStatus.STOPPED, TrialStatus.IDLE):
            return None
        self.on_trial_begin(trial)
        return trial


def _no_trainable(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("a parallel search trains in its pool")
