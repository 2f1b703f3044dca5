"""The choice of a sweep's level by its cost, and the winner as a recipe."""

from collections.abc import Callable, Sequence

from bertgrid_tf.analysis import StudyScores
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.recipe import NO_MODEL, Recipe
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name
from bertgrid_tf.training.workload import EpochWorkload
from bertgrid_tf.trial_config import TrialConfig
from tuners import Best, SweepLevel


def cheapest_level(
    levels: Sequence[SweepLevel], scores: StudyScores, recipe: Recipe, workload: Callable[[TrialConfig], EpochWorkload]
) -> SweepLevel:
    """Return the level that takes the least to train, of those that are tied with a sweep's best."""
    probabilities = {level: scores.of(trial_name(level.trial_id or ""), level.epoch or 0) for level in levels}
    ranked = scores.rank(probabilities)
    start = TrialConfig(recipe.hyperparameters, recipe.epochs, recipe.epochs)

    def cost(level: SweepLevel) -> float:
        return workload(start.with_hyperparameters(**{level.parameter: level.level})).cost * (level.epoch or 0)

    return min((level for level in levels if ranked[level].tied), key=cost)


def write_winner(best: Best, recipe: Recipe, folder: StudyFolder) -> Recipe:
    """Write the winner of a recipe's study as a recipe (`best.yaml`), and return it."""
    hyperparameters, epochs = (
        Hyperparameters.from_values(best.hyperparameters),
        int(best.hyperparameters["schedule_epochs"]),
    )
    changes = {
        "hyperparameters": hyperparameters,
        "sweeps": {},
        "n_seeds": 1,
        "check_interactions": False,
        "soup": False,
        "learning_rates": [best.learning_rate],
        "epochs": epochs,
        "final": recipe.final.model_copy(update={"model": recipe.final.model_for(hyperparameters.model) or NO_MODEL}),
    }
    winner = recipe.model_copy(update=changes)
    folder.write_best(
        winner,
        f"The winner: learning rate {best.learning_rate:g}, epoch {best.epoch} of {epochs}; "
        f"{recipe.metric} on dev {best.score:.4f}.\n"
        f"Train it again: {folder.winner_command(recipe.corpus)}",
    )
    return winner
