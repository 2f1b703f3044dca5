"""One study: sweeps, the learning-rate × epoch grid, the final model."""

import fcntl
import os
import shlex
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from math import isnan
from pathlib import Path
from time import monotonic
from typing import Protocol

import keras_tuner
import numpy as np
import pandas as pd
from keras_tuner.engine.trial import Trial

from bertgrid_tf import __version__
from bertgrid_tf.analysis import StudyScores
from bertgrid_tf.bert.device import hardware
from bertgrid_tf.budget.controller import BudgetController, NotChosenError
from bertgrid_tf.budget.deadline import TimedOracle
from bertgrid_tf.budget.plan import AUDIT, FINAL, REPEATS, final_run, space
from bertgrid_tf.budget.time_budget import Budget
from bertgrid_tf.budget.time_estimator import TimeEstimator
from bertgrid_tf.corpus import Corpus, label_counts, speaker_counts, utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import NO_MODEL, Hyperparameters, Recipe, Value, differing, short
from bertgrid_tf.report.tensorboard import write_log, write_logs
from bertgrid_tf.report.write_report import draw
from bertgrid_tf.storage.files import write_table, write_text
from bertgrid_tf.storage.study_folder import FinalRun, FollowUpTrial, MeasuredSetting, Soup, StudyFolder, StudyMetadata
from bertgrid_tf.study.auto_settings import AUTOS, HostShare, resolve
from bertgrid_tf.study.follow_up import audits, repeats
from bertgrid_tf.study.workers import LOCK, WorkerConfig, WorkerOptions, WorkerPool, start_workers
from bertgrid_tf.system.container import LOCAL_ERRORS, check_writable
from bertgrid_tf.training.soup import SoupMember, kept
from bertgrid_tf.training.trial_runner import TrialRunner
from tuners import Best, CasualGridOracle, CasualGridSearch, SweepLevel, TunerError
from tuners.parallel import ParallelSearch
from tuners.pool import Pool, follow

FIRST_REPORT_SECONDS = 30
NUMBERS_DEPEND_ON = ("tensorflow", "tf_keras", "keras-tuner", "transformers", "tokenizers", "numpy")


