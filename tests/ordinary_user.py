"""Processes that permissions apply to, whoever runs the tests."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Root gives up the two powers by which it reads and writes what it may not: from linux/prctl.h, PR_CAPBSET_DROP, and
# linux/capability.h, CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH. Another user's process would not do, since it could not
# enter the folders of an interpreter that is root's. Who is not root has no such powers, and may not give them up.
GIVE_UP = """
import ctypes, os, resource, sys
for power in (1, 2):
    ctypes.CDLL(None).prctl(24, power, 0, 0, 0)
if limit := int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def run(
    *words: object, environment: Mapping[str, str] | None = None, file_size: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs Python with these words.

    Args:
        words: after the interpreter's name.
        environment: variables beside this process's own.
        file_size: bytes after which every file is full; 0 for no limit.
        cwd: where to run it.
    """
    return subprocess.run(
        [sys.executable, "-c", GIVE_UP, str(file_size), *map(str, words)],
        env=os.environ | (environment or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
