"""The encodings of text files, and the repair of Windows-1252 characters in them."""

import codecs
import io
import os
import re
import stat
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from time import monotonic, sleep
from typing import BinaryIO, TextIO

from bertgrid_tf.errors import UserError

LARGEST = 2**31
"""The most bytes of a file of texts, packed or not."""
WRITER_SECONDS = 5
"""The longest wait for a process that writes to a pipe."""


def _windows_1252(byte: int) -> str:
    # Five bytes are undefined in Windows-1252, and are dropped like a control character without meaning.
    return bytes([byte]).decode("cp1252", errors="ignore")


HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which a JSON escape, YAML and Python can spell but UTF-8 cannot."""
_REPLACEMENTS = {
    **{code: _windows_1252(code) for code in range(0x80, 0xA0)},
    0xA0: " ",
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),  # HALF_PAIR
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
    with open_bytes(path, most) as file:
        try:
            return file.read()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}).") from None


def open_bytes(path: Path, most: int = LARGEST) -> BinaryIO:
    """Open a file of at most `most` bytes; a pipe is copied to the disk first, so that it can be opened again.

    Raises:
        UserError: The file is missing, is a folder or a device, has more bytes, or cannot be opened; a pipe has no
            process that writes to it.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) and not path.samefile(os.devnull):
            raise UserError(f"{path} is a device, which has no end; name a file.")
        piped = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        file = Path(f"/dev/fd/{_piped(path).fileno()}").open("rb") if piped else path.open("rb")  # noqa: SIM115
        if os.fstat(file.fileno()).st_size > most:
            file.close()
            raise too_large(str(path), "has", most)
        return file
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the name.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name a file in it.") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL.
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def read_rest(name: str, file: BinaryIO) -> bytes:
    """Read an open file to its end; raise UserError where it unpacks to more than `LARGEST` bytes."""
    content = bytearray()
    # In parts, since Python allocates all the bytes that are asked for before it reads one.
    while part := file.read(1 << 20):
        content += part
        if len(content) > LARGEST:
            raise too_large(name, "unpacks to")
    return bytes(content)


def too_large(name: str, verb: str, most: int = LARGEST) -> UserError:
    """Return the error of a file that "has" more than `most` bytes, or "unpacks to" more."""
    limit = f"{most >> 30} GiB" if most >> 30 else f"{most >> 20} MiB"
    return UserError(f"{name} {verb} more than {limit}, the most that is read; divide it.")


# A pipe, as of the standard input, can be read once; a corpus is read several times.
@cache
def _piped(path: Path) -> BinaryIO:
    # The standard input may be a socket, which cannot be opened by its path.
    standard = path == Path("/dev/stdin")
    descriptor = os.dup(0) if standard else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    with open(descriptor, "rb") as pipe:  # noqa: PTH123
        copy.write(b"" if standard else _first_byte(path, descriptor))
        os.set_blocking(descriptor, True)
        while copy.tell() <= LARGEST and (part := pipe.read(1 << 20)):
            copy.write(part)
    copy.flush()
    return copy


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


@dataclass(frozen=True)
class TextFile:
    """A text file that is decoded as it is read, any number of times.

    Attributes:
        open: Opens its bytes.
        codec: The encoding, without a byte order mark.
        mark: The bytes of the byte order mark, 0 for none.
        newline: The character that ends lines: a carriage return where there is no line feed.
        head: The first 200,000 characters after the mark.
    """

    open: Callable[[], BinaryIO]
    codec: str
    mark: int
    newline: str
    head: str

    def stream(self, newline: str = "\n", skipped: int = 0) -> TextIO:
        """Open the text behind its byte order mark and the first `skipped` characters; lines keep their ends."""
        content = self.open()
        content.seek(self.mark)
        stream = io.TextIOWrapper(content, self.codec, newline=newline)
        stream.read(skipped)
        return stream


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
    codec = text_file(name, partial(io.BytesIO, content), encoding).codec
    return content.decode(codec), codec


def text_file(name: str, open_: Callable[[], BinaryIO], encoding: str | None = None) -> TextFile:
    """Read a text file once to find out its encoding; the arguments and errors are those of `decode`.

    Its content is in memory as a whole only where it is neither in the given encoding nor in UTF-8.
    """
    with open_() as file:
        start = file.read(4)
        chosen = encoding or next((codec for mark, codec in _MARKS if start.startswith(mark)), "utf-8")
        file.seek(0)
        head, length, filled, newline = "", 0, False, False
        try:
            b"a".decode(chosen, "ignore")
            decoder = codecs.getincrementaldecoder(chosen)()
            for part in iter(partial(file.read, 1 << 20), b""):
                text = decoder.decode(part)
                if length < 1000 and "\0" in text[: 1000 - length]:
                    raise UserError(
                        f"{name}: this is binary data, or UTF-16 without a byte order mark, which --encoding utf-16-le "
                        "would read."
                    )
                head += text[: _HEAD - len(head)]
                length += len(text)
                if length > LARGEST:
                    raise too_large(name, "unpacks to")
                filled = filled or bool(text.strip("\ufeff \t\r\n"))
                newline = newline or "\n" in text
            filled = bool(decoder.decode(b"", final=True)) or filled
        except LookupError:
            raise UserError(f"There is no text encoding {encoding!r}; give one as cp949, latin-1 or utf-16.") from None
        except UnicodeDecodeError:
            file.seek(0)
            return text_file(name, open_, _other_encoding(name, read_rest(name, file), chosen, encoding))
        except UnicodeError as error:
            raise UserError(f"{name} is not {chosen.upper()} ({error}); name another --encoding.") from None
    if not filled:
        raise UserError(f"{name} is empty.")
    mark = len("\ufeff".encode(chosen)) if head.startswith("\ufeff") else 0
    return TextFile(open_, chosen, mark, "\n" if newline else "\r", head.removeprefix("\ufeff"))


_HEAD = 200_000


def _other_encoding(name: str, content: bytes, chosen: str, encoding: str | None) -> str:
    """Return the encoding of a content that is not in the `chosen` one, or raise UserError."""
    try:
        content.decode(chosen)
    except UnicodeDecodeError as error:
        if encoding is None and chosen == "utf-8" and _is_korean(content):
            return "cp949"
        line = content.count(b"\n", 0, error.start) + 1
        remedy = "" if encoding else ", or name its encoding with --encoding"
        raise UserError(
            f"{name} is not {chosen.upper()}: line {line} has the byte 0x{content[error.start]:02x} at offset "
            f"{error.start}; save the file as UTF-8{remedy}."
        ) from None
    return chosen


_MARKS = ((b"\xff\xfe\0\0", "utf-32-le"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def _is_korean(content: bytes) -> bool:
    """Return whether a text is Korean in CP949, as which one of another encoding has ideographs and rare syllables."""
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        return False
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
    return korean > others and korean > 20 * odd
