"""A study on the terminal: its sweeps, its grid, its answer, its times."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Column
from rich.text import Text

from bertgrid_tf.analysis import Change, PostHocGain, StudyAnalysis, SweepAnalysis
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.metrics.classification import unit
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report.answer import answer, interaction_check, to_text
from bertgrid_tf.report.format import WITHOUT_SCORE, duration, limits, overall, score
from bertgrid_tf.report.plan import measured_line
from bertgrid_tf.report.table import terminal_table
from bertgrid_tf.storage.records import StageTime
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.system.terminal import is_narrow
from bertgrid_tf.trial_config import AFTER_SEARCH
from tuners.table import Table


def print_summary(console: Console, folder: StudyFolder, analysis: StudyAnalysis) -> None:
    """Print a study, ended or still running.

    Args:
        console: Where to print.
        folder: The study's, with auto settings, times and budget.
        analysis: The study's.
    """
    recipe, log = analysis.recipe, BudgetLog(folder.budget_file)
    searched = log.chosen(recipe)
    lines: list[RenderableType] = [Text(f"{recipe.corpus}: {folder.path}", style="bold")]
    lines += [Text(measured_line(key, setting)) for key, setting in folder.read_auto_settings().items()]
    if analysis.sweeps:
        lines.append(_sweeps(analysis.sweeps, recipe.metric))
    if (table := folder.read_table()) is not None:
        lines.append(_cells(table, analysis))
        if searched.search != "grid":
            left_out = int((~table.tried).sum())
            lines.append(Text(f"Search {searched.search}: {left_out} of {table.tried.size} cells were left out (·)."))
            if (confidence := folder.read_confidence()) is not None:
                sure = f"within one standard error of the full grid's best with a probability of {confidence.tied:.0%}"
                lines.append(Text(f"The best cell is {sure}, as the search expects the rest of the table to be."))
    lines += [to_text(sentence) for sentence in answer(analysis)]
    lines += [Text(sentence) for sentence in _better_sweep(analysis, searched)]
    lines += [to_text(interaction_check(check, recipe.metric)) for check in analysis.interaction_checks]
    for split, report in (("dev", analysis.final_dev), ("the test split", analysis.test)):
        if report is not None:
            lines.append(Text(f"On {split} the final model has {overall(report.metrics, recipe.metric)}."))
    lines += [Text(_gain(gain)) for gain in analysis.gains]
    if times := folder.read_times():
        lines.append(times_table(times, searched, analysis.ended))
    lines += [Text(sentence) for sentence in log.sentences()]
    if analysis.winner is not None:
        lines.append(Text(f"Winner as a recipe: {folder.best_file}"))
    if folder.report_file.is_file():
        lines.append(Text(f"Report: {folder.report_file}"))
    if analysis.predict_command:
        lines.append(Text(f"Label new texts: {analysis.predict_command}"))
    console.print(Group(*lines), highlight=False, soft_wrap=True)


def _gain(gain: PostHocGain) -> str:
    on_test = "" if gain.on_test is None else f"; on test {_change(gain.metric, gain.on_test)}"
    kept = "kept" if gain.kept else "not kept"
    change = _change(gain.metric, gain.on_dev)
    return f"Post-hoc gain, {gain.name}: {gain.metric} {change}; {kept}{on_test}. {gain.detail}"


def _change(metric: str, change: Change) -> str:
    p = "" if change.p is None else f", p {change.p:.2g}"
    return f"{score(metric, change.before)} ▶ {score(metric, change.after)}{p}"


def _better_sweep(analysis: StudyAnalysis, searched: Recipe) -> list[str]:
    """Return a hint where a sweep's trial has beaten the winner, whose schedule is another."""
    recipe, best = analysis.recipe, analysis.best
    scored = [
        (recipe.signed(level.score.value), f"{sweep.parameter}={level.level}", level.score.value)
        for sweep in analysis.sweeps
        for level in sweep.levels
        if level.score is not None and not level.overruled
    ]
    signed, trial, value = max(scored, key=lambda level: level[0], default=(-np.inf, "", 0.0))
    if analysis.winner is None or best is None or best.score is None or signed <= recipe.signed(best.score.value):
        return []
    if not analysis.winner.hyperparameters.needs_horizon:
        return []
    return [
        f"The sweep's trial {trial}, {score(recipe.metric, value)}, scored better: its schedule of "
        f"{recipe.sweep_epochs} epochs may suit better than the grid's of {searched.epochs}; try --epochs "
        f"{recipe.sweep_epochs}, or --set grid_schedule=per-cell."
    ]


