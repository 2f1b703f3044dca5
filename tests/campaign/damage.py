"""Damage to a file: what disks, transfers, editors and strangers do to it."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1.5, -1e308, float("nan"), float("inf"), "", "x", "\ud800", "nan", [], {}, [[]]),
    *({"a": 1}, "../../x", "9" * 5000, 10**4000, "\0", "x" * 10_000),
)


def truncated(path: Path, random: Random) -> None:
    """Cut the file off."""
    os.truncate(path, random.randrange(path.stat().st_size or 1))


def emptied(path: Path, random: Random) -> None:
    """Leave no byte."""
    path.write_bytes(b"")


def deleted(path: Path, random: Random) -> None:
    """Delete the file."""
    path.unlink()


def flipped(path: Path, random: Random) -> None:
    """Turn the highest bit of a byte, which makes no digit another digit."""
    content = bytearray(path.read_bytes()) or bytearray(b"\0")
    content[random.randrange(len(content))] ^= 0x80
    path.write_bytes(content)


def overwritten(path: Path, random: Random) -> None:
    """Put other bytes in the place of a part of the file, as a lost block does."""
    content, size = path.read_bytes(), random.choice((1, 16, 512))
    at = random.randrange(len(content) + 1)
    path.write_bytes(content[:at] + random.choice((bytes(size), random.randbytes(size))) + content[at + size :])


def folder(path: Path, random: Random) -> None:
    """Put a folder in the file's place."""
    path.unlink()
    path.mkdir()
    (path / "inside").touch()


def pipe(path: Path, random: Random) -> None:
    """Put a pipe without a writer in the file's place."""
    path.unlink()
    os.mkfifo(path)


def loop(path: Path, random: Random) -> None:
    """Put a link to itself in the file's place."""
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path, random: Random) -> None:
    """Put a link to an endless device in the file's place."""
    path.unlink()
    path.symlink_to("/dev/zero")


def foreign(path: Path, random: Random) -> None:
    """Write what belongs to another kind of file."""
    nested = b"[" * 50_000
    path.write_bytes(
        random.choice((b"null", b"[]", b"{}", b"1", b'"x"', b"a,b\n1,2\n", nested, b"PK\x03\x04", b"\x80\x04N."))
    )


def mutated(path: Path, random: Random) -> None:
    """Give a value of a JSON file another type, drop it, or double it; cells of a table likewise."""
    if path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(path.read_text())))
        row = random.choice(rows)
        random.choice(_CELLS)(row, random)
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        return
    content = json.loads(path.read_text())
    where = content
    while isinstance(where, dict | list) and where:
        key: Any = random.choice(list(where) if isinstance(where, dict) else range(len(where)))
        if isinstance(where[key], dict | list) and where[key] and random.random() < 0.8:
            where = where[key]
            continue
        if random.random() < 0.2:
            del where[key]
        else:
            where[key] = random.choice([value for value in VALUES if type(value) is not type(where[key])])
        break
    try:
        path.write_text(json.dumps(content))
    except ValueError:  # a number of more digits than Python writes
        path.write_text(json.dumps(content, default=str).replace("null", "9" * 5000, 1))


_CELLS: tuple[Callable[[list[str], Random], object], ...] = (
    lambda row, random: row.pop(random.randrange(len(row))),
    lambda row, random: row.append("more"),
    lambda row, random: row.__setitem__(random.randrange(len(row)), random.choice(("", "x", "-1e999", "9" * 5000))),
    lambda row, random: row.__setitem__(random.randrange(len(row)), "x" * 200_000),
    lambda row, random: row.clear(),
    lambda row, random: random.shuffle(row),
)
KINDS = (truncated, emptied, deleted, flipped, overwritten, folder, pipe, loop, endless, foreign, mutated)


def damage(path: Path, random: Random) -> str:
    """Damage a file in one way; return which."""
    kinds = [*KINDS, mutated, mutated, truncated] if path.suffix in (".json", ".csv") else KINDS
    kind = random.choice([one for one in kinds if one is not mutated or path.suffix in (".json", ".csv")])
    kind(path, random)
    return kind.__name__


def delete(path: Path) -> None:
    """Delete what is in the place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def restore(path: Path, whole: Path) -> None:
    """Bring a damaged file back from a copy."""
    delete(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(whole, path)
