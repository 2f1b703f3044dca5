"""Full disks: a sentence, nothing damaged, and with room made the study goes on to the same tables."""

import ctypes
import os
import subprocess
from pathlib import Path

from tests.campaign.case import STUDY, TRAINING, Case, CaseError
from tests.stops import content, differences

CASES = 24
SHARED: tuple[str, ...] = ("study",)
NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # linux/sched.h
OTHERS = (
    ("evaluate", "results/sample", "--split", "dev"),
    ("predict", "results/sample", "texts.csv", "-o", "results/out.csv", "--text-column", "text", "--proba"),
    ("report", "results/sample"),
    ("export", "results/sample", "--format", "savedmodel"),
)


def run(case: Case) -> None:
    """Run a command on a disk of some hundred kilobytes, then on one with room."""
    (case.folder / "texts.csv").write_text("text\n" + "a lovely day\n" * 2_000)
    (case.folder / "results").mkdir()
    tunes = case.number % 3 < 2
    words = STUDY if tunes else OTHERS[case.number // 3 % len(OTHERS)]
    size = case.random.randrange(30_000, 1_000_000)
    disk = None
    if case.number % 6 != 5:  # else no file may be larger
        disk = _small_disk(case.folder / "results", 1 << 24)
    if not tunes:
        case.study()
    if disk:
        used = sum(path.stat().st_blocks * 512 for path in (case.folder / "results").rglob("*"))
        _mount("-o", f"remount,size={used + size}", disk)
    full = case.bertgrid(*words, limit=TRAINING, file_size=0 if disk else size // 10).check((0, 2))
    if full.code == 2 and "make room" not in full.err and "rite" not in full.err:
        raise CaseError("other", f"the sentence names no full disk: {full}")
    if disk:
        _mount("-o", "remount,size=64m", disk)
    try:
        case.bertgrid(*words, limit=TRAINING).check((0,))
        if left := [str(path) for path in (case.folder / "results").rglob("*.part*")]:
            raise CaseError("other", f"left {', '.join(left)}")
        if tunes:
            whole, resumed = content(case.finished), content(case.folder / "results" / "sample")
            ignored = ("evaluations", "model/README.md", "report.html")
            if changed := [one for one in differences(whole, resumed) if not one.startswith(ignored)]:
                raise CaseError("difference", "; ".join(changed))
    except CaseError as failure:
        raise CaseError(failure.kind, f"{failure}\n{size} bytes, before: {full}") from failure


def _small_disk(folder: Path, size: int) -> str | None:
    """Mount a small file system in a namespace of this process's own; None where the kernel allows none."""
    users = os.geteuid(), os.getegid()
    if ctypes.CDLL(None).unshare(NEW_MOUNTS | (NEW_USER if users[0] else 0)):
        return None
    if users[0]:
        Path("/proc/self/setgroups").write_text("deny")
        for name, number in zip(("uid_map", "gid_map"), users, strict=True):
            Path(f"/proc/self/{name}").write_text(f"0 {number} 1")
    try:
        _mount("--make-rprivate", "/")
        _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    except (OSError, subprocess.CalledProcessError):
        return None
    return str(folder)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
