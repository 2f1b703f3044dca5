"""One file from the web: from the first mirror that has it, verified before it gets its name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

DownloadProgress = Callable[[str, int, int], None]
"""A callback with the file's name, the bytes received so far, and the size of the file in bytes."""

SLOWEST = 10_000
"""The bytes a second that a host must deliver on average, lest one that drips or never ends keep the mirror waiting."""
_CHUNK_BYTES = 1 << 16


class DownloadError(Exception):
    """No host delivered the file; the message gives the reason for each host."""


def download(
    urls: Sequence[str],
    target: Path,
    sha256: str,
    size: int,
    progress: DownloadProgress | None = None,
    timeout: float = 10.0,
) -> None:
    """Download a file from the first host that delivers the published content.

    The content is received under a temporary name in the folder of `target`, and renamed once its checksum is right.

    Args:
        urls: The addresses of the file on several hosts, in the order in which to ask them.
        target: The path of the file; its folder exists.
        sha256: The SHA-256 checksum of the content, in hexadecimal.
        size: The size of the content in bytes, for `progress`.
        progress: A callback that is called as bytes arrive.
        timeout: The seconds to wait for a connection, and for the next bytes of a stalled one.

    Raises:
        DownloadError: No host delivered the content.
        OSError: The folder cannot be written.
    """
    import pooch
    import requests
    import urllib3

    def receive(url: str, path: str, _: object) -> None:
        deadline, received = monotonic() + timeout + size / SLOWEST, 0
        with requests.get(url, stream=True, timeout=timeout) as answer, Path(path).open("wb") as file:
            answer.raise_for_status()
            # Unlike iter_content, it returns what has arrived, however little.
            while chunk := answer.raw.read1(_CHUNK_BYTES, decode_content=True):
                received += len(chunk)
                if received > size:
                    raise ValueError("longer than published")
                if monotonic() > deadline:
                    raise requests.Timeout
                file.write(chunk)
                if progress:
                    progress(target.name, received, size)

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for url in urls:
        try:
            pooch.retrieve(url, f"sha256:{sha256}", target.name, target.parent, downloader=receive)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            failures.append(f"{url}: the host did not answer in time")
        except requests.HTTPError as error:
            failures.append(f"{url}: the host answered {error.response.status_code} {error.response.reason}")
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            failures.append(f"{url}: the host cannot be reached, or the connection broke off")
        except ValueError:
            failures.append(f"{url}: the content is not the published one")
        else:
            # The temporary file was readable for its owner alone; a team may share the folder.
            target.chmod(0o644)
            return
    raise DownloadError("; ".join(failures))
