"""What a study needs of this machine, checked one by one: versions, processor, GPUs, folders, the hub, the data."""

import math
import os
import platform
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from bertgrid_tf import __version__
from bertgrid_tf.errors import UserError
from bertgrid_tf.machine import gpu, host
from bertgrid_tf.machine.container import blocked, engine, nearest
from bertgrid_tf.machine.host import readable

if TYPE_CHECKING:
    from bertgrid_tf.recipe import Recipe

Status = Literal["ok", "warning", "problem"]

# Why another version than setup.cfg's does not do, where that is known.
_PINNED = {
    "tensorflow": "transformers' TensorFlow classes are tried with this one",
    "tf-keras": "it must be the Keras 2 of this TensorFlow",
    "keras-tuner": "the oracle builds on its inner parts",
    "transformers": "4.54.1 is the last release whose TensorFlow classes load .safetensors",
}
# Weights and two moments of bert-base, 110 million parameters each in float32, make 1.3 GB of every unfinished run.
_FREE_SPACE = 5 * 10**9
# The same three, the gradients, and the weights as loaded make 2.2 GB, and the activations of a batch come on top.
_MEMORY = 4 * 10**9
# Below this, which docker's 64 MB are, Ray keeps what --workers are given on disk.
_SHARED_MEMORY = 256 * 10**6
_SECONDS_TO_ANSWER = 3
# Less is not worth the trouble with a narrower format.
_WORTHWHILE = 1.2


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: of the check.
        status: a problem keeps the study from running; a warning does not.
        text: what is so.
        remedy: what to do.
    """

    name: str
    status: Status
    text: str
    remedy: str | None = None


Check = Callable[[], Finding]
Running = Callable[[str], AbstractContextManager[object]]


def examine(name: str, results: Path, dirs: list[Path], running: Running = nullcontext) -> Iterator[Finding]:
    """Checks everything that the study of a recipe needs, what is quick first; about 10 seconds in all.

    Args:
        name: of a recipe that comes with the package.
        results: the parent of the results folder.
        dirs: where its corpus may lie (`data.data_dirs`).
        running: entered with a check's name while it runs.
    """

    def found(name: str, check: Check) -> Finding:
        with running(name):
            return _carefully(name, check)

    # Each address is asked once.
    answer = cache(_answer)
    yield found("Python", python)
    yield found("bertgrid-tf", partial(own_version, engine()))
    for package in _PINNED:
        yield found(package, partial(package_version, package))
    yield found("other packages", other_packages)
    yield found("Keras", legacy_keras)
    yield (processor := found("processor", cpu))
    yield found("memory", memory)
    yield found("shared memory", shared_memory)
    yield found("results", partial(folder, "results", results, "give another with --results", f"tune {name}"))
    yield found("data", partial(folder, "data", dirs[0], "give another with --data-dir", f"tune {name}", "warning"))
    yield found("cache", model_cache)
    yield found("temporary files", temporary_files)
    yield found("hub", partial(hub, answer))
    yield found("token", token)
    yield found("models", cached_models)

    recipe: Recipe | None = None

    def read() -> Finding:
        from bertgrid_tf.recipe import load

        nonlocal recipe
        recipe = load(name)
        return Finding("recipe", "ok", f"{name}: {', '.join(models(recipe))}")

    yield found("recipe", read)
    if recipe is not None:
        yield found("corpus", partial(corpus, recipe, dirs, answer))
    if processor.status == "problem":
        return  # TensorFlow would not fail but take this process down with it
    tensorflow = found("TensorFlow", import_tensorflow)
    yield tensorflow
    if tensorflow.status == "problem":
        return
    yield found("GPU", gpus)
    yield found("driver", driver)
    yield found("CUDA", cuda_libraries)
    yield found("precision", precision)
    for model in models(recipe) if recipe else ():
        yield found("checkpoint", partial(checkpoint, model, answer))


def _carefully(name: str, check: Check) -> Finding:
    """A check's finding without secrets; its own failure is a finding too."""
    try:
        finding = check()
    except UserError as error:
        finding = Finding(name, "problem", str(error).rstrip("."))
    except Exception as error:
        finding = Finding(name, "problem", " ".join(f"{type(error).__name__}: {error}".split()))
    remedy = without_secrets(finding.remedy) if finding.remedy else None
    return Finding(finding.name, finding.status, without_secrets(finding.text), remedy)


def without_secrets(text: str) -> str:
    """The text without the credentials in its addresses and without what the environment calls a secret."""
    text = re.sub(r"(?<=//)[^\s/]*@", "…@", text)
    for name, value in os.environ.items():
        # A value of a few characters is no secret, and may be a part of any word.
        if len(value) >= 6 and re.search("(TOKEN|SECRET|PASSWORD|KEY)$", name.upper()):
            text = text.replace(value, "…")
    return text


