"""Corpora of labelled dialogues: reading, fetching, sampling, splitting and formatting, without TensorFlow."""

from bertgrid_tf.corpus.balance import NO_UNDERSAMPLING, parse_undersample, resample
from bertgrid_tf.corpus.describe import (
    DialogueLengths,
    SplitDescription,
    TokenLengths,
    describe,
    describe_tokens,
)
from bertgrid_tf.corpus.dialogue import (
    Corpus,
    Dialogue,
    Utterance,
    dialogue_numbers,
    label_counts,
    texts_of,
    utterances,
)
from bertgrid_tf.corpus.download import DownloadProgress
from bertgrid_tf.corpus.findings import Finding, check_corpus, refuse_warnings
from bertgrid_tf.corpus.layout import (
    CONTEXTS,
    NONE_MARKER,
    SAYS_MARKER,
    SPEAKER_FORMATS,
    Example,
    Layout,
    format_inputs,
    segment_count,
    speaker_counts,
)
from bertgrid_tf.corpus.readers import (
    COMPETITION,
    fix_competition,
    nsmc_reviews,
    read_competition,
    read_emotionlines,
    read_nsmc,
)
from bertgrid_tf.corpus.sample import sample
from bertgrid_tf.corpus.sources import (
    SOURCES,
    Source,
    SourceFile,
    fetch,
    find,
    load,
    missing,
    user_data_dir,
)
from bertgrid_tf.corpus.split import hold_out, limit, text_folds
from bertgrid_tf.corpus.table import Columns, load_table, read_split_table, read_table, read_windows

__all__ = [
    "COMPETITION",
    "CONTEXTS",
    "NONE_MARKER",
    "NO_UNDERSAMPLING",
    "SAYS_MARKER",
    "SOURCES",
    "SPEAKER_FORMATS",
    "Columns",
    "Corpus",
    "Dialogue",
    "DialogueLengths",
    "DownloadProgress",
    "Example",
    "Finding",
    "Layout",
    "Source",
    "SourceFile",
    "SplitDescription",
    "TokenLengths",
    "Utterance",
    "check_corpus",
    "describe",
    "describe_tokens",
    "dialogue_numbers",
    "fetch",
    "find",
    "fix_competition",
    "format_inputs",
    "hold_out",
    "label_counts",
    "limit",
    "load",
    "load_table",
    "missing",
    "nsmc_reviews",
    "parse_undersample",
    "read_competition",
    "read_emotionlines",
    "read_nsmc",
    "read_split_table",
    "read_table",
    "read_windows",
    "refuse_warnings",
    "resample",
    "sample",
    "segment_count",
    "speaker_counts",
    "text_folds",
    "texts_of",
    "user_data_dir",
    "utterances",
]
