"""A recipe: what to tune, on which data, in two profiles."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from bertgrid_tf.corpus.balance import parse_undersample
from bertgrid_tf.corpus.layout import CONTEXTS, SPEAKER_FORMATS
from bertgrid_tf.corpus.text import read_text
from bertgrid_tf.errors import UserError
from bertgrid_tf.metrics.classification import OVERALL, PER_CLASS, Direction

RECIPES = Path(__file__).with_name("recipes")
NO_MODEL = "none"
AUTO = "auto"
MEASURED = ("batch_size", "precision")
"""The settings for which `auto` stands for what is measured before the search (`auto_settings.resolve`)."""
# What pydantic puts into an error's place where a value may be of several types.
_TYPES = ("bool", "int", "float", "str", "constrained-", "dict[")

Value = bool | int | float | str
# Absolute, so that a study's recipe means the same files from any folder.
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
LearningRate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Model = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _number_or(word: str) -> WrapValidator:
    """Says what is asked for where a value is neither a number from 1 up nor the word."""

    def checked(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise ValueError(f"must be a whole number, at least 1, or {word}, not {value!r}") from error

    return WrapValidator(checked)


BatchSize = Annotated[Count | Literal["auto"], _number_or(AUTO)]


class Hyperparameters(_Strict):
    """One value for every parameter of a training run: a configuration.

    All of them but the learning rate can be swept.
    """

    model: Model = Field("bert-base-cased", description="hub id, folder, or scratch[:LAYERSxWIDTH]")
    learning_rate: LearningRate = Field(2e-5, description="the one that the sweeps run at")
    batch_size: BatchSize = Field(32, description="texts per step, or auto: as many as fit the memory")
    max_length: int = Field(64, ge=3, description="tokens, special ones included")
    context: str = Field("current", description=" | ".join(CONTEXTS))
    speaker_format: str = Field("colon", description=" | ".join(SPEAKER_FORMATS))
    min_speaker_count: int = Field(0, ge=0, description="speakers with fewer training utterances lose their name")
    markers: Literal["pieces", "tokens"] = Field(
        "pieces", description="[None] and [Says]: word pieces or one token each"
    )
    oversample_ratio: float = Field(0.0, ge=0, le=1, description="0: as is; 1: every class as large as the largest")
    undersample: str = Field("none", description="none | CLASS | CLASS:SHARE, joined by +")
    class_weights: Literal["none", "balanced", "sqrt", "effective"] = Field(
        "none", description="what a text's loss counts, by the size of its class"
    )
    focal_gamma: float = Field(0.0, ge=0, allow_inf_nan=False, description="γ of the focal loss; 0: cross-entropy")
    soft_label_weight: float = Field(
        0.0, ge=0, le=1, description="share of the raters' votes in what is trained towards"
    )
    head: Literal["trained", "refit", "smote", "rose"] = Field(
        "trained",
        description="or refitted after each epoch, to the classes as they are, or all as large as the largest",
    )
    warmup_ratio: float = Field(0.2, ge=0, le=1, description="share of all steps")
    schedule: Literal["linear", "constant"] = Field("linear", description="after warm-up: fall to 0, or stay")
    # Beyond these, float32 has no number for the products that they enter.
    weight_decay: float = Field(0.01, ge=0, le=1e9, description="decoupled; not on biases and LayerNorm")
    max_grad_norm: float = Field(1.0, gt=0, le=1e9, description="largest global norm of the gradient")
    group_by_length: Literal["auto", "random", "grouped"] = Field(
        "auto",
        description="grouped: texts of like length share a batch; auto: random for BERT, which computes no padding",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="of matrix products, or auto: the fastest whose loss agrees; BERT alone has others than fp32",
    )

    @property
    def computed_in(self) -> Literal["fp32", "bf16", "fp16"]:
        """The precision; `auto` must have been measured."""
        assert self.precision != "auto"
        return self.precision

    @field_validator("context")
    @classmethod
    def _known_context(cls, context: str) -> str:
        return _one_of(context, CONTEXTS)

    @field_validator("speaker_format")
    @classmethod
    def _known_format(cls, speaker_format: str) -> str:
        return _one_of(speaker_format, SPEAKER_FORMATS)

    @classmethod
    def of(cls, values: Mapping[str, Value]) -> Self:
        """The settings among a run's values, which hold its schedule too."""
        return cls.model_validate({name: values[name] for name in cls.model_fields})


class Data(_Strict):
    """A person's own tables."""

    file: AbsolutePath = Field(description="CSV or TSV of the training split, or of all splits with split_column")
    text_column: str
    label_column: str
    dialogue_column: str | None = None
    speaker_column: str | None = None
    split_column: str | None = None
    dev_file: AbsolutePath | None = None
    test_file: AbsolutePath | None = None
    validation_split: float = Field(0.1, gt=0, lt=1, description="share of train that becomes dev where there is none")


