"""The commands. Each parses, calls and prints; what is heavy is imported where it is used."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bertgrid_tf.errors import UserError
from tuners.errors import TunerError

if TYPE_CHECKING:
    from bertgrid_tf.bert.trainer import OnStep
    from bertgrid_tf.corpus import Columns, Progress

app = typer.Typer(
    help="Time-efficient tuning of BERT text classifiers: sweep what is independent, "
    "fill the learning-rate × epoch grid, train the winner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="The corpora: what there is, what is in it, how to get it.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def _flag(name: str, text: str) -> Any:
    return typer.Option(name, help=text, envvar=f"BERTGRID_{name.removeprefix('--').replace('-', '_').upper()}")


DataDir = Annotated[
    Path,
    typer.Option("--data-dir", help="where corpora lie; then the user's cache is looked in", envvar="BERTGRID_DATA"),
]
TextColumn = Annotated[str | None, _flag("--text-column", "column of the text")]
LabelColumn = Annotated[str | None, _flag("--label-column", "column of the class")]
DialogueColumn = Annotated[str | None, _flag("--dialogue-column", "column of the dialogue's id")]
SpeakerColumn = Annotated[str | None, _flag("--speaker-column", "column of the speaker")]
ResultsFolder = Annotated[Path, typer.Argument(help="a study's results folder", metavar="DIR")]
DATASETS = Path("datasets")


@app.command()
def tune(
    name: Annotated[str, typer.Argument(help="friends, nsmc, sample, or a name for your own --data")],
    model: Annotated[
        str | None, _flag("--model", "the search's checkpoint: hub id, folder, or scratch[:LAYERSxWIDTH]")
    ] = None,
    final_model: Annotated[str | None, _flag("--final-model", "the final checkpoint, or none")] = None,
    learning_rates: Annotated[str | None, _flag("--learning-rates", "rows of the grid, as 2e-5,6e-6")] = None,
    epochs: Annotated[str | None, _flag("--epochs", "columns of the grid")] = None,
    sweep: Annotated[
        list[str] | None,
        _flag("--sweep", "PARAM=a,b,c: levels of one parameter; repeatable; in place of the recipe's for it"),
    ] = None,
    no_sweeps: Annotated[bool, _flag("--no-sweeps", "leave out the recipe's own sweeps")] = False,
    set_: Annotated[list[str] | None, _flag("--set", "KEY=VALUE of the recipe; repeatable")] = None,
    recipe: Annotated[Path | None, _flag("--recipe", "a recipe file in place of the one of that name")] = None,
    metric: Annotated[
        str | None,
        _flag("--metric", "accuracy, macro_f1, weighted_f1, loss, or f1_CLASS, recall_CLASS, precision_CLASS"),
    ] = None,
    limit_train: Annotated[
        str | None, _flag("--limit-train", "train on about so many utterances, in whole dialogues")
    ] = None,
    seed: Annotated[str | None, _flag("--seed", "decides every draw")] = None,
    data: Annotated[Path | None, _flag("--data", "a CSV or TSV of your own")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    dialogue_column: DialogueColumn = None,
    speaker_column: SpeakerColumn = None,
    split_column: Annotated[str | None, _flag("--split-column", "column that says train, dev or test")] = None,
    dev_file: Annotated[Path | None, _flag("--dev-file", "the dev split's own table")] = None,
    test_file: Annotated[Path | None, _flag("--test-file", "the test split's own table")] = None,
    held_out: Annotated[str | None, _flag("--held-out", "share of train that becomes dev where there is none")] = None,
    data_dir: DataDir = DATASETS,
    results: Annotated[Path, _flag("--results", "parent of the results folder")] = Path("results"),
    study: Annotated[str | None, _flag("--study", "the results folder's name, if not NAME")] = None,
    fresh: Annotated[bool, _flag("--fresh", "delete what an earlier study left in the folder")] = False,
    dry_run: Annotated[bool, _flag("--dry-run", "print what it would cost, and stop")] = False,
) -> None:
    """Sweep, fill the grid, train the final model. The same command again goes on where it stopped."""
    from rich.console import Console

    from bertgrid_tf import plan as plans
    from bertgrid_tf import recipe as recipes
    from bertgrid_tf.data import data_dirs, open_corpus
    from bertgrid_tf.report.progress import Bars, Lines
    from bertgrid_tf.report.summary import plan_table, print_summary
    from bertgrid_tf.results import Results

    settings = {"model": model, "final.model": final_model, "epochs": epochs, "metric": metric, "seed": seed}
    overrides: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
    if learning_rates is not None:
        overrides["learning_rates"] = learning_rates.split(",")
    if limit_train is not None:
        overrides["limit_train"] = limit_train
    if no_sweeps:
        overrides["sweeps"] = {}
    for text in sweep or ():
        parameter, levels = _pair("--sweep", text)
        overrides[f"sweeps.{parameter}"] = levels.split(",")
    if data is not None:
        overrides["data"] = _own_data(
            file=data,
            text_column=text_column,
            label_column=label_column,
            dialogue_column=dialogue_column,
            speaker_column=speaker_column,
            split_column=split_column,
            dev_file=dev_file,
            test_file=test_file,
            held_out=held_out,
        )
    overrides |= {key: _value(value) for key, value in (_pair("--set", text) for text in set_ or ())}

    console = Console()
    asked = recipes.load(name, recipe, overrides)
    with _download_bar(console) as progress:
        corpus = open_corpus(asked, data_dirs(data_dir), progress)
    planned = plans.plan(asked, corpus)
    if dry_run:
        console.print(plan_table(planned))
        return
    folder = results / (study or name)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # TensorFlow takes seconds to import: say what is going on first.
        console.print(
            f"[bold]{asked.corpus}[/]: {planned.runs} runs, up to {planned.epochs} epochs. Starting TensorFlow …"
        )
        from bertgrid_tf.study import Study

        with (Bars if console.is_terminal else Lines)(console, asked.metric, planned.steps) as listener:
            Study(asked, corpus, folder, listener, fresh).run()
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. Everything up to the last finished epoch is in {folder}: the same command goes on from there."
        )
        raise typer.Exit(130) from None
    print_summary(console, Results(folder))


@app.command("results")
def show_results(folder: ResultsFolder) -> None:
    """Print a study's sweeps, table, winner and final scores again."""
    from rich.console import Console

    from bertgrid_tf.report.summary import print_summary
    from bertgrid_tf.results import Results

    print_summary(Console(), Results.existing(folder))


