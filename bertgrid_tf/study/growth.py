"""A study that grows: what may be added to its recipe, what that asks of its folder, and what is missing then."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from bertgrid_tf.budget.plan import PlannedStage, StudyPlan, plan, search_space
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import DamagedError, UserError
from bertgrid_tf.hyperparameters import Hyperparameters, Value
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report.format import duration
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.execution import make_oracle, search_strategy
from bertgrid_tf.training.resampling import training_steps
from bertgrid_tf.trial_config import FINAL, GRID, INTERACTIONS, SEEDS, TrialConfig
from tuners import CasualGridOracle, SweepLevel
from tuners.space import STAGE, former_order

AFTER_SEARCH_KEYS = ("n_seeds", "check_interactions")
OTHERWISE = "choose another --study NAME, or --fresh to start over"


def in_order_of(former: Recipe, asked: Recipe) -> Recipe:
    """Copy a recipe with another's order of learning rates and of levels, where it has the same ones."""
    sweeps = {name: [*former_order(former.sweeps.get(name, ()), levels)] for name, levels in asked.sweeps.items()}
    rates = [*former_order(former.learning_rates, asked.learning_rates)]
    return asked.model_copy(update={"learning_rates": rates, "sweeps": sweeps})


def is_growth(key: str) -> bool:
    """Return whether the value of a recipe's key, as `differing_keys` names it, can grow."""
    return key in AFTER_SEARCH_KEYS or changes_search(key)


def changes_winner(key: str) -> bool:
    """Return whether the winner of a study may change with a key that can grow."""
    return key == "n_seeds" or changes_search(key)


def changes_search(key: str) -> bool:
    """Return whether a key that can grow belongs to the search."""
    return key.partition(".")[0] in ("learning_rates", "epochs", "sweeps")


def check_growth(folder: StudyFolder, former: Recipe, asked: Recipe) -> None:
    """Check that a study can grow to a recipe that differs in keys of `is_growth` alone.

    Raises:
        UserError: The recipe lacks a part of what the study has, or its rows would have to be trained anew.
    """
    if lacking := _lacking(former, asked):
        raise UserError(
            f"The study in {folder.path} has more than it is now asked for ({'; '.join(lacking)}): a study grows and "
            f"never shrinks, so give all that it has, {OTHERWISE}."
        )
    if asked.epochs == former.epochs or asked.grid_schedule == "per-cell":
        return
    rows = [values for values in _begun(folder) if values[STAGE] == GRID]
    if not rows:
        return
    if asked.search != "grid":
        raise UserError(
            f"Search {asked.search} has stopped rows of the study in {folder.path} by its {former.epochs} epochs, and "
            f"does not go on to {asked.epochs}: give --epochs {former.epochs} to go on, {OTHERWISE}."
        )
    if not all(asked.can_lengthen(Hyperparameters.from_values(values)) for values in rows):
        epochs = len(rows) * asked.epochs
        known = [float(cell["seconds"]) for cell in folder.read_cells() if "seconds" in cell]
        time = f", about {duration(epochs * median(known))}" if known else ""
        raise UserError(
            f"The rows of the study in {folder.path} are trained over a learning-rate schedule of {former.epochs} "
            f"epochs, and {asked.epochs} would need each of them anew ({epochs} epochs{time}): give --study NAME for a "
            "study of that length; one with --set lr_schedule=inverse_sqrt or grid_schedule=per-cell can grow to any."
        )


def _begun(folder: StudyFolder) -> Iterable[dict[str, Value]]:
    """The values of the search's trials so far, but for damaged ones, which are trained again."""
    for trial_id in folder.trial_ids():
        try:
            yield folder.read_trial_record(trial_id)["hyperparameters"]["values"]
        except DamagedError:
            continue


def _lacking(former: Recipe, asked: Recipe) -> list[str]:
    """List what a recipe lacks of another."""
    lacking = []
    if rates := [repr(rate) for rate in former.learning_rates if rate not in asked.learning_rates]:
        lacking.append(f"learning_rates lacks {', '.join(rates)}")
    for key in ("epochs", *AFTER_SEARCH_KEYS):
        if (fewer := getattr(asked, key)) < (had := getattr(former, key)):
            lacking.append(f"{key} is {fewer} instead of {had}")
    for name in dict.fromkeys([*former.sweeps, *asked.sweeps]):
        # A parameter that was not swept was trained at one value.
        had = former.sweeps.get(name, [getattr(former.hyperparameters, name)])
        if levels := [str(level) for level in had if level not in asked.sweeps.get(name, ())]:
            lacking.append(f"sweeps.{name} lacks {', '.join(levels)}")
    if not lacking and [name for name in asked.sweeps if name in former.sweeps] != list(former.sweeps):
        lacking.append("sweeps are in another order")
    return lacking


