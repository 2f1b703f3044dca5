"""Output on terminals that lack characters of ours, as those of the locale C and of Latin-1."""

import codecs
import shutil
import sys
import unicodedata

_PLAIN = {
    **{"×": "x", "…": "...", "▶": ">", "◀": "<", "≈": "~", "≤": "<=", "≥": ">=", "·": ".", "−": "-", "–": "-"},
    **{"’": "'", "★": "*", "√": "sqrt ", "β": "beta", "γ": "gamma", "━": "-", "╸": "-", "╺": "-", "•": "*"},
}


NARROW = 60
"""Columns that tables, bars and options need side by side."""


def is_narrow(least: int = NARROW) -> bool:
    """Return whether the terminal has fewer columns than that."""
    return shutil.get_terminal_size().columns < least


def use_plain_characters() -> None:
    """Let standard output and error replace what they cannot encode, and print all else as it is.

    Rich draws tables and bars in ASCII on such a terminal by itself.
    """
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        # Notebooks and tests have streams of other classes, which take any character.
        if hasattr(stream, "reconfigure") and stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace a character by ASCII that reads alike, its base letters, or its number in hexadecimal."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown, plain = error.object[error.start : error.end], ""
    for character in unknown:
        base = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        plain += _PLAIN.get(character) or base or character.encode("ascii", "backslashreplace").decode()
    return plain, error.end
