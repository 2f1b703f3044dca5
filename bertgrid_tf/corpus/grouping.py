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
        findings += _repeated_places(order, members)
    # Shuffled rows with an order of their own are one dialogue all right.
    if not order or findings:
        findings += _returning_ids(returning)
    if not order:
        for number, column in enumerate(like_order):
            findings += _disagreement(column, number, members)
    return tuple(Dialogue(tuple([row.utterance for row in of_it])) for of_it in members.values()), findings


def torn_dialogues(rows: Sequence[Row]) -> list[Finding]:
    """Check whether a split column tears dialogues apart, so that neighbouring utterances are in different splits.

    An id may be in several splits that are numbered each for itself; neighbours of one id meet there by chance at most
    where one split ends.
    """
    torn = [
        after for before, after in pairwise(rows) if before.dialogue == after.dialogue and before.split != after.split
    ]
    if len(torn) < len({row.split for row in rows}):
        return []
    number = len({row.dialogue for row in torn})
    return [
        Finding(
            "warning",
            f"{number:,} {plural(number, 'dialogue')} {plural(number, 'is', 'are')} torn apart by the split column",
            number,
            tuple(row.place for row in torn[:EXAMPLES]),
            "give all rows of a dialogue the same split, since a context ends where the split changes",
        )
    ]


def _shown(dialogue: str) -> str:
    return repr(dialogue.replace(ID_JOINT, ", "))


def _kind(cells: Sequence[str]) -> Callable[[str], Any]:
    for kind in (int, float):
        try:
            if all(isfinite(kind(cell)) for cell in cells):
                return kind
        except ValueError:
            continue
    return str


def _repeated_places(order: str, members: Mapping[str, Sequence[Row]]) -> list[Finding]:
    repeated = [
        dialogue
        for dialogue, rows in members.items()
        if len(rows) > 1 and len({row.orders[0] for row in rows}) < len(rows)
    ]
    if not repeated:
        return []
    return [
        Finding(
            "warning",
            f"{len(repeated):,} {plural(len(repeated), 'dialogue')} {plural(len(repeated), 'has', 'have')} a value of "
            f"the column {order!r} twice",
            len(repeated),
            tuple(map(_shown, repeated[:EXAMPLES])),
            "check whether dialogue ids restart; utterances of equal values keep the order of their rows",
        )
    ]


def _returning_ids(returning: Mapping[str, str]) -> list[Finding]:
    if not returning:
        return []
    number = len(returning)
    return [
        Finding(
            "warning",
            f"{number:,} dialogue {plural(number, 'id comes', 'ids come')} back after another id, and "
            f"{plural(number, 'is', 'are')} read as one dialogue{'' if number == 1 else ' each'}",
            number,
            tuple(f"{_shown(dialogue)} ({place})" for dialogue, place in list(returning.items())[:EXAMPLES]),
            "where ids restart, name every column of the id (--dialogue-column Season,Episode) or give --dialogue-ids "
            "consecutive; where rows are shuffled, name the column of their order (--order-column)",
        )
    ]


def _disagreement(column: str, number: int, members: Mapping[str, Sequence[Row]]) -> list[Finding]:
    disagreeing = {}
    for dialogue, rows in members.items():
        cells = [row.orders[number] for row in rows]
        if not all(cell.removeprefix("-").isdecimal() for cell in cells) or len(set(cells)) < len(cells):
            return []
        places = list(map(int, cells))
        if places != sorted(places):
            disagreeing[dialogue] = places
    if not disagreeing:
        return []
    examples = [
        f"{_shown(dialogue)} ({', '.join(map(str, places[:5]))}{', …' * (len(places) > 5)})"
        for dialogue, places in list(disagreeing.items())[:EXAMPLES]
    ]
    return [
        Finding(
            "warning",
            f"in {len(disagreeing):,} of {len(members):,} dialogues the rows are in another order than the column "
            f"{column!r}, which looks like the order of the utterances",
            len(disagreeing),
            tuple(examples),
            f"--order-column {column} sorts by it",
        )
    ]
