"""A study's report as one HTML file that needs nothing else: no network, no script."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from markupsafe import Markup

from bertgrid_tf.analysis import CellAnalysis, Change, ClassReport, LevelAnalysis, StudyAnalysis
from bertgrid_tf.corpus import describe_tokens
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.report import figures
from bertgrid_tf.report.format import (
    WITHOUT_SCORE,
    by_class,
    count_of,
    difference,
    duration,
    interval,
    limits,
    overall,
    percent,
    points,
    score,
)
from bertgrid_tf.storage.files import write_text

TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class Table:
    """Numbers for a reader.

    Attributes:
        caption: what they are.
        columns: the head of each.
        rows: a row's cells, the first of which heads it.
        words: the columns of words, which are set left and may take several lines.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[str] = ()


@dataclass(frozen=True)
class Plate:
    """A figure: its SVG element, its caption, and its numbers, which open on demand."""

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


def render(analysis: StudyAnalysis) -> str:
    """The report of a study, finished or not, as an HTML document; the same bytes for the same evidence."""
    from jinja2 import Environment, StrictUndefined

    drawn = {name: figures.inline(name, figure) for name, figure in figures.draw(analysis).items()}
    sections = [
        _sweeps(analysis, drawn),
        _grid(analysis, drawn),
        _curves(analysis, drawn),
        _classes(analysis, drawn),
        _audit(analysis),
        _gains(analysis),
        _cost(analysis, drawn),
        _data(analysis, drawn),
        _again(analysis),
    ]
    rules = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return rules.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        analysis=analysis,
        ended=analysis.ended,
        answer=_answer(analysis),
        sections=[section for section in sections if section is not None],
        colours=figures.COLOURS,
    )


def write(analysis: StudyAnalysis, path: Path) -> None:
    """Writes `render`'s document, whole or not at all. Raises UserError where that fails."""
    write_text(path, render(analysis))


def _answer(analysis: StudyAnalysis) -> list[Markup]:
    """The study in one paragraph, sentence by sentence."""
    recipe, cost = analysis.recipe, analysis.cost
    metric, strong = recipe.metric, Markup("<strong>{}</strong>").format
    sentences = _best(analysis)
    if analysis.final is not None:
        reached = strong(score(metric, analysis.final.epochs[-1][metric]))
        sure = "" if analysis.final_dev is None else f" (95 % interval {limits(metric, analysis.final_dev.score)})"
        sentences.append(Markup("The final model, {}, has {}{} on dev.").format(analysis.final.model, reached, sure))
    elif analysis.winner is not None and not analysis.ended:
        sentences.append(Markup("The final model is not trained so far."))
    if analysis.test is not None:
        sentences.append(
            Markup("On the sealed test split it has {} (95 % interval {}).").format(
                strong(score(metric, analysis.test.score.value)), limits(metric, analysis.test.score)
            )
        )
    if cost.epochs:
        sentences.append(
            Markup("{} {} epochs{}; every combination of all levels would take {:,}.").format(
                "That took" if analysis.ended else "So far it took",
                strong(f"{cost.epochs:,}"),
                Markup(" and {}").format(strong(duration(cost.seconds))) if cost.seconds else "",
                cost.product_epochs,
            )
        )
    return sentences


def _best(analysis: StudyAnalysis) -> list[Markup]:
    """The best cell, and how sure it is."""
    metric, best, cheapest = analysis.recipe.metric, analysis.best, analysis.cheapest_tie
    if best is None or best.score is None:
        return [Markup("No cell of the learning-rate × epoch table has a score so far.")]
    strong, setting = Markup("<strong>{}</strong>").format, Markup(", <code>{}={}</code>").format
    sentences = [
        Markup("Best{} on dev: {} {} (95 % interval {}) after epoch {} of {} at learning rate {}{}.").format(
            "" if analysis.winner else " so far",
            metric,
            strong(score(metric, best.score.value)),
            limits(metric, best.score),
            strong(best.epoch),
            analysis.recipe.epochs,
            strong(f"{best.learning_rate:g}"),
            Markup("").join(setting(*pair) for pair in _levels(analysis).items()),
        )
    ]
    tied, scored = len(analysis.tied), analysis.scored
    if tied > 1 and cheapest is not None and cheapest.score is not None:
        cheaper = Markup("the cheapest of them is epoch {} at learning rate <span>{:g}</span> ({})").format(
            cheapest.epoch, cheapest.learning_rate, score(metric, cheapest.score.value)
        )
        if cheapest.epoch == best.epoch:
            cheaper = Markup("none of them takes fewer epochs")
        sentences.append(Markup("{} of {} cells cannot be told from it at 5 %; {}.").format(tied, scored, cheaper))
    elif tied == 1 < scored:
        sentences.append(Markup("It can be told from each of the other {} cells at 5 %.").format(scored - 1))
    if analysis.optimism is not None:
        sentences.append(
            Markup("As the best of {} it is expected to look {} better than it is.").format(
                scored, points(metric, analysis.optimism)
            )
        )
    return sentences


