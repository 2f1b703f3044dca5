"""One study in three acts: sweeps ▶ learning-rate × epoch grid ▶ final model."""

import gc
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import monotonic

from keras_tuner.engine.trial import Trial

from bertgrid_tf.analysis import StudyAnalysis, StudyScores, analyze, list_mistakes
from bertgrid_tf.bank.contribute import contribute
from bertgrid_tf.bert import roofline
from bertgrid_tf.bert.trainer import drop_weights
from bertgrid_tf.budget.callbacks import Callback, CallbackList
from bertgrid_tf.budget.controller import BudgetController, NotChosenError
from bertgrid_tf.budget.deadline import TimedOracle
from bertgrid_tf.budget.disk_space import disk_space
from bertgrid_tf.budget.plan import final_trials
from bertgrid_tf.budget.time_budget import Budget
from bertgrid_tf.budget.time_estimator import REPORT
from bertgrid_tf.corpus import Corpus, check_corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report.write_report import write_figures, write_page
from bertgrid_tf.storage.records import SearchConfidence
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name, weights_file
from bertgrid_tf.study import preparation
from bertgrid_tf.study.auto_settings import AUTO_SETTINGS, FINAL_BATCH_SIZE, resolve
from bertgrid_tf.study.execution import TrialExecution, make_oracle, search_strategy
from bertgrid_tf.study.final_model import make_final_model
from bertgrid_tf.study.follow_up import interaction_checks, run_follow_ups, seed_repeats
from bertgrid_tf.study.repair import repair, repair_models
from bertgrid_tf.study.selection import cheapest_level, write_winner
from bertgrid_tf.study.soup import average_rows
from bertgrid_tf.study.workers import WorkerOptions, WorkerPool, start_workers
from bertgrid_tf.training.recipe_checks import check_recipe, checkpoint_identities, model_notes
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.training.workload_estimator import WorkloadEstimator
from bertgrid_tf.trial_config import GRID, INTERACTIONS, SEEDS, TrialConfig
from tuners import Best, CasualGridOracle, SweepLevel, TunerError
from tuners.pool import Pool
from tuners.space import STAGE
from tuners.state import ENDED

FIRST_REPORT_SECONDS = 30


