import logging
import re
import warnings
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import made_up_analysis as made_up
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib.tables._g_l_y_f import Glyph
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

from bertgrid_tf.errors import UserError
from bertgrid_tf.report import figures

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
PLAIN = ("paper", "line")
"""The parts that nothing is read from."""


def strongest_tile() -> float:
    """The share of the accent colour in the best cell."""
    return max(
        tile.get_alpha() or 0 for tile in figures.draw(made_up.filling(), ["grid"])["grid"].figure.axes[0].patches
    )


def texts(svg: str) -> list[str]:
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return {name: drawing.inline() for name, drawing in figures.draw(made_up.complete()).items()}


def test_every_figure_is_written_as_png_and_as_svg_with_text_and_title(tmp_path):
    drawings = figures.draw(made_up.complete())
    for drawing in drawings.values():
        drawing.write(tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(
        f"{name}.{kind}" for name in figures.NAMES for kind in ("png", "svg")
    )
    for name in figures.NAMES:
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert round(image.info["dpi"][0]) == 200
        svg = ElementTree.parse(tmp_path / "figures" / f"{name}.svg").getroot()
        assert svg.find(f"{SVG}title").text == drawings[name].title
        assert svg.findall(f".//{SVG}text")


def test_the_same_analysis_gives_the_same_bytes(tmp_path):
    for folder in ("one", "other"):
        for drawing in figures.draw(made_up.sweeping()).values():
            drawing.write(tmp_path / folder)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "figures").write_text("a file")
    with pytest.raises(UserError, match="Cannot write"):
        figures.draw(made_up.filling(), ["grid"])["grid"].write(tmp_path / "figures")


def test_labels_of_any_letters_are_drawn_as_they_are_and_without_a_warning(caplog):
    study = made_up.complete()
    names = ("☺ $x_1$ & <b>", "a\x00b\x1b\ud800", "기쁨", 'id="#1b1f27"', "l" * 80)
    report = replace(study.final_dev, labels=names, confusion=np.eye(len(names), dtype=int))
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        drawn = texts(figures.draw(replace(study, final_dev=report), ["confusion"])["confusion"].inline())
    assert {"☺ $x_1$ & <b>", "a b  ", "기쁨", 'id="#1b1f27"', "l" * 12 + "…" + "l" * 15} <= set(drawn)
    assert not caplog.records


def test_the_page_s_figures_have_no_colour_and_no_id_but_their_own(drawn):
    for name, svg in drawn.items():
        assert not [part for part in svg.split("#") if part[:6].isalnum() and part[6:7] in ';"']
        root = ElementTree.fromstring(svg)
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert all(one.startswith(f"{name}-") for one in ids)
        used = [element.get(HREF).removeprefix("#") for element in root.iter() if element.get(HREF)]
        assert used or name != "curves"
        used += [e.get("clip-path")[5:-1] for e in root.iter() if e.get("clip-path")]
        assert set(used) <= set(ids)


def test_a_sweep_s_levels_stand_with_their_scores_and_what_became_of_them(drawn):
    shown = texts(drawn["sweeps"])
    assert {"57.40 % ◀ chosen", "56.90 % ≈ tied", "55.10 %", "previous2+previous+current"} <= set(shown)
    running = figures.draw(made_up.sweeping(), ["sweeps"])["sweeps"]
    assert {"failed", "running", "waiting"} <= set(texts(running.inline()))


def test_the_best_cell_is_starred_and_the_tied_ones_are_outlined(drawn):
    study = made_up.complete()
    assert [text for text in texts(drawn["grid"]) if "★" in text] == [f"{100 * study.best.score.value:.2f} ★"]
    panel = figures.draw(study, ["grid"])["grid"].figure.axes[0]
    outlined = {
        (round(patch.get_y() + 0.42), round(patch.get_x() + 0.45) + 1)
        for patch in panel.patches
        if not patch.get_fill()
    }
    rates = study.recipe.learning_rates
    assert outlined == {(rates.index(cell.learning_rate), cell.epoch) for cell in study.tied}
    assert texts(drawn["grid"]).count("×") == 2


