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
    from bertgrid_tf.bert.trainer import OnTrainBatchEnd
    from bertgrid_tf.corpus import Columns, DownloadProgress

app = typer.Typer(
    help="Time-efficient tuning of BERT text classifiers: sweep what is independent, "
    "fill the learning-rate × epoch grid, train the winner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="The corpora: what there is, what is in it, how to get it.", no_args_is_help=True)
app.add_typer(data_app, name="data")


def _flag(name: str, text: str, *, short: tuple[str, ...] = (), variable: str | None = None) -> Any:
    named = name.removeprefix("--").replace("-", "_").upper()
    return typer.Option(name, *short, help=text, envvar=f"BERTGRID_{variable or named}")


# BERTGRID_DATA is the folder of the corpora, so that a table of one's own has another variable.
DataDir = Annotated[Path, _flag("--data-dir", "where corpora lie; then the user's cache is looked in", variable="DATA")]
OwnData = Annotated[Path | None, _flag("--data", "a CSV or TSV of your own", variable="DATA_FILE")]
TextColumn = Annotated[str | None, _flag("--text-column", "column of the text")]
LabelColumn = Annotated[str | None, _flag("--label-column", "column of the class")]
DialogueColumn = Annotated[str | None, _flag("--dialogue-column", "column of the dialogue's id")]
SplitColumn = Annotated[str | None, _flag("--split-column", "column that says train, dev or test")]
SpeakerColumn = Annotated[str | None, _flag("--speaker-column", "column of the speaker")]
ResultsParent = Annotated[Path, _flag("--results", "parent of the results folder")]
GpuMemory = Annotated[
    str | None, _flag("--gpu-memory", "the most that TensorFlow may take of each GPU: 16GB, 16GiB, 14500MB")
]
ResultsFolder = Annotated[Path, typer.Argument(help="a study's results folder", metavar="DIR")]
DATASETS = Path("datasets")
RESULTS = Path("results")


@app.command()
def tune(
    name: Annotated[str, typer.Argument(metavar="NAME", help="friends, nsmc, sample, or a name for your own --data")],
    model: Annotated[
        str | None, _flag("--model", "the search's checkpoint: hub id, folder, or scratch[:LAYERSxWIDTH]")
    ] = None,
    final_model: Annotated[str | None, _flag("--final-model", "the final checkpoint, or none")] = None,
    final_gpus: Annotated[
        str | None, _flag("--final-gpus", "GPUs that train the final model together: a number, or all")
    ] = None,
    learning_rates: Annotated[str | None, _flag("--learning-rates", "rows of the grid, as 2e-5,6e-6")] = None,
    epochs: Annotated[str | None, _flag("--epochs", "columns of the grid")] = None,
    search: Annotated[
        str | None, _flag("--search", "grid fills every cell; climb, asha, bayes, genetic leave cells out")
    ] = None,
    sweep: Annotated[
        list[str] | None,
        _flag("--sweep", "PARAM=a,b,c: levels of one parameter; repeatable; in place of the recipe's for it"),
    ] = None,
    no_sweeps: Annotated[bool, _flag("--no-sweeps", "leave out the recipe's own sweeps")] = False,
    selection: Annotated[
        str | None, _flag("--selection", "best, or cheapest-equivalent: the cheapest of the tied set")
    ] = None,
    n_seeds: Annotated[str | None, _flag("--n-seeds", "seeds that the grid's tied rows are trained with")] = None,
    check_interactions: Annotated[
        bool, _flag("--check-interactions", "train the sweeps' runners-up at the winning cell too")
    ] = False,
    soup: Annotated[
        bool, _flag("--soup", "keep the weights of every row's best epoch, and average those that help")
    ] = False,
    set_: Annotated[list[str] | None, _flag("--set", "KEY=VALUE of the recipe; repeatable")] = None,
    recipe: Annotated[Path | None, _flag("--recipe", "a recipe file in place of the one of that name")] = None,
    metric: Annotated[
        str | None,
        _flag("--metric", "accuracy, macro_f1, weighted_f1, loss, or f1_CLASS, recall_CLASS, precision_CLASS"),
    ] = None,
    max_train_samples: Annotated[
        str | None, _flag("--max-train-samples", "train on about so many utterances, in whole dialogues")
    ] = None,
    seed: Annotated[str | None, _flag("--seed", "decides every draw")] = None,
    data: OwnData = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    dialogue_column: DialogueColumn = None,
    speaker_column: SpeakerColumn = None,
    split_column: SplitColumn = None,
    dev_file: Annotated[Path | None, _flag("--dev-file", "the dev split's own table")] = None,
    test_file: Annotated[Path | None, _flag("--test-file", "the test split's own table")] = None,
    validation_split: Annotated[
        str | None, _flag("--validation-split", "share of train that becomes dev where there is none")
    ] = None,
    data_dir: DataDir = DATASETS,
    results: ResultsParent = RESULTS,
    study: Annotated[str | None, _flag("--study", "the results folder's name, if not NAME")] = None,
    fresh: Annotated[bool, _flag("--fresh", "delete what an earlier study left in the folder")] = False,
    tensorboard: Annotated[
        bool, _flag("--tensorboard", "write logs for TensorBoard and its HParams table into the results folder")
    ] = False,
    workers: Annotated[
        str | None, _flag("--workers", "runs at a time, each on a GPU of its own or on a share of the CPU; needs Ray")
    ] = None,
    ray_address: Annotated[
        str | None, _flag("--ray-address", "HOST:PORT of a Ray cluster that this host has joined, or auto")
    ] = None,
    gpu_memory: GpuMemory = None,
    budget: Annotated[
        str | None, _flag("--budget", "time for the whole study, as 2h, 90m or 1h30m: what does not fit is left out")
    ] = None,
    dry_run: Annotated[bool, _flag("--dry-run", "print what it would cost, and stop")] = False,
) -> None:
    """Sweep, fill the grid, train the final model. The same command again goes on where it stopped."""
    from rich.console import Console

    from bertgrid_tf import recipe as recipes
    from bertgrid_tf.budget import plan as plans
    from bertgrid_tf.budget.time_budget import Budget
    from bertgrid_tf.data import data_dirs, open_corpus
    from bertgrid_tf.report.plan import guess_line, plan_table
    from bertgrid_tf.report.progress import progress as progress_of
    from bertgrid_tf.report.summary import print_summary
    from bertgrid_tf.storage.study_folder import StudyFolder
    from bertgrid_tf.study.auto_settings import autos, estimated, value, with_defaults

    hyperparameters: dict[str, Any] = {
        "model": model,
        "final.model": final_model,
        "final.gpus": final_gpus,
        "learning_rates": _listed(learning_rates) if learning_rates is not None else None,
        "epochs": epochs,
        "search": search,
        "selection": selection,
        "n_seeds": n_seeds,
        "check_interactions": True if check_interactions else None,
        "soup": True if soup else None,
        "metric": metric,
        "max_train_samples": max_train_samples,
        "seed": seed,
        "sweeps": {} if no_sweeps else None,
        "data.file": data,
        "data.text_column": text_column,
        "data.label_column": label_column,
        "data.dialogue_column": dialogue_column,
        "data.speaker_column": speaker_column,
        "data.split_column": split_column,
        "data.dev_file": dev_file,
        "data.test_file": test_file,
        "data.validation_split": validation_split,
    }
    overrides = {key: value for key, value in hyperparameters.items() if value is not None}
    overrides |= {f"sweeps.{key}": _listed(levels) for key, levels in _pairs("--sweep", sweep).items()}
    overrides |= {key: _value(key, value) for key, value in _pairs("--set", set_).items()}
    folder = results / _study_name(name if study is None else study)
    count, memory = _count("--workers", workers, "runs at a time"), _bytes(gpu_memory)
    limit = None if budget is None else Budget.of(budget)

    console = Console()
    asked = recipes.load_recipe(name, recipe, overrides)
    if asked.corpus != name:
        raise UserError(
            f"The recipe is for the corpus {asked.corpus!r}, not {name!r}: run `tune {asked.corpus}`, "
            "with --study where its results folder is to have another name."
        )
    with _download_bar(console) as progress:
        corpus = open_corpus(asked, data_dirs(data_dir), progress)
    if dry_run:
        guessed = estimated(asked, corpus, memory) if autos(asked) else asked
        console.print(plan_table(plans.plan(guessed, corpus)))
        for key in autos(asked):
            console.print(guess_line(key, value(guessed, key)), markup=False, highlight=False, soft_wrap=True)
        return
    planned = plans.plan(with_defaults(asked), corpus)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # TensorFlow takes seconds to import: say what is going on first.
        console.print(
            f"{asked.corpus}: {planned.trials} trials, up to {planned.epochs} epochs. Starting TensorFlow …",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        from bertgrid_tf.report.tensorboard import TensorBoard
        from bertgrid_tf.study.runner import StudyRunner
        from bertgrid_tf.study.workers import WorkerOptions

        # One run at a time on this host needs no other process.
        options = WorkerOptions(count, ray_address, memory) if ray_address or (count or 1) > 1 else None
        if not ray_address:  # a cluster's devices are not this host's
            _prepare_device(console, "Training", memory)
        with progress_of(console, asked.metric) as callback:
            callbacks = [callback, TensorBoard()] if tensorboard else [callback]
            analysis = StudyRunner(asked, corpus, StudyFolder(folder), callbacks, fresh, options, limit).run()
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. Everything up to the last finished epoch is in {folder}: the same command goes on from there.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(130) from None
    print_summary(console, StudyFolder(folder), analysis)


@app.command("results")
def show_results(folder: ResultsFolder) -> None:
    """Print a study's sweeps, table, winner and final scores again."""
    from rich.console import Console

    from bertgrid_tf.analysis import analyze
    from bertgrid_tf.report.summary import print_summary
    from bertgrid_tf.storage.study_folder import StudyFolder

    study = StudyFolder.existing(folder)
    print_summary(Console(), study, analyze(study))


@app.command()
def report(folder: ResultsFolder) -> None:
    """Draw a study's report.html and its figures anew; it may still be running."""
    from rich.console import Console

    from bertgrid_tf.analysis import analyze
    from bertgrid_tf.report.write_report import write_report
    from bertgrid_tf.storage.study_folder import StudyFolder

    results = StudyFolder.existing(folder)
    write_report(results, analyze(results))
    said = f"The report is {results.report_file}, its figures lie in {results.figures}."
    Console().print(said, markup=False, highlight=False, soft_wrap=True)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR DIR…", help="studies' results folders")],
) -> None:
    """Set studies side by side, and say which of their winners can be told apart."""
    from rich.console import Console

    from bertgrid_tf.analysis import analyze, compare_studies
    from bertgrid_tf.report.studies import studies_table
    from bertgrid_tf.storage.study_folder import StudyFolder

    if len(folders) < 2:
        raise UserError("compare needs two results folders or more.")
    studies = [StudyFolder.existing(folder) for folder in folders]
    ranked = compare_studies(studies)
    Console().print(studies_table([analyze(study) for study in studies], ranked), highlight=False)


@app.command()
def evaluate(
    folder: ResultsFolder,
    split: Annotated[
        str, _flag("--split", "test is sealed: opening it is written down in the results folder")
    ] = "test",
    data_dir: DataDir = DATASETS,
    gpu_memory: GpuMemory = None,
) -> None:
    """Score the final model on a split."""
    from rich.console import Console

    from bertgrid_tf.analysis import analyze
    from bertgrid_tf.data import data_dirs, open_corpus
    from bertgrid_tf.report.predictions import scores_table, variants
    from bertgrid_tf.report.write_report import write_report
    from bertgrid_tf.storage.study_folder import StudyFolder

    memory = _bytes(gpu_memory)
    results = StudyFolder.existing(folder)
    corpus = open_corpus(results.read_recipe(), data_dirs(data_dir))
    from bertgrid_tf.inference.predict import evaluate_split

    console = Console()
    if memory is not None:
        _prepare_device(console, "Computing", memory)
    with _batches_bar(console) as on_train_batch_end:
        found = evaluate_split(results, corpus, split, on_train_batch_end)
    console.print(scores_table(found.final, results.read_recipe().metric, f"{corpus.name}, {split} split"))
    for line in variants(found.metrics):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    write_report(results, analyze(results))
    console.print(f"Written down in {results.evaluations_file}.", markup=False, highlight=False, soft_wrap=True)


@app.command()
def predict(
    folder: ResultsFolder,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="the competition's CSV, a file in NSMC's format, or a table")
    ],
    out: Annotated[Path, _flag("--out", "the CSV to write", short=("-o",))],
    proba: Annotated[bool, _flag("--proba", "write every class's probability too")] = False,
    soup: Annotated[bool, _flag("--soup", "use the soup of the search's rows instead of the final model")] = False,
    correct_shift: Annotated[
        bool, _flag("--correct-shift", "allow for classes that come in other shares than on dev, where they seem to")
    ] = False,
    text_column: TextColumn = None,
    dialogue_column: DialogueColumn = None,
    speaker_column: SpeakerColumn = None,
    key_column: Annotated[str | None, _flag("--key-column", "column of the rows' ids")] = None,
    gpu_memory: GpuMemory = None,
) -> None:
    """Label new texts with the final model, dialogue context included."""
    from rich.console import Console

    from bertgrid_tf.report.predictions import shift_sentence
    from bertgrid_tf.storage.study_folder import StudyFolder

    memory = _bytes(gpu_memory)
    results = StudyFolder.existing(folder)
    given = _columns(text_column, dialogue_column, speaker_column, key_column)
    from bertgrid_tf.inference.predict import predict_file

    console = Console()
    if memory is not None:
        _prepare_device(console, "Computing", memory)
    with _batches_bar(console) as on_train_batch_end:
        found = predict_file(results, file, out, given, proba, on_train_batch_end, soup, correct_shift)
    console.print(f"{found.texts:,} texts labelled in {out}.", markup=False, highlight=False, soft_wrap=True)
    if shift := shift_sentence(found):
        console.print(shift, markup=False, highlight=False, soft_wrap=True)


