"""The container around this process, and folders that cannot be written, inside one or outside."""

import errno
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ContainerRuntime = Literal["docker", "podman", "apptainer", "kubernetes"]

_MARKS: Mapping[ContainerRuntime, str] = {
    "podman": "run/.containerenv",
    "apptainer": ".singularity.d",
    "docker": ".dockerenv",
}
# Rootless podman maps the caller to root by default.
_AS_CALLER: Mapping[ContainerRuntime | None, str] = {
    "docker": 'docker run --user "$(id -u):$(id -g)"',
    "podman": "podman run --userns=keep-id",
}
_FORBIDDEN = (errno.EACCES, errno.EPERM)
# EFBIG: the limit on a file's size (`ulimit -f`), which ends a download as a full disk does.
LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, *_FORBIDDEN, errno.EROFS, errno.EFBIG)
"""The error numbers with which this machine refuses to store any file."""


def container_runtime(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> ContainerRuntime | None:
    """Return the runtime of the container around this process, by the files below `root`; None outside a container."""
    # A pod's containers may have docker's mark too.
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    return next((runtime for runtime, mark in _MARKS.items() if (root / mark).exists()), None)


@dataclass(frozen=True)
class NotWritable:
    """A folder in which no file can be made.

    Attributes:
        folder: The folder as it was asked for; it need not exist.
        number: Error number (`errno`).
        owner: User id of the folder, or of the nearest existing one above it.
        volume: The folder that a container should have mounted for it.
        user: User id of the process.
        runtime: Runtime of the container around the process; None outside a container.
    """

    folder: Path
    number: int
    owner: int
    volume: Path
    user: int
    runtime: ContainerRuntime | None

    @property
    def reason(self) -> str:
        """The end of a sentence that begins with the folder."""
        if self.number in _FORBIDDEN and self.owner != self.user:
            owner = f"user {self.owner}" if self.owner else "root"
            return f"cannot be written by user {self.user}, since it belongs to {owner}"
        return f"cannot be written ({os.strerror(self.number)})"

    def remedy(self, otherwise: str, command: str = "…") -> str:
        """Return the user's next step.

        Args:
            otherwise: A remedy outside containers, as "choose another with --results".
            command: Command of bertgrid-tf at the end of the line that starts the container.
        """
        if self.number in (errno.ENOSPC, errno.EDQUOT):
            return f"make room, or {otherwise}"
        as_caller, host = _AS_CALLER.get(self.runtime), self.volume.name
        line = f'`{as_caller} -v "$PWD/{host}:{self.volume}" … bertgrid-tf {command}`'
        if as_caller and self.number == errno.EROFS:
            return f"mount a folder of the host there, without `:ro`: {line}"
        if not as_caller or self.number not in _FORBIDDEN or self.owner == self.user:
            return otherwise
        if self.owner:
            return f"start the container as its owner, {line}"
        # Docker makes the folder of a -v that the host lacks, as root.
        return (
            f"on the host, `mkdir -p {host}` before the container starts (or `sudo chown -R $(id -u) {host}`, if "
            f"{self.runtime} made it), then {line}"
        )

    def sentence(self, what: str, otherwise: str, command: str = "…") -> str:
        """Return reason and `remedy` in one sentence that begins with `what`, as "The study folder"."""
        return f"{what} {self.folder} {self.reason}: {self.remedy(otherwise, command)}."


def nearest(folder: Path) -> Path:
    """Return the folder, or the nearest existing one above it."""
    # os.path, since a Path below a folder that cannot be entered raises instead of being absent.
    absolute = folder.absolute()
    return next(parent for parent in (absolute, *absolute.parents) if os.path.exists(parent))  # noqa: PTH110


def check_writable(folder: Path, volume: Path | None = None) -> NotWritable | None:
    """Try to write a temporary file, since permissions do not show a full disk or a network's rights.

    Args:
        folder: Folder to write in; where it does not exist, the nearest above it is tried.
        volume: As in `NotWritable`; None for the folder itself.

    Returns:
        The reason why the folder cannot be written; None where it can.
    """
    existing = nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"?")
            file.flush()
    except OSError as error:
        number, owner, volume = error.errno or errno.EIO, existing.stat().st_uid, (volume or folder).absolute()
        return NotWritable(folder, number, owner, volume, os.getuid(), container_runtime())
    return None
