"""Folders that cannot be written, and the sentence that helps, in a container and outside."""

import errno
from pathlib import Path

import ordinary_user
import pytest

from bertgrid_tf.machine.container import Blocked, blocked, engine

RESULTS = Path("/results/friends")
OTHERWISE = "choose another with --results"
LINE = '`docker run --user "$(id -u):$(id -g)" -v "$PWD/results:/results" … bertgrid-tf tune friends`'


def sentence(number: int, owner: int, within=None) -> str:
    found = Blocked(RESULTS, number, owner, user=1000, volume=Path("/results"))
    return found.sentence("The results folder", OTHERWISE, "tune friends", within)


@pytest.mark.parametrize(
    ("number", "owner", "said"),
    [
        (errno.EACCES, 0, "cannot be written by user 1000, since it belongs to root"),
        (errno.EACCES, 1234, "cannot be written by user 1000, since it belongs to user 1234"),
        (errno.EACCES, 1000, "cannot be written (Permission denied)"),
        (errno.EROFS, 0, "cannot be written, since it is read-only"),
        (errno.ENOTDIR, 0, "cannot be written (Not a directory)"),
    ],
)
def test_outside_a_container_another_folder_helps(number, owner, said):
    assert sentence(number, owner) == f"The results folder {RESULTS} {said}: {OTHERWISE}."


@pytest.mark.parametrize("within", [None, "docker"])
def test_a_full_disk_needs_room(within):
    assert sentence(errno.ENOSPC, 0, within) == (
        f"The results folder {RESULTS} cannot be written, since its disk is full: make room, or {OTHERWISE}."
    )


@pytest.mark.parametrize(
    ("number", "owner", "said"),
    [
        (
            errno.EACCES,
            0,
            "by user 1000, since it belongs to root: on the host, `mkdir -p results` before the container starts "
            f"(or `sudo chown -R $(id -u) results`, if docker made it), then {LINE}.",
        ),
        (
            errno.EACCES,
            1234,
            f"by user 1000, since it belongs to user 1234: start the container as its owner, {LINE}.",
        ),
        (errno.EACCES, 1000, f"(Permission denied): on the host, `chmod u+w results`, then {LINE}."),
    ],
)
def test_in_a_container_the_line_that_starts_it_is_given(number, owner, said):
    assert sentence(number, owner, "docker") == f"The results folder {RESULTS} cannot be written {said}"


def test_a_read_only_mount_is_told_from_a_foreign_one():
    assert sentence(errno.EROFS, 0, "docker") == (
        f"The results folder {RESULTS} cannot be written, since it is read-only: mount a folder of the host there, "
        f"without `:ro`: {LINE}."
    )


def test_podman_keeps_the_caller_s_ids():
    assert '`podman run --userns=keep-id -v "$PWD/results:/results" …' in sentence(errno.EACCES, 0, "podman")


@pytest.mark.parametrize(("number", "within"), [(errno.EACCES, "kubernetes"), (errno.ENOTDIR, "docker")])
def test_where_no_line_that_starts_a_container_helps_another_folder_does(number, within):
    assert sentence(number, 0, within).endswith(f": {OTHERWISE}.")


@pytest.mark.parametrize(
    ("mark", "environment", "expected"),
    [
        (None, {}, None),
        (".dockerenv", {}, "docker"),
        ("run/.containerenv", {}, "podman"),
        (".singularity.d/env", {}, "apptainer"),
        (".dockerenv", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
    ],
)
def test_each_engine_leaves_its_mark(tmp_path, mark, environment, expected):
    if mark:
        (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / mark).touch()
    assert engine(tmp_path, environment) == expected


def test_a_folder_that_can_be_written_is_not_blocked_and_stays_empty(tmp_path):
    assert blocked(tmp_path) is None
    assert blocked(tmp_path / "not" / "yet") is None
    assert not list(tmp_path.iterdir())


def test_what_lies_below_a_file_is_blocked(tmp_path):
    (tmp_path / "file").touch()
    found = blocked(tmp_path / "file" / "below")
    assert found is not None
    assert found.number == errno.ENOTDIR


BLOCKED = "import sys\nfrom pathlib import Path\nfrom bertgrid_tf.machine.container import blocked\n" + (
    "found = blocked(Path(sys.argv[1]))\nprint(found and found.reason)"
)


@pytest.mark.parametrize("mode", [0o555, 0o000])
@pytest.mark.parametrize("below", ["", "not/yet"])
def test_permissions_block_a_folder_and_what_is_to_come_below_it(tmp_path, mode, below):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "there").mkdir()
    folder.chmod(mode)
    done = ordinary_user.run("-c", BLOCKED, folder / below)
    folder.chmod(0o755)
    assert done.stdout == "cannot be written (Permission denied)\n", done.stderr


CLI = "from bertgrid_tf.cli import main; main()"


def test_tune_refuses_results_that_it_cannot_write(tmp_path):
    results = tmp_path / "results"
    results.mkdir(mode=0o555)
    done = ordinary_user.run("-c", CLI, "tune", "sample", "--results", results, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"The results folder {results}/sample cannot be written (Permission denied): ")
    assert done.stderr.count("\n") == 1


def test_fetch_refuses_data_folders_that_it_cannot_write(tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o555)
    done = ordinary_user.run(
        *("-c", CLI, "data", "fetch", "friends", "--data-dir", data), environment={"XDG_CACHE_HOME": str(data)}
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"The data folder {data} cannot be written (Permission denied): ")
