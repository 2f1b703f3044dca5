import html
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import made_up_analysis as made_up
import pytest

from bertgrid_tf.analysis import StudyAnalysis
from bertgrid_tf.report import figures, page

VOID = {"meta", "link", "br"}
PARTS = {
    "complete": "sweeps grid curves classes mistakes interactions gains cost data reproduction",
    "begun": "cost data reproduction",
    "sweeping": "sweeps cost data reproduction",
    "filling": "sweeps grid curves classes cost data reproduction",
    "searched": "sweeps grid curves classes mistakes interactions gains cost data reproduction",
}


class Outline(HTMLParser):
    """A document's elements, with their attributes and the text right inside; asserts that they nest."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[int] = []
        self.feed(document)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data):
        if self._open:
            self.elements[self._open[-1]][2].append(data)

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def texts(self, *tags: str) -> list[str]:
        return ["".join(parts).strip() for name, _, parts in self.elements if name in tags]


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    return {name: rendered(study()) for name, study in made_up.STUDIES.items()}


@pytest.fixture(scope="module")
def outlines(documents) -> dict[str, Outline]:
    return {name: Outline(document) for name, document in documents.items()}


def answer(document: str) -> str:
    part = re.search(r'id="answer".*?>(.*?)(<p class="label">|</div>)', document, re.DOTALL)[1]
    return " ".join(html.unescape(re.sub("<[^>]+>", "", part)).split())


def rendered(study: StudyAnalysis) -> str:
    return page.render(study, figures.draw(study))


def written(study: StudyAnalysis) -> str:
    """The page without its figures, which take nearly all the time, for tests of its words and tables."""
    return page.render(study, {})


def lean(study: StudyAnalysis, **changes: object) -> StudyAnalysis:
    """The study without most of what takes time to draw."""
    return replace(study, **{"sweeps": [], "dev": None, "final_dev": None, "calibration": None} | changes)


@pytest.mark.parametrize("study", made_up.STUDIES)
def test_a_page_has_the_parts_that_there_is_something_to_say_of_in_order(outlines, study):
    outline = outlines[study]
    assert [section["id"] for section in outline.of("section")] == PARTS[study].split()
    links = [link["href"] for link in outline.of("a")]
    assert links == ["#answer", *(f"#{name}" for name in PARTS[study].split())]


@pytest.mark.parametrize("study", made_up.STUDIES)
def test_a_page_is_sound_for_a_screen_reader(outlines, study):
    outline = outlines[study]
    ids = [attributes["id"] for _, attributes, _ in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [a for _, attributes, _ in outline.elements for a in attributes.get("aria-labelledby", "").split()]
    assert set(named) <= set(ids)
    assert outline.of("html") == [{"lang": "en"}]
    assert [len(outline.of(landmark)) for landmark in ("h1", "header", "main", "nav", "footer")] == [1] * 5
    assert len(outline.texts("h2")) == len(outline.of("section"))
    assert all(
        figure == {"role": "group", "aria-labelledby": figure["aria-labelledby"]} for figure in outline.of("figure")
    )
    assert len(outline.of("figcaption")) == len(outline.of("figure")) == len(outline.of("svg"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in outline.of("svg"))
    assert all(outline.texts("caption", "figcaption", "summary", "h1", "h2", "p"))
    assert len(outline.of("caption")) == len(outline.of("table"))
    assert {cell.get("scope") for cell in outline.of("th")} == {"col", "row"}
    scrolled = [attributes for _, attributes, _ in outline.elements if attributes.get("class") == "scroll"]
    assert all(one["tabindex"] == "0" and one["aria-label"] for one in scrolled)


@pytest.mark.parametrize("study", made_up.STUDIES)
def test_a_page_loads_nothing_and_runs_nothing(documents, outlines, study):
    assert not outlines[study].of("script") + outlines[study].of("img")
    for _, attributes, _ in outlines[study].elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:,"))
    assert not re.search(r"@import|url\((?!#)", documents[study])


def test_the_same_analysis_gives_the_same_page(documents):
    assert rendered(made_up.sweeping()) == documents["sweeping"]


def test_post_hoc_gains_on_dev_stand_beside_those_on_the_opened_test_split(outlines):
    captions = outlines["complete"].texts("caption")
    assert "The final model on the test split, by which nothing was decided" in captions
    cells = outlines["complete"].texts("th", "td")
    assert {"33.10 %", "35.20 %", "35.00 %", "37.00 %", "1.3500", "1.2200"} <= set(cells)
    assert "The final model on the test split, by which nothing was decided" not in outlines["filling"].texts("caption")


def test_an_adjusted_study_says_that_its_calibration_is_of_adjusted_probabilities():
    study = lean(made_up.complete(), final_dev=made_up.complete().dev, calibration=made_up.complete().calibration)
    assert "error of its probabilities is" in written(study)
    assert "A temperature of 1.68 is kept, since the loss on held-out folds is 1.2000 with it and 1.3000 without." in (
        written(study)
    )
    kept = [replace(gain, kept=True) for gain in study.gains]
    assert "error of the adjusted probabilities is" in written(replace(study, gains=kept))


def test_the_cost_includes_mfu_and_roofline_where_they_are_known(documents):
    known = documents["complete"].replace("\u00a0", " ")
    assert "against the measured peak) was 61.7 %; with the bytes that" in known
    assert "training reached 91.4 % of the roofline" in known
    assert "MFU" not in documents["sweeping"]


def test_what_comes_from_outside_is_text():
    evil = "</pre><script>alert('x')</script>\"&"
    study = lean(made_up.complete(), final_dev=made_up.complete().dev)
    named = replace(
        study,
        folder=evil,
        command=evil,
        gains=[replace(study.gains[0], name=evil, metric=evil, detail=evil)],
        interaction_checks=[replace(study.interaction_checks[0], parameter=evil, chosen=evil)],
        final=replace(study.final, hyperparameters=study.final.hyperparameters.model_copy(update={"model": evil})),
        metadata=replace(study.metadata, versions={evil: evil}, hardware=evil, classes={evil: {evil: 3}}),
        recipe=study.recipe.model_copy(update={"corpus": evil}),
    )
    outline = Outline(rendered(named))
    assert not outline.of("script")
    assert outline.texts("h1") == [f"Tuning {evil}: results"]
    assert outline.texts("code").count(evil) == 4
    assert outline.texts("td").count(evil) == 5
    cells = outline.texts("th")
    assert "<b>fear</b> & 'awe'" in cells
    assert "슬픔" in cells


def test_the_answer_stands_at_the_top(documents):
    assert answer(documents["complete"]) == (
        "On dev: accuracy 58.04 % (95 % interval 55.24 to 60.84); always neutral 42.02 %, guessing by frequency "
        "24.49 %. Winner: learning_rate=3e-06, context=current+previous, speaker_format=colon, oversample_ratio=0.0, "
        "model=bert-base-cased, max_length=64, warmup_ratio=0.2, after epoch 8 of 10. Final model bert-large-cased, "
        "epoch 8 of 10: accuracy 67.32 % (95 % interval 64.52 to 70.12) on dev; accuracy 64.58 % (95 % interval 61.78 "
        "to 67.38) on the sealed test split, baselines: always neutral 42.37 %, guessing by frequency 24.51 %. 21 of "
        "68 cells are tied at the 5 % level (≈), the best included; the cheapest of them: learning rate 2e-05, epoch 1 "
        "(57.41 %). The first epoch at learning rate 2e-05 is among the tied cells. It was scored within a schedule of "
        "10 epochs, its rate still high: a run of one epoch may be better or worse; --epochs 1 --study NAME shows it. "
        "As the best of 68, this score is expected to be 0.52 points too good (selection optimism)."
    )
    for command in (made_up.complete().command, made_up.complete().predict_command):
        assert f"<code>{command}</code>" in documents["complete"]
    assert 'begun <time datetime="2026-03-14T15:09:26+00:00">2026-03-14 15:09 UTC</time>' in documents["complete"]


@pytest.mark.parametrize(
    ("study", "begins", "says"),
    [
        ("begun", "No cell of the learning-rate × epoch grid has a score so far.", ""),
        ("sweeping", "No cell of", ""),
        ("filling", "On dev so far: accuracy 5", "Best so far: learning_rate="),
        ("searched", "On dev: accuracy 58.04 %", "The final model is not trained yet."),
    ],
)
def test_a_study_under_way_says_so_far(documents, outlines, study, begins, says):
    text = answer(documents[study])
    assert text.startswith(begins)
    assert says in text
    assert outlines[study].texts("h1") == ["Tuning friends: results so far"]


@pytest.mark.parametrize(
    ("tied", "epoch", "sentence"),
    [
        (1, 8, "None of the other 67 cells is tied with the best at the 5 % level."),
        (3, 8, "3 of 68 cells are tied at the 5 % level (≈), the best included; none of them takes fewer epochs."),
    ],
)
def test_how_sure_the_best_is_is_said(tied, epoch, sentence):
    study = lean(made_up.complete())
    others = [cell for cell in study.cells if cell != study.best and cell.score and cell.epoch >= epoch][: tied - 1]
    cells = [replace(cell, tied=cell == study.best or cell in others) for cell in study.cells]
    assert sentence in answer(written(replace(study, cells=cells)))


def folded(document: str) -> str:
    """The text of all parts that are folded."""
    return " ".join(re.findall(r"<details>.*?</details>", document, re.DOTALL))


def test_what_is_for_experts_is_folded(documents):
    document = documents["complete"]
    for part in ("expected calibration error", "tokens on average", "Time of every stage", "tokens per second"):
        assert part in document
        assert part in folded(document)
    for part in ("The study took", "Texts of each class</caption>", "likely label errors"):
        assert part in document
        assert part not in folded(document)


def test_the_time_of_the_report_is_in_the_table_of_times():
    study = made_up.sweeping()
    document = written(replace(study, cost=replace(study.cost, stages={"grid": 100.0, "report": 3.0})))
    assert re.search(r'<th scope="row">report</th>\s*<td>3 s</td>', document)


def test_mistakes_stand_by_kind_with_their_beginning_their_context_and_what_the_runs_predict(outlines):
    outline = outlines["complete"]
    captions = outline.texts("caption")
    assert "The most confident mistakes: likely label error" in captions
    assert "The most confident mistakes: hard" in captions
    cells = outline.texts("td")
    assert {"슬픔, 91.0 %", "<i>What?</i> & why", "Ross: 안녕. / Rachel: Hi!", "20 of 20", "17"} <= set(cells)
    assert "long " * 40 + "…" in cells


def test_the_page_shows_the_most_confident_mistakes_of_many():
    mistakes = [replace(made_up.MISTAKES[1], id=f"text {number}") for number in range(12)]
    cells = Outline(written(lean(made_up.complete(), mistakes=mistakes))).texts("td")
    assert [f"text {number}" in cells for number in range(12)] == [True] * 10 + [False] * 2


def test_with_many_classes_figures_show_those_confused_the_most_and_long_tables_are_folded():
    document = rendered(lean(made_up.with_classes(300), final_dev=made_up.with_classes(300).dev))
    assert document.count("The 20 of 300 classes that are confused the most.") == 2
    (confusion,) = re.findall(
        r"<caption>Texts of each class by predicted class</caption>.*?</table>", document, re.DOTALL
    )
    assert confusion.count("<tr>") == 21
    for caption in ("Texts of each class", "Scores of each class on the test split", "Scores of each class on dev"):
        assert f"<summary>{caption}</summary>" in document
    assert len(document) < 1_500_000


def test_a_sweep_without_a_score_is_a_table_that_stands():
    study = lean(made_up.sweeping(), sweeps=[made_up.running_sweep()])
    outline = Outline(rendered(replace(study, sweeps=[replace(study.sweeps[0], levels=study.sweeps[0].levels[1:])])))
    assert "sweeps" not in [figure["aria-labelledby"].removesuffix("-caption") for figure in outline.of("figure")]
    assert {"speaker_format=plain", "speaker_format=says"} <= set(outline.texts("th"))
    assert [text for text in outline.texts("td") if text in ("failed", "running", "waiting")] == [
        "failed",
        "running",
        "waiting",
    ]


def test_a_metric_of_which_less_is_better_has_its_own_unit():
    study = lean(made_up.complete())
    losses = replace(study, recipe=study.recipe.model_copy(update={"metric": "loss"}))
    document = rendered(losses)
    assert "On dev: loss 0.5804 (95 % interval 0.5524 to 0.6084)." in answer(document)
    assert "0.0052 nats too good" in answer(document)
    assert "loss on dev, in nats" in document


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
MEASURED = """<!DOCTYPE html><iframe style="width:360px;border:0" srcdoc="{page}"></iframe><script>
document.querySelector("iframe").onload = function () {{
  const root = this.contentDocument.documentElement;
  document.title = root.scrollWidth + " in " + root.clientWidth;
}};
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium, to see the page as a phone does")
def test_a_page_fits_a_phone_and_a_browser_finds_nothing_wrong(documents, tmp_path):
    opened = documents["complete"].replace("<details>", "<details open>")
    (tmp_path / "phone.html").write_text(MEASURED.format(page=html.escape(opened)), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [*command, (tmp_path / "phone.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    width, room = map(int, re.search(r"<title>(\d+) in (\d+)</title>", done.stdout).groups())
    assert width <= room <= 360
    assert "CONSOLE" not in done.stderr
