"""Ten checks of this machine and installation: whether a study could run here."""

import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from bertgrid_tf.errors import UserError
from bertgrid_tf.system import host
from bertgrid_tf.system.container import check_writable, container_runtime, nearest
from bertgrid_tf.system.host import readable

if TYPE_CHECKING:
    from bertgrid_tf.recipe import Recipe

Status = Literal["ok", "warning", "problem"]

# bert-base is 0.4 GB, and with its optimizer's moments 1.3 GB for every unfinished run.
_FREE_SPACE = 5 * 10**9
# Weights, moments and gradients of bert-base make 2.2 GB, and the activations of a batch come on top.
_MEMORY = 4 * 10**9
# Below this, which docker's 64 MB are, Ray keeps on disk what --workers share.
_SHARED_MEMORY = 256 * 10**6
_TIMEOUT = 3  # seconds


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check.

    Attributes:
        status: A problem keeps the study from running; a warning does not.
        text: The finding in words.
        remedy: What to do, if anything.
        name: Name of the check; set by `examine`.
    """

    status: Status
    text: str
    remedy: str | None = None
    name: str = ""


def examine(recipe: "Recipe", study_folder: Path, dirs: list[Path]) -> Iterator[CheckResult]:
    """Yield the finding of every check, the slow ones last; about 10 seconds in all.

    Args:
        recipe: The recipe of the study.
        study_folder: Parent of the study folder.
        dirs: Folders that are searched for corpora (`data.data_dirs`).
    """
    yield (finding := _run("packages", packages))
    if finding.status == "problem":
        return  # since the other checks need some of them
    from huggingface_hub import constants

    cache, home = Path(constants.HF_HUB_CACHE), Path(constants.HF_HOME)
    checks: dict[str, Callable[[], CheckResult]] = {
        "Keras": legacy_keras,
        "memory": memory,
        "results": partial(folder, study_folder, "choose another with --results", f"tune {recipe.corpus}"),
        "cache": partial(folder, cache, "set HF_HOME to another folder", volume=home, status="warning"),
        "corpus": partial(corpus, recipe, dirs),
        "checkpoints": partial(checkpoints, recipe, dirs),
        "processor": processor,
        "TensorFlow": tensorflow,
        "precision": precision,
    }
    for name, check in checks.items():
        yield (finding := _run(name, check))
        # On a processor that it was not built for, TensorFlow ends the whole process.
        if name in ("processor", "TensorFlow") and finding.status == "problem":
            return


def _run(name: str, check: Callable[[], CheckResult]) -> CheckResult:
    """Return a check's finding without secrets; a check that fails is a problem."""
    try:
        finding = check()
    except UserError as error:
        finding = CheckResult("problem", str(error).rstrip("."))
    except Exception as error:
        finding = CheckResult("problem", " ".join(f"{type(error).__name__}: {error}".split()))
    remedy = without_secrets(finding.remedy) if finding.remedy else None
    return CheckResult(finding.status, without_secrets(finding.text), remedy, name)


def without_secrets(text: str) -> str:
    """Blot out the credentials in addresses and the values of environment variables that are named like secrets."""
    text = re.sub(r"(?<=//)[^\s/]*@", "…@", text)
    for name, value in os.environ.items():
        # A value of a few characters is no secret, and may be a part of any word.
        if len(value) >= 6 and re.search("(TOKEN|SECRET|PASSWORD|KEY)$", name.upper()):
            text = text.replace(value, "…")
    return text


