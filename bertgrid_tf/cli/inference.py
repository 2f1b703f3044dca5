"""The commands that use the final model: `evaluate`, `predict`, `export`, `push`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bertgrid_tf.cli.options import (
    DATASETS,
    DataDir,
    DialogueColumn,
    GpuMemory,
    SpeakerColumn,
    StudyPath,
    TextColumn,
    TextPairColumn,
    flag,
    setting,
)
from bertgrid_tf.errors import UserError


def evaluate(
    folder: StudyPath,
    split: Annotated[
        str, flag("--split", "test is sealed: the study folder keeps a record of every time it is opened")
    ] = "test",
    data_dir: DataDir = DATASETS,
    gpu_memory: GpuMemory = None,
) -> None:
    """Score the final model on a split."""
    from bertgrid_tf import api
    from bertgrid_tf.report.answer import to_text, without_dev
    from bertgrid_tf.report.bars import batches_bar
    from bertgrid_tf.report.predictions import scores_table, variants

    console, memory = Console(), api.memory_limit(gpu_memory)
    study = api.open_study(folder, data_dir)
    if memory is not None:
        api.prepare_device(console, "Computing", memory)
    with batches_bar(console) as on_batch_end:
        evaluation = study.evaluate(split, on_batch_end=on_batch_end)
    recipe = study.recipe
    console.print(scores_table(evaluation.final, recipe.metric, recipe.corpus, split))
    for line in variants(evaluation.metrics, recipe.metric):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for sentence in without_dev(recipe):
        console.print(to_text(sentence), highlight=False, soft_wrap=True)
    study.report()
    record = f"Written down in {folder / 'evaluations.csv'}."
    console.print(record, markup=False, highlight=False, soft_wrap=True)


def predict(
    folder: StudyPath,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="a table as the study's own (or - for the standard input), the competition's CSV, or a file in NSMC's "
            "format",
        ),
    ],
    out: Annotated[Path, flag("--out", "the CSV to write (or - for the standard output)", short=("-o",))],
    proba: Annotated[bool, flag("--proba", "write every class's probability too")] = False,
    soup: Annotated[bool, flag("--soup", "use the soup of the search's rows instead of the final model")] = False,
    correct_shift: Annotated[
        bool,
        flag("--correct-shift", "correct for other shares of the classes than on dev, where they are detected"),
    ] = False,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    dialogue_column: DialogueColumn = None,
    speaker_column: SpeakerColumn = None,
    id_column: Annotated[str | None, flag("--id-column", "column of the rows' ids, in place of their numbers")] = None,
    out_columns: Annotated[
        str | None, flag("--out-columns", "names of the two columns to write, as Id,Expected; id,label by default")
    ] = None,
    spreadsheet_safe: Annotated[
        bool,
        flag("--spreadsheet-safe", "write an apostrophe before ids and labels that begin with =, +, -, @, tab or CR"),
    ] = False,
    encoding: Annotated[str | None, setting("--encoding")] = None,
    quoting: Annotated[str | None, setting("--quoting")] = None,
    no_header: Annotated[bool, setting("--no-header")] = False,
    gpu_memory: GpuMemory = None,
) -> None:
    """Label new texts with the final model, dialogue context included."""
    from bertgrid_tf import api
    from bertgrid_tf.corpus import Columns
    from bertgrid_tf.corpus.files import STANDARD_INPUT, STANDARD_OUTPUT
    from bertgrid_tf.data import columns as columns_of
    from bertgrid_tf.report.bars import batches_bar
    from bertgrid_tf.report.predictions import shift_sentence, warnings
    from bertgrid_tf.storage.study_folder import StudyFolder

    out = STANDARD_OUTPUT if str(out) == "-" else out
    # Not between the lines of a table that another command reads.
    console, memory = Console(stderr=out == STANDARD_OUTPUT), api.memory_limit(gpu_memory)
    study, columns = StudyFolder.existing(folder), None
    if text_column is not None:
        columns = Columns(
            text_column, dialogue=dialogue_column, speaker=speaker_column, key=id_column, text_pair=text_pair_column
        )
    elif text_pair_column or dialogue_column or speaker_column or id_column:
        if (data := study.read_recipe().data) is None:
            others = "--text-pair-column, --dialogue-column, --speaker-column and --id-column"
            raise UserError(f"{others} need --text-column.")
        own = columns_of(data)
        columns = replace(
            own,
            label=None,
            split=None,
            dialogue=dialogue_column or own.dialogue,
            speaker=speaker_column or own.speaker,
            key=id_column,
            text_pair=text_pair_column or own.text_pair,
        )
    names = [name.strip() for name in out_columns.split(",")] if out_columns is not None else None
    if names is not None and (len(names) != 2 or not all(names) or names[0] == names[1]):
        raise UserError(f"--out-columns {out_columns!r} must be two names, as Id,Expected.")
    reading = {"encoding": encoding, "quoting": quoting, "no_header": no_header}
    from bertgrid_tf.inference.predict import dev_report, predict_file

    if memory is not None:
        api.prepare_device(console, "Computing", memory)
    with batches_bar(console) as on_batch_end:
        summary = predict_file(
            study,
            STANDARD_INPUT if str(file) == "-" else file,
            out,
            columns,
            proba,
            soup,
            correct_shift,
            on_batch_end,
            out_columns=names,
            spreadsheet_safe=spreadsheet_safe,
            **{name: value for name, value in reading.items() if value},
        )
    count = f"{summary.texts:,} text{'s' if summary.texts != 1 else ''}"
    console.print(f"{count} labelled in {out}.", markup=False, highlight=False, soft_wrap=True)
    for finding in summary.findings:
        console.print(finding.message, markup=False, highlight=False, soft_wrap=True)
    for sentence in warnings(summary, study.read_recipe().metric, dev_report(study, soup), soup):
        console.print(sentence, style="bold yellow", highlight=False, soft_wrap=True)
    if shift := shift_sentence(summary):
        console.print(shift, markup=False, highlight=False, soft_wrap=True)


def export(
    folder: StudyPath,
    format_: Annotated[str, flag("--format", "savedmodel, for TensorFlow and its servers, or onnx, for ONNX Runtime")],
    out: Annotated[Path | None, flag("--out", "the folder to write, if not DIR/FORMAT", short=("-o",))] = None,
    quantize: Annotated[
        str | None, flag("--quantize", "int8: onnx with weights and products in int8, smaller and less exact")
    ] = None,
) -> None:
    """Write the final model as a SavedModel or in ONNX, checked against the study's own."""
    from bertgrid_tf.api import open_study

    exported = open_study(folder).export(format_, out, quantize)
    sentence = (
        f"{exported.folder} holds the model: on {exported.texts} texts its probabilities are those of the study's own "
        f"within {exported.difference:.1g}."
    )
    Console().print(sentence, markup=False, highlight=False, soft_wrap=True)


def push(
    folder: StudyPath,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="the model's name on the hub")],
    private: Annotated[bool, flag("--private", "only the owner may see it")] = False,
    update: Annotated[bool, flag("--update", "add a commit to a model that is there already")] = False,
) -> None:
    """Upload the final model, its tokenizer and its card to Hugging Face's hub."""
    from bertgrid_tf.api import open_study

    url = open_study(folder).push(repository, private, update)
    Console().print(f"The model is at {url}.", markup=False, highlight=False, soft_wrap=True)
