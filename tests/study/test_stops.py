"""A study is killed at every place where it can stop, and goes on to the same folder, byte for byte but for clocks."""

import re
import signal
from collections.abc import Iterator

import pytest
import stops
from stops import Forks, Point

STAGES = {"start", "sweep:context", "grid", "seeds", "final", "interactions"}


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("stops")) as forks:
        yield forks


@pytest.fixture(scope="module")
def points(forks: Forks) -> list[Point]:
    return stops.stop_points(forks)


def test_every_file_of_a_study_and_every_stage_is_a_place_where_it_can_stop(forks, points):
    written = {point.file for point in points if point.kind in ("append", "replace", "remove")}
    files = stops.content(forks.study("whole"))
    # TensorBoard's files and those in a folder that is replaced are not written by Python, or not by their own names.
    assert {name for name in files if name.partition("/")[0] not in {"tensorboard", *written}} <= written
    assert {"trial_0002/weights-1.npz", "follow_up/interaction_context/state.npz", "final/state.npz"} <= written
    assert {point.file for point in points if point.kind == "stage"} == STAGES


def test_killed_at_some_kinds_of_files_a_study_goes_on_to_the_same_folder(forks, points):
    last = {re.sub(r"\d+", "N", point.file): point for point in points if point.kind in ("append", "replace")}
    assert len(last) > 20
    # All of them are among the slow tests and in the campaign.
    assert stops.resume_at(forks, [*last.values()][::10], points) == {}


@pytest.mark.slow
def test_killed_by_sigkill_a_study_goes_on_to_the_same_folder(forks, points):
    (point,) = [point for point in points if (point.kind, point.file) == ("replace", "soup.json")]
    assert stops.kill_at(forks, point) == ""


@pytest.mark.slow
def test_stopped_by_a_signal_a_study_goes_on_to_the_same_folder(forks, points):
    point = [point for point in points if (point.kind, point.file) == ("replace", "trial_0002/state.npz")][-1]
    assert stops.kill_at(forks, point, signal_number=signal.SIGTERM) == ""


@pytest.mark.slow
def test_killed_anywhere_a_study_goes_on_to_the_same_folder(forks, points):
    assert stops.resume_at(forks, points, points) == {}


@pytest.mark.slow
def test_killed_anywhere_a_study_on_workers_goes_on_to_the_same_folder(forks, tmp_path):
    expected = stops.content(forks.study(f"after-{len(stops.COMMANDS) - 1}"))
    with Forks(tmp_path, commands=[(*command, "--workers", "2") for command in stops.COMMANDS]) as on_workers:
        points = stops.stop_points(on_workers, snapshots=False)
        assert stops.differences(expected, stops.content(on_workers.study("whole"))) == []
        kinds = {(point.kind, re.sub(r"\d+", "N", point.file)): point for point in points}
        wrong = {point: stops.kill_at(on_workers, point) for point in kinds.values()}
    assert {point: sentence for point, sentence in wrong.items() if sentence} == {}
