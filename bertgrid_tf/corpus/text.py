"""The encodings of text files, and the repair of Windows-1252 characters in them."""

import os
import stat
from collections import Counter
from functools import cache
from pathlib import Path
from time import monotonic, sleep

from bertgrid_tf.errors import UserError

LARGEST = 2**31
"""The most bytes of a file of texts, packed or not."""
WRITER_SECONDS = 5
"""The longest wait for a process that writes to a pipe."""


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


def read_text(path: Path, most: int = LARGEST) -> str:
    """Read a UTF-8 file of at most `most` bytes.

    Raises:
        UserError: The file is empty or not UTF-8, or as for `read_bytes`.
    """
    return decode(str(path), read_bytes(path, most), "utf-8")[0].removeprefix("\ufeff")


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """Read a file of at most `most` bytes.

    Raises:
        UserError: The file is missing, is a folder or a device, has more bytes, or cannot be read; a pipe
            has no process that writes to it.
    """
    try:
        mode, size = (status := path.stat()).st_mode, status.st_size
        if stat.S_ISCHR(mode) and not path.samefile(os.devnull):
            raise UserError(f"{path} is a device, which has no end; name a file.")
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            size = len(content := _piped(path))
        elif size <= most:
            content = path.read_bytes()
        if size > most:
            limit = f"{most >> 30} GiB" if most >> 30 else f"{most >> 20} MiB"
            raise UserError(f"{path} has more than {limit}, the most that is read; divide it.")
        return content
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the name.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a file in it.") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL.
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None


# A pipe, as of the standard input, can be read once; a corpus may be opened twice.
@cache
def _piped(path: Path) -> bytes:
    # The standard input may be a socket, which cannot be opened by its path.
    standard = path == Path("/dev/stdin")
    descriptor = os.dup(0) if standard else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as pipe:  # noqa: PTH123
        first = b"" if standard else _first_byte(path, descriptor)
        os.set_blocking(descriptor, True)
        return first + pipe.read(LARGEST + 1)


def _first_byte(path: Path, descriptor: int) -> bytes:
    """Wait until a process writes to a pipe; return its first byte, or nothing where it has not written one yet."""
    end = monotonic() + WRITER_SECONDS
    while monotonic() < end:
        try:
            if first := os.read(descriptor, 1):
                return first
        except BlockingIOError:
            return b""
        sleep(0.05)  # Without a writer, reading ends at once.
    raise UserError(f"{path} is a pipe to which no process writes; start that process too, or name a file.")


def decode(name: str, content: bytes, encoding: str | None = None) -> tuple[str, str]:
    """Decode the content of a text file.

    Args:
        name: The path, for messages.
        content: The bytes of the file.
        encoding: The encoding; None to recognise UTF-8, UTF-16 with a byte order mark, and CP949 by its Hangul.

    Returns:
        The text, with its byte order mark if it has one, and the encoding that includes that mark.

    Raises:
        UserError: The file is empty or not in the encoding, or there is no such encoding.

    Example:
        >>> from bertgrid_tf.corpus.text import decode
        >>> decode("a.csv", "좋다".encode("cp949"))
        ('좋다', 'cp949')
    """
    chosen = encoding or next((codec for mark, codec in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(chosen)
    except LookupError:
        raise UserError(f"There is no text encoding {encoding!r}; give one as cp949, latin-1 or utf-16.") from None
    except UnicodeError as error:
        if not isinstance(error, UnicodeDecodeError):
            raise UserError(f"{name} is not {chosen.upper()} ({error}); name another --encoding.") from None
        if encoding is None and chosen == "utf-8" and (korean := _hangul(content)):
            return korean, "cp949"
        line = content.count(b"\n", 0, error.start) + 1
        remedy = "" if encoding else ", or name its encoding with --encoding"
        raise UserError(
            f"{name} is not {chosen.upper()}: line {line} has the byte 0x{content[error.start]:02x} at offset "
            f"{error.start}; save the file as UTF-8{remedy}."
        ) from None
    if "\0" in text[:1000]:
        raise UserError(
            f"{name}: this is binary data, or UTF-16 without a byte order mark, which --encoding utf-16-le would read."
        )
    if not text.strip("\ufeff \t\r\n"):
        raise UserError(f"{name} is empty.")
    return text, chosen


_MARKS = ((b"\xff\xfe\0\0", "utf-32-le"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def _hangul(content: bytes) -> str | None:
    """Decode CP949 if the text is Korean; other encodings decode too, as ideographs, rare syllables or bare letters."""
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        return None
    korean = odd = others = 0
    for character, count in Counter(text).items():
        if "\uac00" <= character <= "\ud7a3":
            # The bytes of the 2,350 syllables of KS X 1001, which suffice for everyday Korean.
            lead, trail = character.encode("cp949")
            korean, odd = (korean + count, odd) if 0xB0 <= lead <= 0xC8 and trail > 0xA0 else (korean, odd + count)
        elif "\u4e00" <= character <= "\u9fff":
            odd += count
        elif not character.isascii():
            others += count
    return text if korean > others and korean > 20 * odd else None