def _sweeps(analysis: StudyAnalysis, drawn: Mapping[str, str]) -> Section | None:
    if not analysis.sweeps:
        return None
    recipe = analysis.recipe
    text = [
        f"Each parameter was varied alone, at learning rate {recipe.hyperparameters.learning_rate:g} for "
        f"{recipe.sweep_epochs} epochs, and then kept at its best level."
    ]
    if undecided := [sweep.parameter for sweep in analysis.sweeps if not any(level.chosen for level in sweep.levels)]:
        text.append(f"Not decided so far: {', '.join(undecided)}.")
    rows = [
        [
            f"{sweep.parameter}={level.level}",
            str(level.epoch or ""),
            score(recipe.metric, level.score.value) if level.score else "",
            limits(recipe.metric, level.score) if level.score else "",
            _p(level.p),
            _verdict(level),
        ]
        for sweep in analysis.sweeps
        for level in sweep.levels
    ]
    columns = ("level", "epoch", recipe.metric, "95 % interval", "p against the best", "")
    table = Table("The levels of every sweep", columns, rows, ("",))
    caption = (
        "Every level at its best epoch, with the 95 % interval of its score over dialogues. ◆ is the chosen level; "
        "● cannot be told from the best at 5 % (Holm-adjusted), ○ can."
    )
    plates = _plate(drawn, "sweeps", caption, table)
    return Section("sweeps", "Sweeps", text, plates, [] if plates else [table])


def _grid(analysis: StudyAnalysis, drawn: Mapping[str, str]) -> Section | None:
    if not analysis.cells:
        return None
    metric, rows, epochs = analysis.recipe.metric, figures.table_rows(analysis), figures.table_epochs(analysis)
    signs = ["★ is the best cell", "an outline marks those that cannot be told from it at 5 % (Holm-adjusted)"]
    if any(cell.score is None for cell in analysis.cells):
        signs.append("× diverged or failed")
    if len(analysis.cells) < len(rows) * len(epochs):
        signs.append("· was left out by the search" if analysis.winner else "· is not tried so far")
    unit = "in nats" if metric.endswith("loss") else "in percent"
    several = ", the mean over its seeds where it has several" if analysis.repeats else ""
    caption = f"After every epoch of every learning rate: {metric} on dev, {unit}{several}. {'; '.join(signs)}."
    found = {(cell.learning_rate, cell.epoch): _cell(analysis, cell) for cell in analysis.cells}
    table = _by_epoch(f"Every cell's {metric} on dev, with its 95 % interval", rows, epochs, found)
    return Section("grid", "Learning rate × epoch", (), _plate(drawn, "grid", caption, table), _repeats(analysis))


def _repeats(analysis: StudyAnalysis) -> list[Table]:
    if not analysis.repeats:
        return []
    metric, seeds = analysis.recipe.metric, max(len(repeat.scores) for repeat in analysis.repeats)
    rows = [
        [
            f"{repeat.learning_rate:g}, epoch {repeat.epoch}",
            *(score(metric, one) for one in repeat.scores),
            *[""] * (seeds - len(repeat.scores)),
            score(metric, fmean(repeat.scores)),
        ]
        for repeat in analysis.repeats
    ]
    columns = ("cell", *(f"seed {number}" for number in range(1, seeds + 1)), "mean")
    return [Table(f"Rows trained with several seeds: {metric} on dev", columns, rows)]


def _curves(analysis: StudyAnalysis, drawn: Mapping[str, str]) -> Section | None:
    if "curves" not in drawn:
        return None
    metric, found = analysis.recipe.metric, {}
    for cell in analysis.cells:
        told = [score(name, cell.metrics[name]) for name in (metric, "train_loss") if name in cell.metrics]
        found[cell.learning_rate, cell.epoch] = ", ".join(told) if cell.score else "diverged or failed"
    caption = "A line for every learning rate. The ring is the best cell, the band the 95 % interval of its score."
    rows, epochs = figures.table_rows(analysis), figures.table_epochs(analysis)
    table = _by_epoch(f"Every epoch's {metric} on dev, and its training loss in nats", rows, epochs, found)
    return Section("curves", "Learning curves", (), _plate(drawn, "curves", caption, table))


