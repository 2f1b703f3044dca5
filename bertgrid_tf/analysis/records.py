"""What a study has found, how sure that is and what it cost, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.metrics.calibration import Calibration
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata

ADJUSTMENT, TEMPERATURE = "logit adjustment", "temperature"
"""The gains that change a model's probabilities and not its weights."""


@dataclass(frozen=True)
class ScoreEstimate:
    """A score with its 95 % interval over dialogues; in the metric's own unit, shares as fractions of 1.

    Of a split that is a single dialogue there is no interval: its ends are NaN.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LevelAnalysis:
    """One level of a sweep.

    Attributes:
        level: the value of the parameter.
        epoch: its best epoch, from 1; None without a score.
        score: there; None where the level failed, is left out or has not ended.
        p: of no difference from the sweep's best level, Holm-adjusted; None without a score.
        tied: whether it cannot be told from the sweep's best level at 5 %.
        chosen: whether the search adopted it.
        status: "COMPLETED", "RUNNING", "FAILED", "SKIPPED" (an only level), "IDLE", "LEFT_OUT" (for lack of time).
    """

    level: Value
    epoch: int | None
    score: ScoreEstimate | None
    p: float | None
    tied: bool
    chosen: bool
    status: str


@dataclass(frozen=True)
class SweepAnalysis:
    """One swept parameter with its levels in the recipe's order."""

    parameter: str
    levels: Sequence[LevelAnalysis]


@dataclass(frozen=True)
class CellAnalysis:
    """One cell of the learning-rate × epoch table that was tried.

    Attributes:
        learning_rate: its row.
        epoch: its column, from 1.
        score: None where the run diverged or failed.
        p, tied: as those of a level, against the best cell.
        metrics: all that was reported after this epoch (score.metrics.evaluate; train_loss, seconds, train_seconds).
    """

    learning_rate: float
    epoch: int
    score: ScoreEstimate | None
    p: float | None
    tied: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class ClassReport:
    """How a model did, class by class, on dev or on the opened test split.

    Attributes:
        labels: class names.
        confusion: int [classes, classes], truth by prediction.
        support: texts of each class.
        metrics: all of score.metrics.evaluate.
        score: the study's metric with its interval.
    """

    labels: tuple[str, ...]
    confusion: np.ndarray
    support: Mapping[str, int]
    metrics: Mapping[str, float]
    score: ScoreEstimate


@dataclass(frozen=True)
class InteractionCheck:
    """Whether a swept parameter was independent of learning rate and epochs.

    Attributes:
        parameter: that was swept.
        chosen, runner_up: the two best levels of its sweep.
        at_sweep, at_winner: chosen less runner-up at the sweep's learning rate, and at the winning cell.
        interaction: at_winner less at_sweep.
        verdict: "independent as far as can be seen", "interacts" or "too little data to tell".
    """

    parameter: str
    chosen: Value
    runner_up: Value
    at_sweep: ScoreEstimate
    at_winner: ScoreEstimate
    interaction: ScoreEstimate
    verdict: str


@dataclass(frozen=True)
class SeedRepeats:
    """One cell of the tied set trained with several seeds.

    Attributes:
        learning_rate, epoch: the cell.
        scores: of each seed, the study's own first.
    """

    learning_rate: float
    epoch: int
    scores: Sequence[float]


@dataclass(frozen=True)
class Change:
    """A score without something and with it; p of no difference, paired, None where no test applies."""

    before: float
    after: float
    p: float | None


@dataclass(frozen=True)
class PostHocGain:
    """Something better for free: a soup, an adjustment, a calibration.

    Attributes:
        name: "soup", "ensemble" (of the rows that could go into it), ADJUSTMENT, TEMPERATURE.
        metric: what it is judged by: the study's metric, macro_f1, or "calibration error".
        on_dev: by held-out folds where it was fitted there.
        on_test: of the final model, nothing being decided by it; None where that split was not opened, and of a soup of
            another model.
        kept: whether `predict` uses it; of the soup, whether `predict --soup` is as good as the winner.
        detail: one sentence: its strength, its members.
    """

    name: str
    metric: str
    on_dev: Change
    on_test: Change | None
    kept: bool
    detail: str


