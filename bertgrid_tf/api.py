"""The Python API: tune a study, open one, read its numbers, use its model. The command line calls the same functions.

Example:
    >>> import pandas as pd
    >>> import bertgrid_tf as bg
    >>> frame = pd.DataFrame({"text": ["good fun", "so dull"] * 20, "label": ["pos", "neg"] * 20})
    >>> study = bg.tune(
    ...     train=frame, study="reviews", model="scratch:1x32", learning_rates=[1e-3], epochs=1, progress=False
    ... )
    >>> study.grid.shape
    (1, 1)
    >>> list(bg.open_study("results/reviews").trials["stage"])
    ['grid', 'final']
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from importlib.util import find_spec
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from bertgrid_tf.bank.studies import all_studies, user_bank
from bertgrid_tf.corpus import Columns, Corpus, Dialogue, Finding, Utterance, check_corpus, refuse_warnings
from bertgrid_tf.corpus.files import STANDARD_INPUT
from bertgrid_tf.corpus.text import HALF_PAIR
from bertgrid_tf.data import data_dirs, open_corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import AUTO, MOST_WORKERS, Hyperparameters, Value, shown
from bertgrid_tf.recipe import SUGGEST, SUGGESTED, Recipe, load_recipe, recipe_key
from bertgrid_tf.storage.records import Mistake
from bertgrid_tf.storage.study_folder import StudyFolder, trial_name
from bertgrid_tf.trial_config import FINAL
from tuners.errors import TunerError
from tuners.space import STAGE
from tuners.table import rows_in_order

if TYPE_CHECKING:
    from fastapi import FastAPI
    from rich.console import Console

    from bertgrid_tf.analysis import ScoreEstimate, StudyAnalysis
    from bertgrid_tf.bank.suggest import Suggestion
    from bertgrid_tf.bert.trainer import OnTrainBatchEnd
    from bertgrid_tf.budget.callbacks import Callback
    from bertgrid_tf.data import Frames
    from bertgrid_tf.inference.evaluate import Evaluation
    from bertgrid_tf.inference.export import Exported
    from bertgrid_tf.inference.predictor import Predictor

    Table = str | Path | pd.DataFrame


def tune(
    corpus: str | None = None,
    *,
    train: "Table | None" = None,
    dev: "Table | None" = None,
    test: "Table | None" = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    dialogue: str | Sequence[str] | None = None,
    speaker: str | None = None,
    split: str | None = None,
    study: str | None = None,
    results: str | Path = "results",
    data_dir: str | Path = "datasets",
    recipe: str | Path | Recipe | None = None,
    callbacks: Iterable["Callback"] = (),
    progress: bool = True,
    fresh: bool = False,
    workers: int | str | None = None,
    ray_address: str | None = None,
    gpu_memory: str | int | None = None,
    budget: str | float | timedelta | None = None,
    strict: bool = False,
    bank: bool = True,
    **recipe_keys: Any,
) -> "Study":
    """Sweep, fill the learning-rate × epoch grid, train the final model; the same call resumes where it stopped.

    Args:
        corpus: "friends", "nsmc", "sample", or a name for the tables of `train`.
        train: The training split as a DataFrame or a file's path; without `dev` a share of it is held out.
        dev: The dev split, likewise.
        test: The test split, likewise; only `evaluate` opens it.
        text: The tables' column of the text; None for that of `recipe`, else "text".
        text_pair: The tables' column of the second text, where every row is a pair.
        label: The tables' column of the class; None for that of `recipe`, else "label".
        dialogue: The tables' column of the dialogue's id, or several that make it together.
        speaker: The tables' column of the speaker.
        split: The column of `train` that says train, dev or test.
        study: The name of the study folder; None for the corpus's name.
        results: The parent of the study folder.
        data_dir: The folder of the public corpora.
        recipe: A recipe, or the path of one, in place of the corpus's own.
        callbacks: Receive trials and epochs.
        progress: Whether to show lines or, on a terminal and in a notebook, bars.
        fresh: Whether to delete an earlier study in the folder.
        workers: Trials at a time, each on a GPU of its own or on a share of the CPU; more than one needs Ray. "auto" is
            one on each GPU or on every four CPU cores, or what a cluster has.
        ray_address: HOST:PORT of a Ray cluster that this host has joined, or "auto".
        gpu_memory: The most that TensorFlow may take of each GPU, in bytes or as "16GB".
        budget: The time for the whole study, in seconds or as "1h30m"; trials that do not fit are left out.
        strict: Whether to refuse data with findings that are graver than a note (`corpus.check_corpus`).
        bank: Whether the user's bank of studies gets the table of this one, in numbers alone.
        recipe_keys: Keys of the recipe or hyperparameters, as `epochs=4`, `sweeps={"context": ["current"]}`,
            `final_model="bert-large-cased"`; `learning_rates` and `epochs` may be "suggest".

    Raises:
        UserError: A sentence about what is wrong and what to do.
    """
    from rich.console import Console

    from bertgrid_tf.budget.plan import plan
    from bertgrid_tf.budget.time_budget import Budget
    from bertgrid_tf.report.progress import progress as progress_display
    from bertgrid_tf.study.auto_settings import with_defaults
    from bertgrid_tf.system.terminal import use_plain_characters
    from bertgrid_tf.training.recipe_checks import check_recipe

    use_plain_characters()
    console = Console(quiet=not progress)
    tables = {"train": train, "dev": dev, "test": test}
    columns = {"text": text, "label": label, "dialogue": dialogue, "speaker": speaker, "split": split}
    columns["text_pair"] = text_pair
    keys, frames = _data_keys(tables, columns, recipe)
    corpus = corpus or (study or "data" if train is not None else None)
    if corpus is None:
        raise UserError("There is nothing to train on: name a corpus, or give a table as `train`.")
    folder = Path(results) / _study_name(corpus if study is None else study)
    count = _worker_count(workers)
    memory = memory_limit(gpu_memory)
    if isinstance(budget, timedelta):
        budget = budget.total_seconds()
    limit = None if budget is None else Budget.of(budget)
    study_folder = StudyFolder(folder)
    has_begun = study_folder.recipe_file.exists() and not fresh
    kept = study_folder.read_recipe() if has_begun and _to_suggest(recipe_keys) else None
    keys |= recipe_keys
    asked, data = load_corpus(
        corpus, recipe=recipe, data_dir=data_dir, frames=frames, console=console, kept=kept, **keys
    )
    if strict:
        refuse_warnings(check_corpus(data))
    planned = plan(with_defaults(asked), data)
    check_recipe(asked, data, final_here=False)
    # TensorFlow takes seconds to import, hence a line before it.
    # How many rows another search trains is open.
    trials = f"{planned.trials} trial{'' if planned.trials == 1 else 's'}, " if asked.search == "grid" else ""
    size = f"{trials}up to {planned.epochs} epochs{' in all' if has_begun else ''}"
    beginning = f"{asked.corpus}: {size}. Starting TensorFlow …"
    console.print(beginning, markup=False, highlight=False, soft_wrap=True)
    from bertgrid_tf.study.runner import StudyRunner
    from bertgrid_tf.study.workers import WorkerOptions, sensible_count

    if workers == AUTO and not ray_address:
        count, because = sensible_count(asked, data)
        console.print(f"workers auto is {count}: {because}.", markup=False, highlight=False, soft_wrap=True)
    # One trial at a time on this host needs no other process.
    options = WorkerOptions(count, ray_address, memory) if ray_address or (count or 1) > 1 else None
    if not ray_address:  # a cluster's devices are not this host's
        prepare_device(console, "Training", memory)
    try:
        with progress_display(console, asked.metric) if progress else nullcontext() as display:
            receivers = [display, *callbacks] if display else [*callbacks]
            analysis = StudyRunner(
                asked, data, study_folder, receivers, fresh, options, limit, user_bank() if bank else None
            ).run()
    except TunerError as error:
        raise user_error(error) from error
    return Study(folder, data_dir, frames, analysis)


def suggest(
    corpus: str | None = None,
    *,
    train: "Table | None" = None,
    dev: "Table | None" = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    dialogue: str | Sequence[str] | None = None,
    speaker: str | None = None,
    split: str | None = None,
    data_dir: str | Path = "datasets",
    recipe: str | Path | Recipe | None = None,
    **recipe_keys: Any,
) -> "Suggestion":
    """Suggest learning rates, epochs and other settings, by recorded studies of tasks and checkpoints like these.

    Nothing is trained: texts are counted, and compared with the studies that come with the package and the user's own.
    A study of the user's that is damaged is left out with a warning. Arguments as for `tune`.

    Raises:
        UserError: A sentence about what is wrong and what to do.

    Example:
        >>> import bertgrid_tf as bg
        >>> suggestion = bg.suggest("sample", model="scratch:2x128")
        >>> suggestion.learning_rate in suggestion.learning_rates, len(suggestion.neighbours)
        (True, 3)
    """
    columns = {"text": text, "label": label, "dialogue": dialogue, "speaker": speaker, "split": split}
    columns["text_pair"] = text_pair
    keys, frames = _data_keys({"train": train, "dev": dev}, columns, recipe)
    corpus = corpus or ("data" if train is not None else None)
    if corpus is None:
        raise UserError("There is nothing to suggest for: name a corpus, or give a table as `train`.")
    keys |= recipe_keys
    asked, data = load_corpus(corpus, recipe=recipe, data_dir=data_dir, frames=frames, **keys)
    sentences = list[str]()
    suggestion = suggestion_for(asked, data, sentences.append)
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=2)
    return suggestion


def suggestion_for(recipe: Recipe, corpus: Corpus, on_damaged: Callable[[str], object]) -> "Suggestion":
    """Suggest settings for a recipe and its corpus; `on_damaged` gets a sentence for each study that is left out."""
    from bertgrid_tf.bank.card import meta_features
    from bertgrid_tf.bank.suggest import suggest as suggest_settings
    from bertgrid_tf.system.host import description
    from bertgrid_tf.training.encoding import CorpusEncoder

    features = meta_features(recipe, CorpusEncoder(corpus))
    return suggest_settings(features, all_studies(on_damaged), description())


def _data_keys(
    tables: Mapping[str, "Table | None"],
    columns: Mapping[str, str | Sequence[str] | None],
    recipe: str | Path | Recipe | None,
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Return the keys of the recipe that tables and their columns set, and the tables that are DataFrames."""
    keys: dict[str, Any] = {}
    frames: dict[str, pd.DataFrame] = {}
    if tables["train"] is None:
        if any(table is not None for table in tables.values()):
            raise UserError("A dev or test table needs a training table: give `train`.")
        if any(columns.values()):
            raise UserError("The names of columns need a training table: give `train`.")
        return keys, frames
    own = not (isinstance(recipe, Recipe) and recipe.data)
    defaults = {"text": "text", "label": "label"} if own else {}
    named = {name: column or defaults.get(name) for name, column in columns.items()}
    keys |= {f"data.{name}_column": column for name, column in named.items() if column}
    for name, table in tables.items():
        if isinstance(table, pd.DataFrame):
            frames[name] = table
        elif isinstance(table, str | Path):
            keys["data.file" if name == "train" else f"data.{name}_file"] = table
        elif table is not None:
            raise UserError(f"{name} must be a DataFrame or the path of a table, not a {type(table).__name__}.")
    return keys, frames


