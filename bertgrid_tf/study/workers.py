"""A study's trials in other processes, on this host's GPUs or on many hosts', through Ray."""

import functools
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertgrid_tf import __version__
from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.budget.plan import search_space
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.records import MeasuredSetting
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.auto_settings import AUTO_SETTINGS, HostShare, with_defaults
from bertgrid_tf.system.host import free_memory, readable
from bertgrid_tf.trial_config import TrialConfig

if TYPE_CHECKING:
    from bertgrid_tf.training.trial_runner import TrialRunner
    from tuners.ray_pool import RayPool, Share

CORES = 4
"""CPU cores that `sensible_count` gives a worker: TensorFlow spreads one trial over more with less and less gain."""
PROBE_SECONDS = 60
"""Seconds in which a host must report its version; its first process starts meanwhile."""


@dataclass(frozen=True)
class WorkerOptions:
    """The workers that are asked for.

    Attributes:
        count: Trials at a time; None for one on each GPU or, without any, on each host.
        address: A Ray cluster that this host has joined, HOST:PORT or "auto"; None for this host alone.
        gpu_memory: Most that TensorFlow may take of each GPU, in bytes; None for all.
    """

    count: int | None
    address: str | None = None
    gpu_memory: int | None = None


def sensible_count(recipe: Recipe, corpus: Corpus) -> tuple[int, str]:
    """Return how many trials at a time suit this host, and the reason: one on each GPU, or on every `CORES` cores.

    There are no more than rows of the grid, nor, on a CPU, than trials that fit the free memory.

    Raises:
        UserError: The size of a model is not known, as for `bert.dimensions.dimensions`.
    """
    from bertgrid_tf.bert.device import gpus
    from bertgrid_tf.bert.dimensions import dimensions
    from bertgrid_tf.bert.memory import estimate

    space = search_space(recipe)
    rows = len(space.grid_trials(space.start))
    bounds = {f"the grid has {rows} row{'s' if rows > 1 else ''}": rows}
    if devices := len(gpus()):
        bounds[f"there {'are' if devices > 1 else 'is'} {devices} GPU{'s' if devices > 1 else ''}"] = devices
    else:
        cores, free, values = len(os.sched_getaffinity(0)), free_memory(), with_defaults(recipe).hyperparameters
        sizes = (dimensions(model, len(corpus.labels)) for model in recipe.searched_models())
        training = (int(values.batch_size), values.max_length, values.resolved_precision, False)
        need = max(estimate(size, *training, values.frozen_layers, values.pooling) for size in sizes)
        own = f"{CORES} CPU cores each, of {cores} in all" if cores > 1 else "there is 1 CPU core"
        bounds |= {
            own: cores // CORES,
            f"about {readable(need)} each, of {readable(free)} of free memory": free // need,
        }
    because = min(bounds, key=lambda reason: bounds[reason])
    return max(bounds[because], 1), because


@dataclass(frozen=True)
class LaterTrial:
    """A trial after the search.

    Attributes:
        config: Its configuration.
        folder: The folder of its state, with its name.
        model: Where a trial of the final model is saved; None for other trials.
    """

    config: TrialConfig
    folder: Path
    model: Path | None = None

    @property
    def name(self) -> str:
        """The name of its predictions."""
        return self.folder.name


@dataclass(frozen=True)
class WorkerConfig:
    """What every worker of a study receives; the texts travel along, so that a worker needs no data of its own.

    Attributes:
        corpus: The study's.
        recipe: The study's.
        folder: The study folder, an absolute path, under which every host must see it.
        checkpoints: Hash of each model of the search on this host (`recipe_checks.checkpoint_identities`).
    """

    corpus: Corpus
    recipe: Recipe
    folder: Path
    checkpoints: Mapping[str, str]

    @property
    def lock_file(self) -> Path:
        """The file that names the process that runs the study."""
        return StudyFolder(self.folder).lock_file


