"""Rows of a table ▶ dialogues, with findings about their ids and their order."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any

from bertgrid_tf.corpus.dialogue import Dialogue, Utterance
from bertgrid_tf.corpus.findings import EXAMPLES, Finding, plural

_ORDER_WORDS = {"turn", "utterance", "utt", "index", "idx", "order", "position", "seq", "sequence", "line", "unnamed"}
"""The words in a column's name that make it look like the order of the utterances; pandas writes `Unnamed: 0`."""

ID_JOINT = "\x1f"
"""The separator between the cells of several columns that make a dialogue's id: ASCII's own, which no cell has."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        place: The table and the row's line or number, for messages.
        split: "train", "dev" or "test".
        dialogue: The id of the dialogue; `ID_JOINT` stands between the cells of several columns.
        utterance: The utterance.
        orders: The cells of the column that orders a dialogue, or else of every column that looks like one.
    """

    place: str
    split: str
    dialogue: str
    utterance: Utterance
    orders: tuple[str, ...] = ()


def looks_like_order(column: str) -> bool:
    """Return whether a column's name is a usual one for the order of utterances.

    Example:
        >>> [looks_like_order(name) for name in ("Utterance_ID", "i_utterance", "turnIndex", "id", "text")]
        [True, True, True, False, False]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", column)
    return any(word.lower() in _ORDER_WORDS for word in words)


def group(
    rows: Sequence[Row], order: str | None = None, like_order: Sequence[str] = ()
) -> tuple[tuple[Dialogue, ...], list[Finding]]:
    """Group rows to dialogues, in the order of each dialogue's first row.

    Args:
        rows: The rows of one split; those of a dialogue need not be adjacent.
        order: The column whose cells sort the rows of a dialogue: as numbers where all of them are, else as texts. None
            to keep the order of the rows.
        like_order: The columns that look like an order, for a finding where one disagrees with the rows.

    Returns:
        The dialogues, and findings about ids that come back and about the order.

    Example:
        >>> rows = [Row(f"line {n}", "train", "d", Utterance(text), (n,)) for n, text in (("10", "Bye."), ("9", "Hi."))]
        >>> dialogues, findings = group(rows, "turn")
        >>> dialogues[0].texts, findings
        (('Hi.', 'Bye.'), [])
    """
    members: dict[str, list[Row]] = {}
    returning: dict[str, str] = {}
    previous = None
    for row in rows:
        if row.dialogue != previous and row.dialogue in members:
            returning.setdefault(row.dialogue, row.place)
        members.setdefault(row.dialogue, []).append(row)
        previous = row.dialogue
    findings: list[Finding] = []
    if order:
        kind = _kind([row.orders[0] for row in rows])
        for of_dialogue in members.values():
            of_dialogue.sort(key=lambda row: kind(row.orders[0]))
        findings += _finding(
            rows,
            {dialogue: "" for dialogue, own in members.items() if len({row.orders[0] for row in own}) < len(own)},
            ("has", "have"),
            f"a value of the column {order!r} twice",
            "check whether dialogue ids restart; utterances of equal values keep the order of their rows",
        )
    # Shuffled rows with an order of their own are one dialogue all right.
    if not order or findings:
        findings += _finding(
            rows,
            returning,
            ("goes", "go"),
            "on after another one has begun, since the id comes back",
            "where ids restart, name every column of the id (--dialogue-column Season,Episode) or give --dialogue-ids "
            "consecutive; where rows are shuffled, name the column of their order (--order-column)",
        )
    for number, column in enumerate(() if order else like_order):
        findings += _finding(
            rows,
            _out_of_order(number, members),
            ("is", "are"),
            f"in another order than the column {column!r}, which looks like the order of the utterances",
            f"--order-column {column} sorts by it",
        )
    return tuple(Dialogue(tuple([row.utterance for row in own])) for own in members.values()), findings


def torn_dialogues(rows: Sequence[Row]) -> list[Finding]:
    """Check whether a split column tears dialogues apart, so that neighbouring utterances are in different splits.

    An id may be in several splits that are numbered each for itself; neighbours of one id meet there by chance at most
    where one split ends.
    """
    torn = [row for before, row in pairwise(rows) if before.dialogue == row.dialogue and before.split != row.split]
    return _finding(
        rows,
        {row.dialogue: row.place for row in torn} if len(torn) >= len({row.split for row in rows}) else {},
        ("is", "are"),
        "torn apart by the split column",
        "give all rows of a dialogue the same split, since a context ends where the split changes",
    )


def _finding(
    rows: Sequence[Row], concerned: Mapping[str, str], verbs: tuple[str, str], rest: str, advice: str
) -> list[Finding]:
    """Make a finding about dialogues, by their ids, each with its place or other details; none where there are none."""
    if not concerned:
        return []
    table, _, _ = rows[0].place.rpartition(", ")
    examples = [
        repr(dialogue.replace(ID_JOINT, ", ")) + (f" ({detail.removeprefix(f'{table}, ')})" if detail else "")
        for dialogue, detail in list(concerned.items())[:EXAMPLES]
    ]
    number = len(concerned)
    sentence = f"{table}: {number:,} {plural(number, 'dialogue')} {plural(number, *verbs)} {rest}"
    return [Finding("warning", sentence, number, tuple(examples), advice)]


def _kind(cells: Sequence[str]) -> Callable[[str], Any]:
    """Return the type as which the cells are sorted: whole numbers, numbers, or texts."""
    for kind in (int, float):
        try:
            if all(isfinite(kind(cell)) for cell in cells):
                return kind
        except ValueError:
            continue
    return str


def _out_of_order(number: int, members: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Return the dialogues, with their places, that a column sorts otherwise; none where the column is no order."""
    disagreeing = {}
    for dialogue, rows in members.items():
        cells = [row.orders[number] for row in rows]
        if not all(cell.removeprefix("-").isdecimal() for cell in cells) or len(set(cells)) < len(cells):
            return {}
        places = list(map(int, cells))
        if places != sorted(places):
            disagreeing[dialogue] = ", ".join(map(str, places[:5])) + ", …" * (len(places) > 5)
    return disagreeing