class Final(_Strict):
    """The final profile; what it leaves out is shared with the search."""

    model: Model | dict[str, Model] = Field(
        NO_MODEL, description="a model, or one for each model that the search may choose, or none"
    )
    batch_size: BatchSize | None = None
    gpus: Annotated[Count | Literal["all"], _number_or("all")] = Field(1, description="that train it together, or all")

    def model_for(self, chosen: str) -> str | None:
        """The model to train where the search chose `chosen`; None for none."""
        model = self.model.get(chosen, chosen) if isinstance(self.model, dict) else self.model
        return None if model == NO_MODEL else model


class Recipe(_Strict):
    """All that decides a study's numbers."""

    corpus: str = Field(description="friends, nsmc, sample, or a name for data")
    data: Data | None = None
    max_train_samples: int | None = Field(
        None, ge=1, description="about so many training utterances, in whole dialogues"
    )
    metric: str = Field("accuracy", description="what decides, measured on dev")
    seed: int = Field(1, ge=0)
    hyperparameters: Hyperparameters = Hyperparameters()
    sweeps: dict[str, list[Value]] = Field({}, description="levels of each independent parameter, in order")
    sweep_epochs: int = Field(2, ge=1, description="epochs of a sweep's runs")
    learning_rates: list[LearningRate] = Field([5e-5, 3e-5, 2e-5], min_length=1, description="rows of the grid")
    epochs: int = Field(4, ge=1, description="columns of the grid")
    grid: Literal["row", "independent"] = Field("row", description="one run per row, or one per cell")
    search: Literal["grid", "climb", "asha", "bayes", "genetic"] = Field(
        "grid", description="fill every cell, or leave cells out"
    )
    choose: Literal["best", "cheapest-tie"] = Field(
        "best", description="what wins: the best score, or the cheapest of those that cannot be told from it"
    )
    repeats: int = Field(1, ge=1, description="seeds that the grid's tied rows are trained with")
    audit: bool = Field(False, description="whether the sweeps' runners-up are tried again at the winning cell")
    soup: bool = Field(False, description="whether the rows' weights are kept, and averaged where that helps")
    final: Final = Final()

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        if metric not in OVERALL and not metric.startswith(tuple(f"{m}_" for m in PER_CLASS)):
            _one_of(metric, (*OVERALL, *(f"{m}_CLASS" for m in PER_CLASS)))
        return metric

    @field_validator("learning_rates")
    @classmethod
    def _distinct(cls, rates: list[float]) -> list[float]:
        if len(set(rates)) < len(rates):
            raise ValueError("a learning rate stands there twice")
        return rates

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        if self.search != "grid" and self.grid != "row":
            raise ValueError(
                f"search {self.search} stops rows, which grid {self.grid} has not: give search grid, or row"
            )
        return self

    @model_validator(mode="after")
    def _averaged(self) -> Self:
        if self.soup and {self.hyperparameters.head, *self.sweeps.get("head", ())} != {"trained"}:
            raise ValueError("soup averages heads that were trained: give head trained alone, or no soup")
        return self

    @model_validator(mode="after")
    def _levels(self) -> Self:
        # The levels take the types of the settings they are values of: "64" is 64, 1 is 1.0.
        typed = {parameter: self._typed(parameter, levels) for parameter, levels in self.sweeps.items()}
        object.__setattr__(self, "sweeps", typed)
        return self

    def _typed(self, parameter: str, levels: list[Value]) -> list[Value]:
        if parameter in ("learning_rate", "epochs"):
            raise ValueError(
                f"{parameter} is coupled and has the grid: give learning_rates and epochs instead of a sweep"
            )
        if parameter not in Hyperparameters.model_fields:
            raise ValueError(f"there is no parameter {parameter!r} to sweep; choose from {', '.join(sweepable())}")
        if not levels:
            raise ValueError(f"the sweep of {parameter} has no level")
        typed = []
        for level in levels:
            if level == "":
                raise ValueError(f"the sweep of {parameter} has an empty level; give its levels as a,b,c")
            if level == AUTO and parameter in MEASURED:
                raise ValueError(f"{parameter}=auto is measured once, before the search, and no level to sweep")
            try:
                typed.append(
                    getattr(
                        Hyperparameters.model_validate(self.hyperparameters.model_dump() | {parameter: level}),
                        parameter,
                    )
                )
            except ValidationError as error:
                raise ValueError(f"{parameter}={level} is no level to sweep: {_reason(error)}") from error
        if len(set(typed)) < len(typed):
            raise ValueError(f"the sweep of {parameter} has a level twice")
        return typed

    def searched_models(self) -> list[str]:
        """The checkpoints that the search may train, the start's first."""
        return list(dict.fromkeys([self.hyperparameters.model, *map(str, self.sweeps.get("model", ()))]))

    def final_models(self) -> list[str]:
        """The checkpoints that the final model may be trained from; none where there is to be none."""
        return [model for model in map(self.final.model_for, self.searched_models()) if model]

    def direction(self) -> Direction:
        """Whether more or less of the metric is better."""
        return OVERALL.get(self.metric, "max")

    def signed(self, score: float) -> float:
        """A score of the metric, turned so that more is better."""
        return score if self.direction() == "max" else -score

    def check_classes(self, labels: Iterable[str]) -> None:
        """Raises UserError where the metric or a level names a class that the corpus lacks."""
        labels = tuple(labels)
        named = self.metric.split("_", 1)
        if self.metric not in OVERALL and named[1] not in labels:
            raise UserError(f"Metric {self.metric}: there is no class {named[1]!r}; choose from {', '.join(labels)}.")
        for level in (self.hyperparameters.undersample, *self.sweeps.get("undersample", ())):
            parse_undersample(str(level), labels)

    def to_yaml(self) -> str:
        """The whole recipe, defaults included, as `load` reads it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def sweepable() -> tuple[str, ...]:
    """The parameters that a sweep can vary."""
    return tuple(name for name in Hyperparameters.model_fields if name != "learning_rate")


def short(key: str) -> str:
    """A dotted key as people give it: a setting's without the `hyperparameters.`."""
    return key.removeprefix("hyperparameters.")