def test_the_better_a_cell_the_stronger_its_tile_also_where_less_is_better():
    study = made_up.complete()
    losses = replace(study, recipe=study.recipe.model_copy(update={"metric": "loss"}))
    for one, sign in ((study, 1), (losses, -1)):
        tiles = [patch for patch in figures.draw(one, ["grid"])["grid"].figure.axes[0].patches if patch.get_fill()]
        values = [sign * cell.score.value for cell in one.cells if cell.score]
        order = np.argsort(values)
        assert (np.diff([tiles[place].get_alpha() for place in order]) >= 0).all()
        assert tiles[order[-1]].get_alpha() == strongest_tile()


@pytest.mark.parametrize(
    ("metric", "axis"),
    [("roc_auc", "roc_auc on dev, %"), ("loss", "loss on dev, nats"), ("quadratic_kappa", "quadratic_kappa on dev")],
)
def test_an_axis_has_the_unit_of_its_metric(metric, axis):
    study = made_up.complete()
    study = replace(study, recipe=study.recipe.model_copy(update={"metric": metric}))
    assert f">{axis}</text>" in figures.draw(study, ["sweeps"])["sweeps"].svg.decode()


def test_a_confusion_matrix_shows_shares_of_its_rows_and_counts(drawn):
    counts = made_up.complete().final_dev.confusion
    shown = texts(drawn["confusion"])
    assert f"{counts[0, 0]}" in shown
    assert f"{counts[0, 0] / counts[0].sum():.0%}" in shown


def test_of_many_classes_those_that_are_confused_the_most_are_drawn():
    study = made_up.with_classes(300)
    shown = figures.shown_classes(study.dev)
    assert len(shown) == figures.SHOWN_CLASSES
    assert {0, 1, 2, 299} <= set(shown.tolist())
    assert (np.diff(shown) > 0).all()
    assert figures.shown_classes(made_up.with_classes(20).dev).tolist() == list(range(20))
    for drawing in figures.draw(study, ["confusion", "classes"]).values():
        assert max(drawing.figure.get_size_inches()) < 12
        assert {"class 0", "class 299"} <= {text.split("  (")[0] for text in texts(drawing.inline())}
    # Of all texts of the class, not of those that are drawn.
    assert "47%" in texts(figures.draw(study, ["confusion"])["confusion"].inline())


def test_a_png_has_a_bounded_size_whatever_is_drawn(tmp_path):
    study = made_up.one_cell()
    rates = [1e-3 / 2**number for number in range(240)]
    cells = [replace(study.best, learning_rate=rate, tied=False) for rate in rates]
    recipe = study.recipe.model_copy(update={"learning_rates": rates})
    drawing = figures.draw(replace(study, recipe=recipe, cells=cells), ["grid"])["grid"]
    assert 200 * drawing.figure.get_size_inches()[1] > 16_000
    drawing.write(tmp_path)
    with Image.open(tmp_path / "grid.png") as image:
        assert max(image.size) <= 12_001


def test_with_one_cell_names_of_axes_are_whole_and_epochs_are_whole_numbers():
    for name, drawing in figures.draw(made_up.one_cell(), ["grid", "curves"]).items():
        figure = drawing.figure
        figure.draw_without_rendering()
        names = [text for text in figure.findobj(Text) if re.search("[a-z]{2}", text.get_text())]
        boxes = {text.get_text(): text.get_window_extent() for text in names}
        wide, high = figure.bbox.width, figure.bbox.height
        assert not [text for text, box in boxes.items() if box.x0 < 0 or box.y0 < 0 or box.x1 > wide or box.y1 > high]
        assert {"epoch", "epoch (precision_non-neutral on dev, %)"} & boxes.keys()
        for panel in figure.axes:
            low, high = panel.get_xlim()
            ticks = zip(panel.get_xticks(), panel.get_xticklabels(), strict=True)
            assert [label.get_text() for at, label in ticks if low <= at <= high] == ["1"], name


