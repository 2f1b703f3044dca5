"""A file is there whole or not at all."""

import errno
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tuners.errors import TunerError
from tuners.files import delete, delete_leftovers, descriptor_of, read_limited, replacing, replacing_folder, write_text


def test_a_file_is_on_disk_before_it_takes_the_name_and_the_name_after(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    path.write_text("old")
    seen = []

    def note(file):
        seen.append((path.read_text(), stat.S_ISDIR(os.fstat(file).st_mode) or os.fstat(file).st_size))

    monkeypatch.setattr(os, "fsync", note)
    write_text(path, "newer")
    assert seen == [("old", 5), ("newer", True)]


def test_no_more_is_read_than_the_limit_and_a_byte():
    assert read_limited(io.BytesIO(b"0123456789"), 10) == b"0123456789"
    endless = io.BytesIO(bytes(100))
    with pytest.raises(ValueError, match="it has more than 10 bytes"):
        read_limited(endless, 10)
    assert endless.tell() == 11


@pytest.mark.parametrize("name", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_an_open_file_of_this_process_is_written_to_where_it_stands(tmp_path, name):
    path = tmp_path / "out"
    with path.open("wb", buffering=0) as file:
        named = Path(name.format(file.fileno())) if "{" in name else tmp_path / name
        if name == "link":
            named.symlink_to(f"/dev/fd/{file.fileno()}")
        file.write(b"before, ")
        assert descriptor_of(named) == file.fileno()
        write_text(named, "written, ")
        file.write(b"after")
    assert path.read_text() == "before, written, after"
    assert descriptor_of(path) is None


def test_what_raises_leaves_the_former_file_and_no_other(tmp_path):
    path = tmp_path / "state.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("state.json", "old")]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_flush_loses_nothing(tmp_path, monkeypatch, number):
    def unsupported(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", unsupported)
    write_text(tmp_path / "state.json", "new")
    assert (tmp_path / "state.json").read_text() == "new"


def test_a_folder_that_cannot_be_opened_can_be_written(tmp_path, monkeypatch):
    def forbidden(path, flags):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", forbidden)
    write_text(tmp_path / "state.json", "new")
    assert (tmp_path / "state.json").read_text() == "new"


def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    def broken(file):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(TunerError, match="Input/output error"):
        write_text(tmp_path / "state.json", "new")


def test_a_link_keeps_leading_to_its_file(tmp_path):
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "state.json", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink()
    assert file.read_text() == "new"
    assert [path.name for path in file.parent.iterdir()] == ["state.json"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open(pipe, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as reader:
        write_text(pipe, "new")
        assert reader.read() == b"new"
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_the_standard_output_is_written_to_though_it_is_a_pipe():
    code = "from pathlib import Path; from tuners.files import write_text; write_text(Path('/dev/stdout'), 'new')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"new")


def entries(folder: Path) -> dict[str, str]:
    """The files below a folder with their text."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_temporary_file_is_new_and_never_somebody_else_s(tmp_path, monkeypatch):
    path, victim = tmp_path / "state.json", tmp_path / "victim"
    victim.write_text("mine")
    with replacing(path) as one, replacing(path) as two:
        one.write(b"one")
        two.write(b"two")
    assert entries(tmp_path) == {"state.json": "one", "victim": "mine"}
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    (tmp_path / ".state.json.00000000.part").symlink_to(victim)
    with pytest.raises(TunerError, match=r"Cannot write .*/state\.json: File exists"):
        write_text(path, "new")
    assert victim.read_text() == "mine"


def test_a_file_keeps_its_permissions_and_a_new_one_has_those_of_the_umask(tmp_path):
    (tmp_path / "old").touch(0o640)
    (tmp_path / "plain").touch()
    for name in ("old", "new"):
        write_text(tmp_path / name, "new")
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("old", "new", "plain")}
    assert modes["old"] == 0o640
    assert modes["new"] == modes["plain"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_folder_s_files_have_the_permissions_of_new_ones_though_a_library_made_them_for_their_owner(tmp_path, umask):
    former = os.umask(umask)
    try:
        with replacing_folder(tmp_path / "model") as part:
            (part / "deep").mkdir()
            (part / "deep" / "weights").touch(0o600)
            (part / "config").touch()
    finally:
        os.umask(former)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert modes == {0o666 & ~umask}


def test_a_file_with_the_longest_name_can_be_written(tmp_path):
    write_text(tmp_path / ("가" * 85), "new")
    assert entries(tmp_path) == {"가" * 85: "new"}


@pytest.mark.parametrize("write", [lambda path: write_text(path, "new"), lambda path: fill(path, a="new")])
def test_a_folder_that_cannot_be_written_raises_the_sentence(tmp_path, write):
    (tmp_path / "file").touch()
    with pytest.raises(TunerError, match=r"Cannot write .*/file/state: Not a directory"):
        write(tmp_path / "file" / "state")


LEFT = {".state.json.0123abcd.part": "half", ".other.0123abcd.part": "half", ".model.0123abcd.part/config": "half"}
OTHERS = {"state.json.tmp": "mine", ".state.json.part": "mine", "part": "mine"}


def write_all(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_what_a_killed_process_had_begun_to_write_goes_and_nothing_else(tmp_path):
    write_all(tmp_path, LEFT | OTHERS)
    write_text(tmp_path / "state.json", "new")
    rest = {name: text for name, text in LEFT.items() if "state" not in name}
    assert entries(tmp_path) == {"state.json": "new"} | rest | OTHERS
    fill(tmp_path / "model", config="new")
    assert not list(tmp_path.glob(".model*"))
    write_all(tmp_path / "trial_0000", LEFT)
    delete_leftovers(tmp_path)
    assert entries(tmp_path) == {"state.json": "new", "model/config": "new"} | OTHERS


def test_what_a_live_process_is_writing_stays(tmp_path):
    path, folder = tmp_path / "state.json", tmp_path / "model"
    code = (
        "import sys; from pathlib import Path; from tuners.files import *\n"
        f"with replacing(Path({str(path)!r})) as file, replacing_folder(Path({str(folder)!r})) as part:\n"
        " (part / 'config').write_text('theirs'); file.write(b'theirs'); file.flush(); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        delete_leftovers(tmp_path)
        write_text(path, "mine")
        other.communicate(b"\n")
    assert other.returncode == 0
    assert entries(tmp_path) == {"state.json": "theirs", "model/config": "theirs"}


def fill(folder: Path, **files: str) -> None:
    with replacing_folder(folder) as part:
        write_all(part, files)


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "model"
    fill(folder, config="old", vocab="old")
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as part:
        (part / "config").write_text("new")
        raise KeyboardInterrupt
    assert entries(tmp_path) == {"model/config": "old", "model/vocab": "old"}
    fill(folder, config="new")
    assert entries(tmp_path) == {"model/config": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_of_a_link_the_link_is_deleted_and_what_it_leads_to_left_alone(tmp_path):
    write_all(tmp_path, {"mine/config": "mine", "trial/state": "", "file": ""})
    (tmp_path / "model").symlink_to(tmp_path / "mine")
    for name in ("model", "trial", "file", "none"):
        delete(tmp_path / name)
    assert entries(tmp_path) == {"mine/config": "mine"}
    with pytest.raises(TunerError, match=r"Cannot delete .*/config/none: Not a directory"):
        delete(tmp_path / "mine" / "config" / "none")


def test_of_a_link_to_a_folder_the_link_is_replaced_and_the_folder_left_alone(tmp_path):
    write_all(tmp_path / "mine", {"config": "mine"})
    (tmp_path / "model").symlink_to(tmp_path / "mine")
    fill(tmp_path / "model", config="new")
    assert not (tmp_path / "model").is_symlink()
    assert entries(tmp_path) == {"mine/config": "mine", "model/config": "new"}
