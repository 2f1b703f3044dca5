"""The final model at work on the terminal: the scores of a split, a warning of label shift."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Column
from rich.text import Text

from bertgrid_tf.analysis import ClassReport
from bertgrid_tf.inference.predict import PredictionSummary
from bertgrid_tf.metrics.classification import OVERALL, PER_CLASS
from bertgrid_tf.report.answer import baselines, to_text, unbeaten
from bertgrid_tf.report.format import by_class, interval, overall, score
from bertgrid_tf.report.table import terminal_table


def scores_table(report: ClassReport, metric: str, corpus: str, split: str) -> RenderableType:
    """Return the scores of a split class by class, the metrics over all classes, the deciding one first, and baselines.

    Where the final model is not better than the baselines, a sentence that says so comes first.
    """
    columns = [Column(name, justify="right") for name in ("texts", *PER_CLASS)]
    grid = terminal_table("class", *columns, title=escape(f"{corpus}, {split} split"))
    for label, *numbers in by_class(report):
        grid.add_row(escape(label), *numbers)
    shown = [name for name in OVERALL if name in report.metrics and name != metric]
    others = [f"{name} {score(name, report.metrics[name])}" for name in shown]
    warning = [to_text(sentence) for sentence in unbeaten(metric, report, "the final model", split)]
    scores = Text(", ".join([f"{metric} {interval(metric, report.score)}", *others]))
    return Group(*warning, grid, scores, to_text(f"Baselines: {baselines(metric, report.baseline)}."))


def variants(metrics: Mapping[str, Mapping[str, float]], metric: str) -> list[str]:
    """Return a line each for the corrected final model and the soup, after the final model's calibration error."""

    def error(of: Mapping[str, float]) -> str:
        return f"calibration error {100 * of['calibration_error']:.1f} points"

    final = metrics["final"]
    others = [f"{name}: {overall(of, metric)}, {error(of)}" for name, of in metrics.items() if of != final]
    return [error(final), *others]


def warnings(summary: PredictionSummary, metric: str, dev: ClassReport | None, soup: bool) -> list[Text]:
    """Return a warning of labels that are all the same, and of a model that is not better on dev than a baseline.

    Args:
        summary: The predictions.
        metric: The study's metric.
        dev: The scores of the model on dev; None if unknown.
        soup: Whether the model is the soup.
    """
    alike = [Text(f"All {summary.texts:,} texts are labelled {summary.only_label}.")] if summary.only_label else []
    sentences = unbeaten(metric, dev, "the soup" if soup else "the final model", "dev") if dev else []
    return alike + [to_text(sentence) for sentence in sentences]


def shift_sentence(summary: PredictionSummary) -> str:
    """Return a warning of label shift, a difference between the classes' shares in the texts and in dev, or nothing."""
    shift = summary.shift
    if shift is None or not shift.detected:
        return ""
    shares = ", ".join(f"{label} {share:.0%}" for label, share in zip(summary.labels, shift.priors, strict=True))
    sentence = f"Their classes seem to come in other shares than dev's (p = {shift.test.p:.2g})"
    if summary.shift_corrected:
        return f"{sentence}, which the labels allow for: {shares}."
    if shift.correctable:
        return f"{sentence}: {shares}; --correct-shift allows for that."
    return f"{sentence}; which ones these texts cannot tell, since a class would vanish."
