"""A recipe: what to tune, on which data, in two profiles. `python -m bertgrid_tf.recipe` prints every key."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import chain
from math import inf, isnan
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typing_extensions import Self

from bertgrid_tf.corpus.balance import parse_undersample
from bertgrid_tf.corpus.files import STANDARD_INPUT, Quoting
from bertgrid_tf.corpus.text import HALF_PAIR, read_text
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import (
    AUTO,
    AUTO_KEYS,
    MOST_EPOCHS,
    MOST_GPUS,
    MOST_TEXTS,
    SWEEPABLE,
    BatchSize,
    Hyperparameters,
    LearningRate,
    ModelName,
    Strict,
    Value,
    count_or,
    one_of,
    shown,
)
from bertgrid_tf.metrics.classification import (
    OF_NAMED,
    OVERALL,
    PER_CLASS,
    Direction,
    direction,
    named_classes,
    ordered,
)

LARGEST = 2**20
"""The most bytes of a recipe."""
RECIPES = Path(__file__).with_name("recipes")
NO_MODEL = "none"
MOST_MEMBERS = 100
"""The most models whose mean may be the final model."""
SUGGEST, SUGGESTED = "suggest", ("learning_rates", "epochs")
"""The word that stands for a suggested value (`bank.suggest`) in a flag or a Python argument, and the keys that may be.

A recipe itself always has the values.
"""
_OF_NUMBERS = ("int_", "float_", "finite_number", "greater_than", "less_than")
# What pydantic puts into an error's place where a value may be of several types.
_TYPES = ("bool", "int", "float", "str", "constrained-", "dict[", "function-wrap")


def _absolute(path: Path) -> Path:
    return STANDARD_INPUT if path == Path("-") else path.expanduser().absolute()


# Absolute, so that a study's recipe means the same files from any folder.
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class Data(Strict):
    """A table of one's own: files, or a DataFrame that was given in Python (`file` is None then)."""

    file: AbsolutePath | None = Field(
        None,
        description="table of the training split, or of all splits: CSV, TSV, JSON Lines, Parquet, Excel, a folder "
        "that datasets saved, or `-` for the standard input; see [tables.md](tables.md)",
    )
    text_column: str = Field(description="column of the text")
    text_pair_column: str | None = Field(
        None, description="column of the second text, where a row is a pair: `[CLS] text [SEP] second text [SEP]`"
    )
    label_column: str = Field(description="column of the class")
    dialogue_column: str | list[str] | None = Field(
        None, description="column of the dialogue's id, or several that make it together, separated by commas"
    )
    dialogue_ids: Literal["unique", "consecutive"] = Field(
        "unique",
        description="`unique`: an id that comes back goes on with its dialogue; `consecutive`: a new dialogue begins "
        "wherever the id changes",
    )
    order_column: str | None = Field(
        None, description="column that sorts the rows of a dialogue, if not the order of the rows"
    )
    speaker_column: str | None = Field(None, description="column of the speaker")
    split_column: str | None = Field(None, description="column that says train, dev or test")
    dev_file: AbsolutePath | None = Field(None, description="table of the dev split")
    test_file: AbsolutePath | None = Field(None, description="table of the test split")
    validation_split: float = Field(
        0.1, gt=0, lt=1, description="share of the training split that becomes dev where there is none"
    )
    encoding: str | None = Field(
        None, description="encoding of the text files, if not UTF-8, UTF-16 with a byte order mark, or CP949"
    )
    quoting: Quoting = Field(
        "auto",
        description="quotes in text files: `minimal` is RFC 4180, `none` makes them plain characters, `auto` is "
        "`minimal`, but with tabs between cells `none` unless the file proves otherwise",
    )
    no_header: bool = Field(False, description="the files have no header: columns are named by their number, from 1")
    normalize_labels: bool = Field(
        False,
        description="labels that differ only in case, blanks, invisible characters, encoding, or the `.0` of a whole "
        "number are one class, spelt as most of them are",
    )
    yes_these_are_classes: bool = Field(
        False, description="labels that look like numbers to predict, or like several labels in a cell, are classes"
    )

    @model_validator(mode="after")
    def _dialogues_to_order(self) -> Self:
        if not self.dialogue_column and (self.order_column or self.dialogue_ids != "unique"):
            raise ValueError("order_column and dialogue_ids are about dialogues: give --dialogue-column too")
        return self


