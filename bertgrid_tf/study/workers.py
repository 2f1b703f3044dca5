"""A study's runs in other processes, on this host's GPUs or on many hosts', through Ray."""

import functools
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from bertgrid_tf import __version__
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.study_folder import MeasuredSetting
from bertgrid_tf.study.auto_settings import AUTOS, HostShare

if TYPE_CHECKING:
    from bertgrid_tf.training.trial_runner import TrialRunner
    from tuners.ray_pool import RayPool, Share

LOCK = "study.lock"
PROBE_SECONDS = 60
"""How long a host may take to say which version it has; its first process starts meanwhile."""


@dataclass(frozen=True)
class WorkerOptions:
    """Who is asked to carry a study's runs.

    Attributes:
        count: runs at a time; None for as many as there are GPUs or, without any, hosts.
        address: of a Ray cluster that this host has joined, HOST:PORT or "auto"; None for this host alone.
        gpu_memory: cap of what TensorFlow may take of each GPU, in bytes.
    """

    count: int | None
    address: str | None = None
    gpu_memory: int | None = None


@dataclass(frozen=True)
class WorkerConfig:
    """What every worker of a study is given. The texts travel along, so that a worker needs no data of its own.

    Attributes:
        corpus, recipe: the study's.
        folder: its results folder, an absolute path, under which every host must see it.
        predictions: the folder for what every run predicts on dev, within it.
        checkpoints: what each model of the search is here (`TrialRunner.checkpoints`).
    """

    corpus: Corpus
    recipe: Recipe
    folder: Path
    predictions: Path
    checkpoints: Mapping[str, str]


class Watcher(Protocol):
    """What is told of workers that come and go (see `study.Callback`)."""

    def on_worker_begin(self, host: str) -> None: ...

    def on_worker_lost(self, run: str | None, host: str) -> None: ...


