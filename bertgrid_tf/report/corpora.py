"""Corpora on the terminal: which there are, and one in numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Column, Table

from bertgrid_tf.corpus import SOURCES, Corpus, describe, describe_tokens, find
from bertgrid_tf.hyperparameters import Hyperparameters


def corpora_table(dirs: Sequence[Path]) -> RenderableType:
    """The public corpora and the embedded sample, with the folder that each lies in."""
    table = Table("name", "what", Column("MB", justify="right"), "licence", "where")
    table.add_row(
        "sample",
        "embedded: made-up English dialogues, 8 classes",
        "",
        "made up",
        "in the package",
    )
    for name, source in SOURCES.items():
        folder = find(name, dirs)
        where = escape(str(folder)) if folder else f"not here: bertgrid-tf data fetch {name}"
        table.add_row(name, escape(source.title), f"{source.size / 1e6:.1f}", escape(source.licence), where)
    return table


def classes_table(corpus: Corpus) -> RenderableType:
    """Utterances per split and class."""
    described = describe(corpus)
    table = _table(f"{corpus.name}: utterances by class", "class", described)
    for label in corpus.labels:
        row = [f"{d.classes[label]:,} ({d.classes[label] / d.utterances:.1%})" for d in described.values()]
        table.add_row(escape(label), *row)
    if any(d.unlabelled for d in described.values()):
        table.add_row("(no label)", *(f"{d.unlabelled:,}" for d in described.values()))
    table.add_section()
    table.add_row("in all", *(f"{d.utterances:,}" for d in described.values()))
    return table


def lengths_table(corpus: Corpus) -> RenderableType:
    """Dialogues, speakers and lengths per split."""
    described = describe(corpus)
    table = _table(f"{corpus.name}: dialogues", "", described)
    table.add_row("dialogues", *(f"{d.dialogues:,}" for d in described.values()))
    table.add_row("speakers", *(f"{d.speakers:,}" for d in described.values()))
    table.add_row("empty texts", *(f"{d.empty:,}" for d in described.values()))
    table.add_row(
        "utterances per dialogue: min / mean / median / max",
        *(
            f"{d.lengths.min} / {d.lengths.mean:.1f} / {d.lengths.median:g} / {d.lengths.max}"
            for d in described.values()
        ),
    )
    return table


def tokens_table(lengths: Mapping[str, np.ndarray], hyperparameters: Hyperparameters) -> RenderableType:
    """Tokens per input in the settings' layout.

    Args:
        lengths: of each split, before any cut, int64 [utterances].
        settings: named in the title; max_length is what the last line compares with.
    """
    described = {split: describe_tokens(tokens, hyperparameters.max_length) for split, tokens in lengths.items()}
    title = f"tokens per input: {hyperparameters.model}, context {hyperparameters.context}, speakers {hyperparameters.speaker_format}"
    table = _table(title, "", described)
    table.add_row("mean", *(f"{d.mean:.1f}" for d in described.values()))
    table.add_row("median", *(f"{d.median:g}" for d in described.values()))
    table.add_row("99th percentile", *(f"{d.p99:g}" for d in described.values()))
    table.add_row("max", *(f"{d.max:,}" for d in described.values()))
    table.add_row(f"longer than {hyperparameters.max_length}", *(f"{d.over:.2%}" for d in described.values()))
    return table


def _table(title: str, first: str, splits: Mapping[str, object]) -> Table:
    return Table(
        first,
        *(Column(split, justify="right") for split in splits),
        title=escape(title),
        title_justify="left",
    )
