"""Kills: a study killed again and again at random moments, and a study resumed from every place where one can stop."""

import json
import shutil
import signal
from dataclasses import asdict
from pathlib import Path

from tests.campaign.case import EXTENDED, TRAINING, Case, CaseError
from tests.stops import Forks, Point, content, differences, resume_at, stop_points

CHAINS, KILLS, BATCHES = 25, 8, 20
CASES = CHAINS + BATCHES
SHARED: tuple[str, ...] = ("extended",)


def run(case: Case) -> int:
    """Kill a study and resume it, or resume it from every twentieth place; return how many kills that was."""
    if case.number < CHAINS:
        return _chain(case)
    stops = case.shared / "stops"
    if not (stops / "points.json").exists():
        _list_points(stops)
    for number in range(2):
        (case.folder / f"after-{number}").symlink_to(stops / f"after-{number}")
    points = [Point(**point) for point in json.loads((stops / "points.json").read_text())]
    batch = points[case.number - CHAINS :: BATCHES]
    for point in batch:
        own = [one for one in points if one.command == point.command]
        shutil.copytree(stops / (name := f"at-{point.command}-{own.index(point)}"), case.folder / name, symlinks=True)
    with Forks(case.folder) as forks:
        if wrong := resume_at(forks, batch, points):
            text = "\n".join(f"{point}: {how}" for point, how in wrong.items())
            raise CaseError("traceback" if "Traceback" in text else "difference", text)
    return len(batch)


def _list_points(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with Forks(folder) as forks:
        points = [asdict(point) for point in stop_points(forks)]
    (folder / "points.json").write_text(json.dumps(points))


def _chain(case: Case) -> int:
    kills = 0
    for words in EXTENDED:
        for _ in range(KILLS // len(EXTENDED)):
            kills += case.bertgrid(*words, kill_at=case.random.uniform(0.1, 4)).check((0, -signal.SIGKILL)).code != 0
        case.bertgrid(*words, limit=TRAINING).check((0,))
    if changed := differences(
        content(case.shared / "extended" / "results" / "sample"), content(case.folder / "results" / "sample")
    ):
        raise CaseError("difference", f"after {kills} kills: {'; '.join(changed)}")
    return kills
