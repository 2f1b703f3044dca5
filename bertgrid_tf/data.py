"""The data of a recipe ▶ a corpus: located, fetched, read, limited."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bertgrid_tf import corpus as corpora
from bertgrid_tf.corpus import Columns, Corpus, DownloadProgress
from bertgrid_tf.corpus.files import RawTable, open_splits, open_table
from bertgrid_tf.corpus.findings import notes_of
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Data, Recipe
from bertgrid_tf.system.container import check_writable

if TYPE_CHECKING:
    import pandas as pd

    Frames = Mapping[str, pd.DataFrame]

SAMPLE = "sample"


def data_dirs(first: Path) -> list[Path]:
    """List the folders in which corpora are looked for: the folder that the user named, then the user's cache."""
    return [first, corpora.user_data_dir()]


def open_corpus(
    recipe: Recipe, dirs: Sequence[Path], progress: DownloadProgress | None = None, frames: "Frames | None" = None
) -> Corpus:
    """Open the corpus of a recipe.

    Args:
        recipe: Names the embedded sample, the user's tables, or a public corpus.
        dirs: The folders in which a public corpus is looked for; where none holds it, it is fetched into the first that
            can be written.
        progress: Called while files are downloaded.
        frames: The user's tables that are DataFrames, by their splits.

    Raises:
        UserError: There is no such corpus, it cannot be read or fetched, or it lacks a class that the recipe names.
    """
    if recipe.data:
        corpus = _tables(recipe.corpus, recipe.data, recipe.seed, frames or {})
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
    """Download a public corpus into the first of `dirs` that can be written.

    Returns:
        The folder of the corpus.

    Raises:
        UserError: No folder can be written, or as for `corpus.fetch`.
    """
    obstacles = []
    for folder in dirs:
        obstacle = check_writable(folder)
        if obstacle is None:
            return corpora.fetch(name, folder / name, progress)
        obstacles.append(obstacle)
    raise UserError(obstacles[0].sentence("The data folder", "choose another with --data-dir", f"data fetch {name}"))


def columns(data: Data) -> Columns:
    """Return the columns of the user's tables."""
    return Columns(
        data.text_column,
        data.label_column,
        data.dialogue_column,
        data.speaker_column,
        data.split_column,
        order=data.order_column,
        consecutive=data.dialogue_ids == "consecutive",
        text_pair=data.text_pair_column,
    )


def _tables(name: str, data: Data, seed: int, frames: "Frames") -> Corpus:
    # A message about one of several DataFrames names its split.
    named = {split: frame.copy(deep=False) for split, frame in frames.items()}
    for split, frame in named.items():
        frame.attrs = {"name": f"The {split} DataFrame"}
    tables = dict[str, "pd.DataFrame | RawTable"]()
    for split, file in (("train", data.file), ("dev", data.dev_file), ("test", data.test_file)):
        if split in named:
            tables[split] = named[split]
        elif file is not None:
            tables |= _opened(split, file, data)
    if "train" not in tables:
        raise UserError(
            f"The table of {name} is missing: give --data FILE or, where it is a DataFrame, pass it again in Python "
            "(`tune(train=frame, …)`, `evaluate(split, data=frame)`)."
        )
    corpus = corpora.load_table(
        tables["train"],
        columns(data),
        dev=tables.get("dev"),
        test=tables.get("test"),
        validation_split=data.validation_split,
        seed=seed,
        name=name,
        normalize_labels=data.normalize_labels,
        any_classes=data.yes_these_are_classes,
    )
    notes = [note for table in tables.values() if isinstance(table, RawTable) for note in notes_of(table.remarks)]
    return replace(corpus, findings=(*notes, *corpus.findings))


def _opened(split: str, file: Path, data: Data) -> dict[str, RawTable]:
    """Open the file of a split; one of train may hold the other splits too."""
    if split == "train" and (file / "dataset_dict.json").is_file():
        return open_splits(file)
    return {split: open_table(file, encoding=data.encoding, quoting=data.quoting, no_header=data.no_header)}
