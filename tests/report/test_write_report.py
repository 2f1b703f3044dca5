from collections import Counter
from typing import BinaryIO

import made_up_analysis as made_up
import pytest
from matplotlib.figure import Figure

from bertgrid_tf.report import figures
from bertgrid_tf.report.write_report import write_report
from bertgrid_tf.storage.study_folder import StudyFolder


def test_page_and_figures_share_what_was_drawn_once(tmp_path, monkeypatch: pytest.MonkeyPatch):
    saved: Counter[str] = Counter()

    def save(figure: Figure, file: BinaryIO, *, format: str, **how: object) -> None:
        saved[format] += 1
        file.write(b'<svg xmlns="http://www.w3.org/2000/svg"/>')

    monkeypatch.setattr(Figure, "savefig", save)
    folder = StudyFolder(tmp_path)
    write_report(folder, made_up.complete())
    assert saved == {"svg": len(figures.NAMES), "png": len(figures.NAMES)}
    assert folder.report_file.read_text(encoding="utf-8").count("<svg") == len(figures.NAMES)
    assert {path.stem for path in folder.figures.iterdir()} == set(figures.NAMES)
