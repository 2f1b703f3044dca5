"""A study's report as one HTML file that needs nothing else: no network, no script."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertgrid_tf.analysis import CellAnalysis, ClassReport, LevelAnalysis, StudyAnalysis
from bertgrid_tf.corpus import describe_tokens
from bertgrid_tf.metrics.classification import unit
from bertgrid_tf.report import figures
from bertgrid_tf.report.answer import certainty, cost, headline, interaction_check, label_errors, to_html
from bertgrid_tf.report.format import (
    WITHOUT_SCORE,
    by_class,
    class_counts,
    difference,
    duration,
    interval,
    limits,
    overall,
    percent,
    score,
)
from bertgrid_tf.storage.records import HARD, LIKELY_ERROR

MOST_MISTAKES, LONGEST_TEXT = 10, 200
"""Of the page: mistakes of a kind, and characters of a text; `mistakes.csv` has all."""
TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class Table:
    """A table whose rows begin with their head; columns of words are aligned left and may take several lines."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[str] = ()


def render(analysis: StudyAnalysis, drawings: Mapping[str, figures.Drawing]) -> str:
    """Render the report of a study as an HTML document; the same analysis gives the same bytes.

    Args:
        analysis: The study, ended or still running.
        drawings: Its figures (`figures.draw`).
    """
    from jinja2 import Environment, StrictUndefined

    metadata, limit = analysis.metadata, (analysis.winner or analysis.recipe).hyperparameters.max_length
    classes = metadata.classes if metadata else {}
    report = analysis.final_dev or analysis.dev
    shown = {
        "sweeps": ("Sweeps", analysis.sweeps),
        "grid": ("Learning rate × epoch", analysis.cells),
        "curves": ("Learning curves", "curves" in drawings),
        "classes": ("Classes", report),
        "mistakes": ("Mistakes", analysis.mistakes),
        "interactions": ("Interaction checks", analysis.interaction_checks),
        "gains": ("Post-hoc gains", analysis.gains),
        "cost": ("Cost", True),
        "data": ("Data", classes),
        "reproduction": ("Reproduction", True),
    }
    rules = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return rules.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        analysis=analysis,
        metric=analysis.recipe.metric,
        metadata=metadata,
        headline=[to_html(sentence) for sentence in headline(analysis)],
        certainty=[to_html(sentence) for sentence in certainty(analysis)],
        label_errors=[to_html(sentence) for sentence in label_errors(analysis)],
        cost=[to_html(sentence) for sentence in cost(analysis)],
        checks=[to_html(interaction_check(check, analysis.recipe.metric)) for check in analysis.interaction_checks],
        parts={name: title for name, (title, there) in shown.items() if there},
        undecided=[sweep.parameter for sweep in analysis.sweeps if not any(level.chosen for level in sweep.levels)],
        diverged=any(cell.score is None for cell in analysis.cells),
        whole=len(analysis.cells) == len(figures.table_rows(analysis)) * len(figures.table_epochs(analysis)),
        tokens=None if analysis.lengths is None else describe_tokens(analysis.lengths, limit),
        confused=None if report is None else _confused(report),
        drawings=drawings,
        tables=_tables(analysis) | {"data": Table(("class", *classes), class_counts(classes))},
        colours=figures.COLOURS,
        overall=overall,
        unit=unit,
        percent=percent,
        kinds=(LIKELY_ERROR, HARD),
        shown_classes=figures.SHOWN_CLASSES,
    )


def _confused(report: ClassReport) -> str:
    """Return which of many classes are shown; empty where all are."""
    shown, classes = len(figures.shown_classes(report)), len(report.labels)
    return "" if shown == classes else f"The {shown} of {classes:,} classes that are confused the most. "


def _tables(analysis: StudyAnalysis) -> dict[str, Table]:
    """Return the numbers of the figures by their names, and the page's other tables."""
    metric, cost, checks = analysis.recipe.metric, analysis.cost, analysis.interaction_checks
    leads = [
        [f"{check.parameter}: {name}", difference(metric, lead)]
        for check in checks
        for name, lead in (
            ("lead in the sweep", check.at_sweep),
            ("lead at the winner", check.at_winner),
            ("interaction", check.interaction),
        )
    ]
    epochs = {"this study": cost.epochs, "the grid alone": cost.grid_epochs, "every combination": cost.product_epochs}
    times = {**cost.stages, "in all": cost.seconds}
    tables = {
        "sweeps": _sweeps(analysis),
        "grid": _by_epoch(analysis, [_cell(analysis, cell) for cell in analysis.cells]),
        "curves": _by_epoch(analysis, [_epoch(metric, cell) for cell in analysis.cells]),
        "interactions": Table(("", metric), leads),
        "gains": _gains(analysis, on_test=False),
        "gains_on_test": _gains(analysis, on_test=True),
        "epochs": Table(list(epochs), [[f"{number:,}" for number in epochs.values()]]),
        "times": Table(("stage", "time"), [[name, duration(times[name])] for name in times]),
        "environment": _environment(analysis),
        LIKELY_ERROR: _mistakes(analysis, LIKELY_ERROR),
        HARD: _mistakes(analysis, HARD),
    }
    if (report := analysis.final_dev or analysis.dev) is not None:
        shown = figures.shown_classes(report)
        labels = [report.labels[one] for one in shown]
        counts = [
            [label, *(f"{count:,}" for count in row)]
            for label, row in zip(labels, report.confusion[np.ix_(shown, shown)], strict=True)
        ]
        tables["confusion"] = Table(("truth", *labels), counts)
    for name, scored in (("classes", report), ("test", analysis.test)):
        if scored is not None:
            tables[name] = Table(("class", "texts", "precision", "recall", "F1"), by_class(scored))
    if (calibration := analysis.calibration) is not None:
        rows = [
            [name, *(percent(share) for share in row)]
            for name, bins in (("without", calibration.before), ("with it, held out", calibration.after))
            for row in zip(bins.confidence, bins.accuracy, bins.share, strict=True)
        ]
        tables["calibration"] = Table(("temperature", "mean confidence", "accuracy", "texts"), rows)
    return tables


