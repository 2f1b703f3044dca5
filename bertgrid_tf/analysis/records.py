"""The records of an analysis: scores with intervals, tied sets, interaction checks, gains, cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import Self

from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.metrics.calibration import Calibration
from bertgrid_tf.metrics.compare import Baseline
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.records import FinalTrial, Mistake, StageTime, StudyMetadata

ADJUSTMENT, TEMPERATURE = "logit adjustment", "temperature"
"""The gains that change a model's probabilities and not its weights."""


@dataclass(frozen=True)
class ScoreEstimate:
    """A score or a difference of scores with its 95 % interval over dialogues, whose ends are NaN for one dialogue.

    The unit is the metric's own: a fraction of 1, or nats for the loss.

    Example:
        >>> estimate = ScoreEstimate(0.75, low=0.71, high=0.79)
        >>> estimate.low < estimate.value < estimate.high
        True
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LevelAnalysis:
    """One level of a sweep.

    Attributes:
        level: The value of the parameter.
        epoch: The best epoch, from 1; None without a score.
        score: The score after that epoch; None without predictions.
        p: The p value of no difference from the sweep's best level, Holm-adjusted; None without a score.
        tied: Whether p is above 5 %.
        chosen: Whether the search adopted the level.
        status: "COMPLETED", "RUNNING", "FAILED", "SKIPPED" (an only level), "IDLE", "LEFT_OUT" (for lack of time).
        overruled: Whether the level would have been adopted, but came after the grid was trained with the chosen one.
    """

    level: Value
    epoch: int | None
    score: ScoreEstimate | None
    p: float | None
    tied: bool
    chosen: bool
    status: str
    overruled: bool = False


@dataclass(frozen=True)
class SweepAnalysis:
    """One swept parameter with its levels in the recipe's order."""

    parameter: str
    levels: Sequence[LevelAnalysis]


@dataclass(frozen=True)
class CellAnalysis:
    """One cell of the learning-rate × epoch grid that was tried.

    Attributes:
        learning_rate: The row.
        epoch: The column, from 1.
        score: The mean over the cell's seeds; None where the trial diverged or failed.
        p: The p value of no difference from the best cell, Holm-adjusted; None without a score.
        tied: Whether p is above 5 %.
        metrics: The metrics after this epoch with the study's own seed (`metrics.evaluate`; train_loss in nats, seconds
            and train_seconds).
    """

    learning_rate: float
    epoch: int
    score: ScoreEstimate | None
    p: float | None
    tied: bool
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class ClassReport:
    """The scores of a model class by class, on dev or on the opened test split.

    Attributes:
        labels: The class names in the order of their ids.
        confusion: The texts of each class, a row, by predicted class, int [classes, classes].
        support: The texts of each class.
        metrics: The metrics of `metrics.evaluate`, the study's included.
        score: The study's metric with its interval.
        baseline: The study's metric of classifiers that read no text, and the model's lead, over all of its seeds.
    """

    labels: tuple[str, ...]
    confusion: np.ndarray
    support: Mapping[str, int]
    metrics: Mapping[str, float]
    score: ScoreEstimate
    baseline: Baseline

    @property
    def only_label(self) -> str | None:
        """The class that is predicted for every text; None where there are several."""
        predicted = np.flatnonzero(self.confusion.sum(axis=0))
        return self.labels[predicted[0]] if len(predicted) == 1 else None


@dataclass(frozen=True)
class InteractionCheck:
    """Whether a swept parameter interacts with learning rate and epochs.

    Attributes:
        parameter: The swept parameter.
        chosen: The best level of its sweep.
        runner_up: The second-best level.
        at_sweep: The lead of the chosen level in the sweep.
        at_winner: Its lead at the winning cell.
        interaction: `at_winner` less `at_sweep`.
        p: The p value of no lead at the winning cell, by which a runner-up that is ahead interacts.
        verdict: A `metrics.compare.Verdict`.
    """

    parameter: str
    chosen: Value
    runner_up: Value
    at_sweep: ScoreEstimate
    at_winner: ScoreEstimate
    interaction: ScoreEstimate
    p: float
    verdict: str


@dataclass(frozen=True)
class SeedRepeats:
    """One cell trained with several seeds; the scores begin with that of the study's own seed."""

    learning_rate: float
    epoch: int
    scores: Sequence[float]


@dataclass(frozen=True)
class Change:
    """A score before and after a change; p of no difference, paired, None where no test applies."""

    before: float
    after: float
    p: float | None


