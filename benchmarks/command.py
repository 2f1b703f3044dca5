"""The benchmarks' command lines: flags, errors in one sentence, and the system that a benchmark ran on."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast, get_args

from rich.console import Console

from bertgrid_tf.corpus import Corpus
from bertgrid_tf.data import data_dirs, open_corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Precision
from bertgrid_tf.recipe import NO_MODEL, Recipe, load_recipe
from bertgrid_tf.system.host import description as machine
from tuners.errors import TunerError

# transformers imports PyTorch wherever it is installed; a benchmark that trains with TensorFlow has no use for it.
os.environ.setdefault("USE_TORCH", "0")

PACKAGES = ("tensorflow", "tf_keras", "keras-tuner", "transformers", "numpy", "torch", "accelerate", "optuna")


def parser(description: str | None, csv: str | None = None, trains: bool = True) -> argparse.ArgumentParser:
    """Make a parser.

    Args:
        description: The benchmark's docstring.
        csv: Help of `--csv`; None for a parser without it.
        trains: Whether the benchmark trains a checkpoint on Friends, and so has the flags that name both.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if csv:
        made.add_argument("--csv", type=Path, help=csv)
    if not trains:
        return made
    made.add_argument("--model", required=True, help="checkpoint: a folder, a hub id or scratch[:LAYERSxWIDTH]")
    made.add_argument("--max-train-samples", type=int, help="train on about as many utterances of Friends; default all")
    made.add_argument("--set", type=pair, action="append", default=[], metavar="KEY=VALUE", help="repeatable")
    made.add_argument(
        "--data-dir",
        type=Path,
        default=Path(os.environ.get("BERTGRID_DATA") or "datasets"),
        help="folder of the corpora; the user's cache comes second",
    )
    return made


def add_grid(made: argparse.ArgumentParser) -> None:
    """Add the flags of a learning-rate × epoch grid."""
    made.add_argument("--learning-rates", type=numbers, required=True, help="rows, with commas between them")
    made.add_argument("--epochs", type=int, required=True, help="columns: the epochs of every row's schedule")


def add_task(made: argparse.ArgumentParser) -> None:
    """Add the flags of a task of one's own, and those of its grid."""
    made.add_argument("corpus", help="friends, nsmc, sample, or a name for --data")
    made.add_argument("--data", type=Path, help="table with the columns text, label and split")
    add_grid(made)


