"""The answer of a study in sentences, for the terminal, the page, the notebook and the model card.

A sentence is Markdown of `**bold**` and `` `code` `` alone.
"""

import re
from statistics import fmean

from markupsafe import Markup
from rich.text import Text

from bertgrid_tf.analysis import ClassReport, InteractionCheck, ScoreEstimate, StudyAnalysis
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.metrics.classification import OF_PROBABILITIES, direction
from bertgrid_tf.metrics.compare import INTERACTS, Baseline
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report.format import difference, duration, limits, points, score
from bertgrid_tf.storage.records import LIKELY_ERROR


def answer(analysis: StudyAnalysis) -> list[str]:
    """Return the score, the settings, the final model, how certain they are, the likely label errors and the cost."""
    return [*headline(analysis), *certainty(analysis), *label_errors(analysis), *cost(analysis)]


def headline(analysis: StudyAnalysis) -> list[str]:
    """Return the lines that stand first: what is not better than chance, the score, the settings, the final model."""
    return [*not_better(analysis), best_score(analysis), *settings(analysis), *final_model(analysis)]


def certainty(analysis: StudyAnalysis) -> list[str]:
    """Return how certain the score is: the tied set, first epochs in it, better levels, the optimism, the seeds."""
    return [
        *tied_set(analysis),
        *first_epochs(analysis),
        *overruled(analysis),
        *optimism(analysis),
        *seeds(analysis),
    ]


def to_text(sentence: str) -> Text:
    """Render a sentence for the terminal.

    Example:
        >>> to_text("Winner: `learning_rate=0.001`: accuracy **75.00 %**.").plain
        'Winner: learning_rate=0.001: accuracy 75.00 %.'
    """
    styles = {"": "", "strong": "bold", "code": "cyan"}
    return Text.assemble(*((part, styles[tag]) for part, tag in _segments(sentence)))


def to_html(sentence: str) -> Markup:
    """Render a sentence as HTML, with everything but its mark-up escaped.

    Example:
        >>> to_html("accuracy **0.75** of `<model>`")
        Markup('accuracy <strong>0.75</strong> of <code>&lt;model&gt;</code>')
    """
    segments = _segments(sentence.replace(" %", "\u00a0%"))
    return Markup("").join(Markup(f"<{tag}>{{}}</{tag}>").format(part) if tag else part for part, tag in segments)


def _segments(sentence: str) -> list[tuple[str, str]]:
    """Split a sentence into text without mark-up and its HTML tag, which is empty for plain text."""
    parts = re.split(r"\*\*(.+?)\*\*|`(.+?)`", sentence)
    return [(part, ("", "strong", "code")[number % 3]) for number, part in enumerate(parts) if part]


def not_better(analysis: StudyAnalysis) -> list[str]:
    """Return which models of a study are not better than one that reads no text."""
    metric, best = analysis.recipe.metric, "the winner" if analysis.winner else "the best cell so far"
    on_dev = unbeaten(metric, analysis.dev, best, "dev") if analysis.dev else []
    if not on_dev and analysis.final_dev:
        on_dev = unbeaten(metric, analysis.final_dev, "the final model", "dev")
    on_test = unbeaten(metric, analysis.test, "the final model", "the test split") if analysis.test else []
    return [*on_dev, *on_test]


def unbeaten(metric: str, report: ClassReport, model: str, split: str) -> list[str]:
    """Return that a model is not better than a baseline, or nothing.

    Args:
        metric: The study's metric.
        report: The scores of the model on the split.
        model: The model, in words.
        split: The split, in words.
    """
    baseline = report.baseline
    if baseline.beaten:
        return []
    other = "guessing by the classes' frequencies" if baseline.by_guessing else f"always saying `{baseline.label}`"
    only_label = report.only_label
    if metric.split(":")[0] in OF_PROBABILITIES:
        other, only_label = "giving every text the classes' frequencies as probabilities", None
    lead, reached = baseline.lead, baseline.score + baseline.lead.estimate
    ahead = lead.estimate > 0 if direction(metric) == "max" else lead.estimate < 0
    significantly = "significantly " if ahead and only_label is None else ""
    sentence = (
        f"**Not {significantly}better** than {other} ({score(metric, baseline.score)} on {split}): {model} has "
        f"{metric} {score(metric, reached)}"
    )
    if significantly:
        sentence += f", a difference of {difference(metric, ScoreEstimate(lead.estimate, lead.low, lead.high))}"
    if only_label is not None:
        sentence += f", and says `{only_label}` for every text"
    return [f"{sentence}."]


