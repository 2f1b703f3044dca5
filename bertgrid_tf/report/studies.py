"""Studies side by side on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from bertgrid_tf.analysis import RankedCandidate, StudyAnalysis
from bertgrid_tf.recipe import differing_keys
from bertgrid_tf.report.format import duration, limits, score


def studies_table(studies: Sequence[StudyAnalysis], ranked: Sequence[RankedCandidate] | None) -> RenderableType:
    """A column for every study: its winner, its cost, and whether its winner can be told from the best of them.

    Args:
        studies: with the same metric.
        ranked: their winners compared with each other; None where they were not scored on the same texts.
    """
    metric = studies[0].recipe.metric
    grid = Table("", *(Column(escape(study.folder), justify="right") for study in studies))
    rows: list[tuple[str, list[Any]]] = [
        (
            f"winner's {metric}",
            [study.best and study.best.score and score(metric, study.best.score.value) for study in studies],
        ),
        ("95 % interval", [study.best and study.best.score and limits(metric, study.best.score) for study in studies]),
    ]
    if ranked is not None:
        marks = ["best" if one.best else "≈ best" if one.tied else f"worse, p {one.p:.2g}" for one in ranked]
        rows.append(("compared, paired", marks))
    rows += [
        ("after epoch", [study.best and study.best.epoch for study in studies]),
        ("cells tied with it", [f"{len(study.tied)} of {len(study.cells)}" for study in studies]),
        ("test split", [study.test and score(metric, study.test.metrics[metric]) for study in studies]),
        ("epochs trained", [study.cost.epochs for study in studies]),
        ("time", [duration(study.cost.seconds) for study in studies]),
        ("final model", [study.final and study.final.model for study in studies]),
    ]
    first = studies[0].winner or studies[0].recipe
    for key in dict.fromkeys(
        key for study in studies[1:] for key in differing_keys(first, study.winner or study.recipe)
    ):
        rows.append((key, [_value(study, key) for study in studies]))
    for name, values in rows:
        if any(values):
            grid.add_row(name, *(escape(str(value)) if value not in (None, "") else "–" for value in values))
    if ranked is None:
        return Group(grid, Text("Their dev splits are not the same texts: the scores do not compare."))
    return grid


def _value(study: StudyAnalysis, key: str) -> Any:
    found: Any = (study.winner or study.recipe).model_dump(mode="json")
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return ", ".join(f"{one:g}" for one in found) if key == "learning_rates" else found
