"""The container around us, if there is one, and a folder that cannot be written, in it or outside."""

import errno
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Engine = Literal["docker", "podman", "apptainer", "kubernetes"]

WITH_GPUS: Mapping[Engine, str] = {
    "docker": "start it with `docker run --gpus all …` (the host needs the NVIDIA Container Toolkit)",
    "podman": "start it with `podman run --device nvidia.com/gpu=all …` (the host needs the NVIDIA Container Toolkit)",
    "apptainer": "start it with `apptainer run --nv …`",
    "kubernetes": "give its pod the limit `nvidia.com/gpu: 1`",
}
"""How a container gets the host's GPUs."""

# Rootless podman maps the caller to root unless it is told to keep the ids.
_AS_CALLER: Mapping[Engine, str] = {
    "docker": 'docker run --user "$(id -u):$(id -g)"',
    "podman": "podman run --userns=keep-id",
}

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
# EFBIG: the limit on a file's size (`ulimit -f`), which ends a download as a full disk does.
LOCAL_ERRORS = (*_FULL, *_FORBIDDEN, errno.EROFS, errno.EFBIG)
"""The error numbers that say that this machine would not store a file, whatever was to be stored."""


def engine(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Engine | None:
    """What runs the container that this process is in; None where it is in none.

    Args:
        root: of the file system.
        environ: the process's environment.
    """
    # A pod's containers may carry docker's mark too.
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "kubernetes"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".singularity.d").exists():
        return "apptainer"
    return "docker" if (root / ".dockerenv").exists() else None


@dataclass(frozen=True)
class Blocked:
    """A folder that no file can be put into.

    Attributes:
        folder: as it was asked for; it need not exist.
        number: of the error (`errno`).
        owner: user id of the folder, or of the nearest above it that exists.
        user: the process's user id.
        volume: the folder that a container should have mounted for it.
    """

    folder: Path
    number: int
    owner: int
    user: int
    volume: Path

    @property
    def reason(self) -> str:
        """What is wrong, as the end of a sentence that begins with the folder."""
        if self.number in _FULL:
            return "cannot be written, since its disk is full"
        if self.number == errno.EROFS:
            return "cannot be written, since it is read-only"
        if self.number in _FORBIDDEN and self.owner != self.user:
            whose = f"user {self.owner}" if self.owner else "root"
            return f"cannot be written by user {self.user}, since it belongs to {whose}"
        return f"cannot be written ({os.strerror(self.number)})"

    def remedy(self, otherwise: str, command: str = "…", within: Engine | None = None) -> str:
        """What to do.

        Args:
            otherwise: what helps anywhere, as "choose another with --results".
            command: of bertgrid-tf, with which the line that starts a container ends.
            within: the container's engine.
        """
        if self.number in _FULL:
            return f"make room, or {otherwise}"
        if within is None or within not in _AS_CALLER or self.number not in LOCAL_ERRORS:
            return otherwise
        host = self.volume.name
        line = f'`{_AS_CALLER[within]} -v "$PWD/{host}:{self.volume}" … bertgrid-tf {command}`'
        if self.number == errno.EROFS:
            return f"mount a folder of the host there, without `:ro`: {line}"
        if self.owner == self.user:
            return f"on the host, `chmod u+w {host}`, then {line}"
        if self.owner:
            return f"start the container as its owner, {line}"
        # Docker makes the folder of a -v that the host lacks, as root.
        return (
            f"on the host, `mkdir -p {host}` before the container starts (or `sudo chown -R $(id -u) {host}`, if "
            f"{within} made it), then {line}"
        )

    def sentence(self, what: str, otherwise: str, command: str = "…", within: Engine | None = None) -> str:
        """Both, of a folder that is `what`, as "The results folder"; for the rest see `remedy`."""
        return f"{what} {self.folder} {self.reason}: {self.remedy(otherwise, command, within)}."


def nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that exists."""
    # os.path, since a Path below a folder that cannot be entered raises instead of being absent.
    absolute = folder.absolute()
    return next(parent for parent in (absolute, *absolute.parents) if os.path.exists(parent))  # noqa: PTH110


def blocked(folder: Path, volume: Path | None = None) -> Blocked | None:
    """Why no file can be put into a folder; None where one can.

    It is tried with a file that vanishes again, since permissions know of no full disk and no network's rights.

    Args:
        folder: where it is not there yet, the nearest above it is tried.
        volume: see `Blocked`; None for the folder itself.
    """
    existing = nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"?")
            file.flush()
    except OSError as error:
        owner, number = existing.stat().st_uid, error.errno or errno.EIO
        return Blocked(folder, number, owner, os.getuid(), (volume or folder).absolute())
    return None