def open_study(path: str | Path, data_dir: str | Path = "datasets") -> "Study":
    """Open the folder of a study that has begun.

    Raises:
        UserError: The folder is no study folder.
    """
    return Study(StudyFolder.existing(Path(path)).path, data_dir)


def load_corpus(
    corpus: str,
    *,
    recipe: str | Path | Recipe | None = None,
    data_dir: str | Path = "datasets",
    frames: "Frames | None" = None,
    console: "Console | None" = None,
    kept: Recipe | None = None,
    **recipe_keys: Any,
) -> tuple[Recipe, Corpus]:
    """Complete a recipe and open its corpus, which is downloaded where it is missing.

    Args:
        corpus: As for `tune`.
        recipe: As for `tune`.
        data_dir: As for `tune`.
        frames: The tables that are DataFrames, by "train", "dev" and "test".
        console: Shows downloads and what was suggested; None for none.
        kept: The recipe of a study that resumes, whose values take the place of "suggest".
        recipe_keys: As for `tune`.

    Example:
        >>> from bertgrid_tf.api import load_corpus
        >>> recipe, corpus = load_corpus("sample", epochs=2)
        >>> recipe.epochs, sorted(corpus.splits)
        (2, ['dev', 'test', 'train'])
    """
    from rich.console import Console

    from bertgrid_tf.report.bars import download_bar

    console = console or Console(quiet=True)
    wanted = _to_suggest(recipe_keys)
    overrides = {
        recipe_key(key): str(value) if isinstance(value, Path) else value
        for key, value in recipe_keys.items()
        if key not in wanted
    }
    source = recipe if recipe is None or isinstance(recipe, Recipe) else Path(recipe)
    asked = load_recipe(corpus, source, overrides)
    if asked.corpus != corpus:
        raise UserError(
            f"The recipe is for the corpus {asked.corpus!r}, not {corpus!r}: run `tune {asked.corpus}`, with --study "
            "where its study folder is to have another name."
        )
    with download_bar(console) as on_progress:
        data = open_corpus(asked, data_dirs(Path(data_dir)), on_progress, frames)
    return _with_suggestion(asked, data, wanted, kept, console) if wanted else asked, data


