"""The command `tune`."""

import shutil
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bertgrid_tf.cli.options import (
    DATASETS,
    RESULTS,
    CorpusName,
    DataDir,
    GpuMemory,
    IsStrict,
    Model,
    RecipeFile,
    ResultsParent,
    Sets,
    corpus_name,
    flag,
    read_recipe,
    setting,
    suggested_keys,
    with_data_flags,
)
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe, description
from bertgrid_tf.system.process import StoppedError
from tuners.errors import TunerError

if TYPE_CHECKING:
    from bertgrid_tf.budget.callbacks import Callback
    from bertgrid_tf.storage.study_folder import StudyFolder

TRACKERS = {"mlflow": "MLflow", "wandb": "WandB"}
"""The callbacks of `--track`, each in the module of `report` that has its name."""


@with_data_flags
def tune(
    context: typer.Context,
    name: CorpusName = None,
    model: Model = None,
    final_model: Annotated[str | None, setting("--final-model")] = None,
    final_gpus: Annotated[str | None, setting("--final-gpus")] = None,
    learning_rates: Annotated[
        str | None, setting("--learning-rates", text="rows of the grid, separated by commas, or suggest")
    ] = None,
    epochs: Annotated[str | None, setting("--epochs", text=f"{description('epochs')}, or suggest")] = None,
    search: Annotated[str | None, setting("--search")] = None,
    sweep: Annotated[
        list[str] | None,
        flag("--sweep", "PARAM=a,b,c: levels of a hyperparameter, in place of the recipe's; repeatable"),
    ] = None,
    no_sweeps: Annotated[bool, flag("--no-sweeps", "leave out the recipe's own sweeps")] = False,
    selection: Annotated[str | None, setting("--selection")] = None,
    n_seeds: Annotated[str | None, setting("--n-seeds")] = None,
    check_interactions: Annotated[bool, setting("--check-interactions")] = False,
    soup: Annotated[bool, setting("--soup")] = False,
    set_: Sets = None,
    recipe: RecipeFile = None,
    metric: Annotated[str | None, setting("--metric")] = None,
    strict: IsStrict = False,
    data_dir: DataDir = DATASETS,
    results: ResultsParent = RESULTS,
    study: Annotated[str | None, flag("--study", "the study folder's name, if not NAME")] = None,
    fresh: Annotated[bool, flag("--fresh", "delete what an earlier study left in the folder")] = False,
    tensorboard: Annotated[
        bool, flag("--tensorboard", "write logs for TensorBoard and its HParams table into the study folder")
    ] = False,
    track: Annotated[
        str | None,
        flag("--track", "keep the study in experiment trackers too: mlflow, wandb, or both separated by a comma"),
    ] = None,
    track_texts: Annotated[
        bool, flag("--track-texts", "let the trackers have the texts of the data that the report quotes, too")
    ] = False,
    workers: Annotated[
        str | None,
        flag("--workers", "trials at a time, each on a GPU of its own or on a share of the CPU, or auto; needs Ray"),
    ] = None,
    ray_address: Annotated[
        str | None, flag("--ray-address", "HOST:PORT of a Ray cluster that this host has joined, or auto")
    ] = None,
    gpu_memory: GpuMemory = None,
    budget: Annotated[
        str | None, flag("--budget", "time for the whole study, as 2h, 90m or 1h30m: what does not fit is left out")
    ] = None,
    no_bank: Annotated[bool, flag("--no-bank", "keep the study's table out of your bank of studies")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "print the cost of the study, or of what it lacks, and stop")] = False,
    **flags: object,
) -> None:
    """Sweep, fill the grid, train the final model. The same command resumes a study, with a larger grid extends it."""
    from bertgrid_tf import api
    from bertgrid_tf.report.summary import print_summary
    from bertgrid_tf.storage.study_folder import StudyFolder

    trackers = _tracker_names(track, track_texts)
    name = corpus_name(name, context.params)
    console, asked = Console(), read_recipe(name, recipe, context.params)
    suggested = suggested_keys(context.params)
    if dry_run:
        folder = StudyFolder(results / (study or name))
        _print_plan(console, folder, fresh, name, asked, data_dir, api.memory_limit(gpu_memory), strict, suggested)
        return
    callbacks: list[Callback] = []
    if tensorboard:
        from bertgrid_tf.report.tensorboard import TensorBoard

        callbacks.append(TensorBoard())
    on_message = partial(console.print, style="bold yellow", markup=False, highlight=False, soft_wrap=True)
    for tracker in trackers:
        kind = getattr(import_module(f"bertgrid_tf.report.{tracker}"), TRACKERS[tracker])
        callbacks.append(kind(texts=track_texts, on_message=on_message))
    try:
        done = api.tune(
            name,
            study=study,
            results=results,
            data_dir=data_dir,
            recipe=asked,
            callbacks=callbacks,
            fresh=fresh,
            workers=workers,
            ray_address=ray_address,
            gpu_memory=gpu_memory,
            budget=budget,
            strict=strict,
            bank=not no_bank,
            **suggested,
        )
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"Stopped. Everything up to the last finished epoch is in {results / (study or name)}: the same command "
            "goes on from there."
        ) from error
    print_summary(console, StudyFolder(done.path), done.analysis)


