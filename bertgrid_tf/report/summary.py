"""A study on the terminal: its plan, its sweeps, its table, its final model, a split's scores."""

from collections.abc import Collection, Mapping
from shlex import quote

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from bertgrid_tf.budget import Decisions
from bertgrid_tf.plan import StudyPlan
from bertgrid_tf.report.format import score
from bertgrid_tf.report.measured import measured_line
from bertgrid_tf.report.times import times_table
from bertgrid_tf.results import Results
from bertgrid_tf.score.metrics import OVERALL, PER_CLASS, Direction
from tuners.table import Table as Scores

WITHOUT_SCORE = {"SKIPPED": "only level", "FAILED": "failed", "IDLE": "waiting"}


def plan_table(plan: StudyPlan) -> RenderableType:
    """The stages of a study with their cost, and what the full product would have cost."""
    grid = Grid(
        "stage",
        *(Column(name, justify="right") for name in ("runs", "epochs", "steps")),
        title="Plan",
        title_justify="left",
    )
    for stage in plan.stages:
        upper = "≤ " if stage.at_most else ""
        runs = "" if stage.at_most and stage.name != "final" else str(stage.runs)
        grid.add_row(stage.name, runs, f"{upper}{stage.epochs}", f"{upper}{stage.steps:,}")
    grid.add_section()
    grid.add_row("in all", str(plan.runs), f"≤ {plan.epochs}", f"≤ {plan.steps:,}")
    product = (
        f"Every combination of all levels would be {plan.product_runs:,} runs, {plan.product_epochs:,} epochs in all: "
        f"{plan.product_epochs / max(plan.epochs, 1):.1f} times as many epochs."
    )
    return Group(grid, Text(product))


def print_summary(console: Console, results: Results) -> None:
    """Prints what a study has found so far."""
    recipe, decisions = results.recipe(), Decisions(results.budget_file)
    chosen = decisions.chosen(recipe)
    lines: list[RenderableType] = [Text(f"{recipe.corpus}: {results.folder}", style="bold")]
    lines += [Text(measured_line(key, found)) for key, found in results.measured().items()]
    if sweeps := results.rows(results.sweeps_file):
        lines.append(_sweeps(sweeps, recipe.metric, [line["run"] for line in decisions.of("leave_out")]))
    if (table := results.table()) is not None:
        lines.append(_cells(table, recipe.metric))
        if chosen.search != "grid":
            left_out = int((~table.tried).sum())
            lines.append(Text(f"Search {chosen.search}: {left_out} of {table.tried.size} cells were left out (·)."))
    if table is not None and results.best_file.is_file():
        cell = table.best()
        settings = results.best().settings.model_dump()
        searched = {name: value for name, value in settings.items() if name in (*recipe.sweeps, "learning_rate")}
        winner = ", ".join(f"{name}={value}" for name, value in searched.items())
        found = f"{recipe.metric} {score(recipe.metric, cell.score)} after epoch {cell.epoch}"
        lines.append(Text(f"Winner: {winner}: {found} ({results.best_file})"))
        if (better := _better_sweep(sweeps, cell.score, recipe.direction())) is not None:
            run = f"{better['parameter']}={better['level']}"
            reached = score(recipe.metric, float(better["score"]))
            hint = (
                f"The sweep's run {run} scored better, {reached}: its schedule of {recipe.sweep_epochs} epochs may "
                f"suit better than the grid's of {chosen.epochs}; "
                f"try --epochs {recipe.sweep_epochs}, or --set grid=independent."
            )
            lines.append(Text(hint))
    if results.final_file.is_file():
        final = results.final()
        lines.append(Text(f"Final model {final.model}, epoch {len(final.epochs)} of {final.horizon}, on dev:"))
        lines.append(Text(_overall(final.epochs[-1])))
    if times := results.times():
        ended = results.final_file.is_file() or (results.best_file.is_file() and not recipe.final_models())
        lines.append(times_table(times, chosen, ended))
    lines += [Text(sentence) for sentence in decisions.sentences()]
    if results.model.is_dir():
        lines.append(Text(f"Label new texts with it: bertgrid-tf predict {quote(str(results.folder))} FILE -o OUT"))
    console.print(Group(*lines), highlight=False, soft_wrap=True)


def scores_table(
    labels: tuple[str, ...], metrics: Mapping[str, float], support: Mapping[str, int], title: str
) -> RenderableType:
    """Overall and per-class scores of one split."""
    grid = Grid(
        "class",
        *(Column(n, justify="right") for n in ("texts", *PER_CLASS)),
        title=escape(title),
        title_justify="left",
    )
    for label in labels:
        grid.add_row(
            escape(label),
            f"{support.get(label, 0):,}",
            *(score(m, metrics[f"{m}_{label}"]) for m in PER_CLASS),
        )
    return Group(grid, Text(_overall(metrics)))


def _overall(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {score(name, metrics[name])}" for name in OVERALL)


def _better_sweep(sweeps: list[dict[str, str]], best: float, direction: Direction) -> dict[str, str] | None:
    """The sweep's run that beat the grid's best cell, if one did."""
    scored = [row for row in sweeps if row["status"] == "COMPLETED"]
    sign = 1 if direction == "max" else -1
    top = max(scored, key=lambda row: sign * float(row["score"]), default=None)
    return top if top is not None and sign * float(top["score"]) > sign * best else None


def _sweeps(rows: list[dict[str, str]], metric: str, left_out: Collection[str]) -> RenderableType:
    grid = Grid(
        "sweep",
        "level",
        Column("epoch", justify="right"),
        Column(escape(metric), justify="right"),
        "",
        title="Sweeps",
        title_justify="left",
    )
    last = None
    for row in rows:
        if last not in (None, row["parameter"]):
            grid.add_section()
        first = row["parameter"] if row["parameter"] != last else ""
        last = row["parameter"]
        scored = row["status"] == "COMPLETED"
        value = score(metric, float(row["score"])) if scored else WITHOUT_SCORE.get(row["status"], "running")
        if f"{row['parameter']}={row['level']}" in left_out:
            value = "left out"
        chosen = row["chosen"] == "True"
        grid.add_row(
            first,
            escape(row["level"]),
            row["epoch"] if scored else "",
            value,
            "◀ chosen" if chosen else "",
            style="bold" if chosen else None,
        )
    return grid


def _cells(table: Scores, metric: str) -> RenderableType:
    title = f"{metric} on dev by learning rate and epoch" + ("" if metric == "loss" else ", percent")
    columns = [Column(str(epoch), justify="right") for epoch in range(1, table.epochs + 1)]
    grid = Grid("learning rate", *columns, title=escape(title), title_justify="left")
    best = None if np.isnan(table.scores).all() else table.best()
    for rate, scores, tried in zip(table.learning_rates, table.scores, table.tried, strict=True):
        cells = []
        for epoch, (value, known) in enumerate(zip(scores, tried, strict=True), start=1):
            text = score(metric, value).removesuffix(" %") if known else "·"
            is_best = best is not None and (best.learning_rate, best.epoch) == (rate, epoch)
            cells.append(f"[bold reverse]{text}*[/]" if is_best else f"{text} ")
        grid.add_row(f"{rate:g}", *cells)
    return grid