class WorkerPool:
    """The workers of one study; see `crew`.

    Attributes:
        count: runs at a time.
    """

    def __init__(self, workers: WorkerOptions, hosts: "Sequence[Share]") -> None:
        from tuners.ray_pool import shares

        self._workers = workers
        self._hosts = hosts
        gpus = sum(host.gpus for host in hosts)
        self.count = workers.count if workers.count is not None else gpus or len(hosts)
        self._share = shares(hosts, self.count)

    @property
    def each(self) -> str:
        """What each worker has, in words."""
        if self._share.gpus:
            return "a GPU of its own"
        return f"{self._share.cpus} CPU core{'s' if self._share.cpus > 1 else ''}"

    def final_gpus(self, asked: int | Literal["all"]) -> int:
        """How many GPUs of one host train the final model together; 1 for the CPU too.

        Raises UserError where no host has so many.
        """
        from bertgrid_tf.bert.replicas import resolve_gpu_count

        most = max([1, *(host.gpus for host in self._hosts)])
        return resolve_gpu_count(asked, most, f"no host has more than {most}")

    def measure(self, job: WorkerConfig, key: str, final_gpus: int) -> MeasuredSetting:
        """Measure an `auto` key of the job's recipe in a process with a worker's share of a host.

        Of hosts that are not alike, any may be the one. Raises UserError where it is lost.
        """
        import ray

        each = max(host.cpus // self._share.cpus for host in self._hosts) if self._share.cpus else 1
        host_share = HostShare(min(each, self.count), final_gpus)
        task = ray.remote(num_cpus=self._share.cpus, num_gpus=self._share.gpus, max_retries=0)(_measured)
        try:
            found: MeasuredSetting = ray.get(task.remote(WorkerTask.of(job, self._workers), key, host_share))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise UserError(
                f"The worker that measured {key} was lost ({error}): run the same command again."
            ) from error
        return found

    def search(self, job: WorkerConfig, watcher: Watcher) -> "RayPool":
        """A pool for the search's runs, to be entered."""
        order = WorkerTask.of(job, self._workers)
        return self._pool(functools.partial(_runs, order), self.count, self._share, watcher)

    def final(self, job: WorkerConfig, model: Path, watcher: Watcher) -> "RayPool":
        """A pool of one worker for the final model's run, which saves it in the folder `model`."""
        from tuners.ray_pool import Share

        order = WorkerTask.of(job, self._workers)
        gpus = self.final_gpus(job.recipe.final.gpus)
        share = Share(0, gpus) if self._share.gpus else self._share
        return self._pool(functools.partial(_final_run, order, model), 1, share, watcher)

    def _pool(self, make_run: Callable[[], Any], size: int, share: "Share", watcher: Watcher) -> "RayPool":
        from tuners.ray_pool import RayPool

        return RayPool(make_run, size, share, watcher.on_worker_begin, watcher.on_worker_lost)


@contextmanager
def start_workers(workers: WorkerOptions) -> Iterator[WorkerPool]:
    """Starts or joins Ray for as long as the block runs.

    Raises:
        UserError: Ray is not installed; a host of the cluster has another version of bertgrid-tf, or none.
        tuners.TunerError: the cluster cannot be reached, or has no room for so many workers.
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
    with cluster(workers.address) as hosts:
        if workers.address:
            _check_versions()
        yield WorkerPool(workers, hosts)


def _check_versions() -> None:
    """Every host that can carry a run must have this version."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from tuners.ray_pool import carrying_nodes

    def version() -> str | None:
        # A function within a function travels as code: it must run where there is no bertgrid-tf, or another.
        try:
            import bertgrid_tf
        except ImportError:
            return None
        return bertgrid_tf.__version__

    probe = ray.remote(num_cpus=0, max_retries=0)(version)
    nodes = carrying_nodes()
    asked = [
        probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    for node, answer in zip(nodes, asked, strict=True):
        host = node["NodeManagerHostname"]
        try:
            found = ray.get(answer, timeout=PROBE_SECONDS)
        except ray.exceptions.RayError as error:
            raise UserError(f"The host {host} of the Ray cluster cannot start a worker: {error}.") from error
        _check_version(host, found, __version__)


def _check_version(host: str, found: str | None, wanted: str) -> None:
    if found != wanted:
        has = f"bertgrid-tf {found}" if found else "no bertgrid-tf"
        raise UserError(
            f"The host {host} of the Ray cluster has {has}, the study's own bertgrid-tf {wanted}: "
            "install the same on all."
        )


# In a worker


@dataclass(frozen=True)
class WorkerTask:
    """A job with what a worker must agree on."""

    job: WorkerConfig
    version: str
    owner: str
    directory: str
    gpu_memory: int | None

    @classmethod
    def of(cls, job: WorkerConfig, workers: WorkerOptions) -> "WorkerTask":
        owner = (job.folder / LOCK).read_text(encoding="utf-8")
        return cls(job, __version__, owner, os.getcwd(), workers.gpu_memory)  # noqa: PTH109


def _measured(order: WorkerTask, key: str, host_share: HostShare) -> MeasuredSetting:
    runs = _runs(order)
    return AUTOS[key].measure(runs.recipe, runs.corpus, host_share)


def _final_run(order: WorkerTask, model: Path) -> Callable[..., Iterator[Mapping[str, float]]]:
    return functools.partial(_runs(order).final, model=model)


def _runs(order: WorkerTask) -> "TrialRunner":
    """The runs of a study in a worker that can carry them. Raises UserError, with the host's name, where it cannot."""
    host, job = socket.gethostname(), order.job
    # A host may have joined after the others were asked.
    _check_version(host, __version__, order.version)
    try:
        seen = (job.folder / LOCK).read_text(encoding="utf-8")
    except OSError:
        seen = None
    if seen != order.owner:
        raise UserError(
            f"The worker on {host} does not see the results folder {job.folder} of this host: "
            "every host needs it under the same path (a network file system, a shared volume)."
        )
    # A checkpoint or a table may be named relative to where the study was started.
    if Path(order.directory).is_dir():
        os.chdir(order.directory)
    from bertgrid_tf.bert import device
    from bertgrid_tf.training.trial_runner import TrialRunner

    if order.gpu_memory is not None:
        device.limit_memory(order.gpu_memory)
    runs = TrialRunner(job.corpus, job.recipe, job.predictions)
    try:
        checkpoints = runs.checkpoints()
    except UserError as error:
        raise UserError(f"The worker on {host} cannot train: {error}") from error
    for name, found in checkpoints.items():
        if found != job.checkpoints[name]:
            raise UserError(
                f"The worker on {host} has other files of the checkpoint {name} than this host: make them the same."
            )
    return runs
