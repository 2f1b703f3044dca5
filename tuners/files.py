"""Files that are replaced whole or not at all, and read back with nothing taken for granted; folders likewise."""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tuners.errors import DamagedError, TunerError

LARGEST = 2**30
"""The most bytes that a file read back as a whole may have."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.ENOLCK)
"""What NFS, CIFS, FUSE and the shared folders of virtual machines answer to a call that they do not have."""


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.DOTALL)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when the block ends, unless the block raises.

    A process killed at any point leaves the former file or the new one. The new one is on disk when the block has
    ended, so a power cut cannot undo it; it has the former one's permissions. A link keeps leading to its file, which
    is replaced; a device or a pipe is written to and never replaced, and neither is an open file of this process, as
    /dev/stdout names it.

    Raises:
        TunerError: The file cannot be written; the former one is kept.
    """
    target = Path(os.path.realpath(path))
    temporary = None
    try:
        if (descriptor := descriptor_of(path)) is not None:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                yield file
            return
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        temporary = _temporary(target)
        with temporary.open("xb") as file:
            _hold(file.fileno())
            with suppress(OSError):
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            sync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except BaseException as error:
        # Of two errors, the one that comes first names the cause.
        with suppress(OSError):
            if temporary is not None:
                temporary.unlink()
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise


def descriptor_of(path: Path) -> int | None:
    """Return the number of the open file of this process that a path names, as /dev/stdout does; None for others."""
    for _ in range(8):
        if path.name.isdecimal() and os.path.realpath(path.parent) in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Make a folder that replaces `path`, if there is one, when the block ends, unless the block raises.

    A process killed at any point leaves the former folder, the new one or none, and never a part of one. Of a link to
    a folder the link is replaced, and what it leads to is left alone. Its files have the permissions of any new file:
    safetensors and others make theirs readable for the owner only.

    Raises:
        TunerError: The folder cannot be written; the former one is kept.
    """
    temporary, holder = None, None
    try:
        temporary = _temporary(path)
        temporary.mkdir()
        holder = os.open(temporary, os.O_RDONLY)
        _hold(holder)
        yield temporary
        mode = stat.S_IMODE(temporary.stat().st_mode) & 0o666
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as written:
                    # Not every file system has permissions.
                    with suppress(OSError):
                        os.fchmod(written.fileno(), mode)
                    sync(written.fileno())
        former = None
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            former = path.rename(_temporary(path))
        temporary.rename(path)
        _sync_folder(path.parent)
        if former is not None:
            shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if holder is not None:
            os.close(holder)


def delete(path: Path) -> None:
    """Delete a file, a folder with all that it holds, or a link without what it leads to, if it is there.

    Raises:
        TunerError: It cannot be deleted.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise TunerError(f"Cannot delete {path}: {error.strerror or error}") from error


def is_temporary(path: Path) -> bool:
    """Return whether a file or folder has the name of one that was to replace another."""
    return _TEMPORARY.fullmatch(path.name) is not None


def delete_leftovers(folder: Path) -> None:
    """Delete what killed processes had begun to write in a folder or below, and nothing that a live one writes."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if is_temporary(Path(name)):
                _delete_if_left(Path(place, name))


def _temporary(target: Path) -> Path:
    """Return an unused name beside a target; what killed processes have left under such names is deleted."""
    beginning = f".{target.name[:50]}."
    with suppress(OSError):
        for name in os.listdir(target.parent):  # noqa: PTH208
            if name.startswith(beginning) and is_temporary(Path(name)):
                _delete_if_left(target.with_name(name))
    return target.with_name(f"{beginning}{secrets.token_hex(4)}.part")


def _hold(descriptor: int) -> None:
    """Mark a temporary file or folder as that of a live process, until it is closed."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _delete_if_left(path: Path) -> None:
    # Where there are no locks, nothing tells the living from the dead.
    with suppress(OSError):
        descriptor = os.open(path, os.O_NOFOLLOW | (os.O_RDONLY if path.is_dir() else os.O_RDWR))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(descriptor)


def _cannot_write(path: Path, error: OSError) -> TunerError:
    remedy = ": make room and restart, nothing that was saved is lost" if error.errno in FULL else ""
    return TunerError(f"Cannot write {path}: {error.strerror or error}{remedy}")


def sync(descriptor: int) -> None:
    """Flush an open file or folder to the disk, as far as the file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _sync_folder(path: Path) -> None:
    """Flush the names in a folder, which has a cache of its own."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:  # Files can be written in a folder that cannot be opened, as one without the right to list it.
        return
    try:
        sync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8), whole or not at all; raises what `replacing` raises."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[BinaryIO]:
    """Open a file that was written by `replacing`, and take whatever the block raises for damage of the file.

    The block reads, parses and checks, and does nothing else.

    Args:
        path: A regular file: neither a pipe is waited for, nor a device read.
        remedy: The end of the sentence: how a damaged file is mended.

    Raises:
        DamagedError: The block raised, for example a ValueError that says what is wrong.
        TunerError: The file is missing, is none, or cannot be read.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise TunerError(f"{path} is missing: {remedy}") from error
    except OSError as error:
        in_its_place = error.errno in (errno.EINVAL, errno.ELOOP)
        remedy = "move that away" if in_its_place else "give back the right to read it, or mend the disk"
        raise TunerError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from error
    with file:
        try:
            yield file
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise DamagedError(f"{path} is damaged ({reason}): {remedy}") from error


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises:
        OSError: It is missing or cannot be read, or is a folder, a pipe or a device.
    """
    # Without O_NONBLOCK a pipe without a writer is waited for; a regular file is read as ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'} is in its place")
    return os.fdopen(descriptor, "rb")


def read_limited(file: BinaryIO, limit: int = LARGEST) -> bytes:
    """Read all bytes of an open file; raise ValueError where there are more than `limit`."""
    content = bytearray()
    # In parts, since Python allocates all the bytes that are asked for before it reads one.
    while part := file.read(min(2**20, limit + 1 - len(content))):
        content += part
    if len(content) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return bytes(content)


def parse_json(content: bytes) -> Any:
    r"""Parse JSON as `json.loads` does, NaN included.

    Raises:
        ValueError: The bytes are no JSON in UTF-8; are nested too deeply; spell a key twice, a number of thousands of
            digits, or half of a surrogate pair.

    Example:
        >>> parse_json(b'{"epochs": [0.5, NaN]}')
        {'epochs': [0.5, nan]}
        >>> parse_json(b'{"epochs": 1, "epochs": 2}')
        Traceback (most recent call last):
        ...
        ValueError: the key 'epochs' stands there twice
    """
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique)
        json.dumps(value, ensure_ascii=False).encode()  # raises where a text cannot be written as UTF-8
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)[:50]!r} stands there twice")
    return unique


@contextmanager
def open_arrays(file: BinaryIO) -> Iterator[Any]:
    """Open the archive of `numpy.savez` in an open file, whose arrays are read one by one and never unpickled.

    Raises:
        ValueError: It is no such archive; further errors as for `numpy.load`.
    """
    arrays = np.load(file, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise ValueError("it is no archive of arrays")
    with arrays:
        yield arrays
