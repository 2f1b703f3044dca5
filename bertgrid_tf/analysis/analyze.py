"""Reading a results folder: the evidence in it."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import isnan
from statistics import median
from typing import TypeVar

import numpy as np

from bertgrid_tf.analysis.records import (
    ADJUSTMENT,
    TEMPERATURE,
    CellAnalysis,
    Change,
    ClassReport,
    Cost,
    DataSummary,
    InteractionCheck,
    LevelAnalysis,
    PostHocGain,
    ScoreEstimate,
    SeedRepeats,
    StudyAnalysis,
    SweepAnalysis,
)
from bertgrid_tf.budget.plan import search_space
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.corpus import resample
from bertgrid_tf.corpus.balance import class_weights
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.metrics.adjustment import adjust
from bertgrid_tf.metrics.calibration import apply_temperature, expected_calibration_error
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.metrics.compare import Split, compare_with_best, difference, interaction, interval, selection_optimism
from bertgrid_tf.metrics.correction import FittedCorrection, fit
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name
from bertgrid_tf.trial_config import FINAL, INTERACTIONS, SEEDS, SOUP

_Key = TypeVar("_Key")
_Place = tuple[float, int]


def analyze(study_folder: StudyFolder) -> StudyAnalysis:
    """All that is known of a study, from its results folder alone; also while it runs.

    Raises:
        UserError: a file of the study is damaged.
    """
    recipe, scored = study_folder.read_recipe(), StudyScores(study_folder)
    metadata = study_folder.read_metadata() if study_folder.metadata_file.is_file() else None
    final = study_folder.read_final() if study_folder.final_file.is_file() else None
    winner = study_folder.read_best() if study_folder.best_file.is_file() else None
    best = scored.winner()
    of_best = scored.of_cell(best.learning_rate, best.epoch) if best else None
    of_final = scored.of(FINAL, len(final.epochs)) if final else None
    told_of = of_best if of_final is None else of_final
    hyperparameters = final.hyperparameters if final else (winner or recipe).hyperparameters
    opened = _open(study_folder) if final else None
    fitted, gains = None, []
    if told_of is not None:
        fitted = scored.fit(told_of, hyperparameters)
        gains = [
            *scored.soups(opened.soup_instead if opened else None),
            *_corrections(scored.split, told_of, fitted, recipe.metric, opened),
        ]
    command = f"bertgrid-tf tune {recipe.corpus} --recipe {shlex.quote(str(study_folder.best_file))} --study again"
    return StudyAnalysis(
        folder=str(study_folder.path),
        recipe=recipe,
        metadata=metadata,
        hardware=metadata.hardware if metadata else "",
        winner=winner,
        best=best,
        optimism=scored.optimism(),
        cheapest_tie=scored.cheapest_tie(),
        sweeps=scored.sweeps(),
        cells=scored.cells,
        dev=None if of_best is None else classes(scored.split, of_best, recipe.metric),
        final=final,
        final_dev=None if of_final is None else classes(scored.split, of_final, recipe.metric),
        test=None if opened is None else classes(opened.split, opened.final, recipe.metric),
        audits=scored.audits(best) if best else [],
        repeats=scored.repeats(),
        gains=gains,
        calibration=fitted.calibration if fitted else None,
        cost=_cost(study_folder, recipe),
        data=_data(study_folder, winner or recipe),
        command=command if winner else "",
    )


@dataclass(frozen=True)
class RankedCandidate:
    """A candidate among others.

    Attributes:
        score: None where there is none.
        p: of no difference from the best, after Holm's correction; None without a score.
        tied: whether it cannot be told from the best at 5 %.
        best: whether it is the best.
    """

    score: ScoreEstimate | None
    p: float | None
    tied: bool
    best: bool


_UNSCORED = RankedCandidate(None, None, False, False)


class StudyScores:
    """What the runs of a study predict on dev, compared with each other."""

    def __init__(self, study_folder: StudyFolder) -> None:
        self._results = study_folder
        self._recipe = study_folder.read_recipe()
        self._decisions = BudgetLog(study_folder.budget_file)
        self._searched = self._decisions.chosen(self._recipe)
        self._labels = tuple(study_folder.read_metadata().labels) if study_folder.metadata_file.is_file() else ()
        self._split: Split | None = None
        self._again = study_folder.read_follow_ups()
        self._cells = study_folder.read_cells()
        self._trials: dict[_Place, str] = {_place(row): row["trial_id"] for row in self._cells}
        self.of = cache(self._read)
        """The probabilities after a run's epoch, as a candidate: float32 [1, n, classes]."""

    def _read(self, run: str, epoch: int) -> np.ndarray:
        found = read_predictions(predictions_file(self._results.predictions, run, epoch), self._labels)
        if self._split is None:
            self._split = Split(found.truth, found.dialogues, self._labels)
        return found.probabilities[None]

    def of_cell(self, learning_rate: float, epoch: int) -> np.ndarray:
        """Those of a cell's own run."""
        return self.of(self.trial_of(learning_rate, epoch), epoch)

    def trial_of(self, learning_rate: float, epoch: int) -> str:
        """The name of a cell's own run, which is that of its folder."""
        return trial_name(self._trials[learning_rate, epoch])

    @property
    def split(self) -> Split:
        """What all are scored on; something must have been read."""
        assert self._split is not None
        return self._split

    def rank(self, candidates: Mapping[_Key, np.ndarray]) -> dict[_Key, RankedCandidate]:
        """Compares candidates of which equal ones are in the order of preference."""
        if not candidates:
            return {}
        metric, runs = self._recipe.metric, list(candidates.values())
        found = compare_with_best(self.split, runs, metric, self._recipe.direction())
        ranked = {}
        for number, (key, candidate) in enumerate(candidates.items()):
            value = float(np.mean([self._metrics(run)[metric] for run in candidate]))
            score = ScoreEstimate(value, *found.intervals[number])
            ranked[key] = RankedCandidate(score, found.p[number], found.tied[number], number == found.best)
        return ranked

    def fit(self, candidate: np.ndarray, hyperparameters: Hyperparameters) -> FittedCorrection:
        """The correction of a model trained in these settings, by what a candidate's first run says of dev."""
        split, priors = self.split, self._priors(hyperparameters)
        return fit(split.truth, candidate[0], split.dialogues, priors, self._labels, self._recipe.metric)

    def soups(self, on_test: Change | None) -> list[PostHocGain]:
        """The soup of the rows' weights, and the mean of the same rows' probabilities, which costs a model each.

        Args:
            on_test: from the final model to the soup.
        """
        soup, winner = self._results.read_soup(), self.winner()
        if soup is None or winner is None:
            return []
        metric, best = self._recipe.metric, self.of_cell(winner.learning_rate, winner.epoch)
        averaged = _change(self.split, best, self.of(SOUP, 1), metric)
        loses = self._recipe.signed(averaged.after) < self._recipe.signed(averaged.before)
        told = ", ".join(f"{rate:g} after epoch {epoch}" for rate, epoch in soup.cells)
        if len(soup.cells) > 1:
            detail = f"The mean of the weights of learning rates {told}."
        else:
            detail = f"No other row's weights improve those of learning rate {told}."
        members = [self.of_cell(rate, epoch) for rate, epoch in [*soup.cells, *soup.left_out]]
        return [
            PostHocGain(
                name="soup",
                metric=metric,
                on_dev=averaged,
                on_test=on_test,
                kept=len(soup.cells) > 1 and not loses,
                detail=detail,
            ),
            PostHocGain(
                name="ensemble",
                metric=metric,
                on_dev=_change(self.split, best, np.mean(members, axis=0), metric),
                on_test=None,
                kept=False,
                detail=f"The mean of {len(members)} rows' probabilities, each from its model.",
            ),
        ]

    def _priors(self, hyperparameters: Hyperparameters) -> np.ndarray:
        """Each class's share of what a model is trained on in these settings, its weights included."""
        counts = self._results.read_metadata().classes["train"]
        labels = np.repeat(np.arange(len(self._labels)), [counts[label] for label in self._labels])
        names = np.array(self._labels)[labels]
        visited = labels[
            resample(names, hyperparameters.oversample_ratio, hyperparameters.undersample, self._recipe.seed)
        ]
        shares = np.bincount(visited, class_weights(visited, hyperparameters.class_weights), len(self._labels))
        return np.maximum(shares / shares.sum(), np.finfo(np.float32).tiny)

    # The grid

    @cached_property
    def cells(self) -> list[CellAnalysis]:
        """All cells that were tried, row by row."""
        found = []
        for row in self._cells:
            metrics = {name: float(value) for name, value in row.items() if name not in _OF_A_CELL}
            one = self._ranked.get(_place(row), _UNSCORED)
            found.append(CellAnalysis(*_place(row), one.score, one.p, one.tied, metrics))
        return found

    def winner(self) -> CellAnalysis | None:
        """The cell that the recipe's `choose` takes; None where none has a score."""
        if self._recipe.selection == "cheapest-equivalent":
            return self.cheapest_tie()
        return next((cell for cell in self.cells if self._ranked.get(_at(cell), _UNSCORED).best), None)

    def cheapest_tie(self) -> CellAnalysis | None:
        """Of the cells that cannot be told from the best, the one of the fewest epochs; None where none has a score."""
        return min((cell for cell in self.cells if cell.tied), key=lambda cell: cell.epoch, default=None)

    def of_winner(self) -> np.ndarray:
        """The winner's candidate, with all of its seeds."""
        winner = self.winner()
        assert winner is not None
        return self._seeds(_at(winner))

    def optimism(self) -> float | None:
        """By how much the best cell's score is expected to be too good; None where there is only one cell."""
        candidates = [self.of_cell(*place) for place in self._ranked]
        if len(candidates) < 2:
            return None
        found = selection_optimism(self.split, candidates, self._recipe.metric, self._recipe.direction())
        return None if isnan(found) else found

    def repeats(self) -> list[SeedRepeats]:
        """The cells that were trained with several seeds."""
        found = []
        for place in self._ranked:
            if len(candidate := self._seeds(place)) > 1:
                found.append(SeedRepeats(*place, [self._metrics(run)[self._recipe.metric] for run in candidate]))
        return found

    @cached_property
    def _ranked(self) -> dict[_Place, RankedCandidate]:
        """The cells with a score, the preferred of equal ones first: fewer epochs, then the earlier row.

        Cells that were trained with more seeds are compared anew by all of these; since they were those that could not
        be told from the best by one seed, the others are out.
        """
        places = [_place(row) for row in self._cells if not isnan(float(row[self._recipe.metric]))]
        places.sort(key=lambda place: place[1])
        ranked = self.rank({place: self.of_cell(*place) for place in places})
        repeated = {place: seeds for place in places if len(seeds := self._seeds(place)) > 1}
        if repeated:
            ranked = {place: replace(one, tied=False, best=False) for place, one in ranked.items()}
            ranked |= self.rank(repeated)
        return ranked

    def _seeds(self, place: _Place) -> np.ndarray:
        """A cell's candidate with all seeds that it was trained with, its own run first: [runs, n, classes]."""
        others = [
            self.of(run.name, place[1])
            for run in self._again
            if run.config.stage == SEEDS
            and run.config.hyperparameters.learning_rate == place[0]
            and run.config.schedule_epochs == self._horizon(place[1])
            and len(run.epochs) >= place[1]
        ]
        return np.concatenate([self.of_cell(*place), *others])

    def _horizon(self, epoch: int) -> int:
        """Epochs of the schedule of a cell's run."""
        return self._searched.epochs if self._searched.grid_schedule == "shared" else epoch

    # The sweeps

    def sweeps(self) -> list[SweepAnalysis]:
        """Every swept parameter as far as the search has come."""
        found = []
        rows = self._results.read_sweeps()
        left_out = {line["trial"] for line in self._decisions.of("leave_out")}
        for parameter in dict.fromkeys(row["parameter"] for row in rows):
            own = [row for row in rows if row["parameter"] == parameter]
            ranked = self.rank({row["level"]: self._of_level(row) for row in own if row["status"] == "COMPLETED"})
            typed = {str(level): level for level in self._recipe.sweeps[parameter]}
            levels = []
            for row in own:
                one = ranked.get(row["level"], _UNSCORED)
                levels.append(
                    LevelAnalysis(
                        level=typed.get(row["level"], row["level"]),
                        epoch=int(row["epoch"]) if one.score else None,
                        score=one.score,
                        p=one.p,
                        tied=one.tied,
                        chosen=row["chosen"] == "True",
                        status="LEFT_OUT" if f"{parameter}={row['level']}" in left_out else row["status"],
                    )
                )
            found.append(SweepAnalysis(parameter, levels))
        return found

    def audits(self, best: CellAnalysis) -> list[InteractionCheck]:
        """What the runs of the audit say of the parameters that were swept."""
        rows = self._results.read_sweeps()
        found = []
        for run in self._again:
            parameter = run.config.parameter
            if run.config.stage != INTERACTIONS or not run.epochs or parameter is None:
                continue
            of_level = {row["level"]: row for row in rows if row["parameter"] == parameter}
            chosen = next(level for level, row in of_level.items() if row["chosen"] == "True")
            runner_up = str(getattr(run.config.hyperparameters, parameter))
            told = interaction(
                self.split,
                (self._of_level(of_level[chosen]), self._of_level(of_level[runner_up])),
                (self.of_cell(best.learning_rate, best.epoch), self.of(run.name, len(run.epochs))),
                self._recipe.metric,
                self._recipe.direction(),
            )
            at_sweep, at_winner, change = (
                ScoreEstimate(one.estimate, one.low, one.high) for one in (told.at_start, told.at_winner, told.change)
            )
            found.append(InteractionCheck(parameter, chosen, runner_up, at_sweep, at_winner, change, told.verdict))
        return found

    def _of_level(self, row: Mapping[str, str]) -> np.ndarray:
        return self.of(trial_name(row["trial_id"]), int(row["epoch"]))

    def _metrics(self, probabilities: np.ndarray) -> dict[str, float]:
        return evaluate(self.split.truth, probabilities, self._labels)


