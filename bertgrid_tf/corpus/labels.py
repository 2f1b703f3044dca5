"""Spellings of labels: which print alike, which stand for a missing value, and one spelling for each class."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

_INVISIBLE = dict.fromkeys((0x00AD, 0x200B, 0x200C, 0x200E, 0x200F, 0x2060, 0xFEFF))
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")
_MISSING = {"", "nan", "null", "none", "na", "n/a", "#n/a", "<na>", "nat", "nil", "-", "--", "?", '""', "''"}


def clean_label(label: str) -> str:
    r"""Return a label in Unicode's NFC, without invisible characters, superfluous blanks and the .0 of a whole number.

    Example:
        >>> clean_label("joy\u200b\xa0"), clean_label("1.0")
        ('joy', '1')
    """
    text = " ".join(unicodedata.normalize("NFC", label.translate(_INVISIBLE)).split())
    whole = _WHOLE_NUMBER.fullmatch(text)
    return whole[1] if whole else text


def label_key(label: str) -> str:
    """Return a key that is equal for labels that a reader takes for the same, whatever their case and encoding.

    Example:
        >>> label_key("Joy") == label_key("joy ") == label_key("ｊｏｙ")
        True
    """
    folded = unicodedata.normalize("NFKC", clean_label(label)).casefold()
    return clean_label(unicodedata.normalize("NFKC", folded))


def stands_for_missing(label: str) -> bool:
    """Return whether a label is a usual mark of a missing value, as `nan`, `NULL` or a blank."""
    return label_key(label) in _MISSING


def spelling(label: str) -> str:
    r"""Return a label in quotes, with escapes where it holds more than it shows.

    Example:
        >>> spelling("기쁨"), spelling("joy\xa0")
        ("'기쁨'", "'joy\\xa0'")
    """
    return repr(label) if unicodedata.is_normalized("NFC", label) else ascii(label)


def alike(labels: Iterable[str]) -> list[list[str]]:
    """Group the labels that a reader takes for the same, in the order given; groups of one are left out."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(label_key(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def normalized_labels(counts: Mapping[str, int]) -> dict[str, str]:
    """Choose one spelling for the labels that a reader takes for the same: the cleaned form of the most frequent one.

    Args:
        counts: The texts of every label.

    Returns:
        The spelling of every label of `counts`; of equally frequent ones, the first in alphabetical order.

    Example:
        >>> normalized_labels({"joy": 9, "Joy": 2, "0.0": 1})
        {'joy': 'joy', 'Joy': 'joy', '0.0': '0'}
    """
    frequencies: dict[str, Counter[str]] = {}
    for label in sorted(counts):
        frequencies.setdefault(label_key(label), Counter())[clean_label(label)] += counts[label]
    chosen = {key: spellings.most_common(1)[0][0] for key, spellings in frequencies.items()}
    return {label: chosen[label_key(label)] for label in counts}
