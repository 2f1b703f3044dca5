"""All that is drawn of a study: its report, its figures, its model's card."""

from bertgrid_tf.analysis import analyze
from bertgrid_tf.report import figures, page
from bertgrid_tf.report.card import card
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.storage.study_folder import StudyFolder


def write_report(study_folder: StudyFolder) -> None:
    """Draws it anew, as far as the study has come. Raises UserError where a file of it is damaged or none can be
    written."""
    analysis = analyze(study_folder)
    page.write(analysis, study_folder.report_file)
    figures.write(analysis, study_folder.figures)
    if analysis.final is not None and study_folder.model.is_dir():
        write_text(study_folder.model / "README.md", card(analysis))
