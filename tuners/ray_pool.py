"""A pool of Ray actors, on one host or many: `pip install bertgrid-tf[ray]`."""

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import Self

from tuners.errors import TunerError
from tuners.pool import Report, epochs, next_epoch
from tuners.space import Value

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Hides a notice about workers without a GPU.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A pool reports lost workers itself; Ray's own paragraphs on them would break a terminal's progress bars.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

import ray
from ray._private import ray_constants
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.exceptions import ActorUnavailableError, RayActorError, RayTaskError, WorkerCrashedError

MAX_LOSSES = 3
"""Losses of the worker within one epoch after which a trial counts as failed."""
OBJECT_STORE_BYTES = 100 << 20
"""Size of Ray's object store: metrics and the texts of a corpus pass through it, no weights."""
CONNECT_SECONDS = 5.0
MAX_STARTS = 3
"""Starts of Ray on this host, each of which it gives half a minute, before a busy host counts as unable to."""
LOOPBACK = "127.0.0.1"
_FOLDER = "TUNERS_RAY_FOLDER"
# Ray's agents go on for a minute after a driver that was killed, and its folder stays for ever.
# Ray's agents write their titles over their environment, but have their logs open, as has the driver, the parent of
# this shell. A process that is forked while others are listed is found the next time.
_SWEEP = f"""\
read _
for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=$(for process in /proc/[0-9]*; do
        [ "$process" = "/proc/$PPID" ] && continue
        if grep -qsF "{_FOLDER}=$0" "$process/environ" || ls -l "$process/fd" 2>&1 | grep -qF " $0/"; then
            echo "${{process#/proc/}}"
        fi
    done)
    [ "$left" ] || break
    kill -9 $left
    sleep 0.2
done
rm -rf "$0"
"""
# A worker that writes to the driver's terminal would break its progress bars.
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}


class Share(NamedTuple):
    """Ray's CPUs and GPUs of one worker."""

    cpus: int
    gpus: int


@dataclass
class _ActiveTrial:
    """A trial that has not ended."""

    name: str
    hyperparameters: dict[str, Value]
    folder: str
    begun: bool = False
    epoch: int = 0
    furthest: int = 0
    losses: int = 0


@dataclass(eq=False)
class _Worker:
    """An actor and its trial."""

    actor: Any
    host: str = ""
    trial: _ActiveTrial | None = None


