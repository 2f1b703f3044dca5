"""What `auto` stands for in a recipe: measured once, before the search, and kept with the study.

A study that goes on, on whatever machine, takes what it began with, so that all of its runs are comparable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bertgrid_tf.budget.plan import steps_per_epoch
from bertgrid_tf.corpus import Corpus, utterances
from bertgrid_tf.machine.alone import Tell, last_told
from bertgrid_tf.machine.host import readable
from bertgrid_tf.recipe import AUTO, Recipe, Settings, Value
from bertgrid_tf.results import Measured

if TYPE_CHECKING:
    from bertgrid_tf.bert.precision import Tried
    from bertgrid_tf.bert.probe import Probe
    from bertgrid_tf.bert.unpadded import Precision

PRECISION = "settings.precision"
BATCH_SIZE = "settings.batch_size"
FINAL_BATCH_SIZE = "final.batch_size"
MIB = 2**20


@dataclass(frozen=True)
class Place:
    """Where a study runs.

    Attributes:
        sharers: processes that share a host's memory.
        final_gpus: GPUs that train the final model together; 1 for the CPU too.
    """

    sharers: int = 1
    final_gpus: int = 1


@dataclass(frozen=True)
class Auto:
    """A key of the recipe that may be `auto`.

    Attributes:
        of: what its value depends on; where that is the same, what was measured holds.
        measure: finds the value, for a recipe in which the keys before it have theirs.
    """

    of: Callable[[Recipe], Mapping[str, Value]]
    measure: Callable[[Recipe, Corpus, Place], Measured]


def autos(recipe: Recipe) -> list[str]:
    """The dotted keys that are to be measured, in their order."""
    return [key for key in AUTOS if value(recipe, key) == AUTO and (key != FINAL_BATCH_SIZE or recipe.final_models())]


def resolve(
    recipe: Recipe, kept: Mapping[str, Measured], measure: Callable[[str, Recipe], Measured]
) -> tuple[Recipe, dict[str, Measured]]:
    """The recipe with a value for every `auto`.

    Args:
        recipe: as asked.
        kept: what was measured before, by key.
        measure: measures a key of a recipe in which the keys before it have their values.

    Returns:
        the recipe, and what was measured, now or before.
    """
    measured: dict[str, Measured] = {}
    for key in autos(recipe):
        found = kept.get(key)
        if found is None or dict(found.of) != dict(AUTOS[key].of(recipe)):
            found = measure(key, recipe)
        measured[key] = found
        recipe = replaced(recipe, {key: found.value})
    return recipe, measured


def replaced(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """The recipe with other values of some keys, which are dotted."""
    for key, new in values.items():
        profile, name = key.split(".")
        changed = getattr(recipe, profile).model_copy(update={name: new})
        recipe = recipe.model_copy(update={profile: changed})
    return recipe


def stand_in(recipe: Recipe) -> Recipe:
    """The recipe with some value for every `auto`: for what does not depend on it, as the number of runs."""
    return replaced(recipe, {key: Settings.model_fields[key.split(".")[1]].default for key in autos(recipe)})


def value(recipe: Recipe, key: str) -> Value | None:
    """The value of a dotted key."""
    profile, name = key.split(".")
    found: Value | None = getattr(getattr(recipe, profile), name)
    return found


# The fastest precision


def _fastest(recipe: Recipe, corpus: Corpus, place: Place) -> Measured:
    from bertgrid_tf.bert.device import device_name, memory_limit
    from bertgrid_tf.bert.precision import choose

    # In a process of its own: TensorFlow would keep what it takes of a GPU's memory from all that comes after.
    found: list[Tried] = last_told(_tried, (stand_in(recipe), corpus, memory_limit()))
    chosen = choose(found)
    curve: list[Mapping[str, Value]] = [
        {"precision": one.precision, "examples/s": round(one.examples_per_second, 1), "loss": round(one.loss, 4)}
        for one in found
    ]
    return Measured(chosen, _model(recipe), device_name(), _because_of(found, chosen), curve)


def _tried(question: tuple[Recipe, Corpus, int | None], tell: Tell) -> "list[Tried]":
    """`Runs.precisions` of a recipe without `auto`, on GPUs of which so many bytes may be taken."""
    from bertgrid_tf.bert.device import limit_memory
    from bertgrid_tf.run import Runs

    recipe, corpus, gpu_memory = question
    if gpu_memory is not None:
        limit_memory(gpu_memory)
    return Runs(corpus, recipe, Path()).precisions()


def _because_of(found: "Sequence[Tried]", chosen: str) -> str:
    """Why a precision was chosen."""
    plain, *others = found
    if not others:
        return "is the only one of this model"
    (other,) = others
    ratio = f"{other.examples_per_second / plain.examples_per_second:.2f} × as fast as fp32"
    if chosen == other.precision:
        return f"was {ratio} with the same loss (to {abs(other.loss / plain.loss - 1):.1%})"
    differed = "" if other.agrees else ", but its loss differed"
    return f"keeps the plain model's numbers, and {other.precision} was {ratio}{differed}"


def _model(recipe: Recipe) -> dict[str, Value]:
    return {"model": recipe.settings.model, "max_length": recipe.settings.max_length}


# The largest batch that fits


@dataclass(frozen=True)
class _Demand:
    """The most demanding of the runs that share a batch size.

    Attributes:
        model, max_length, precision: theirs.
        gpus: devices that share a batch.
        most: the largest batch of interest on each.
    """

    model: str
    max_length: int
    precision: "Precision"
    gpus: int
    most: int

    @classmethod
    def of(cls, key: str, recipe: Recipe, corpus: Corpus, final_gpus: int) -> "_Demand":
        from bertgrid_tf.bert.dimensions import dimensions
        from bertgrid_tf.bert.memory import most_texts

        models, max_length, precision = _demanded(key, recipe)
        if len(models) > 1:
            models.sort(key=lambda model: dimensions(model, len(corpus.labels)).parameters)
        gpus = final_gpus if key == FINAL_BATCH_SIZE else 1
        texts = steps_per_epoch(recipe, corpus, recipe.settings.model_dump() | {"batch_size": 1})
        return cls(models[-1], max_length, precision, gpus, max(most_texts(texts) // gpus, 1))


def _demanded(key: str, recipe: Recipe) -> tuple[list[str], int, "Precision"]:
    """Of the runs that share a batch size: their models, the greatest maximum length, the precision that takes most."""
    models = recipe.final_models() if key == FINAL_BATCH_SIZE else recipe.searched_models()
    max_length = max([recipe.settings.max_length, *map(int, recipe.sweeps.get("max_length", ()))])
    wide = "fp32" in recipe.sweeps.get("precision", ())
    return sorted(set(models)), max_length, "fp32" if wide else recipe.settings.computed_in


def _depends_on(key: str, recipe: Recipe) -> dict[str, Value]:
    models, max_length, precision = _demanded(key, recipe)
    return {"model": ", ".join(models), "max_length": max_length, "precision": precision}


def _largest_batch(key: str, recipe: Recipe, corpus: Corpus, place: Place) -> Measured:
    from bertgrid_tf.bert import device
    from bertgrid_tf.bert.memory import estimate
    from bertgrid_tf.bert.probe import Question, probe

    demand = _Demand.of(key, recipe, corpus, place.final_gpus)
    model, length, precision = demand.model, demand.max_length, demand.precision
    texts = tuple(utterance.text for utterance in utterances(corpus.splits["train"]))
    limit = device.memory_limit()
    found = probe(Question(model, corpus.labels, length, demand.most, texts, precision, limit, place.sharers))
    chosen = found.chosen(demand.most)
    curve: list[Mapping[str, Value]] = [
        {
            "texts per GPU" if demand.gpus > 1 else "texts": point.batch,
            "peak, MiB": round(point.peak / MIB),
            "of the limit": f"{point.peak / found.limit:.0%}",
            "estimate, MiB": round(estimate(found.dimensions, point.batch, length, precision, found.on_gpu).peak / MIB),
            "examples/s": round(point.rate, 1),
        }
        for point in found.points
    ]
    because = _because(found, chosen, demand.most)
    return Measured(chosen * demand.gpus, _depends_on(key, recipe), found.device, because, curve)


def _because(found: "Probe", chosen: int, most: int) -> str:
    """Why a batch was chosen."""
    from bertgrid_tf.bert.memory import LEAST_STEPS, predicted, sizes

    took = f"takes {predicted(found.points, chosen) / found.limit:.0%} of the {readable(found.limit)} there"
    if chosen == max(sizes(most)):
        return f"{took}, and a larger one would leave an epoch less than {LEAST_STEPS} steps"
    if chosen == found.points[-1].batch and found.ended == "rate":
        return f"{took}, and a larger one is no faster"
    if chosen == found.points[-1].batch and found.ended == "time":
        return f"{took}, and a larger one takes too long to be measured"
    return took


AUTOS = {PRECISION: Auto(_model, _fastest)} | {
    key: Auto(partial(_depends_on, key), partial(_largest_batch, key)) for key in (BATCH_SIZE, FINAL_BATCH_SIZE)
}
"""Every key that may be `auto`, in the order in which they are measured."""


def estimated(recipe: Recipe, corpus: Corpus, gpu_memory: int | None = None) -> Recipe:
    """The recipe with an estimate for every `auto`, for a plan; nothing is measured, and no model loaded.

    Args:
        recipe: as asked.
        corpus: its own.
        gpu_memory: bytes that may be taken of each GPU; None for all.
    """
    from bertgrid_tf.bert import device
    from bertgrid_tf.bert.dimensions import dimensions
    from bertgrid_tf.bert.memory import largest_by_estimate
    from bertgrid_tf.bert.probe import available

    if gpu_memory is not None:
        device.limit_memory(gpu_memory)
    gpus = len(device.gpus()) or 1 if recipe.final.gpus == "all" else recipe.final.gpus
    _, on_gpu, limit = available()
    # An estimate of a batch size is that of fp32, which takes the most memory.
    recipe = replaced(recipe, {PRECISION: "fp32"}) if PRECISION in autos(recipe) else recipe
    for key in autos(recipe):
        if key in (BATCH_SIZE, FINAL_BATCH_SIZE):
            demand = _Demand.of(key, recipe, corpus, gpus)
            size = dimensions(demand.model, len(corpus.labels))
            batch = largest_by_estimate(size, limit, demand.most, demand.max_length, demand.precision, on_gpu)
            recipe = replaced(recipe, {key: batch * demand.gpus})
    return stand_in(recipe)
