"""A study's figures: drawn once, written as PNG and SVG, or set into a page whose colours they take on."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from xml.etree import ElementTree

import numpy as np

from bertgrid_tf.analysis import CellAnalysis, StudyAnalysis
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.metrics.classification import PER_CLASS
from bertgrid_tf.report.format import WITHOUT_SCORE, duration, score
from bertgrid_tf.storage.files import replacing
from tuners.table import rows_in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "sweeps": "Dot plot: the score of every level of every sweep, with its 95 % interval",
    "grid": "Heat map: the score of every cell of the learning-rate × epoch table",
    "curves": "Line plots: score on dev and training loss after every epoch, a line for each learning rate",
    "confusion": "Heat map: the classes predicted for the texts of each class, as shares and counts",
    "classes": "Dot plot: precision, recall and F1 of every class",
    "calibration": "Reliability diagram: the share of right predictions by the probability given to them",
    "cost": "Bar charts: epochs of the study, of the plain grid and of the full product; time of every stage",
    "data": "Dot plot: the share of every class in each split; histogram: tokens of the training inputs",
}
"""What each figure shows, for those who do not see it."""
COLOURS = {
    "paper": ("#fdfdfc", "#16181c"),
    "ink": ("#1b1f27", "#e9eaed"),
    "quiet": ("#5a6170", "#a4aab6"),
    "line": ("#dde0e5", "#353a43"),
    "accent": ("#1f5fbf", "#82b3ff"),
    "second": ("#b45309", "#f0a35e"),
    "third": ("#0f766e", "#5fc9bb"),
    # Plasma without its lightest or darkest part: told apart by its lightness alone too.
    "row0": ("#0d0887", "#b6308b"),
    "row1": ("#3c049b", "#c9447a"),
    "row2": ("#6100a7", "#da5a6a"),
    "row3": ("#8405a7", "#e76f5a"),
    "row4": ("#a21d9a", "#f3854b"),
    "row5": ("#bd3786", "#fa9e3b"),
    "row6": ("#d35171", "#feba2c"),
    "row7": ("#e56a5d", "#fbd724"),
}
"""Each part's colour on light and on dark paper; figures are drawn in the light ones."""
_MARKERS = "osD^vP*X"
_KOREAN = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "Noto Sans CJK JP",
)
"""Fonts that hold Hangul, which Matplotlib's own lacks; the first that is installed draws it in the PNGs."""
_WIDTH = 7.2
"""Of a figure, in inches: the page's column."""
# Matplotlib would complain of the Korean fonts that have no bold letters.
_BOLD: dict[str, Any] = {"weight": "bold", "family": "DejaVu Sans"}
_STRONGEST = 0.5
"""Share of the accent colour in the strongest tile; text on it stays readable on light and on dark paper."""