# Versions


def python() -> Finding:
    """The interpreter."""
    return _version("Python", platform.python_version(), metadata.metadata("bertgrid-tf")["Requires-Python"])


def own_version(within: str | None) -> Finding:
    """This package, and what runs the container around it."""
    return Finding("bertgrid-tf", "ok", f"{__version__}, in {within}" if within else __version__)


def package_version(name: str) -> Finding:
    """One package, against the version that setup.cfg asks for."""
    return _version(name, _installed(name), _required()[name], _PINNED[name])


def other_packages() -> Finding:
    """The packages that setup.cfg names beside those with a check of their own."""
    findings = [_version(name, _installed(name), wanted) for name, wanted in _required().items() if name not in _PINNED]
    wrong = [f"{finding.name} {finding.text}" for finding in findings if finding.status != "ok"]
    if wrong:
        return Finding("other packages", "problem", "; ".join(wrong), "install bertgrid-tf again")
    return Finding("other packages", "ok", f"all {len(findings)} in versions that fit")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _required() -> dict[str, str]:
    """The packages that are needed without extras, and which versions of them."""
    from packaging.requirements import Requirement

    needed = [Requirement(line) for line in metadata.requires("bertgrid-tf") or ()]
    return {one.name: str(one.specifier) for one in needed if one.marker is None}


def _version(name: str, found: str | None, wanted: str, why: str = "") -> Finding:
    from packaging.specifiers import SpecifierSet

    if found and SpecifierSet(wanted).contains(found, prereleases=True):
        return Finding(name, "ok", found)
    text = f"{found or 'not installed'}, where {wanted or 'any'} is needed" + (f": {why}" if why else "")
    return Finding(name, "problem", text, "install another Python" if name == "Python" else "install bertgrid-tf again")


def legacy_keras() -> Finding:
    """Which Keras TensorFlow is told to use."""
    value = os.environ.get("TF_USE_LEGACY_KERAS", "")
    if value.lower() in ("1", "true"):
        return Finding("Keras", "ok", f"Keras 2 (TF_USE_LEGACY_KERAS={value})")
    return Finding("Keras", "problem", f"TF_USE_LEGACY_KERAS={value} asks for Keras 3", "unset it, or set it to 1")


# The machine


def cpu() -> Finding:
    """The processor, and whether TensorFlow's wheels run on it."""
    processor = host.cpu()
    extensions = ", ".join(processor.extensions) or "no vector extensions that are known here"
    cores = f"{processor.cores} core{'s' * (processor.cores > 1)}"
    text = f"{processor.model}, {cores}: {extensions}"
    if platform.machine() == "x86_64" and "AVX" not in processor.extensions:
        return Finding("processor", "problem", f"{text}; TensorFlow's wheels need AVX", "use another machine")
    return Finding("processor", "ok", text)


def memory() -> Finding:
    """Main memory, as far as this process may use it."""
    size = host.memory()
    if size < _MEMORY:
        text = f"{readable(size)}, where a bert-base takes {readable(_MEMORY)}"
        return Finding("memory", "warning", text, "take a smaller --model")
    return Finding("memory", "ok", readable(size))


def shared_memory(place: Path = Path("/dev/shm")) -> Finding:
    """The memory through which the processes of --workers hand texts over."""
    if not place.is_dir():
        return Finding("shared memory", "warning", f"there is no {place}, which --workers need")
    size = shutil.disk_usage(place).total
    if size < _SHARED_MEMORY:
        remedy = "start the container with --shm-size 1g" if engine() else f"sudo mount -o remount,size=1G {place}"
        return Finding("shared memory", "warning", f"{readable(size)} in {place}, little for --workers", remedy)
    return Finding("shared memory", "ok", f"{readable(size)} in {place}")


def folder(
    name: str,
    place: Path,
    otherwise: str,
    command: str = "…",
    if_blocked: Status = "problem",
    volume: Path | None = None,
) -> Finding:
    """A folder that is written to, and the space that is left there.

    Args:
        name: of the check.
        place: the folder, which need not exist yet.
        otherwise, command: see `machine.container.Blocked.remedy`.
        if_blocked: the status where nothing can be written.
        volume: see `machine.container.Blocked`; None for the folder itself.
    """
    if found := blocked(place, volume):
        remedy = found.remedy(otherwise, command, engine())
        return Finding(name, if_blocked, f"{place} {found.reason}", remedy)
    free = shutil.disk_usage(nearest(place)).free
    if free < _FREE_SPACE:
        text = f"{place} has {readable(free)} left, and every unfinished run of a bert-base takes 1.3 GB"
        return Finding(name, "warning", text, f"make room, or {otherwise}")
    return Finding(name, "ok", f"{place}, {readable(free)} free")