def packages() -> CheckResult:
    """Compare Python and the installed packages with the versions that setup.cfg asks for."""
    from packaging.requirements import Requirement

    python = f"Python{metadata.metadata('bertgrid-tf')['Requires-Python']}"
    needed = [
        one for one in map(Requirement, [python, *(metadata.requires("bertgrid-tf") or ())]) if one.marker is None
    ]
    wrong = []
    for requirement in needed:
        try:
            name = requirement.name
            version = platform.python_version() if name == "Python" else metadata.version(name)
        except metadata.PackageNotFoundError:
            version = ""
        if not (version and requirement.specifier.contains(version, prereleases=True)):
            wrong.append(f"{requirement} is needed, and {version or 'none'} is installed")
    if wrong:
        return CheckResult("problem", "; ".join(wrong), "install bertgrid-tf again, with Python 3.10 to 3.13")
    within = f", in {runtime}" if (runtime := container_runtime()) else ""
    own = f"bertgrid-tf {metadata.version('bertgrid-tf')}, Python {platform.python_version()}"
    return CheckResult("ok", f"{own}{within}; all {len(needed) - 1} packages in fitting versions")


def legacy_keras() -> CheckResult:
    """Check that TensorFlow will use Keras 2, on which transformers' models are built."""
    value = os.environ.get("TF_USE_LEGACY_KERAS", "")
    if value.lower() in ("1", "true"):
        return CheckResult("ok", f"Keras 2 (TF_USE_LEGACY_KERAS={value})")
    return CheckResult("problem", f"TF_USE_LEGACY_KERAS={value} asks for Keras 3", "unset it, or set it to 1")


def processor() -> CheckResult:
    """Check that TensorFlow's wheels run on the processor."""
    _, extensions = host.processor()
    if platform.machine() == "x86_64" and "AVX" not in extensions:
        return CheckResult("problem", f"{host.description()}; TensorFlow's wheels need AVX", "use another machine")
    return CheckResult("ok", host.description())


def memory(shared: Path = Path("/dev/shm")) -> CheckResult:
    """Check main memory, and the shared memory through which --workers pass their texts."""
    size, shared_size = host.memory(), shutil.disk_usage(shared).total if shared.is_dir() else 0
    text = f"{readable(size)}, {readable(shared_size)} of shared memory"
    if size < _MEMORY:
        return CheckResult("warning", f"{text}; a bert-base takes {readable(_MEMORY)}", "choose a smaller --model")
    if shared_size < _SHARED_MEMORY:
        remedy = "start the container with --shm-size 1g" if container_runtime() else f"enlarge {shared}"
        return CheckResult("warning", f"{text}; --workers need {readable(_SHARED_MEMORY)} of it", remedy)
    return CheckResult("ok", text)


def folder(
    place: Path, otherwise: str, command: str = "…", volume: Path | None = None, status: Status = "problem"
) -> CheckResult:
    """Check that a folder can be written and has space.

    Args:
        place: The folder.
        otherwise: Remedy beside making it writable (`container.NotWritable.remedy`).
        command: Command that a container is to run again, likewise.
        volume: The folder that a container mounts, if not `place` itself.
        status: Status where the folder cannot be written.
    """
    if obstacle := check_writable(place, volume):
        return CheckResult(status, f"{place} {obstacle.reason}", obstacle.remedy(otherwise, command))
    free = shutil.disk_usage(nearest(place)).free
    text = f"{place}, {readable(free)} free"
    if free < _FREE_SPACE:
        return CheckResult(
            "warning", f"{text}; a bert-base takes {readable(_FREE_SPACE)}", f"make room, or {otherwise}"
        )
    return CheckResult("ok", text)


def corpus(recipe: "Recipe", dirs: list[Path]) -> CheckResult:
    """Check that the corpus of a recipe is here or can be fetched; the user's own tables are read."""
    from bertgrid_tf.corpus import SOURCES, find, utterances
    from bertgrid_tf.data import SAMPLE, open_corpus

    if recipe.data:
        table = open_corpus(recipe, dirs)
        texts = ", ".join(f"{len(list(utterances(some))):,} texts in {split}" for split, some in table.splits.items())
        return CheckResult("ok", f"{recipe.data.file}: {len(table.labels)} classes, {texts}")
    if recipe.corpus == SAMPLE:
        return CheckResult("ok", "sample, embedded in the package")
    source = SOURCES[recipe.corpus]
    if folder := find(source, dirs):
        return CheckResult("ok", f"{source.name} in {folder}")
    text = f"{source.name} is in none of {', '.join(map(str, dirs))}"
    if all(map(check_writable, dirs)):
        return CheckResult("problem", f"{text}, and none can be written", "choose another with --data-dir")
    failures = [_unreachable(address) for address in source.hosts]
    if all(failures):
        remedy = f"place its files from {source.page} in {dirs[0] / source.name} by hand"
        return CheckResult("problem", f"{text}, and {urlsplit(source.hosts[0]).netloc} {failures[0]}", remedy)
    return CheckResult("ok", f"{source.name} is not here yet: the study fetches {readable(source.size)} first")


