"""The analysis of a study as the output of a notebook cell."""

from base64 import b64encode
from html import escape
from io import BytesIO

from bertgrid_tf.analysis import StudyAnalysis
from bertgrid_tf.report import figures
from bertgrid_tf.report.summary import _answer


def analysis_html(analysis: StudyAnalysis) -> str:
    """Return the answer of a study and its heat map as HTML that loads nothing and runs nothing."""
    sentences = _answer(analysis) if analysis.best is not None else ["No epoch has ended yet."]
    html = f"<p><strong>{escape(analysis.folder)}</strong></p><p>{escape(' '.join(sentences))}</p>"
    drawn, image = figures.draw(analysis), BytesIO()
    if "grid" in drawn:
        drawn["grid"].savefig(image, format="png")
        html += (
            f'<img alt="{figures.TITLES["grid"]}" src="data:image/png;base64,{b64encode(image.getvalue()).decode()}">'
        )
    return f"<div>{html}</div>"