def _sweeps(analysis: StudyAnalysis) -> Table:
    metric = analysis.recipe.metric
    rows = [
        [
            f"{sweep.parameter}={level.level}",
            str(level.epoch or ""),
            *([score(metric, level.score.value), limits(metric, level.score)] if level.score else ["", ""]),
            _p(level.p),
            _verdict(level),
        ]
        for sweep in analysis.sweeps
        for level in sweep.levels
    ]
    return Table(("level", "epoch", metric, "95 % interval", "p", ""), rows)


def _verdict(level: LevelAnalysis) -> str:
    if level.score is None:
        return WITHOUT_SCORE.get(level.status, "running")
    if level.overruled:
        return "better, but added later"
    return "◀ chosen" if level.chosen else "≈ tied" if level.tied else ""


def _by_epoch(analysis: StudyAnalysis, texts: Sequence[str]) -> Table:
    """Return a table with a row for each learning rate, with a text for every cell that was tried."""
    epochs = figures.table_epochs(analysis)
    cells = {(cell.learning_rate, cell.epoch): text for cell, text in zip(analysis.cells, texts, strict=True)}
    rates = figures.table_rows(analysis)
    rows = [[f"{rate:g}", *(cells.get((rate, epoch), "") for epoch in epochs)] for rate in rates]
    return Table(("learning rate", *(f"epoch {epoch}" for epoch in epochs)), rows)


def _cell(analysis: StudyAnalysis, cell: CellAnalysis) -> str:
    if cell.score is None:
        return "diverged or failed"
    metric, mark = analysis.recipe.metric, " ★" if cell == analysis.best else " ≈" if cell.tied else ""
    seeds = [
        "; seeds " + ", ".join(score(metric, value).removesuffix(" %") for value in repeat.scores)
        for repeat in analysis.seed_repeats
        if (repeat.learning_rate, repeat.epoch) == (cell.learning_rate, cell.epoch)
    ]
    return "".join([interval(metric, cell.score), mark, *seeds])


def _epoch(metric: str, cell: CellAnalysis) -> str:
    if cell.score is None:
        return "diverged or failed"
    return ", ".join(score(name, cell.metrics[name]) for name in (metric, "train_loss") if name in cell.metrics)


def _gains(analysis: StudyAnalysis, on_test: bool) -> Table:
    rows = []
    for gain in analysis.gains:
        if (change := gain.on_test if on_test else gain.on_dev) is not None:
            scores = [score(gain.metric, change.before), score(gain.metric, change.after), _p(change.p)]
            kept = [] if on_test else ["kept" if gain.kept else "not kept", gain.detail]
            rows.append([gain.name, gain.metric, *scores, *kept])
    columns = ("gain", "metric", "without", "with", "p") + (() if on_test else ("", "detail"))
    return Table(columns, rows, ("metric", "detail"))


def _mistakes(analysis: StudyAnalysis, kind: str) -> Table:
    """Return the most confident mistakes of a kind."""
    rows = [
        [
            mistake.label,
            f"{mistake.predicted}, {percent(mistake.p_predicted)}",
            _shortened(mistake.text),
            _shortened(mistake.context, end=True),
            f"{mistake.contradicting} of {mistake.runs}",
            mistake.id if mistake.split == "dev" else f"{mistake.split} {mistake.id}",
        ]
        for mistake in [mistake for mistake in analysis.mistakes if mistake.kind == kind][:MOST_MISTAKES]
    ]
    columns = ("label", "predicted", "text", "context", "runs", "id")
    return Table(columns, rows, ("context", "text"))


def _shortened(text: str, end: bool = False) -> str:
    """Shorten a text to what a table shows, its beginning or its end."""
    if len(text) <= LONGEST_TEXT:
        return text
    return f"…{text[-LONGEST_TEXT:]}" if end else f"{text[:LONGEST_TEXT]}…"


def _environment(analysis: StudyAnalysis) -> Table:
    rows = [["study folder", analysis.folder], ["seed", str(analysis.recipe.seed)]]
    if (metadata := analysis.metadata) is not None:
        rows += [["hardware", metadata.hardware]] if metadata.hardware else []
        rows.append(["fingerprint of the data", metadata.fingerprint])
        rows += [[f"checkpoint {name}", identity] for name, identity in metadata.checkpoints.items()]
        rows += [[name, version] for name, version in metadata.versions.items()]
    return Table(("", "value"), rows, ("value",))


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