@app.command()
def export(
    folder: ResultsFolder,
    format_: Annotated[str, _flag("--format", "savedmodel, for TensorFlow and its servers, or onnx, for ONNX Runtime")],
    out: Annotated[Path | None, _flag("--out", "the folder to write, if not DIR/FORMAT", short=("-o",))] = None,
) -> None:
    """Write the final model as a SavedModel or in ONNX, checked against the study's own."""
    from rich.console import Console

    from bertgrid_tf.storage.study_folder import StudyFolder

    results = StudyFolder.existing(folder)
    from bertgrid_tf.inference.export import export as write_model

    exported = write_model(results, format_, out or folder / format_)
    said = (
        f"{exported.folder} holds the model: on {exported.texts} texts its probabilities are those of the study's own "
        f"within {exported.difference:.1g}."
    )
    Console().print(said, markup=False, highlight=False, soft_wrap=True)


@app.command()
def doctor(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="the study to check for: friends, nsmc, sample")
    ] = "sample",
    data_dir: DataDir = DATASETS,
    results: ResultsParent = RESULTS,
    as_json: Annotated[bool, _flag("--json", "print all findings as JSON, at the end")] = False,
) -> None:
    """Check this machine and installation; exit code 1 where the study could not run."""
    import json
    from dataclasses import asdict

    from rich.console import Console

    from bertgrid_tf.data import data_dirs
    from bertgrid_tf.report.doctor import finding_line
    from bertgrid_tf.study import doctor as checks

    console = Console()
    findings = []
    for finding in checks.examine(name, results, data_dirs(data_dir)):
        findings.append(finding)
        if not as_json:
            console.print(finding_line(finding), highlight=False, soft_wrap=True)
    could_run = all(finding.status != "problem" for finding in findings)
    if as_json:
        answer = {"study": name, "could_run": could_run, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        command = f"bertgrid-tf tune {name}"
        verdict = f"`{command}` can run here." if could_run else f"`{command}` cannot run here: see the problems above."
        console.print(verdict, style="bold", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if could_run else 1)


@data_app.command("list")
def list_corpora(data_dir: DataDir = DATASETS) -> None:
    """List the corpora and where they lie."""
    from rich.console import Console

    from bertgrid_tf.data import data_dirs
    from bertgrid_tf.report.corpora import corpora_table

    Console().print(corpora_table(data_dirs(data_dir)))


@data_app.command()
def describe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="friends, nsmc, sample, or a name for your own --data")],
    model: Annotated[
        str | None, _flag("--model", "the checkpoint whose tokens are counted, if not the recipe's")
    ] = None,
    set_: Annotated[
        list[str] | None, _flag("--set", "KEY=VALUE of the recipe: context, max_length, …; repeatable")
    ] = None,
    data: OwnData = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    dialogue_column: DialogueColumn = None,
    speaker_column: SpeakerColumn = None,
    split_column: SplitColumn = None,
    data_dir: DataDir = DATASETS,
) -> None:
    """Count classes, dialogues and tokens of a corpus."""
    from rich.console import Console

    from bertgrid_tf import recipe as recipes
    from bertgrid_tf.data import data_dirs, open_corpus
    from bertgrid_tf.report.corpora import classes_table, lengths_table, tokens_table

    hyperparameters: dict[str, Any] = {
        "model": model,
        "data.file": data,
        "data.text_column": text_column,
        "data.label_column": label_column,
        "data.dialogue_column": dialogue_column,
        "data.speaker_column": speaker_column,
        "data.split_column": split_column,
    }
    overrides = {key: value for key, value in hyperparameters.items() if value is not None}
    overrides |= {key: _value(key, value) for key, value in _pairs("--set", set_).items()}
    asked = recipes.load_recipe(name, None, overrides)
    console = Console()
    with _download_bar(console) as progress:
        corpus = open_corpus(asked, data_dirs(data_dir), progress)
    console.print(classes_table(corpus), lengths_table(corpus))
    from bertgrid_tf.training.encoding import token_lengths

    console.print(tokens_table(token_lengths(corpus, asked.hyperparameters), asked.hyperparameters))


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="friends or nsmc")], data_dir: DataDir = DATASETS
) -> None:
    """Download a public corpus, resuming where it broke off, and verify it."""
    from rich.console import Console

    from bertgrid_tf.data import data_dirs
    from bertgrid_tf.data import fetch as fetch_corpus

    console = Console()
    with _download_bar(console) as progress:
        folder = fetch_corpus(name, data_dirs(data_dir), progress)
    console.print(f"{name} lies in {folder}.", markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """The console script: what a person can mend is one sentence and exit code 2."""
    try:
        app()
    except (UserError, TunerError) as error:
        from rich.console import Console

        sentence = str(error)
        if isinstance(error, TunerError):
            # The tuners' own words are those of a Python program.
            sentence = sentence.replace("project_name", "--study NAME").replace("overwrite=True", "--fresh")
        Console(stderr=True).print(
            f"{sentence.rstrip('.')}.", style="red", markup=False, highlight=False, soft_wrap=True
        )
        sys.exit(2)


def _pairs(flag: str, texts: list[str] | None) -> dict[str, str]:
    """The NAME=VALUE pairs of a flag that can be repeated, without the spaces around them."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        key, _, value = (part.strip() for part in text.partition("="))
        if not (key and value):
            written = {"--sweep": "PARAM=a,b,c", "--set": "KEY=VALUE"}[flag]
            raise UserError(f"{flag} {text!r} cannot be read: write it as {flag} {written}.")
        if key in pairs:
            raise UserError(f"{flag} {key} is given twice: give it once, with all that belongs to it.")
        pairs[key] = value
    return pairs


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _value(key: str, text: str) -> Any:
    import yaml

    from bertgrid_tf.recipe import yaml_reason

    # Plain words stay as they are: YAML would make `no` of "false". Lists and mappings are written as in a recipe.
    if text[0] not in "[{" and text != "null":
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {key}={text} cannot be read as YAML: {yaml_reason(error)}.") from error


def _study_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name:
        raise UserError(
            f"{name!r} is no name for a results folder: give a plain one with --study, and its parent with --results."
        )
    return name


def _count(flag: str, text: str | None, of: str) -> int | None:
    """What a flag says that counts something."""
    if text is None or (text.strip().isdecimal() and int(text) > 0):
        return None if text is None else int(text)
    raise UserError(f"{flag} {text!r} cannot be: give a whole number of {of}, at least 1.")


def _bytes(text: str | None) -> int | None:
    """What --gpu-memory says; before TensorFlow is imported, which takes seconds."""
    from bertgrid_tf.system.gpu import parse_memory

    return None if text is None else parse_memory(text)


def _prepare_device(console: Any, doing: str, memory: int | None) -> None:
    """Caps the GPUs' memory and says what is computed on. To be called before the first computation."""
    from bertgrid_tf.bert import device

    if memory is not None:
        device.limit_memory(memory)
    said, style = f"{doing} on {device.device_name()}", ""
    if missing := device.missing_gpu():
        said += f": {missing}" + (", so that --gpu-memory is ignored" if memory is not None else "")
        style = "bold yellow" if missing.needs_attention else ""
    console.print(f"{said}.", style=style, markup=False, highlight=False, soft_wrap=True)


def _columns(text: str | None, dialogue: str | None, speaker: str | None, key: str | None) -> "Columns | None":
    from bertgrid_tf.corpus import Columns

    if text is None:
        if dialogue or speaker or key:
            raise UserError("--dialogue-column, --speaker-column and --key-column need --text-column.")
        return None
    return Columns(text, dialogue=dialogue, speaker=speaker, key=key)


@contextmanager
def _download_bar(console: Any) -> Iterator["DownloadProgress"]:
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
    if not console.is_terminal:

        def tell(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = console.print(f"{file}: {total / 1e6:.1f} MB …", markup=False, highlight=False)

        yield tell
        return
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
def _batches_bar(console: Any) -> Iterator["OnTrainBatchEnd"]:
    """Yields a callback for `on_step` that draws a bar on a terminal and nothing elsewhere."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("texts", total=None)
        yield lambda done, total, _: bars.update(task, completed=done, total=total)
