"""A file is there whole or not at all."""

import os
import stat

import pytest

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
