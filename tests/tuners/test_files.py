"""A file is there whole or not at all."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from tuners.errors import TunerError
from tuners.files import replacing, write_text


def test_a_file_is_on_disk_before_it_takes_the_name_and_the_name_after(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    path.write_text("old")
    seen = []

    def note(file):
        seen.append((path.read_text(), stat.S_ISDIR(os.fstat(file).st_mode) or os.fstat(file).st_size))

    monkeypatch.setattr(os, "fsync", note)
    write_text(path, "newer")
    assert seen == [("old", 5), ("newer", True)]


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
