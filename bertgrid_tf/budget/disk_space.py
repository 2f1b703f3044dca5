"""The disk that a study takes, from the sizes of its models."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.budget.plan import stage_trials
from bertgrid_tf.corpus import Corpus, utterances
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.trial_config import AFTER_SEARCH, GRID

STATE = 3
"""Times the weights that a training run saves to go on with: the weights and Adam's two moments."""


@dataclass(frozen=True)
class DiskSpace:
    """Bytes in a study folder.

    Attributes:
        most: The most at any time.
        kept: What is there when the study has ended.
    """

    most: int
    kept: int


def disk_space(recipe: Recipe, corpus: Corpus, workers: int = 1) -> DiskSpace:
    """Estimate the disk that a whole study takes, at most.

    Counted are the weights of models, float32, and dev's predictions of every epoch; figures and tables are small. A
    running trial's state is written beside the former one, which it replaces. States stay where a study that grows goes
    on with them (`Recipe.can_lengthen`); best weights stay until the soup or the final model is made.

    Args:
        recipe: Its hyperparameters are the initial ones.
        corpus: The recipe's.
        workers: Trials at a time.

    Raises:
        UserError: The size of a model is not known, as for `bert.dimensions.dimensions`.
    """
    searched = _weights(recipe.searched_models(), corpus)
    final = _weights(recipe.final_models(), corpus) or searched
    trials = dict(stage_trials(recipe))
    searching = sum(len(some) for stage, some in trials.items() if stage not in AFTER_SEARCH)
    epochs = sum(trial.stop_epoch for some in trials.values() for trial in some)
    dev = sum(1 for _ in utterances(corpus.splits["dev"]))
    # A column of text for each class, and of float32 in the trial's state.
    predictions = epochs * dev * (30 + (12 + 4) * len(corpus.labels))

    souped = searched if recipe.soup else 0
    names = ("lr_schedule", "warmup_ratio", "head_retraining")
    combined = product(*(recipe.levels(name) for name in names))
    possible = [recipe.hyperparameters.model_copy(update=dict(zip(names, levels, strict=True))) for levels in combined]
    lengthened = len(trials[GRID]) if any(map(recipe.can_lengthen, possible)) else 0
    # Where a run does not go on with the weights that were scored, its state has these too.
    scored = int(any(one.has_branches or one.head_retraining != "none" for one in possible))
    states = (STATE + scored) * searched * lengthened
    best = searching if recipe.soup else int(recipe.final.matches(recipe.hyperparameters))
    # A file is written beside the one that it replaces.
    running = workers * 2 * (STATE + (scored if lengthened else 0) + int(best > 0)) * searched
    members = recipe.final.folds or recipe.final.n_seeds
    kept = states + souped + members * final + predictions
    finals = min(workers, members) * 2 * (STATE + scored) * final
    return DiskSpace(max(states + best * searched + running + predictions, kept + finals), kept)


def _weights(models: Iterable[str], corpus: Corpus) -> int:
    """Return the bytes of the largest model's weights; 0 without models."""
    return max((4 * dimensions(model, len(corpus.labels)).parameters for model in models), default=0)