def tensorflow() -> CheckResult:
    """Check that TensorFlow and transformers' classes for it load, and which GPUs TensorFlow lists."""
    from bertgrid_tf.bert import checkpoint, device  # noqa: F401
    from bertgrid_tf.system.gpu import query_driver

    query = query_driver()
    driver = f", driver {query.version}" if query and query.version else ""
    text = f"{metadata.version('tensorflow')} on {device.device_name()}{driver}"
    if missing := device.missing_gpu():
        return CheckResult("warning" if missing.needs_attention else "ok", f"{text}: {missing.reason}", missing.remedy)
    return CheckResult("ok", text)


def checkpoints(recipe: "Recipe", dirs: list[Path]) -> CheckResult:
    """Check that a recipe's checkpoints are here or can be downloaded, and what is known of them before their weights.

    Of a model that is not here, config and vocabulary are downloaded.
    """
    from huggingface_hub import constants

    from bertgrid_tf.bert.checkpoint_files import cached
    from bertgrid_tf.bert.scratch import SCRATCH
    from bertgrid_tf.bert.tokenizer import checkpoint_notes
    from bertgrid_tf.data import open_corpus
    from bertgrid_tf.training.recipe_checks import check_recipe

    models = list(dict.fromkeys([*recipe.searched_models(), *recipe.final_models()]))

    def checked(text: str) -> CheckResult:
        notes = " ".join(note for model in models for note in checkpoint_notes(model)).rstrip(".")
        if recipe.data:
            check_recipe(recipe, open_corpus(recipe, dirs), final_here=False)
        return CheckResult("warning" if notes else "ok", f"{text}; {notes}" if notes else text)

    absent = [name for name in models if not (SCRATCH.fullmatch(name) or cached(name))]
    if not absent:
        return checked(f"{', '.join(models)}: all here")
    text = f"not in the cache: {', '.join(absent)}"
    remedy = "give --model and --final-model folders with config.json, vocab.txt and model.safetensors"
    if constants.HF_HUB_OFFLINE:
        return CheckResult("problem", f"{text}; HF_HUB_OFFLINE is set", f"unset it, or {remedy}")
    if failure := _unreachable(constants.ENDPOINT):
        return CheckResult("problem", f"{text}; {constants.ENDPOINT} {failure}", f"connect, or {remedy}")
    if obstacle := check_writable(Path(constants.HF_HUB_CACHE), volume=Path(constants.HF_HOME)):
        return CheckResult("problem", f"{text}; {obstacle.folder} {obstacle.reason}", obstacle.remedy("set HF_HOME"))
    return checked(f"{text}; the study downloads them from {constants.ENDPOINT}")


def precision() -> CheckResult:
    """Measure how fast matrices of BERT's shapes are multiplied in each precision."""
    from bertgrid_tf.bert import device
    from bertgrid_tf.bert.roofline import peak
    from bertgrid_tf.bert.unpadded import COMPUTE

    rates = ", ".join(f"{name} {peak(name) / 1e12:.3g} TFLOP/s" for name in COMPUTE)
    return CheckResult("ok", f"{rates} (fp32 as TF32)" if device.rounds_to_tf32() else rates)


def _unreachable(address: str) -> str | None:
    """Return what keeps a server from answering, without the error's own words; None where it answers."""
    import requests

    try:
        status = requests.head(address, timeout=_TIMEOUT).status_code
    except (requests.RequestException, ValueError):
        return "cannot be reached"
    return f"answers with status {status}" if status >= 500 else None
