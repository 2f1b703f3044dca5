"""A study on the terminal: its plan, its sweeps, its table, its final model, a split's scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from bertgrid_tf.analysis import (
    Change,
    ClassReport,
    InteractionCheck,
    PostHocGain,
    StudyAnalysis,
    SweepAnalysis,
    analyze,
)
from bertgrid_tf.budget.plan import StudyPlan
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.metrics.classification import OVERALL, PER_CLASS
from bertgrid_tf.metrics.compare import INTERACTS
from bertgrid_tf.report.auto_settings import measured_line
from bertgrid_tf.report.format import WITHOUT_SCORE, by_class, difference, interval, limits, overall, points, score
from bertgrid_tf.report.times import times_table
from bertgrid_tf.storage.study_folder import StudyFolder
from tuners.table import Table as Scores


def plan_table(plan: StudyPlan) -> RenderableType:
    """The stages of a study with their cost, and what the full product would have cost."""
    grid = Grid(
        "stage",
        *(Column(name, justify="right") for name in ("trials", "epochs", "steps")),
        title="Plan",
        title_justify="left",
    )
    for stage in plan.stages:
        upper = "≤ " if stage.at_most else ""
        runs = "" if stage.at_most and stage.name != "final" else str(stage.trials)
        grid.add_row(stage.name, runs, f"{upper}{stage.epochs}", f"{upper}{stage.steps:,}")
    grid.add_section()
    grid.add_row("in all", str(plan.trials), f"≤ {plan.epochs}", f"≤ {plan.steps:,}")
    product = (
        f"Every combination of all levels would be {plan.product_trials:,} trials, {plan.product_epochs:,} epochs in all: "
        f"{plan.product_epochs / max(plan.epochs, 1):.1f} times as many epochs."
    )
    return Group(grid, Text(product))


def print_summary(console: Console, study_folder: StudyFolder) -> None:
    """Prints what a study has found so far."""
    analysis, decisions = analyze(study_folder), BudgetLog(study_folder.budget_file)
    recipe = analysis.recipe
    chosen = decisions.chosen(recipe)
    lines: list[RenderableType] = [Text(f"{recipe.corpus}: {study_folder.path}", style="bold")]
    lines += [Text(measured_line(key, found)) for key, found in study_folder.read_auto_settings().items()]
    if analysis.sweeps:
        lines.append(_sweeps(analysis.sweeps, recipe.metric))
    if (table := study_folder.read_table()) is not None:
        lines.append(_cells(table, analysis))
        if chosen.search != "grid":
            left_out = int((~table.tried).sum())
            lines.append(Text(f"Search {chosen.search}: {left_out} of {table.tried.size} cells were left out (·)."))
    if analysis.best is not None:
        lines += [Text(sentence) for sentence in _answer(analysis)]
        if analysis.winner is not None and (better := _better_sweep(analysis)) is not None:
            hint = (
                f"The sweep's run {better} scored better: its schedule of {recipe.sweep_epochs} epochs may "
                f"suit better than the grid's of {chosen.epochs}; "
                f"try --epochs {recipe.sweep_epochs}, or --set grid_schedule=per-cell."
            )
            lines.append(Text(hint))
    lines += [Text(audit_sentence(audit, recipe.metric)) for audit in analysis.audits]
    if analysis.final is not None and analysis.final_dev is not None:
        final = analysis.final
        lines.append(Text(f"Final model {final.model}, epoch {len(final.epochs)} of {final.schedule_epochs}, on dev:"))
        lines.append(Text(_overall(analysis.final_dev, recipe.metric)))
    if analysis.test is not None:
        lines.append(Text("On the test split, which was opened:"))
        lines.append(Text(_overall(analysis.test, recipe.metric)))
    lines += [Text(_gain(gain)) for gain in analysis.gains]
    if times := study_folder.read_times():
        lines.append(times_table(times, chosen, analysis.ended))
    lines += [Text(sentence) for sentence in decisions.sentences()]
    if study_folder.report_file.is_file():
        lines.append(Text(f"Report: {study_folder.report_file}"))
    if study_folder.model.is_dir():
        lines.append(Text(f"Label new texts with it: bertgrid-tf predict {quote(str(study_folder.path))} FILE -o OUT"))
    console.print(Group(*lines), highlight=False, soft_wrap=True)


def _answer(analysis: StudyAnalysis) -> list[str]:
    """The winner, so far if the search goes on, and how sure that is."""
    best, recipe = analysis.best, analysis.recipe
    assert best is not None and best.score is not None
    metric, sentences = recipe.metric, []
    reached = f"{metric} {interval(metric, best.score)} after epoch {best.epoch}"
    if analysis.winner is not None:
        hyperparameters = analysis.winner.hyperparameters.model_dump()
        searched = {name: value for name, value in hyperparameters.items() if name in (*recipe.sweeps, "learning_rate")}
        winner = ", ".join(f"{name}={value}" for name, value in searched.items())
        sentences.append(f"Winner: {winner}: {reached} ({Path(analysis.folder, 'best.yaml')})")
    else:
        sentences.append(f"Best so far: learning_rate={best.learning_rate:g}: {reached}")
    scored = analysis.scored
    if (cheapest := analysis.cheapest_tie) is not None and len(analysis.tied) > 1:
        sentences.append(
            f"{len(analysis.tied)} of {scored} cells cannot be told from the best at 5 % (≈); the cheapest of them: "
            f"learning rate {cheapest.learning_rate:g}, epoch {cheapest.epoch}."
        )
    if analysis.optimism is not None:
        drop = points(metric, analysis.optimism)
        sentences.append(f"Being the best of {scored}, its score is expected to be {drop} too good.")
    for repeat in analysis.repeats:
        if (repeat.learning_rate, repeat.epoch) == (best.learning_rate, best.epoch):
            least, most = (score(metric, one) for one in (min(repeat.scores), max(repeat.scores)))
            sentences.append(f"It is the mean of {len(repeat.scores)} seeds, from {least} to {most}.")
    return sentences


def _gain(gain: PostHocGain) -> str:
    """What something better for free does."""
    on_test = "" if gain.on_test is None else f"; on test {_change(gain.metric, gain.on_test)}"
    kept = "kept" if gain.kept else "not kept"
    return f"{gain.name}: {gain.metric} {_change(gain.metric, gain.on_dev)}; {kept}{on_test}"


def _change(metric: str, change: Change) -> str:
    told = "" if change.p is None else f", p {change.p:.2g}"
    return f"{score(metric, change.before)} ▶ {score(metric, change.after)}{told}"


def scores_table(classes: ClassReport, metric: str, title: str) -> RenderableType:
    """Overall and per-class scores of one split."""
    grid = Grid(
        "class",
        *(Column(n, justify="right") for n in ("texts", *PER_CLASS)),
        title=escape(title),
        title_justify="left",
    )
    for label, *numbers in by_class(classes):
        grid.add_row(escape(label), *numbers)
    return Group(grid, Text(_overall(classes, metric)))


def variants(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The scores of the corrected final model and of the soup, a line each, and how far off probabilities are."""
    raw = metrics["final"]["calibration_error"]
    lines = [f"calibration error {100 * raw:.1f} points"]
    for name, found in metrics.items():
        if found != metrics["final"]:
            lines.append(f"{name}: {overall(found)}, calibration error {100 * found['calibration_error']:.1f} points")
    return lines


