"""The flags that several commands share, and the flags that set a key of the recipe."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import (
    SUGGEST,
    SUGGESTED,
    Data,
    Recipe,
    description,
    load_recipe,
    parse_yaml,
    recipe_key,
    recipe_names,
)

DATASETS = Path("datasets")
RESULTS = Path("results")


def flag(name: str, text: str, *, short: tuple[str, ...] = (), variable: str | None = None, **limits: Any) -> Any:
    """Make an option that can be given as an environment variable too.

    Args:
        name: The flag, as "--epochs".
        text: Its help.
        short: Its short forms.
        variable: The environment variable's name after BERTGRID_; None for the flag's.
        limits: What Typer checks, as `min=1`.
    """
    variable = variable or name.removeprefix("--").replace("-", "_").upper()
    return typer.Option(name, *short, help=text, envvar=f"BERTGRID_{variable}", **limits)


def setting(name: str, key: str | None = None, text: str | None = None, variable: str | None = None) -> Any:
    """Make an option that sets a key of the recipe, whose description is the option's help."""
    key = key or recipe_key(name.removeprefix("--").replace("-", "_"))
    return flag(name, text or escape(description(key)), variable=variable)


DataDir = Annotated[
    Path, flag("--data-dir", "folder of the corpora; the user's cache is searched next", variable="DATA")
]
TextColumn = Annotated[str | None, setting("--text-column")]
TextPairColumn = Annotated[str | None, setting("--text-pair-column")]
DialogueColumn = Annotated[str | None, setting("--dialogue-column")]
SpeakerColumn = Annotated[str | None, setting("--speaker-column")]
IsStrict = Annotated[bool, flag("--strict", "refuse data with a finding that is graver than a note")]
Model = Annotated[str | None, setting("--model")]
Sets = Annotated[list[str] | None, flag("--set", "KEY=VALUE of the recipe; repeatable")]
ResultsParent = Annotated[Path, flag("--results", "parent of the study folder")]
GpuMemory = Annotated[
    str | None, flag("--gpu-memory", "the most that TensorFlow may take of each GPU: 16GB, 16GiB, 14500MB")
]
StudyPath = Annotated[Path, typer.Argument(help="a study folder", metavar="DIR")]
RecipeFile = Annotated[Path | None, flag("--recipe", "a recipe file in place of the one of that name")]
CorpusName = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME", help="friends, nsmc, sample, or a name for your own --data, by default that of the file"
    ),
]


def _data_flags() -> Iterator[inspect.Parameter]:
    """Yield a parameter for every key of `Data`, and for the other keys that decide what a corpus holds."""
    for key in ("file", *(name for name in Data.model_fields if name != "file"), "max_train_samples", "seed"):
        name = "data" if key == "file" else key
        field = Data.model_fields.get(key)
        # BERTGRID_DATA is the folder of the corpora, so that a table of one's own has another variable.
        option = setting(
            f"--{name.replace('_', '-')}", recipe_key(key), variable="DATA_FILE" if key == "file" else None
        )
        kind, default = (bool, False) if field is not None and field.annotation is bool else (str | None, None)
        yield inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )


DATA_FLAGS = {parameter.name: parameter for parameter in _data_flags()}
SETTINGS = (
    *("model", "final_model", "final_gpus", "learning_rates", "epochs", "search", "selection", "n_seeds"),
    *("check_interactions", "soup", "metric", *DATA_FLAGS),
)
"""The parameters of commands that set a key of the recipe."""


def with_data_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that ends with `**flags` the flags of the data; `read_recipe` reads them from the context."""
    signature = inspect.signature(command)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [flag for name, flag in DATA_FLAGS.items() if name not in signature.parameters]
    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return command


def corpus_name(name: str | None, parameters: Mapping[str, Any]) -> str:
    """Return the name of a command's corpus; without NAME that of the file that `--data` names.

    Raises:
        UserError: There is neither.

    Example:
        >>> corpus_name(None, {"data": "tables/My reviews (2).csv.gz"}), corpus_name(None, {"data": "nsmc.txt"})
        ('My-reviews-2', 'nsmc-data')
    """
    if name is not None:
        return name
    if not (file := parameters.get("data")):
        raise UserError(f"There is no corpus to read: name one ({', '.join(recipe_names())}), or give --data FILE.")
    file = "stdin" if str(file) == "-" else Path(file).absolute().name.removesuffix(".gz")
    own = re.sub(r"[^\w.]+", "-", Path(file).stem).strip("-.") or "data"
    # A recipe that comes with the package is for its own corpus.
    return f"{own}-data" if own in recipe_names() else own


def read_recipe(name: str, file: Path | None, parameters: Mapping[str, Any]) -> Recipe:
    """Read the recipe of a command with the keys that its parameters set.

    Example:
        >>> recipe = read_recipe("sample", None, {"epochs": "3", "sweep": ["context=current"], "set_": ["seed=7"]})
        >>> recipe.epochs, recipe.sweeps["context"], recipe.seed
        (3, ['current'], 7)
    """
    suggested = suggested_keys(parameters)
    given = {key: parameters[key] for key in SETTINGS if parameters.get(key) not in (None, False)}
    given = {key: value for key, value in given.items() if key not in suggested}
    keys = {recipe_key("file" if key == "data" else key): value for key, value in given.items()}
    if "learning_rates" in keys:
        keys["learning_rates"] = _listed(keys["learning_rates"])
    if parameters.get("no_sweeps"):
        keys["sweeps"] = {}
    keys |= {f"sweeps.{key}": _listed(levels) for key, levels in _pairs("--sweep", parameters.get("sweep")).items()}
    keys |= {key: _value(key, value) for key, value in _pairs("--set", parameters.get("set_")).items()}
    return load_recipe(name, file, keys)


def suggested_keys(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of the recipe for which a command is given the word `suggest`, with that word."""
    return {key: SUGGEST for key in SUGGESTED if parameters.get(key) == SUGGEST}


def _pairs(name: str, texts: list[str] | None) -> dict[str, str]:
    """Parse the NAME=VALUE pairs of a repeatable flag, without the spaces around them."""
    pairs: dict[str, str] = {}
    for text in texts or ():
        key, _, value = (part.strip() for part in text.partition("="))
        if not (key and value):
            form = {"--sweep": "PARAM=a,b,c", "--set": "KEY=VALUE"}[name]
            raise UserError(f"{name} {text!r} cannot be read: write it as {name} {form}.")
        if key in pairs:
            raise UserError(f"{name} {key} is given twice: give it once, with all that belongs to it.")
        pairs[key] = value
    return pairs


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]


def _value(key: str, text: str) -> Any:
    # Plain words stay as they are: YAML would make `no` of "false". Lists and mappings are written as in a recipe.
    if text[0] not in "[{" and text != "null":
        return text
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise UserError(f"--set {key}={text[:200]} cannot be read as YAML: {error}.") from error