class WorkerPool:
    """The workers of one study; `start_workers` makes it.

    Attributes:
        count: Trials at a time.
    """

    def __init__(self, options: WorkerOptions, hosts: "Sequence[Share]") -> None:
        from tuners.ray_pool import shares

        self._options = options
        self._hosts = hosts
        gpus = sum(host.gpus for host in hosts)
        self.count = options.count if options.count is not None else gpus or len(hosts)
        self._share = shares(hosts, self.count)

    @property
    def share(self) -> str:
        """The share of a host that each worker has, in words."""
        if self._share.gpus:
            return "a GPU of its own"
        return f"{self._share.cpus} CPU core{'s' if self._share.cpus > 1 else ''}"

    def final_gpus(self, asked: int | Literal["all"]) -> int:
        """Return how many GPUs of one host train the final model together; 1 for the CPU too.

        Raises:
            UserError: No host has as many.
        """
        from bertgrid_tf.bert.replicas import resolve_gpu_count

        most = max([1, *(host.gpus for host in self._hosts)])
        return resolve_gpu_count(asked, most, f"no host has more than {most}")

    def measure(self, config: WorkerConfig, key: str, final_gpus: int) -> MeasuredSetting:
        """Measure an `auto` key of the recipe in a process with a worker's share of a host.

        Of hosts that are not alike, any may be the one.

        Raises:
            UserError: The worker is lost.
        """
        import ray

        each = max(host.cpus // self._share.cpus for host in self._hosts) if self._share.cpus else 1
        host_share = HostShare(min(each, self.count), final_gpus)
        task = ray.remote(num_cpus=self._share.cpus, num_gpus=self._share.gpus, max_retries=0)(_measure)
        try:
            setting: MeasuredSetting = ray.get(task.remote(self._task(config), key, host_share))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise UserError(
                f"The worker that measured {key} was lost ({error}): run the same command again."
            ) from error
        return setting

    def at_once(self, gpus: int) -> int:
        """Return how many trials run at a time that `gpus` GPUs of a host train each; without GPUs, as many as ever."""
        return min(self.count, sum(host.gpus // gpus for host in self._hosts)) if self._share.gpus else self.count

    def of_search(self, config: WorkerConfig, callback: Callback) -> "RayPool":
        """Return a pool for the trials of the search, to be entered."""
        return self._pool(functools.partial(_trainable, self._task(config)), self.count, self._share, callback)

    def after_search(self, config: WorkerConfig, trials: "Sequence[LaterTrial]", callback: Callback) -> "RayPool":
        """Return a pool for trials after the search, each of as many GPUs as the first, to be entered."""
        from tuners.ray_pool import Share

        gpus = trials[0].config.gpus
        located = [replace(trial, model=trial.model and trial.model.absolute()) for trial in trials]
        make_trainable = functools.partial(_later_trainable, self._task(config), located)
        share = Share(0, gpus) if self._share.gpus else self._share
        return self._pool(make_trainable, min(self.at_once(gpus), len(trials)), share, callback)

    def _task(self, config: WorkerConfig) -> "WorkerTask":
        owner = config.lock_file.read_text(encoding="utf-8", errors="replace")
        return WorkerTask(config, __version__, owner, os.getcwd(), self._options.gpu_memory)  # noqa: PTH109

    def _pool(self, make_trainable: Callable[[], Any], size: int, share: "Share", callback: Callback) -> "RayPool":
        from tuners.ray_pool import RayPool

        return RayPool(make_trainable, size, share, callback.on_worker_begin, callback.on_worker_lost)


@contextmanager
def start_workers(options: WorkerOptions) -> Iterator[WorkerPool]:
    """Start or join Ray for as long as the block runs.

    Raises:
        UserError: Ray is not installed; a host of the cluster has another version of bertgrid-tf, or none.
        tuners.TunerError: The cluster cannot be reached, or has no room for the workers.
    """
    try:
        from tuners.ray_pool import cluster
    except ModuleNotFoundError as error:
        raise UserError(
            "--workers and --ray-address need Ray, which is not installed: pip install 'bertgrid-tf[ray]'."
        ) from error
    import tensorflow as tf

    # The GPUs are the workers'; what this process computes, it computes on the CPU.
    tf.config.set_visible_devices([], "GPU")
    with cluster(options.address) as hosts:
        if options.address:
            _check_versions()
        yield WorkerPool(options, hosts)


def _check_versions() -> None:
    """Check that every host that can run a trial has this version."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from tuners.ray_pool import worker_nodes

    def version() -> str | None:
        # A function within a function travels as code: it must run where there is no bertgrid-tf, or another.
        try:
            import bertgrid_tf
        except ImportError:
            return None
        return bertgrid_tf.__version__

    probe = ray.remote(num_cpus=0, max_retries=0)(version)
    nodes = worker_nodes()
    asked = [
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        host = node["NodeManagerHostname"]
        try:
            installed = ray.get(answer, timeout=PROBE_SECONDS)
        except ray.exceptions.RayError as error:
            raise UserError(f"The host {host} of the Ray cluster cannot start a worker: {error}.") from error
        _check_version(host, installed, __version__)


def _check_version(host: str, installed: str | None, wanted: str) -> None:
    if installed != wanted:
        has = f"bertgrid-tf {installed}" if installed else "no bertgrid-tf"
        raise UserError(
            f"The host {host} of the Ray cluster has {has}, the study's own bertgrid-tf {wanted}: "
            "install the same on all."
        )


# In a worker


@dataclass(frozen=True)
class WorkerTask:
    """A configuration with what a worker must agree on.

    Attributes:
        config: What the worker receives.
        version: Of bertgrid-tf, where the study was started.
        owner: Content of the study's lock, by which a worker knows that it sees the same folder.
        directory: Working directory where the study was started.
        gpu_memory: Most that TensorFlow may take of each GPU, in bytes; None for all.
    """

    config: WorkerConfig
    version: str
    owner: str
    directory: str
    gpu_memory: int | None


def _measure(task: WorkerTask, key: str, host_share: HostShare) -> MeasuredSetting:
    _trial_runner(task)
    return AUTO_SETTINGS[key].measure(task.config.recipe, task.config.corpus, host_share)


def _trainable(task: WorkerTask) -> Callable[..., Iterator[Mapping[str, float]]]:
    runner = _trial_runner(task)

    def run(hyperparameters: Mapping[str, Value], folder: Path) -> Iterator[Mapping[str, float]]:
        return runner.run(TrialConfig.from_values(hyperparameters, task.config.recipe.seed), folder)

    return run


def _later_trainable(task: WorkerTask, trials: "Sequence[LaterTrial]") -> Callable[..., Iterator[Mapping[str, float]]]:
    return later_trainable(_trial_runner(task), trials)


def later_trainable(
    runner: "TrialRunner", trials: "Sequence[LaterTrial]"
) -> Callable[..., Iterator[Mapping[str, float]]]:
    """Return the trainable of trials after the search, which are known by the names of their folders."""
    known = {trial.folder.name: trial for trial in trials}

    def run(_: Mapping[str, Value], folder: Path) -> Iterator[Mapping[str, float]]:
        return runner.run(known[folder.name].config, folder, known[folder.name].model)

    return run


def _trial_runner(task: WorkerTask) -> "TrialRunner":
    """Make a worker's trial runner.

    Raises:
        UserError: This host cannot run the study; the sentence names it.
    """
    host, config = socket.gethostname(), task.config
    # A host may have joined after the others were asked.
    _check_version(host, __version__, task.version)
    try:
        owner = config.lock_file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        owner = None
    if owner != task.owner:
        raise UserError(
            f"The worker on {host} does not see the study folder {config.folder} of this host: "
            "every host needs it under the same path (a network file system, a shared volume)."
        )
    # A checkpoint or a table may be named relative to where the study was started.
    if Path(task.directory).is_dir():
        os.chdir(task.directory)
    from bertgrid_tf.bert import device
    from bertgrid_tf.training.recipe_checks import checkpoint_identities
    from bertgrid_tf.training.trial_runner import TrialRunner

    if task.gpu_memory is not None:
        device.limit_memory(task.gpu_memory)
    try:
        checkpoints = checkpoint_identities(config.recipe)
    except UserError as error:
        raise UserError(f"The worker on {host} cannot train: {error}") from error
    for name, identity in checkpoints.items():
        if identity != config.checkpoints[name]:
            raise UserError(
                f"The worker on {host} has other files of the checkpoint {name} than this host: make them the same."
            )
    return TrialRunner(config.corpus, config.recipe, StudyFolder(config.folder).predictions)
