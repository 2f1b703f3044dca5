"""The benchmark of large tables: the texts are the same every time, and a process's resources are its own."""

import pytest

from benchmarks.load import measure, write_texts
from bertgrid_tf.errors import UserError


def test_the_texts_are_decided_by_the_seed_and_have_about_as_many_characters(tmp_path):
    for name in ("a.csv", "b.csv"):
        write_texts(tmp_path / name, 300, 50, seed=1)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    header, *rows = (tmp_path / "a.csv").read_text().splitlines()
    assert (header, len(rows)) == ("text,label", 300)
    assert 40 < sum(len(row.split(",")[0]) for row in rows) / 300 < 65


def test_a_command_s_time_and_memory_are_measured_and_a_failure_is_named(tmp_path):
    usage = measure(["data", "list"])
    assert usage.megabytes > 10
    assert usage.cpu_seconds > 0
    with pytest.raises(UserError, match="ended with exit code 2"):
        measure(["data", "describe", "--data", str(tmp_path / "absent.csv")])
