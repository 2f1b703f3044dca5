"""The folder of one study: its files and columns, with their readers and writers."""

import io
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields, replace
from math import inf, isfinite, isinf, isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pandas as pd
from pydantic import TypeAdapter

from bertgrid_tf.errors import DamagedError, UserError
from bertgrid_tf.hyperparameters import AUTO, Hyperparameters
from bertgrid_tf.metrics.classification import unit
from bertgrid_tf.metrics.correction import Correction
from bertgrid_tf.recipe import Recipe, load_recipe
from bertgrid_tf.storage.files import ANEW, COPY, checked, read_json, read_lines, reading, write_table, write_text
from bertgrid_tf.storage.records import (
    CellLine,
    EvaluationLine,
    FinalTrial,
    FollowUpTrial,
    LengthLine,
    MeasuredSetting,
    Mistake,
    SearchConfidence,
    Soup,
    StageTime,
    StudyMetadata,
    SweepLine,
    TrackedStudy,
    TrialRecord,
)
from bertgrid_tf.trial_config import FINAL, SOUP, TrialConfig
from tuners.files import delete, read_limited
from tuners.table import Table, rows_in_order

if TYPE_CHECKING:
    from keras_tuner.engine.trial import Trial

    from tuners import ScoredCell, SweepLevel

LOCK_FILE = "study.lock"
_TRIAL = "trial_"
_TRAINED_AGAIN = "run the study's `tune` command again, which trains the trial again"
_FINAL_AGAIN = "run the study's `tune` command again, which trains the final model again"
_FITTED_AGAIN = "run the study's `tune` command again, which fits it anew"
_NO_SOUP = "restore it from a copy, or delete it to go on without a soup"
_NO_RECORD = "restore it from a copy, or delete it: the study then has no record of earlier evaluations"
_NO_TRACKING = "restore it from a copy, or delete it: trackers then take the study for another one"
_SWEEP_COLUMNS = ["parameter", "level", "epoch", "score", "chosen", "trial_id", "status", "overruled"]
CELL_COLUMNS = ("learning_rate", "epoch", "trial_id")
"""The columns of `cells.csv` that say which cell a line is; the others are metrics."""

_MOST_TEXTS = 10**8


def trial_name(trial_id: str) -> str:
    """Return the name of a trial of the search, which is that of its folder and of its predictions."""
    return f"{_TRIAL}{trial_id}"


def member_name(number: int) -> str:
    """Return the name of the trial of one of several models, from 1, whose mean is the final model."""
    return f"{FINAL}_{number}"


def _written(value: Any) -> Any:
    # UTF-8 has no surrogates, and pandas reads no further than a NUL.
    return value.encode("utf-8", "replace").decode().replace("\0", "") if isinstance(value, str) else value


def weights_file(folder: Path, epoch: int) -> Path:
    """Return where a trial's folder keeps the weights after its best epoch, for a soup or the final model."""
    return folder / f"weights-{epoch}.npz"


