"""All that is drawn of a study: its report, its figures, its model's card."""

from bertgrid_tf.evidence import gather
from bertgrid_tf.files import write_text
from bertgrid_tf.report import figures, page
from bertgrid_tf.report.card import card
from bertgrid_tf.results import Results


def draw(results: Results) -> None:
    """Draws it anew, as far as the study has come. Raises UserError where a file of it is damaged or none can be
    written."""
    evidence = gather(results)
    page.write(evidence, results.report_file)
    figures.write(evidence, results.figures)
    if evidence.final is not None and results.model.is_dir():
        write_text(results.model / "README.md", card(evidence))