def compare_studies(studies: Sequence[StudyFolder]) -> list[RankedCandidate] | None:
    """The winners of studies compared with each other, in the studies' order; None where one has none yet, or where
    they were not scored on the same texts. Raises UserError where their metrics differ."""
    metrics = {study.read_recipe().metric for study in studies}
    if len(metrics) > 1:
        raise UserError(f"The studies decide by {' and '.join(sorted(metrics))}: compare those of one metric.")
    scored = [StudyScores(study) for study in studies]
    if not all(one.winner() for one in scored) or not all(_alike(one.split, scored[0].split) for one in scored):
        return None
    candidates = {number: one.of_winner() for number, one in enumerate(scored)}
    return list(scored[0].rank(candidates).values())


def _alike(one: Split, other: Split) -> bool:
    """Whether two splits are the same texts, as far as labels and dialogues tell."""
    return (
        one.labels == other.labels
        and np.array_equal(one.truth, other.truth)
        and np.array_equal(one.dialogues, other.dialogues)
    )


_OF_A_CELL = ("learning_rate", "epoch", "trial_id")


@dataclass(frozen=True)
class _Opened:
    """The test split, the final model as a candidate on it, float32 [1, n, classes], and what the soup does in its
    place; None where that is another model's, or there is none."""

    split: Split
    final: np.ndarray
    soup_instead: Change | None


