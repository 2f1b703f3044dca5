"""Corpora on the terminal: which there are, and one in numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from bertgrid_tf.corpus import SOURCES, Corpus, Finding, SplitDescription, describe_tokens, find
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.report.table import terminal_table


def corpora_table(dirs: Sequence[Path]) -> RenderableType:
    """Return the public corpora and the embedded sample, with the folder that holds each."""
    grid = terminal_table("name", "content", Column("MB", justify="right"), "licence", "folder")
    grid.add_row("sample", "embedded: made-up English dialogues, 8 classes", "", "made up", "in the package")
    for name, source in SOURCES.items():
        folder = find(name, dirs)
        where = escape(str(folder)) if folder else f"not here: bertgrid-tf data fetch {name}"
        grid.add_row(name, escape(source.title), f"{source.size / 1e6:.1f}", escape(source.licence), where)
    return grid


def classes_table(corpus: Corpus, splits: Mapping[str, SplitDescription]) -> RenderableType:
    """Return the utterances of every class in each split."""
    grid = _table(f"{corpus.name}: utterances by class", "class", splits)
    for label in corpus.labels:
        row = [f"{split.classes[label]:,} ({split.classes[label] / split.utterances:.1%})" for split in splits.values()]
        grid.add_row(escape(label), *row)
    if any(split.unlabelled for split in splits.values()):
        grid.add_row("(no label)", *(f"{split.unlabelled:,}" for split in splits.values()))
    grid.add_section()
    grid.add_row("in all", *(f"{split.utterances:,}" for split in splits.values()))
    return grid


def lengths_table(corpus: Corpus, splits: Mapping[str, SplitDescription]) -> RenderableType:
    """Return dialogues, speakers and lengths of each split."""
    grid = _table(f"{corpus.name}: dialogues", "", splits)
    for name in ("dialogues", "speakers", "empty"):
        title = "empty texts" if name == "empty" else name
        grid.add_row(title, *(f"{getattr(split, name):,}" for split in splits.values()))
    lengths = [split.lengths for split in splits.values()]
    shown = (f"{length.min} / {length.mean:.1f} / {length.median:g} / {length.max}" for length in lengths)
    grid.add_row("utterances per dialogue: min / mean / median / max", *shown)
    return grid


def findings_text(findings: Sequence[Finding]) -> RenderableType:
    """Return a line for every finding about a corpus, or that there is none."""
    if not findings:
        return "Nothing in the data looks wrong."
    styles = {"note": "", "warning": "bold yellow", "error": "bold red"}
    return Text("\n").join(Text(finding.message, styles[finding.severity]) for finding in findings)


def tokens_table(lengths: Mapping[str, np.ndarray], hyperparameters: Hyperparameters) -> RenderableType:
    """Return the tokens per input of each split.

    Args:
        lengths: Tokens of each split's inputs before any cut, int64 [utterances].
        hyperparameters: The layout, named in the title, and `max_length`, which the last row compares with.
    """
    cut, layout = hyperparameters.max_length, f"context {hyperparameters.context}"
    splits = {split: describe_tokens(tokens, cut) for split, tokens in lengths.items()}
    speakers = f"speakers {hyperparameters.speaker_format}"
    grid = _table(f"tokens per input: {hyperparameters.model}, {layout}, {speakers}", "", splits)
    grid.add_row("mean", *(f"{tokens.mean:.1f}" for tokens in splits.values()))
    grid.add_row("median", *(f"{tokens.median:g}" for tokens in splits.values()))
    grid.add_row("99th percentile", *(f"{tokens.p99:g}" for tokens in splits.values()))
    grid.add_row("max", *(f"{tokens.max:,}" for tokens in splits.values()))
    grid.add_row(f"longer than {cut}", *(f"{tokens.over:.2%}" for tokens in splits.values()))
    return grid


def _table(title: str, first: str, splits: Mapping[str, object]) -> Table:
    columns = (Column(split, justify="right") for split in splits)
    return terminal_table(first, *columns, title=escape(title))
