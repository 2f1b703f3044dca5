"""The command `suggest`."""

import typer
from rich.console import Console

from bertgrid_tf.cli.options import (
    DATASETS,
    CorpusName,
    DataDir,
    Model,
    RecipeFile,
    Sets,
    corpus_name,
    read_recipe,
    with_data_flags,
)


@with_data_flags
def suggest(
    context: typer.Context,
    name: CorpusName = None,
    model: Model = None,
    set_: Sets = None,
    recipe: RecipeFile = None,
    data_dir: DataDir = DATASETS,
    **flags: object,
) -> None:
    """Suggest learning rates, epochs and more, by recorded studies of tasks and checkpoints like these."""
    from bertgrid_tf.api import load_corpus, suggestion_for
    from bertgrid_tf.report.suggestion import suggestion_text

    console = Console()
    name = corpus_name(name, context.params)
    asked, corpus = load_corpus(
        name, recipe=read_recipe(name, recipe, context.params), data_dir=data_dir, console=console
    )

    def show(sentence: str) -> None:
        console.print(sentence, style="yellow", markup=False, highlight=False, soft_wrap=True)

    console.print(suggestion_text(suggestion_for(asked, corpus, show)))