def _open(study_folder: StudyFolder) -> _Opened | None:
    """What `evaluate` left of the test split; None where it was not opened."""
    of_final, of_soup = (study_folder.evaluation_file("test", of) for of in (FINAL, SOUP))
    if not of_final.is_file():
        return None
    labels = tuple(study_folder.read_metadata().labels)
    found = read_predictions(of_final, labels)
    split, candidate = Split(found.truth, found.dialogues, labels), found.probabilities[None]
    soup_instead = None
    if of_soup.is_file() and study_folder.read_final().model == study_folder.read_best().hyperparameters.model:
        soup = read_predictions(of_soup, labels).probabilities[None]
        soup_instead = _change(split, candidate, soup, study_folder.read_recipe().metric)
    return _Opened(split, candidate, soup_instead)


def classes(split: Split, candidate: np.ndarray, metric: str) -> ClassReport:
    """How a candidate's first run does, class by class, and its score in the metric with its interval."""
    from sklearn.metrics import confusion_matrix

    metrics = evaluate(split.truth, candidate[0], split.labels)
    confusion = confusion_matrix(split.truth, candidate[0].argmax(axis=1), labels=np.arange(len(split.labels)))
    support = dict(zip(split.labels, confusion.sum(axis=1).tolist(), strict=True))
    score = ScoreEstimate(metrics[metric], *interval(split, candidate[:1], metric))
    return ClassReport(split.labels, confusion, support, metrics, score)