def baselines(metric: str, baseline: Baseline) -> str:
    """Return the scores of the baselines."""
    if metric.split(":")[0] in OF_PROBABILITIES:
        return f"the classes' frequencies as probabilities {score(metric, baseline.always)}"
    return (
        f"always `{baseline.label}` {score(metric, baseline.always)}, guessing by frequency "
        f"{score(metric, baseline.guessing)}"
    )


def best_score(analysis: StudyAnalysis) -> str:
    """Return the score of the winner, or of the best cell so far, beside the baselines."""
    if analysis.best is None or analysis.best.score is None:
        return "No cell of the learning-rate × epoch grid has a score so far."
    so_far = "" if analysis.winner else " so far"
    metric, report = analysis.recipe.metric, analysis.dev
    compared = f"; {baselines(metric, report.baseline)}" if report else ""
    return f"On dev{so_far}: {_reached(metric, analysis.best.score)}{compared}."


def settings(analysis: StudyAnalysis) -> list[str]:
    """Return the settings of the winner, or of the best cell so far."""
    best = analysis.best
    if best is None or best.score is None:
        return []
    values = {"learning_rate": f"{best.learning_rate:g}"} | _levels(analysis)
    shown = ", ".join(f"`{name}={value}`" for name, value in values.items())
    return [
        f"{'Winner' if analysis.winner else 'Best so far'}: {shown}, after epoch **{best.epoch}** of "
        f"{analysis.recipe.epochs}."
    ]


def _reached(metric: str, estimate: ScoreEstimate) -> str:
    return f"{metric} **{score(metric, estimate.value)}** (95 % interval {limits(metric, estimate)})"


def _levels(analysis: StudyAnalysis) -> dict[str, Value]:
    """The levels that the winner has; before there is one, those that have been chosen."""
    if analysis.winner is not None:
        return {name: getattr(analysis.winner.hyperparameters, name) for name in analysis.recipe.sweeps}
    return {sweep.parameter: level.level for sweep in analysis.sweeps for level in sweep.levels if level.chosen}


def tied_set(analysis: StudyAnalysis) -> list[str]:
    """Return the size of the tied set and its cheapest cell."""
    cheapest, tied, scored = analysis.cheapest_tied, len(analysis.tied), analysis.scored
    if tied == 1 < scored:
        return [f"None of the other {scored - 1} cells is tied with the best at the 5 % level."]
    if tied < 2 or cheapest is None or cheapest.score is None or analysis.best is None:
        return []
    cheaper = "none of them takes fewer epochs"
    if cheapest.epoch < analysis.best.epoch:
        reached = score(analysis.recipe.metric, cheapest.score.value)
        cheaper = f"the cheapest of them: learning rate {cheapest.learning_rate:g}, epoch {cheapest.epoch} ({reached})"
    return [f"{tied} of {scored} cells are tied at the 5 % level (≈), the best included; {cheaper}."]


def first_epochs(analysis: StudyAnalysis) -> list[str]:
    """Return that a first epoch is compared which a schedule of its own may have made another; docs/search.md."""
    recipe, hyperparameters = analysis.recipe, (analysis.winner or analysis.recipe).hyperparameters
    first = [f"{cell.learning_rate:g}" for cell in analysis.tied if cell.epoch == 1]
    if not first or recipe.epochs == 1 or recipe.grid_schedule != "shared" or not hyperparameters.needs_horizon:
        return []
    rates = f"learning rate{'s' if len(first) > 1 else ''} {', '.join(first)}"
    return [
        f"The first epoch at {rates} is among the tied cells. It was scored within a schedule of {recipe.epochs} "
        "epochs, its rate still high: a run of one epoch may be better or worse; `--epochs 1 --study NAME` shows it."
    ]


def overruled(analysis: StudyAnalysis) -> list[str]:
    """Return the levels that would have been adopted, had they not been added after the grid."""
    metric, sentences = analysis.recipe.metric, []
    for sweep in analysis.sweeps:
        better = next((level for level in sweep.levels if level.overruled), None)
        chosen = next((level for level in sweep.levels if level.chosen), None)
        if better is None or better.score is None:
            continue
        adopted = f"`{chosen.level}`" if chosen else "the initial one"
        than = f", {score(metric, chosen.score.value)}" if chosen and chosen.score else ""
        tied = " (the two are tied at the 5 % level)" if chosen and chosen.tied and better.tied else ""
        sentences.append(
            f"The level `{sweep.parameter}={better.level}`, {score(metric, better.score.value)} in its sweep, came "
            f"later and **would have been adopted** in place of {adopted}{than}{tied}. All that follows the sweep was "
            "trained with the latter, and stays; the same command with `--study NAME` makes a study that searches anew."
        )
    return sentences