class Final(Strict):
    """The final profile; what it leaves out is shared with the search."""

    model: ModelName | dict[str, ModelName] = Field(
        NO_MODEL,
        description="the final model, or one for each model that the search may choose; `none`: "
        "[the winner of the search](#the-winner-as-the-final-model)",
    )
    batch_size: BatchSize | None = Field(
        None,
        description="its batch size, on all GPUs together, if not the search's; `auto`: "
        "[as many as fit](#the-largest-batch-that-fits)",
    )
    gpus: Annotated[Annotated[int, Field(ge=1, le=MOST_GPUS)] | Literal["all"], count_or("all", MOST_GPUS)] = Field(
        1,
        description="GPUs of this host that train it together, or `all`; without a GPU, `1` and `all` are the CPU",
    )
    n_seeds: int = Field(
        1,
        ge=1,
        le=MOST_MEMBERS,
        description="models with a seed each, whose [mean is the final model](final.md)",
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=MOST_MEMBERS,
        description="models, each trained without one fold of the training texts, whose mean is the final model, with "
        "[out-of-fold predictions](final.md) of these texts",
    )
    train_on: Literal["train", "train+dev"] = Field(
        "train", description="`train+dev`: [no dev is left](final.md) to score the final model on"
    )

    @model_validator(mode="after")
    def _one_division(self) -> Self:
        if self.folds and (self.n_seeds > 1 or self.train_on != "train"):
            raise ValueError(
                "folds divides the training texts, and each model has the seed of the study: give no n_seeds and no "
                "train_on with it"
            )
        return self

    @property
    def is_plain(self) -> bool:
        """Whether the final model is one model, trained on the training split as the search's are."""
        return (self.n_seeds, self.folds, self.train_on) == (1, None, "train")

    def model_for(self, searched: str) -> str | None:
        """Return the model to train where the search ended with `searched`; None for none."""
        model = self.model.get(searched, searched) if isinstance(self.model, dict) else self.model
        return None if model == NO_MODEL else model

    def matches(self, winner: Hyperparameters) -> bool:
        """Return whether the final trial of a winner with these hyperparameters is the winning trial itself.

        Everything else that decides its numbers (seed, schedule, texts) the two share.

        Example:
            >>> winner = Hyperparameters(batch_size=32)
            >>> Final().matches(winner), Final(model="bert-large-cased").matches(winner)
            (True, False)
        """
        if not self.is_plain:
            return False
        if (model := self.model_for(winner.model)) is None:
            return True
        return (model, self.batch_size or winner.batch_size, self.gpus) == (winner.model, winner.batch_size, 1)