def _classes(analysis: StudyAnalysis, drawn: Mapping[str, str]) -> Section | None:
    classes = analysis.final_dev or analysis.dev
    if classes is None:
        return None
    text = [f"{'The final model' if analysis.final_dev else 'The best cell'} on dev: {overall(classes.metrics)}."]
    tables = []
    counts = [
        [label, *(f"{count:,}" for count in row)] for label, row in zip(classes.labels, classes.confusion, strict=True)
    ]
    plates = _plate(
        drawn,
        "confusion",
        "What the texts of each class, a row, were taken for: the share of the row, and how many texts.",
        Table("Texts of each class by the class predicted", ("truth", *classes.labels), counts),
    )
    plates += _plate(
        drawn,
        "classes",
        "Precision, recall and F1 of each class; in brackets, how many of its texts dev has.",
        _scores("Scores of each class on dev", classes),
    )
    if (found := analysis.calibration) is not None:
        text.append(
            f"Its probabilities{', once adjusted,' if analysis.adjusted else ''} are off by "
            f"{score('', found.before.error)} (expected calibration error); with a "
            f"temperature of {found.temperature:.2f}, fitted on other dialogues than those measured, by "
            f"{score('', found.after.error)}."
        )
        rows = [
            [name, *(percent(one) for one in row)]
            for name, of in (("without a temperature", found.before), ("with it, held out", found.after))
            for row in zip(of.confidence, of.accuracy, of.share, strict=True)
        ]
        plates += _plate(
            drawn,
            "calibration",
            "How often a prediction is right by the probability given to it. On the dashed line 80 % means right in 80 "
            "of 100.",
            Table(
                "Texts by the probability of the predicted class",
                ("probabilities", "their mean", "right", "texts"),
                rows,
            ),
        )
    if analysis.test is not None:
        text.append(f"The final model on the test split: {overall(analysis.test.metrics)}.")
        tables.append(_scores("Scores of each class on the test split", analysis.test))
    return Section("classes", "ClassReport", text, plates, tables)


def _audit(analysis: StudyAnalysis) -> Section | None:
    if not analysis.audits:
        return None
    metric = analysis.recipe.metric
    rows = [
        [
            audit.parameter,
            difference(metric, audit.at_sweep),
            difference(metric, audit.at_winner),
            difference(metric, audit.interaction),
        ]
        for audit in analysis.audits
    ]
    text = [
        "A sweep takes its parameter to be independent of learning rate and epochs. Its two best levels were therefore "
        "compared again at the winning cell.",
        *(f"{one.parameter}, {one.chosen} against {one.runner_up}: {one.verdict}." for one in analysis.audits),
    ]
    columns = ("parameter", "lead in the sweep", "lead at the winner", "change")
    table = Table(f"Lead of the chosen level in {metric} on dev, with 95 % intervals", columns, rows, columns)
    return Section("audit", "Were the sweeps independent?", text, tables=[table])


def _gains(analysis: StudyAnalysis) -> Section | None:
    if not analysis.gains:
        return None
    rows = [
        [gain.name, gain.metric, *_change(gain.metric, gain.on_dev), "kept" if gain.kept else "not kept", gain.detail]
        for gain in analysis.gains
    ]
    columns = ("what", "judged by", "without", "with", "p", "", "how")
    tables = [Table("On dev, without training anything more", columns, rows, ("judged by", "", "how"))]
    opened = [[gain.name, gain.metric, *_change(gain.metric, gain.on_test)] for gain in analysis.gains if gain.on_test]
    if opened:
        caption = "The final model on the test split, by which nothing was decided"
        tables.append(Table(caption, columns[:5], opened, ("judged by",)))
    return Section("gains", "Better for free", ["What loses nothing in return is kept."], tables=tables)


def _change(metric: str, change: Change) -> list[str]:
    return [score(metric, change.before), score(metric, change.after), _p(change.p)]