def _overall(classes: ClassReport, metric: str) -> str:
    """The scores of all classes together, that which the study is decided by first, with its interval."""
    others = (f"{name} {score(name, classes.metrics[name])}" for name in OVERALL if name != metric)
    return ", ".join([f"{metric} {interval(metric, classes.score)}", *others])


def _better_sweep(analysis: StudyAnalysis) -> str | None:
    """The sweep's run that beat the grid's best cell, if one did, with its score."""
    recipe, metric = analysis.recipe, analysis.recipe.metric
    assert analysis.best is not None and analysis.best.score is not None
    found = [
        (recipe.signed(level.score.value), f"{sweep.parameter}={level.level}, {score(metric, level.score.value)},")
        for sweep in analysis.sweeps
        for level in sweep.levels
        if level.score is not None
    ]
    value, run = max(found, key=lambda one: one[0], default=(-np.inf, None))
    return run if value > recipe.signed(analysis.best.score.value) else None


def _sweeps(sweeps: Sequence[SweepAnalysis], metric: str) -> RenderableType:
    columns = [Column(name, justify="right", no_wrap=True) for name in ("epoch", escape(metric), "95 % interval")]
    # Where there is little room a name goes on in the next line, and nothing of it is lost.
    names = [Column(name, overflow="fold") for name in ("sweep", "level")]
    grid = Grid(*names, *columns, Column(no_wrap=True), title="Sweeps", title_justify="left")
    for sweep in sweeps:
        several = sum(level.tied for level in sweep.levels) > 1
        for number, level in enumerate(sweep.levels):
            if level.score is not None:
                shown = score(metric, level.score.value), limits(metric, level.score)
            else:
                shown = WITHOUT_SCORE.get(level.status, "running"), ""
            marks = ["◀ chosen"] * level.chosen + ["≈"] * (level.tied and several)
            grid.add_row(
                "" if number else sweep.parameter,
                escape(str(level.level)),
                str(level.epoch or ""),
                *shown,
                " ".join(marks),
                style="bold" if level.chosen else None,
            )
        grid.add_section()
    return grid


def _cells(table: Scores, analysis: StudyAnalysis) -> RenderableType:
    metric, best = analysis.recipe.metric, analysis.best
    title = f"{metric} on dev by learning rate and epoch" + ("" if metric == "loss" else ", percent")
    if analysis.repeats:
        title += f"; means over {max(len(repeat.scores) for repeat in analysis.repeats)} seeds where there are several"
    columns = [Column(str(epoch), justify="right") for epoch in range(1, table.epochs + 1)]
    grid = Grid("learning rate", *columns, title=escape(title), title_justify="left")
    found = {(cell.learning_rate, cell.epoch): cell for cell in analysis.cells}
    for rate in table.learning_rates:
        cells = []
        for epoch in range(1, table.epochs + 1):
            cell = found.get((rate, epoch))
            value = np.nan if cell is None or cell.score is None else cell.score.value
            text = "·" if cell is None else score(metric, value).removesuffix(" %")
            if cell is not None and cell == best:
                cells.append(f"[bold reverse]{text}*[/]")
            else:
                cells.append(text + ("≈" if cell is not None and cell.tied else " "))
        grid.add_row(f"{rate:g}", *cells)
    return grid


def audit_sentence(audit: InteractionCheck, metric: str) -> str:
    """What the audit of a swept parameter says."""
    at_winner = difference(metric, audit.at_winner)
    levels = f"{audit.chosen} less {audit.runner_up}"
    said = f"Audit of {audit.parameter}: {audit.verdict}; {levels} at the winner: {at_winner}."
    if audit.verdict == INTERACTS:
        said += f" Try --set {audit.parameter}={audit.runner_up} with the winner's learning rate and epochs."
    return said
