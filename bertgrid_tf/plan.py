"""What a study will cost, before it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from bertgrid_tf.corpus import Corpus, resample, utterances
from bertgrid_tf.recipe import Recipe, Settings, Value
from tuners.space import SearchSpace


@dataclass(frozen=True)
class PlannedStage:
    """One stage: its training runs, epochs and steps in all."""

    name: str
    runs: int
    epochs: int
    steps: int


@dataclass(frozen=True)
class StudyPlan:
    """A study's stages, and what training every combination of all levels would have cost.

    Attributes:
        stages: in order; the final model's are an upper bound, since the winning epoch is not known yet.
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
        recipe.settings.model_dump(),
        recipe.sweep_epochs,
        recipe.grid,
    )


def steps_per_epoch(recipe: Recipe, corpus: Corpus, values: Mapping[str, Value]) -> int:
    """Training steps of one epoch of a configuration: resampled examples over the batch size, rounded up."""
    settings = Settings.of(values)
    classes = [utterance.label or "" for utterance in utterances(corpus.splits["train"])]
    drawn = resample(classes, settings.oversample, settings.undersample, recipe.seed)
    return -(-len(drawn) // settings.batch_size)


def plan(recipe: Recipe, corpus: Corpus) -> StudyPlan:
    """The cost of a study if no run fails; its steps are those of the start values, since no winner is known yet."""
    search = space(recipe)
    planned = search.plan()
    stages = [
        PlannedStage(
            stage.name,
            stage.runs,
            stage.epochs,
            sum(int(run["stop_after"]) * steps_per_epoch(recipe, corpus, run) for run in stage.configurations),
        )
        for stage in planned.stages
    ]
    if recipe.final.model_for(recipe.settings.model):
        final = recipe.settings.model_dump() | {"batch_size": recipe.final.batch_size or recipe.settings.batch_size}
        stages.append(PlannedStage("final", 1, recipe.epochs, recipe.epochs * steps_per_epoch(recipe, corpus, final)))
    rows = len(search.grid_runs(search.start))
    product = prod(len(levels) for levels in recipe.sweeps.values())
    return StudyPlan(tuple(stages), product * rows, planned.full_product_epochs)