def draw(analysis: StudyAnalysis) -> dict[str, "Figure"]:
    """The figures of a study by the names of `TITLES`, without those for which there is nothing to show yet."""
    with _style():
        drawn = {name: drawing(analysis) for name, drawing in _DRAWINGS.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def write(analysis: StudyAnalysis, folder: Path) -> None:
    """Writes every figure as `NAME.png` (200 dpi) and as `NAME.svg`, whose text is text; each whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    for name, figure in draw(analysis).items():
        for kind in ("png", "svg"):
            with replacing(folder / f"{name}.{kind}") as file:
                _save(figure, file, kind, {"Title": TITLES[name]}, bbox_inches="tight", pad_inches=0.15)


def inline(name: str, figure: "Figure") -> str:
    """A figure as an `<svg>` element within HTML.

    Its colours are CSS variables by the names of `COLOURS` (`--ink`), its ids begin with its name, and its label is
    that of `TITLES`.
    """
    file = BytesIO()
    _save(figure, file, "svg", {}, facecolor="none")
    svg = ElementTree.fromstring(file.getvalue())
    variables = {light: f"var(--{part})" for part, (light, _) in COLOURS.items()}
    for definitions in svg.findall("{*}defs"):
        # Matplotlib's own style sheet would hold for the whole page.
        for sheet in definitions.findall("{*}style"):
            definitions.remove(sheet)
    for element in svg.iter():
        element.tag = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        if "id" in attributes:
            attributes["id"] = f"{name}-{attributes['id']}"
        if "href" in attributes:
            attributes["href"] = f"#{name}-{attributes['href'].removeprefix('#')}"
        if "clip-path" in attributes:
            attributes["clip-path"] = attributes["clip-path"].replace("url(#", f"url(#{name}-")
        if "style" in attributes:
            attributes["style"] = re.sub(
                "#[0-9a-f]{6}", lambda found: variables.get(found[0], found[0]), attributes["style"]
            )
        element.attrib.clear()
        element.attrib.update(attributes)
    svg.attrib.update({"role": "img", "aria-label": TITLES[name]})
    return ElementTree.tostring(svg, encoding="unicode")


def table_rows(analysis: StudyAnalysis) -> dict[float, list[CellAnalysis]]:
    """The cells of every learning rate, in the table's order of rates; a row that has not begun has none."""
    rates = rows_in_order(analysis.recipe.learning_rates, (cell.learning_rate for cell in analysis.cells))
    return {rate: [cell for cell in analysis.cells if cell.learning_rate == rate] for rate in rates}


def table_epochs(analysis: StudyAnalysis) -> range:
    """The table's columns."""
    return range(1, max([analysis.recipe.epochs, *(cell.epoch for cell in analysis.cells)]) + 1)


def _sweeps(analysis: StudyAnalysis) -> "Figure | None":
    sweeps = [sweep for sweep in analysis.sweeps if any(level.score for level in sweep.levels)]
    if not sweeps:
        return None
    metric, sizes = analysis.recipe.metric, [len(sweep.levels) for sweep in sweeps]
    figure = _figure(_WIDTH, 0.5 + sum(0.4 + 0.25 * size for size in sizes))
    panels = figure.subplots(len(sweeps), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for panel, sweep in zip(panels, sweeps, strict=True):
        panel.set_title(sweep.parameter, **_BOLD)
        for row, level in enumerate(sweep.levels):
            if level.score is None:
                told = WITHOUT_SCORE.get(level.status, "running")
            else:
                colour = _ink("accent" if level.chosen or level.tied else "quiet")
                value, low, high = (
                    _scale(metric) * end for end in (level.score.value, level.score.low, level.score.high)
                )
                panel.hlines(row, low, high, colors=colour, linewidth=1.4)
                panel.plot(
                    value,
                    row,
                    "D" if level.chosen else "o",
                    color=colour,
                    markerfacecolor=colour if level.chosen or level.tied else _ink("paper"),
                    markersize=6,
                )
                told = score(metric, level.score.value) + (" ◀ chosen" if level.chosen else " ≈ tied" * level.tied)
            panel.text(1.02, row, told, transform=panel.get_yaxis_transform(), va="center")
        panel.set_yticks(range(len(sweep.levels)), [_short(level.level) for level in sweep.levels])
        panel.set_ylim(len(sweep.levels) - 0.5, -0.5)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="x")
    panels[-1].set_xlabel(_axis(metric))
    return figure


def _grid(analysis: StudyAnalysis) -> "Figure | None":
    from matplotlib.patches import Rectangle

    if not analysis.cells:
        return None
    metric, rows, epochs = analysis.recipe.metric, table_rows(analysis), table_epochs(analysis)
    scores = np.full((len(rows), len(epochs)), nan)
    texts = np.full(scores.shape, "·", dtype=object)
    places = {(row, cell.epoch - 1): cell for row, cells in enumerate(rows.values()) for cell in cells}
    for place, cell in places.items():
        scores[place] = cell.score.value if cell.score else nan
        texts[place] = score(metric, scores[place]).removesuffix(" %") if cell.score else "×"
    width = min(max(6 / len(epochs), 0.6), 1.0)
    figure = _figure(1.2 + width * len(epochs), 0.6 + 0.34 * len(rows))
    panel = figure.subplots()
    _tiles(panel, _closeness(scores if analysis.recipe.direction() == "max" else -scores))
    for (row, column), text in np.ndenumerate(texts):
        here = places.get((row, column))
        best = here is not None and here == analysis.best
        if here is not None and (here.tied or best):
            corner = (column - 0.45, row - 0.42)
            edge = _ink("ink" if best else "accent")
            panel.add_patch(Rectangle(corner, 0.9, 0.84, fill=False, edgecolor=edge, linewidth=2.2 if best else 1.2))
        panel.text(
            column,
            row,
            f"{text} ★" if best else text,
            ha="center",
            va="center",
            color=_ink("ink" if here is not None and here.score else "quiet"),
            **(_BOLD if best else {}),
        )
    panel.set_xticks(range(len(epochs)), [str(epoch) for epoch in epochs])
    panel.set_yticks(range(len(rows)), [f"{rate:g}" for rate in rows])
    panel.set(xlabel=f"epoch ({_axis(metric)})", ylabel="learning rate")
    return figure


def _curves(analysis: StudyAnalysis) -> "Figure | None":
    if not any(cell.score for cell in analysis.cells):
        return None
    metric, rows = analysis.recipe.metric, table_rows(analysis)
    figure = _figure(_WIDTH, 3.0)
    losses = any("train_loss" in cell.metrics for cell in analysis.cells)
    on_dev, *on_train = figure.subplots(1, 1 + losses, squeeze=False)[0]
    for number, (rate, cells) in enumerate(rows.items()):
        epochs = [cell.epoch for cell in cells]
        # Spread over the colours, neighbours apart; where there are so many rows that colours recur, markers differ.
        colour = _ink(f"row{round(number * 7 / max(len(rows) - 1, 1)) if len(rows) <= 8 else number % 8}")
        style = {"color": colour, "marker": _MARKERS[(number + number // 8) % 8], "markersize": 4, "linewidth": 1.4}
        on_dev.plot(
            epochs,
            [_scale(metric) * cell.score.value if cell.score else nan for cell in cells],
            label=f"{rate:g}",
            **style,
        )
        for panel in on_train:
            panel.plot(epochs, [cell.metrics.get("train_loss", nan) for cell in cells], **style)
    if analysis.best is not None and analysis.best.score is not None:
        best, scale = analysis.best.score, _scale(metric)
        on_dev.axhspan(scale * best.low, scale * best.high, color=_ink("accent"), alpha=0.12, linewidth=0)
        ring: dict[str, Any] = {
            "marker": "o",
            "linestyle": "none",
            "markersize": 11,
            "markerfacecolor": "none",
            "markeredgecolor": _ink("ink"),
        }
        on_dev.plot(analysis.best.epoch, scale * best.value, **ring)
    for panel, label in zip((on_dev, *on_train), (_axis(metric), "training loss, nats"), strict=False):
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set_title(label, color=_ink("quiet"))
        panel.set_xlabel("epoch")
        panel.grid(axis="y")
    figure.legend(loc="outside right upper", title="learning rate", alignment="left")
    return figure


def _confusion(analysis: StudyAnalysis) -> "Figure | None":
    classes = analysis.final_dev or analysis.dev
    if classes is None:
        return None
    counts, labels = classes.confusion, [_short(label) for label in classes.labels]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    width, longest = 0.64, max(map(len, labels))
    figure = _figure(max(1.3 + width * len(labels), 3.6), 1.1 + 0.44 * len(labels))
    panel = figure.subplots()
    _tiles(panel, shares)
    for (truth, predicted), count in np.ndenumerate(counts):
        if count:
            panel.text(predicted, truth - 0.12, f"{shares[truth, predicted]:.0%}", ha="center", va="center")
            panel.text(predicted, truth + 0.26, f"{count:,}", ha="center", va="center", size=6.5)
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if longest > 9 else {}
    panel.set_xticks(range(len(labels)), labels, **slanted)
    panel.set_yticks(range(len(labels)), labels)
    panel.set(xlabel="predicted", ylabel="truth")
    return figure


def _classes(analysis: StudyAnalysis) -> "Figure | None":
    classes = analysis.final_dev or analysis.dev
    if classes is None:
        return None
    rows = range(len(classes.labels))
    figure = _figure(_WIDTH, 0.8 + 0.3 * len(classes.labels))
    panel = figure.subplots()
    values = {name: [100 * classes.metrics[f"{name}_{label}"] for label in classes.labels] for name in PER_CLASS}
    panel.hlines(rows, values["precision"], values["recall"], colors=_ink("quiet"), linewidth=1)
    for name, marker, part in zip(PER_CLASS, (">", "s", "o"), ("second", "third", "accent"), strict=True):
        panel.plot(values[name], rows, marker, color=_ink(part), markersize=6, label="F1" if name == "f1" else name)
    names = [f"{_short(label)}  ({classes.support.get(label, 0):,})" for label in classes.labels]
    panel.set_yticks(rows, names)
    panel.set(xlim=(-2, 102), ylim=(len(names) - 0.5, -0.5), xlabel="%")
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def _calibration(analysis: StudyAnalysis) -> "Figure | None":
    found = analysis.calibration
    if found is None:
        return None
    figure = _figure(4.4, 4.4)
    panel = figure.subplots()
    panel.plot((0, 100), (0, 100), color=_ink("quiet"), linewidth=1, linestyle="--", label="as often right as claimed")
    for of, part, marker, label in (
        (found.before, "accent", "o-", "without a temperature"),
        (found.after, "second", "s-", "with a temperature, held out"),
    ):
        panel.plot(100 * of.confidence, 100 * of.accuracy, marker, color=_ink(part), markersize=4, label=label)
    panel.set(
        xlabel="probability of the predicted class, %", ylabel="right, %", xlim=(0, 100), ylim=(0, 100), aspect="equal"
    )
    panel.grid()
    panel.legend(loc="upper left")
    return figure


def _cost(analysis: StudyAnalysis) -> "Figure | None":
    cost = analysis.cost
    epochs = {"this study": cost.epochs, "plain grid": cost.grid_epochs, "full product": cost.product_epochs}
    charts: list[tuple[str, Mapping[str, float], list[str], Callable[[float], str]]] = [
        ("epochs", epochs, ["accent", "quiet", "quiet"], "{:,}".format)
    ]
    if cost.seconds:
        charts.append(("time", cost.stages, ["accent"] * len(cost.stages), duration))
    sizes = [len(lengths) for _, lengths, _, _ in charts]
    figure = _figure(_WIDTH, sum(0.4 + 0.28 * size for size in sizes))
    panels = figure.subplots(len(charts), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for panel, (title, lengths, parts, told) in zip(panels, charts, strict=True):
        bars = panel.barh(list(lengths), list(lengths.values()), height=0.6, color=list(map(_ink, parts)))
        panel.bar_label(bars, list(map(told, lengths.values())), padding=4)
        panel.set_title(title, **_BOLD)
        panel.margins(x=0.15)
        panel.invert_yaxis()
        panel.set_xticks([])
        panel.spines["bottom"].set_visible(False)
        panel.tick_params(axis="y", length=0)
    return figure


def _data(analysis: StudyAnalysis) -> "Figure | None":
    data = analysis.data
    if not data.classes:
        return None
    labels = list(dict.fromkeys(label for counts in data.classes.values() for label in counts))
    figure = _figure(_WIDTH, max(0.9 + 0.27 * len(labels), 2.2))
    panels = figure.subplots(1, 1 if data.lengths is None else 2, squeeze=False)[0]
    for number, (split, counts) in enumerate(data.classes.items()):
        shares = [100 * counts.get(label, 0) / max(sum(counts.values()), 1) for label in labels]
        # One below the other, where they would else hide each other.
        rows = np.arange(len(labels)) + 0.2 * (number - (len(data.classes) - 1) / 2)
        colour = _ink(("accent", "second", "third")[number % 3])
        panels[0].plot(shares, rows, _MARKERS[number % 8], color=colour, markersize=4, label=split)
    panels[0].set_yticks(range(len(labels)), [_short(label) for label in labels])
    panels[0].set(xlabel="texts of the split, %", ylim=(len(labels) - 0.5, -0.5), xlim=(0, None))
    panels[0].tick_params(axis="y", length=0)
    panels[0].grid(axis="x")
    panels[0].legend()
    if data.lengths is not None:
        lengths = panels[1]
        top = int(max(np.percentile(data.lengths, 99.5), data.max_length)) + 1
        step = -(-top // 40)
        lengths.hist(
            np.minimum(data.lengths, top), bins=np.arange(0, top + step + 1, step), color=_ink("accent"), rwidth=0.85
        )
        lengths.axvline(data.max_length, color=_ink("second"), linewidth=1.4)
        lengths.annotate(
            f"cut at {data.max_length}  ",
            (data.max_length, 1),
            xycoords=lengths.get_xaxis_transform(),
            ha="right",
            va="top",
            color=_ink("second"),
        )
        lengths.set(xlabel="tokens of a training input", ylabel="texts")
        lengths.grid(axis="y")
    return figure


_DRAWINGS: dict[str, Callable[[StudyAnalysis], "Figure | None"]] = {
    "sweeps": _sweeps,
    "grid": _grid,
    "curves": _curves,
    "confusion": _confusion,
    "classes": _classes,
    "calibration": _calibration,
    "cost": _cost,
    "data": _data,
}


def _figure(width: float, height: float) -> "Figure":
    # Not pyplot, which would keep every figure and look for a display.
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def _tiles(panel: "Axes", strengths: np.ndarray) -> None:
    """A tile per cell in the accent colour, as strongly as told, float [rows, columns] from 0 to 1; none where NaN."""
    from matplotlib.patches import Rectangle

    rows, columns = strengths.shape
    for (row, column), strength in np.ndenumerate(strengths):
        if not np.isnan(strength):
            tile = Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, facecolor=_ink("accent"), linewidth=0)
            tile.set_alpha(0.04 + (_STRONGEST - 0.04) * strength)
            panel.add_patch(tile)
    panel.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5))
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)


def _closeness(scores: np.ndarray) -> np.ndarray:
    """How close each score is to the best, from 0 to 1 (more is better); the worse half, which may be far, is at 0.5
    or less: first epochs would else leave no difference among the good ones."""
    if np.isnan(scores).all():
        return scores
    best, middle = np.nanmax(scores), np.nanmedian(scores)
    return np.clip(1 - (best - scores) / (2 * (best - middle) or 1), 0, 1)


def _save(figure: "Figure", file: BinaryIO, kind: str, metadata: dict[str, Any], **how: Any) -> None:
    # Nothing but the evidence decides a figure's bytes: no date, no library.
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type") if kind == "svg" else ("Software",))
    with _style(), warnings.catch_warnings():
        # Where no installed font has a class's letters, the PNG shows boxes; the browser's fonts draw the SVG.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(file, format=kind, dpi=200, metadata=nothing | metadata, **how)


@contextmanager
def _style() -> Iterator[None]:
    """The look of all figures; also how Matplotlib writes them, so that the same figure is the same bytes."""
    from matplotlib import rc_context
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    with rc_context(
        {
            "font.family": ["DejaVu Sans", *[name for name in _KOREAN if name in installed][:1], "sans-serif"],
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 9,
            # A label may hold a $.
            "text.parse_math": False,
            "text.color": _ink("ink"),
            "figure.facecolor": _ink("paper"),
            "axes.facecolor": "none",
            "axes.edgecolor": _ink("line"),
            "axes.labelcolor": _ink("quiet"),
            "axes.titlesize": 9,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
            "axes.axisbelow": True,
            "grid.color": _ink("line"),
            "grid.linewidth": 0.7,
            "xtick.color": _ink("line"),
            "xtick.labelcolor": _ink("quiet"),
            "ytick.color": _ink("line"),
            "ytick.labelcolor": _ink("ink"),
            "legend.frameon": False,
            "svg.fonttype": "none",
            "svg.hashsalt": "bertgrid",
        }
    ):
        yield


def _ink(part: str) -> str:
    return COLOURS[part][0]


def _scale(metric: str) -> float:
    return 1 if metric.endswith("loss") else 100


def _axis(metric: str) -> str:
    return f"{_short(metric)} on dev, {'nats' if metric.endswith('loss') else '%'}"


def _short(value: Value) -> str:
    """A level or a label in the room that a figure has, without what would break its line or the SVG."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= 28 else f"{text[:12]}…{text[-15:]}"


def _local(name: str) -> str:
    """A name without its namespace: HTML knows the elements and attributes of SVG."""
    return name.rpartition("}")[2]
