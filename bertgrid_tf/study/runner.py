"""One study in three acts: sweeps ▶ learning-rate × epoch grid ▶ final model."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby
from math import isnan
from time import monotonic

import keras_tuner
from keras_tuner.engine.trial import Trial

from bertgrid_tf.analysis import StudyAnalysis, StudyScores, analyze, list_mistakes
from bertgrid_tf.budget.callbacks import Callback, CallbackList
from bertgrid_tf.budget.controller import BudgetController, NotChosenError
from bertgrid_tf.budget.deadline import TimedOracle
from bertgrid_tf.budget.plan import final_trial, search_space
from bertgrid_tf.budget.time_budget import Budget
from bertgrid_tf.budget.time_estimator import REPORT
from bertgrid_tf.corpus import Corpus, utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.recipe import NO_MODEL, Recipe, short_key
from bertgrid_tf.report.write_report import write_figures, write_page
from bertgrid_tf.storage.records import FollowUpTrial, MeasuredSetting, Soup
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name, weights_file
from bertgrid_tf.study import preparation
from bertgrid_tf.study.auto_settings import resolve
from bertgrid_tf.study.execution import TrialExecution
from bertgrid_tf.study.final_model import train_final_model
from bertgrid_tf.study.follow_up import interaction_checks, seed_repeats
from bertgrid_tf.study.workers import WorkerOptions, WorkerPool, start_workers
from bertgrid_tf.training.recipe_checks import check_recipe, checkpoint_identities, padded_models
from bertgrid_tf.training.soup import SoupMember
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.training.workload_estimator import WorkloadEstimator
from bertgrid_tf.trial_config import INTERACTIONS, SEEDS, TrialConfig
from tuners import Best, CasualGridOracle, SweepLevel, TunerError
from tuners.pool import Pool, follow

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
    ) -> None:
        self._asked = self._recipe = recipe
        self._corpus = corpus
        self._folder = folder
        self._callback = CallbackList(callbacks)
        self._fresh = fresh
        self._workers = workers
        self._budget = budget
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
        with preparation.locked(self._folder):
            checkpoints = checkpoint_identities(self._asked)
            if not self._fresh:
                preparation.check_folder(self._folder, self._asked, self._corpus, checkpoints)
            with start_workers(self._workers) if self._workers else nullcontext() as workers:
                self._prepare(workers, checkpoints)
                winner = self._select_winner(self._search())
                best = self._write_best(winner)
                if (final := final_trial(best, winner.epoch)) is not None:
                    train_final_model(final, self._execution, self._runner, self._controller)
                mistakes = list_mistakes(StudyScores(self._folder), self._corpus.splits["dev"])
                self._folder.write_mistakes(mistakes)
                analysis = self._write_report()
                self._callback.on_study_end()
        return analysis

    def _prepare(self, workers: WorkerPool | None, checkpoints: Mapping[str, str]) -> None:
        """Check the recipe, measure what is `auto`, and write what the study begins with."""
        if workers is not None:
            self._callback.on_workers_begin(workers.count, workers.share)
            workers.final_gpus(self._asked.final.gpus)
        arguments = (self._folder, checkpoints, self._callback, workers)
        execution = TrialExecution(self._corpus, self._asked, *arguments)
        check_recipe(self._asked, self._corpus, final_here=workers is None)
        settings = self._resolve_auto(execution)
        self._execution = TrialExecution(self._corpus, self._recipe, *arguments)
        for model, kind in padded_models(self._recipe).items():
            self._callback.on_message(
                f"{model} is of type {kind}, whose own forward pass computes padding too: unless group_by_length is "
                "set, texts of similar length share a batch."
            )
        self._runner = TrialRunner(self._corpus, self._recipe, self._folder.predictions, self._on_train_batch_end)
        self._runner.models.trainer(self._recipe.hyperparameters)  # reads the weights before anything is deleted
        if self._fresh:
            preparation.empty_folder(self._folder)
        preparation.write_beginning(self._folder, self._asked, self._corpus, checkpoints)
        self._folder.write_auto_settings(settings)
        self._workload = WorkloadEstimator(self._runner.encoder, self._recipe.seed)
        gpus = self._execution.final_gpus() if self._recipe.final_models() else 1
        self._controller = BudgetController(
            self._recipe,
            self._workload.epoch,
            self._folder,
            self._callback,
            self._budget,
            self._execution.count,
            gpus,
        )

    def _resolve_auto(self, execution: TrialExecution) -> dict[str, MeasuredSetting]:
        """Give every `auto` of the recipe a value, before this process takes any of a GPU's memory."""
        kept = {} if self._fresh else self._folder.read_auto_settings()

        def measure(key: str, recipe: Recipe) -> MeasuredSetting:
            self._callback.on_message(f"Measuring {short_key(key)} auto: a minute or two.")
            setting = execution.measure(key, recipe)
            self._callback.on_auto_setting(key, setting)
            return setting

        self._recipe, settings = resolve(self._asked, kept, measure)
        for key, setting in settings.items():
            if setting is kept.get(key):
                self._callback.on_message(
                    f"{short_key(key)} auto is {setting.value}, as measured on {setting.on} when the study began."
                )
        return settings

    # Acts one and two

    def _search(self) -> CasualGridOracle:
        """Run the sweeps and the grid."""
        with self._execution.pool(self._recipe.seed) as pool:
            try:
                oracle = self._search_with(pool)
            except NotChosenError as ended:
                if pool is not None:
                    pool.stop(trial_name(ended.trial_id))
                oracle = self._search_with(pool)
        self._write_tables(oracle)
        incumbent = Hyperparameters.from_values(oracle.incumbent)
        self._folder.write_lengths(self._runner.encoder.sampled_lengths(incumbent, "train").tolist())
        return oracle

    def _search_with(self, pool: Pool | None) -> TimedOracle:
        recipe = self._recipe
        # A loss is no share of the examples.
        examples = None if recipe.metric == "loss" else len(list(utterances(self._corpus.splits["dev"])))
        oracle = TimedOracle.over(
            search_space(recipe),
            keras_tuner.Objective(recipe.metric, recipe.direction()),
            recipe.seed,
            search=recipe.search,
            examples=examples,
            choose=self._cheapest_level if recipe.selection == "cheapest-equivalent" else None,
        )
        oracle.verbose = 0  # callbacks show what KerasTuner would print
        self._controller.attach(oracle, examples)

        def on_epoch_end(trial: Trial, epoch: int, metrics: Mapping[str, float]) -> bool:
            goes_on = self._controller.trial_epoch(trial, epoch, metrics)
            self._at_intervals("tables", lambda: self._write_tables(oracle))
            if epoch == trial.hyperparameters.values["stop_epoch"]:
                self._callback.on_trial_end(trial_name(trial.trial_id))
                self._at_intervals("report", self._write_report)
            return goes_on

        tuner = self._execution.tuner(oracle, self._runner, pool, self._controller.begin_trial, on_epoch_end)
        self._controller.resume()
        tuner.search()
        return oracle

    def _cheapest_level(self, levels: Sequence[SweepLevel]) -> SweepLevel:
        """Return the level that takes the least to train, of those that are tied with a sweep's best."""
        scores = StudyScores(self._folder)
        probabilities = {level: scores.of(trial_name(level.trial_id or ""), level.epoch or 0) for level in levels}
        ranked = scores.rank(probabilities)
        start = TrialConfig(self._recipe.hyperparameters, self._recipe.epochs, self._recipe.epochs)

        def cost(level: SweepLevel) -> float:
            config = start.with_hyperparameters(**{level.parameter: level.level})
            return self._workload.epoch(config).cost * (level.epoch or 0)

        return min((level for level in levels if ranked[level].tied), key=cost)

    def _select_winner(self, oracle: CasualGridOracle) -> Best:
        """Select the winning cell after all seeds of the tied set; then check interactions, and average rows."""
        try:
            best = oracle.best()
        except TunerError as error:
            raise UserError(
                f"Every trial of the grid diverged or failed ({self._folder.path}): try lower --learning-rates."
            ) from error
        if self._recipe.n_seeds > 1:
            config = TrialConfig.from_values(best.hyperparameters, self._recipe.seed)
            self._follow_up(SEEDS, seed_repeats(self._recipe, config, StudyScores(self._folder).cells))
        scores = StudyScores(self._folder)
        cell = scores.winner()
        assert cell is not None
        best = oracle.best((cell.learning_rate, cell.epoch))
        config = TrialConfig.from_values(best.hyperparameters, self._recipe.seed)
        self._follow_up(INTERACTIONS, interaction_checks(self._recipe, config, scores.sweeps()))
        if self._recipe.soup:
            if not self._folder.soup_file.is_file():
                self._average_rows(config, scores)
            self._folder.delete_weights()
        return best

    def _follow_up(self, stage: str, trials: Sequence[FollowUpTrial]) -> None:
        """Run the trials of a stage after the search that have not ended yet."""
        ended = {trial.name for trial in self._folder.read_follow_ups()}
        waiting = [trial for trial in trials if trial.name not in ended]
        if waiting:
            self._controller.expect(stage, [trial.config for trial in waiting])
        for seed, group in groupby(waiting, key=lambda trial: trial.config.seed):
            with self._execution.pool(seed) as pool:
                for trial in group:
                    if self._controller.begin_follow_up(trial):
                        self._run_follow_up(trial, pool)

    def _run_follow_up(self, trial: FollowUpTrial, pool: Pool | None) -> None:
        folder, name, config = self._folder.follow_up / trial.name, trial.name, trial.config
        folder.mkdir(parents=True, exist_ok=True)
        epochs: list[Mapping[str, float]] = []
        try:
            run = self._runner.run(config, folder) if pool is None else follow(pool, name, config.values, folder)
            for metrics in run:
                self._controller.epoch(name, len(epochs) + 1, metrics)
                epochs.append(metrics)
        except keras_tuner.errors.FailedTrialError as error:
            self._callback.on_message(f"{name} failed, and does not count: {error}")
        scored = [metrics for metrics in epochs if not isnan(metrics[self._recipe.metric])]
        self._folder.write_follow_up(replace(trial, epochs=scored))
        self._callback.on_trial_end(name)
        shutil.rmtree(folder)

    def _average_rows(self, winner: TrialConfig, scores: StudyScores) -> None:
        """Average the weights of the grid's rows; one whose weights were lost with a killed process is left out."""
        members = []
        for cell in scores.cells:
            folder = self._folder.path / scores.trial_of(cell.learning_rate, cell.epoch)
            file = weights_file(folder, cell.epoch)
            if cell.score is not None and file.is_file():
                members.append(SoupMember(cell.learning_rate, cell.epoch, cell.score.value, file))
        if not members:
            return
        averaged, metrics = self._runner.average_weights(winner.hyperparameters, members, self._folder.soup_model)
        left_out = [member for member in members if member not in averaged]
        cells, others = ([(row.learning_rate, row.epoch) for row in rows] for rows in (averaged, left_out))
        self._folder.write_soup(Soup(cells, others, metrics))

    # Files

    def _write_tables(self, oracle: CasualGridOracle) -> None:
        self._folder.write_sweeps(oracle.sweep_results)
        if cells := oracle.cells():
            self._folder.write_cells(cells, oracle.table(), self._recipe.metric)

    def _write_best(self, best: Best) -> Recipe:
        """Write the winner as a recipe; the recipe."""
        recipe, hyperparameters = self._recipe, Hyperparameters.from_values(best.hyperparameters)
        schedule_epochs = int(best.hyperparameters["schedule_epochs"])
        changes = {
            "hyperparameters": hyperparameters,
            "sweeps": {},
            "n_seeds": 1,
            "check_interactions": False,
            "soup": False,
            "learning_rates": [best.learning_rate],
            "epochs": schedule_epochs,
            "final": recipe.final.model_copy(
                update={"model": recipe.final.model_for(hyperparameters.model) or NO_MODEL}
            ),
        }
        winner = recipe.model_copy(update=changes)
        self._folder.write_best(
            winner,
            f"The winner: learning rate {best.learning_rate:g}, epoch {best.epoch} of {schedule_epochs}; "
            f"{recipe.metric} on dev {best.score:.4f}.\n"
            f"Train it again: {self._folder.winner_command(recipe.corpus)}",
        )
        return winner

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

    def _at_intervals(self, what: str, write: Callable[[], object]) -> None:
        """Write what grows with the study, unless that would take more than a twentieth of the time."""
        if (began := monotonic()) >= self._due.get(what, 0.0):
            write()
            self._due[what] = monotonic() + 19 * (monotonic() - began)

    def _on_train_batch_end(self, step: int, steps: int, loss: float) -> None:
        self._controller.step(step, steps, loss)
