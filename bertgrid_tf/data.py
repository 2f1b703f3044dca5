"""A recipe's data ▶ a corpus: located, downloaded, read, limited."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bertgrid_tf import corpus as corpora
from bertgrid_tf.corpus import Columns, Corpus, DownloadProgress
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Data, Recipe
from bertgrid_tf.system.container import check_writable

SAMPLE = "sample"


def data_dirs(first: Path) -> list[Path]:
    """Return the folders that are searched for corpora, in order: `first`, then the user's cache."""
    return [first, corpora.user_data_dir()]


def open_corpus(recipe: Recipe, dirs: Sequence[Path], progress: DownloadProgress | None = None) -> Corpus:
    """Open the corpus of a recipe: the embedded sample, the user's tables, or a public corpus.

    Args:
        recipe: The recipe.
        dirs: Folders that are searched for a public corpus, which is downloaded where none holds it (`fetch`).
        progress: Called while a corpus is downloaded.

    Raises:
        UserError: There is no such corpus, it cannot be read or downloaded, or it lacks a class that the recipe names.
    """
    if recipe.data:
        corpus = _tables(recipe.corpus, recipe.data, recipe.seed)
    elif recipe.corpus == SAMPLE:
        corpus = corpora.sample()
    elif recipe.corpus in corpora.SOURCES:
        if corpora.find(recipe.corpus, dirs) is None:
            fetch(recipe.corpus, dirs, progress)
        corpus = corpora.load(recipe.corpus, dirs, recipe.seed)
    else:
        raise UserError(
            f"There is no corpus {recipe.corpus!r}: choose from {', '.join((SAMPLE, *corpora.SOURCES))}, "
            "or give --data FILE."
        )
    recipe.check_classes(corpus.labels)
    if recipe.max_train_samples:
        limited = corpora.limit(corpus.splits["train"], recipe.max_train_samples, recipe.seed)
        corpus = replace(corpus, splits={**corpus.splits, "train": limited})
    return corpus


def fetch(name: str, dirs: Sequence[Path], progress: DownloadProgress | None = None) -> Path:
    """Download a public corpus into the first of `dirs` that can be written, and return its folder.

    Raises:
        UserError: No folder can be written, or the download failed (`corpus.fetch`).
    """
    refusals = []
    for folder in dirs:
        if (refusal := check_writable(folder)) is None:
            return corpora.fetch(name, folder / name, progress)
        refusals.append(refusal)
    raise UserError(refusals[0].sentence("The data folder", "choose another with --data-dir", f"data fetch {name}"))


def columns(data: Data) -> Columns:
    """Return the columns of the user's tables."""
    return Columns(data.text_column, data.label_column, data.dialogue_column, data.speaker_column, data.split_column)


def _tables(name: str, data: Data, seed: int) -> Corpus:
    if data.file is None:
        raise UserError(f"The data of {name} are a DataFrame, which only Python can give: open the study there.")
    return corpora.load_table(
        data.file,
        columns(data),
        dev=data.dev_file,
        test=data.test_file,
        validation_split=data.validation_split,
        seed=seed,
        name=name,
    )
