"""The analysis of a study as the output of a notebook cell."""

from base64 import b64encode

from markupsafe import Markup

from bertgrid_tf.analysis import StudyAnalysis
from bertgrid_tf.report import figures
from bertgrid_tf.report.answer import certainty, cost, headline, label_errors, to_html

# A notebook's theme need not be the browser's: the output has paper of its own.
_PAPER = (
    f"background: {figures.COLOURS['paper'][0]}; color: {figures.COLOURS['ink'][0]}; max-width: 46rem; "
    "padding: 1rem 1.25rem; border-radius: 6px; line-height: 1.5"
)


def analysis_html(analysis: StudyAnalysis) -> str:
    """Return the answer of a study, its heat map and how to label new texts, as HTML that loads and runs nothing.

    Args:
        analysis: The study, ended or still running.
    """
    further = [*certainty(analysis), *label_errors(analysis), *cost(analysis)]
    paragraphs = [*headline(analysis), " ".join(further)]
    if analysis.predict_command:
        paragraphs.append(f"Label new texts: `{analysis.predict_command}`")
    shown = Markup("").join(Markup("<p>{}</p>").format(to_html(paragraph)) for paragraph in paragraphs if paragraph)
    # As an image of its own, since the ids of an inline SVG would hold for the whole notebook.
    heat_map = Markup("").join(
        Markup('<p><img alt="{}" style="max-width: 100%" src="data:image/svg+xml;base64,{}"></p>').format(
            drawing.title, b64encode(drawing.svg).decode()
        )
        for drawing in figures.draw(analysis, ["grid"]).values()
    )
    html = Markup('<div style="{}"><p><strong>{}</strong></p>{}{}</div>')
    return str(html.format(_PAPER, analysis.folder, shown, heat_map))
