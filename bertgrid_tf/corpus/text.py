"""Text files in UTF-8, and the repair of Windows-1252 characters in them."""

from pathlib import Path

from bertgrid_tf.errors import UserError


def _windows_1252(byte: int) -> str:
    # Five bytes are undefined in Windows-1252, and are dropped like a control character without meaning.
    return bytes([byte]).decode("cp1252", errors="ignore")


_REPLACEMENTS = {
    **{code: _windows_1252(code) for code in range(0x80, 0xA0)},
    0xA0: " ",
    # Half of a surrogate pair, which a JSON escape can spell but UTF-8 cannot.
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
}


def fix_encoding(text: str) -> str:
    r"""Replace C1 control characters by the Windows-1252 characters of the same byte.

    For example, U+0092 becomes ’, U+0096 becomes – and U+0085 becomes …; a no-break space becomes a space.

    Example:
        >>> from bertgrid_tf.corpus.text import fix_encoding
        >>> fix_encoding("It\x92s fine")
        'It’s fine'
    """
    return text.translate(_REPLACEMENTS)


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        UserError: The file is missing, is a folder, cannot be read, is empty, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the name.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a file in it.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The codec counts from the first byte after a byte order mark.
        offset = len(content) - len(error.object) + error.start
        line = content.count(b"\n", 0, offset) + 1
        raise UserError(
            f"{path} is not UTF-8: line {line} has the byte 0x{content[offset]:02x} at offset {offset}; "
            "save the file as UTF-8."
        ) from None
    if not text.strip():
        raise UserError(f"{path} is empty.")
    return text