def _cost(analysis: StudyAnalysis, drawn: Mapping[str, str]) -> Section:
    cost, so_far = analysis.cost, "" if analysis.ended else " so far"
    text = [
        f"The study trained {cost.epochs:,} epochs{so_far}. The plain grid alone has {cost.grid_epochs:,}, every "
        f"combination of all levels {cost.product_epochs:,}."
    ]
    if cost.tokens_per_second is not None:
        padding = (
            "" if cost.padding_share is None else f"; {percent(cost.padding_share)} of those computed were padding"
        )
        text.append(f"The grid trained {cost.tokens_per_second:,.0f} tokens a second, padding not counted{padding}.")
    if cost.limit_share is not None:
        text.append(
            "At the best rate at which matrices were multiplied here, a plain BERT's products with those tokens would "
            f"alone take {percent(cost.limit_share)} of the training time."
        )
    rows = [
        ["this study", f"{cost.epochs:,} epochs"],
        ["plain grid", f"{cost.grid_epochs:,} epochs"],
        ["full product", f"{cost.product_epochs:,} epochs"],
        *([stage, duration(seconds)] for stage, seconds in cost.stages.items()),
        ["all stages", duration(cost.seconds)],
    ]
    table = Table(f"Epochs and times{so_far}", ("what", "cost"), rows)
    caption = f"Epochs{so_far}, beside those of other ways to search, and the time of every stage."
    return Section("cost", "Cost", text, _plate(drawn, "cost", caption, table))


def _data(analysis: StudyAnalysis, drawn: Mapping[str, str]) -> Section | None:
    data = analysis.data
    if not data.classes:
        return None
    text, caption = [], "How the classes are distributed in each split"
    if data.lengths is not None:
        found = describe_tokens(data.lengths, data.max_length)
        text.append(
            f"A training input has {found.mean:.1f} tokens on average, half of them have {found.median:g} or less, the "
            f"longest {found.max:,}; {percent(found.over)} are longer than {data.max_length} and are cut."
        )
        caption += ", and how long the training inputs are in the winning layout"
    labels = dict.fromkeys(label for counts in data.classes.values() for label in counts)
    totals = {split: sum(counts.values()) for split, counts in data.classes.items()}
    rows = [
        [label, *(count_of(counts.get(label, 0), totals[split]) for split, counts in data.classes.items())]
        for label in labels
    ]
    rows.append(["in all", *(f"{total:,}" for total in totals.values())])
    table = Table("Texts of each class", ("class", *data.classes), rows)
    return Section("data", "Data", text, _plate(drawn, "data", f"{caption}.", table))


def _again(analysis: StudyAnalysis) -> Section:
    rows = [["results folder", analysis.folder], ["seed", str(analysis.recipe.seed)]]
    if analysis.hardware:
        rows.append(["hardware", analysis.hardware])
    if (metadata := analysis.metadata) is not None:
        rows.append(["fingerprint of the data", metadata.fingerprint])
        rows += [[f"checkpoint {name}", identity] for name, identity in metadata.checkpoints.items()]
        rows += [[name, version] for name, version in metadata.versions.items()]
    listings = {"The recipe as run": analysis.recipe.to_yaml()}
    if analysis.winner is not None:
        listings["The winner as a recipe"] = analysis.winner.to_yaml()
    table = Table("What the study ran on", ("what", "value"), rows, ("value",))
    return Section("follow_up", "To repeat it", tables=[table], listings=listings)


def _plate(drawn: Mapping[str, str], name: str, caption: str, numbers: Table) -> list[Plate]:
    """A figure; none where it was not drawn."""
    # The SVG is markup of our own, in which what comes from outside is escaped.
    return [Plate(name, Markup(drawn[name]), caption, numbers)] if name in drawn else []


def _by_epoch(
    caption: str, rates: Collection[float], epochs: Sequence[int], cells: Mapping[tuple[float, int], str]
) -> Table:
    rows = [[f"{rate:g}", *(cells.get((rate, epoch), "") for epoch in epochs)] for rate in rates]
    return Table(caption, ("learning rate", *(f"epoch {epoch}" for epoch in epochs)), rows)


def _scores(caption: str, classes: ClassReport) -> Table:
    return Table(caption, ("class", "texts", "precision", "recall", "F1"), by_class(classes))


def _levels(analysis: StudyAnalysis) -> dict[str, Value]:
    """The levels that the winner has; while there is none, those that have been chosen."""
    if analysis.winner is not None:
        return {name: getattr(analysis.winner.hyperparameters, name) for name in analysis.recipe.sweeps}
    return {sweep.parameter: level.level for sweep in analysis.sweeps for level in sweep.levels if level.chosen}


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
