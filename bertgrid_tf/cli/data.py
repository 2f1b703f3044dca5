"""The commands of `data`: list, describe and fetch corpora."""

from typing import Annotated

import typer
from rich.console import Console

from bertgrid_tf.cli.options import (
    DATASETS,
    CorpusName,
    DataDir,
    DialogueColumn,
    DialogueIds,
    IsStrict,
    LabelColumn,
    Model,
    NormalizeLabels,
    OrderColumn,
    OwnData,
    Sets,
    SpeakerColumn,
    SplitColumn,
    TextColumn,
    YesTheseAreClasses,
    read_recipe,
)

app = typer.Typer(help="The corpora: list them, describe them, fetch them.", no_args_is_help=True)


@app.command("list")
def list_corpora(data_dir: DataDir = DATASETS) -> None:
    """List the corpora and where they lie."""
    from bertgrid_tf.data import data_dirs
    from bertgrid_tf.report.corpora import corpora_table

    Console().print(corpora_table(data_dirs(data_dir)))


@app.command()
def describe(
    context: typer.Context,
    name: CorpusName,
    model: Model = None,
    set_: Sets = None,
    data: OwnData = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    dialogue_column: DialogueColumn = None,
    dialogue_ids: DialogueIds = None,
    order_column: OrderColumn = None,
    speaker_column: SpeakerColumn = None,
    split_column: SplitColumn = None,
    normalize_labels: NormalizeLabels = False,
    yes_these_are_classes: YesTheseAreClasses = False,
    strict: IsStrict = False,
    data_dir: DataDir = DATASETS,
) -> None:
    """Count classes, dialogues and tokens of a corpus, and list what looks wrong."""
    from bertgrid_tf.api import load_corpus
    from bertgrid_tf.corpus import check_corpus, refuse_warnings
    from bertgrid_tf.corpus import describe as describe_splits
    from bertgrid_tf.report.corpora import classes_table, findings_text, lengths_table, tokens_table

    console = Console()
    asked = read_recipe(name, None, context.params)
    recipe, corpus = load_corpus(name, recipe=asked, data_dir=data_dir, console=console)
    splits, findings = describe_splits(corpus), check_corpus(corpus)
    console.print(classes_table(corpus, splits), lengths_table(corpus, splits))
    console.print(findings_text(findings), soft_wrap=not console.is_terminal)
    if strict:
        refuse_warnings(findings)
    from bertgrid_tf.training.encoding import token_lengths

    console.print(tokens_table(token_lengths(corpus, recipe.hyperparameters), recipe.hyperparameters))


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="friends or nsmc")], data_dir: DataDir = DATASETS
) -> None:
    """Download a public corpus, resuming where it broke off, and verify it."""
    from bertgrid_tf.data import data_dirs
    from bertgrid_tf.data import fetch as fetch_corpus
    from bertgrid_tf.report.bars import download_bar

    console = Console()
    with download_bar(console) as progress:
        folder = fetch_corpus(name, data_dirs(data_dir), progress)
    console.print(f"{name} lies in {folder}.", markup=False, highlight=False, soft_wrap=True)
