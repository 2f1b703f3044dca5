"""What Weights & Biases has written offline: the runs of a folder, read back from their logs."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _FILE_HEADER = 32768, 7, 7


@dataclass
class OfflineRun:
    """A run as one session has logged it, with an entry of the history for each step."""

    id: str = ""
    name: str = ""
    group: str = ""
    kind: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, list[str]] = field(default_factory=dict)
    exit_code: int | None = None


def offline_runs(folder: Path) -> list[OfflineRun]:
    """The runs in a study folder in the order in which they began, all of which have ended."""
    deadline = time.monotonic() + 20
    while True:  # the logs are written by a process of their own
        files = sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.parent.stat().st_ctime_ns)
        runs = [_read(file) for file in files]
        if all(run.exit_code is not None for run in runs):
            return runs
        assert time.monotonic() < deadline, [run.name for run in runs if run.exit_code is None]
        time.sleep(0.1)


def _read(file: Path) -> OfflineRun:
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun()
    for content in _records(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(content)
        match record.WhichOneof("record_type"):
            case "run":
                own = record.run
                run.id, run.name, run.group, run.kind = own.run_id, own.display_name, own.run_group, own.job_type
                run.config |= {item.key: json.loads(item.value_json) for item in own.config.update}
            case "history":
                items = ((item.key or item.nested_key[0], json.loads(item.value_json)) for item in record.history.item)
                run.history.append(dict(items))
            case "artifact":
                paths = [entry.path for entry in record.artifact.manifest.contents]
                run.artifacts[record.artifact.type] = paths
            case "request" if record.request.HasField("log_artifact"):
                run.artifacts[record.request.log_artifact.artifact.type] = []
            case "exit":
                run.exit_code = record.exit.exit_code
    return run


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a log, which may be split over blocks of 32 KiB, as LevelDB writes them."""
    place, parts = _FILE_HEADER, b""
    while place + _HEADER <= len(content):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
