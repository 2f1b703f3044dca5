"""The report of a study: its page, its figures, its model's card."""

from collections.abc import Mapping

from bertgrid_tf.analysis import StudyAnalysis
from bertgrid_tf.report import figures, page
from bertgrid_tf.report.card import card
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.storage.study_folder import StudyFolder


def write_report(folder: StudyFolder, analysis: StudyAnalysis) -> None:
    """Write page, figures and model card in place of earlier ones, as far as the study has come.

    Raises:
        UserError: A file cannot be written.
    """
    write_page(folder, analysis, write_figures(folder, analysis))


def write_figures(folder: StudyFolder, analysis: StudyAnalysis) -> dict[str, figures.Drawing]:
    """Draw and write the figures; return them for the page. Errors as for `write_report`."""
    drawings = figures.draw(analysis)
    for drawing in drawings.values():
        drawing.write(folder.figures)
    return drawings


def write_page(folder: StudyFolder, analysis: StudyAnalysis, drawings: Mapping[str, figures.Drawing]) -> None:
    """Write page and model card. Errors as for `write_report`."""
    write_text(folder.report_file, page.render(analysis, drawings))
    if analysis.final is not None and folder.model.is_dir():
        write_text(folder.model / "README.md", card(analysis))
