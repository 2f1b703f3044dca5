"""One file from the web: from the first mirror that has it, verified before it gets its name."""

from collections.abc import Callable, Sequence
from pathlib import Path

DownloadProgress = Callable[[str, int, int], None]
"""A callback with the file's name, the bytes received so far, and the size of the file in bytes."""

_CHUNK_BYTES = 1 << 16


class DownloadError(Exception):
    """No host delivered the file; the message gives the reason for each host."""


class _ProgressBar:
    """The progress bar object that pooch drives, in terms of a `DownloadProgress`.

    pooch counts whole chunks and announces the compressed size where a host compresses, so that the counts are capped
    and the published size is shown instead.
    """

    def __init__(self, name: str, size: int, progress: DownloadProgress) -> None:
        self.total = 0  # set by pooch
        self._name, self._size, self._progress, self._received = name, size, progress, 0

    def update(self, received: int) -> None:
        self._received = min(self._received + received, self._size)
        self._progress(self._name, self._received, self._size)

    def reset(self) -> None:
        """Ignore the reset with which pooch corrects its count at the end; `close` does that here."""

    def close(self) -> None:
        self._progress(self._name, self._size, self._size)


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

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for url in urls:
        bar = _ProgressBar(target.name, size, progress) if progress else False
        downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK_BYTES, timeout=timeout)
        try:
            pooch.retrieve(url, f"sha256:{sha256}", target.name, target.parent, downloader=downloader)
        except requests.Timeout:
            failures.append(f"{url}: the host did not answer in time")
        except requests.HTTPError as error:
            failures.append(f"{url}: the host answered {error.response.status_code} {error.response.reason}")
        except requests.RequestException:
            failures.append(f"{url}: the host cannot be reached, or the connection broke off")
        except ValueError:
            failures.append(f"{url}: the content is not the published one")
        else:
            # The temporary file was readable for its owner alone; a team may share the folder.
            target.chmod(0o644)
            return
    raise DownloadError("; ".join(failures))
