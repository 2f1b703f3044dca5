"""The search with several runs at a time: the oracle stays here, a pool carries the runs."""

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
    """As `CasualGridSearch`, with as many runs at a time as the pool carries.

    The levels of one sweep run beside one another, and so do the rows of the grid; nothing of a sweep starts
    before the sweep before it is decided, and nothing of the grid before the last. The trials, their ids and
    their scores are those of a search with one run at a time.

    Example:

        >>> with RayPool(lambda: run, size=4) as pool:
        ...     tuner = ParallelSearch(pool, oracle, directory="results", project_name="toy")
        ...     tuner.search()

    Args:
        pool: Carries the runs; its owner opens and closes it.
        oracle, directory, project_name, overwrite, on_trial, on_epoch: As for `CasualGridSearch`.

    Raises:
        TunerError: the folder holds a damaged study or that of another search; the process is a chief or a
            worker of KerasTuner's own distributed mode, which has workers of its own.
    """

    def __init__(
        self,
        pool: Pool,
        oracle: CasualGridOracle,
        directory: str | Path,
        project_name: str,
        overwrite: bool = False,
        on_trial: Callable[[Trial], None] | None = None,
        on_epoch: Callable[[Trial, int, Mapping[str, float]], bool | None] | None = None,
    ) -> None:
        if has_chief_oracle():
            raise TunerError("a pool of workers and KerasTuner's own chief (KERASTUNER_TUNER_ID) exclude each other")
        super().__init__(_not_here, oracle, directory, project_name, overwrite, on_trial, on_epoch)
        self._pool = pool

    def search(self) -> None:
        """Runs what is left of the search."""
        self.on_search_begin()
        # The oracle knows a tuner by its id, and hands it its unfinished trial again; so each run has a tuner.
        idle = [f"worker{number}" for number in reversed(range(self._pool.size))]
        running: dict[str, tuple[Trial, str]] = {}
        while True:
            while idle and (trial := self._next(idle[-1])):
                running[trial.trial_id] = trial, idle.pop()
                self._pool.start(trial.trial_id, configuration(trial), Path(self.get_trial_dir(trial.trial_id)))
            if not running:
                break
            report = self._pool.wait()
            trial, tuner = running[report.name]
            if report.metrics is not None:
                if self._report(trial, report.epoch, report.metrics):
                    self._pool.advance(report.name)
                    continue
                self._pool.stop(report.name)
            failure = report.failure or (None if report.epoch else NO_EPOCH)
            trial.status = TrialStatus.COMPLETED if failure is None else TrialStatus.FAILED
            trial.message = failure
            self.on_trial_end(trial)
            del running[report.name]
            idle.append(tuner)
        self.on_search_end()

    def _next(self, tuner: str) -> Trial | None:
        """The next trial; None where nothing is left, or nothing before a running one has ended."""
        trial = self.oracle.create_trial(tuner)
        if trial.status in (TrialStatus.STOPPED, TrialStatus.IDLE):
            return None
        self.on_trial_begin(trial)
        return trial


def _not_here(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("the runs of a parallel search are its pool's")