class Recipe(Strict):
    """All that decides a study's numbers."""

    corpus: str = Field(description="`friends`, `nsmc`, `sample`, or a name for `data`")
    data: Data | None = Field(None, description="tables of one's own")
    max_train_samples: int | None = Field(
        None,
        ge=1,
        le=MOST_TEXTS,
        description="train on about this number of utterances: whole dialogues, stratified, seeded",
    )
    metric: str = Field(
        "accuracy",
        description="what decides, measured on dev: `accuracy`, `macro_f1`, `weighted_f1`, `balanced_accuracy`, `mcc`, "
        "`cohen_kappa`, `quadratic_kappa`, `roc_auc`, `average_precision`, `loss`, or one of named classes, as "
        "`f1_CLASS`, `recall_CLASS`, `precision_CLASS`, `micro_f1:CLASS,CLASS`; see [analysis.md](analysis.md#metrics)",
    )
    seed: int = Field(
        1,
        ge=0,
        le=2**63 - 1,
        description="decides order, dropout, the head's initial weights and every draw; compared trials share it",
    )
    hyperparameters: Hyperparameters = Field(Hyperparameters(), description="one value for every hyperparameter")
    sweeps: dict[str, list[Value]] = Field({}, description="levels of each independent hyperparameter, in order")
    sweep_epochs: int = Field(2, ge=1, le=MOST_EPOCHS, description="epochs of a sweep's trials")
    learning_rates: list[LearningRate] = Field(
        [5e-5, 3e-5, 2e-5], min_length=1, max_length=1000, description="rows of the grid"
    )
    epochs: int = Field(
        4, ge=1, le=MOST_EPOCHS, description="columns of the grid, over which a row's schedule is spread"
    )
    grid_schedule: Literal["shared", "per-cell"] = Field(
        "shared",
        description="`shared`: one trial per learning rate, scored after every epoch; `per-cell`: a trial and a "
        "schedule for each cell",
    )
    search: Literal["grid", "genetic", "surface"] = Field(
        "grid",
        description="`grid` fills every cell; `genetic` and `surface` leave cells out: see [search.md](search.md)",
    )
    search_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="largest share of the grid's epochs that a search which leaves cells out trains; absent: that of "
        "the search, see [search.md](search.md)",
    )
    selection: Literal["best", "cheapest-equivalent"] = Field(
        "best",
        description="what wins a sweep and the grid: the best score, or the cheapest in the "
        "[tied set](analysis.md#the-tied-set)",
    )
    n_seeds: int = Field(
        1,
        ge=1,
        le=1000,
        description="seeds that the grid's tied rows are trained with; see [analysis.md](analysis.md#more-seeds)",
    )
    check_interactions: bool = Field(
        False,
        description="train the sweeps' runners-up at the winning cell too; see "
        "[analysis.md](analysis.md#interaction-checks)",
    )
    soup: bool = Field(
        False,
        description="keep the weights of every row's best epoch, and average those that help; see "
        "[analysis.md](analysis.md#better-for-free)",
    )
    final: Final = Field(Final(), description="the final profile")

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        kind, colon, classes = metric.partition(":")
        if kind in OF_NAMED and colon:
            names = [name.strip() for name in classes.split(",")]
            if "" in names or len(set(names)) < len(names):
                raise ValueError(f"name each class of {kind} once, as {kind}:anger,joy, not {metric!r}")
            return f"{kind}:{','.join(names)}"
        if metric not in OVERALL and not metric.startswith(tuple(f"{m}_" for m in PER_CLASS)):
            one_of(metric, (*OVERALL, *(f"{m}_CLASS" for m in PER_CLASS), "micro_f1:CLASS,CLASS"))
        return metric

    @field_validator("learning_rates")
    @classmethod
    def _distinct(cls, rates: list[float]) -> list[float]:
        if len(set(rates)) < len(rates):
            raise ValueError("a learning rate stands there twice")
        return rates

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        if self.search != "grid" and self.grid_schedule != "shared":
            raise ValueError(
                f"search {self.search} stops rows, which grid_schedule {self.grid_schedule} does not have: give search "
                "grid, or grid_schedule shared"
            )
        if self.search == "grid" and self.search_share is not None:
            raise ValueError("search grid trains every cell: give another search, or no search_share")
        return self

    @model_validator(mode="after")
    def _averageable(self) -> Self:
        heads = {self.hyperparameters.head_retraining, *self.sweeps.get("head_retraining", ())}
        if self.soup and heads != {"none"}:
            raise ValueError("soup averages trained heads: give head_retraining none alone, or no soup")
        return self

    @model_validator(mode="after")
    def _typed_sweeps(self) -> Self:
        # The levels take the types of the hyperparameters they are values of: "64" is 64, 1 is 1.0.
        typed = {parameter: self._typed(parameter, levels) for parameter, levels in self.sweeps.items()}
        object.__setattr__(self, "sweeps", typed)
        return self

    @model_validator(mode="after")
    def _windows_with_trained_heads(self) -> Self:
        heads = set(self.levels("head_retraining")) - {"none"}
        if heads and "windows" in self.levels("truncation"):
            raise ValueError("head_retraining would count a text once for each window: give none, or other truncation")
        return self

    @model_validator(mode="after")
    def _pairs_without_context(self) -> Self:
        if self.has_pairs and (others := [one for one in self.levels("context") if one != "current"]):
            raise ValueError(f"context {others[0]} is of dialogues, not of pairs: leave it at current")
        return self

    @property
    def has_pairs(self) -> bool:
        """Whether an input is a pair of texts."""
        return self.data is not None and self.data.text_pair_column is not None

    def _typed(self, parameter: str, levels: list[Value]) -> list[Value]:
        if parameter in ("learning_rate", "epochs"):
            raise ValueError(
                f"{parameter} is coupled and has the grid: give learning_rates and epochs instead of a sweep"
            )
        if parameter not in Hyperparameters.model_fields:
            raise ValueError(f"there is no parameter {parameter!r} to sweep; choose from {', '.join(SWEEPABLE)}")
        if not levels:
            raise ValueError(f"the sweep of {parameter} has no level")
        typed = []
        for level in levels:
            if level == "":
                raise ValueError(f"the sweep of {parameter} has an empty level; give its levels as a,b,c")
            if level == AUTO and parameter in AUTO_KEYS:
                raise ValueError(f"{parameter}=auto is measured once, before the search, and no level to sweep")
            try:
                place = ("hyperparameters", parameter)
                values = self.hyperparameters.model_dump() | {parameter: level}
                typed.append(getattr(Hyperparameters.model_validate(values), parameter))
            except ValidationError as error:
                raise ValueError(
                    f"{parameter}={level} is no level to sweep: {_reason(error, _range(place))}"
                ) from error
        if len(set(typed)) < len(typed):
            raise ValueError(f"the sweep of {parameter} has a level twice")
        return typed

    def searched_models(self) -> list[str]:
        """Return the checkpoints that the search may train, the first sweep's first."""
        return list(dict.fromkeys([self.hyperparameters.model, *map(str, self.sweeps.get("model", ()))]))

    def final_models(self) -> list[str]:
        """Return the checkpoints that the final model may be trained from; none where there is to be none."""
        return [model for model in map(self.final.model_for, self.searched_models()) if model]

    @property
    def final_gpus(self) -> int | Literal["all"]:
        """The GPUs that are asked for the final model; 1 where it is the winning trial's."""
        return self.final.gpus if self.final_models() else 1

    @property
    def adopts_winner(self) -> bool:
        """Whether the final model is sure to have the winning trial's weights, so that nothing is left to train.

        Otherwise another cell than the one with the best score, whose weights are kept, may win.
        """
        return self.final.matches(self.hyperparameters) and self.selection == "best" and self.n_seeds == 1

    def can_lengthen(self, hyperparameters: Hyperparameters) -> bool:
        """Return whether a row of the grid with these hyperparameters can go on after its last epoch."""
        return self.grid_schedule == "shared" and self.search == "grid" and not hyperparameters.needs_horizon

    def levels(self, parameter: str) -> list[Value]:
        """Return every value of a hyperparameter that the search may train, the initial one first."""
        initial = getattr(self.hyperparameters, parameter)
        return list(dict.fromkeys([initial, *self.sweeps.get(parameter, ())]))

    def direction(self) -> Direction:
        """Return whether more or less of the metric is better."""
        return direction(self.metric)

    def has_diverged(self, metrics: Mapping[str, float]) -> bool:
        """Return whether an epoch's metrics are those of a run that diverged; one that trains on dev has no score."""
        return isnan(metrics[self.metric] if self.metric in metrics else metrics["train_loss"])

    def signed(self, score: float) -> float:
        """Return a score of the metric with its sign turned where less is better."""
        return score if self.direction() == "max" else -score

    def check_classes(self, labels: Iterable[str]) -> None:
        """Check that the corpus has the classes that the metric and the levels name.

        Raises:
            UserError: It lacks one.
        """
        labels = tuple(labels)
        for name in named_classes(self.metric):
            if name not in labels:
                raise UserError(f"Metric {self.metric}: there is no class {name!r}; choose from {', '.join(labels)}.")
        if self.metric == "quadratic_kappa" and not ordered(labels):
            raise UserError(
                f"Metric quadratic_kappa: {', '.join(labels)} have no order that is known; give the classes as whole "
                "numbers, as 1 to 5, or choose cohen_kappa."
            )
        for level in self.levels("undersample"):
            parse_undersample(str(level), labels)

    def to_yaml(self) -> str:
        """Return the whole recipe, defaults included, as `load_recipe` reads it; each value on a line of its own."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=inf)


_PARTS: dict[str, type[Strict]] = {"hyperparameters": Hyperparameters, "data": Data, "final": Final}


def short_key(key: str) -> str:
    """Return a dotted key as people give it: a hyperparameter's without the `hyperparameters.`."""
    return key.removeprefix("hyperparameters.")


