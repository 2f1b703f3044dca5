"""Values of the settings that a recipe leaves `auto`: measured once, before the search, and kept with the study.

A resumed study keeps its values on whatever machine, so that all of its trials are comparable.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import AUTO, Hyperparameters, Value
from bertgrid_tf.recipe import Recipe, short_key
from bertgrid_tf.storage.records import MeasuredSetting
from bertgrid_tf.system.host import readable
from bertgrid_tf.system.isolated_process import Send, run_isolated
from bertgrid_tf.training.encoding import training_texts
from bertgrid_tf.training.resampling import training_indices
from bertgrid_tf.trial_config import TrialConfig

if TYPE_CHECKING:
    from bertgrid_tf.bert.precision import PrecisionTiming
    from bertgrid_tf.bert.probe import Question

PRECISION = "hyperparameters.precision"
BATCH_SIZE = "hyperparameters.batch_size"
FINAL_BATCH_SIZE = "final.batch_size"
LEAST_STEPS = 50
"""Steps that an epoch keeps however large the memory is: a step of Adam moves no weight by much more than the learning
rate, and too few steps leave a model untrained. RTE, the smallest task that Devlin et al. 2019 tuned, has 78 an epoch
at their batch of 32."""


@dataclass(frozen=True)
class HostShare:
    """How a study divides its hosts.

    Attributes:
        sharers: Processes that share a host's memory.
        final_gpus: GPUs that train the final model together; 1 for the CPU too.
    """

    sharers: int = 1
    final_gpus: int = 1


@dataclass(frozen=True)
class AutoSetting:
    """A key of the recipe that may be `auto`.

    Attributes:
        of: Returns the inputs of the measurement; a measured value holds as long as they are the same.
        measure: Measures the value for a recipe in which the keys before it have their values.
    """

    of: Callable[[Recipe], Mapping[str, Value]]
    measure: Callable[[Recipe, Corpus, HostShare], MeasuredSetting]


def auto_keys(recipe: Recipe) -> list[str]:
    """List the dotted keys of a recipe that are to be measured, in their order."""
    return [
        key
        for key in AUTO_SETTINGS
        if key_value(recipe, key) == AUTO and (key != FINAL_BATCH_SIZE or recipe.final_models())
    ]


def resolve(
    recipe: Recipe,
    kept: Mapping[str, MeasuredSetting],
    measure: Callable[[str, Recipe], MeasuredSetting],
    callback: Callback,
    settled: Collection[str] = (),
) -> tuple[Recipe, dict[str, MeasuredSetting]]:
    """Replace every `auto` of a recipe.

    Args:
        recipe: The study's recipe.
        kept: Earlier measurements, by key.
        measure: Measures a key of a recipe in which the keys before it have their values.
        callback: Receives the values.
        settled: Keys that keep their earlier measurement, though its inputs may have changed.

    Returns:
        The recipe, and the measurements behind it, new and kept.
    """
    measured: dict[str, MeasuredSetting] = {}
    for key in auto_keys(recipe):
        setting = kept.get(key)
        if setting is None or (key not in settled and dict(setting.of) != dict(AUTO_SETTINGS[key].of(recipe))):
            callback.on_message(f"Measuring {short_key(key)} auto: a minute or two.")
            setting = measure(key, recipe)
            callback.on_auto_setting(key, setting)
        else:
            callback.on_message(
                f"{short_key(key)} auto is {setting.value}, as measured on {setting.on} when the study began."
            )
        measured[key] = setting
        recipe = with_values(recipe, {key: setting.value})
    return recipe, measured


def with_values(recipe: Recipe, values: Mapping[str, Value]) -> Recipe:
    """Copy a recipe with other values of some dotted keys."""
    for key, new in values.items():
        profile, name = key.split(".")
        changed = getattr(recipe, profile).model_copy(update={name: new})
        recipe = recipe.model_copy(update={profile: changed})
    return recipe


def with_defaults(recipe: Recipe) -> Recipe:
    """Copy a recipe with the default for every `auto`, for a plan that does not depend on it."""
    return with_values(
        recipe, {key: Hyperparameters.model_fields[key.split(".")[1]].default for key in auto_keys(recipe)}
    )


def key_value(recipe: Recipe, key: str) -> Value | None:
    """Return the value of a dotted key."""
    profile, name = key.split(".")
    current: Value | None = getattr(getattr(recipe, profile), name)
    return current


def _precision_depends_on(recipe: Recipe) -> dict[str, Value]:
    return {"model": recipe.hyperparameters.model, "max_length": recipe.hyperparameters.max_length}


def _measure_precision(recipe: Recipe, corpus: Corpus, share: HostShare) -> MeasuredSetting:
    from bertgrid_tf.bert.device import device_name, memory_limit
    from bertgrid_tf.bert.precision import choose

    # In a child process: TensorFlow never gives back the GPU memory that it has taken.
    timings = run_isolated(_time_precisions, (with_defaults(recipe), corpus, memory_limit()))
    if timings is None:
        raise UserError(
            f"{recipe.hyperparameters.model} ran out of memory where its precision was measured: "
            "set precision yourself, or choose a smaller model or a smaller max_length."
        )
    plain, *others = timings
    choice, because = choose(*timings), "it is the only one of this model"
    for other in others:
        because = f"{other.precision} was {other.examples_per_second / plain.examples_per_second:.2f} × as fast as fp32"
        because += f", and its mean loss {abs(other.loss / plain.loss - 1):.1%} off"
    curve: list[Mapping[str, Value]] = [
        {"precision": t.precision, "examples/s": round(t.examples_per_second, 1), "loss": round(t.loss, 4)}
        for t in timings
    ]
    return MeasuredSetting(choice.precision, _precision_depends_on(recipe), device_name(), because, curve)


def _time_precisions(question: tuple[Recipe, Corpus, int | None], send: Send) -> "list[PrecisionTiming]":
    """Time a recipe without `auto` in each precision; the last argument limits each GPU's memory, in bytes."""
    from bertgrid_tf.bert.device import limit_memory
    from bertgrid_tf.bert.precision import measure
    from bertgrid_tf.training.encoding import CorpusEncoder
    from bertgrid_tf.training.model_cache import ModelCache

    recipe, corpus, gpu_memory = question
    if gpu_memory is not None:
        limit_memory(gpu_memory)
    models, hyperparameters = ModelCache(corpus), recipe.hyperparameters
    config = TrialConfig(hyperparameters, recipe.epochs, recipe.epochs, recipe.seed)
    train = CorpusEncoder(corpus).training_set(config)
    return measure(
        lambda precision: models.trainer(hyperparameters.model_copy(update={"precision": precision})), train, config
    )


