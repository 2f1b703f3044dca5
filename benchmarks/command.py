"""What the benchmarks' command lines have in common: flags, errors in one sentence, and what a benchmark ran on."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bertgrid_tf import recipe as recipes
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.data import data_dirs, open_corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import NO_MODEL, Recipe
from bertgrid_tf.system.host import description as machine
from tuners.errors import TunerError

# transformers imports PyTorch wherever it is installed; TensorFlow's runs have no use for it.
os.environ.setdefault("USE_TORCH", "0")

PACKAGES = ("tensorflow", "tf_keras", "keras-tuner", "transformers", "numpy", "torch", "accelerate", "optuna")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that say what is trained on which data."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", required=True, help="checkpoint: a folder, a hub id or scratch[:LAYERSxWIDTH]")
    made.add_argument(
        "--max-train-samples", type=int, help="train on about so many utterances of Friends; all if left out"
    )
    made.add_argument("--set", type=pair, action="append", default=[], metavar="KEY=VALUE", help="repeatable")
    made.add_argument(
        "--data-dir",
        type=Path,
        default=Path(os.environ.get("BERTGRID_DATA") or "datasets"),
        help="where corpora lie; then the user's cache is looked in",
    )
    return made


def pair(text: str) -> tuple[str, str]:
    """KEY=VALUE."""
    key, _, value = (part.strip() for part in text.partition("="))
    if not (key and value):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be read: write it as KEY=VALUE")
    return key, value


def numbers(text: str) -> list[float]:
    """Numbers with commas between them; argparse turns the ValueError of any other text into its own sentence."""
    return [float(item) for item in text.split(",")]


def whole_numbers(text: str) -> list[int]:
    """Whole numbers with commas between them; errors as for `numbers`."""
    return [int(item) for item in text.split(",")]


def friends(flags: argparse.Namespace, **overrides: Any) -> Recipe:
    """The Friends recipe with the flags' model, limit and settings: a grid alone, no sweeps and no final model.

    `overrides` are further keys of the recipe; what `--set` says comes last.
    """
    given = {"model": flags.model, "max_train_samples": flags.max_train_samples, "sweeps": {}, "final.model": NO_MODEL}
    return recipes.load_recipe("friends", overrides=given | overrides | dict(flags.set))


def corpus(flags: argparse.Namespace, recipe: Recipe) -> Corpus:
    """The recipe's corpus, from the flags' folder."""
    return open_corpus(recipe, data_dirs(flags.data_dir))


def command_line(module: str, flags: argparse.Namespace, without: tuple[str, ...]) -> str:
    """The command that repeats a benchmark elsewhere: MODEL in the checkpoint's place, no folders of this machine.

    Args:
        module: its name in `benchmarks`.
        flags: as parsed.
        without: flags that say where something lies, as attributes.
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
    """The versions of what the numbers depend on, as far as it is installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def circumstances() -> dict[str, Any]:
    """Machine, versions and date, to stand beside numbers."""
    return {"machine": machine(), "versions": versions(), "date": date.today().isoformat()}


def run(main: Callable[[], None]) -> None:
    """Runs a benchmark; a person's error is told in its one sentence, with exit code 2."""
    try:
        main()
    except (UserError, TunerError) as error:
        print(f"{str(error).rstrip('.')}.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
