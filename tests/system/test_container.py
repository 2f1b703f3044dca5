"""Folders that cannot be written, and the sentence that helps, in a container and outside."""

import errno
from pathlib import Path

import ordinary_user
import pytest

from bertgrid_tf.system.container import NotWritable, check_writable, container_runtime

FOLDER = Path("/results/friends")
OTHERWISE = "choose another with --results"
LINE = '`docker run --user "$(id -u):$(id -g)" -v "$PWD/results:/results" … bertgrid-tf tune friends`'
MADE_BY_ROOT = (
    "on the host, `mkdir -p results` before the container starts (or `sudo chown -R $(id -u) results`, if docker made "
    f"it), then {LINE}"
)


@pytest.mark.parametrize(
    ("number", "owner", "reason", "in_docker"),
    [
        (errno.EACCES, 0, " by user 1000, since it belongs to root", MADE_BY_ROOT),
        (errno.EACCES, 12, " by user 1000, since it belongs to user 12", f"start the container as its owner, {LINE}"),
        (errno.EACCES, 1000, " (Permission denied)", OTHERWISE),
        (errno.EROFS, 0, " (Read-only file system)", f"mount a folder of the host there, without `:ro`: {LINE}"),
        (errno.ENOSPC, 0, " (No space left on device)", f"make room, or {OTHERWISE}"),
        (errno.ENOTDIR, 0, " (Not a directory)", OTHERWISE),
    ],
)
def test_every_reason_has_a_remedy_in_docker_and_outside(number, owner, reason, in_docker):
    outside = f"make room, or {OTHERWISE}" if number == errno.ENOSPC else OTHERWISE
    podman = in_docker.replace('docker run --user "$(id -u):$(id -g)"', "podman run --userns=keep-id")
    remedies = {None: outside, "kubernetes": outside, "docker": in_docker, "podman": podman.replace("docker", "podman")}
    for runtime, remedy in remedies.items():
        found = NotWritable(FOLDER, number, owner, Path("/results"), user=1000, runtime=runtime)
        assert found.sentence("The results folder", OTHERWISE, "tune friends") == (
            f"The results folder {FOLDER} cannot be written{reason}: {remedy}."
        )


@pytest.mark.parametrize(
    ("mark", "environment", "expected"),
    [
        ("", {}, None),
        (".dockerenv", {}, "docker"),
        ("run/.containerenv", {}, "podman"),
        (".singularity.d/env", {}, "apptainer"),
        (".dockerenv", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
    ],
)
def test_every_container_runtime_leaves_its_mark(tmp_path, mark, environment, expected):
    if mark:
        (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / mark).touch()
    assert container_runtime(tmp_path, environment) == expected


def test_a_folder_that_can_be_written_stays_empty(tmp_path):
    assert check_writable(tmp_path) is None
    assert check_writable(tmp_path / "not" / "yet") is None
    assert not list(tmp_path.iterdir())


CHECK = "import sys; from pathlib import Path; from bertgrid_tf.system.container import check_writable\n"
CHECK += "print(check_writable(Path(sys.argv[1])).reason)"


@pytest.mark.parametrize("mode", [0o555, 0o000])
@pytest.mark.parametrize("below", ["", "not/yet"])
def test_permissions_count_for_a_folder_and_for_one_to_be_made_in_it(tmp_path, mode, below):
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    done = ordinary_user.run("-c", CHECK, folder / below)
    folder.chmod(0o755)
    assert done.stdout == "cannot be written (Permission denied)\n", done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("tune", "sample", "--results"), "The study folder {}/sample cannot be written (Permission denied): "),
        (("data", "fetch", "friends", "--data-dir"), "The data folder {} cannot be written (Permission denied): "),
    ],
)
def test_a_command_refuses_a_folder_that_it_cannot_write(tmp_path, words, sentence):
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    cli = ("-c", "from bertgrid_tf.cli import main; main()")
    environment = {"XDG_CACHE_HOME": str(folder), "MPLCONFIGDIR": str(tmp_path)}
    done = ordinary_user.run(*cli, *words, folder, environment=environment, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(sentence.format(folder))
    assert done.stderr.count("\n") == 1
