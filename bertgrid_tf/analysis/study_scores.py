"""The dev predictions of a study's trials, compared with each other: cells, levels, seeds, interactions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import isnan
from pathlib import Path
from typing import TypeVar

import numpy as np

from bertgrid_tf.analysis.records import (
    CellAnalysis,
    InteractionCheck,
    LevelAnalysis,
    ScoreEstimate,
    SeedRepeats,
    SweepAnalysis,
    cheapest_tied,
)
from bertgrid_tf.budget.time_budget import BudgetLog
from bertgrid_tf.errors import DamagedError, UserError
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.metrics.compare import Split, compare_with_best, interaction, selection_optimism
from bertgrid_tf.storage.files import ANEW
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import CELL_COLUMNS, StudyFolder, trial_name
from bertgrid_tf.trial_config import FINAL, INTERACTIONS, SEEDS

_Key = TypeVar("_Key")
_Place = tuple[float, int]


@dataclass(frozen=True)
class RankedCandidate:
    """A candidate compared with the best of several.

    Attributes:
        score: The score with its interval; None without predictions.
        p: The p value of no difference from the best, Holm-adjusted; None without a score.
        tied: Whether p is above 5 %.
        best: Whether this candidate is the best.
    """

    score: ScoreEstimate | None = None
    p: float | None = None
    tied: bool = False
    best: bool = False


_UNSCORED = RankedCandidate()


class StudyScores:
    """The dev predictions of a study's trials as candidates: float32 [seeds, texts, classes]."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self.recipe = folder.read_recipe()
        metadata = folder.read_metadata() if folder.metadata_file.exists() else None
        self.labels = metadata.labels if metadata else ()
        self._counts = metadata.classes.get("dev") if metadata else None
        self._budget_log = BudgetLog(folder.budget_file)
        self._searched = self._budget_log.chosen(self.recipe)
        self._split: Split | None = None
        self._follow_ups = folder.read_follow_ups()
        self._sweeps = folder.read_sweeps()
        self._cells = folder.read_cells()
        self._trials: dict[_Place, str] = {_place(row): row["trial_id"] for row in self._cells}
        self.of = cache(self._read)
        """Return the predictions of a trial, by its name, after an epoch."""

    def _read(self, trial: str, epoch: int) -> np.ndarray:
        path = predictions_file(self.folder.predictions, trial, epoch)
        read = read_predictions(path, self.labels, self._counts)
        if self._split is None:
            self._split = Split(read.truth, read.dialogues, self.labels)
        elif not (
            np.array_equal(read.truth, self._split.truth) and np.array_equal(read.dialogues, self._split.dialogues)
        ):
            raise DamagedError(f"{path} is damaged (its texts are not those of the study's other predictions): {ANEW}.")
        return read.probabilities[None]

    def of_cell(self, learning_rate: float, epoch: int) -> np.ndarray:
        """Return the predictions of a cell with the study's own seed."""
        return self.of(self.trial_of(learning_rate, epoch), epoch)

    def trial_of(self, learning_rate: float, epoch: int) -> str:
        """Return the name of a cell's trial."""
        if (learning_rate, epoch) not in self._trials:
            raise self._contradiction(self.folder.cells_file, f"no cell at {learning_rate:g} after epoch {epoch}")
        return trial_name(self._trials[learning_rate, epoch])

    def _contradiction(self, path: Path, lacks: str) -> DamagedError:
        return DamagedError(f"{path} is damaged ({lacks}, which other files of the study name): {ANEW}.")

    @property
    def split(self) -> Split:
        """The labels and dialogues of dev; known once predictions have been read."""
        assert self._split is not None
        return self._split

    def rank(self, candidates: Mapping[_Key, np.ndarray]) -> dict[_Key, RankedCandidate]:
        """Compare candidates with the best of them; of equal ones the first is the best."""
        if not candidates:
            return {}
        metric, runs = self.recipe.metric, list(candidates.values())
        compared = compare_with_best(self.split, runs, metric, self.recipe.direction())
        ranked = {}
        for number, (key, candidate) in enumerate(candidates.items()):
            score = ScoreEstimate(float(np.mean(self._scores(candidate))), *compared.intervals[number])
            ranked[key] = RankedCandidate(score, compared.p[number], compared.tied[number], number == compared.best)
        return ranked

    def _scores(self, candidate: np.ndarray) -> list[float]:
        """The score of every seed."""
        metric, truth = self.recipe.metric, self.split.truth
        return [evaluate(truth, seed, self.labels, [metric])[metric] for seed in candidate]

    @cached_property
    def cells(self) -> list[CellAnalysis]:
        """All cells that were tried, row by row."""
        cells = []
        for row in self._cells:
            metrics = {name: float(value) for name, value in row.items() if name not in CELL_COLUMNS}
            ranked = self._ranked.get(_place(row), _UNSCORED)
            cells.append(CellAnalysis(*_place(row), ranked.score, ranked.p, ranked.tied, metrics))
        return cells

    def runs(self) -> list[np.ndarray]:
        """List the predictions of every ended trial with a score, after its best epoch: float32 [texts, classes]."""
        metric, best = self.recipe.metric, dict[str, int]()
        for row in self._sweeps:
            if row["status"] == "COMPLETED":
                best[trial_name(row["trial_id"])] = int(row["epoch"])
        scored = [row for row in self._cells if not isnan(float(row[metric]))]
        # The best epoch is written last, of equal ones the first.
        for row in sorted(scored, key=lambda row: (self.recipe.signed(float(row[metric])), -int(row["epoch"]))):
            best[trial_name(row["trial_id"])] = int(row["epoch"])
        for trial in self._follow_ups:
            if trial.config.with_dev:
                continue
            if scores := [self.recipe.signed(epoch[metric]) for epoch in trial.epochs]:
                best[trial.name] = int(np.argmax(scores)) + 1
        runs = [self.of(trial, epoch)[0] for trial, epoch in best.items()]
        if self.folder.final_file.exists() and self.recipe.final.is_plain:
            final = self.of(FINAL, len(self.folder.read_final().epochs))[0]
            # One that repeats the winner, or has its weights, is no run of its own.
            if not any(np.array_equal(final, run) for run in runs):
                runs.append(final)
        return runs

    def winner(self) -> CellAnalysis | None:
        """Return the cell that the recipe's `selection` takes; None before the first score."""
        if self.recipe.selection == "cheapest-equivalent":
            return cheapest_tied(self.cells)
        return next((cell for cell in self.cells if self._ranked.get(_at(cell), _UNSCORED).best), None)

    def of_winner(self) -> np.ndarray:
        """Return the winner's predictions with all of its seeds."""
        winner = self.winner()
        assert winner is not None
        return self._seeds(_at(winner))

    def optimism(self) -> float | None:
        """Estimate by how much the best cell's score is too good; None with fewer than two cells."""
        candidates = [self.of_cell(*place) for place in self._ranked]
        if len(candidates) < 2:
            return None
        optimism = selection_optimism(self.split, candidates, self.recipe.metric, self.recipe.direction())
        return None if isnan(optimism) else optimism

    def seed_repeats(self) -> list[SeedRepeats]:
        """List the cells that were trained with several seeds."""
        return [
            SeedRepeats(*place, self._scores(candidate))
            for place in self._ranked
            if len(candidate := self._seeds(place)) > 1
        ]

    def tied_at_first(self) -> list[tuple[float, int]]:
        """List learning rate and epoch of the cells that are tied by the study's own seed alone.

        Further seeds never change this list, so a study that is killed between them still trains all of them.
        """
        return [_place(row) for row in self._cells if self._ranked_at_first.get(_place(row), _UNSCORED).tied]

    @cached_property
    def _ranked_at_first(self) -> dict[_Place, RankedCandidate]:
        """The cells with a score, by one seed; of equal ones first that of fewer epochs, then of the earlier row."""
        places = [_place(row) for row in self._cells if not isnan(float(row[self.recipe.metric]))]
        places.sort(key=lambda place: place[1])
        return self.rank({place: self.of_cell(*place) for place in places})

    @cached_property
    def _ranked(self) -> dict[_Place, RankedCandidate]:
        """The cells with a score, in the same order.

        Only cells that were tied with one seed are trained with further seeds. They are compared by all of their
        seeds, and no other cell counts as tied then.
        """
        ranked = self._ranked_at_first
        repeated = {place: seeds for place in ranked if len(seeds := self._seeds(place)) > 1}
        if repeated:
            ranked = {place: replace(cell, tied=False, best=False) for place, cell in ranked.items()}
            ranked |= self.rank(repeated)
        return ranked

    def _seeds(self, place: _Place) -> np.ndarray:
        """The predictions of a cell with every seed, the study's own first."""
        rate, epoch = place
        schedule_epochs = self._searched.epochs if self._searched.grid_schedule == "shared" else epoch
        others = [
            self.of(trial.name, epoch)
            for trial in self._follow_ups
            if trial.config.stage == SEEDS
            and trial.config.hyperparameters.learning_rate == rate
            and trial.config.schedule_epochs == schedule_epochs
            and len(trial.epochs) >= epoch
        ]
        return np.concatenate([self.of_cell(*place), *others])

    def sweeps(self) -> list[SweepAnalysis]:
        """List every swept parameter as far as the search has come."""
        left_out = {line["trial"] for line in self._budget_log.of("leave_out")}
        sweeps = []
        for parameter in dict.fromkeys(row["parameter"] for row in self._sweeps):
            rows = [row for row in self._sweeps if row["parameter"] == parameter]
            scored = self.rank({row["level"]: self._of_level(row) for row in rows if row["status"] == "COMPLETED"})
            typed = {str(level): level for level in self.recipe.sweeps[parameter]}
            levels = []
            for row in rows:
                ranked = scored.get(row["level"], _UNSCORED)
                levels.append(
                    LevelAnalysis(
                        level=typed.get(row["level"], row["level"]),
                        epoch=int(row["epoch"]) if ranked.score else None,
                        score=ranked.score,
                        p=ranked.p,
                        tied=ranked.tied,
                        chosen=row["chosen"] == "True",
                        status="LEFT_OUT" if f"{parameter}={row['level']}" in left_out else row["status"],
                        overruled=row["overruled"] == "True",
                    )
                )
            sweeps.append(SweepAnalysis(parameter, levels))
        return sweeps

    def interaction_checks(self, best: CellAnalysis) -> list[InteractionCheck]:
        """Compare the lead of each sweep's chosen level at the best cell with its lead in the sweep."""
        checks = []
        for trial in self._follow_ups:
            parameter = trial.config.parameter
            if trial.config.stage != INTERACTIONS or not trial.epochs or parameter is None:
                continue
            levels = {row["level"]: row for row in self._sweeps if row["parameter"] == parameter}
            ended = sum(row["status"] in ("COMPLETED", "FAILED") for row in levels.values())
            if ended < len(self.recipe.sweeps.get(parameter, ())):
                continue  # The study grows, and new levels of the sweep are being trained.
            chosen = next((level for level, row in levels.items() if row["chosen"] == "True"), "")
            runner_up = str(getattr(trial.config.hyperparameters, parameter, None))
            if not {chosen, runner_up} <= {level for level, row in levels.items() if row["status"] == "COMPLETED"}:
                raise self._contradiction(self.folder.sweeps_file, f"no chosen level of {parameter} beside {runner_up}")
            compared = interaction(
                self.split,
                (self._of_level(levels[chosen]), self._of_level(levels[runner_up])),
                (self.of_cell(*_at(best)), self.of(trial.name, len(trial.epochs))),
                self.recipe.metric,
                self.recipe.direction(),
            )
            at_sweep, at_winner, change = (
                ScoreEstimate(lead.estimate, lead.low, lead.high)
                for lead in (compared.at_start, compared.at_winner, compared.change)
            )
            leads, p = (at_sweep, at_winner, change), compared.at_winner.p
            checks.append(InteractionCheck(parameter, chosen, runner_up, *leads, p, compared.verdict))
        return checks

    def _of_level(self, row: Mapping[str, str]) -> np.ndarray:
        return self.of(trial_name(row["trial_id"]), int(row["epoch"]))


def compare_studies(studies: Sequence[StudyFolder]) -> list[RankedCandidate] | None:
    """Compare the winners of studies with each other.

    Returns:
        The winners in the studies' order; None where a study has no winner yet, or its dev split is not the others'.

    Raises:
        UserError: The studies decide by different metrics.
    """
    metrics = {study.read_recipe().metric for study in studies}
    if len(metrics) > 1:
        raise UserError(f"The studies decide by {' and '.join(sorted(metrics))}: compare those of one metric.")
    scores = [StudyScores(study) for study in studies]
    if not all(study.winner() for study in scores) or not all(_same_texts(one, scores[0]) for one in scores):
        return None
    return list(scores[0].rank({number: study.of_winner() for number, study in enumerate(scores)}).values())


def _same_texts(one: StudyScores, other: StudyScores) -> bool:
    """Whether two dev splits are the same texts, as far as labels and dialogues show."""
    parts = ("labels", "truth", "dialogues")
    return all(np.array_equal(getattr(one.split, part), getattr(other.split, part)) for part in parts)


def _at(cell: CellAnalysis) -> _Place:
    return cell.learning_rate, cell.epoch


def _place(row: Mapping[str, str]) -> _Place:
    return float(row["learning_rate"]), int(row["epoch"])
