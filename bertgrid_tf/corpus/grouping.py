"""Rows of a table ▶ dialogues, with findings about their ids and their order."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        number: The row's line or number.
        split: "train", "dev" or "test".
        dialogue: The id of the dialogue; `ID_JOINT` stands between the cells of several columns.
        utterance: The utterance.
        orders: The cells of the column that orders a dialogue, or else of every column that looks like one.
    """

    number: int
    split: str
    dialogue: str
    utterance: Utterance
    orders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """Successive rows of a table, as many whole dialogues.

    Attributes:
        rows: The rows in their own order.
        dialogues: The dialogues, in the order of each one's first row.
    """

    rows: Sequence[Row]
    dialogues: tuple[Dialogue, ...]


Kind = Callable[[str], Any]
"""The type as which cells are sorted."""


def looks_like_order(column: str) -> bool:
    """Return whether a column's name is a usual one for the order of utterances.

    Example:
        >>> [looks_like_order(name) for name in ("Utterance_ID", "i_utterance", "turnIndex", "id", "text")]
        [True, True, True, False, False]
    """
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", column)
    return any(word.lower() in _ORDER_WORDS for word in words)


@dataclass
class Grouping:
    """Groups the rows of one split of a table to dialogues, and collects findings about their ids and their order.

    Attributes:
        table: The name of the table, for messages.
        unit: The unit in which its rows are numbered.
        order: The column whose cells sort the rows of a dialogue; None to keep the order of the rows.
        like_order: The columns that look like an order, for a finding where one disagrees with the rows.
        kind: The type as which the cells of `order` are sorted: as numbers where all of them are, else as texts. None
            to infer it from the rows of a window.

    Example:
        >>> rows = [Row(n, "train", "d", Utterance(text), (str(n),)) for n, text in ((10, "Bye."), (9, "Hi."))]
        >>> grouping = Grouping("t.csv", "line", order="turn")
        >>> [window.dialogues[0].texts for window in grouping.windows(rows)], grouping.findings()
        ([('Hi.', 'Bye.')], [])
    """

    table: str
    unit: str
    order: str | None = None
    like_order: Sequence[str] = ()
    kind: Kind | None = None

    def __post_init__(self) -> None:
        """Begin without findings."""
        self._returning: dict[str, str] = {}
        self._doubled: dict[str, str] = {}
        self._disagreeing: list[dict[str, str] | None] = [{} for _ in self.like_order]

    def windows(self, rows: Iterable[Row], size: int | None = None) -> Iterator[Window]:
        """Yield the rows in windows.

        Args:
            rows: The rows of the split.
            size: The rows from which on a window ends with the dialogue, an id that comes back being another dialogue;
                None for one window, in which the rows of a dialogue need not be adjacent.
        """
        taken: list[Row] = []
        members: dict[str, list[Row]] = {}
        for row in rows:
            if taken and row.dialogue != taken[-1].dialogue:
                if size and len(taken) >= size:
                    yield self._window(taken, members)
                    taken, members = [], {}
                elif row.dialogue in members:
                    self._returning.setdefault(row.dialogue, f"{self.unit} {row.number}")
            members.setdefault(row.dialogue, []).append(row)
            taken.append(row)
        if taken:
            yield self._window(taken, members)

    def findings(self) -> list[Finding]:
        """Return the findings about all windows so far."""
        findings = self._finding(
            self._doubled,
            ("has", "have"),
            f"a value of the column {self.order!r} twice",
            "check whether dialogue ids restart; utterances of equal values keep the order of their rows",
        )
        # Shuffled rows with an order of their own are one dialogue all right.
        if not self.order or findings:
            findings += self._finding(
                self._returning,
                ("goes", "go"),
                "on after another one has begun, since the id comes back",
                "where ids restart, name every column of the id (--dialogue-column Season,Episode) or give "
                "--dialogue-ids consecutive; where rows are shuffled, name the column of their order (--order-column)",
            )
        for column, concerned in zip(self.like_order, self._disagreeing, strict=True):
            findings += self._finding(
                concerned or {},
                ("is", "are"),
                f"in another order than the column {column!r}, which looks like the order of the utterances",
                f"--order-column {column} sorts by it",
            )
        return findings

    def torn(self, rows: Sequence[Row]) -> list[Finding]:
        """Check whether a split column tears dialogues apart, so that neighbouring utterances are in different splits.

        An id may be in several splits that are numbered each for itself; neighbours of one id meet there by chance at
        most where one split ends.
        """
        torn = [row for one, row in pairwise(rows) if one.dialogue == row.dialogue and one.split != row.split]
        few = len(torn) < len({row.split for row in rows})
        return self._finding(
            {} if few else {row.dialogue: f"{self.unit} {row.number}" for row in torn},
            ("is", "are"),
            "torn apart by the split column",
            "give all rows of a dialogue the same split, since a context ends where the split changes",
        )

    def _window(self, rows: Sequence[Row], members: Mapping[str, list[Row]]) -> Window:
        if self.order:
            kind = self.kind or cell_kind(lambda: (row.orders[0] for row in rows))
            for dialogue, own in members.items():
                own.sort(key=lambda row: kind(row.orders[0]))
                if len({row.orders[0] for row in own}) < len(own):
                    self._doubled[dialogue] = ""
        else:
            for number, concerned in enumerate(self._disagreeing):
                if concerned is not None:
                    found = _out_of_order(number, members)
                    self._disagreeing[number] = None if found is None else concerned | found
        return Window(rows, tuple(Dialogue(tuple([row.utterance for row in own])) for own in members.values()))

    def _finding(self, concerned: Mapping[str, str], verbs: tuple[str, str], rest: str, advice: str) -> list[Finding]:
        """Make a finding about dialogues, by their ids, each with details; none where there are no dialogues."""
        if not concerned:
            return []
        examples = [
            repr(dialogue.replace(ID_JOINT, ", ")) + (f" ({detail})" if detail else "")
            for dialogue, detail in list(concerned.items())[:EXAMPLES]
        ]
        number = len(concerned)
        sentence = f"{self.table}: {number:,} {plural(number, 'dialogue')} {plural(number, *verbs)} {rest}"
        return [Finding("warning", sentence, number, tuple(examples), advice)]


def cell_kind(cells: Callable[[], Iterable[str]]) -> Kind:
    """Return the type as which cells are sorted: whole numbers, numbers, or texts."""
    for kind in (int, float):
        try:
            if all(isfinite(kind(cell)) for cell in cells()):
                return kind
        except ValueError:
            continue
    return str


def _out_of_order(number: int, members: Mapping[str, Sequence[Row]]) -> dict[str, str] | None:
    """Return the dialogues, with their places, that a column sorts otherwise; None where the column is no order."""
    disagreeing = {}
    for dialogue, rows in members.items():
        cells = [row.orders[number] for row in rows]
        if not all(cell.removeprefix("-").isdecimal() for cell in cells) or len(set(cells)) < len(cells):
            return None
        places = list(map(int, cells))
        if places != sorted(places):
            disagreeing[dialogue] = ", ".join(map(str, places[:5])) + ", …" * (len(places) > 5)
    return disagreeing
