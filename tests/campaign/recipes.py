"""Recipes from the models that read them: values in and out of range, keys that are none, files that are none."""

import math
import types
import typing
from typing import Annotated, Any, Literal

import annotated_types
import yaml
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from bertgrid_tf.corpus.layout import CONTEXTS, SPEAKER_FORMATS
from bertgrid_tf.hyperparameters import SWEEPABLE, Strict
from bertgrid_tf.metrics.classification import OVERALL
from bertgrid_tf.recipe import Recipe, load_recipe
from tests.campaign.case import BRIEF, TRAINING, Case, CaseError

CASES = 300
SHARED: tuple[str, ...] = ()
WORDS = {
    "corpus": ["sample"],
    "context": [*CONTEXTS],
    "speaker_format": [*SPEAKER_FORMATS],
    "metric": [*OVERALL, "f1_joy", "micro_f1:joy,anger"],
    "model": ["scratch:1x32", "none", "bert-base-cased"],
    "undersample": ["none", "neutral", "neutral:0.5+joy:0.9"],
}
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.sampled_from(["", "auto", 10**400, -(10**30), "1e-3", "0x10", "1_000", "∞", "${HOME}", b"\xff", "a\0b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
ALIAS_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = (
    *(b"", b"\0", b"\xff\xfe", b"[]", b"1", b"corpus: sample\n---\nepochs: 1\n", b"corpus: [", b"\tcorpus: sample"),
    *(b"!!python/object/apply:os.system ['touch ran']", b"corpus: !!binary x", ALIAS_BOMB.encode(), b"? [a]: b"),
    *(b"corpus: sample\ncorpus: sample\n", b"<<: *x", b"[" * 5000, b"{a: " * 3000, b"a: " + b"9" * 5000, b"- " * 4000),
    *(b"corpus: sample\nepochs: 1e999", b"corpus: sample\nseed: 0o17", b"corpus: \xe9", b'corpus: "\\ud800"'),
)


def values(name: str, kind: Any, limits: dict[str, float] | None = None) -> st.SearchStrategy[Any]:
    """Return the values that a field of a model may have, by its annotation."""
    limits = limits or {}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        for one in arguments[1:]:
            limits = limits | _limits(one.metadata if isinstance(one, FieldInfo) else [one])
        return values(name, arguments[0], limits)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(name, one, limits) for one in arguments])
    if name == "sweeps":
        return st.dictionaries(st.sampled_from(SWEEPABLE), st.lists(JUNK, min_size=1, max_size=3), max_size=2)
    if origin is list:
        return st.lists(values(name, arguments[0]), min_size=1, max_size=4)
    if origin is dict:
        return st.dictionaries(values(name, arguments[0]), values(name, arguments[1]), max_size=2)
    if kind is type(None):
        return st.none()
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(int(limits.get("ge", 0)), 50) | st.integers(int(limits.get("ge", 0)), 10**25)
    if kind is float:
        low, high = limits.get("gt", limits.get("ge", 0.0)), limits.get("lt", limits.get("le", math.inf))
        return st.floats(low, high, exclude_min="gt" in limits, exclude_max="lt" in limits and high < math.inf)
    if isinstance(kind, type) and issubclass(kind, Strict):
        return recipes(kind)
    return st.sampled_from(WORDS.get(name, ["text", "label"]))


def _limits(metadata: list[Any]) -> dict[str, float]:
    bounds = (annotated_types.Ge, annotated_types.Gt, annotated_types.Le, annotated_types.Lt)
    found = [one for one in metadata if isinstance(one, bounds)]
    return {name: getattr(one, name) for one in found for name in [type(one).__name__.lower()]}


def recipes(model: type[Strict] = Recipe) -> st.SearchStrategy[dict[str, Any]]:
    """Return recipes of some keys, most of which are in range."""
    fields = {
        name: values(name, field.annotation, _limits(field.metadata))
        for name, field in model.model_fields.items()
        if name != "data"
    }
    few = st.lists(st.sampled_from([*fields]), max_size=4, unique=True)
    return few.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names}))


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Draw the content of a recipe file."""
    content = draw(recipes())
    content["corpus"] = "sample"
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        where = content
        while (inner := [one for one in where.values() if isinstance(one, dict) and one]) and draw(st.booleans()):
            where = draw(st.sampled_from(inner))
        key = draw(st.sampled_from([*where]) | st.text(max_size=12)) if draw(st.booleans()) else "data"
        where[key] = draw(JUNK)
    text = yaml.dump(content, allow_unicode=draw(st.booleans()), sort_keys=False).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:  # damaged
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(max_size=4)) + text[at + draw(st.integers(0, 9)) :]
    return text


def run(case: Case) -> None:
    """Plan, or in one case of ten train, by a recipe; what is read must be what is then written."""
    file = case.folder / "recipe.yaml"
    number, listed = divmod(case.number, 5)
    file.write_bytes(FILES[number] if listed == 4 and number < len(FILES) else case.draw(files()))
    if case.number % 10 == 8:
        words = ["--model", "scratch:1x32", *BRIEF, "--set", "final.gpus=1"]
        case.bertgrid("tune", "sample", "--recipe", file.name, *words, limit=TRAINING).check()
    elif case.bertgrid("tune", "sample", "--recipe", file.name, "--dry-run").check().code == 0:
        read = load_recipe("sample", file)
        (case.folder / "again.yaml").write_text(read.to_yaml(), encoding="utf-8")
        if load_recipe("sample", case.folder / "again.yaml") != read:
            raise CaseError("difference", f"{read.to_yaml()} is another recipe when it is read again")
    if (case.folder / "ran").exists():
        raise CaseError("other", "the recipe ran a command")