def recipe_key(name: str) -> str:
    """Return the dotted key that a flag or a Python argument of this name sets.

    Example:
        >>> recipe_key("final_model"), recipe_key("validation_split"), recipe_key("epochs")
        ('final.model', 'data.validation_split', 'epochs')
    """
    if (key := name.removeprefix("final_")) != name and key in Final.model_fields:
        return f"final.{key}"
    return f"data.{name}" if name in Data.model_fields else name


def description(key: str) -> str:
    """Return the description of a dotted key as plain text.

    Example:
        >>> description("data.validation_split")
        'share of the training split that becomes dev where there is none'
    """
    parent, _, last = key.rpartition(".")
    fields = _PARTS[parent].model_fields if parent else {**Recipe.model_fields, **Hyperparameters.model_fields}
    text = re.sub(r"[;:] see \[[^]]+\]\([^)]+\)", "", fields[last].description or "")
    return re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", text).replace("`", "")


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package, each with a corpus of its name."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.yaml")))


def load_recipe(name: str, source: Path | Recipe | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read and complete a recipe.

    Args:
        name: A recipe that comes with the package, or a name for one's own data.
        source: A recipe file, or a recipe, to take in its place.
        overrides: Values by dotted keys of the recipe; a hyperparameter's key needs no `hyperparameters.`. A
            hyperparameter that is given is not swept, unless its sweep is given too.

    Raises:
        UserError: The file is no recipe, a key is unknown, or a value is out of its range.

    Example:
        >>> recipe = load_recipe("sample", overrides={"batch_size": 8, "final.model": "none"})
        >>> recipe.hyperparameters.batch_size, recipe.final_models()
        (8, [])
    """
    packaged = RECIPES / f"{name}.yaml"
    known = source is not None or packaged.exists()
    content: dict[str, Any] = {}
    if isinstance(source, Recipe):
        content = source.model_dump()
    elif known:
        content = _read(source or packaged)
    content.setdefault("corpus", name)
    overrides = overrides or {}
    if isinstance(own := content.get("sweeps"), dict):
        # Who sets a hyperparameter has decided it: the recipe's own sweep of it is off.
        content["sweeps"] = {
            name: levels for name, levels in own.items() if name not in overrides or f"sweeps.{name}" in overrides
        }
    for key, value in overrides.items():
        _place(content, key, value)
    if not known and not content.get("data"):
        raise UserError(
            f"There is no recipe {name!r}: choose from {', '.join(recipe_names())}, "
            "or give --data FILE with --text-column and --label-column."
        )
    place = source if isinstance(source, Path) else f"Recipe {name}"
    # Paths, which `data` has, may have other bytes.
    if not all(_is_utf8(value) for key, value in content.items() if key != "data"):
        raise UserError(f"{place}: a text in it is not UTF-8; write it in UTF-8.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{place}: {_sentence(error)}.") from error


def _is_utf8(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_utf8, chain.from_iterable(value.items())))
    if isinstance(value, list | tuple):
        return all(map(_is_utf8, value))
    # Half of a surrogate pair, as YAML can spell, and as Python makes of another byte on the command line.
    return not isinstance(value, str) or not HALF_PAIR.search(value)


def differing_keys(one: Recipe, other: Recipe) -> list[str]:
    """Return the dotted keys at which two recipes differ; "sweeps" where only the order of their sweeps does."""
    keys = _differing(one.model_dump(mode="json"), other.model_dump(mode="json"))
    reordered = list(one.sweeps) != list(other.sweeps) and one.sweeps.keys() == other.sweeps.keys()
    return [*keys, "sweeps"] if reordered else keys


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], parents: tuple[str, ...] = ()) -> list[str]:
    keys: list[str] = []
    missing = object()
    for key in dict.fromkeys([*one, *other]):
        mine, theirs = one.get(key, missing), other.get(key, missing)
        if isinstance(mine, dict) and isinstance(theirs, dict):
            keys += _differing(mine, theirs, (*parents, key))
        elif mine != theirs:
            keys.append(".".join((*parents, key)))
    return keys


def _read(path: Path) -> dict[str, Any]:
    try:
        content = deepcopy(_parse_once(read_text(path, LARGEST)))
    except ValueError as error:
        raise UserError(f"Recipe {path} is not YAML: {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"Recipe {path} holds no keys: write it as KEY: VALUE, a line each.")
    return content


def parse_yaml(text: str) -> Any:
    r"""Parse YAML as `yaml.safe_load` does, but for aliases, by which a few lines would hold any number of values.

    Raises:
        ValueError: The text is no YAML, has an alias or a key twice; the message says where, on one line.

    Example:
        >>> parse_yaml("epochs: 3")
        {'epochs': 3}
        >>> parse_yaml("epochs: 3\nepochs: 4")
        Traceback (most recent call last):
        ...
        ValueError: line 2, column 1: the key 'epochs' stands there twice
    """
    try:
        return yaml.load(text, Loader=_SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{' '.join(str(error.problem).split())[:200]}") from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except Exception as error:  # The constructors of dates, numbers and binary data raise what they like.
        raise ValueError(" ".join(str(error).split())[:200] or type(error).__name__) from error


# Whoever needs a key of a study's recipe reads its file, and most of that would be parsing.
_parse_once = lru_cache(maxsize=8)(parse_yaml)


class _SafeLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "a recipe has no aliases: write the value again", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known = set[str]()
        for key, _ in node.value:
            if (name := str(key.value)) in known:
                problem = f"the key {shown(name)} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            known.add(name)
        return super().construct_mapping(node, deep)


def _place(content: dict[str, Any], key: str, value: Any) -> None:
    if "." not in key and key in Hyperparameters.model_fields:
        key = f"hyperparameters.{key}"
    elif key.split(".")[0] not in Recipe.model_fields:
        known = [*Hyperparameters.model_fields, *(k for k in Recipe.model_fields if k != "hyperparameters")]
        raise UserError(f"There is no setting {key!r}; choose from {', '.join(known)}.")
    *parents, last = key.split(".", 1) if not key.startswith("sweeps.") else ("sweeps", key.removeprefix("sweeps."))
    for parent in parents:
        inner = content.get(parent)
        content[parent] = content = dict(inner) if isinstance(inner, dict) else {}
    content[last] = value


def _sentence(error: ValidationError) -> str:
    """Return the first error: its dotted key and the constraint that its value breaks."""
    first = error.errors()[0]
    # A key's place in a list, or among the types that its value may have, is of no use to the user.
    keys = [part for part in first["loc"] if isinstance(part, str) and not part.startswith(_TYPES)]
    key = short_key(".".join(keys))
    kind = first["type"]
    if kind == "extra_forbidden":
        parents = first["loc"][:-1]
        fields = (_PARTS[str(parents[0])] if parents else Recipe).model_fields
        return f"there is no key {key!r}; choose from {', '.join(fields)}"
    if kind == "missing":
        # What must be given has a flag: --data, --text-column, --label-column.
        return f"{key} is missing; give --{keys[-1].replace('_', '-')}"
    reason = _reason(error, _range(first["loc"]))
    if not reason.startswith("must "):
        return f"{key}: {reason}" if key else reason
    in_list = any(isinstance(part, int) for part in first["loc"])
    return f"{'each of ' if in_list else ''}{key} {reason}"


def _range(place: Sequence[int | str]) -> str:
    """Describe the range of the number at a place in a recipe; empty where it has no two ends."""
    model = _PARTS[str(place[0])] if place[:1] and place[0] in _PARTS and len(place) > 1 else Recipe
    field = model.model_fields.get(str(place[model is not Recipe])) if place else None
    if field is None:
        return ""
    inner = get_args(get_args(field.annotation)[0])[1:] if get_origin(field.annotation) is list else ()
    ends: dict[str, float] = {}
    for limit in (*field.metadata, *(one for given in inner for one in getattr(given, "metadata", ()))):
        ends |= {end: getattr(limit, end) for end in ("ge", "gt", "le", "lt") if hasattr(limit, end)}
    if len(ends) < 2:
        return ""
    kind = "whole number" if "int" in str(field.annotation) else "number"
    low, high = (f"{one:,}" if isinstance(one, int) else f"{one:g}" for one in ends.values())
    if "ge" in ends:
        return f"must be a {kind} from {low} to {high}"
    return f"must be a {kind} above {low} and {'below' if 'lt' in ends else 'at most'} {high}"


def _reason(error: ValidationError, limits: str = "") -> str:
    first = error.errors()[0]
    if "ctx" in first and isinstance(first["ctx"].get("error"), ValueError):
        return str(first["ctx"]["error"])
    kind = first["type"]
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if first["loc"][0] == "sweeps" and any(isinstance(part, int) for part in first["loc"]):
        needed = "must be a number or a word"
    elif limits and kind.startswith(_OF_NUMBERS):
        needed = limits
    elif kind.startswith("float_"):
        needed = "must be a number"
    elif kind.startswith("int_"):
        needed = "must be a whole number"
    elif kind in ("model_type", "dict_type"):
        needed = "must be keys with values, as {key: value}"
    elif kind == "list_type":
        needed = "must be a list, as [a, b]"
    elif kind in ("too_long", "string_too_long"):
        return f"must not have more than {first['ctx']['max_length']:,} {'items' if kind == 'too_long' else 'letters'}"
    elif kind == "string_type":
        needed = "must be a word"
    else:
        needed = first["msg"].replace("Input should be", "must be")
        needed = needed.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return f"{needed}, not {shown(first['input'])}"


def keys_in_markdown() -> str:
    """Return the tables of `docs/recipe.md`: every key with its default and its description."""
    tables = ["| hyperparameter | default | what |\n|---|---|---|\n" + "\n".join(_rows("", Hyperparameters))]
    rows = [
        *_rows("", Recipe, without=("hyperparameters", "data", "final")),
        *_rows("final.", Final),
        *_rows("data.", Data),
    ]
    return "\n\n".join([*tables, "| key | default | what |\n|---|---|---|\n" + "\n".join(rows)]) + "\n"


def _rows(prefix: str, model: type[Strict], without: tuple[str, ...] = ()) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name not in without:
            yield f"| `{prefix}{name}` | {_default(field)} | {field.description} |"


def _default(field: FieldInfo) -> str:
    default = field.default
    if default in (None, PydanticUndefined, {}):
        return ""
    if isinstance(default, list):
        return "`" + ", ".join(f"{one:g}" for one in default) + "`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{str(default).lower()}`"


if __name__ == "__main__":
    print(keys_in_markdown(), end="")
