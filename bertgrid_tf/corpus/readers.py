"""Readers of the file formats of the published corpora."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertgrid_tf.corpus.dialogue import Dialogue, Utterance
from bertgrid_tf.corpus.files import open_table
from bertgrid_tf.corpus.table import Columns, read_table
from bertgrid_tf.corpus.text import fix_encoding, read_text
from bertgrid_tf.errors import UserError

if TYPE_CHECKING:
    from bertgrid_tf.corpus.table import TableSource

COMPETITION = Columns(text="utterance", dialogue="i_dialog", speaker="speaker", key="id", order="i_utterance")
"""The columns of the class competition's file."""
_NSMC_CLASSES = {"0": "negative", "1": "positive", "": None}


def read_emotionlines(path: Path) -> tuple[Dialogue, ...]:
    """Read one split of EmotionLines, a JSON list of dialogues, each a list of utterances.

    An utterance is an object with the keys `speaker`, `utterance`, `emotion` and, optionally, `annotation`, whose
    digits are the raters' votes for neutral, joy, sadness, fear, anger, surprise and disgust. The files contain
    Windows-1252 bytes as C1 control characters (U+0092 for an apostrophe), which `fix_encoding` replaces.

    Source: Chen et al., "EmotionLines: An Emotion Corpus of Multi-Party Conversations", LREC 2018.

    Raises:
        UserError: The file is invalid; the message names the file and the dialogue, utterance or key, counted from 1.
    """
    path = Path(path)
    text = read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        # The decoder places an unterminated string where the string begins, not where the text ends.
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise UserError(
                f"{path} breaks off in the middle: its JSON is unfinished, line {error.lineno}; get it anew."
            ) from None
        raise UserError(f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}.") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists that are nested too deeply
        content = None
    if not isinstance(content, list) or not content:
        raise UserError(f"{path} is not in the EmotionLines format: it must be a list of dialogues.")
    return tuple(
        _emotionlines_dialogue(f"{path}, dialogue {number}", dialogue)
        for number, dialogue in enumerate(content, start=1)
    )


def _emotionlines_dialogue(place: str, content: Any) -> Dialogue:
    if not isinstance(content, list) or not content:
        raise UserError(f"{place} is not in the EmotionLines format: a dialogue must be a list of utterances.")
    return Dialogue(
        tuple(
            _emotionlines_utterance(f"{place}, utterance {number}", line)
            for number, line in enumerate(content, start=1)
        )
    )


def _emotionlines_utterance(place: str, content: Any) -> Utterance:
    if not isinstance(content, dict):
        raise UserError(f"{place} is not in the EmotionLines format: an utterance must be an object.")
    for key in ("speaker", "utterance", "emotion"):
        if key not in content:
            raise UserError(f"{place} has no key {key!r}; it has {', '.join(map(repr, content)) or 'none'}.")
        if not isinstance(content[key], str):
            raise UserError(f"{place}: the key {key!r} must hold a text.")
    emotion = content["emotion"].strip()
    if not emotion:
        raise UserError(f"{place}: the key 'emotion' is empty.")
    annotation = content.get("annotation")
    if annotation is not None and not (isinstance(annotation, str) and annotation.isascii() and annotation.isdigit()):
        raise UserError(f"{place}: the key 'annotation' must hold a text of digits, one per class.")
    return Utterance(
        text=fix_encoding(content["utterance"]).strip(),
        label=emotion,
        speaker=fix_encoding(content["speaker"]).strip() or None,
        votes=None if annotation is None else tuple(map(int, annotation)),
    )


def read_nsmc(path: Path) -> tuple[Dialogue, ...]:
    """Read one split of the Naver sentiment movie corpus, tab-separated `id`, `document` and `label`.

    Quotes are ordinary characters in this format, and some documents are empty. The label 0 means "negative" and 1
    "positive"; an empty label marks an unlabelled review. Every review is a dialogue of one utterance.

    Raises:
        UserError: The file is invalid; the message names the file and the line or column.
    """
    return tuple(nsmc_reviews(path))


def nsmc_reviews(path: Path) -> Iterator[Dialogue]:
    """Yield the reviews of `read_nsmc` one after another."""
    table = open_table(Path(path), encoding="utf-8", quoting="none")
    for line, (key, document, label) in table.select(("id", "document", "label")):
        if label not in _NSMC_CLASSES:
            raise UserError(f"{path}, line {line}: the label is {label!r}; it must be 0, 1 or, to predict it, empty.")
        yield Dialogue((Utterance(document.strip(), _NSMC_CLASSES[label], key=key),))


def read_competition(path: "TableSource") -> tuple[Dialogue, ...]:
    """Read the unlabelled dialogues of the class competition, which are taken from EmotionLines.

    The file is a CSV table with the columns `id`, `i_dialog`, `i_utterance`, `speaker` and `utterance`. The id becomes
    the key of the utterance, `i_utterance` orders a dialogue, and `fix_encoding` repairs texts and names.

    Raises:
        UserError: The file is invalid; the message names the file and the line or column.
    """
    return fix_competition(read_table(path, COMPETITION))


def fix_competition(dialogues: Iterable[Dialogue]) -> tuple[Dialogue, ...]:
    """Repair the encoding of texts and names."""
    return tuple(
        Dialogue(
            tuple(
                replace(
                    line, text=fix_encoding(line.text), speaker=fix_encoding(line.speaker) if line.speaker else None
                )
                for line in dialogue.utterances
            )
        )
        for dialogue in dialogues
    )
