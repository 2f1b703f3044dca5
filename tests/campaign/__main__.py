"""`python -m tests.campaign`: run the series, and print a table of what they found."""

import argparse
import gc
import hashlib
import importlib
import json
import os
import pkgutil
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
SERIES = (*("kills", "signals", "disk", "corrupt", "cli", "recipes", "corpora", "checkpoints", "workers", "downloads"),)
COLUMNS = ("difference", "traceback", "hang", "other")
# Before anything is imported that reads them: no hub, no proxy that answers, one line of TensorFlow's fewer.
ALONE = {
    **dict.fromkeys(("HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1"),
    **{"HF_HUB_DISABLE_XET": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1", "MPLBACKEND": "agg"},
    **{"COLUMNS": "120", "PYTHONHASHSEED": "0", "PYTHONWARNINGS": ""},
}


def main() -> int:
    """Run the campaign, or one case of it; the exit code is 1 where a case did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="start no case after this time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=lambda text: text.split(","), default=SERIES, help="series, by commas")
    parser.add_argument("--cases", type=int, default=10**9, help="run no more than the first CASES of each series")
    parser.add_argument("--dir", type=Path, default=ROOT / "build" / "campaign", help="folder of the outcomes")
    parser.add_argument("--case", help="SERIES:NUMBER:SEED: run this case alone, and keep its folder")
    asked = parser.parse_args()
    if unknown := set(asked.only) - set(SERIES):
        parser.error(f"there is no series {', '.join(sorted(unknown))}; choose from {', '.join(SERIES)}")
    # In the background of a shell SIGINT is ignored, and then by the commands of the cases too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _import_everything()
    from tests.campaign.case import Case, run
    from tests.campaign.shared import share

    folder = asked.dir.absolute() / _fingerprint()
    wanted = [asked.case.split(":")[0]] if asked.case else asked.only
    series = {name: importlib.import_module(f"tests.campaign.{name}") for name in wanted}
    shared = share(folder, sorted({part for one in series.values() for part in one.SHARED}))

    def outcome_of(name: str, number: int, seed: int) -> dict[str, Any]:
        case = Case(name, number, seed, folder / f"{name}-{number}-{seed}", shared)
        shutil.rmtree(case.folder, ignore_errors=True)
        case.folder.mkdir(parents=True)
        began = time.monotonic()
        outcome = run(series[name], case)
        if outcome["kind"] is None and not asked.case:
            shutil.rmtree(case.folder, ignore_errors=True)
        seconds = round(time.monotonic() - began, 2)
        return {"series": name, "number": number, "seed": seed, **outcome, "seconds": seconds}

    if asked.case:
        name, number, seed = asked.case.split(":")
        outcome = outcome_of(name, int(number), int(seed))
        print(outcome["text"] or "It held.", outcome["seconds"], "s")
        return int(outcome["kind"] is not None)
    outcomes_file = folder / f"outcomes-{asked.seed}.jsonl"
    held = {(one["series"], one["number"]) for one in _outcomes(outcomes_file) if one["kind"] is None}
    deadline = time.monotonic() + 60 * asked.minutes
    for name, number in _in_turn(asked.only, series, asked.cases):
        if time.monotonic() >= deadline:
            break
        if (name, number) in held:
            continue
        outcome = outcome_of(name, number, asked.seed)
        with outcomes_file.open("a") as file:
            file.write(json.dumps(outcome) + "\n")
        if outcome["kind"]:
            print(f"{outcome['kind']}: python -m tests.campaign --case {name}:{number}:{asked.seed}")
            print(outcome["text"].strip()[-2000:] + "\n", flush=True)
    return _print_table([one for one in _outcomes(outcomes_file) if one["series"] in asked.only])


def _import_everything() -> None:
    """Import every module of the product, that cases need not; nothing of it may compute before they fork."""
    os.environ.update(ALONE)
    for name in [name for name in os.environ if name.startswith("BERTGRID_")]:
        del os.environ[name]
    import bertgrid_tf
    import tuners

    for package in (bertgrid_tf, tuners):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in ("bertgrid_tf.__main__", "tuners.ray_pool"):
                importlib.import_module(module.name)
    gc.freeze()  # so that no fork looks through what is imported, and so copies it


def _fingerprint() -> str:
    """Return a hash of the product and the campaign: outcomes of other sources do not count."""
    files = [path for part in ("bertgrid_tf", "tuners", "tests/campaign") for path in (ROOT / part).rglob("*.*")]
    texts = [path.read_bytes() for path in sorted(files) if path.suffix in (".py", ".yaml", ".j2")]
    return hashlib.sha256(b"".join(texts)).hexdigest()[:12]


def _in_turn(names: list[str], series: dict[str, ModuleType], most: int) -> Iterator[tuple[str, int]]:
    """Yield every case's series and number, so that a campaign cut short has had its share of each series."""
    counts = {name: series[name].CASES for name in names}
    cases = [((number + 0.5) / count, name, number) for name, count in counts.items() for number in range(count)]
    yield from ((name, number) for _, name, number in sorted(cases) if number < most)


def _outcomes(file: Path) -> list[dict[str, Any]]:
    """Return the last outcome of every case."""
    lines = file.read_text().splitlines() if file.exists() else []
    return list({(one["series"], one["number"]): one for one in map(json.loads, lines)}.values())


def _print_table(outcomes: list[dict[str, Any]]) -> int:
    rows = []
    for name in SERIES:
        own = [one for one in outcomes if one["series"] == name]
        if own:
            failed = [sum(one["kind"] == kind for one in own) for kind in COLUMNS]
            rows.append([name, sum(one["size"] for one in own), *failed, round(sum(one["seconds"] for one in own))])
    rows.append(["in all", *(sum(row[column] for row in rows) for column in range(1, 7))])
    print("| series | cases | differences | tracebacks | hangs | other | seconds |\n|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    return int(any(one["kind"] for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