def additions(former: Recipe, asked: Recipe) -> str:
    """Describe what a recipe has beyond another.

    Example:
        >>> former = Recipe(corpus="sample", learning_rates=[2e-5], epochs=3)
        >>> additions(former, Recipe(corpus="sample", learning_rates=[2e-5, 1e-5], epochs=4, n_seeds=2))
        'learning_rates 1e-05; epochs 4; n_seeds 2'
    """
    added = []
    if rates := [f"{rate:g}" for rate in asked.learning_rates if rate not in former.learning_rates]:
        added.append(f"learning_rates {', '.join(rates)}")
    for key in ("epochs", *AFTER_SEARCH_KEYS):
        if (more := getattr(asked, key)) > getattr(former, key):
            added.append(f"{key} {more}")
    for name, levels in asked.sweeps.items():
        if new := [str(level) for level in levels if level not in former.sweeps.get(name, ())]:
            added.append(f"{name} {', '.join(new)}")
    return "; ".join(added)


def grow(folder: StudyFolder, former: Recipe, asked: Recipe, budget: float | None) -> None:
    """Retire what the growth of a study decides anew: its winner, the times predicted for its stages, its budget.

    Args:
        folder: The study's.
        former: Its recipe.
        asked: The recipe to grow to.
        budget: Seconds that all sessions may take from now on; None for the study's own budget, if it has one.
    """
    folder.best_file.unlink(missing_ok=True)
    if times := folder.read_times():
        folder.write_times(replace(time, at_beginning=None, after_first_epoch=None) for time in times)
    log = BudgetLog(folder.budget_file)
    if log.seconds is not None:
        log.grow(budget or log.seconds, former, asked)


def plan_missing(folder: StudyFolder, recipe: Recipe, corpus: Corpus) -> StudyPlan:
    """Plan what a study in its folder lacks of a recipe that `preparation.check_folder` has accepted.

    Args:
        folder: The study's, which is only read.
        recipe: The recipe, without `auto`.
        corpus: The recipe's.
    """
    chosen = {row["parameter"]: row["level"] for row in folder.read_sweeps() if row["chosen"] == "True"}

    def choose(levels: Sequence[SweepLevel]) -> SweepLevel:
        return next((level for level in levels if str(level.level) == chosen.get(level.parameter)), levels[0])

    oracle = make_oracle(CasualGridOracle, recipe, corpus, choose if recipe.selection != "best" else None)
    former, log = folder.read_recipe(), BudgetLog(folder.budget_file)
    searched = log.chosen(recipe) if log.seconds is None else log.grown(former, recipe)
    oracle.narrow(search_space(searched), search_strategy(searched, corpus))
    if folder.oracle_file.exists():
        oracle.peek(folder.path)
    trials, bound = oracle.missing()
    whole, stages = plan(recipe, corpus), []
    for stage in whole.stages:
        of_stage = [trial for trial in trials if trial.stage == stage.name]
        steps = []
        for trial in of_stage:
            config = TrialConfig.from_values(trial.hyperparameters, recipe.seed)
            done = replace(config, stop_epoch=config.stop_epoch - trial.epochs)
            steps.append(training_steps(corpus, config) - training_steps(corpus, done))
        epochs = sum(trial.epochs for trial in of_stage)
        if stage.name == GRID and bound > epochs:
            stages.append(replace(stage, epochs=bound, steps=bound * stage.steps // stage.epochs, at_most=True))
        elif of_stage:
            stages.append(PlannedStage(stage.name, len(of_stage), epochs, sum(steps), False))
    seeds = bool(stages) or not folder.best_file.exists() or recipe.n_seeds > former.n_seeds
    checks = seeds or recipe.check_interactions > former.check_interactions
    final = seeds or not folder.has_final_model() or recipe.final != former.final
    due = {SEEDS: seeds, INTERACTIONS: checks, FINAL: final}
    return replace(whole, stages=(*stages, *(stage for stage in whole.stages if due.get(stage.name, False))))
