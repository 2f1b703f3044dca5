"""A suggestion on the terminal, with the studies that it rests on."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column
from rich.text import Text

from bertgrid_tf.bank.card import MetaFeatures
from bertgrid_tf.bank.studies import RecordedStudy
from bertgrid_tf.bank.suggest import Suggestion
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.report.table import terminal_table

_SOURCES = {"recorded": "recorded", "paper": "the paper's", "published": "published ranges", "user": "yours"}


def suggestion_text(suggestion: Suggestion) -> RenderableType:
    """Return the suggested settings, their probability, and the most alike studies."""
    one, features = suggestion, suggestion.features
    grid = terminal_table("setting", "suggested", "why", title="Suggested")
    grid.add_row("learning_rates", ", ".join(f"{rate:g}" for rate in one.learning_rates), _row(one))
    grid.add_row("epochs", str(one.epochs), _cell(one))
    if one.max_length is not None:
        longest = f"99 % of the inputs have at most {features.tokens_p99:g} tokens"
        grid.add_row("max_length", str(one.max_length), longest)
    grid.add_row("batch_size", str(one.batch_size), "what the studies below were recorded with")
    grid.add_row("warmup_ratio", f"{one.warmup_ratio:g}", "likewise")
    if one.score is not None:
        mean, deviation = one.score
        spread = score(features.metric, deviation).removesuffix(" %")
        grid.add_row("expected best score", f"{features.metric} {score(features.metric, mean)}", f"± {spread}")
    if one.epoch_seconds is not None:
        epochs = len(one.learning_rates) * one.epochs
        whole = f"{epochs} epochs: about {duration(epochs * one.epoch_seconds)}"
        grid.add_row("time of an epoch", f"about {duration(one.epoch_seconds)}", whole)
    columns = [Column(name, justify="right") for name in ("texts", "classes", "layers × width", "best cell")]
    studies = terminal_table(
        "study", "source", *columns, Column("distance", justify="right"), Column("weight", justify="right"),
        title="The most alike studies",
    )  # fmt: skip
    for neighbour in one.neighbours:
        card = neighbour.study.card
        best = "" if neighbour.learning_rate is None else f"{neighbour.learning_rate:g}, epoch {neighbour.epoch}"
        studies.add_row(
            escape(_name(neighbour.study)), _SOURCES[card.source], _number(card.texts), _number(card.classes),
            _size(card), best, f"{neighbour.distance:.2f}", f"{neighbour.weight:.0%}",
        )  # fmt: skip
    sure = (
        f"{one.unlike:.0%} of the suggestion rests on no study: there the best cell may be anywhere."
        if one.unlike >= 0.005
        else "The bank holds studies like this one."
    )
    return Group(grid, studies, Text(sure))


def _row(suggestion: Suggestion) -> str:
    return f"the likeliest row is {suggestion.learning_rate:g}, with {suggestion.row_probability:.0%}"


def _cell(suggestion: Suggestion) -> str:
    return f"the best cell lies in these rows and epochs with {suggestion.probability:.0%}"


def _name(study: RecordedStudy) -> str:
    return f"{study.name} ({study.card.date})" if study.card.source == "user" else study.name


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _size(features: MetaFeatures) -> str:
    return "" if features.layers is None else f"{features.layers} × {features.width}"
