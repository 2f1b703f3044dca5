"""The opening of a study with a budget: an epoch of its first run, by which is chosen what fits."""

import shutil
from collections.abc import Iterator, Mapping
from math import log
from pathlib import Path

from keras_tuner.errors import FailedTrialError

from bertgrid_tf.files import write_text
from bertgrid_tf.plan import space, stage_runs
from bertgrid_tf.recipe import Recipe, Value
from tuners import Trainable
from tuners.pool import Pool, follow
from tuners.space import key

OPENING = "opening"
_RUN_FILE = "run.json"


def first_runs(recipe: Recipe) -> tuple[str, list[dict[str, Value]]]:
    """The first stage of a study that has runs, and its runs; of the grid's, those first that are given up last."""
    name, runs = next(stage for stage in stage_runs(recipe) if stage[1])
    if name != "grid":
        return name, runs
    searched = space(recipe)

    def distance(run: Mapping[str, Value]) -> tuple[int, float]:
        return int(run["schedule_epochs"]), abs(log(float(run["learning_rate"]) / recipe.settings.learning_rate))

    return name, sorted(searched.grid_runs(searched.start), key=distance)


def is_run_of(stage: str, values: Mapping[str, Value], recipe: Recipe) -> bool:
    """Whether a run of the first stage is still one where another recipe was chosen."""
    if stage != "grid":
        return stage.removeprefix("sweep:") in recipe.sweeps
    horizon = recipe.grid == "independent" or values["schedule_epochs"] == recipe.epochs
    return horizon and values["learning_rate"] in recipe.learning_rates


def carried(pool: Pool) -> Trainable:
    """A run of a single epoch that a pool carries."""

    def run(values: Mapping[str, Value], folder: Path) -> Iterator[Mapping[str, float]]:
        for metrics in follow(pool, OPENING, values, folder):
            pool.stop(OPENING)
            yield metrics
            return

    return run


class Opening:
    """The folder of an epoch that is trained before the search begins.

    It is an epoch of one of the search's own runs, which takes it over when it begins: nothing is trained twice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def train(self, values: Mapping[str, Value], run: Trainable) -> Mapping[str, float] | None:
        """Trains the first epoch of a configuration; its metrics, None where the run fails."""
        self.clear()
        self._folder.mkdir()
        write_text(self._folder / _RUN_FILE, _schedule(values))
        try:
            return next(iter(run(values, self._folder)), None)
        except FailedTrialError:
            return None

    def hand_over(self, values: Mapping[str, Value], folder: Path) -> None:
        """Gives the folder of a run what was trained of it, if it was this run."""
        file = self._folder / _RUN_FILE
        if file.is_file() and file.read_text(encoding="utf-8") == _schedule(values):
            for path in self._folder.iterdir():
                if path != file:
                    path.replace(folder / path.name)
            self.clear()

    def clear(self) -> None:
        """Deletes it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _schedule(values: Mapping[str, Value]) -> str:
    """What the first epoch of a run depends on: all but where it stops."""
    return key({name: value for name, value in values.items() if name != "stop_epoch"})