def _to_suggest(recipe_keys: Mapping[str, Any]) -> list[str]:
    return [key for key in SUGGESTED if isinstance(recipe_keys.get(key), str) and recipe_keys[key] == SUGGEST]


def _with_suggestion(
    recipe: Recipe, corpus: Corpus, wanted: Sequence[str], kept: Recipe | None, console: "Console"
) -> Recipe:
    """Copy a recipe with suggested learning rates, epochs or both; a study that resumes keeps its own.

    A learning rate of the sweeps outside the suggested rows becomes the likeliest of them.
    """

    def show(sentence: str) -> None:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    if kept is not None:
        values: dict[str, Any] = {key: getattr(kept, key) for key in wanted}
        start = kept.hyperparameters.learning_rate
    else:
        suggestion = suggestion_for(recipe, corpus, show)
        values = {"learning_rates": list(suggestion.learning_rates), "epochs": suggestion.epochs}
        values = {key: values[key] for key in wanted}
        start = suggestion.learning_rate
        rates = ", ".join(f"{rate:g}" for rate in suggestion.learning_rates)
        show(f"Suggested: learning rates {rates}; {suggestion.epochs} epochs.")
    rates = values.get("learning_rates", [recipe.hyperparameters.learning_rate])
    if not min(rates) <= recipe.hyperparameters.learning_rate <= max(rates):
        values["learning_rate"] = start
    return load_recipe(recipe.corpus, recipe, values)


