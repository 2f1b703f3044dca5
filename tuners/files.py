"""Atomic replacement of files."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tuners.errors import TunerError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.ENOLCK)
"""What NFS, CIFS, FUSE and the shared folders of virtual machines answer to a call that they do not have."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` when the block ends, unless the block raises.

    A process killed at any point leaves the former file or the new one. The new one is on disk when the block has
    ended, so a power cut cannot undo it. A link keeps leading to its file, which is replaced; a device or a pipe is
    written to and never replaced.

    Raises:
        TunerError: The file cannot be written; the former one is kept.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        # By its own name, since that of a pipe behind /dev/stdout cannot be opened.
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        with temporary.open("wb") as file:
            yield file
            file.flush()
            sync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        remedy = ": make room and restart, nothing that was saved is lost" if error.errno in FULL else ""
        raise TunerError(f"Cannot write {path}: {error.strerror or error}{remedy}") from error


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
