"""The study folder before a study runs in it: taken, locked, compared with what is asked for, or emptied."""

import fcntl
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version

from bertgrid_tf import __version__
from bertgrid_tf.bert.device import hardware
from bertgrid_tf.budget.controller import check_budget
from bertgrid_tf.budget.disk_space import DiskSpace
from bertgrid_tf.corpus import Corpus, Finding, label_counts, speaker_counts
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe, differing_keys
from bertgrid_tf.storage.records import StudyMetadata
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.growth import (
    OTHERWISE,
    additions,
    changes_search,
    changes_winner,
    check_growth,
    grow,
    in_order_of,
    is_growth,
)
from bertgrid_tf.system.container import LOCAL_ERRORS, check_writable
from bertgrid_tf.system.host import readable
from tuners.files import UNSUPPORTED, delete, delete_leftovers, is_temporary, sync

LIBRARIES = ("tensorflow", "tf_keras", "keras-tuner", "transformers", "tokenizers", "numpy")
"""The libraries that the numbers depend on."""


def take_folder(folder: StudyFolder, corpus: str) -> None:
    """Make the folder, unless it holds other files than a study's.

    Raises:
        UserError: It cannot be made or written, or holds other files.
    """
    path, otherwise = folder.path, "choose another with --results"
    failure = None
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        failure = error
    if failure and failure.errno not in LOCAL_ERRORS:
        raise UserError(f"The study folder {path} cannot be made ({failure.strerror}): {otherwise}.")
    # What a container has mounted is the parent of all studies' folders.
    if obstacle := check_writable(path, volume=path.parent):
        raise UserError(obstacle.sentence("The study folder", otherwise, f"tune {corpus}")) from failure
    # A process killed as it began leaves its lock and a recipe that it was about to write.
    others = [entry for entry in path.iterdir() if entry != folder.lock_file and not is_temporary(entry)]
    if others and not folder.recipe_file.exists():
        otherwise = "choose another folder with --results or --study"
        if folder.metadata_file.exists():
            lost = f"{folder.recipe_file} is missing from the study there"
            raise UserError(f"{lost}: restore it from a copy, or {otherwise}.")
        raise UserError(f"{path} holds other files than a study's: {otherwise}.")


