"""Kills: a study killed again and again at random moments, and a study resumed from every place where one can stop."""

import json
import shutil
import signal
import time
from dataclasses import asdict
from pathlib import Path

from tests.campaign.case import Case, CaseError
from tests.stops import Forks, Point, content, differences, resume_at, stop_points

CHAINS, KILLS, BATCHES = 25, 8, 20
CASES = CHAINS + BATCHES


def run(case: Case) -> int:
    """Kill a study and resume it, or resume it from every twentieth place; return how many kills that was."""
    stops = case.shared / "stops"
    if not (stops / "points.json").exists():
        _list_points(stops)
    for number in range(2):
        (case.folder / f"after-{number}").symlink_to(stops / f"after-{number}")
    whole = json.loads((stops / "points.json").read_text())
    points = [Point(**point) for point in whole["points"]]
    if case.number < CHAINS:
        return _chain(case, whole["seconds"])
    batch = points[case.number - CHAINS :: BATCHES]
    for point in batch:
        own = [one for one in points if one.command == point.command]
        shutil.copytree(stops / (name := f"at-{point.command}-{own.index(point)}"), case.folder / name, symlinks=True)
    with Forks(case.folder) as forks:
        if wrong := resume_at(forks, batch, points):
            raise CaseError(_kind(text := "\n".join(f"{point}: {how}" for point, how in wrong.items())), text)
    return len(batch)


def _list_points(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    with Forks(folder) as forks:
        points = [asdict(point) for point in stop_points(forks)]
    (folder / "points.json").write_text(json.dumps({"points": points, "seconds": time.monotonic() - began}))


def _chain(case: Case, whole: float) -> int:
    kills = 0
    with Forks(case.folder) as forks:
        for command in range(len(forks.commands)):
            for _ in range(KILLS // 2):
                moment = whole * case.random.uniform(0.02, 0.4)
                ended = forks.run("killed", command, seconds=moment)
                if ended.code not in (0, -signal.SIGKILL):
                    raise CaseError(_kind(ended.output), f"after {kills} kills: {ended.code}\n{ended.output}")
                kills += ended.code != 0
            if (ended := forks.run("killed", command)).code:
                raise CaseError(_kind(ended.output), f"after {kills} kills: {ended.code}\n{ended.output}")
        if changed := differences(content(forks.study("after-1")), content(forks.study("killed"))):
            raise CaseError("difference", f"after {kills} kills: {'; '.join(changed)}")
    return kills


def _kind(output: str) -> str:
    return "traceback" if "Traceback" in output else "other" if "ended with" in output else "difference"