def _corrections(
    split: Split, candidate: np.ndarray, fitted: FittedCorrection, metric: str, opened: _Opened | None
) -> list[PostHocGain]:
    """What adjusting and calibrating do for the model of which `candidate` and `fitted` are, in a study that `metric`
    decides."""
    adjustment, calibration, correction = fitted.adjustment, fitted.calibration, fitted.correction
    adjusted_p = difference(split, adjustment.probabilities[None], candidate[:1], fitted.metric).p
    traded = ""
    if adjustment.strength > correction.strength:
        traded = f" It trades {metric} for the rare classes, so it is not used."
    adjusted_on_test = scaled_on_test = None
    if opened is not None:
        priors = np.array(correction.priors)
        adjusted = adjust(opened.final[0], priors, adjustment.strength)
        adjusted_on_test = _change(opened.split, opened.final, adjusted[None], fitted.metric)
        unscaled = adjust(opened.final[0], priors, correction.strength)
        before, after = (
            expected_calibration_error(opened.split.truth, one)
            for one in (unscaled, apply_temperature(unscaled, calibration.temperature))
        )
        scaled_on_test = Change(before, after, None)
    return [
        PostHocGain(
            name=ADJUSTMENT,
            metric=fitted.metric,
            on_dev=Change(adjustment.unadjusted, adjustment.cross_validated, adjusted_p),
            on_test=adjusted_on_test,
            kept=correction.strength > 0,
            detail=f"Strength {adjustment.strength:g}, chosen by cross-validation over dialogues.{traded}",
        ),
        PostHocGain(
            name=TEMPERATURE,
            metric="calibration error",
            on_dev=Change(calibration.before.error, calibration.after.error, None),
            on_test=scaled_on_test,
            kept=calibration.gains,
            detail=f"Temperature {calibration.temperature:.2f}; the likeliest class stays the same.",
        ),
    ]