@contextmanager
def locked(folder: StudyFolder, on_message: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes out of the folder for as long as the block runs, however it ends.

    Args:
        folder: The study's.
        on_message: Called where the file system has no locks, so that none is held.

    Raises:
        UserError: Another process is at work in it.
    """
    try:
        file = folder.lock_file.open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{folder.lock_file} cannot be opened ({error.strerror or error}): move it away.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                file.seek(0)
                raise UserError(
                    f"The study in {folder.path} is being run by {file.read().strip() or 'another process'}: "
                    "wait for it, or choose another --study NAME."
                ) from error
            on_message(
                f"The file system of {folder.path} has no locks ({error.strerror}): nothing keeps a second process out "
                "of this study, so start none."
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        sync(file.fileno())  # a worker on another host reads it
        delete_leftovers(folder.path)
        yield


def check_folder(
    folder: StudyFolder,
    asked: Recipe,
    corpus: Corpus,
    checkpoints: Mapping[str, str],
    budget: float | None = None,
) -> Recipe:
    """Check that the study in the folder, if there is one, is the one asked for or can become it.

    A study grows (`growth`), and takes another final model as long as none is trained but the search's own.

    Args:
        folder: The study's.
        asked: The recipe asked for.
        corpus: The recipe's.
        checkpoints: Hash of each model of the search; none to compare none.
        budget: Seconds of this session's budget, if any.

    Returns:
        The recipe asked for, with what is listed in another order in the study's own order.

    Raises:
        UserError: The study in the folder has another recipe, other data or other checkpoints.
    """
    if not folder.recipe_file.exists():
        return asked
    former = folder.read_recipe()
    recipe = in_order_of(former, asked)
    keys = differing_keys(former, recipe)
    trained = folder.has_final_model() and (bool(former.final_models()) or not former.final.is_plain)
    if any(not is_growth(key) and (trained or not key.startswith("final.")) for key in keys):
        raise UserError(
            f"{folder.path} holds a study of another recipe (they differ in {', '.join(keys)}): give the same settings "
            f"to go on, {OTHERWISE}."
        )
    if any(map(is_growth, keys)):
        check_growth(folder, former, recipe)
    if budget is not None:
        check_budget(folder, budget, grows=any(map(changes_winner, keys)))
    if not folder.metadata_file.exists():
        return recipe
    metadata = folder.read_metadata()
    # A level that is added to a sweep of models has another checkpoint.
    if any(metadata.checkpoints.get(name, identity) != identity for name, identity in checkpoints.items()):
        raise UserError(
            f"The checkpoint files of {', '.join(metadata.checkpoints)} are no longer those that the study in "
            f"{folder.path} began with: bring them back, {OTHERWISE}."
        )
    if metadata.fingerprint != corpus.fingerprint():
        raise UserError(
            f"The data of {corpus.name} are no longer those that the study in {folder.path} began with: bring them "
            f"back, {OTHERWISE}."
        )
    return recipe


def take_over(
    folder: StudyFolder,
    recipe: Recipe,
    checkpoints: Mapping[str, str],
    budget: float | None,
    on_message: Callable[[str], None],
) -> None:
    """Make the study in the folder, if there is one, that of a recipe that `check_folder` has accepted.

    Killed in between, it is still the former study, or already the new one. Arguments are as for `check_folder`.
    """
    if not folder.recipe_file.exists():
        return
    former = folder.read_recipe()
    keys = differing_keys(former, recipe)
    if any(map(is_growth, keys)):
        on_message(f"The study in {folder.path} grows: {additions(former, recipe)}.")
        if any(map(changes_winner, keys)):
            grow(folder, former, recipe, budget)
        if folder.soup_file.exists() and any(map(changes_search, keys)):
            on_message("The soup stays that of the rows so far, whose weights are no longer kept.")
        if folder.metadata_file.exists():
            metadata = folder.read_metadata()
            folder.write_metadata(replace(metadata, checkpoints={**metadata.checkpoints, **checkpoints}))
    # The search does not depend on the final profile. The same model resumes on any number of GPUs.
    another = any(key.startswith("final.") and key != "final.gpus" for key in keys)
    if another and not all(one.final.matches(one.hyperparameters) for one in (former, recipe)):
        for part in (folder.final_state, folder.model, folder.final_file):
            delete(part)
    if keys:
        folder.write_recipe(recipe)


def check_space(folder: StudyFolder, space: DiskSpace, on_message: Callable[[str], None]) -> None:
    """Warn where the disk has less room than the whole study may take, beside what its folder holds already."""
    free = shutil.disk_usage(folder.path).free
    held = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
    if free + held < space.most:
        on_message(
            f"The study may take {readable(space.most)} on disk, and {folder.path} has room for "
            f"{readable(free + held)}: make room, or choose another with --results. Where the disk is full the study "
            "stops, and the same command goes on from there."
        )


def empty_folder(folder: StudyFolder) -> None:
    """Delete the former study; a kill in between leaves one that is refused or deleted, never half taken over."""
    # The final model first, since it has no mark of the search it came from; what says whose the folder is, last.
    last = (folder.metadata_file, folder.oracle_file, folder.recipe_file)
    rest = [path for path in folder.path.iterdir() if path not in (*last, folder.lock_file)]
    for path in (folder.model, folder.final_file, folder.final_state, *rest, *last):
        delete(path)


def write_beginning(
    folder: StudyFolder,
    recipe: Recipe,
    corpus: Corpus,
    findings: Sequence[Finding],
    checkpoints: Mapping[str, str],
) -> None:
    """Write what was asked for and what it runs on, unless the study resumes."""
    if folder.recipe_file.exists() and folder.metadata_file.exists():
        return
    versions = {"bertgrid-tf": __version__} | {name: version(name) for name in LIBRARIES}
    speakers = dict(sorted(speaker_counts(corpus.splits["train"]).items()))
    counts = {split: label_counts(corpus.splits[split]) for split in ("train", "dev")}
    classes = {split: {label: count[label] for label in corpus.labels} for split, count in counts.items()}
    folder.write_recipe(recipe)
    began = datetime.now(timezone.utc).isoformat(timespec="seconds")
    folder.write_metadata(
        StudyMetadata(
            corpus.fingerprint(), corpus.labels, speakers, checkpoints, versions, hardware(), classes, findings, began
        )
    )
