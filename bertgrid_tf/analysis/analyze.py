"""The analysis of a whole study, from its folder."""

from math import isnan
from statistics import median

import numpy as np

from bertgrid_tf.analysis.gains import averaging_gains, correction_gains, fit_correction, read_opened_test
from bertgrid_tf.analysis.records import ClassReport, Cost, ScoreEstimate, StudyAnalysis
from bertgrid_tf.analysis.study_scores import StudyScores
from bertgrid_tf.budget.plan import search_space
from bertgrid_tf.metrics.classification import directions, evaluate
from bertgrid_tf.metrics.compare import Baseline, Split, compare_with_baseline, interval
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.records import FinalTrial
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import FINAL


def analyze(folder: StudyFolder) -> StudyAnalysis:
    """Analyze a study, which may still be running, from its folder alone.

    Raises:
        UserError: A file of the study is damaged.
    """
    recipe, scores = folder.read_recipe(), StudyScores(folder)
    metadata = folder.read_metadata() if folder.metadata_file.exists() else None
    final = folder.read_final() if folder.final_file.exists() else None
    winner = folder.read_best() if folder.best_file.exists() else None
    best, shares = scores.winner(), metadata.shares() if metadata and metadata.classes else np.empty(0)
    of_best = scores.of_cell(best.learning_rate, best.epoch) if best else None
    has_dev = recipe.final.train_on == "train"
    of_final = scores.of(FINAL, len(final.epochs)) if final and has_dev else None
    test = read_opened_test(folder) if final else None
    fitted, gains = None, []
    if (candidate := of_best if of_final is None else of_final) is not None and (has_dev or final is None):
        fitted = fit_correction(scores, candidate, (final or winner or recipe).hyperparameters)
        gains = [*averaging_gains(scores, test), *correction_gains(scores, candidate, fitted, test)]
    command = folder.winner_command(recipe.corpus)
    return StudyAnalysis(
        folder=str(folder.path),
        recipe=recipe,
        metadata=metadata,
        winner=winner,
        best=best,
        optimism=scores.optimism(),
        sweeps=scores.sweeps(),
        cells=scores.cells,
        dev=None if of_best is None else class_report(scores.split, scores.of_winner(), shares, recipe.metric),
        final=final,
        final_dev=None if of_final is None else class_report(scores.split, of_final, shares, recipe.metric),
        test=None if test is None else class_report(test.split, test.final, shares, recipe.metric),
        interaction_checks=scores.interaction_checks(best) if best else [],
        seed_repeats=scores.seed_repeats(),
        gains=gains,
        calibration=fitted.calibration if fitted else None,
        cost=_cost(folder, recipe, final),
        lengths=np.array(lengths) if (lengths := folder.read_lengths()) else None,
        command=command if winner else "",
        predict_command=folder.predict_command() if folder.has_final_model() else "",
        mistakes=folder.read_mistakes(),
    )


def dev_baseline(folder: StudyFolder) -> Baseline:
    """Score the baselines on dev, from the metadata of a study alone."""
    metadata = folder.read_metadata()
    counts = [metadata.classes["dev"].get(label, 0) for label in metadata.labels]
    truth, shares = np.repeat(np.arange(len(counts)), counts), metadata.shares()
    split = Split(truth, np.zeros_like(truth), tuple(metadata.labels))
    return compare_with_baseline(split, np.tile(shares, (1, len(truth), 1)), shares, folder.read_recipe().metric)


def class_report(split: Split, candidate: np.ndarray, shares: np.ndarray, metric: str) -> ClassReport:
    """Score a model class by class.

    Args:
        split: The labels and dialogues of its texts.
        candidate: Its predictions, float [seeds, texts, classes], of which the first seed's are scored.
        shares: The share of each class in the training split, float [classes].
        metric: The metric whose score has an interval.
    """
    from sklearn.metrics import confusion_matrix

    metrics = evaluate(split.truth, candidate[0], split.labels, [*directions(split.labels), metric])
    confusion = confusion_matrix(split.truth, candidate[0].argmax(axis=1), labels=np.arange(len(split.labels)))
    support = dict(zip(split.labels, confusion.sum(axis=1).tolist(), strict=True))
    score = ScoreEstimate(metrics[metric], *interval(split, candidate[:1], metric))
    baseline = compare_with_baseline(split, candidate, shares, metric)
    return ClassReport(split.labels, confusion, support, metrics, score, baseline)


def _cost(folder: StudyFolder, recipe: Recipe, final: FinalTrial | None) -> Cost:
    searched = search_space(recipe)
    # A diverged epoch ends early.
    trained = [
        row for row in folder.read_cells() if not isnan(float(row[recipe.metric])) and float(row["train_seconds"])
    ]
    # No two epochs take the same time to the last digit.
    times = {float(row["train_seconds"]) for row in trained}
    of_final = [epoch for epoch in final.epochs if epoch.get("train_seconds") not in times] if final else []

    def per_second(column: str) -> float | None:
        shares = [float(row[column]) / float(row["train_seconds"]) for row in trained if column in row]
        return median(known) if (known := [share for share in shares if not isnan(share)]) else None

    # Of a model with its own forward pass neither padding nor matrix products are counted.
    return Cost(
        stages={time.stage: time.measured for time in folder.read_times()},
        epochs=folder.scored_epochs() + len(of_final) * (final.members if final else 1),
        grid_epochs=sum(int(run["stop_epoch"]) for run in searched.grid_trials(searched.start)),
        product_epochs=searched.plan().full_product_epochs,
        tokens_per_second=per_second("train_tokens"),
        padding_share=float(trained[0]["train_padding"]) if trained and "train_padding" in trained[0] else None,
        mfu=per_second("limit_seconds"),
        roofline=per_second("roofline_seconds"),
    )
