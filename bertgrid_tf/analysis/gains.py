"""Post-hoc gains: soup, ensemble, logit adjustment and temperature, on dev and on an opened test split."""

from dataclasses import dataclass

import numpy as np

from bertgrid_tf.analysis.records import ADJUSTMENT, TEMPERATURE, Change, PostHocGain
from bertgrid_tf.analysis.study_scores import StudyScores
from bertgrid_tf.corpus import resample
from bertgrid_tf.corpus.balance import class_weights
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.metrics.adjustment import adjust
from bertgrid_tf.metrics.calibration import apply_temperature
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.metrics.compare import Split, difference
from bertgrid_tf.metrics.correction import FittedCorrection, fit
from bertgrid_tf.storage.predictions import read_predictions
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import FINAL, SOUP


@dataclass(frozen=True)
class OpenedTest:
    """The predictions that `evaluate` made for the test split.

    Attributes:
        split: The labels and dialogues.
        final: The final model's predictions, float32 [1, texts, classes].
        soup: The change from the final model to the soup; None where there is no soup of the final model's checkpoint.
    """

    split: Split
    final: np.ndarray
    soup: Change | None


def read_opened_test(folder: StudyFolder) -> OpenedTest | None:
    """Read the predictions for the test split; None where it was not opened."""
    of_final, of_soup = (folder.evaluation_file("test", model) for model in (FINAL, SOUP))
    if not of_final.exists():
        return None
    labels = tuple(folder.read_metadata().labels)
    remedy = "run `evaluate --split test` again, which writes it anew"
    read = read_predictions(of_final, labels, remedy=remedy)
    split, final, change = Split(read.truth, read.dialogues, labels), read.probabilities[None], None
    if of_soup.exists() and folder.read_final().model == folder.read_best().hyperparameters.model:
        soup = read_predictions(of_soup, labels, remedy=remedy).probabilities[None]
        change = _change(split, final, soup, folder.read_recipe().metric)
    return OpenedTest(split, final, change)


def fit_correction(scores: StudyScores, candidate: np.ndarray, hyperparameters: Hyperparameters) -> FittedCorrection:
    """Fit the correction of a model on its dev predictions.

    Args:
        scores: Of the study.
        candidate: The model's predictions, float32 [1, texts, classes].
        hyperparameters: Those that the model was trained with; they decide the classes' shares in training.
    """
    counts = scores.folder.read_metadata().classes["train"]
    ids = np.repeat(np.arange(len(scores.labels)), [counts[label] for label in scores.labels])
    ratio, undersample = hyperparameters.oversample_ratio, hyperparameters.undersample
    trained = ids[resample(np.array(scores.labels)[ids], ratio, undersample, scores.recipe.seed)]
    shares = np.bincount(trained, class_weights(trained, hyperparameters.class_weights), len(scores.labels))
    priors = np.maximum(shares / shares.sum(), np.finfo(np.float32).tiny)
    split = scores.split
    return fit(split.truth, candidate[0], split.dialogues, priors, scores.labels, scores.recipe.metric)


def averaging_gains(scores: StudyScores, test: OpenedTest | None) -> list[PostHocGain]:
    """Compare the soup, and the ensemble of the same rows, with the winner; empty where there is no soup."""
    soup, winner = scores.folder.read_soup(), scores.winner()
    if soup is None or winner is None:
        return []
    metric, best = scores.recipe.metric, scores.of_cell(winner.learning_rate, winner.epoch)
    averaged = _change(scores.split, best, scores.of(SOUP, 1), metric)
    loses = scores.recipe.signed(averaged.after) < scores.recipe.signed(averaged.before)
    rows = ", ".join(f"{rate:g} after epoch {epoch}" for rate, epoch in soup.cells)
    detail = f"The mean of the weights of learning rates {rows}."
    if len(soup.cells) == 1:
        detail = f"No other row's weights improve those of learning rate {rows}."
    kept, on_test = len(soup.cells) > 1 and not loses, test.soup if test else None
    members = [scores.of_cell(rate, epoch) for rate, epoch in [*soup.cells, *soup.left_out]]
    ensemble = _change(scores.split, best, np.mean(members, axis=0), metric)
    of_members = (
        f"The mean of the probabilities of {len(members)} rows, for which all of their models would have to be kept."
    )
    return [
        PostHocGain("soup", metric, averaged, on_test, kept, detail),
        PostHocGain("ensemble", metric, ensemble, None, False, of_members),
    ]


def correction_gains(
    scores: StudyScores, candidate: np.ndarray, fitted: FittedCorrection, test: OpenedTest | None
) -> list[PostHocGain]:
    """Compare the adjusted and the calibrated probabilities of a model with its own.

    Args:
        scores: Of the study.
        candidate: The model's dev predictions, float32 [1, texts, classes].
        fitted: Their correction.
        test: The final model's predictions for the test split, if it was opened.
    """
    adjustment, calibration, correction = fitted.adjustment, fitted.calibration, fitted.correction
    adjusted_p = difference(scores.split, adjustment.probabilities[None], candidate[:1], fitted.metric).p
    adjusted = Change(adjustment.unadjusted, adjustment.cross_validated, adjusted_p)
    scaled = Change(calibration.loss_before, calibration.loss_after, None)
    adjusted_on_test = scaled_on_test = None
    if test is not None:
        priors = np.array(correction.priors)
        on_test = adjust(test.final[0], priors, adjustment.strength)
        adjusted_on_test = _change(test.split, test.final, on_test[None], fitted.metric)
        unscaled = adjust(test.final[0], priors, correction.strength)
        scaled_test = apply_temperature(unscaled, calibration.temperature)
        scaled_on_test = _change(test.split, unscaled[None], scaled_test[None], "loss")
    strength = f"Strength {adjustment.strength:g}, chosen by cross-validation over dialogues."
    if adjustment.strength > correction.strength:
        strength += f" It trades {scores.recipe.metric} for the rare classes, so it is not used."
    temperature = (
        f"Temperature {calibration.temperature:.2f}; the predicted class stays the same, and the calibration error "
        f"goes from {100 * calibration.before.error:.1f} % to {100 * calibration.after.error:.1f} %."
    )
    kept = correction.strength > 0
    return [
        PostHocGain(ADJUSTMENT, fitted.metric, adjusted, adjusted_on_test, kept, strength),
        PostHocGain(TEMPERATURE, "loss", scaled, scaled_on_test, calibration.gains, temperature),
    ]


def _change(split: Split, before: np.ndarray, after: np.ndarray, metric: str) -> Change:
    scores = [evaluate(split.truth, one[0], split.labels, [metric])[metric] for one in (before, after)]
    return Change(scores[0], scores[1], difference(split, after, before, metric).p)
