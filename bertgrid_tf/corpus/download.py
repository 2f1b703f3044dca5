"""One file from the web: resumed where it broke off, verified, and under its final name only when whole."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

Progress = Callable[[str, int, int], None]
"""Called with the file's name, the bytes of it that are there, and its bytes in all."""

# What of a chunk had arrived when the connection breaks is lost, so that a chunk is small.
_CHUNK_BYTES = 1 << 13


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try.

    Attributes:
        timeout: Seconds to wait for a connection, and for the next bytes of a stalled one.
        attempts: Requests to one host that may fail before the next host is asked.
        pause: Seconds before the second attempt; each further pause is twice as long.
    """

    timeout: float = 10.0
    attempts: int = 3
    pause: float = 0.5


class DownloadError(Exception):
    """No host gave the file; the message says why, host by host."""


class _HostGivesUpError(Exception):
    """Asking this host again would not help."""


class _BrokenOffError(Exception):
    """This attempt failed; another may go on from where it stopped."""


def git_blob_id(content: bytes) -> str:
    """The id by which git knows a file of this content: SHA-1 of a header and the content, in hexadecimal."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def download(
    urls: Sequence[str],
    target: Path,
    blob_id: str,
    size: int,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> None:
    """Downloads `target` from the first of `urls` that gives the content with the id `blob_id`.

    What has arrived lies in `<target>.part` and is gone on from, by this call or a later one. Only verified
    content ever gets the name `target`, at once and whole.

    Args:
        urls: The same file on several hosts, in the order in which to ask them.
        target: Where to put it; its folder exists.
        blob_id: See `git_blob_id`.
        size: Of the file, in bytes.
        progress: Called as bytes arrive.
        patience: How long to try each host.

    Raises:
        DownloadError: No host gave the content.
        OSError: The folder cannot be written.
    """
    import requests

    part = target.with_name(target.name + ".part")

    def report(there: int) -> None:
        if progress is not None:
            progress(target.name, there, size)

    failures = []
    with requests.Session() as session:
        # A compressed answer could be neither resumed nor measured.
        session.headers["Accept-Encoding"] = "identity"
        for url in urls:
            try:
                content = _ask_host(session, url, part, blob_id, size, report, patience or Patience())
            except _HostGivesUpError as error:
                failures.append(f"{url}: {error}")
                continue
            # The part itself is not renamed: another process that fetches the file may still write into it.
            whole = target.with_name(f"{target.name}.{os.getpid()}.tmp")
            with whole.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            whole.replace(target)
            part.unlink(missing_ok=True)
            return
    raise DownloadError("; ".join(failures))


def _ask_host(
    session: "requests.Session",
    url: str,
    part: Path,
    blob_id: str,
    size: int,
    report: Callable[[int], None],
    patience: Patience,
) -> bytes:
    """Completes `part` from one host and returns the verified content, or raises _HostGivesUpError."""
    failed = 0
    while True:
        resumed = part.exists()
        try:
            _receive(session, url, part, size, report, patience.timeout)
            content = part.read_bytes()
        except (_BrokenOffError, FileNotFoundError) as error:
            # The part is gone where another process that fetched the file was done first.
            failed += 1
            if failed >= patience.attempts:
                raise _HostGivesUpError(str(error)) from None
            time.sleep(patience.pause * 2 ** (failed - 1))
            continue
        if git_blob_id(content) == blob_id:
            return content
        part.unlink(missing_ok=True)
        # An earlier part may have come from elsewhere, so a resumed file says nothing about this host.
        if not resumed:
            raise _HostGivesUpError("the content is not the published one")


def _receive(
    session: "requests.Session",
    url: str,
    part: Path,
    size: int,
    report: Callable[[int], None],
    timeout: float,
) -> None:
    """Adds to `part` until it has `size` bytes, in one request; raises _BrokenOffError where it gets
    fewer."""
    import requests

    there = part.stat().st_size if part.exists() else 0
    if there >= size:
        return
    try:
        wanted = {"Range": f"bytes={there}-"} if there else {}
        with session.get(url, headers=wanted, stream=True, timeout=timeout) as response:
            if response.status_code == 416 or (response.status_code == 206 and _first_byte(response) != there):
                part.unlink(missing_ok=True)
                raise _BrokenOffError("the host does not have the rest of what was there already")
            _refuse_failure(response)
            # A host that ignores Range answers 200 and begins at the beginning.
            if response.status_code == 200:
                there = 0
            announced = _announced(response)
            if announced is not None and there + announced != size:
                raise _HostGivesUpError(f"its file has {there + announced} bytes instead of {size}")
            with part.open("ab" if there else "wb") as file:
                for chunk in response.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
                    there += len(chunk)
                    report(there)
                    if there > size:
                        return
    except requests.RequestException as error:
        raise _BrokenOffError(_reason(error)) from None
    if there < size:
        raise _BrokenOffError(f"the connection broke off after {there} of {size} bytes")


def _refuse_failure(response: "requests.Response") -> None:
    if response.status_code in (200, 206):
        return
    answer = f"the host answered {response.status_code} {response.reason}".strip()
    if response.status_code == 429 or response.status_code >= 500:
        raise _BrokenOffError(answer)
    raise _HostGivesUpError(answer)


def _first_byte(response: "requests.Response") -> int | None:
    """The first byte that a 206 answer holds, from `Content-Range: bytes 100-199/200`."""
    first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdecimal() else None


def _announced(response: "requests.Response") -> int | None:
    """The bytes that the host says it will send; None where it does not, or compresses what was asked for as
    it is."""
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal() or response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    return int(length)


def _reason(error: "requests.RequestException") -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "the host did not answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "the secure connection failed"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return "the host cannot be reached or fell silent"
    return str(error)