def task_parsers(
    module: str, description: str | None, verb: str, out: Path | None, written: str
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Make the parser of a benchmark that runs a task (`verb`) into a file, and compares what the file holds.

    Args:
        module: Name of the benchmark's module.
        description: The benchmark's docstring.
        verb: The subcommand that has the task's flags.
        out: Default of `--out`; None where it must be given.
        written: Help of `--out`.

    Returns:
        The parser, and that of `verb`, for further flags.
    """
    top = argparse.ArgumentParser(f"python -m benchmarks.{module}", description=description)
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = top.add_subparsers(required=True, dest="command")
    running = commands.add_parser(verb, parents=[parser(None)], conflict_handler="resolve")
    add_task(running)
    for one, kind in ((running, Path), (commands.add_parser("compare"), written_file)):
        one.add_argument("--out", type=kind, default=out and str(out), required=out is None, help=written)
    return top, running


def add_series(made: argparse.ArgumentParser, seeds: str) -> None:
    """Add the flags of a series of trials; `seeds` is the help of `--seeds`."""
    made.add_argument("--epochs", type=int, required=True, help="epochs of every trial")
    made.add_argument("--seeds", type=whole_numbers, required=True, help=seeds)
    made.add_argument("--work", type=Path, required=True, help="folder of the trials' states")


def require(*packages: str) -> None:
    """Check that packages of the extra `benchmarks` are installed, before anything is measured.

    Raises:
        UserError: One is not.
    """
    if missing := [package for package in packages if not find_spec(package)]:
        raise UserError(f"{', '.join(missing)}: not installed; pip install '.[benchmarks,test]'.")


def pair(text: str) -> tuple[str, str]:
    """Parse KEY=VALUE."""
    key, _, value = (part.strip() for part in text.partition("="))
    if not (key and value):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read: write it as KEY=VALUE")
    return key, value


def written_file(text: str) -> Path:
    """Parse the name of a file that another command has written."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is not there: let the other command write it first")
    return Path(text)


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def share(text: str) -> float:
    """Parse a share above 0 and up to 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and up to 1")
    return value


def numbers(text: str) -> list[float]:
    """Parse numbers with commas between them; argparse turns the ValueError of any other text into its own sentence."""
    return [float(item) for item in text.split(",")]


def whole_numbers(text: str) -> list[int]:
    """Parse whole numbers with commas between them; errors as for `numbers`."""
    return [int(item) for item in text.split(",")]


def precisions(text: str) -> list[Precision]:
    """Parse precisions with commas between them."""
    if unknown := sorted({*text.split(",")} - {*get_args(Precision)}):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: only {', '.join(get_args(Precision))} are precisions")
    return [cast("Precision", one) for one in text.split(",")]


def friends(flags: argparse.Namespace, **overrides: Any) -> Recipe:
    """Return the Friends recipe as the flags change it: a grid alone, without sweeps or a final model.

    `overrides` are further keys of the recipe; the keys of `--set` come last.
    """
    return _grid_alone("friends", flags, overrides)


def task(flags: argparse.Namespace, **overrides: Any) -> Recipe:
    """Return the recipe of the task that the flags of `add_task` name: a grid alone, as for `friends`."""
    given: dict[str, Any] = {"learning_rates": flags.learning_rates, "epochs": flags.epochs}
    if flags.data:
        given["data"] = {"file": flags.data, **{f"{name}_column": name for name in ("text", "label", "split")}}
    return _grid_alone(flags.corpus, flags, given | overrides)


def _grid_alone(corpus: str, flags: argparse.Namespace, overrides: dict[str, Any]) -> Recipe:
    given = {"model": flags.model, "max_train_samples": flags.max_train_samples, "sweeps": {}, "final.model": NO_MODEL}
    return load_recipe(corpus, overrides=given | overrides | dict(flags.set))


def corpus(flags: argparse.Namespace, recipe: Recipe) -> Corpus:
    """Open the recipe's corpus in the flags' folder."""
    return open_corpus(recipe, data_dirs(flags.data_dir))


def add_limits(made: argparse.ArgumentParser) -> None:
    """Add the flags that limit what is scored (`layout.scored_corpus`)."""
    made.add_argument("--max-dev-samples", type=count, help="about as many texts of dev")
    made.add_argument("--max-test-samples", type=count, help="about as many texts of test")


def command_line(module: str, flags: argparse.Namespace, without: tuple[str, ...]) -> str:
    """Format the command that repeats a benchmark elsewhere: MODEL in place of the checkpoint, and no paths.

    Args:
        module: Name of the benchmark in `benchmarks`.
        flags: The parsed flags.
        without: Attributes of the flags that are paths.
    """
    words = ["python", "-m", f"benchmarks.{module}", "--model", "MODEL"]
    for name, value in vars(flags).items():
        if name in ("model", "data_dir", *without) or value is None or value is False:
            continue
        flag = f"--{name.replace('_', '-')}"
        if name == "set":
            words += [word for key, text in value for word in (flag, f"{key}={text}")]
        elif value is True:
            words.append(flag)
        else:
            words += [flag, ",".join(f"{item:g}" for item in value) if isinstance(value, list) else str(value)]
    return shlex.join(words)


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that the numbers depend on."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def circumstances() -> dict[str, Any]:
    """Return machine, versions and date, to stand beside numbers."""
    return {"machine": machine(), "versions": versions(), "date": date.today().isoformat()}


def print_system(console: Console) -> None:
    """Print machine and versions."""
    console.print(f"{machine()}; {versions()}")


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a person's error ends it with its one sentence and exit code 2."""
    try:
        main()
    except (UserError, TunerError) as error:
        print(f"{str(error).rstrip('.')}.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
