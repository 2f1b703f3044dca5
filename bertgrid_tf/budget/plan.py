"""What a study will cost, before it runs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import cycle
from math import prod

import numpy as np

from bertgrid_tf.budget.time_estimator import StageWork, Work
from bertgrid_tf.corpus import Corpus, resample, utterances
from bertgrid_tf.recipe import Hyperparameters, Recipe, Value
from tuners.space import SearchSpace
from tuners.strategies import strategy

REPEATS, AUDIT, FINAL = "repeats", "audit", "final"
LATER = (REPEATS, AUDIT, FINAL)
"""The stages after the search: how long they are depends on what wins."""
SOUP = "soup"
"""What the average of the rows' weights is called, as a run."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage: its training runs, epochs and steps in all; an upper bound of epochs and steps where `at_most`."""

    name: str
    runs: int
    epochs: int
    steps: int
    at_most: bool = False


@dataclass(frozen=True)
class StudyPlan:
    """A study's stages, and what training every combination of all levels would have cost.

    Attributes:
        stages: in order; what comes after the search is an upper bound, since the winning epoch and the tied rows are
            not known yet, and so is a grid that the search does not fill, whose number of runs is open besides.
        product_runs: runs of the full product, row sharing included.
        product_epochs: epochs of the full product.
    """

    stages: tuple[PlannedStage, ...]
    product_runs: int
    product_epochs: int

    @property
    def runs(self) -> int:
        """Training runs in all."""
        return sum(stage.runs for stage in self.stages)

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def steps(self) -> int:
        """Training steps in all."""
        return sum(stage.steps for stage in self.stages)


def space(recipe: Recipe) -> SearchSpace:
    """What the recipe searches."""
    return SearchSpace.of(
        recipe.learning_rates,
        recipe.epochs,
        recipe.sweeps,
        recipe.hyperparameters.model_dump(),
        recipe.sweep_epochs,
        recipe.grid,
    )


def steps_per_epoch(recipe: Recipe, corpus: Corpus, values: Mapping[str, Value]) -> int:
    """Training steps of one epoch of a configuration: resampled examples over the batch size, rounded up."""
    hyperparameters = Hyperparameters.of(values)
    return -(-len(training_indices(recipe, corpus, hyperparameters)) // int(hyperparameters.batch_size))


def training_indices(recipe: Recipe, corpus: Corpus, hyperparameters: Hyperparameters) -> np.ndarray:
    """The training utterances that an epoch of a configuration visits, resampled: indices, int64 [texts]."""
    classes = [utterance.label or "" for utterance in utterances(corpus.splits["train"])]
    return resample(classes, hyperparameters.oversample_ratio, hyperparameters.undersample, recipe.seed)


def stage_runs(recipe: Recipe) -> list[tuple[str, list[dict[str, Value]]]]:
    """The configurations of every stage in order, under the start values; what comes after the search is trained for
    all epochs and, if it is to be repeated, in every row, since the winner and what is tied with it are not known yet.
    """
    searched, chosen = space(recipe), strategy(recipe.search)
    stages = [(stage.name, [dict(run) for run in stage.configurations]) for stage in searched.plan().stages]
    if chosen is not None:
        # Which rows it will start, and when it will stop them, is not known: so many epochs at most.
        rows = _cut(searched.grid_runs(searched.start), chosen.max_epochs(searched))
        stages = [*(stages[:-1] if chosen.sweeps else ()), ("grid", rows)]
    if recipe.repeats > 1:
        stages.append((REPEATS, (recipe.repeats - 1) * searched.grid_runs(searched.start)))
    if audited := sum(len(levels) > 1 for levels in recipe.sweeps.values()) * recipe.audit:
        stages.append(
            (AUDIT, audited * [{**searched.start, "schedule_epochs": recipe.epochs, "stop_epoch": recipe.epochs}])
        )
    if (final := final_run(recipe, recipe.epochs)) is not None:
        stages.append((FINAL, [final]))
    return stages


def final_run(recipe: Recipe, stop_epoch: int) -> dict[str, Value] | None:
    """The final model's configuration, the recipe's settings being the winner's; None where there is to be none."""
    model = recipe.final.model_for(recipe.hyperparameters.model)
    if model is None:
        return None
    profile = {"model": model, "batch_size": recipe.final.batch_size or recipe.hyperparameters.batch_size}
    return recipe.hyperparameters.model_dump() | profile | {"schedule_epochs": recipe.epochs, "stop_epoch": stop_epoch}


def _cut(rows: list[dict[str, Value]], epochs: int) -> list[dict[str, Value]]:
    """Rows, again and again, until they make up so many epochs."""
    runs: list[dict[str, Value]] = []
    for row in cycle(rows):
        if epochs <= 0:
            return runs
        runs.append(row | {"stop_epoch": min(int(row["stop_epoch"]), epochs)})
        epochs -= int(row["stop_epoch"])
    return runs


def stage_works(
    recipe: Recipe, work: Callable[[Mapping[str, Value]], Work], undecided: Collection[str], final_gpus: int
) -> list[StageWork]:
    """What the clock must know of every stage.

    Args:
        recipe: its settings are the start values, or what the sweeps have found so far.
        work: says what an epoch of a configuration is.
        undecided: the sweeps that have no winner yet.
        final_gpus: how many train the final model.
    """
    open_sweeps: list[tuple[Work, tuple[Work, ...]]] = []
    stages = []
    for name, runs in stage_runs(recipe):
        gpus = {"gpus": final_gpus} if name == FINAL else {}
        works = tuple((work(run | gpus), int(run["stop_epoch"])) for run in runs)
        at_most = name == REPEATS or (name == "grid" and recipe.search != "grid")
        stages.append(StageWork(name, works, at_most, tuple(open_sweeps)))
        parameter = name.removeprefix("sweep:")
        if parameter in undecided:
            start = recipe.hyperparameters.model_dump()
            levels = tuple(work(start | {parameter: level}) for level in recipe.sweeps[parameter])
            open_sweeps.append((work(start), levels))
    return stages


def plan(recipe: Recipe, corpus: Corpus) -> StudyPlan:
    """The cost of a study if no run fails; its steps are those of the start values, since no winner is known yet."""
    stages = [
        PlannedStage(
            name,
            len(runs),
            sum(int(run["stop_epoch"]) for run in runs),
            sum(int(run["stop_epoch"]) * steps_per_epoch(recipe, corpus, run) for run in runs),
            at_most=name in LATER or (name == "grid" and recipe.search != "grid"),
        )
        for name, runs in stage_runs(recipe)
    ]
    search = space(recipe)
    rows = len(search.grid_runs(search.start))
    product = prod(len(levels) for levels in recipe.sweeps.values())
    return StudyPlan(tuple(stages), product * rows, search.plan().full_product_epochs)
