import re
from base64 import b64decode
from dataclasses import replace
from xml.etree import ElementTree

import made_up_analysis as made_up

from bertgrid_tf.report.notebook import analysis_html


def test_a_notebook_shows_the_answer_and_the_heat_map_on_paper_of_its_own():
    html = analysis_html(made_up.filling())
    assert "Best so far" in html
    assert "background: #" in html
    (image,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert ElementTree.fromstring(b64decode(image)).tag.endswith("svg")


def test_a_notebook_begins_with_the_score_and_ends_with_how_to_label_new_texts():
    paragraphs = re.findall(r"<p>(.*?)</p>", analysis_html(made_up.complete()), re.DOTALL)
    assert paragraphs[1].startswith("On dev: accuracy <strong>58.04")
    assert [part.split(" ")[0] for part in paragraphs[2:5]] == ["Winner:", "Final", "21"]
    assert paragraphs[5] == "Label new texts: <code>bertgrid-tf predict results/friends FILE -o OUT</code>"


def test_before_the_first_score_there_is_no_image():
    assert "<img" not in analysis_html(made_up.begun())


def test_a_name_from_outside_is_text_in_a_notebook():
    study = made_up.begun()
    html = analysis_html(replace(study, folder="<script>alert(1)</script>"))
    assert type(html) is str
    assert "<script" not in html