def _utterance(given: Any, number: int) -> Utterance:
    """Return a string or a pair of strings as a text to classify."""
    texts = given if isinstance(given, tuple | list) and len(given) == 2 else (given,)
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"Text {number} must be a string, or a pair of strings, not {given!r}.")
    if any(map(HALF_PAIR.search, texts)):
        whole = "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        raise UserError(f"Text {number} has half of a surrogate pair: give {whole}.")
    return Utterance(texts[0], key=str(number), text_pair=texts[1] if len(texts) == 2 else None)


@dataclass(frozen=True)
class Best:
    """The winning cell.

    Attributes:
        hyperparameters: One value for each, the learning rate included.
        epoch: The epoch after which the trial stops, from 1.
        schedule_epochs: The epochs over which its learning-rate schedule is spread.
        score: The study's metric on dev with its 95 % interval.
    """

    hyperparameters: Hyperparameters
    epoch: int
    schedule_epochs: int
    score: "ScoreEstimate"


class Study:
    """A study in its folder, ended or still running; attributes are read at every access.

    Attributes:
        path: The study folder.
    """

    def __init__(
        self,
        path: str | Path,
        data_dir: str | Path = "datasets",
        frames: "Frames | None" = None,
        analysis: "StudyAnalysis | None" = None,
    ) -> None:
        self.path = Path(path)
        self._folder = StudyFolder(self.path)
        self._data_dir = Path(data_dir)
        self._frames = frames or {}
        self._analysis = analysis
        self._predictors: dict[bool, Predictor] = {}

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})"

    def _repr_html_(self) -> str:
        from bertgrid_tf.report.notebook import analysis_html

        return analysis_html(self.analysis)

    @property
    def recipe(self) -> Recipe:
        """The recipe as given to `tune`, with `auto` where a setting is measured."""
        return self._folder.read_recipe()

    @property
    def analysis(self) -> "StudyAnalysis":
        """Scores with intervals, the tied set, interaction checks, gains and cost."""
        from bertgrid_tf.analysis import analyze

        return self._analysis or analyze(self._folder)

    @property
    def best(self) -> Best:
        """The winning cell.

        Raises:
            UserError: The search has not ended.
        """
        winner, cell = self._folder.read_best(), self.analysis.best
        assert cell is not None and cell.score is not None
        return Best(winner.hyperparameters, cell.epoch, winner.epochs, cell.score)

    @property
    def grid(self) -> pd.DataFrame:
        """The score of every cell, learning rates × epochs; NaN where a cell is left out or its trial diverged."""
        table = self._folder.read_table()
        scores = {epoch: table.scores[:, epoch - 1] for epoch in range(1, table.epochs + 1)} if table else {}
        index = pd.Index(table.learning_rates if table else (), name="learning_rate", dtype=float)
        return pd.DataFrame(scores, index).rename_axis(columns="epoch")

    @property
    def sweeps(self) -> pd.DataFrame:
        """A row for every level of every sweep: parameter, level, best epoch, score, whether chosen, trial, status."""
        columns = ["parameter", "level", "epoch", "score", "chosen", "trial_id", "status"]
        table = pd.DataFrame(self._folder.read_sweeps(), columns=columns)
        table["chosen"] = table["chosen"] == "True"
        table["epoch"] = pd.to_numeric(table["epoch"]).astype("Int64")
        table["score"] = pd.to_numeric(table["score"])
        return table.rename(columns={"trial_id": "trial"})

    @property
    def mistakes(self) -> pd.DataFrame:
        """A row for every text that the runs label otherwise (`mistakes.csv`); empty before the study has ended."""
        return pd.DataFrame(self._folder.read_mistakes(), columns=[one.name for one in fields(Mistake)])

    @property
    def trials(self) -> pd.DataFrame:
        """A row for every trial that has begun: id, stage, status, best epoch, score on dev, hyperparameters."""
        recipe = self.recipe
        rows: list[dict[str, Any]] = []
        for record in self._folder.read_trials():
            values = record["hyperparameters"]["values"]
            row = {"trial": trial_name(record["trial_id"]), "stage": values[STAGE], "status": record["status"]}
            rows.append(row | {"epoch": record["best_step"], "score": record["score"]} | _hyperparameters(values))
        for trial in self._folder.read_follow_ups():
            scores = [epoch.get(recipe.metric, nan) for epoch in trial.epochs]
            best = max(range(len(scores)), key=lambda index: recipe.signed(scores[index]), default=None)
            if trial.config.stage == FINAL:
                best = len(scores) - 1
            row = {
                "trial": trial.name,
                "stage": trial.config.stage,
                "status": "FAILED" if best is None else "COMPLETED",
            }
            row |= {"epoch": None, "score": None} if best is None else {"epoch": best + 1, "score": scores[best]}
            rows.append(row | trial.config.hyperparameters.model_dump())
        if self._folder.has_final_model():
            final = self._folder.read_final()
            row = {"trial": "final", "stage": "final", "status": "COMPLETED", "epoch": len(final.epochs)}
            rows.append(row | {"score": final.epochs[-1].get(recipe.metric, nan)} | final.hyperparameters.model_dump())
        columns = ["trial", "stage", "status", "epoch", "score", *Hyperparameters.model_fields]
        return pd.DataFrame(rows, columns=columns).astype({"epoch": "Int64", "score": float})

    def report(self) -> Path:
        """Draw the report and its figures; return the path of `report.html`."""
        from bertgrid_tf.report.write_report import write_report

        write_report(self._folder, self.analysis)
        return self._folder.report_file

    def predict(
        self,
        texts: "Sequence[str | tuple[str, str]] | pd.Series[str] | pd.DataFrame",
        *,
        text: str | None = None,
        text_pair: str | None = None,
        dialogue: str | Sequence[str] | None = None,
        speaker: str | None = None,
        soup: bool = False,
        correct_shift: bool = False,
    ) -> pd.DataFrame:
        """Classify new texts with the final model.

        Args:
            texts: Strings without context, or pairs of strings where the study has pairs, as a list or a Series; or a
                DataFrame, whose dialogues give the context.
            text: The DataFrame's column of the text; None for that of the study's own tables, else "text".
            text_pair: The DataFrame's column of the second text; None for that of the study's own tables.
            dialogue: The DataFrame's column of the dialogue's id, or several; None for that of the study's own tables.
            speaker: The DataFrame's column of the speaker; None for that of the study's own tables.
            soup: Whether to use the soup instead of the final model.
            correct_shift: Whether to correct for other shares of the classes than on dev, where they are detected.

        Returns:
            A row for every text in the order given, with its `label` and a column `p_CLASS` of probabilities for every
            class; the index is that of the DataFrame or the Series.

        Raises:
            UserError: There is no such model or column, or the texts are in a language that the model does not know.
        """
        from bertgrid_tf.corpus.grouping import Window
        from bertgrid_tf.inference.predict import Prediction, Windows, read_texts
        from bertgrid_tf.inference.predictor import Predictor

        if isinstance(texts, str):
            raise UserError("predict takes a list of texts: give [text] for one.")
        if isinstance(texts, pd.DataFrame):
            columns = None
            if text or text_pair or dialogue or speaker or self.recipe.data is None:
                own = self.recipe.data.text_column if self.recipe.data else "text"
                columns = Columns(text or own, dialogue=dialogue, speaker=speaker, text_pair=text_pair)
            windows: Windows = read_texts(self._folder, texts, columns)
            index: pd.Index[Any] = texts.index
        else:
            dialogues = tuple(Dialogue((_utterance(one, n),)) for n, one in enumerate(texts, start=1))
            index = texts.index if isinstance(texts, pd.Series) else pd.RangeIndex(len(texts))

            def windows(_: list[Finding] | None) -> list[Window]:
                return [Window((), dialogues)]

        if not len(index):
            raise UserError("There are no texts to classify: give at least one.")
        if soup not in self._predictors:
            self._predictors[soup] = Predictor(self._folder, soup)
        prediction = Prediction(self._folder, self._predictors[soup], windows, soup, correct_shift)
        table = pd.concat(list(prediction.tables()))
        for remark in prediction.coverage.remarks():
            warnings.warn(remark, stacklevel=2)
        return table.drop(columns="key").set_axis(index)

    def evaluate(
        self,
        split: str = "test",
        data: "pd.DataFrame | Frames | None" = None,
        on_batch_end: "OnTrainBatchEnd | None" = None,
    ) -> "Evaluation":
        """Score the final model on a split; the study folder keeps a record that the split was opened.

        Args:
            split: "train", "dev" or "test".
            data: The DataFrame of a study on DataFrames that was opened later, or all of them by split, as
                `{"train": frame, "dev": other}`.
            on_batch_end: Called after every batch with the texts done, all texts, and NaN.

        Raises:
            UserError: There is no final model or no such split, the split has no labels, or the data are not the
                study's.
        """
        corpus = open_corpus(self.recipe, data_dirs(self._data_dir), frames=self._tables(data))
        from bertgrid_tf.inference.evaluate import evaluate_split

        self._analysis = None  # evaluations belong to it
        return evaluate_split(self._folder, corpus, split, on_batch_end)

    def _tables(self, data: "pd.DataFrame | Frames | None") -> "Frames":
        return {"train": data} if isinstance(data, pd.DataFrame) else data or self._frames

    def extend(
        self,
        learning_rates: Iterable[float] = (),
        epochs: int | None = None,
        sweeps: Mapping[str, Sequence[Value]] | None = None,
        n_seeds: int | None = None,
        data: "pd.DataFrame | Frames | None" = None,
        callbacks: Iterable["Callback"] = (),
        progress: bool = True,
        workers: int | str | None = None,
        ray_address: str | None = None,
        gpu_memory: str | int | None = None,
        budget: str | float | timedelta | None = None,
        bank: bool = True,
    ) -> "Study":
        """Let the study grow: train what it lacks of a larger grid and of larger sweeps; docs/search.md has the rules.

        Args:
            learning_rates: Rows to add; those that the study has may be among them.
            epochs: All epochs of the grid.
            sweeps: Levels to add, by parameter; those that the study has may be among them.
            n_seeds: All seeds of the tied rows.
            data: The DataFrame of a study on DataFrames that was opened later, or all of them by split, as
                `{"train": frame, "dev": other}`.
            callbacks: As for `tune`.
            progress: As for `tune`.
            workers: As for `tune`.
            ray_address: As for `tune`.
            gpu_memory: As for `tune`.
            budget: The time for all sessions of a study with a budget, at least its own; None for its own.
            bank: As for `tune`.

        Returns:
            This study.

        Raises:
            UserError: The study cannot grow so, its data are missing or other than they were, or as for `tune`.
        """
        recipe, folder, frames = self.recipe, self.path.absolute(), self._tables(data)
        larger: dict[str, Any] = {"learning_rates": _with_rates(recipe.learning_rates, learning_rates)}
        larger["epochs"] = recipe.epochs if epochs is None else epochs
        larger["n_seeds"] = recipe.n_seeds if n_seeds is None else n_seeds
        larger |= {f"sweeps.{name}": levels for name, levels in _with_levels(recipe, sweeps or {}).items()}
        tables: Mapping[str, Table] = {}
        if (own_tables := recipe.data) is not None:
            files = {"train": own_tables.file, "dev": own_tables.dev_file, "test": own_tables.test_file}
            if "train" not in frames and own_tables.file in (None, STANDARD_INPUT):
                raise UserError(
                    f"The study in {self.path} has no file that its training table could be read from again: give it "
                    'as extend(data=frame), or all of its DataFrames as {"train": frame, "dev": other}.'
                )
            tables = {split: file for split, file in files.items() if file is not None} | dict(frames)
        grown = tune(
            recipe.corpus,
            **tables,  # type: ignore[arg-type]
            study=folder.name,
            results=folder.parent,
            data_dir=self._data_dir,
            recipe=recipe,
            callbacks=callbacks,
            progress=progress,
            workers=workers,
            ray_address=ray_address,
            gpu_memory=gpu_memory,
            budget=budget,
            bank=bank,
            **larger,
        )
        self._analysis, self._frames = grown._analysis, frames
        self._predictors.clear()
        return self

    def export(
        self, format: str = "savedmodel", path: str | Path | None = None, quantize: str | None = None
    ) -> "Exported":
        """Write the final model for other programs.

        Args:
            format: "savedmodel", for TensorFlow and its servers, or "onnx", for ONNX Runtime.
            path: The folder to write, which must not exist; None for one in the study folder, named after the format,
                as "onnx" or "onnx-int8".
            quantize: "int8" for weights and products in int8, only with "onnx".

        Raises:
            UserError: There is no final model or no such format, the folder exists, or the model differs.
        """
        from bertgrid_tf.inference.export import export

        name = f"{format}-{quantize}" if quantize else format
        return export(self._folder, format, self.path / name if path is None else Path(path), quantize)

    def app(
        self, *, soup: bool = False, token: str | None = None, hosts: Collection[str] | None = None, **limits: Any
    ) -> "FastAPI":
        """Load the final model and make a FastAPI app of it, to run or to mount in an app of your own.

        Args:
            soup: Whether to serve the soup instead of the final model.
            token: The bearer token that requests must carry; None for none.
            hosts: The names by which the app may be called; None for any.
            limits: Fields of `inference.serve.Limits`, as `texts=64`.

        Raises:
            UserError: There is no such model, the token is none that a header can carry, or the extra `serve` is not
                installed.
        """
        check_serving()
        from bertgrid_tf.inference.serve import Limits, create_app

        return create_app(self._folder, soup, token, Limits(**limits), hosts)

    def push(self, repository: str, private: bool = False, update: bool = False) -> str:
        """Upload the final model, its tokenizer and its card to Hugging Face's hub.

        Args:
            repository: OWNER/NAME on the hub.
            private: Whether only the owner may see it.
            update: Whether the repository may be there already: it then gets a further commit.

        Returns:
            The address of the repository.

        Raises:
            UserError: There is no final model or no token; the name is taken; the hub refuses or cannot be reached.
        """
        from bertgrid_tf.inference.push import push
        from bertgrid_tf.report.card import card

        self._folder.read_final()
        # The recipe that the command names is on this machine alone.
        text = card(replace(self.analysis, command=""), repository)
        return push(self._folder, repository, text, private, update)