class Callback(Protocol):
    """What is told how a study is getting on."""

    def on_study_begin(self, clock: TimeEstimator) -> None:
        """The clock that says from now on what is over and what is left; first of all."""

    def on_message(self, sentence: str) -> None:
        """Something was decided that a person should know."""

    def on_auto_setting(self, key: str, found: MeasuredSetting) -> None:
        """What `auto` stands for has been measured, for a key of the recipe."""

    def on_trial_begin(self, run: str, stage: str, values: Mapping[str, Value], epochs: int, steps: int) -> None:
        """A run of `epochs` epochs of `steps` steps each begins, or goes on. `run` is its name from now on; the final
        model's values have the number of its `gpus` besides."""

    def on_train_batch_end(self, run: str, done: int, steps: int, loss: float) -> None:
        """A training step of a run in this process has ended, the `done`-th of its epoch."""

    def on_epoch_end(self, run: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch has been scored, now or before the study was resumed or its worker lost."""

    def on_workers_begin(self, count: int, each: str) -> None:
        """Runs go to `count` workers, each with a share of its host; this process tells of no steps."""

    def on_worker_begin(self, host: str) -> None:
        """A worker on a host is ready."""

    def on_worker_lost(self, run: str | None, host: str) -> None:
        """A worker on a host is lost; its run, if it had one, goes on elsewhere from its last saved epoch."""


class Study:
    """A recipe, its corpus and its results folder.

    Everything that has been found lies in the folder after every epoch; a study made again on the same folder
    goes on from there.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        folder: Path,
        callback: Callback,
        fresh: bool = False,
        workers: WorkerOptions | None = None,
        budget: Budget | None = None,
        tensorboard: bool = False,
    ) -> None:
        """
        Args:
            recipe: what to tune.
            corpus: what `data.open_corpus` gives for the recipe.
            folder: the results folder.
            listener: told of every run, step and epoch.
            fresh: whether a study in the folder is deleted first.
            workers: who carries the runs; this process, one at a time, if None.
            budget: how long the study may take; if None, what it began with, else as long as it takes.
            tensorboard: whether logs for TensorBoard are written.

        Raises:
            UserError: the folder cannot be written, is no results folder, or is that of another recipe or other data.
        """
        self._asked = self.recipe = recipe
        self.corpus = corpus
        self.study_folder = StudyFolder(folder)
        self._listener = callback
        self._fresh = fresh
        self._workers = workers
        self._budget = budget
        self._tensorboard = tensorboard
        # What is drawn of a study of seconds is drawn at its end.
        self._due = {"report": monotonic() + FIRST_REPORT_SECONDS}
        self._runs = TrialRunner(corpus, recipe, self.study_folder.predictions, self._on_train_batch_end)

    def run(self) -> None:
        """Runs the three acts, or what is left of them.

        Raises:
            UserError: something in the recipe does not fit the checkpoint; the folder belongs to another study, or
                another process is at work in it; every run of the grid diverged.
            tuners.TunerError: KerasTuner's state in the folder is damaged.
        """
        self._take_folder()
        with _owned(self.study_folder.path / LOCK):
            if not self._fresh:
                self._check_folder()
            with start_workers(self._workers) if self._workers else nullcontext() as workers:
                if workers is not None:
                    self._listener.on_workers_begin(workers.count, workers.each)
                    workers.final_gpus(self.recipe.final.gpus)
                self._runs.check(final_here=workers is None)
                measured = self._resolve(workers)
                for model, kind in self._runs.padded().items():
                    self._listener.on_message(
                        f"{model} is of type {kind}, whose own forward pass computes padding too: unless batching is "
                        "set, texts of like length share a batch."
                    )
                self._runs.trainer(self.recipe.hyperparameters)  # which reads the weights
                if self._fresh:
                    self._empty_folder()
                self._write_beginning()
                self.study_folder.write_auto_settings(measured)
                gpus = self._final_gpus(workers) if self.recipe.final_models() else 1
                workers = workers.count if workers else 1
                self._time = BudgetController(
                    self.recipe, self._runs.work, self.study_folder, self._listener, self._budget, workers, gpus
                )
                winner = self._winner(self._search(workers), workers)
                best = self._write_best(winner)
                if (values := final_run(best, winner.epoch)) is not None:
                    self._train_final(values, workers)
                self._time.write()
                self._draw()
                if self._tensorboard:
                    write_logs(self.study_folder)

    def _resolve(self, workers: WorkerPool | None) -> dict[str, MeasuredSetting]:
        """Gives every `auto` of the recipe a value; before this process takes any of a GPU's memory."""
        kept = {} if self._fresh else self.study_folder.measured()

        def measure(key: str, recipe: Recipe) -> MeasuredSetting:
            self._listener.on_message(f"Measuring {short(key)} auto: a minute or two.")
            gpus = self._final_gpus(workers) if key.startswith("final.") else 1
            if workers is None:
                found = AUTOS[key].measure(recipe, self.corpus, HostShare(final_gpus=gpus))
            else:
                found = workers.measure(self._job(), key, gpus)
            self._listener.on_auto_setting(key, found)
            return found

        self.recipe, measured = resolve(self._asked, kept, measure)
        self._runs.recipe = self.recipe
        for key, found in measured.items():
            if found is kept.get(key):
                self._listener.on_message(
                    f"{short(key)} auto is {found.value}, as measured on {found.on} when the study began."
                )
        return measured

    def _search(self, workers: WorkerPool | None) -> CasualGridOracle:
        """Acts one and two."""
        with ExitStack() as stack:
            pool: Pool | None = None
            if workers is not None:
                pool = stack.enter_context(workers.search(self._job(), self._listener))
            try:
                oracle = self._search_with(pool)
            except NotChosenError as ended:
                if pool is not None:
                    pool.stop(ended.trial_id)
                oracle = self._search_with(pool)
        self._write_tables(oracle)
        self._write_lengths(oracle)
        return oracle

    def _search_with(self, pool: Pool | None) -> TimedOracle:
        """Searches with a pool of workers or, without one, in this process."""
        objective = keras_tuner.Objective(self.recipe.metric, self.recipe.direction())
        # A loss is no share of the examples.
        examples = None if self.recipe.metric == "loss" else len(list(utterances(self.corpus.splits["dev"])))
        choose = self._cheapest_level if self.recipe.choose == "cheapest-tie" else None
        oracle = TimedOracle.over(
            space(self.recipe), objective, self.recipe.seed, search=self.recipe.search, examples=examples, choose=choose
        )
        oracle.verbose = 0  # the listener tells what KerasTuner would print
        self._time.attach(oracle, examples)

        def on_trial_begin(trial: Trial) -> None:
            self._time.begin_trial(trial)
            if self._tensorboard:
                write_logs(self.study_folder)

        def on_epoch_end(trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
            goes_on = self._time.trial_epoch(trial, epoch, metrics)
            # They grow with the study: writing them is never more than a twentieth of the time.
            self._now_and_then("tables", lambda: self._write_tables(oracle))
            if self._tensorboard:
                write_log(self.study_folder, trial.trial_id)
            if epoch == trial.hyperparameters.values["stop_epoch"]:
                self._now_and_then("report", self._draw)
            return goes_on

        where = (oracle, self.study_folder.path.parent, self.study_folder.path.name)
        if pool is None:
            tuner = CasualGridSearch(self._runs, *where, on_trial_begin=on_trial_begin, on_epoch_end=on_epoch_end)
        else:
            tuner = ParallelSearch(pool, *where, on_trial_begin=on_trial_begin, on_epoch_end=on_epoch_end)
        self._time.resume()
        tuner.search()
        return oracle

    def _cheapest_level(self, levels: Sequence[SweepLevel]) -> SweepLevel:
        """Of a sweep's levels that cannot be told from the best, the one that takes the least to train."""
        scored = StudyScores(self.study_folder)
        ranked = scored.rank({level: scored.of(f"trial_{level.trial_id}", level.epoch or 0) for level in levels})

        def cost(level: SweepLevel) -> float:
            values = self.recipe.hyperparameters.model_dump() | {level.parameter: level.level}
            return self._runs.work(values).cost * (level.epoch or 0)

        return min((level for level in levels if ranked[level].tied), key=cost)

    def _winner(self, oracle: CasualGridOracle, workers: WorkerPool | None) -> Best:
        """The winning cell, when what is tied has been trained with all seeds; then the sweeps' runners-up are tried in
        its place, which changes nothing any more."""
        try:
            best = oracle.best()
        except TunerError as error:
            raise UserError(
                f"Every run of the grid diverged or failed ({self.study_folder.path}): try lower --learning-rates."
            ) from error
        if self.recipe.repeats > 1:
            self._run_again(REPEATS, repeats(self.recipe, best.values, StudyScores(self.study_folder).cells), workers)
        scored = StudyScores(self.study_folder)
        cell = scored.winner()
        assert cell is not None
        best = oracle.best((cell.learning_rate, cell.epoch))
        self._run_again(AUDIT, audits(self.recipe, best.values, scored.sweeps()), workers)
        if self.recipe.soup and not self.study_folder.soup_file.is_file():
            self._make_soup(best, scored)
        return best

    def _make_soup(self, best: Best, scored: StudyScores) -> None:
        """Averages the rows of the grid; a row whose weights were lost when a process was killed is left out."""
        rows = [
            SoupMember(cell.learning_rate, cell.epoch, cell.score.value, file)
            for cell in scored.cells
            if cell.score is not None
            and (
                file := kept(self.study_folder.path / scored.run_of(cell.learning_rate, cell.epoch), cell.epoch)
            ).is_file()
        ]
        if not rows:
            return
        chosen, metrics = self._runs.soup(Hyperparameters.of(best.values), rows, self.study_folder.soup)
        cells = [(row.learning_rate, row.epoch) for row in chosen]
        left_out = [(row.learning_rate, row.epoch) for row in rows if row not in chosen]
        self.study_folder.write_soup(Soup(cells, left_out, metrics))
        for row in rows:
            row.file.unlink()

    def _run_again(self, stage: str, runs: Sequence[FollowUpTrial], workers: WorkerPool | None) -> None:
        """Trains what has not been trained yet of the runs of a stage after the search."""
        known = {run.name for run in self.study_folder.follow_up_trials()}
        waiting = [run for run in runs if run.name not in known]
        if waiting:
            self._time.expect_again(stage, [run.values for run in waiting])
        for seed, group in groupby(waiting, key=lambda run: run.seed):
            self._runs.recipe = self.recipe.model_copy(update={"seed": seed})
            with ExitStack() as stack:
                pool = None
                if workers is not None:
                    pool = stack.enter_context(workers.search(self._job(), self._listener))
                for run in group:
                    if self._time.begin_again(run):
                        self._train_again(run, pool)
        self._runs.recipe = self.recipe

    def _train_again(self, run: FollowUpTrial, pool: Pool | None) -> None:
        folder = self.study_folder.follow_up_folder / run.name
        folder.mkdir(parents=True, exist_ok=True)
        epochs: list[Mapping[str, float]] = []
        try:
            for metrics in (
                self._runs(run.values, folder) if pool is None else follow(pool, run.name, run.values, folder)
            ):
                self._time.epoch(run.name, len(epochs) + 1, metrics)
                epochs.append(metrics)
        except keras_tuner.errors.FailedTrialError as error:
            self._listener.on_message(f"{run.name} failed, and does not count: {error}")
        finished = [epoch for epoch in epochs if not isnan(epoch[self.recipe.metric])]
        self.study_folder.write_follow_up(replace(run, epochs=finished))
        shutil.rmtree(folder)

    def _now_and_then(self, what: str, write: Callable[[], None]) -> None:
        """Writes what grows with the study, unless that would take more than a twentieth of the time."""
        if (began := monotonic()) >= self._due.get(what, 0.0):
            write()
            self._due[what] = monotonic() + 19 * (monotonic() - began)

    def _draw(self) -> None:
        """Draws the report of what is there; a study does not end for want of one."""
        try:
            draw(self.study_folder)
        except UserError as error:
            self._listener.on_message(f"The report was not drawn: {error}")

    def _train_final(self, values: Mapping[str, Value], workers: WorkerPool | None) -> None:
        """Act three: the winning cell's schedule, cut off after its epoch, repeated with the final profile."""
        if self._has_final_model():
            shutil.rmtree(self.study_folder.final_state, ignore_errors=True)
            return
        # What another final model said of the test split.
        shutil.rmtree(self.study_folder.evaluations, ignore_errors=True)
        gpus, hyperparameters = self._final_gpus(workers), Hyperparameters.of(values)
        epoch = int(values["stop_epoch"])
        for line in self._time.log.of("final"):
            epoch = int(line["epoch"])
        values = {**values, "stop_epoch": epoch, "gpus": gpus}
        folder = self.study_folder.final_state
        folder.mkdir(exist_ok=True)
        self._time.begin_final(values)
        try:
            epochs = self._final_epochs(values, folder, workers)
            if len(epochs) < epoch and not isnan(epochs[-1][self.recipe.metric]):
                # What was kept after its last epoch is the model: it has only to be saved.
                self._time.log.add("final", epoch=len(epochs))
                epochs = self._final_epochs({**values, "stop_epoch": len(epochs)}, folder, workers)
        except keras_tuner.errors.FailedTrialError as error:
            raise UserError(
                f"The final model {hyperparameters.model} cannot be trained at batch size {hyperparameters.batch_size} ({error}); "
                "the search's results are kept: choose a smaller --set final.batch_size or another --final-model."
            ) from error
        if isnan(epochs[-1][self.recipe.metric]):
            raise UserError(
                f"The final model {hyperparameters.model} diverged in epoch {len(epochs)} (its loss is no longer a number); "
                "the search's results are kept: choose another --final-model or --set final.batch_size."
            )
        horizon = int(values["schedule_epochs"])
        scored = StudyScores(self.study_folder)
        self.study_folder.write_correction(scored.fit(scored.of(FINAL, len(epochs)), hyperparameters).correction)
        self.study_folder.write_final(
            FinalRun(hyperparameters.model, hyperparameters.model_dump(mode="json"), horizon, epochs, gpus)
        )
        shutil.rmtree(folder)

    def _final_epochs(
        self, values: Mapping[str, Value], folder: Path, workers: WorkerPool | None
    ) -> list[dict[str, float]]:
        """The metrics of the final model's epochs, as far as there is time for them."""
        epochs: list[dict[str, float]] = []
        with ExitStack() as stack:
            run: Iterator[Mapping[str, float]]
            if workers is None:
                run = self._runs.final(values, folder, self.study_folder.model)
            else:
                pool = stack.enter_context(
                    workers.final(self._job(), self.study_folder.model.absolute(), self._listener)
                )
                run = follow(pool, FINAL, values, folder)
            for metrics in run:
                epochs.append(dict(metrics))
                if not self._time.final_epoch(values, len(epochs), metrics):
                    break
        return epochs

    def _final_gpus(self, workers: WorkerPool | None) -> int:
        return self._runs.replicas(final=True) if workers is None else workers.final_gpus(self.recipe.final.gpus)

    def _has_final_model(self) -> bool:
        return self.study_folder.model.is_dir() and self.study_folder.final_file.is_file()

    def _job(self) -> WorkerConfig:
        folder, predictions = self.study_folder.path.absolute(), self.study_folder.predictions.absolute()
        return WorkerConfig(self.corpus, self._runs.recipe, folder, predictions, self._runs.checkpoints())

    def _on_train_batch_end(self, done: int, steps: int, loss: float) -> None:
        self._time.step(done, steps, loss)

    # The results folder

    def _take_folder(self) -> None:
        folder, otherwise = self.study_folder.path, "choose another with --results"
        failure = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            failure = error
        if failure and failure.errno not in LOCAL_ERRORS:
            raise UserError(f"The results folder {folder} cannot be made ({failure.strerror}): {otherwise}.")
        # What a container has mounted is the parent of all studies' folders.
        if found := check_writable(folder, volume=folder.parent):
            command = f"tune {self.recipe.corpus}"
            raise UserError(found.sentence("The results folder", otherwise, command)) from failure
        # A process killed as it began leaves its lock and a recipe that it was about to write.
        beginning = (LOCK, f"{self.study_folder.recipe_file.name}.tmp")
        others = [path for path in folder.iterdir() if path.name not in beginning]
        if others and not self.study_folder.recipe_file.exists():
            raise UserError(
                f"{folder} holds other files than a study's: choose another folder with --results or --study."
            )

    def _empty_folder(self) -> None:
        """Deletes the former study; a kill in between leaves one that is refused or deleted, never half taken over."""
        study_folder, oracle = self.study_folder, self.study_folder.path / "oracle.json"
        # The final model first, since it has no mark of the search it came from; what says whose the folder is, last.
        last = (study_folder.metadata_file, oracle, study_folder.recipe_file)
        rest = [path for path in study_folder.path.iterdir() if path not in last and path.name != LOCK]
        for path in (study_folder.model, study_folder.final_file, study_folder.final_state, *rest, *last):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _check_folder(self) -> None:
        folder = self.study_folder.path
        if not self.study_folder.recipe_file.exists():
            return
        keys = differing(self.study_folder.recipe(), self._asked)
        # An audit changes nothing of what was found, more seeds no more than which cell wins.
        if keys and set(keys) <= ({"audit"} if self._has_final_model() else {"audit", "repeats"}):
            write_text(self.study_folder.recipe_file, self._asked.to_yaml())
        elif keys and all(key.startswith("final.") for key in keys) and not self._has_final_model():
            # The search does not depend on the final profile: what it found is kept for another final model. The same
            # one goes on from its last epoch on any number of GPUs.
            if keys != ["final.gpus"]:
                for part in (self.study_folder.final_state, self.study_folder.model):
                    shutil.rmtree(part, ignore_errors=True)
                self.study_folder.final_file.unlink(missing_ok=True)
            write_text(self.study_folder.recipe_file, self._asked.to_yaml())
        elif keys:
            raise UserError(
                f"{folder} holds a study of another recipe (they differ in {', '.join(keys)}): give the same settings "
                "to go on, another --study NAME, or --fresh to start over."
            )
        if not self.study_folder.metadata_file.exists():
            return
        metadata = self.study_folder.metadata()
        if metadata.checkpoints != self._runs.checkpoints():
            raise UserError(
                f"The checkpoint files of {', '.join(metadata.checkpoints)} are no longer those that the study in "
                f"{folder} began with: bring them back, choose another --study NAME, or --fresh to start over."
            )
        if metadata.fingerprint != self.corpus.fingerprint():
            raise UserError(
                f"The data of {self.corpus.name} are no longer those that the study in {folder} began with: "
                "bring them back, choose another --study NAME, or --fresh to start over."
            )

    def _write_beginning(self) -> None:
        if self.study_folder.recipe_file.exists() and self.study_folder.metadata_file.exists():
            return
        versions = {"bertgrid-tf": __version__} | {name: version(name) for name in NUMBERS_DEPEND_ON}
        fingerprint = self.corpus.fingerprint()
        splits = self.corpus.splits
        speakers = dict(sorted(speaker_counts(splits["train"]).items()))
        counts = {split: label_counts(splits[split]) for split in ("train", "dev")}
        classes = {split: {label: found[label] for label in self.corpus.labels} for split, found in counts.items()}
        checkpoints = self._runs.checkpoints()
        write_text(self.study_folder.recipe_file, self._asked.to_yaml())
        self.study_folder.write_metadata(
            StudyMetadata(fingerprint, self.corpus.labels, speakers, checkpoints, versions, hardware(), classes)
        )

    def _write_lengths(self, oracle: CasualGridOracle) -> None:
        tokens, texts = np.unique(self._runs.lengths(Hyperparameters.of(oracle.incumbent)), return_counts=True)
        write_table(self.study_folder.lengths_file, pd.DataFrame({"tokens": tokens, "texts": texts}))

    def _write_tables(self, oracle: CasualGridOracle) -> None:
        # As objects, since a level that failed has no epoch and pandas would turn the others' into 1.0, 2.0.
        columns = ["parameter", "level", "epoch", "score", "chosen", "trial_id", "status"]
        levels = [[getattr(level, column) for column in columns] for level in oracle.sweep_results]
        write_table(self.study_folder.sweeps_file, pd.DataFrame(levels, columns=columns, dtype=object))
        cells = [
            {"learning_rate": cell.learning_rate, "epoch": cell.epoch, "trial_id": cell.trial_id} | cell.metrics
            for cell in oracle.cells()
        ]
        if cells:
            scale, digits = (1, 4) if self.recipe.metric == "loss" else (100, 2)
            oracle.table().to_csv(self.study_folder.grid_file, scale, digits)
            write_table(self.study_folder.cells_file, pd.DataFrame(cells))

    def _write_best(self, best: Best) -> Recipe:
        hyperparameters = Hyperparameters.of(best.values)
        winner = self.recipe.model_copy(
            update={
                "hyperparameters": hyperparameters,
                "sweeps": {},
                "repeats": 1,
                "audit": False,
                "soup": False,
                "learning_rates": [best.learning_rate],
                "epochs": int(best.values["schedule_epochs"]),
                "final": self.recipe.final.model_copy(
                    update={"model": self.recipe.final.model_for(hyperparameters.model) or NO_MODEL}
                ),
            }
        )
        path = shlex.quote(str(self.study_folder.best_file))
        headline = (
            f"# The winner: learning rate {best.learning_rate:g}, epoch {best.epoch} of {winner.epochs}; "
            f"{self.recipe.metric} on dev {best.score:.4f}.\n"
            f"# Train it again: bertgrid-tf tune {self.recipe.corpus} --recipe {path} --study again\n"
        )
        write_text(self.study_folder.best_file, headline + winner.to_yaml())
        return winner


@contextmanager
def _owned(lock: Path) -> Iterator[None]:
    """Keeps other processes out of the folder for as long as the block runs, however it ends."""
    with lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise UserError(
                f"The study in {lock.parent} is being run by {file.read().strip() or 'another process'}: "
                "wait for it, or choose another --study NAME."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        os.fsync(file.fileno())  # a worker on another host reads it
        yield