class StudyRunner:
    """Runs a recipe on its corpus in a study folder.

    All results are in the folder after every epoch; a study run again in the same folder resumes.

    Args:
        recipe: What to tune.
        corpus: The recipe's (`data.open_corpus`).
        folder: The study's.
        callbacks: Receive trials, steps and epochs.
        fresh: Whether a study in the folder is deleted first.
        workers: The workers that run the trials; None for this process, one at a time.
        budget: Time for the whole study; None for the budget it began with, if any.
        bank: The bank of studies that gets the table of this one; None for none.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Corpus,
        folder: StudyFolder,
        callbacks: Iterable[Callback] = (),
        fresh: bool = False,
        workers: WorkerOptions | None = None,
        budget: Budget | None = None,
        bank: Path | None = None,
    ) -> None:
        self._asked = self._recipe = recipe
        self._corpus = corpus
        self._folder = folder
        self._callback = CallbackList(callbacks)
        self._fresh = fresh
        self._workers = workers
        self._budget = budget
        self._bank = bank
        # The report of a study of seconds is written at its end.
        self._due = {"report": monotonic() + FIRST_REPORT_SECONDS}

    def run(self) -> StudyAnalysis:
        """Run the three acts, or what is left of them.

        Returns:
            The analysis of the ended study.

        Raises:
            UserError: The folder cannot be written, is no study folder, or belongs to another study or process; the
                recipe does not fit a checkpoint; every trial of the grid diverged.
            tuners.TunerError: KerasTuner's state in the folder is damaged.
        """
        preparation.take_folder(self._folder, self._asked.corpus)
        with preparation.locked(self._folder, self._callback.on_message):
            checkpoints = checkpoint_identities(self._asked)
            if not self._fresh:
                self._asked = preparation.check_folder(
                    self._folder, self._asked, self._corpus, checkpoints, self._budget_seconds
                )
                repair(self._folder, self._corpus, self._callback.on_message)
            with start_workers(self._workers) if self._workers else nullcontext() as workers:
                self._prepare(workers, checkpoints)
                repair_models(self._folder, self._corpus, self._callback.on_message)
                winner = self._select_winner(self._search())
                self._make_final_model(winner, write_winner(winner, self._recipe, self._folder))
                mistakes = list_mistakes(StudyScores(self._folder), self._corpus)
                self._folder.write_mistakes(mistakes)
                analysis = self._write_report()
                self._contribute()
                self._callback.on_study_end()
        return analysis

    def _prepare(self, workers: WorkerPool | None, checkpoints: Mapping[str, str]) -> None:
        """Check the recipe, measure what is `auto`, and write what the study begins with."""
        if workers is not None:
            self._callback.on_workers_begin(workers.count, workers.share)
            workers.final_gpus(self._asked.final_gpus)
        execution = TrialExecution(self._corpus, self._asked, self._folder, checkpoints, self._callback, workers)
        check_recipe(self._asked, self._corpus, final_here=workers is None)
        findings = check_corpus(self._corpus)
        for finding in findings:
            self._callback.on_message(finding.message)
        kept = {} if self._fresh else self._folder.read_auto_settings()
        # Before this process takes any of a GPU's memory.
        self._recipe, settings = resolve(self._asked, kept, execution.measure, self._callback, self._settled())
        self._execution = replace(execution, recipe=self._recipe)
        for note in model_notes(self._recipe):
            self._callback.on_message(note)
        self._runner = TrialRunner(self._corpus, self._recipe, self._folder.predictions, self._on_train_batch_end)
        # Reads the weights before anything is deleted.
        trainer = self._runner.models.trainer(self._recipe.hyperparameters)
        if self._fresh:
            preparation.empty_folder(self._folder)
        preparation.take_over(self._folder, self._asked, checkpoints, self._budget_seconds, self._callback.on_message)
        preparation.write_beginning(self._folder, self._asked, self._corpus, findings, checkpoints)
        self._folder.write_auto_settings(settings)
        space = disk_space(self._recipe, self._corpus, self._execution.count)
        preparation.check_space(self._folder, space, self._callback.on_message)
        self._workload = WorkloadEstimator(self._runner.encoder, self._recipe.seed)
        gpus = self._execution.final_gpus()
        devices = (self._execution.count, gpus, self._execution.at_once(gpus))
        self._controller = BudgetController(
            self._recipe, self._workload.epoch, self._folder, self._callback, self._budget, *devices
        )
        if workers is None and trainer.unpadded and not self._folder.has_final_model():
            roofline.measure(trainer.precision)

    @property
    def _budget_seconds(self) -> float | None:
        return None if self._budget is None else self._budget.seconds

    def _settled(self) -> set[str]:
        """Return the keys whose measured values trials depend on, so that a study that grows keeps them."""
        if self._fresh or not self._folder.trial_ids():
            return set()
        return set(AUTO_SETTINGS) - (set() if self._folder.has_final_model() else {FINAL_BATCH_SIZE})

    # Acts one and two

    def _search(self) -> CasualGridOracle:
        """Run the sweeps and the grid."""
        with self._execution.pool() as pool:
            try:
                oracle = self._search_with(pool)
            except NotChosenError as ended:
                if pool is not None:
                    pool.stop(trial_name(ended.trial_id))
                oracle = self._search_with(pool)
        self._write_tables(oracle)
        if (probability := oracle.tied_probability()) is not None:
            self._folder.write_confidence(SearchConfidence(probability))
        incumbent = Hyperparameters.from_values(oracle.incumbent)
        self._folder.write_lengths(self._runner.encoder.sampled_lengths(incumbent, "train").tolist())
        return oracle

    def _search_with(self, pool: Pool | None) -> TimedOracle:
        choose = self._cheapest_level if self._recipe.selection == "cheapest-equivalent" else None
        oracle = make_oracle(TimedOracle, self._recipe, self._corpus, choose)
        self._controller.attach(oracle, lambda recipe: search_strategy(recipe, self._corpus))

        def on_epoch_end(trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
            goes_on = self._controller.trial_epoch(trial, epoch, metrics)
            self._at_intervals("tables", lambda: self._write_tables(oracle))
            if epoch == trial.hyperparameters.values["stop_epoch"]:
                self._callback.on_trial_end(trial_name(trial.trial_id))
                self._at_intervals("report", self._write_report_so_far)
            return goes_on

        reduced = set[str]()

        def on_trial_begin(trial: Trial) -> None:
            reduced.discard(trial.trial_id)  # A trial that goes on writes its weights anew.
            self._delete_needless_weights(oracle, reduced)
            self._controller.begin_trial(trial)

        tuner = self._execution.tuner(oracle, self._runner, pool, on_trial_begin, on_epoch_end)
        self._controller.resume()
        tuner.search()
        self._delete_needless_weights(oracle, reduced)
        return oracle

    def _delete_needless_weights(self, oracle: CasualGridOracle, reduced: set[str]) -> None:
        """Delete the weights of ended trials that neither go on, now or in a study that grows, nor are to be kept.

        Args:
            oracle: The search.
            reduced: Ids of the trials whose states hold no weights to go on with, which are not read again.
        """
        kept = self._trials_to_keep(oracle)
        for trial_id, trial in oracle.trials.items():
            if trial.status in ENDED:
                values = trial.hyperparameters.values
                if trial_id not in reduced:
                    if values[STAGE] != GRID or not self._recipe.can_lengthen(Hyperparameters.from_values(values)):
                        drop_weights(self._folder.trial_folder(trial_id))
                    reduced.add(trial_id)
                if trial_id not in kept:
                    self._folder.delete_weights(trial_id)

    def _trials_to_keep(self, oracle: CasualGridOracle) -> Collection[str]:
        """Return the ids of the trials whose weights the soup or the final model needs: for the latter, of the best."""
        if self._recipe.soup:
            if oracle.stage != GRID:
                return oracle.trials.keys()  # any may be a row of the grid
            of_grid = {id_ for id_, trial in oracle.trials.items() if trial.hyperparameters.values[STAGE] == GRID}
            return of_grid | {cell.trial_id for cell in oracle.cells()}
        try:
            return {oracle.best().trial_id}
        except TunerError:  # The best of a sweep may be the first row.
            return {trial.trial_id for trial in oracle.get_best_trials(1)}

    def _cheapest_level(self, levels: Sequence[SweepLevel]) -> SweepLevel:
        return cheapest_level(levels, StudyScores(self._folder), self._recipe, self._workload.epoch)

    def _select_winner(self, oracle: CasualGridOracle) -> Best:
        """Select the winning cell after all seeds of the tied set; then check interactions, and average rows."""
        try:
            best = oracle.best()
        except TunerError as error:
            raise UserError(
                f"Every trial of the grid diverged or failed ({self._folder.path}): try lower --learning-rates."
            ) from error
        after_search = (self._execution, self._runner, self._controller)
        scores = StudyScores(self._folder)
        if self._recipe.n_seeds > 1:
            config = TrialConfig.from_values(best.hyperparameters, self._recipe.seed)
            run_follow_ups(SEEDS, seed_repeats(self._recipe, config, scores.tied_at_first()), *after_search)
            scores = StudyScores(self._folder)
        cell = scores.winner()
        assert cell is not None
        best = oracle.best((cell.learning_rate, cell.epoch))
        config = TrialConfig.from_values(best.hyperparameters, self._recipe.seed)
        run_follow_ups(INTERACTIONS, interaction_checks(self._recipe, config, scores.sweeps()), *after_search)
        if self._recipe.soup:
            average_rows(config, scores, self._folder, self._runner, self._callback.on_message)
        return best

    # Act three

    def _make_final_model(self, winner: Best, recipe: Recipe) -> None:
        """Adopt the kept weights of the winner, given as a recipe too, or train the final model."""
        kept = weights_file(self._folder.trial_folder(winner.trial_id), winner.epoch)
        make_final_model(
            final_trials(recipe, winner.epoch, self._execution.final_gpus()),
            kept if recipe.final.matches(recipe.hyperparameters) else None,
            self._execution,
            self._runner,
            self._controller,
        )

    # Files

    def _write_tables(self, oracle: CasualGridOracle) -> None:
        self._folder.write_sweeps(oracle.sweep_results)
        if cells := oracle.cells():
            self._folder.write_cells(cells, oracle.table(), self._recipe.metric)

    def _write_report(self) -> StudyAnalysis:
        """Analyze the study and write the report; a study does not end for want of one."""
        with self._controller.estimator.during(REPORT):
            analysis = analyze(self._folder)
            try:
                drawings = write_figures(self._folder, analysis)
                # The page shows its own time, most of which is that of the figures.
                self._controller.write()
                write_page(self._folder, analysis.with_times(self._folder.read_times()), drawings)
            except UserError as error:
                self._callback.on_message(f"The report was not written: {error}")
        self._controller.write()
        return analysis.with_times(self._folder.read_times())

    def _write_report_so_far(self) -> None:
        """Write the report, and leave none of its figures in memory."""
        self._write_report()
        # Matplotlib's figures are cycles of some 25 MB, which Python's own collections reach after many trials.
        gc.collect()

    def _contribute(self) -> None:
        """Add the study's table to the bank; a study does not end for want of that."""
        if self._bank is not None:
            try:
                contribute(self._folder, self._runner.encoder, self._bank)
            except UserError as error:
                self._callback.on_message(f"The table was not added to the bank of studies: {error}")

    def _at_intervals(self, what: str, write: Callable[[], object]) -> None:
        """Write what grows with the study, unless that would take more than a twentieth of the time."""
        if (began := monotonic()) >= self._due.get(what, 0.0):
            write()
            self._due[what] = monotonic() + 19 * (monotonic() - began)

    def _on_train_batch_end(self, step: int, steps: int, loss: float) -> None:
        self._controller.step(step, steps, loss)
