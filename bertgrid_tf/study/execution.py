"""Where a study's trials run: in this process one at a time, or on workers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import keras_tuner

from bertgrid_tf.bank.surfaces import expected_surfaces
from bertgrid_tf.bert.replicas import replica_count
from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.budget.deadline import TimedOracle
from bertgrid_tf.budget.plan import search_space
from bertgrid_tf.corpus import Corpus, utterances
from bertgrid_tf.hyperparameters import Hyperparameters, Value
from bertgrid_tf.metrics.classification import unit
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.records import MeasuredSetting
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.auto_settings import AUTO_SETTINGS, HostShare
from bertgrid_tf.study.workers import LaterTrial, WorkerConfig, WorkerPool, later_trainable
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import TrialConfig
from tuners import CasualGridOracle, CasualGridSearch
from tuners.decisions import Choose
from tuners.files import delete
from tuners.parallel import ParallelSearch
from tuners.pool import LocalPool, Pool, train
from tuners.strategies import Strategy, strategy

if TYPE_CHECKING:
    from keras_tuner.engine.trial import Trial

Epochs = Iterator[Mapping[str, float]]
Oracle = TypeVar("Oracle", bound=CasualGridOracle)


def dev_examples(recipe: Recipe, corpus: Corpus) -> int | None:
    """Return the number of dev texts of which the recipe's metric is a share; None where it is none."""
    # A loss or a coefficient is no share of the examples.
    return None if unit(recipe.metric) != "%" else len(list(utterances(corpus.splits["dev"])))


def search_strategy(recipe: Recipe, corpus: Corpus) -> Strategy | Literal["grid"]:
    """Make the strategy of a recipe's search, without `auto`."""
    tables = expected_surfaces(recipe.hyperparameters.model) if recipe.search == "surface" else ()
    return strategy(recipe.search, recipe.search_share, dev_examples(recipe, corpus), tables) or "grid"


def make_oracle(kind: type[Oracle], recipe: Recipe, corpus: Corpus, choose: Choose | None) -> Oracle:
    """Make the oracle of a recipe's search, which prints nothing.

    Args:
        kind: The class.
        recipe: The recipe, without `auto`.
        corpus: The recipe's.
        choose: As for `CasualGridOracle`.
    """
    oracle = kind.over(
        search_space(recipe),
        keras_tuner.Objective(recipe.metric, recipe.direction()),
        recipe.seed,
        search=search_strategy(recipe, corpus),
        choose=choose,
        without_horizon=lambda values: recipe.can_lengthen(Hyperparameters.from_values(values)),
    )
    oracle.verbose = 0  # callbacks show what KerasTuner would print
    return oracle


@dataclass(frozen=True)
class TrialExecution:
    """Runs a study's trials.

    Attributes:
        corpus: The study's.
        recipe: Without `auto`, once these have been measured.
        folder: The study's.
        checkpoints: Hash of each model of the search.
        callback: Receives workers that come and go.
        workers: None to run the trials in this process.
    """

    corpus: Corpus
    recipe: Recipe
    folder: StudyFolder
    checkpoints: Mapping[str, str]
    callback: Callback
    workers: WorkerPool | None

    @property
    def count(self) -> int:
        """Trials at a time."""
        return 1 if self.workers is None else self.workers.count

    def at_once(self, gpus: int) -> int:
        """Return how many trials run at a time after the search, each on `gpus` GPUs."""
        return 1 if self.workers is None else self.workers.at_once(gpus)

    def final_gpus(self) -> int:
        """Return how many GPUs train the final model together; 1 for the CPU too.

        Raises:
            UserError: There are fewer than the recipe asks for.
        """
        asked = self.recipe.final_gpus
        return replica_count(asked) if self.workers is None else self.workers.final_gpus(asked)

    def measure(self, key: str, recipe: Recipe) -> MeasuredSetting:
        """Measure an `auto` key of a recipe in which the keys before it have their values."""
        gpus = self.final_gpus() if key.startswith("final.") else 1
        if self.workers is None:
            return AUTO_SETTINGS[key].measure(recipe, self.corpus, HostShare(final_gpus=gpus))
        return self.workers.measure(replace(self, recipe=recipe)._config, key, gpus)

    @contextmanager
    def pool(self) -> Iterator[Pool | None]:
        """Open the workers of the search; None where its trials run in this process."""
        if self.workers is None:
            yield None
            return
        with self.workers.of_search(self._config, self.callback) as pool:
            yield pool

    def tuner(
        self,
        oracle: TimedOracle,
        runner: TrialRunner,
        pool: Pool | None,
        on_trial_begin: "Callable[[Trial], None]",
        on_epoch_end: "Callable[[Trial, int, Mapping[str, float]], bool]",
    ) -> CasualGridSearch:
        """Make the tuner of a search."""
        arguments: dict[str, Any] = {
            "oracle": oracle,
            "directory": self.folder.path.parent,
            "project_name": self.folder.path.name,
            "on_trial_begin": on_trial_begin,
            "on_epoch_end": on_epoch_end,
        }
        if pool is not None:
            return ParallelSearch(pool, **arguments)

        def trainable(hyperparameters: Mapping[str, Value], folder: Path, *_: Any, **__: Any) -> Epochs:
            return runner.run(TrialConfig.from_values(hyperparameters, self.recipe.seed), folder)

        return CasualGridSearch(trainable, **arguments)

    def run_later(
        self,
        trials: Sequence[LaterTrial],
        runner: TrialRunner,
        begin: Callable[[LaterTrial], bool],
        on_epoch_end: Callable[[LaterTrial, int, Mapping[str, float]], bool],
        on_trial_end: Callable[[LaterTrial, list[dict[str, float]], str | None], None],
    ) -> None:
        """Run trials after the search, as many at a time as there are workers for.

        Args:
            trials: One or more, all of as many GPUs.
            runner: Runs them in this process where there are no workers.
            begin: Returns whether a trial begins; of one that does not, nothing is left.
            on_epoch_end: Called with the trial, the epoch and its metrics; returns whether the trial goes on.
            on_trial_end: Called with the trial, the metrics of its epochs, and the message of its failure or None.
        """
        known = {trial.name: trial for trial in trials}
        epochs: dict[str, list[dict[str, float]]] = {name: [] for name in known}

        def begun() -> Iterator[tuple[str, Mapping[str, Value], Path]]:
            for name, trial in known.items():
                if begin(trial):
                    self.folder.claim_state(trial.folder, trial.config)
                    yield name, trial.config.values, trial.folder
                else:
                    # It may have begun before the study was interrupted.
                    delete(trial.folder)
                    self.folder.delete_predictions(name)

        def scored(name: str, epoch: int, metrics: Mapping[str, float]) -> bool:
            epochs[name].append(dict(metrics))
            return on_epoch_end(known[name], epoch, metrics)

        with self._later_pool(trials, runner) as pool:
            for name, failure in train(pool, begun(), scored):
                on_trial_end(known[name], epochs[name], failure)

    def _later_pool(self, trials: Sequence[LaterTrial], runner: TrialRunner) -> AbstractContextManager[Pool]:
        if self.workers is None:
            return nullcontext(LocalPool(later_trainable(runner, trials)))
        return self.workers.after_search(self._config, trials, self.callback)

    @property
    def _config(self) -> WorkerConfig:
        return WorkerConfig(self.corpus, self.recipe, self.folder.path.absolute(), self.checkpoints)
