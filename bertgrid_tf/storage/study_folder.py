"""One results folder: which file holds what, and reading it back."""

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bertgrid_tf import recipe as recipes
from bertgrid_tf.errors import UserError
from bertgrid_tf.metrics.correction import Correction
from bertgrid_tf.recipe import Recipe, Value
from bertgrid_tf.storage.files import write_text
from tuners.table import Table, rows_in_order


@dataclass(frozen=True)
class StudyMetadata:
    """What a study knows of its data and of the software that it ran on (`study.json`).

    Attributes:
        fingerprint: of the corpus (`Corpus.fingerprint`).
        labels: class names in the order of their ids.
        speakers: utterances per speaker in the training split.
        checkpoints: what each model of the search was (`bert.checkpoint.identity`).
        versions: of bertgrid-tf and of the libraries that the numbers depend on.
        hardware: what the study began on, in words.
        classes: utterances per class in train and in dev.
    """

    fingerprint: str
    labels: tuple[str, ...]
    speakers: Mapping[str, int]
    checkpoints: Mapping[str, str]
    versions: Mapping[str, str]
    hardware: str = ""
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class FinalRun:
    """The final model's run (`final.json`).

    Attributes:
        model: what was trained.
        settings: of the run, the final profile's included.
        horizon: epochs that its schedule was spread over.
        epochs: dev metrics after each epoch trained; the last are the model's.
        gpus: how many trained it together, each on its share of every batch; 1 for the CPU too.
    """

    model: str
    hyperparameters: Mapping[str, Any]
    horizon: int
    epochs: list[dict[str, float]]
    gpus: int = 1


@dataclass(frozen=True)
class MeasuredSetting:
    """The value of an `auto` setting in a study (`auto_settings.json`).

    Attributes:
        value: Of the recipe's key.
        of: What the value was measured for; for anything else it is measured anew.
        on: The device.
        because: The reason, a clause in which "it" is the value.
        curve: The measurements, a line each, every line with the same columns.
    """

    value: Value
    of: Mapping[str, Value]
    on: str
    because: str
    curve: Sequence[Mapping[str, Value]]


@dataclass(frozen=True)
class FollowUpTrial:
    """A run after the search, by which its winner is looked at again (`follow_up/NAME.json`).

    Attributes:
        name: of its predictions and of its folder while it runs.
        stage: "repeats", another seed of a row with cells of the tied set; "audit", the runner-up of a sweep in the
            winner's place.
        values: of the run.
        seed: that decides its draws.
        parameter: that is audited; None for a repeat.
        epochs: dev metrics after each, up to the last or until it diverged; none before it has ended.
    """

    name: str
    stage: str
    values: Mapping[str, Value]
    seed: int
    parameter: str | None = None
    epochs: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True)
class Soup:
    """The average of the weights of several rows (`soup.json`).

    Attributes:
        cells: learning rate and epoch of each that went in, the best first.
        left_out: of each that did not.
        metrics: the soup's, on dev.
    """

    cells: Sequence[tuple[float, int]]
    left_out: Sequence[tuple[float, int]]
    metrics: Mapping[str, float]


@dataclass
class StageTime:
    """What a stage was predicted to take, and took over all sessions, in seconds (a line of `times.csv`).

    Attributes:
        stage: Its name.
        at_beginning: Predicted when it began; of the first stage, after its first steps.
        after_first_epoch: Predicted after the first epoch of the study.
        measured: So far; without the epochs that a killed session did not finish.
    """

    stage: str
    at_beginning: float | None = None
    after_first_epoch: float | None = None
    measured: float = 0.0


_Record = TypeVar("_Record")