class StudyFolder:
    """The folder of one study.

    `recipe.yaml` and `study.json` hold what was asked for and what it ran on; `oracle.json` and `trial_*/` KerasTuner's
    state; `sweeps.csv`, `grid.csv` and `cells.csv` the scores; `best.yaml` the winner as a recipe; `confidence.json`
    how sure it is the grid's; `predictions/` the dev predictions of every epoch; `lengths.csv` the token lengths of the
    winner's inputs; `follow_up/` trials after the search; `soup.json` and `soup/` the averaged rows; `final/`,
    `final.json` and `model/` the final model's state, scores and files; `report.html` and `figures/` all of it to look
    at; `out_of_fold.csv` predictions of the training texts by members that were not trained on them; `tensorboard/`
    logs; `tracking.json` the id of the study in experiment trackers; `evaluations.csv` and
    `evaluations/` which split was opened when, and the predictions there; `auto_settings.json` the values measured for
    `auto`; `mistakes.csv` the dev texts that the runs label otherwise; `times.csv` predicted and measured time by
    stage; `budget.jsonl` what was left out for lack of time.

    Args:
        path: The folder, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe_file = path / "recipe.yaml"
        self.metadata_file = path / "study.json"
        self.oracle_file = path / "oracle.json"
        self.sweeps_file = path / "sweeps.csv"
        self.grid_file = path / "grid.csv"
        self.cells_file = path / "cells.csv"
        self.best_file = path / "best.yaml"
        self.confidence_file = path / "confidence.json"
        self.final_file = path / "final.json"
        self.auto_settings_file = path / "auto_settings.json"
        self.evaluations_file = path / "evaluations.csv"
        self.evaluations = path / "evaluations"
        self.times_file = path / "times.csv"
        self.budget_file = path / "budget.jsonl"
        self.lengths_file = path / "lengths.csv"
        self.mistakes_file = path / "mistakes.csv"
        self.report_file = path / "report.html"
        self.figures = path / "figures"
        self.tensorboard = path / "tensorboard"
        self.tracking_file = path / "tracking.json"
        self.soup_file = path / "soup.json"
        self.soup_model = path / "soup"
        self.follow_up = path / "follow_up"
        self.predictions = path / "predictions"
        self.final_state = path / "final"
        self.model = path / "model"
        self.out_of_fold_file = path / "out_of_fold.csv"
        self.correction_file = self.model / "correction.json"
        self.lock_file = path / LOCK_FILE

    @classmethod
    def existing(cls, path: Path) -> "StudyFolder":
        """Return the folder of a study that has begun.

        Raises:
            UserError: It is none.
        """
        folder = cls(path)
        if not folder.recipe_file.is_file():
            raise UserError(f"{path} is no study folder: it has no recipe.yaml; name the folder of a study.")
        return folder

    def trial_folder(self, trial_id: str) -> Path:
        """Return the folder of a trial of the search."""
        return self.path / trial_name(trial_id)

    def trial_ids(self) -> list[str]:
        """Return the ids of the search's trials that have begun, in order."""
        return sorted(file.parent.name.removeprefix(_TRIAL) for file in self.path.glob(f"{_TRIAL}*/trial.json"))

    def delete_weights(self, trial_id: str = "*") -> None:
        """Delete the weights that a trial of the search, or each of them, has kept."""
        for file in self.path.glob(f"{_TRIAL}{trial_id}/weights-*.npz"):
            file.unlink()

    def read_trial(self, trial_id: str) -> "Trial":
        """Read a trial of the search that has begun, as KerasTuner keeps it."""
        from keras_tuner.engine.trial import Trial

        with reading(self._trial_file(trial_id), _TRAINED_AGAIN) as file:
            return Trial.from_state(read_json(file, dict[str, Any]))

    def read_trials(self) -> list[dict[str, Any]]:
        """Read KerasTuner's records of the search's trials that have begun, in order, without importing KerasTuner."""
        return [self.read_trial_record(trial_id) for trial_id in self.trial_ids()]

    def read_trial_record(self, trial_id: str) -> dict[str, Any]:
        """Read KerasTuner's record of a trial without importing KerasTuner."""
        with reading(self._trial_file(trial_id), _TRAINED_AGAIN) as file:
            record = read_json(file, dict[str, Any])
            checked(TrialRecord, record)
            TrialConfig.from_values(record["hyperparameters"]["values"], 0)
        return record

    def restart_trial(self, trial_id: str) -> None:
        """Let a trial of the search begin again, so that the next session trains it."""
        record = self.read_trial_record(trial_id)
        unscored: dict[str, Any] = {
            "status": "RUNNING",
            "metrics": {"metrics": {}},
            "score": None,
            "best_step": 0,
            "message": None,
        }
        write_text(self._trial_file(trial_id), json.dumps(record | unscored))

    def _trial_file(self, trial_id: str) -> Path:
        return self.trial_folder(trial_id) / "trial.json"

    # Recipes

    def read_recipe(self) -> Recipe:
        """Read the recipe as it was asked for."""
        with reading(self.recipe_file, COPY):
            return load_recipe(self.path.name, self.recipe_file)

    def write_recipe(self, recipe: Recipe) -> None:
        """Write `recipe.yaml`."""
        write_text(self.recipe_file, recipe.to_yaml())

    def read_best(self) -> Recipe:
        """Read the winner as a recipe.

        Raises:
            UserError: The search has not ended.
        """
        if not self.best_file.exists():
            raise UserError(f"The study in {self.path} has no winner yet: run its `tune` command again to go on.")
        with reading(self.best_file, ANEW):
            return load_recipe(self.path.name, self.best_file)

    def winner_command(self, corpus: str) -> str:
        """Return the command that trains the winner in a study of its own."""
        return f"bertgrid-tf tune {corpus} --recipe {shlex.quote(str(self.best_file))} --study again"

    def predict_command(self) -> str:
        """Return the command that labels new texts with the final model."""
        return f"bertgrid-tf predict {shlex.quote(str(self.path))} FILE -o OUT"

    def write_best(self, winner: Recipe, headline: str) -> None:
        """Write `best.yaml` with a comment in front."""
        lines = "".join(f"# {line}\n" for line in headline.splitlines())
        write_text(self.best_file, lines + winner.to_yaml())

    # Records

    def read_metadata(self) -> StudyMetadata:
        """Read `study.json`."""
        with reading(self.metadata_file, COPY) as file:
            metadata = read_json(file, StudyMetadata)
            for split in ("train", "dev"):
                counts = metadata.classes[split]
                if sorted(counts) != sorted(metadata.labels) or not sum(counts.values()):
                    raise ValueError(f"its classes are not those that it counts in {split}")
        return metadata

    def write_metadata(self, metadata: StudyMetadata) -> None:
        """Write `study.json`."""
        self._write(self.metadata_file, metadata)

    def read_confidence(self) -> SearchConfidence | None:
        """Read how sure the search is of its best cell; None where it does not say."""
        if not self.confidence_file.exists():
            return None
        with reading(self.confidence_file, ANEW) as file:
            return read_json(file, SearchConfidence)

    def write_confidence(self, confidence: SearchConfidence) -> None:
        """Write `confidence.json`."""
        self._write(self.confidence_file, confidence)

    def read_final(self) -> FinalTrial:
        """Read the final model's trial.

        Raises:
            UserError: There is none, or none yet.
        """
        if not self.final_file.exists():
            raise UserError(f"The study in {self.path} has no final model yet: run its `tune` command again to go on.")
        recipe = self.read_recipe()
        with reading(self.final_file, _FINAL_AGAIN) as file:
            final = read_json(file, FinalTrial)
            _check_scores(final.epochs or [{}], recipe.metric if recipe.final.train_on == "train" else "train_loss")
        return final

    def write_final(self, final: FinalTrial) -> None:
        """Write `final.json`."""
        self._write(self.final_file, final)

    def final_models(self) -> list[Path]:
        """Return the folder of each member of the final model; raise UserError where there is none, or none yet."""
        models = [self.member_model(number) for number in range(1, self.read_final().members + 1)]
        if not all(model.is_dir() for model in models):
            raise UserError(f"The study in {self.path} has no model folder yet: run its `tune` command again to go on.")
        return models

    def member_model(self, number: int) -> Path:
        """Return the folder of a member of the final model, from 1; that of the first holds the others."""
        return self.model if number == 1 else self.model / "members" / str(number)

    def has_final_model(self) -> bool:
        """Return whether the final model is trained and saved."""
        return self.model.is_dir() and self.final_file.exists()

    def read_auto_settings(self) -> dict[str, MeasuredSetting]:
        """Read the measured values of `auto` settings, by the recipe's dotted keys."""
        if not self.auto_settings_file.exists():
            return {}
        with reading(self.auto_settings_file, COPY) as file:
            settings = read_json(file, dict[str, MeasuredSetting])
            for key, setting in settings.items():
                Hyperparameters.model_validate({key.rpartition(".")[2]: setting.value})
                if setting.value == AUTO:
                    raise ValueError(f"{key} has no value")
        return settings

    def write_auto_settings(self, settings: Mapping[str, MeasuredSetting]) -> None:
        """Write `auto_settings.json`, unless there is nothing to write."""
        if settings:
            self._write(self.auto_settings_file, dict(settings))

    def read_follow_ups(self) -> list[FollowUpTrial]:
        """Read the trials after the search that have ended, by their names."""
        return [self.read_follow_up(path) for path in sorted(self.follow_up.glob("*.json"))]

    def read_follow_up(self, path: Path) -> FollowUpTrial:
        """Read a trial after the search that has ended."""
        metric = self.read_recipe().metric
        with reading(path, _TRAINED_AGAIN) as file:
            trial = read_json(file, FollowUpTrial)
            _check_scores(trial.epochs, "train_loss" if trial.config.with_dev else metric)
            if trial.name != path.stem or len(trial.epochs) > trial.config.stop_epoch:
                raise ValueError("it is of another trial")
        return trial

    def follow_up_file(self, name: str) -> Path:
        """Return the record of a trial after the search."""
        return self.follow_up / f"{name}.json"

    def write_follow_up(self, trial: FollowUpTrial) -> None:
        """Write a trial after the search that has ended."""
        self._write(self.follow_up_file(trial.name), trial)

    def read_soup(self) -> Soup | None:
        """Read the average of the rows, if there is one."""
        if not self.soup_file.exists():
            return None
        metric = self.read_recipe().metric
        with reading(self.soup_file, _NO_SOUP) as file:
            soup = read_json(file, Soup)
            _check_scores([soup.metrics] if soup.cells else [{}], metric)
        return soup

    def write_soup(self, soup: Soup) -> None:
        """Write `soup.json`."""
        self._write(self.soup_file, soup)

    def read_correction(self) -> Correction | None:
        """Read the correction of the final model's probabilities; None where nothing was fitted."""
        if not self.correction_file.exists():
            return None
        classes = len(self.read_metadata().labels)
        with reading(self.correction_file, _FITTED_AGAIN) as file:
            correction = read_json(file, Correction)
            positive = (*correction.priors, correction.temperature)
            if not all(0 < number < inf for number in positive) or not 0 <= correction.strength < inf:
                raise ValueError("its numbers are no correction's")
            if len(correction.priors) != classes:
                raise ValueError("it is of other classes")
        return correction

    def write_correction(self, correction: Correction) -> None:
        """Write `model/correction.json`."""
        self._write(self.correction_file, correction)

    def claim_state(self, state: Path, config: TrialConfig) -> None:
        """Prepare the folder from which a trial after the search resumes: nothing of another configuration stays."""
        file, own = state / "config.json", replace(config, gpus=1)  # A trial resumes on any number of GPUs.
        try:
            with reading(file, _TRAINED_AGAIN) as opened:
                claimed = read_json(opened, TrialConfig) == own
        except UserError:
            claimed = False
        if not claimed:
            delete(state)
            self._write(file, own)

    def tracking_id(self) -> str:
        """Return the id by which experiment trackers know the study; it is drawn when a first one asks."""
        if not self.tracking_file.exists():
            self._write(self.tracking_file, TrackedStudy(uuid4().hex[:12]))
        with reading(self.tracking_file, _NO_TRACKING) as file:
            return read_json(file, TrackedStudy).id

    # Tables

    def write_sweeps(self, levels: Iterable["SweepLevel"]) -> None:
        """Write `sweeps.csv`."""
        # As objects, since a level that failed has no epoch and pandas would turn the others' into 1.0, 2.0.
        rows = [[getattr(level, column) for column in _SWEEP_COLUMNS] for level in levels]
        write_table(self.sweeps_file, pd.DataFrame(rows, columns=_SWEEP_COLUMNS, dtype=object))

    def read_sweeps(self) -> list[dict[str, str]]:
        """Read `sweeps.csv`, a dictionary a line."""
        sweeps = self.read_recipe().sweeps
        with self._lines(self.sweeps_file, SweepLine) as rows:
            for row in rows:
                if row["level"] not in map(str, sweeps.get(row["parameter"], ())):
                    raise ValueError(f"the recipe sweeps no level {row['level'][:50]} of {row['parameter'][:50]}")
                if row["status"] == "COMPLETED" and (not row["epoch"].isdecimal() or isnan(float(row["score"]))):
                    raise ValueError("a completed trial has no score")
        return rows

    def write_cells(self, cells: Sequence["ScoredCell"], table: Table, metric: str) -> None:
        """Write `cells.csv` with every metric, and `grid.csv` with the deciding one, in percent if it is a share."""
        scale, digits = (100, 2) if unit(metric) == "%" else (1, 4)
        table.to_csv(self.grid_file, scale, digits)
        places = ({name: getattr(cell, name) for name in CELL_COLUMNS} for cell in cells)
        write_table(self.cells_file, pd.DataFrame([p | c.metrics for p, c in zip(places, cells, strict=True)]))

    def read_cells(self) -> list[dict[str, str]]:
        """Read `cells.csv`, a dictionary a line."""
        recipe = self.read_recipe()
        with self._lines(self.cells_file, CellLine) as rows:
            places = {(float(row["learning_rate"]), int(row["epoch"])) for row in rows}
            if len(places) < len(rows) or any(epoch > recipe.epochs for _, epoch in places):
                raise ValueError("a cell stands there twice, or after the last epoch")
            if any(isinf(float(row.get(recipe.metric, inf))) for row in rows):
                raise ValueError(f"a cell has no {recipe.metric}")
        return rows

    def read_table(self) -> Table | None:
        """Read the learning-rate × epoch table in the metric's own unit, exactly as scored; None before any epoch."""
        recipe, cells = self.read_recipe(), self.read_cells()
        if not cells:
            return None
        # A search may have tried rates between the recipe's.
        rates = rows_in_order(recipe.learning_rates, (float(cell["learning_rate"]) for cell in cells))
        scores = [[nan] * recipe.epochs for _ in rates]
        tried = [[False] * recipe.epochs for _ in rates]
        for cell in cells:
            row, column = rates.index(float(cell["learning_rate"])), int(cell["epoch"]) - 1
            scores[row][column], tried[row][column] = float(cell[recipe.metric]), True
        return Table(rates, recipe.epochs, scores, tried, recipe.direction())  # type: ignore[arg-type]

    def scored_epochs(self) -> int:
        """Return the number of epochs with dev predictions before the final model; a diverged epoch has none."""
        return sum(not file.name.startswith((SOUP, FINAL)) for file in self.predictions.glob("*-*.csv"))

    def delete_predictions(self, trial: str, after: int = 0) -> None:
        """Delete the dev predictions of a trial after an epoch; "*" stands for any characters."""
        for file in self.predictions.glob(f"{trial}-*.csv"):
            if int(file.stem.rpartition("-")[2]) > after:
                file.unlink()

    def write_lengths(self, lengths: Sequence[int]) -> None:
        """Write `lengths.csv`: how many texts have how many tokens."""
        counts = pd.Series(lengths).value_counts().sort_index()
        write_table(self.lengths_file, pd.DataFrame({"tokens": counts.index, "texts": counts.to_numpy()}))

    def read_lengths(self) -> list[int]:
        """Read the token lengths of the winner's inputs, a number for every text; empty if unknown."""
        with self._lines(self.lengths_file, LengthLine) as rows:
            counts = [(int(row["tokens"]), int(row["texts"])) for row in rows]
            if sum(texts for _, texts in counts) > _MOST_TEXTS:
                raise ValueError("it counts too many texts")
        return [tokens for tokens, texts in counts for _ in range(texts)]

    def write_mistakes(self, mistakes: Sequence[Mistake]) -> None:
        """Write `mistakes.csv`, without the letters that no CSV file can hold."""
        rows = [[_written(value) for value in astuple(mistake)] for mistake in mistakes]
        write_table(self.mistakes_file, pd.DataFrame(rows, columns=[one.name for one in fields(Mistake)]))

    def read_mistakes(self) -> list[Mistake]:
        """Read `mistakes.csv`; empty before the study's search has ended."""
        if not self.mistakes_file.exists():
            return []
        with reading(self.mistakes_file, ANEW) as file:
            # Labels and texts are strings, "nan" and "1" among them.
            table = pd.read_csv(io.BytesIO(read_limited(file)), dtype=str, keep_default_na=False, lineterminator="\n")
            return checked(list[Mistake], table.to_dict("records"))

    def read_times(self) -> list[StageTime]:
        """Read predicted and measured time by stage, in the order of the stages."""
        with self._lines(self.times_file, StageTime) as rows:
            return checked(list[StageTime], rows)

    def write_times(self, times: Iterable[StageTime]) -> None:
        """Write `times.csv`, in seconds."""
        lines = ["stage,at_beginning,after_first_epoch,measured"]
        for time in times:
            seconds = (time.at_beginning, time.after_first_epoch, time.measured)
            lines.append(",".join([time.stage, *("" if one is None else f"{one:.3f}" for one in seconds)]))
        write_text(self.times_file, "\n".join(lines) + "\n")

    # Evaluations

    def evaluation_file(self, split: str, model: str) -> Path:
        """Return where the predictions of the "final" model or the "soup" on an opened split lie."""
        return self.evaluations / f"{split}-{model}.csv"

    def read_evaluations(self) -> list[dict[str, str]]:
        """Read `evaluations.csv`, a dictionary a line."""
        with self._lines(self.evaluations_file, EvaluationLine, _NO_RECORD) as rows:
            return rows

    def append_evaluations(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append lines to `evaluations.csv`."""
        write_table(self.evaluations_file, pd.DataFrame([*self.read_evaluations(), *rows]))

    @contextmanager
    def _lines(self, path: Path, kind: type[Any], remedy: str = ANEW) -> Iterator[list[dict[str, str]]]:
        """Read a table with `read_lines`, none where there is no file, for a block that checks it further."""
        if not path.exists():
            yield []
            return
        with reading(path, remedy) as file:
            yield read_lines(file, kind)

    @contextmanager
    def loading(self, model: Path) -> Iterator[tuple[str, ...]]:
        """Check that a saved model has the study's classes in the study's order, and let the block load it.

        Args:
            model: The final model's folder, or the soup's.

        Yields:
            The classes.

        Raises:
            DamagedError: It has other classes, or the block raised a UserError.
        """
        remedy = "restore the folder from a copy, or delete it"
        if self.model in (model, *model.parents):
            remedy += ": the study's `tune` command then trains the final model again"
        labels = self.read_metadata().labels
        with reading(model / "config.json", remedy) as file:
            names = read_json(file, dict[str, Any]).get("id2label")
            if names != {str(number): label for number, label in enumerate(labels)}:
                raise ValueError("its classes are not those of study.json")
        try:
            yield labels
        except UserError as error:
            raise DamagedError(f"{str(error).rstrip('.')}: {remedy}.") from error

    def _write(self, path: Path, record: Any) -> None:
        content = TypeAdapter(type(record)).dump_python(record, mode="json")
        write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def _check_scores(epochs: Iterable[Mapping[str, float]], metric: str) -> None:
    """Raise ValueError unless every epoch has a number for the metric that decides."""
    if not all(isfinite(metrics.get(metric, nan)) for metrics in epochs):
        raise ValueError(f"an epoch has no {metric}")
