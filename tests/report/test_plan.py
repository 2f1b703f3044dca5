"""What `auto` stands for, as a person reads it."""

import io

from rich.console import Console

from bertgrid_tf.report.plan import measured_line, measured_table
from bertgrid_tf.storage.records import MeasuredSetting

CURVE = [{"texts": 1, "peak, MiB": 910, "examples/s": 6.3}, {"texts": 64, "peak, MiB": 1574, "examples/s": 28.0}]
SETTING = MeasuredSetting(64, {}, "NVIDIA A10 (24 GB)", "it takes 7% of the 24 GB there", CURVE)


def test_the_curve_is_shown_with_what_was_chosen_by_it():
    console = Console(file=io.StringIO(), width=100)
    console.print(measured_table("hyperparameters.batch_size", SETTING))
    lines = console.file.getvalue().splitlines()
    assert lines[0].strip() == "batch_size on NVIDIA A10 (24 GB)"
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert rows == [["1", "910", "6.3"], ["64", "1,574", "28.0"]]
    assert lines[-1].strip() == measured_line("hyperparameters.batch_size", SETTING)


def test_the_final_profile_s_key_keeps_its_name():
    assert measured_line("final.batch_size", SETTING) == (
        "final.batch_size auto is 64: it takes 7% of the 24 GB there (measured on NVIDIA A10 (24 GB))."
    )