def _batch_depends_on(key: str, recipe: Recipe) -> dict[str, Value]:
    """Return what takes the most memory of the trials that share a batch size, and the models."""
    models = recipe.final_models() if key == FINAL_BATCH_SIZE else recipe.searched_models()
    max_length = max([recipe.hyperparameters.max_length, *map(int, recipe.sweeps.get("max_length", ()))])
    wide = "fp32" in recipe.sweeps.get("precision", ())
    precision = "fp32" if wide else recipe.hyperparameters.resolved_precision
    named = ", ".join(sorted(set(models)))
    needs: dict[str, Value] = {"model": named, "max_length": max_length, "precision": precision}
    if frozen_layers := min(map(int, recipe.levels("frozen_layers"))):
        needs["frozen_layers"] = frozen_layers
    if "mean" in recipe.levels("pooling"):
        needs["pooling"] = "mean"
    return needs


def _most_demanding(key: str, recipe: Recipe, corpus: Corpus, gpus: int) -> "Question":
    """Return the largest of the models that share a batch size, and the part of a batch that one of `gpus` trains."""
    from bertgrid_tf.bert.dimensions import dimensions
    from bertgrid_tf.bert.probe import Question

    needs = _batch_depends_on(key, recipe)
    models = str(needs["model"]).split(", ")
    if len(models) > 1:
        models.sort(key=lambda model: dimensions(model, len(corpus.labels)).parameters)
    texts = tuple(training_texts(corpus))
    visited = len(training_indices(corpus, TrialConfig(recipe.hyperparameters, 1, 1, recipe.seed)))
    most = max(visited // LEAST_STEPS // gpus, 1)
    least = {name: needs[name] for name in ("max_length", "precision", "frozen_layers", "pooling") if name in needs}
    return Question(models[-1], corpus.labels, texts, most=most, **least)  # type: ignore[arg-type]


def _measure_batch(key: str, recipe: Recipe, corpus: Corpus, share: HostShare) -> MeasuredSetting:
    from bertgrid_tf.bert.memory import MIB, largest, predicted
    from bertgrid_tf.bert.probe import available, no_faster, probe

    gpus = share.final_gpus if key == FINAL_BATCH_SIZE else 1
    question = _most_demanding(key, recipe, corpus, gpus)
    device, on_gpu, limit = available(share.sharers)
    points = probe(question, limit)
    # No batch beyond the measured ones.
    batch = largest(points, limit, min(question.most, points[-1].batch))
    because = f"it takes {predicted(points, batch) / limit:.0%} of the {readable(limit)} there"
    if batch == largest(points, float("inf"), question.most):
        because += f", and a larger one would leave an epoch less than {LEAST_STEPS} steps"
    elif no_faster(points, on_gpu) and batch == points[-1].batch:
        because += ", and a larger one is no faster"
    curve: list[Mapping[str, Value]] = [
        {
            "texts per GPU" if gpus > 1 else "texts": point.batch,
            "peak, MiB": round(point.peak / MIB),
            "of the limit": f"{point.peak / limit:.0%}",
            "examples/s": round(point.rate, 1),
        }
        for point in points
    ]
    return MeasuredSetting(batch * gpus, _batch_depends_on(key, recipe), device, because, curve)


AUTO_SETTINGS = {PRECISION: AutoSetting(_precision_depends_on, _measure_precision)} | {
    key: AutoSetting(partial(_batch_depends_on, key), partial(_measure_batch, key))
    for key in (BATCH_SIZE, FINAL_BATCH_SIZE)
}
"""Every key that may be `auto`, in the order in which they are measured."""


def estimate_auto(recipe: Recipe, corpus: Corpus, gpu_memory: int | None = None) -> Recipe:
    """Estimate every `auto` of a recipe for a plan, without measuring or loading a model.

    Args:
        recipe: The study's recipe.
        corpus: The recipe's corpus.
        gpu_memory: Most that TensorFlow may take of each GPU, in bytes; None for all.
    """
    from bertgrid_tf.bert.device import gpus, limit_memory
    from bertgrid_tf.bert.dimensions import dimensions
    from bertgrid_tf.bert.memory import Point, estimate, largest
    from bertgrid_tf.bert.probe import available

    if gpu_memory is not None:
        limit_memory(gpu_memory)
    final_gpus = len(gpus()) or 1 if recipe.final.gpus == "all" else recipe.final.gpus
    _, on_gpu, limit = available()
    if PRECISION in auto_keys(recipe):
        recipe = with_values(recipe, {PRECISION: "fp32"})  # which takes the most memory
    for key in auto_keys(recipe):
        devices = final_gpus if key == FINAL_BATCH_SIZE else 1
        run = _most_demanding(key, recipe, corpus, devices)
        size = dimensions(run.model, len(corpus.labels))
        training = (run.max_length, run.precision, on_gpu, run.frozen_layers, run.pooling)
        points = [Point(n, estimate(size, n, *training), 0.0) for n in (1, 2)]
        recipe = with_values(recipe, {key: largest(points, limit, run.most) * devices})
    return recipe
