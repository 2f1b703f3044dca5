"""Workers and the driver of a study on Ray die: the tables are those of one process, and nothing is left running."""

import os
import signal
import tempfile
import time

from tests.campaign.case import STUDY, TRAINING, Case, CaseError
from tests.campaign.process import Process, kill_all, processes
from tests.stops import content, differences

CASES = 5
SHARED: tuple[str, ...] = ("study",)
WORKERS = 2
"""Workers that die in each case, before its driver does."""
TITLE = "ray::TrialActor"


def run(case: Case) -> int:
    """Kill two workers and the driver, resume in one process, and compare."""
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError:
        return 0
    try:
        return _run(case)
    finally:
        kill_all(case.folder)


def _run(case: Case) -> int:
    # Ray has sockets there, whose names must be short.
    driver = Process(case, *STUDY, "--workers", "2", TMPDIR=tempfile.gettempdir())
    for _ in range(WORKERS):
        worker = _wait_for(case, busy=True)
        time.sleep(case.random.uniform(0, 2))
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:
            continue
    _wait_for(case, busy=True)
    time.sleep(case.random.uniform(0, 4))
    driver.send(signal.SIGKILL)
    if (answer := driver.wait(30)) is None or answer.code not in (0, -signal.SIGKILL):
        raise CaseError("other", f"the driver: {answer}")
    deadline = time.monotonic() + 60
    while left := [f"{number} {title[:80]}" for number, title in processes(case.folder)]:
        if time.monotonic() > deadline:
            raise CaseError("other", f"still running a minute after the driver's death: {'; '.join(left)}")
        time.sleep(0.2)
    case.bertgrid(*STUDY, limit=TRAINING).check((0,))
    whole, resumed = content(case.finished), content(case.folder / "results" / "sample")
    ignored = ("figures/", "evaluations", "model/README.md", "report.html")
    if changed := [one for one in differences(whole, resumed) if not one.startswith(ignored)]:
        raise CaseError("difference", "; ".join(changed))
    return WORKERS + 1


def _wait_for(case: Case, busy: bool) -> int:
    """Return a worker that is training, as soon as there is one."""
    title, deadline = f"{TITLE}.advance" if busy else TITLE, time.monotonic() + 120
    while not (found := [number for number, name in processes(case.folder) if name.startswith(title)]):
        if time.monotonic() > deadline:
            err = (case.folder / ".err").read_text(errors="replace")
            raise CaseError("hang", f"no worker trains after two minutes: {err[-2000:]}")
        time.sleep(0.05)
    return case.random.choice(sorted(found))