class RayPool:
    """A `Pool` of Ray actors, to be used as a context manager inside `cluster`.

    Each worker makes its trainable once, with `make_trainable`. A worker that dies, with its process or its host, is
    replaced where there is room, and its trial is restarted on the next free worker from the state saved in its folder,
    so every host must see the study's folder under the same path. A trial that loses its worker three times within one
    epoch counts as failed.

    Example:
        >>> import tempfile
        >>> from tuners import CasualGridOracle
        >>> from tuners.parallel import ParallelSearch
        >>> def make_trainable():
        ...     def train(hyperparameters, folder):
        ...         for epoch in range(1, hyperparameters["stop_epoch"] + 1):
        ...             yield {"val_accuracy": 0.5 + epoch * hyperparameters["learning_rate"]}
        ...     return train
        >>> oracle = CasualGridOracle("val_accuracy", learning_rates=[0.01, 0.02], epochs=3)
        >>> oracle.verbose = 0
        >>> with cluster() as hosts, RayPool(make_trainable, size=1, share=shares(hosts, workers=1)) as pool:
        ...     ParallelSearch(pool, oracle, directory=tempfile.mkdtemp(), project_name="toy").search()
        >>> oracle.best().learning_rate
        0.02

    Args:
        make_trainable: Makes a worker's `Trainable`, in the worker; pickled with cloudpickle. An exception that it
            raises ends the search.
        size: Workers.
        share: CPUs and GPUs of each worker, as `shares` divides them.
        on_worker_begin: Called with a worker's host when it is ready.
        on_worker_lost: Called with the trial's name (None without one) and the worker's host when a worker is lost.
    """

    def __init__(
        self,
        make_trainable: Callable[[], Any],
        size: int,
        share: Share,
        on_worker_begin: Callable[[str], None] = lambda host: None,
        on_worker_lost: Callable[[str | None, str], None] = lambda name, host: None,
    ) -> None:
        self.size = size
        self._share = share
        self._make_trainable = make_trainable
        self._on_worker_begin = on_worker_begin
        self._on_worker_lost = on_worker_lost
        self._workers: list[_Worker] = []
        self._calls: dict[Any, _Worker] = {}
        self._busy: dict[str, _Worker] = {}
        self._free: list[_Worker] = []
        self._waiting: deque[_ActiveTrial] = deque()
        self._failed_starts = 0

    def __enter__(self) -> Self:
        # Once into the object store, instead of with every worker.
        self._maker = ray.put(self._make_trainable)
        # The default strategy would fill one host before it takes the next.
        self._actor = ray.remote(
            num_cpus=self._share.cpus, num_gpus=self._share.gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )(TrialActor)
        for _ in range(self.size):
            self._start_worker()
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            ray.kill(worker.actor)

    def start(self, name: str, hyperparameters: Mapping[str, Value], folder: Path) -> None:
        """See `Pool`."""
        self._waiting.append(_ActiveTrial(name, dict(hyperparameters), str(folder.absolute())))
        self._assign()

    def advance(self, name: str) -> None:
        """See `Pool`."""
        worker = self._busy[name]
        self._calls[worker.actor.advance.remote()] = worker

    def stop(self, name: str) -> None:
        """See `Pool`."""
        self._release(name).actor.close.remote()
        self._assign()

    def wait(self) -> Report:
        """See `Pool`."""
        while True:
            [call], _ = ray.wait(list(self._calls), num_returns=1)
            worker = self._calls.pop(call)
            try:
                result = ray.get(call)
            except (RayActorError, WorkerCrashedError) as error:
                report = self._replace(worker, error)
            except RayTaskError as error:
                raise error.cause from error
            else:
                report = self._take(worker, result)
            self._assign()
            if report is not None:
                return report

    def _start_worker(self) -> None:
        worker = _Worker(self._actor.remote())
        self._workers.append(worker)
        self._calls[worker.actor.prepare.remote(self._maker)] = worker

    def _assign(self) -> None:
        while self._free and self._waiting:
            worker, trial = self._free.pop(), self._waiting.popleft()
            worker.trial, self._busy[trial.name] = trial, worker
            trial.begun, trial.epoch = False, 0
            self._calls[worker.actor.begin.remote(trial.hyperparameters, trial.folder)] = worker

    def _release(self, name: str) -> _Worker:
        worker = self._busy.pop(name)
        worker.trial = None
        self._free.append(worker)
        return worker

    def _take(self, worker: _Worker, result: Any) -> Report | None:
        """Take the result of a call: the worker is ready, its trial has begun, or an epoch of it has ended."""
        trial = worker.trial
        if trial is None:
            worker.host, self._failed_starts = result, 0
            self._free.append(worker)
            self._on_worker_begin(worker.host)
            return None
        if not trial.begun:
            trial.begun = True
            self.advance(trial.name)
            return None
        metrics, failure = result
        if metrics is None:
            self._release(trial.name)
            return Report(trial.name, trial.epoch, None, failure)
        trial.epoch += 1
        if trial.epoch > trial.furthest:
            trial.furthest, trial.losses = trial.epoch, 0
        return Report(trial.name, trial.epoch, metrics)

    def _replace(self, worker: _Worker, error: Exception) -> Report | None:
        """Replace a dead worker and requeue its trial; a report where the trial has failed."""
        self._workers.remove(worker)
        if isinstance(error, ActorUnavailableError):
            # It may be alive behind a broken network: nobody else may write into the trial's folder.
            ray.kill(worker.actor)
        trial = worker.trial
        self._on_worker_lost(trial.name if trial else None, worker.host)
        if trial is None:
            self._failed_starts += 1
            if self._failed_starts == MAX_LOSSES:
                raise TunerError(f"workers die as they start, the last one of: {_reason(error)}") from error
        self._start_worker()
        if trial is None:
            return None
        del self._busy[trial.name]
        # A trial is not to blame for a worker that was dead before the trial began on it.
        trial.losses += trial.begun
        if trial.losses == MAX_LOSSES:
            failure = f"it lost its worker {MAX_LOSSES} times in epoch {trial.furthest + 1}, last of: {_reason(error)}"
            return Report(trial.name, trial.furthest, None, failure)
        self._waiting.appendleft(trial)
        return None


