"""A study's report as one HTML file that needs nothing else: no network, no script."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from bertgrid_tf.analysis import CellAnalysis, Change, ClassReport, LevelAnalysis, StudyAnalysis
from bertgrid_tf.corpus import describe_tokens
from bertgrid_tf.report import figures
from bertgrid_tf.report.answer import answer, interaction_check, to_html
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

TEMPLATE = Path(__file__).with_name("page.html.j2")
Drawings = Mapping[str, figures.Drawing]


@dataclass(frozen=True)
class Table:
    """A table whose rows begin with their head; columns of words are aligned left and may take several lines."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[str] = ()


@dataclass(frozen=True)
class Plate:
    """A figure with its caption, and its numbers as a table that opens on demand."""

    name: str
    svg: Markup
    caption: str
    numbers: Table


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, figures, tables, and listings by their titles, which open on demand."""

    name: str
    title: str
    text: Sequence[str] = ()
    plates: Sequence[Plate] = ()
    tables: Sequence[Table] = ()
    listings: Mapping[str, str] = field(default_factory=dict)


def render(analysis: StudyAnalysis, drawings: Drawings) -> str:
    """Render the report of a study as an HTML document; the same analysis gives the same bytes.

    Args:
        analysis: The study, ended or still running.
        drawings: Its figures (`figures.draw`).
    """
    from jinja2 import Environment, StrictUndefined

    sections = [
        _sweeps(analysis, drawings),
        _grid(analysis, drawings),
        _curves(analysis, drawings),
        _classes(analysis, drawings),
        _interactions(analysis),
        _gains(analysis),
        _cost(analysis),
        _data(analysis),
        _reproduction(analysis),
    ]
    rules = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return rules.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        analysis=analysis,
        answer=[to_html(sentence) for sentence in answer(analysis)],
        sections=[section for section in sections if section is not None],
        colours=figures.COLOURS,
    )


def _sweeps(analysis: StudyAnalysis, drawings: Drawings) -> Section | None:
    if not analysis.sweeps:
        return None
    recipe, metric = analysis.recipe, analysis.recipe.metric
    text = [
        f"Each parameter was varied alone, at learning rate {recipe.hyperparameters.learning_rate:g} for "
        f"{recipe.sweep_epochs} epochs, and then kept at its best level."
    ]
    if undecided := [sweep.parameter for sweep in analysis.sweeps if not any(level.chosen for level in sweep.levels)]:
        text.append(f"Undecided so far: {', '.join(undecided)}.")
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
    columns = ("level", "epoch", metric, "95 % interval", "p against the best", "")
    table = Table("The levels of every sweep", columns, rows, ("",))
    caption = (
        "Every level at its best epoch, with the 95 % interval of its score over dialogues. ◆ is the chosen level; "
        "● is tied with the best at the 5 % level (Holm-adjusted), ○ is worse."
    )
    plates = _plate(drawings, "sweeps", caption, table)
    return Section("sweeps", "Sweeps", text, plates, [] if plates else [table])


def _grid(analysis: StudyAnalysis, drawings: Drawings) -> Section | None:
    if not analysis.cells:
        return None
    metric = analysis.recipe.metric
    signs = ["★ is the best cell", "an outline marks the tied set (5 % level, Holm-adjusted)"]
    if any(cell.score is None for cell in analysis.cells):
        signs.append("× diverged or failed")
    if len(analysis.cells) < len(figures.table_rows(analysis)) * len(figures.table_epochs(analysis)):
        signs.append("· was left out by the search" if analysis.winner else "· is not trained so far")
    unit = "in nats" if metric.endswith("loss") else "in percent"
    several = ", the mean over its seeds where it has several" if analysis.seed_repeats else ""
    caption = f"Scores after every epoch of every learning rate: {metric} on dev, {unit}{several}. {'; '.join(signs)}."
    cells = {(cell.learning_rate, cell.epoch): _cell(analysis, cell) for cell in analysis.cells}
    for repeat in analysis.seed_repeats:
        each = ", ".join(score(metric, value).removesuffix(" %") for value in repeat.scores)
        cells[repeat.learning_rate, repeat.epoch] += f"; seeds {each}"
    table = _by_epoch(f"Every cell's {metric} on dev, with its 95 % interval", analysis, cells)
    return Section("grid", "Learning rate × epoch", (), _plate(drawings, "grid", caption, table))


def _curves(analysis: StudyAnalysis, drawings: Drawings) -> Section | None:
    if "curves" not in drawings:
        return None
    metric, cells = analysis.recipe.metric, {}
    for cell in analysis.cells:
        scores = [score(name, cell.metrics[name]) for name in (metric, "train_loss") if name in cell.metrics]
        cells[cell.learning_rate, cell.epoch] = ", ".join(scores) if cell.score else "diverged or failed"
    caption = "A line for every learning rate. The ring is the best cell, the band the 95 % interval of its score."
    table = _by_epoch(f"Every epoch's {metric} on dev, and its training loss in nats", analysis, cells)
    return Section("curves", "Learning curves", (), _plate(drawings, "curves", caption, table))


def _classes(analysis: StudyAnalysis, drawings: Drawings) -> Section | None:
    report = analysis.final_dev or analysis.dev
    if report is None:
        return None
    text = [f"{'The final model' if analysis.final_dev else 'The best cell'} on dev: {overall(report.metrics)}."]
    confusion = zip(report.labels, report.confusion, strict=True)
    counts = [[label, *(f"{count:,}" for count in row)] for label, row in confusion]
    plates = [
        *_plate(
            drawings,
            "confusion",
            "Confusion matrix: for the texts of each class, a row, the share and the number of every predicted class.",
            Table("Texts of each class by predicted class", ("truth", *report.labels), counts),
        ),
        *_plate(
            drawings,
            "classes",
            "Precision, recall and F1 of each class; in brackets its texts in dev.",
            _scores("Scores of each class on dev", report),
        ),
    ]
    if (calibration := analysis.calibration) is not None:
        text.append(
            f"The expected calibration error of {'the adjusted' if analysis.adjusted else 'its'} probabilities is "
            f"{percent(calibration.before.error)}; with a temperature of {calibration.temperature:.2f} it is "
            f"{percent(calibration.after.error)} on held-out folds."
        )
        rows = [
            [name, *(percent(share) for share in row)]
            for name, bins in (("without", calibration.before), ("with it, held out", calibration.after))
            for row in zip(bins.confidence, bins.accuracy, bins.share, strict=True)
        ]
        columns = ("temperature", "mean confidence", "accuracy", "texts")
        caption = "Accuracy by confidence, the probability of the predicted class. On the dashed line both are equal."
        plates += _plate(drawings, "calibration", caption, Table("Texts by confidence", columns, rows))
    tables = []
    if analysis.test is not None:
        text.append(f"The final model on the test split: {overall(analysis.test.metrics)}.")
        tables.append(_scores("Scores of each class on the test split", analysis.test))
    return Section("classes", "Classes", text, plates, tables)


def _interactions(analysis: StudyAnalysis) -> Section | None:
    if not analysis.interaction_checks:
        return None
    metric, checks = analysis.recipe.metric, analysis.interaction_checks
    rows = [
        [
            check.parameter,
            *(difference(metric, lead) for lead in (check.at_sweep, check.at_winner, check.interaction)),
        ]
        for check in checks
    ]
    text = [
        "A sweep assumes that its parameter does not interact with learning rate and epochs. An interaction check "
        "compares the two best levels of a sweep at the winning cell too.",
        *(to_html(interaction_check(check, metric)) for check in checks),
    ]
    columns = ("parameter", "lead in the sweep", "lead at the winner", "interaction")
    table = Table(f"Lead of the chosen level in {metric} on dev, with 95 % intervals", columns, rows, columns)
    return Section("interactions", "Interaction checks", text, tables=[table])


def _gains(analysis: StudyAnalysis) -> Section | None:
    if not analysis.gains:
        return None
    rows = [
        [gain.name, gain.metric, *_change(gain.metric, gain.on_dev), "kept" if gain.kept else "not kept", gain.detail]
        for gain in analysis.gains
    ]
    columns = ("gain", "metric", "without", "with", "p", "", "detail")
    tables = [Table("On dev", columns, rows, ("metric", "", "detail"))]
    opened = [[gain.name, gain.metric, *_change(gain.metric, gain.on_test)] for gain in analysis.gains if gain.on_test]
    if opened:
        caption = "The final model on the test split, by which nothing was decided"
        tables.append(Table(caption, columns[:5], opened, ("metric",)))
    text = ["Nothing more is trained for these. A gain is kept where the deciding metric does not lose by it."]
    return Section("gains", "Post-hoc gains", text, tables=tables)


def _change(metric: str, change: Change) -> list[str]:
    return [score(metric, change.before), score(metric, change.after), _p(change.p)]


def _cost(analysis: StudyAnalysis) -> Section:
    cost, text = analysis.cost, []
    if cost.tokens_per_second is not None:
        padding = f"; {percent(cost.padding_share)} of the computed tokens were padding" if cost.padding_share else ""
        text.append(f"The grid trained {cost.tokens_per_second:,.0f} tokens per second without padding{padding}.")
    if cost.mfu is not None:
        text.append(
            "The MFU of the grid (model FLOPs utilisation: BERT's matrix products against the measured peak) was "
            f"{percent(cost.mfu)}."
        )
    epochs = {"this study": cost.epochs, "the grid alone": cost.grid_epochs, "every combination": cost.product_epochs}
    times = {**cost.stages, "in all": cost.seconds}
    tables = [
        Table("Epochs", list(epochs), [[f"{number:,}" for number in epochs.values()]]),
        Table("Time of every stage", ("stage", "time"), [[name, duration(times[name])] for name in times]),
    ]
    return Section("cost", "Cost", text, tables=tables if cost.seconds else tables[:1])


def _data(analysis: StudyAnalysis) -> Section | None:
    if analysis.metadata is None or not (classes := analysis.metadata.classes):
        return None
    text = []
    if analysis.lengths is not None:
        limit = (analysis.winner or analysis.recipe).hyperparameters.max_length
        tokens = describe_tokens(analysis.lengths, limit)
        text.append(
            f"In the winning layout an input has {tokens.mean:.1f} tokens on average (median {tokens.median:g}, "
            f"maximum {tokens.max:,}); {percent(tokens.over)} are longer than {limit} tokens and are cut."
        )
    table = Table("Texts of each class", ("class", *classes), class_counts(classes))
    return Section("data", "Data", text, tables=[table])


def _reproduction(analysis: StudyAnalysis) -> Section:
    rows = [["study folder", analysis.folder], ["seed", str(analysis.recipe.seed)]]
    if (metadata := analysis.metadata) is not None:
        rows += [["hardware", metadata.hardware]] if metadata.hardware else []
        rows.append(["fingerprint of the data", metadata.fingerprint])
        rows += [[f"checkpoint {name}", identity] for name, identity in metadata.checkpoints.items()]
        rows += [[name, version] for name, version in metadata.versions.items()]
    listings = {"The recipe of the study": analysis.recipe.to_yaml()}
    if analysis.winner is not None:
        listings["The winner as a recipe"] = analysis.winner.to_yaml()
    table = Table("Environment of the study", ("", "value"), rows, ("value",))
    return Section("reproduction", "Reproduction", tables=[table], listings=listings)


def _plate(drawings: Drawings, name: str, caption: str, numbers: Table) -> list[Plate]:
    """Return a figure with its numbers; none where it was not drawn."""
    return [Plate(name, drawings[name].inline(), caption, numbers)] if name in drawings else []


def _by_epoch(caption: str, analysis: StudyAnalysis, cells: Mapping[tuple[float, int], str]) -> Table:
    epochs = figures.table_epochs(analysis)
    rows = [[f"{rate:g}", *(cells.get((rate, epoch), "") for epoch in epochs)] for rate in figures.table_rows(analysis)]
    return Table(caption, ("learning rate", *(f"epoch {epoch}" for epoch in epochs)), rows)


def _scores(caption: str, report: ClassReport) -> Table:
    return Table(caption, ("class", "texts", "precision", "recall", "F1"), by_class(report))


def _verdict(level: LevelAnalysis) -> str:
    if level.score is None:
        return WITHOUT_SCORE.get(level.status, "running")
    return "◀ chosen" if level.chosen else "≈ tied" if level.tied else ""


def _cell(analysis: StudyAnalysis, cell: CellAnalysis) -> str:
    if cell.score is None:
        return "diverged or failed"
    mark = " ★" if cell == analysis.best else " ≈" if cell.tied else ""
    return interval(analysis.recipe.metric, cell.score) + mark


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
