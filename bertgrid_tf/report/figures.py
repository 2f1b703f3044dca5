"""The figures of a study: drawn once, written as PNG and SVG, or set into a page whose colours they take on."""

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from bertgrid_tf.analysis import CellAnalysis, ClassReport, StudyAnalysis
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.metrics.classification import PER_CLASS, unit
from bertgrid_tf.report.format import WITHOUT_SCORE, score
from bertgrid_tf.storage.files import replacing
from tuners.table import rows_in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMES = ("sweeps", "grid", "curves", "confusion", "classes", "calibration")
COLOURS = {
    "paper": ("#fdfdfc", "#16181c"),
    "ink": ("#1b1f27", "#e9eaed"),
    "quiet": ("#5a6170", "#a4aab6"),
    "line": ("#dde0e5", "#353a43"),
    "accent": ("#1f5fbf", "#82b3ff"),
    "second": ("#b45309", "#f0a35e"),
    "third": ("#0f766e", "#5fc9bb"),
    # Plasma without its lightest or darkest part: distinct by its lightness alone too.
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
_VARIABLES = {light: f"var(--{part})" for part, (light, _) in COLOURS.items()}
_MARKERS = "osD^vP*X"
_FONT = "DejaVu Sans"
"""Matplotlib's own, which lacks the letters of many languages, Hangul among them."""
_WIDTH, _DOT_PLOT_WIDTH = 7.2, 5.4
"""Of a figure, in inches: the page's column; a width that a phone can show."""
_PADS: dict[str, Any] = {"w_pad": 0.08, "h_pad": 0.08}
SHOWN_CLASSES = 20
"""The most classes that a figure shows; of more, those that are confused the most."""
_LONGEST_SIDE = 12_000
"""Of a PNG, in pixels, whatever the number of rows and columns."""
# Matplotlib would complain of fonts that have no bold letters.
_BOLD: dict[str, Any] = {"weight": "bold", "family": _FONT}
_STRONGEST = 0.5
"""Share of the accent colour in the strongest tile; text on it stays readable on light and on dark paper."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a study, drawn once.

    Attributes:
        name: One of `NAMES`.
        title: A description for those who do not see the figure.
        figure: The figure of Matplotlib.
    """

    name: str
    title: str
    figure: "Figure"

    @cached_property
    def svg(self) -> bytes:
        """The figure as an SVG file with text as text."""
        return self._save("svg")

    def inline(self) -> Markup:
        """Return the figure as an `<svg>` element within HTML.

        Colours are CSS variables by the names of `COLOURS` (`--ink`), ids begin with the figure's name, and there is no
        paper. The variable `--width` is its natural width.
        """
        svg = self.svg.decode()
        # Matplotlib's style sheet would hold for the whole page, and the title would pop up at the pointer.
        svg = re.sub(r'<(metadata|style|title)\b.*?</\1>|<g id="patch_1">.*?</g>', "", svg, flags=re.DOTALL)
        svg = re.sub("<[^>]*>", lambda tag: self._inline_tag(tag[0]), svg[svg.index("<svg") :])
        width = 96 * self.figure.get_size_inches()[0]  # CSS has 96 pixels an inch
        attributes = Markup('<svg role="img" aria-label="{}" style="--width: {:.0f}px"').format(self.title, width)
        return Markup(svg.replace("<svg", attributes, 1))

    def _inline_tag(self, tag: str) -> str:
        tag = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", tag)
        return re.sub("#[0-9a-f]{6}", lambda colour: _VARIABLES.get(colour[0], colour[0]), tag)

    def write(self, folder: Path) -> None:
        """Write the figure as `NAME.svg` and as `NAME.png` (200 dpi), each whole or not at all.

        Raises:
            UserError: The folder cannot be written.
        """
        # The SVG first, whose letters the browser's fonts draw.
        for kind, content in (("svg", lambda: self.svg), ("png", self._png)):
            with replacing(folder / f"{self.name}.{kind}") as file:
                file.write(content())

    def _png(self) -> bytes:
        """The figure as PNG, in which a number stands for a label whose letters no installed font has."""
        from matplotlib.text import Text

        labels: dict[str, str] = {}

        def drawable(text: str) -> str:
            return labels.setdefault(text, f"[{len(labels) + 1}]") if _undrawable(text) else text

        for panel in self.figure.axes:
            for axis in (panel.xaxis, panel.yaxis):
                texts = [tick.get_text() for tick in axis.get_ticklabels()]
                if any(map(_undrawable, texts)):  # an axis writes the texts of its ticks anew whenever it is drawn
                    axis.set_ticklabels(list(map(drawable, texts)))
        for text in self.figure.findobj(Text):
            text.set_text(drawable(text.get_text()))
        if labels:
            font = "fonts-nanum" if re.search("[가-힣]", "".join(labels)) else "fonts-noto"
            note = f"[1] … [{len(labels)}]: no font has these letters, install {font}; {self.name}.svg has them"
            share = 0.16 / self.figure.get_size_inches()[1]
            self.figure.set_layout_engine("constrained", **_PADS, rect=(0, share, 1, 1 - share))
            self.figure.text(0.5, share / 4, note, ha="center", va="bottom", size=6.5, color=_ink("quiet"))
        return self._save("png")

    def _save(self, kind: str) -> bytes:
        # The analysis alone decides a figure's bytes: no date, no library.
        dropped = dict.fromkeys(("Date", "Creator", "Format", "Type") if kind == "svg" else ("Software",))
        file = BytesIO()
        dpi = min(200, _LONGEST_SIDE / max(self.figure.get_size_inches()))
        with _style(), warnings.catch_warnings():
            # The layout of an SVG is measured in these fonts, and its letters are drawn in the browser's.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            self.figure.savefig(file, format=kind, dpi=dpi, metadata=dropped | {"Title": self.title})
        return file.getvalue()


def draw(analysis: StudyAnalysis, names: Iterable[str] = NAMES) -> dict[str, Drawing]:
    """Draw the figures of a study, without those for which there is nothing to show yet."""
    drawn = {}
    labels = [label for report in (analysis.dev, analysis.final_dev) if report for label in report.labels]
    levels = [str(level.level) for sweep in analysis.sweeps for level in sweep.levels]
    with _style("".join((*labels, *levels))):
        for name in names:
            if (figure := _DRAWINGS[name](analysis)) is not None:
                drawn[name] = Drawing(name, str(_DRAWINGS[name].__doc__), figure)
    return drawn


def shown_classes(report: ClassReport) -> np.ndarray:
    """Return the ids of the classes that figures show, in order: all, or those of the most frequent confusions."""
    counts = report.confusion
    if len(counts) <= SHOWN_CLASSES:
        return np.arange(len(counts))
    confused = np.triu(counts + counts.T, 1)
    pairs = np.argwhere(confused)
    named = pairs[np.argsort(-confused[tuple(pairs.T)], kind="stable")].ravel()
    by_size = np.argsort(-counts.sum(axis=1), kind="stable")
    return np.sort(list(dict.fromkeys([*named.tolist(), *by_size.tolist()]))[:SHOWN_CLASSES])


def table_rows(analysis: StudyAnalysis) -> dict[float, list[CellAnalysis]]:
    """Return the cells of every learning rate, in the grid's order; a row that has not begun has none."""
    rates = rows_in_order(analysis.recipe.learning_rates, (cell.learning_rate for cell in analysis.cells))
    return {rate: [cell for cell in analysis.cells if cell.learning_rate == rate] for rate in rates}


def table_epochs(analysis: StudyAnalysis) -> range:
    """Return the epochs of the grid's columns."""
    return range(1, max([analysis.recipe.epochs, *(cell.epoch for cell in analysis.cells)]) + 1)


def _sweeps(analysis: StudyAnalysis) -> "Figure | None":
    """Dot plot: the score of every level of every sweep, with its 95 % interval."""
    sweeps = [sweep for sweep in analysis.sweeps if any(level.score for level in sweep.levels)]
    if not sweeps:
        return None
    metric, sizes = analysis.recipe.metric, [len(sweep.levels) for sweep in sweeps]
    figure = _figure(_DOT_PLOT_WIDTH, 0.5 + sum(0.4 + 0.25 * size for size in sizes))
    panels = figure.subplots(len(sweeps), 1, sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for panel, sweep in zip(panels, sweeps, strict=True):
        panel.set_title(sweep.parameter, **_BOLD)
        _rows(panel, [_short(level.level) for level in sweep.levels])
        for row, level in enumerate(sweep.levels):
            text = WITHOUT_SCORE.get(level.status, "running")
            if level.score is not None:
                tied, scale = level.chosen or level.tied, _scale(metric)
                colour = _ink("accent" if tied else "quiet")
                panel.hlines(row, scale * level.score.low, scale * level.score.high, colors=colour, linewidth=1.4)
                face = colour if tied else _ink("paper")
                marker = "D" if level.chosen else "o"
                panel.plot(scale * level.score.value, row, marker, color=colour, markerfacecolor=face, markersize=6)
                mark = " ◀ chosen" if level.chosen else " ≈ tied" * level.tied
                text = score(metric, level.score.value) + (" added later" if level.overruled else mark)
            panel.text(1.02, row, text, transform=panel.get_yaxis_transform(), va="center")
    panels[-1].xaxis.get_major_locator().set_params(nbins=5, steps=(1, 2, 5, 10))
    panels[-1].set_xlabel(_axis(metric))
    return figure


def _grid(analysis: StudyAnalysis) -> "Figure | None":
    """Heat map: the score of every cell of the learning-rate × epoch grid."""
    from matplotlib.patches import Rectangle

    if not analysis.cells:
        return None
    metric, rows, epochs = analysis.recipe.metric, table_rows(analysis), table_epochs(analysis)
    width = min(max(6 / len(epochs), 0.6), 1.0)
    label = f"epoch ({_axis(metric)})"
    # A few tiles are narrower and lower than the names of the axes.
    figure = _figure(max(1.2 + width * len(epochs), 0.5 + 0.08 * len(label)), max(0.6 + 0.34 * len(rows), 1.7))
    figure.supxlabel(label, size=9, color=_ink("quiet"))
    panel = figure.subplots()
    cells = {(row, cell.epoch - 1): cell for row, in_row in enumerate(rows.values()) for cell in in_row}
    scores = np.full((len(rows), len(epochs)), nan)
    for place, tried in cells.items():
        scores[place] = tried.score.value if tried.score else nan
    _tiles(panel, _closeness(scores if analysis.recipe.direction() == "max" else -scores))
    for row, column in np.ndindex(scores.shape):
        cell, text = cells.get((row, column)), "·"
        best = cell is not None and cell == analysis.best
        if cell is not None:
            text = score(metric, cell.score.value).removesuffix(" %") + " ★" * best if cell.score else "×"
        if cell is not None and (cell.tied or best):
            edge, line = (_ink("ink"), 2.2) if best else (_ink("accent"), 1.2)
            outline = Rectangle((column - 0.45, row - 0.42), 0.9, 0.84, fill=False, edgecolor=edge, linewidth=line)
            panel.add_patch(outline)
        colour = _ink("ink" if cell is not None and cell.score else "quiet")
        panel.text(column, row, text, ha="center", va="center", color=colour, **(_BOLD if best else {}))
    panel.set_xticks(range(len(epochs)), [str(epoch) for epoch in epochs])
    panel.set_yticks(range(len(rows)), [f"{rate:g}" for rate in rows])
    panel.set_ylabel("learning rate")
    return figure


def _curves(analysis: StudyAnalysis) -> "Figure | None":
    """Line plots: score on dev and training loss after every epoch, a line for each learning rate."""
    if not any(cell.score for cell in analysis.cells):
        return None
    metric, rows, scale = analysis.recipe.metric, table_rows(analysis), _scale(analysis.recipe.metric)
    figure = _figure(_WIDTH, 3.0)
    losses = any("train_loss" in cell.metrics for cell in analysis.cells)
    on_dev, *on_train = figure.subplots(1, 1 + losses, squeeze=False)[0]
    for number, (rate, cells) in enumerate(rows.items()):
        epochs = [cell.epoch for cell in cells]
        # Spread over the colours, neighbours apart; with more rows than colours, markers differ where colours recur.
        colour = _ink(f"row{round(number * 7 / max(len(rows) - 1, 1)) if len(rows) <= 8 else number % 8}")
        style = {"color": colour, "marker": _MARKERS[(number + number // 8) % 8], "markersize": 4, "linewidth": 1.4}
        scores = [scale * cell.score.value if cell.score else nan for cell in cells]
        on_dev.plot(epochs, scores, label=f"{rate:g}", **style)
        for panel in on_train:
            panel.plot(epochs, [cell.metrics.get("train_loss", nan) for cell in cells], **style)
    if analysis.best is not None and (best := analysis.best.score) is not None:
        on_dev.axhspan(scale * best.low, scale * best.high, color=_ink("accent"), alpha=0.12, linewidth=0)
        ring = {"markersize": 11, "markerfacecolor": "none", "markeredgecolor": _ink("ink")}
        on_dev.plot(analysis.best.epoch, scale * best.value, "o", **ring)
    for panel, label in zip((on_dev, *on_train), (_axis(metric), "training loss, nats"), strict=False):
        panel.set_xlim(0.7, table_epochs(analysis)[-1] + 0.3)
        panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        panel.set_title(label, color=_ink("quiet"))
        panel.set_xlabel("epoch")
        panel.grid(axis="y")
    # A browser's letters may be wider than those that the space is measured with.
    figure.legend(loc="outside right upper", title="learning rate", alignment="left", borderaxespad=1.5)
    return figure


def _confusion(analysis: StudyAnalysis) -> "Figure | None":
    """Heat map: the predicted classes of the texts of each class, as shares, and counts of few classes."""
    report = analysis.final_dev or analysis.dev
    if report is None:
        return None
    shown = shown_classes(report)
    labels = [_short(report.labels[one]) for one in shown]
    counts = report.confusion[np.ix_(shown, shown)]
    shares = counts / np.maximum(report.confusion[shown].sum(axis=1, keepdims=True), 1)
    few = len(labels) <= 10
    width, height = (0.64, 0.44) if few else (0.3, 0.28)
    figure = _figure(max(1.3 + width * len(labels), 3.6), 1.1 + height * len(labels))
    panel = figure.subplots()
    _tiles(panel, shares)
    for (truth, predicted), count in np.ndenumerate(counts):
        if count:
            share = f"{shares[truth, predicted]:.0%}"
            panel.text(predicted, truth - 0.12 * few, share, ha="center", va="center", size=9 if few else 7)
            if few:
                panel.text(predicted, truth + 0.26, f"{count:,}", ha="center", va="center", size=6.5)
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    panel.set_xticks(range(len(labels)), labels, **(slanted if max(map(len, labels)) > 9 else {}))
    panel.set_yticks(range(len(labels)), labels)
    panel.set(xlabel="predicted", ylabel="truth")
    return figure


def _classes(analysis: StudyAnalysis) -> "Figure | None":
    """Dot plot: precision, recall and F1 of every class."""
    report = analysis.final_dev or analysis.dev
    if report is None:
        return None
    labels = [report.labels[one] for one in shown_classes(report)]
    rows = range(len(labels))
    figure = _figure(_DOT_PLOT_WIDTH, 0.8 + 0.3 * len(labels))
    panel = figure.subplots()
    values = {name: [100 * report.metrics[f"{name}_{label}"] for label in labels] for name in PER_CLASS}
    panel.hlines(rows, values["precision"], values["recall"], colors=_ink("quiet"), linewidth=1)
    for name, marker, part in zip(PER_CLASS, (">", "s", "o"), ("second", "third", "accent"), strict=True):
        panel.plot(values[name], rows, marker, color=_ink(part), markersize=6, label="F1" if name == "f1" else name)
    _rows(panel, [f"{_short(label)}  ({report.support.get(label, 0):,})" for label in labels])
    panel.set_xlabel("%")
    figure.legend(loc="outside upper right", ncols=3)
    return figure


def _calibration(analysis: StudyAnalysis) -> "Figure | None":
    """Reliability diagram: the share of correct predictions by their confidence."""
    if analysis.calibration is None:
        return None
    figure, lowest = _figure(4.4, 4.9), 100.0
    panel = figure.subplots()
    panel.plot((0, 100), (0, 100), "--", color=_ink("quiet"), linewidth=1, label="perfectly calibrated")
    for reliability, part, marker, label in (
        (analysis.calibration.before, "accent", "o-", "without temperature scaling"),
        (analysis.calibration.after, "second", "s-", "with it, on held-out folds"),
    ):
        confidence, accuracy = 100 * reliability.confidence, 100 * reliability.accuracy
        panel.plot(confidence, accuracy, marker, color=_ink(part), markersize=4, label=label)
        lowest = min(lowest, *confidence, *accuracy)
    # From a multiple of ten, since all points may be near the top; markers at the ends are whole.
    ends = (min(lowest // 10 * 10, 90) - 1, 101)
    panel.set(xlabel="confidence, %", ylabel="accuracy, %", xlim=ends, ylim=ends, aspect="equal")
    panel.grid()
    figure.legend(loc="outside upper left")
    return figure


def _figure(width: float, height: float) -> "Figure":
    # Not pyplot, which would keep every figure and look for a display.
    from matplotlib.figure import Figure

    figure = Figure((width, height))
    figure.set_layout_engine("constrained", **_PADS)
    return figure


def _rows(panel: "Axes", labels: Sequence[str]) -> None:
    """Give a panel a labelled row for each of several things, from the top."""
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.grid(axis="x")


def _tiles(panel: "Axes", strengths: np.ndarray) -> None:
    """Draw a tile for every strength, float [rows, columns] from 0 to 1, in the accent colour; none where it is NaN."""
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
    """Return how close each score is to the best, from 0 to 1; the worse half of the scores is at 0.5 or less.

    First epochs, which may be far from the best, would else leave no difference among the good cells.
    """
    if np.isnan(scores).all():
        return scores
    best, middle = np.nanmax(scores), np.nanmedian(scores)
    return np.clip(1 - (best - scores) / (2 * (best - middle) or 1), 0, 1)


@cache
def _letters(file: str) -> frozenset[int]:
    """Return the characters that a font file draws; none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _add_new_fonts() -> None:
    """Add the fonts that were installed after Matplotlib wrote its list of them, which it keeps between processes."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    for file in sorted({*findSystemFonts()} - {font.fname for font in fontManager.ttflist}):
        with suppress(OSError, RuntimeError):  # one that it cannot read
            fontManager.addfont(file)


@cache
def _fonts(text: str) -> tuple[list[str], frozenset[int]]:
    """Return the fonts to draw a text in: Matplotlib's own, then those that have letters it lacks.

    Returns:
        The names of the fonts, and the characters that no installed font has.
    """
    from matplotlib.font_manager import findfont, fontManager

    names, missing = [_FONT], frozenset(map(ord, text)) - _letters(findfont(_FONT))
    if missing:
        _add_new_fonts()
    files: dict[str, str] = {}
    # Of each font the upright letters of medium weight, which Matplotlib draws.
    for font in sorted(fontManager.ttflist, key=lambda font: str(font.weight) not in ("400", "normal", "regular")):
        # A last-resort font has a box for every letter.
        if font.style == "normal" and font.name != _FONT and "last resort" not in font.name.lower():
            files.setdefault(font.name, font.fname)
    for name in sorted(files) if missing else ():
        if drawn := missing & _letters(files[name]):
            names.append(name)
            missing -= drawn
    return names, missing


def _undrawable(text: str) -> bool:
    """Return whether no installed font has one of the letters of a text."""
    return bool(_fonts(text)[1])


@contextmanager
def _style(text: str = "") -> Iterator[None]:
    """Set the look of all figures, with fonts for a text's letters, and write the same figure as the same bytes."""
    from matplotlib import rc_context

    with rc_context(
        {
            "font.family": [*_fonts(text)[0], "sans-serif"],
            "font.sans-serif": [_FONT],
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
            "ytick.major.size": 0,
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
    return 100 if unit(metric) == "%" else 1


def _axis(metric: str) -> str:
    return f"{_short(metric)} on dev, {unit(metric)}".removesuffix(", ")


def _short(value: Value) -> str:
    """Shorten a level or a label to the room of a figure, without letters that would break its line or the SVG."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= 28 else f"{text[:12]}…{text[-15:]}"


# The docstring of each describes the figure.
_DRAWINGS = dict(zip(NAMES, (_sweeps, _grid, _curves, _confusion, _classes, _calibration), strict=True))
