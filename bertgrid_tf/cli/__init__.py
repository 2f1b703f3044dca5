"""The command line. A command parses, calls the Python API and prints; heavy libraries are imported in functions."""

import shutil
import sys
from typing import Annotated, Any

import typer

from bertgrid_tf.cli import data, doctor, inference, serve, study, suggest, tune
from bertgrid_tf.errors import UserError
from bertgrid_tf.system.terminal import is_narrow, use_plain_characters

app = typer.Typer(
    help="Time-efficient tuning of BERT text classifiers: sweep what is independent, "
    "fill the learning-rate × epoch grid, train the winner.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    *(suggest.suggest, tune.tune, study.results, study.report, study.compare),
    *(inference.evaluate, inference.predict, inference.export, inference.push, serve.serve, doctor.doctor),
):
    app.command()(command)
app.add_typer(data.app, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"bertgrid-tf {version('bertgrid-tf')}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


# Typer has a Click of its own, whose base of all usage errors it does not export.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError")


def main() -> None:
    """Run the console script: bad input is answered by one sentence and exit code 2."""
    use_plain_characters()
    options: dict[str, Any] = {}
    if is_narrow():  # Rich's columns would cut off the names of the flags, and Click alone assumes 50 columns.
        app.rich_markup_mode = data.app.rich_markup_mode = None
        options["terminal_width"] = shutil.get_terminal_size().columns - 2
    try:
        code = app(standalone_mode=False, **options)
    except UserError as error:
        _refuse(str(error))
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        _refuse(" ".join(error.format_message().split()))
    except OSError as error:  # A path without the right to look there, or longer than file systems allow.
        if error.filename is None:
            raise
        _refuse(f"{error.filename} cannot be used ({error.strerror}): give another path, or the right to use it")
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(sentence: str) -> None:
    from rich.console import Console

    sentence = f"{sentence.rstrip('.')}."
    Console(stderr=True).print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(2)