@dataclass(frozen=True)
class Cost:
    """What the study took.

    Attributes:
        stages: seconds of every stage, by its name, in order: start, sweep:<parameter>, grid, repeats, audit, final.
        epochs: trained by the study so far, the final model's included.
        grid_epochs: of the plain grid alone (all rows, all epochs).
        product_epochs: of every combination of all levels, as the plan counts them.
        tokens_per_second: non-padding tokens trained a second in the grid (median over epochs); None if unknown.
        padding_share: of the tokens that were computed, those that were padding; 0 for the unpadded pass.
        limit_share: of a grid epoch's training time, what a plain BERT's matrix products on its tokens, padding not
            counted, would take alone at the best rate that was measured in the same process (median over epochs); None
            if unknown.
    """

    stages: Mapping[str, float]
    epochs: int
    grid_epochs: int
    product_epochs: int
    tokens_per_second: float | None
    padding_share: float | None
    limit_share: float | None

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(self.stages.values())


@dataclass(frozen=True)
class DataSummary:
    """The corpus.

    Attributes:
        name: of the corpus.
        classes: texts per class of each split; the test split's only where it was opened.
        lengths: tokens of the training inputs in the winning layout, int [texts]; None if unknown.
        max_length: where they are cut.
    """

    name: str
    classes: Mapping[str, Mapping[str, int]]
    lengths: np.ndarray | None
    max_length: int


@dataclass(frozen=True)
class StudyAnalysis:
    """A study, finished or not.

    Attributes:
        folder: the results folder, as given.
        recipe: as run.
        facts: versions, data, checkpoints.
        hardware: what it was computed on, in words; empty if unknown.
        winner: the winner as a recipe; None before the search has ended.
        best: the winning (so far: best) cell; None before the first scored one.
        optimism: by how much the best cell's score is expected to overstate it; None where it cannot be estimated.
        cheapest_tie: the cell of the tied set with the fewest epochs; None before there is one.
        sweeps, cells: all so far; cells row by row, learning rates in the table's order.
        dev: the best cell's classes on dev; None before there is one.
        final: the final model's run, its classes on dev; None before it is trained.
        test: the final model's classes on the test split, if it was opened.
        audits, repeats, gains: empty where not asked for or not yet there.
        calibration: of the final model's (else the winner's) probabilities on dev; None before there is a model.
        cost, data: as far as known.
        command: trains the winner again; empty before there is one.
    """

    folder: str
    recipe: Recipe
    metadata: StudyMetadata | None
    hardware: str
    winner: Recipe | None
    best: CellAnalysis | None
    optimism: float | None
    cheapest_tie: CellAnalysis | None
    sweeps: Sequence[SweepAnalysis]
    cells: Sequence[CellAnalysis]
    dev: ClassReport | None
    final: FinalTrial | None
    final_dev: ClassReport | None
    test: ClassReport | None
    audits: Sequence[InteractionCheck]
    repeats: Sequence[SeedRepeats]
    gains: Sequence[PostHocGain]
    calibration: Calibration | None
    cost: Cost
    data: DataSummary
    command: str

    @property
    def ended(self) -> bool:
        """Whether nothing is left to be trained."""
        if self.winner is None:
            return False
        return self.final is not None or self.recipe.final.model_for(self.winner.hyperparameters.model) is None

    @property
    def adjusted(self) -> bool:
        """Whether `calibration` is of probabilities that logit adjustment has changed, as `predict` does."""
        return any(gain.kept and gain.name == ADJUSTMENT for gain in self.gains)

    @property
    def scored(self) -> int:
        """How many cells have a score."""
        return sum(cell.score is not None for cell in self.cells)

    @property
    def tied(self) -> list[CellAnalysis]:
        """The cells that cannot be told from the best at 5 %, itself included."""
        return [cell for cell in self.cells if cell.tied]