@app.command()
def evaluate(
    folder: ResultsFolder,
    split: Annotated[
        str, _flag("--split", "test is sealed: opening it is written down in the results folder")
    ] = "test",
    data_dir: DataDir = DATASETS,
) -> None:
    """Score the final model on a split."""
    from rich.console import Console

    from bertgrid_tf.data import data_dirs, open_corpus
    from bertgrid_tf.report.summary import scores_table
    from bertgrid_tf.results import Results

    results = Results.existing(folder)
    corpus = open_corpus(results.recipe(), data_dirs(data_dir))
    from bertgrid_tf.inference import evaluate_split

    console = Console()
    with _batches_bar(console) as on_step:
        found = evaluate_split(results, corpus, split, on_step)
    console.print(scores_table(corpus.labels, found.metrics, found.support, f"{corpus.name}, {split} split"))
    console.print(f"Written down in {results.evaluations_file}.", highlight=False)


@app.command()
def predict(
    folder: ResultsFolder,
    file: Annotated[Path, typer.Argument(help="the competition's CSV, a file in NSMC's format, or a table")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the CSV to write", envvar="BERTGRID_OUT")],
    proba: Annotated[bool, _flag("--proba", "write every class's probability too")] = False,
    text_column: TextColumn = None,
    dialogue_column: DialogueColumn = None,
    speaker_column: SpeakerColumn = None,
    key_column: Annotated[str | None, _flag("--key-column", "column of the rows' ids")] = None,
) -> None:
    """Label new texts with the final model, dialogue context included."""
    from rich.console import Console

    from bertgrid_tf.results import Results

    results = Results.existing(folder)
    given = _columns(text_column, dialogue_column, speaker_column, key_column)
    from bertgrid_tf.inference import predict_file

    console = Console()
    with _batches_bar(console) as on_step:
        count = predict_file(results, file, out, given, proba, on_step)
    console.print(f"{count:,} texts labelled in {out}.", highlight=False)


@data_app.command("list")
def list_corpora(data_dir: DataDir = DATASETS) -> None:
    """List the corpora and where they lie."""
    from rich.console import Console

    from bertgrid_tf.data import data_dirs
    from bertgrid_tf.report.corpora import corpora_table

    Console().print(corpora_table(data_dirs(data_dir)))


@data_app.command()
def describe(
    name: Annotated[str, typer.Argument(help="friends, nsmc, sample, or a name for your own --data")],
    model: Annotated[
        str | None, _flag("--model", "the checkpoint whose tokens are counted, if not the recipe's")
    ] = None,
    set_: Annotated[
        list[str] | None, _flag("--set", "KEY=VALUE of the recipe: context, max_length, …; repeatable")
    ] = None,
    data: Annotated[Path | None, _flag("--data", "a CSV or TSV of your own")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    dialogue_column: DialogueColumn = None,
    speaker_column: SpeakerColumn = None,
    split_column: Annotated[str | None, _flag("--split-column", "column that says train, dev or test")] = None,
    data_dir: DataDir = DATASETS,
) -> None:
    """Count classes, dialogues and tokens of a corpus."""
    from rich.console import Console

    from bertgrid_tf import recipe as recipes
    from bertgrid_tf.data import data_dirs, open_corpus
    from bertgrid_tf.report.corpora import classes_table, lengths_table, tokens_table

    overrides = {key: _value(value) for key, value in (_pair("--set", text) for text in set_ or ())}
    if model is not None:
        overrides["model"] = model
    if data is not None:
        overrides["data"] = _own_data(
            file=data,
            text_column=text_column,
            label_column=label_column,
            dialogue_column=dialogue_column,
            speaker_column=speaker_column,
            split_column=split_column,
        )
    asked = recipes.load(name, None, overrides)
    console = Console()
    with _download_bar(console) as progress:
        corpus = open_corpus(asked, data_dirs(data_dir), progress)
    console.print(classes_table(corpus), lengths_table(corpus))
    from bertgrid_tf.run import token_lengths

    console.print(tokens_table(token_lengths(corpus, asked.settings), asked.settings))


@data_app.command()
def fetch(name: Annotated[str, typer.Argument(help="friends or nsmc")], data_dir: DataDir = DATASETS) -> None:
    """Download a public corpus, resuming where it broke off, and verify it."""
    from rich.console import Console

    from bertgrid_tf.data import data_dirs
    from bertgrid_tf.data import fetch as fetch_corpus

    console = Console()
    with _download_bar(console) as progress:
        folder = fetch_corpus(name, data_dirs(data_dir), progress)
    console.print(f"{name} lies in {folder}.", highlight=False)


def main() -> None:
    """The console script: what a person can mend is one sentence and exit code 2."""
    try:
        app()
    except (UserError, TunerError) as error:
        from rich.console import Console

        sentence = str(error).rstrip(".")
        Console(stderr=True).print(
            f"{sentence[0].upper()}{sentence[1:]}.",
            style="red",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        sys.exit(2)


def _pair(flag: str, text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise UserError(f"{flag} {text!r} is not NAME=VALUE.")
    return key, value


def _value(text: str) -> Any:
    import yaml

    # Plain words stay as they are: YAML would make `no` of "false". Lists and mappings are written as in a recipe.
    return yaml.safe_load(text) if text[0] in "[{" or text == "null" else text


def _own_data(**columns: Any) -> dict[str, Any]:
    if not (columns["text_column"] and columns["label_column"]):
        raise UserError(f"--data {columns['file']} needs --text-column and --label-column.")
    return {key: value for key, value in columns.items() if value is not None}


def _columns(text: str | None, dialogue: str | None, speaker: str | None, key: str | None) -> "Columns | None":
    from bertgrid_tf.corpus import Columns

    if text is None:
        if dialogue or speaker or key:
            raise UserError("--dialogue-column, --speaker-column and --key-column need --text-column.")
        return None
    return Columns(text, dialogue=dialogue, speaker=speaker, key=key)


@contextmanager
def _download_bar(console: Any) -> Iterator["Progress"]:
    """Yields the callback of `corpus.fetch`; a bar per file appears when its first bytes arrive."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    tasks: dict[str, Any] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def show(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file)
            bars.update(tasks[file], completed=done, total=total)

        yield show


@contextmanager
def _batches_bar(console: Any) -> Iterator["OnStep"]:
    """Yields a callback for `on_step` that draws a bar on a terminal and nothing elsewhere."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("texts", total=None)
        yield lambda done, total, _: bars.update(task, completed=done, total=total)