def _sweeps(sweeps: Sequence[SweepAnalysis], metric: str) -> RenderableType:
    narrow = is_narrow()
    columns = [Column(name, justify="right", no_wrap=True) for name in ("epoch", escape(metric))]
    columns += [Column("95 % interval", justify="right", no_wrap=not narrow), Column(no_wrap=True)]
    grid = terminal_table("sweep", "level", *columns, title="Sweeps")
    mark = "◀" if narrow else "◀ chosen"
    for sweep in sweeps:
        several = sum(level.tied for level in sweep.levels) > 1
        for number, level in enumerate(sweep.levels):
            shown = WITHOUT_SCORE.get(level.status, "running"), ""
            if level.score is not None:
                shown = score(metric, level.score.value), limits(metric, level.score)
            grid.add_row(
                "" if number else sweep.parameter,
                escape(str(level.level)),
                str(level.epoch or ""),
                *shown,
                " ".join([mark] * level.chosen + ["≈"] * (level.tied and several) + ["later"] * level.overruled),
                style="bold" if level.chosen else None,
            )
        grid.add_section()
    return grid


def _cells(table: Table, analysis: StudyAnalysis) -> RenderableType:
    metric = analysis.recipe.metric
    title = f"{metric} on dev by learning rate and epoch" + (", percent" if unit(metric) == "%" else "")
    if analysis.seed_repeats:
        title += f"; means over up to {max(len(cell.scores) for cell in analysis.seed_repeats)} seeds"
    rows = [["learning rate", *map(str, range(1, table.epochs + 1))]]
    cells = {(cell.learning_rate, cell.epoch): cell for cell in analysis.cells}
    for rate in table.learning_rates:
        row = []
        for epoch in range(1, table.epochs + 1):
            cell = cells.get((rate, epoch))
            if cell is None:
                row.append("· ")
                continue
            text = score(metric, cell.score.value if cell.score else np.nan).removesuffix(" %")
            best = cell == analysis.best
            row.append(f"[bold reverse]{text}*[/]" if best else text + ("≈" if cell.tied else " "))
        rows.append([f"{rate:g}", *row])
    # A row's head, and cells of two digits, two decimals and a mark, with their rules.
    least = 14 + 7 * table.epochs
    if is_narrow(least) and len(table.learning_rates) < table.epochs:
        rows = [["epoch", *rows[0][1:]], *rows[1:]]
        rows = [list(column) for column in zip(*rows, strict=True)]
    columns = [Column(head, justify="right") for head in rows[0][1:]]
    grid = terminal_table(rows[0][0], *columns, title=escape(title))
    if is_narrow(least + 2 * len(rows[0])):
        grid.padding = 0
    for row in rows[1:]:
        grid.add_row(*row)
    return grid


def times_table(times: Sequence[StageTime], searched: Recipe, ended: bool) -> RenderableType:
    """Return the measured and the predicted time of every stage, with the error in percent of the measured time.

    A stage that has not ended has no error, and neither has a prediction that is only an upper bound: of a search that
    leaves cells out, and of a stage after the search before its winner was known.

    Args:
        times: The stages in order.
        searched: The recipe, or the part of it that fitted the budget.
        ended: Whether the study has ended.
    """
    columns = [Column(name, justify="right") for name in ("took", "predicted when it began", "after the first epoch")]
    grid = terminal_table("stage", *columns, title="Time")
    shown = [time for time in times if time.measured]
    for number, time in enumerate(shown, start=1):
        over = ended or number < len(shown)
        bound = time.stage == "grid" and searched.search != "grid"
        grid.add_row(
            time.stage,
            duration(time.measured),
            _predicted(time.at_beginning, time.measured, bound, over),
            _predicted(time.after_first_epoch, time.measured, bound or time.stage in AFTER_SEARCH, over),
        )
    grid.add_section()
    grid.add_row("in all", duration(sum(time.measured for time in times)))
    return grid


def _predicted(seconds: float | None, measured: float, at_most: bool, over: bool) -> str:
    if seconds is None:
        return ""
    if at_most:
        return f"≤ {duration(seconds)}"
    return duration(seconds) + (f" ({seconds / measured - 1:+.0%})" if over else "")