def temporary_files() -> Finding:
    """Where temporary files go."""
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError as error:
        return Finding("temporary files", "problem", error.strerror or str(error), "set TMPDIR to a folder")
    return folder("temporary files", Path(place), "set TMPDIR to another folder")


# The hub


def model_cache() -> Finding:
    """Where models of the hub are kept."""
    from huggingface_hub import constants

    place, volume = Path(constants.HF_HUB_CACHE), Path(constants.HF_HOME)
    return folder("cache", place, "set HF_HOME to another folder", if_blocked="warning", volume=volume)


def cached_models() -> Finding:
    """The models in the hub's local cache, with the bytes that each takes."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        repos = frozenset()
    sizes = sorted((repo.repo_id, repo.size_on_disk) for repo in repos if repo.repo_type == "model")
    listed = ", ".join(f"{name} ({readable(size)})" for name, size in sizes)
    return Finding("models", "ok", listed or "none in the cache")


def hub(answer: Callable[[str], str | None]) -> Finding:
    """Whether models can be downloaded."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Finding("hub", "ok", "offline by wish (HF_HUB_OFFLINE): only what is in the cache is used")
    if failure := answer(constants.ENDPOINT):
        remedy = "connect, or give --model a folder; `tune sample` needs no hub"
        return Finding("hub", "warning", f"{constants.ENDPOINT} {failure}", remedy)
    return Finding("hub", "ok", f"{constants.ENDPOINT} answers")


def token() -> Finding:
    """Whether the hub is told who asks; never what with."""
    from huggingface_hub import get_token

    if os.environ.get("HF_TOKEN"):
        return Finding("token", "ok", "HF_TOKEN is set")
    return Finding("token", "ok", "HF_TOKEN is not set" + (", but a token is saved" if get_token() else ""))


def _answer(address: str) -> str | None:
    """What keeps a server from answering; None where it answers. Never more than the address's own words."""
    outcome: list[str | None] = []
    # Looking a name up knows no time limit, so that it is not waited for.
    thread = threading.Thread(target=lambda: outcome.append(_ask(address)), daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_ANSWER)
    return outcome[0] if outcome else f"does not answer within {_SECONDS_TO_ANSWER} seconds"


def _ask(address: str) -> str | None:
    import requests

    try:
        status = requests.head(address, timeout=_SECONDS_TO_ANSWER).status_code
    except requests.exceptions.ProxyError:
        return "cannot be reached through the proxy"
    except requests.exceptions.SSLError:
        return "cannot be reached securely (its certificate is not trusted here)"
    except (requests.RequestException, ValueError):
        return "cannot be reached"
    return f"answers with status {status}" if status >= 500 else None


# TensorFlow and what it computes on


def import_tensorflow() -> Finding:
    """Whether TensorFlow and transformers' classes for it can be loaded."""
    began = time.perf_counter()
    from bertgrid_tf.bert import checkpoint, device  # noqa: F401

    built = device.built_for_cuda()
    made_for = f"CUDA {gpu.dotted(built)}" if built else "CPUs"
    return Finding("TensorFlow", "ok", f"loads in {time.perf_counter() - began:.0f} seconds; built for {made_for}")


def gpus() -> Finding:
    """The GPUs, or why there is none."""
    from bertgrid_tf.bert import device

    weak = device.too_weak()
    if missing := device.missing_gpu():
        status: Status = "problem" if weak else "warning" if missing.loud else "ok"
        return Finding("GPU", status, f"none: {missing.reason}", missing.remedy)
    capabilities = sorted({one.capability for one in device.gpus() if one.capability})
    text = device.device_name()
    if capabilities:
        text += f", compute capability {' and '.join(map(gpu.dotted, capabilities))}"
    if weak:
        return Finding("GPU", "warning", f"{text}; too old for TensorFlow: {', '.join(map(str, weak))}")
    return Finding("GPU", "ok", text)


def driver() -> Finding:
    """NVIDIA's driver, against the CUDA that TensorFlow was built with."""
    from bertgrid_tf.bert import device

    facts = gpu.gather(device.built_for_cuda())
    if facts.driver is None:
        return Finding("driver", "ok", "none; only a GPU needs one")
    version = f"{facts.kernel_driver}, " if facts.kernel_driver else ""
    text = f"{version}for CUDA up to {gpu.dotted(facts.driver.cuda)}"
    if facts.cuda is None:
        return Finding("driver", "ok", text)
    text += f"; TensorFlow was built with {gpu.dotted(facts.cuda)}"
    if facts.driver.cuda[0] < facts.cuda[0]:
        return Finding("driver", "warning", text, "install a newer driver")
    return Finding("driver", "ok", text)