def optimism(analysis: StudyAnalysis) -> list[str]:
    """Return the selection optimism of the best score, if it can be estimated."""
    if analysis.optimism is None:
        return []
    drop = points(analysis.recipe.metric, analysis.optimism)
    return [f"As the best of {analysis.scored}, this score is expected to be {drop} too good (selection optimism)."]


def seeds(analysis: StudyAnalysis) -> list[str]:
    """Return the range of the best cell's scores over its seeds, if it was trained with several."""
    best, metric = analysis.best, analysis.recipe.metric
    return [
        f"The score of the best cell is the mean {score(metric, fmean(cell.scores))} of {len(cell.scores)} seeds, from "
        f"{score(metric, min(cell.scores))} to {score(metric, max(cell.scores))}."
        for cell in analysis.seed_repeats
        if best is not None and (cell.learning_rate, cell.epoch) == (best.learning_rate, best.epoch)
    ]


def final_model(analysis: StudyAnalysis) -> list[str]:
    """Return the scores of the final model on dev and on the opened test split."""
    final, metric = analysis.final, analysis.recipe.metric
    if final is None:
        return ["The final model is not trained yet."] if analysis.winner else []
    scored = {"dev": analysis.final_dev, "the sealed test split": analysis.test}
    splits = {split: report for split, report in scored.items() if report is not None}
    reached = [
        f"{metric} **{score(metric, report.score.value)}** (95 % interval {limits(metric, report.score)}) on {split}"
        + (f", baselines: {baselines(metric, report.baseline)}" if report is analysis.test else "")
        for split, report in splits.items()
    ]
    scores = f": {'; '.join(reached)}" if reached else ""
    epochs = f"epoch {len(final.epochs)} of {final.schedule_epochs}"
    return [f"Final model `{final.model}`{members(analysis)}, {epochs}{scores}.", *without_dev(analysis.recipe)]


def members(analysis: StudyAnalysis) -> str:
    """Return which models the final model is the mean of, as a clause; empty where it is one model."""
    if analysis.final is None or (count := analysis.final.members) == 1:
        return ""
    folds = analysis.recipe.final.folds
    each = (
        f"each trained without one of {folds} folds of the training texts" if folds else "each with a seed of its own"
    )
    return f", the mean of the probabilities of {count} models, {each}"


def without_dev(recipe: Recipe) -> list[str]:
    """Return what is not known of a final model that is trained on dev too, or nothing."""
    if recipe.final.train_on == "train":
        return []
    return [
        "The final model is **trained on dev too**: no text is left on which to score it, correct its probabilities or "
        "detect other shares of the classes, but the sealed test split's; every score on dev is the search's."
    ]


def label_errors(analysis: StudyAnalysis) -> list[str]:
    """Return how many texts are labelled otherwise by the runs, and how many of these are likely label errors."""
    mistakes = analysis.mistakes
    sentences = []
    for split, name in (("dev", "Dev"), ("train", "Training")):
        if own := [mistake for mistake in mistakes if mistake.split == split]:
            likely = sum(mistake.kind == LIKELY_ERROR for mistake in own)
            runs = f"the mean of {own[0].runs} runs" if own[0].runs > 1 else "the one run"
            runs = "the model that was trained without their fold" if split == "train" else runs
            sentences.append(
                f"{name} texts that {runs} puts into another class than their label: {len(own):,}, of which "
                f"**{likely:,}** are likely label errors (`mistakes.csv`)."
            )
    return sentences


def cost(analysis: StudyAnalysis) -> list[str]:
    """Return the epochs and the time of the study beside the full product."""
    spent = analysis.cost
    if not spent.epochs:
        return []
    time = f" and **{duration(spent.seconds)}**" if spent.seconds else ""
    took = f"The study took **{spent.epochs:,}** epochs{time}{'' if analysis.ended else ' so far'}"
    if spent.product_epochs == spent.grid_epochs <= spent.epochs:
        return [f"{took}."]  # a grid alone, which is every combination
    return [f"{took}; every combination of all levels would take {spent.product_epochs:,} epochs."]


def interaction_check(check: InteractionCheck, metric: str) -> str:
    """Return the verdict of an interaction check, with what to try where there is an interaction."""
    lead = f"{difference(metric, check.at_winner)}, p {check.p:.2g}"
    sentence = (
        f"Interaction check of `{check.parameter}`: {check.verdict}; `{check.chosen}` less `{check.runner_up}` at the "
        f"winner: {lead}."
    )
    if check.verdict == INTERACTS:
        sentence += f" Try `--set {check.parameter}={check.runner_up}` with the winner's learning rate and epochs."
    return sentence