def names() -> tuple[str, ...]:
    """The recipes that come with the package, each with a corpus of its name."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.yaml")))


def load(name: str, file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads and completes a recipe.

    Args:
        name: a recipe that comes with the package, or a name for one's own data.
        file: a recipe to read in its place.
        overrides: dotted keys of the recipe, or of its settings without the `hyperparameters.`, and their values. A
            setting that is given is not swept, unless its sweep is given too.

    Raises:
        UserError: a file that is no recipe; an unknown key; a value out of its range.
    """
    path = file or RECIPES / f"{name}.yaml"
    content: dict[str, Any] = {"corpus": name}
    if path.exists() or file:
        content = _read(path)
        content.setdefault("corpus", name)
    overrides = overrides or {}
    if isinstance(own := content.get("sweeps"), dict):
        # Who sets a parameter has decided it: the recipe's own sweep of it is off.
        content["sweeps"] = {
            name: levels for name, levels in own.items() if name not in overrides or f"sweeps.{name}" in overrides
        }
    for key, value in overrides.items():
        _place(content, key, value)
    if not path.exists() and not content.get("data"):
        raise UserError(
            f"There is no recipe {name!r}: choose from {', '.join(names())}, "
            "or give --data FILE with --text-column and --label-column."
        )
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{file or 'Recipe ' + name}: {_sentence(error)}.") from error


def differing(one: Recipe, other: Recipe) -> list[str]:
    """The dotted keys at which two recipes differ; "sweeps" where their sweeps differ in nothing but their order."""
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
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"Recipe {path} is not YAML: {yaml_reason(error)}.") from error
    if not isinstance(content, dict):
        raise UserError(f"Recipe {path} holds no keys: write it as KEY: VALUE, a line each.")
    return content


def yaml_reason(error: yaml.YAMLError) -> str:
    """What the parser stumbled over, and where, on one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


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


def _one_of(value: str, known: Iterable[str]) -> str:
    if value not in known:
        raise ValueError(f"there is no {value!r}; choose from {', '.join(known)}")
    return value


def _sentence(error: ValidationError) -> str:
    """The first thing that is wrong: its dotted key and what it must be."""
    first = error.errors()[0]
    # A key's place in a list, or among the types that its value may have, says nothing to the one who wrote it.
    keys = [part for part in first["loc"] if isinstance(part, str) and not part.startswith(_TYPES)]
    key = short(".".join(keys))
    kind = first["type"]
    if kind == "extra_forbidden":
        parents = first["loc"][:-1]
        known: dict[str, type[_Strict]] = {"hyperparameters": Hyperparameters, "data": Data, "final": Final}
        fields = known[str(parents[0])].model_fields if parents else Recipe.model_fields
        return f"there is no key {key!r}; choose from {', '.join(fields)}"
    if kind == "missing":
        # What must be given has a flag: --data, --text-column, --label-column.
        flag = "data" if keys[-1] == "file" else keys[-1].replace("_", "-")
        return f"{key} is missing; give --{flag}"
    reason = _reason(error)
    if not reason.startswith("must "):
        return f"{key}: {reason}" if key else reason
    in_list = any(isinstance(part, int) for part in first["loc"])
    return f"{'each of ' if in_list else ''}{key} {reason}"


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    if "ctx" in first and isinstance(first["ctx"].get("error"), ValueError):
        return str(first["ctx"]["error"])
    kind = first["type"]
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if first["loc"][0] == "sweeps" and any(isinstance(part, int) for part in first["loc"]):
        needed = "must be a number or a word"
    elif kind.startswith("float_"):
        needed = "must be a number"
    elif kind.startswith("int_"):
        needed = "must be a whole number"
    elif kind in ("model_type", "dict_type"):
        needed = "must be keys with values, as {key: value}"
    elif kind == "list_type":
        needed = "must be a list, as [a, b]"
    elif kind == "string_type":
        needed = "must be a word"
    else:
        needed = first["msg"].replace("Input should be", "must be")
        needed = needed.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
    return f"{needed}, not {first['input']!r}"