def user_error(error: TunerError) -> UserError:
    """Return an error of `tuners`, whose messages name its own arguments, in the words of the command line."""
    return UserError(str(error).replace("project_name", "--study NAME").replace("overwrite=True", "--fresh"))


def check_serving() -> None:
    """Raise UserError where the packages of the extra `serve` are missing."""
    if not all(map(find_spec, ("fastapi", "uvicorn", "markdown_it"))):
        raise UserError("Serving needs FastAPI and uvicorn, which are not installed: pip install 'bertgrid-tf[serve]'.")


def memory_limit(size: str | int | None) -> int | None:
    """Return a size of memory, as "16GB", in bytes, without importing TensorFlow."""
    from bertgrid_tf.system.gpu import parse_memory

    return None if size is None else parse_memory(size if isinstance(size, str) else f"{size}B")


def prepare_device(console: "Console", activity: str, memory: int | None) -> None:
    """Cap the memory of the GPUs, and print the device that is computed on; before the first computation.

    Args:
        console: Where the device is printed.
        activity: "Training" or "Computing".
        memory: The most that TensorFlow may take of each GPU, in bytes; None for all.
    """
    from bertgrid_tf.bert import device

    if memory is not None and memory != device.memory_limit():
        device.limit_memory(memory)
    sentence, style = f"{activity} on {device.device_name()}", ""
    if missing := device.missing_gpu():
        sentence += f": {missing}" + (", so that --gpu-memory is ignored" if memory is not None else "")
        style = "bold yellow" if missing.needs_attention else ""
    console.print(f"{sentence}.", style=style, markup=False, highlight=False, soft_wrap=True)


