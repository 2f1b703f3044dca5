"""Several studies side by side on the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column
from rich.text import Text

from bertgrid_tf.analysis import RankedCandidate, StudyAnalysis
from bertgrid_tf.recipe import differing_keys
from bertgrid_tf.report.format import duration, limits, score
from bertgrid_tf.report.table import terminal_table


def studies_table(studies: Sequence[StudyAnalysis], ranked: Sequence[RankedCandidate] | None) -> RenderableType:
    """Return a table with a column for every study: its winner, compared with the best of the winners, and its cost.

    Args:
        studies: Studies with the same metric.
        ranked: Their winners compared (`compare_studies`); None where they were not scored on the same texts.
    """
    metric = studies[0].recipe.metric
    grid = terminal_table("", *(Column(escape(study.folder), justify="right") for study in studies))
    best = [study.best.score if study.best else None for study in studies]
    rows: list[tuple[str, list[Any]]] = [
        (f"winner's {metric}", [estimate and score(metric, estimate.value) for estimate in best]),
        ("95 % interval", [estimate and limits(metric, estimate) for estimate in best]),
    ]
    if ranked is not None:
        marks = ["best" if one.best else "≈ best" if one.tied else f"worse, p {one.p:.2g}" for one in ranked]
        rows.append(("paired comparison", marks))
    rows += [
        ("always the largest class", [study.dev and score(metric, study.dev.baseline.always) for study in studies]),
        ("guessing by frequency", [study.dev and score(metric, study.dev.baseline.guessing) for study in studies]),
        ("after epoch", [study.best and study.best.epoch for study in studies]),
        ("tied set", [f"{len(study.tied)} of {len(study.cells)} cells" for study in studies]),
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
        return Group(
            grid, Text("The dev splits of the studies are not the same texts: their scores cannot be compared.")
        )
    return grid


def _value(study: StudyAnalysis, key: str) -> Any:
    value: Any = (study.winner or study.recipe).model_dump(mode="json")
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return ", ".join(f"{rate:g}" for rate in value) if key == "learning_rates" else value