def _tracker_names(track: str | None, texts: bool) -> list[str]:
    """Return the names that `--track` lists, each once."""
    names = [*dict.fromkeys(name.strip() for name in track.split(","))] if track else []
    if unknown := [name for name in names if name not in TRACKERS]:
        raise UserError(f"--track takes {' or '.join(TRACKERS)}, or both separated by a comma, not {unknown[0]!r}.")
    if texts and not names:
        raise UserError("--track-texts says what --track sends: give --track, too.")
    return names


def _print_plan(
    console: Console,
    folder: "StudyFolder",
    fresh: bool,
    name: str,
    recipe: Recipe,
    data_dir: Path,
    memory: int | None,
    strict: bool,
    suggested: Mapping[str, Any],
) -> None:
    """Print what a study costs or, where it has begun, what is missing."""
    from bertgrid_tf.api import load_corpus, user_error
    from bertgrid_tf.budget.disk_space import disk_space
    from bertgrid_tf.budget.plan import plan
    from bertgrid_tf.corpus import check_corpus, refuse_warnings
    from bertgrid_tf.report.corpora import findings_text
    from bertgrid_tf.report.plan import guess_line, missing_table, plan_table, space_line
    from bertgrid_tf.study.auto_settings import auto_keys, estimate_auto, key_value, with_values
    from bertgrid_tf.system.container import nearest

    former = folder if folder.recipe_file.is_file() and not fresh else None
    kept = former.read_recipe() if former and suggested else None
    asked, corpus = load_corpus(name, recipe=recipe, data_dir=data_dir, console=console, kept=kept, **suggested)
    if findings := check_corpus(corpus):
        console.print(findings_text(findings), soft_wrap=not console.is_terminal)
    if strict:
        refuse_warnings(findings)
    if former is not None:
        from bertgrid_tf.study.growth import plan_missing
        from bertgrid_tf.study.preparation import check_folder

        asked = check_folder(former, asked, corpus, {})
        asked = with_values(asked, {key: one.value for key, one in former.read_auto_settings().items()})
    guessed = estimate_auto(asked, corpus, memory) if auto_keys(asked) else asked
    if former is None:
        console.print(plan_table(plan(guessed, corpus)))
        try:
            space = disk_space(guessed, corpus)
        except UserError as error:  # Nothing else in a plan needs the checkpoint.
            line = f"The disk that it takes depends on the size of the model, which is not known: {error}"
        else:
            line = space_line(space, str(folder.path), shutil.disk_usage(nearest(folder.path)).free)
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        try:
            missing = plan_missing(former, guessed, corpus)
        except TunerError as error:
            raise user_error(error) from error
        console.print(missing_table(missing, str(former.path)), highlight=False, soft_wrap=True)
    if "windows" in asked.levels("truncation"):
        console.print("The steps are those of one window a text: longer texts take more.")
    for key in auto_keys(asked):
        console.print(guess_line(key, key_value(guessed, key)), markup=False, highlight=False, soft_wrap=True)