@dataclass(frozen=True)
class PostHocGain:
    """An improvement that trains nothing more: a soup, an ensemble, an adjustment, a calibration.

    Attributes:
        name: "soup", "ensemble" (of the rows that the soup may average), ADJUSTMENT or TEMPERATURE.
        metric: The metric that decides whether the gain is kept: the study's, macro_f1, or the loss.
        on_dev: The change on dev, by held-out folds where the gain is fitted on dev.
        on_test: The final model's change, by which nothing is decided; None where the test split was not opened, and
            for a soup of another checkpoint.
        kept: Whether `predict` uses the gain; for a soup, whether `predict --soup` is as good as the winner.
        detail: Strength or members, and why the gain is not kept where the metric does not decide that.
    """

    name: str
    metric: str
    on_dev: Change
    on_test: Change | None
    kept: bool
    detail: str


@dataclass(frozen=True)
class Cost:
    """The cost of a study.

    Attributes:
        stages: Seconds of each stage, in order: start, sweep:PARAMETER, grid, seeds, interactions, final, report.
        epochs: Epochs trained so far, the final model's included.
        grid_epochs: Epochs of the full grid alone.
        product_epochs: Epochs of every combination of all levels.
        tokens_per_second: Tokens trained per second in the grid, without padding (median over epochs); None if unknown.
        padding_share: The fraction of the computed tokens that is padding; 0 for the unpadded pass.
        mfu: Model FLOPs utilisation in the grid: the time that BERT's matrix products on the tokens, without padding,
            take at the peak rate measured in the same process, as a fraction of the training time (median over epochs);
            None if unknown.
        roofline: The same fraction with the bytes that must move, at the memory's measured rate, added to that time.
    """

    stages: Mapping[str, float]
    epochs: int
    grid_epochs: int
    product_epochs: int
    tokens_per_second: float | None
    padding_share: float | None
    mfu: float | None
    roofline: float | None

    @property
    def seconds(self) -> float:
        """The seconds of all stages."""
        return sum(self.stages.values())


@dataclass(frozen=True)
class StudyAnalysis:
    """The analysis of a study, ended or still running.

    Attributes:
        folder: The study folder, as given.
        recipe: The recipe as it was asked for.
        metadata: Versions, data, checkpoints and hardware; None before the study has begun.
        winner: The winner as a recipe; None before the search has ended.
        best: The winning cell, or the best so far; None before the first score.
        optimism: The amount by which the best cell's score is expected to be too good; None where unknown.
        sweeps: The sweeps so far.
        cells: The cells so far, row by row, learning rates in the table's order.
        dev: The best cell's classes on dev.
        final: The final model's trial; None before it has ended.
        final_dev: The final model's classes on dev.
        test: The final model's classes on the test split; None unless that was opened.
        interaction_checks: The checks that have ended.
        seed_repeats: The cells that were trained with several seeds.
        gains: The post-hoc gains of the final model, or else of the best cell.
        calibration: The calibration of the same model on dev.
        cost: The cost so far.
        lengths: Tokens of the training inputs in the winning layout, int [texts]; None if unknown.
        command: The command that trains the winner; empty before there is one.
        predict_command: The command that labels new texts; empty before there is a final model.
        mistakes: The dev texts that the runs label otherwise, the most confident first.
    """

    folder: str
    recipe: Recipe
    metadata: StudyMetadata | None
    winner: Recipe | None
    best: CellAnalysis | None
    optimism: float | None
    sweeps: Sequence[SweepAnalysis]
    cells: Sequence[CellAnalysis]
    dev: ClassReport | None
    final: FinalTrial | None
    final_dev: ClassReport | None
    test: ClassReport | None
    interaction_checks: Sequence[InteractionCheck]
    seed_repeats: Sequence[SeedRepeats]
    gains: Sequence[PostHocGain]
    calibration: Calibration | None
    cost: Cost
    lengths: np.ndarray | None
    command: str
    predict_command: str
    mistakes: Sequence[Mistake]

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.winner is not None and self.final is not None

    def with_times(self, times: Sequence[StageTime]) -> Self:
        """Copy the analysis with other times of the stages."""
        stages = {time.stage: time.measured for time in times}
        return replace(self, cost=replace(self.cost, stages=stages))

    @property
    def adjusted(self) -> bool:
        """Whether `calibration` is that of probabilities after logit adjustment, as in `predict`."""
        return any(gain.kept and gain.name == ADJUSTMENT for gain in self.gains)

    @property
    def scored(self) -> int:
        """The number of cells with a score."""
        return sum(cell.score is not None for cell in self.cells)

    @property
    def tied(self) -> list[CellAnalysis]:
        """The tied set: the cells whose difference from the best is not significant at 5 %, the best included."""
        return [cell for cell in self.cells if cell.tied]

    @property
    def cheapest_tied(self) -> CellAnalysis | None:
        """The cell of the tied set with the fewest epochs; None before the first score."""
        return cheapest_tied(self.cells)


def cheapest_tied(cells: Sequence[CellAnalysis]) -> CellAnalysis | None:
    """Return the tied cell with the fewest epochs, of equal ones the first; None where no cell is tied."""
    return min((cell for cell in cells if cell.tied), key=lambda cell: cell.epoch, default=None)