class TrialActor:
    """The actor: makes its trainable once, then trains one trial after another."""

    def prepare(self, make_trainable: Callable[[], Any]) -> str:
        """Make the trainable; returns the host's name."""
        self._trainable = make_trainable()
        return socket.gethostname()

    def begin(self, hyperparameters: dict[str, Value], folder: str) -> None:
        """Begin a trial; returning shows that the worker is alive."""
        self._epochs = epochs(self._trainable, hyperparameters, Path(folder))

    def advance(self) -> tuple[dict[str, float] | None, str | None]:
        """Train the next epoch, as `next_epoch` does."""
        return next_epoch(self._epochs)

    def close(self) -> None:
        """End the trial."""
        self._epochs.close()


@contextmanager
def cluster(address: str | None = None) -> Iterator[list[Share]]:
    """Connect to Ray for as long as the block runs; yields the CPUs and GPUs of each host.

    Args:
        address: Address of a running cluster that this host has joined, HOST:PORT or "auto"; None starts one on this
            host alone, which ends with the block.

    Raises:
        TunerError: No cluster answers at the address, its Ray or Python is of another version, or none can be started.
    """
    if address is not None and address != "auto":
        _check_answers(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with nullcontext() if address else _swept_folder() as folder:
        if folder is None:
            _join(address)
        else:
            _start_on_this_host(folder)
        # Ray replaces the handlers that end a search cleanly.
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
        try:
            resources = [node["Resources"] for node in worker_nodes()]
            yield [Share(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in resources]
        finally:
            ray.shutdown()


def _join(address: str | None) -> None:
    try:
        ray.init(address, **_QUIET)
    except Exception as error:  # Of a start that took too long, Ray raises nothing narrower.
        ray.shutdown()
        raise TunerError(
            f"the Ray cluster {address} cannot be joined ({_reason(error)}): start one with `ray start --head`, join "
            "it on this host with `ray start --address HOST:PORT`, and name the same address"
        ) from error


@contextmanager
def _swept_folder() -> Iterator[str]:
    """Make a private folder, and sweep up it and the processes of its Ray, however this process ends."""
    sweeper = ["sh", "-c", _SWEEP]
    with (
        _private_folder() as folder,
        # A session of its own, which the signals of a terminal do not reach; it reads to this process's end.
        subprocess.Popen([*sweeper, folder], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True),
    ):
        os.environ[_FOLDER] = folder  # of all processes that are started from here on
        try:
            yield folder
        finally:
            os.environ.pop(_FOLDER, None)


def _private_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that only this user can enter: Ray's own in /tmp, with its sockets, can be written by all."""
    place = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    try:
        return tempfile.TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        raise TunerError(
            f"Ray's sockets and logs cannot be kept in {place} ({_reason(error)}): set RAY_TMPDIR to another folder"
        ) from error


def _start_on_this_host(folder: str) -> None:
    """Start Ray where this host's processes alone can reach it, and of those the ones with this user's token.

    Args:
        folder: Where Ray keeps its sockets and logs.

    Raises:
        TunerError: Ray does not start.
    """
    _keep_token_private()
    for attempt in range(1, MAX_STARTS + 1):
        several_hosts = ray_constants.ENABLE_RAY_CLUSTER
        # Where a cluster cannot have several hosts, as on Windows, Ray binds its ports to the loopback address.
        ray_constants.ENABLE_RAY_CLUSTER = False
        try:
            ray.init(
                "local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=f"{folder}/ray",  # to which Ray gives all permissions
                **_QUIET,
            )
            break
        except Exception as error:
            ray.shutdown()
            if attempt == MAX_STARTS or not (isinstance(error, TimeoutError) or "timed out" in str(error)):
                raise TunerError(
                    f"Ray does not start on this host ({_reason(error)}): run the same command again when the host is "
                    "less busy, or without workers"
                ) from error
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = several_hosts
    [node] = ray.nodes()
    if node["NodeManagerAddress"] != LOOPBACK:
        warnings.warn(f"This Ray listens on {node['NodeManagerAddress']} and not on {LOOPBACK} alone.", stacklevel=4)


def _keep_token_private() -> None:
    """Have Ray demand a token, in a file that only this user can read; Ray's own would be readable by all.

    Raises:
        TunerError: The file cannot be written.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    Config.initialize("")  # reads the environment anew
    if os.environ["RAY_AUTH_MODE"] != "token" or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        return
    file = Path("~/.ray/auth_token")
    try:
        file = file.expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            descriptor, part = tempfile.mkstemp(dir=file.parent)
            os.write(descriptor, secrets.token_hex(32).encode())
            os.close(descriptor)
            with suppress(FileExistsError):  # Another study was faster.
                os.link(part, file)
            Path(part).unlink()
        file.chmod(0o600)
    except (OSError, RuntimeError) as error:
        raise TunerError(
            f"Ray's token cannot be kept in {file} ({_reason(error)}): set HOME to a folder that can be written"
        ) from error


def worker_nodes() -> list[dict[str, Any]]:
    """Get Ray's nodes that are alive and have a CPU or a GPU for a worker."""
    return [node for node in ray.nodes() if node["Alive"] and {"CPU", "GPU"} & set(node["Resources"])]


def shares(hosts: Sequence[Share], workers: int, gpus: int = 1) -> Share:
    """Divide hosts among workers: `gpus` GPUs each where the hosts have any, else an equal share of the CPU cores.

    Raises:
        TunerError: The hosts have no room for that many workers.

    Example:
        >>> shares([Share(cpus=8, gpus=0), Share(cpus=4, gpus=0)], workers=3)
        Share(cpus=4, gpus=0)
    """
    if workers < 1:
        raise TunerError(f"{workers} workers cannot carry a search: give at least 1")
    on = "this host" if len(hosts) == 1 else f"the cluster's {len(hosts)} hosts"
    if sum(host.gpus for host in hosts):
        most = sum(host.gpus // gpus for host in hosts)
        if workers > most:
            each = "" if gpus == 1 else f" of {gpus} GPUs each"
            total = sum(host.gpus for host in hosts)
            raise TunerError(
                f"{workers} workers{each} are more than the {total} GPUs of {on} can carry: give at most {most}"
            )
        return Share(0, gpus)
    cores = sum(host.cpus for host in hosts)
    for share in range(max((host.cpus for host in hosts), default=0), 0, -1):
        if sum(host.cpus // share for host in hosts) >= workers:
            return Share(share, 0)
    raise TunerError(f"{workers} workers are more than the {cores} CPU cores of {on}: give at most {cores}")


def _check_answers(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise TunerError(f"{address!r} is no address of a Ray cluster: give HOST:PORT, or auto on one of its hosts")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise TunerError(
            f"no Ray cluster answers at {address} ({_reason(error)}): "
            f"is `ray start --head --port {port}` running there?"
        ) from error


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".:") if text else type(error).__name__
