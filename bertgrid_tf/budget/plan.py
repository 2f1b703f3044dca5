"""The plan of a study: trials, epochs and steps of its stages."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import cycle
from math import prod

from bertgrid_tf.budget.time_estimator import StageWork
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.resampling import training_steps
from bertgrid_tf.training.workload import EpochWorkload
from bertgrid_tf.trial_config import AFTER_SEARCH, FINAL, GRID, INTERACTIONS, SEEDS, TrialConfig
from tuners.space import SearchSpace
from tuners.strategies import strategy


@dataclass(frozen=True)
class PlannedStage:
    """One stage as planned.

    Attributes:
        name: Its name.
        trials: Number of trials.
        epochs: Epochs of all trials.
        steps: Training steps of all trials.
        at_most: Whether epochs and steps are an upper bound.
    """

    name: str
    trials: int
    epochs: int
    steps: int
    at_most: bool


@dataclass(frozen=True)
class StudyPlan:
    """A study's stages, beside the training of every combination of all levels.

    Attributes:
        stages: In order. The stages after the search are upper bounds, since the winning epoch and the tied rows are
            open; so is a grid that the search does not fill, whose number of trials is open, too.
        product_trials: Trials of the full product, row sharing included.
        product_epochs: Epochs of the full product.
    """

    stages: tuple[PlannedStage, ...]
    product_trials: int
    product_epochs: int

    @property
    def trials(self) -> int:
        """Trials of all stages."""
        return sum(stage.trials for stage in self.stages)

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def steps(self) -> int:
        """Training steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def search_space(recipe: Recipe) -> SearchSpace:
    """Return the search space of a recipe."""
    return SearchSpace.of(
        recipe.learning_rates,
        recipe.epochs,
        recipe.sweeps,
        recipe.hyperparameters.model_dump(),
        recipe.sweep_epochs,
        recipe.grid_schedule,
    )


def stage_trials(recipe: Recipe) -> list[tuple[str, list[TrialConfig]]]:
    """List the trials of every stage in order, at the initial hyperparameters.

    After the search, trials are planned for all epochs, and further seeds for every row, since winner and tied rows
    are open.
    """
    space, chosen = search_space(recipe), strategy(recipe.search, recipe.search_share)
    stages = [
        (stage.name, [TrialConfig.from_values(values, recipe.seed, stage.name) for values in stage.configurations])
        for stage in space.plan().stages
    ]
    rows = [TrialConfig.from_values(values, recipe.seed) for values in space.grid_trials(space.start)]
    if chosen is not None:
        # Which rows it will start, and when it will stop them, is open: only the number of epochs has a bound.
        stages = [*(stages[:-1] if chosen.sweeps else ()), (GRID, _cut(rows, chosen.max_epochs(space)))]
    if recipe.n_seeds > 1:
        stages.append((SEEDS, [replace(row, stage=SEEDS) for row in rows] * (recipe.n_seeds - 1)))
    if checked := sum(len(levels) > 1 for levels in recipe.sweeps.values()) * recipe.check_interactions:
        check = TrialConfig(recipe.hyperparameters, recipe.epochs, recipe.epochs, recipe.seed, INTERACTIONS)
        stages.append((INTERACTIONS, [check] * checked))
    if finals := planned_finals(recipe, recipe.epochs):
        stages.append((FINAL, finals))
    return stages


def final_trials(recipe: Recipe, stop_epoch: int, gpus: int = 1) -> list[TrialConfig]:
    """Return the configurations of the final model's members, given a recipe with the winner's hyperparameters."""
    final = recipe.final
    config = TrialConfig(recipe.hyperparameters, recipe.epochs, stop_epoch, recipe.seed, FINAL)
    config = replace(config, with_dev=final.train_on != "train")
    if (model := final.model_for(recipe.hyperparameters.model)) is not None:
        batch_size = final.batch_size or recipe.hyperparameters.batch_size
        config = replace(config, gpus=gpus).with_hyperparameters(model=model, batch_size=batch_size)
    if final.folds:
        return [replace(config, held_out=(fold, final.folds)) for fold in range(final.folds)]
    return [replace(config, seed=recipe.seed + number) for number in range(final.n_seeds)]


def planned_finals(recipe: Recipe, stop_epoch: int, gpus: int = 1) -> list[TrialConfig]:
    """Return `final_trials`; none where the final model has the winner's weights, and nothing is trained."""
    return [] if recipe.adopts_winner else final_trials(recipe, stop_epoch, gpus)


def _cut(rows: list[TrialConfig], epochs: int) -> list[TrialConfig]:
    """Repeat rows until they make up a number of epochs."""
    trials: list[TrialConfig] = []
    for row in cycle(rows):
        if epochs <= 0:
            return trials
        trials.append(replace(row, stop_epoch=min(row.stop_epoch, epochs)))
        epochs -= row.stop_epoch
    return trials


def stage_works(
    recipe: Recipe, workload: Callable[[TrialConfig], EpochWorkload], undecided: Collection[str], final_gpus: int
) -> list[StageWork]:
    """Return every stage with its workloads.

    Args:
        recipe: Its hyperparameters are the initial ones, or the winners of the sweeps so far.
        workload: Estimates an epoch of a configuration.
        undecided: The sweeps without a winner yet.
        final_gpus: GPUs that train the final model.
    """
    open_sweeps: list[tuple[EpochWorkload, tuple[EpochWorkload, ...]]] = []
    stages = []
    for name, trials in stage_trials(recipe):
        configs = [replace(trial, gpus=final_gpus) if name == FINAL else trial for trial in trials]
        works = tuple((workload(config), config.stop_epoch) for config in configs)
        at_most = name == SEEDS or (name == GRID and recipe.search != "grid")
        stages.append(StageWork(name, works, at_most, tuple(open_sweeps)))
        parameter = name.removeprefix("sweep:")
        if parameter in undecided:
            start = TrialConfig(recipe.hyperparameters, recipe.epochs, recipe.epochs)
            levels = recipe.sweeps[parameter]
            works_of_levels = tuple(workload(start.with_hyperparameters(**{parameter: level})) for level in levels)
            open_sweeps.append((workload(start), works_of_levels))
    return stages


def plan(recipe: Recipe, corpus: Corpus) -> StudyPlan:
    """Plan a study in which no trial fails; its steps are those of the initial hyperparameters."""
    stages = [
        PlannedStage(
            name,
            len(trials),
            sum(trial.stop_epoch for trial in trials),
            sum(training_steps(corpus, trial) for trial in trials),
            at_most=name in AFTER_SEARCH or (name == GRID and recipe.search != "grid"),
        )
        for name, trials in stage_trials(recipe)
    ]
    space = search_space(recipe)
    rows = len(space.grid_trials(space.start))
    product = prod(len(levels) for levels in recipe.sweeps.values())
    return StudyPlan(tuple(stages), product * rows, space.plan().full_product_epochs)