def _change(split: Split, before: np.ndarray, after: np.ndarray, metric: str) -> Change:
    """Two candidates of one run compared."""
    without, changed = (evaluate(split.truth, one[0], split.labels)[metric] for one in (before, after))
    return Change(without, changed, difference(split, after, before, metric).p)


def _at(cell: CellAnalysis) -> _Place:
    return cell.learning_rate, cell.epoch


def _place(row: Mapping[str, str]) -> _Place:
    return float(row["learning_rate"]), int(row["epoch"])


def _cost(study_folder: StudyFolder, recipe: Recipe) -> Cost:
    searched = search_space(recipe)
    cells = study_folder.read_cells()
    # Where it diverged, an epoch ended early.
    trained = [row for row in cells if not isnan(float(row[recipe.metric])) and float(row["train_seconds"])]

    def a_second(name: str) -> float | None:
        known = [float(row[name]) / float(row["train_seconds"]) for row in trained if name in row]
        return median(finite) if (finite := [one for one in known if not isnan(one)]) else None

    # Of other architectures neither their padding nor their products are counted.
    return Cost(
        stages={time.stage: time.measured for time in study_folder.read_times()},
        # A diverged epoch predicts nothing, and ends its run.
        epochs=sum(not file.name.startswith(SOUP) for file in study_folder.predictions.glob("*-*.csv")),
        grid_epochs=sum(int(run["stop_epoch"]) for run in searched.grid_trials(searched.start)),
        product_epochs=searched.plan().full_product_epochs,
        tokens_per_second=a_second("train_tokens"),
        padding_share=float(trained[0]["train_padding"]) if trained and "train_padding" in trained[0] else None,
        limit_share=a_second("limit_seconds"),
    )


def _data(study_folder: StudyFolder, recipe: Recipe) -> DataSummary:
    metadata = study_folder.read_metadata() if study_folder.metadata_file.is_file() else None
    lengths = study_folder.read_lengths()
    classes = metadata.classes if metadata else {}
    return DataSummary(
        recipe.corpus, classes, np.array(lengths) if lengths else None, recipe.hyperparameters.max_length
    )