def test_letters_that_the_figures_own_font_lacks_are_drawn_in_another_that_is_installed(tmp_path):
    study = made_up.with_classes(2)
    labels = ("\u1d81", "no")
    support, metrics = dict.fromkeys(labels, 9), {f"{name}_{one}": 0.5 for name in figures.PER_CLASS for one in labels}
    report = replace(study.dev, labels=labels, support=support, metrics=metrics)
    drawing = figures.draw(replace(study, dev=report, final_dev=report), ["classes"])["classes"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing.figure.draw_without_rendering()
    drawing.write(tmp_path)
    assert drawn_ticks(drawing) == ["\u1d81  (9)", "no  (9)"]


def test_a_png_has_a_number_for_a_label_whose_letters_no_font_has_and_the_svg_has_the_label(tmp_path, monkeypatch):
    installed(monkeypatch)
    study = made_up.complete()
    study = replace(study, recipe=study.recipe.model_copy(update={"metric": "f1_슬픔"}))
    drawings = figures.draw(study, ["grid", "curves", "confusion"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, drawing in drawings.items():
            drawing.write(tmp_path)
            shown = [text.get_text() for text in drawing.figure.findobj(Text)]
            assert f"[1] … [1]: no font has these letters, install fonts-nanum; {name}.svg has them" in shown
            assert not [text for text in shown if "슬픔" in text]
            assert "슬픔" in (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    assert drawn_ticks(drawings["confusion"])[2:5] == ["<b>fear</b> & 'awe'", "[1]", "anger"]


def test_a_font_that_matplotlib_does_not_know_yet_is_used(tmp_path, monkeypatch):
    letters = {ord(letter): f"uni{ord(letter):X}" for letter in "슬픔"}
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", *letters.values()])
    builder.setupCharacterMap(letters)
    builder.setupGlyf(dict.fromkeys([".notdef", *letters.values()], Glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *letters.values()], (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Made Up", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "made-up.ttf")
    installed(monkeypatch, str(tmp_path / "made-up.ttf"))
    drawing = figures.draw(made_up.complete(), ["confusion"])["confusion"]
    drawing.write(tmp_path)
    assert "슬픔" in drawn_ticks(drawing)


def installed(monkeypatch: pytest.MonkeyPatch, *files: str) -> None:
    """Leaves Matplotlib its own font, and has only these files installed."""
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if font.name == "DejaVu Sans"])
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: list(files))
    # Caches of the test's own.
    for name in ("_fonts", "_add_new_fonts"):
        monkeypatch.setattr(figures, name, cache(getattr(figures, name).__wrapped__))


def drawn_ticks(drawing: figures.Drawing) -> list[str]:
    return [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()]


@pytest.mark.parametrize(
    ("study", "missing"),
    [
        ("begun", {"sweeps", "grid", "curves", "confusion", "classes", "calibration"}),
        ("sweeping", {"grid", "curves", "confusion", "classes", "calibration"}),
        ("filling", {"calibration"}),
        ("searched", set()),
    ],
)
def test_a_figure_without_data_is_not_drawn(study, missing):
    assert figures.draw(made_up.STUDIES[study]()).keys() == set(figures.NAMES) - missing


def contrast(one: str, other: str) -> float:
    """Of two colours, from 1 to 21 (WCAG 2.2, "contrast ratio")."""

    def luminance(colour: str) -> float:
        shares = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        return float(
            np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        )

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_colour_can_be_told_from_the_paper(theme):
    paper = figures.COLOURS["paper"][theme]
    for part, colours in figures.COLOURS.items():
        # WCAG 2.2: 4.5 for text, 3 for what is drawn.
        if part not in PLAIN:
            assert contrast(colours[theme], paper) >= (3 if part.startswith("row") else 4.5), part
    share = strongest_tile()
    accent, below = (
        np.array([int(figures.COLOURS[part][theme][place : place + 2], 16) for place in (1, 3, 5)])
        for part in ("accent", "paper")
    )
    tile = np.rint(share * accent + (1 - share) * below).astype(int)
    assert contrast("#{:02x}{:02x}{:02x}".format(*tile), figures.COLOURS["ink"][theme]) >= 4.5


def test_the_colours_of_the_rows_differ_in_lightness_too():
    paper = figures.COLOURS["paper"]
    for theme in (0, 1):
        steps = [contrast(figures.COLOURS[f"row{number}"][theme], paper[theme]) for number in range(8)]
        assert (np.diff(steps) < 0).all() or (np.diff(steps) > 0).all()