def _hyperparameters(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in Hyperparameters.model_fields}


def _with_levels(recipe: Recipe, added: Mapping[str, Sequence[Value]]) -> dict[str, list[Value]]:
    """Return the levels of some sweeps with others behind them; a parameter that is not swept has its one value."""
    if not isinstance(added, Mapping) or any(isinstance(levels, str) for levels in added.values()):
        raise UserError(
            f'sweeps must be lists of levels by parameter, as {{"context": ["current"]}}, not {shown(added)}.'
        )
    former = {name: [value] for name, value in recipe.hyperparameters.model_dump().items()} | recipe.sweeps
    own = {name: former.get(name, []) for name in added}
    return {
        name: [*own[name], *(level for level in levels if level not in own[name])] for name, levels in added.items()
    }


def _with_rates(own: Sequence[float], added: Iterable[float]) -> list[float]:
    try:
        return [*rows_in_order(own, [float(rate) for rate in added])]
    except (TypeError, ValueError):
        raise UserError(f"learning_rates must be a list of numbers, not {shown(added)}.") from None


def _worker_count(workers: int | str | None) -> int | None:
    """Check how many trials at a time are asked for; None where it is left open."""
    if workers in (None, AUTO):
        return None
    try:
        return TypeAdapter(Annotated[int, Field(ge=1, le=MOST_WORKERS)]).validate_python(workers)
    except ValidationError:
        raise UserError(
            f"workers must be {AUTO} or a whole number from 1 to {MOST_WORKERS:,}, not {shown(workers)}."
        ) from None


def _study_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name:
        raise UserError(
            f"{name!r} is no name for a study folder: give a plain one with --study, and its parent with --results."
        )
    return name