class StudyFolder:
    """The folder of one study.

    `recipe.yaml`, `study.json`: what was asked, and what it ran on. `oracle.json`, `trial_*/`: KerasTuner's state.
    `sweeps.csv`, `grid.csv`, `cells.csv`: the numbers. `best.yaml`: the winner as a recipe. `predictions/`: what every
    run says of dev after each epoch. `lengths.csv`: how long the winner's inputs are. `follow_up/`: runs by which the
    winner is looked at again. `soup.json`, `soup/`: the rows' weights averaged. `final/`, `final.json`, `model/`: the
    final model's state, scores and files. `report.html`, `figures/`: all of it for a person to look at.
    `evaluations.csv`, `evaluations/`: which split was opened when, and what the models say of it. `auto_settings.json`: what
    `auto` stands for. `times.csv`: what every stage was predicted to take and took. `budget.jsonl`: what was left out
    for lack of time.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.recipe_file = folder / "recipe.yaml"
        self.metadata_file = folder / "study.json"
        self.sweeps_file = folder / "sweeps.csv"
        self.grid_file = folder / "grid.csv"
        self.cells_file = folder / "cells.csv"
        self.best_file = folder / "best.yaml"
        self.final_file = folder / "final.json"
        self.auto_settings_file = folder / "auto_settings.json"
        self.evaluations_file = folder / "evaluations.csv"
        self.evaluations = folder / "evaluations"
        self.clock_file = folder / "times.csv"
        self.budget_file = folder / "budget.jsonl"
        self.lengths_file = folder / "lengths.csv"
        self.report_file = folder / "report.html"
        self.figures = folder / "figures"
        self.soup_file = folder / "soup.json"
        self.soup = folder / "soup"
        self.follow_up_folder = folder / "follow_up"
        self.predictions = folder / "predictions"
        self.final_state = folder / "final"
        self.model = folder / "model"
        self.correction_file = self.model / "correction.json"

    @classmethod
    def existing(cls, folder: Path) -> "StudyFolder":
        """The folder of a study that has begun. Raises UserError where it is none."""
        results = cls(folder)
        if not results.recipe_file.is_file():
            raise UserError(f"{folder} is no results folder: it has no recipe.yaml; name the folder of a study.")
        return results

    def recipe(self) -> Recipe:
        """The recipe as run."""
        return recipes.load(self.path.name, self.recipe_file)

    def metadata(self) -> StudyMetadata:
        """What the study ran on. Raises UserError where `study.json` is missing or damaged."""
        return self._read(self.metadata_file, StudyMetadata)

    def best(self) -> Recipe:
        """The winner as a recipe. Raises UserError where the grid has not ended."""
        if not self.best_file.is_file():
            raise UserError(f"The study in {self.path} has no winner yet: run its `tune` command again to go on.")
        return recipes.load(self.path.name, self.best_file)

    def final(self) -> FinalRun:
        """The final model's run. Raises UserError where there is none (yet)."""
        if not self.final_file.is_file():
            raise UserError(
                f"The study in {self.path} has no final model: run its `tune` command again to go on, "
                "or with another --final-model."
            )
        return self._read(self.final_file, FinalRun)

    def table(self) -> Table | None:
        """The learning-rate × epoch table in the metric's own unit, exactly as scored; None before the first epoch."""
        recipe = self.recipe()
        cells = self.rows(self.cells_file)
        if not cells:
            return None
        # A search may have tried rates between the recipe's.
        rates = rows_in_order(recipe.learning_rates, (float(cell["learning_rate"]) for cell in cells))
        scores = [[float("nan")] * recipe.epochs for _ in rates]
        tried = [[False] * recipe.epochs for _ in rates]
        for cell in cells:
            row, column = rates.index(float(cell["learning_rate"])), int(cell["epoch"]) - 1
            scores[row][column], tried[row][column] = float(cell[recipe.metric]), True
        return Table(rates, recipe.epochs, scores, tried, recipe.direction())  # type: ignore[arg-type]

    def rows(self, file: Path) -> list[dict[str, str]]:
        """The lines of one of the CSV files; none where it does not exist yet. Raises UserError where it is damaged."""
        if not file.is_file():
            return []
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        # A cut line lacks fields, which DictReader fills with None.
        if any(None in row.values() for row in rows):
            raise UserError(f"{file} is damaged: run the study's `tune` command again, which writes it anew.")
        return rows

    def times(self) -> list[StageTime]:
        """What every stage was predicted to take and took so far, in the order of the stages."""
        found = []
        for row in self.rows(self.clock_file):
            first, later = (float(row[name]) if row[name] else None for name in ("at_beginning", "after_first_epoch"))
            found.append(StageTime(row["stage"], first, later, float(row["measured"])))
        return found

    def write_times(self, times: Iterable[StageTime]) -> None:
        """Writes `times.csv`, in seconds."""
        lines = ["stage,at_beginning,after_first_epoch,measured"]
        for time in times:
            seconds = (time.at_beginning, time.after_first_epoch, time.measured)
            lines.append(",".join([time.stage, *("" if one is None else f"{one:.3f}" for one in seconds)]))
        write_text(self.clock_file, "\n".join(lines) + "\n")

    def measured(self) -> dict[str, MeasuredSetting]:
        """What `auto` stands for, by the recipe's dotted keys. Raises UserError where `auto_settings.json` is damaged."""
        if not self.auto_settings_file.exists():
            return {}
        return self._read(
            self.auto_settings_file, lambda **found: {key: MeasuredSetting(**one) for key, one in found.items()}
        )

    def write_auto_settings(self, measured: Mapping[str, MeasuredSetting]) -> None:
        """Writes `auto_settings.json`, unless there is nothing to write."""
        if measured:
            found = {key: asdict(one) for key, one in measured.items()}
            write_text(self.auto_settings_file, json.dumps(found, ensure_ascii=False, indent=1) + "\n")

    def follow_up_trials(self) -> list[FollowUpTrial]:
        """The runs after the search that have ended, by their names. Raises UserError where a file is damaged."""
        return [self._read(path, FollowUpTrial) for path in sorted(self.follow_up_folder.glob("*.json"))]

    def write_follow_up(self, run: FollowUpTrial) -> None:
        """Writes a run after the search that has ended."""
        path = self.follow_up_folder / f"{run.name}.json"
        write_text(path, json.dumps(asdict(run), ensure_ascii=False, indent=1) + "\n")

    def read_soup(self) -> Soup | None:
        """The average of the rows, if one was made. Raises UserError where `soup.json` is damaged."""
        return self._read(self.soup_file, Soup) if self.soup_file.is_file() else None

    def write_soup(self, soup: Soup) -> None:
        """Writes `soup.json`."""
        write_text(self.soup_file, json.dumps(asdict(soup), ensure_ascii=False, indent=1) + "\n")

    def evaluation(self, split: str, of: str) -> Path:
        """What the "final" model or the "soup" says of a split that was opened (`predictions.write`)."""
        return self.evaluations / f"{split}-{of}.csv"

    def correction(self) -> Correction | None:
        """What is done to the final model's probabilities; None where nothing was fitted. Raises UserError where
        `correction.json` is damaged."""
        return self._read(self.correction_file, Correction) if self.correction_file.is_file() else None

    def write_correction(self, correction: Correction) -> None:
        """Writes `model/correction.json`."""
        write_text(self.correction_file, json.dumps(asdict(correction)) + "\n")

    def write_metadata(self, metadata: StudyMetadata) -> None:
        """Writes `study.json`."""
        write_text(self.metadata_file, json.dumps(asdict(metadata), ensure_ascii=False, indent=1) + "\n")

    def write_final(self, final: FinalRun) -> None:
        """Writes `final.json`."""
        write_text(self.final_file, json.dumps(asdict(final), ensure_ascii=False, indent=1) + "\n")

    def _read(self, path: Path, made: Callable[..., _Record]) -> _Record:
        try:
            return made(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} is missing or damaged: restore it from a copy, or start the study over with --fresh."
            ) from error