def cuda_libraries() -> Finding:
    """The libraries without which TensorFlow lists no GPU."""
    versions, lacking = [], []
    for name in gpu.CUDA_LIBRARIES:
        library = gpu.load_library(name)
        stem = name.removeprefix("lib").split(".")[0]
        if library is None:
            lacking.append(name)
        else:
            versions.append(f"{stem} {gpu.library_version(name, library)}".strip())
    if not lacking:
        return Finding("CUDA", "ok", ", ".join(versions))
    if not versions:
        return Finding("CUDA", "ok", "no libraries; only a GPU needs them")
    text = f"{', '.join(versions)}; missing: {', '.join(lacking)}"
    return Finding("CUDA", "warning", text, gpu.with_cuda(engine()))


def precision() -> Finding:
    """How fast matrices of BERT's shapes are multiplied in each format, and which format pays."""
    from bertgrid_tf.bert import device
    from bertgrid_tf.bert.flops import peak
    from bertgrid_tf.bert.unpadded import COMPUTE

    rates = {name: peak(name) for name in COMPUTE}
    names = {"fp32": "fp32 (as TF32)"} if device.rounds_to_tf32() else {}
    measured = ", ".join(f"{names.get(name, name)} {flops(rate)}" for name, rate in rates.items())
    return Finding("precision", "ok", f"{measured}: {worthwhile(rates)}")


def worthwhile(rates: dict[str, float]) -> str:
    """Which format pays, by the FLOP/s of each."""
    # fp16 has the smaller range, and needs its loss scaled: it must be clearly faster.
    best = "fp16" if rates["fp16"] > _WORTHWHILE * rates["bf16"] else "bf16"
    gain = rates[best] / rates["fp32"]
    return f"{best} pays, {gain:.1f} times fp32" if gain > _WORTHWHILE else "fp32 is as fast as any"


def flops(rate: float) -> str:
    """A rate in FLOP/s, in TFLOP/s or GFLOP/s with two significant digits."""
    unit, name = (1e12, "TFLOP/s") if rate >= 1e12 else (1e9, "GFLOP/s")
    digits = max(1 - math.floor(math.log10(rate / unit)), 0)
    return f"{rate / unit:.{digits}f} {name}"


# The study itself


def models(recipe: "Recipe") -> list[str]:
    """The checkpoints of a recipe's search and of its final model."""
    return list(dict.fromkeys([*recipe.searched_models(), *recipe.final_models()]))


def corpus(recipe: "Recipe", dirs: list[Path], answer: Callable[[str], str | None]) -> Finding:
    """Whether the recipe's corpus is here or can be fetched."""
    from bertgrid_tf.corpus import SOURCES, find
    from bertgrid_tf.data import SAMPLE

    if recipe.corpus == SAMPLE:
        return Finding("corpus", "ok", "sample, embedded in the package")
    source = SOURCES[recipe.corpus]
    if place := find(source, dirs):
        return Finding("corpus", "ok", f"{source.name} in {place}")
    remedy = f"place its files from {source.page} in {dirs[0] / source.name} by hand"
    here = f"{source.name} is in none of {', '.join(map(str, dirs))}"
    if all(map(blocked, dirs)):
        return Finding("corpus", "problem", f"{here}, and none can be written", "give another with --data-dir")
    with ThreadPoolExecutor() as pool:
        failures = list(pool.map(answer, source.hosts))
    if all(failures):
        host = urlsplit(source.hosts[0]).netloc
        return Finding("corpus", "problem", f"{here}, and {host} {failures[0]}", remedy)
    return Finding("corpus", "ok", f"{source.name} is not here yet: the study fetches {readable(source.size)} first")


def checkpoint(name: str, answer: Callable[[str], str | None]) -> Finding:
    """Whether a checkpoint is here or can be downloaded."""
    from huggingface_hub import constants

    from bertgrid_tf.bert.checkpoint import SCRATCH, cached

    if SCRATCH.fullmatch(name):
        return Finding("checkpoint", "ok", f"{name} is drawn, not loaded")
    if place := cached(name):
        return Finding("checkpoint", "ok", f"{name} in {place}")
    remedy = "connect, or give --model a folder with config.json, vocab.txt and model.safetensors"
    if constants.HF_HUB_OFFLINE:
        text = f"{name} is not in the cache, and HF_HUB_OFFLINE is set"
        return Finding("checkpoint", "problem", text, "unset it, or give --model a folder")
    if failure := answer(constants.ENDPOINT):
        return Finding(
            "checkpoint", "problem", f"{name} is not in the cache, and {constants.ENDPOINT} {failure}", remedy
        )
    if found := blocked(Path(constants.HF_HUB_CACHE), volume=Path(constants.HF_HOME)):
        text = f"{name} must be downloaded, but the cache {found.folder} {found.reason}"
        return Finding("checkpoint", "problem", text, found.remedy("set HF_HOME to another folder", within=engine()))
    return Finding("checkpoint", "ok", f"{name} is not here yet: the study downloads it")
