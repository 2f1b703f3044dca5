"""A seeded sample of small faults in the heart of the code, and which of them the tests notice.

python -m tests.mutants --sample 300 --seed 1

mutmut's operators put one fault at a time into a copy of this tree. The tests that execute the faulty function run, the
fastest first, until one fails, in a process forked from one that has imported the libraries. A run that was stopped
goes on; after a change of the tests only the survivors are tried again (`build/mutants`, to be deleted for a new
measurement). Exit code 1 if less than 90 % are noticed.
"""

import argparse
import ast
import compileall
import difflib
import hashlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

import coverage
import libcst as cst
import pytest
import yaml
from hypothesis import Phase, settings
from libcst.metadata import MetadataWrapper
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "mutants"
TREE = FOLDER / "tree"
HEART = """tuners/**/*.py bertgrid_tf/bert/trainer.py bertgrid_tf/bert/unpadded.py bertgrid_tf/bert/optimizer.py
    bertgrid_tf/bert/batches.py bertgrid_tf/metrics/classification.py bertgrid_tf/metrics/compare.py
    bertgrid_tf/metrics/calibration.py bertgrid_tf/metrics/correction.py bertgrid_tf/metrics/adjustment.py
    bertgrid_tf/analysis/*.py
    bertgrid_tf/inference/*.py bertgrid_tf/corpus/layout.py bertgrid_tf/corpus/split.py bertgrid_tf/corpus/balance.py
    bertgrid_tf/budget/*.py"""
LIBRARIES = """tensorflow transformers.models.bert.modeling_tf_bert transformers.models.auto tf_keras keras_tuner pandas
    scipy.stats scipy.optimize sklearn.metrics imblearn.over_sampling matplotlib.pyplot typer.testing pydantic requests
    safetensors.numpy tokenizers jinja2 pooch hypothesis.strategies"""
SETTINGS = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "USE_TORCH": "0", "PYTHONPATH": str(TREE)}
# Tests that take long and execute little of the heart in their own process count for the file of their name alone.
LONG = """test_checkpoint_files test_chief test_device test_families test_roofline test_keras_trainable test_probe
    test_promises test_ray_hosts test_ray_pool test_replicas"""
MOST_SECONDS = 20.0  # CPU seconds of the tests for one fault, but for the first of them


def heart() -> list[Path]:
    """List the files of the copied tree that get faults."""
    return sorted(file for pattern in HEART.split() for file in TREE.glob(pattern) if file.stem != "__init__")


def digest(*contents: bytes) -> str:
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:12]


def places(file: Path) -> Iterator[tuple[Path, cst.Module, cst.CSTNode, list[cst.CSTNode]]]:
    """List a file's nodes with what may stand in their place.

    Left out are texts for people, and None in the place of a value, which mostly ends in an exception.
    """
    visitor = MutationVisitor(mutation_operators, IgnoredCode(set(), set(), set()))
    module = MetadataWrapper(cst.parse_module(file.read_text(encoding="utf-8"))).visit(visitor)
    others: dict[int, tuple[cst.CSTNode, list[cst.CSTNode]]] = {}
    for mutation in visitor.mutations:
        node, other = mutation.original_node, mutation.mutated_node
        call = isinstance(node, cst.Call) and isinstance(other, cst.Call) and node.func is other.func
        none = isinstance(node, cst.Assign | cst.AnnAssign | cst.Lambda) or (call and len(node.args) == len(other.args))
        if not none and not (isinstance(node, cst.SimpleString) and re.search(r"\w \w", node.value)):
            others.setdefault(id(node), (node, []))[1].append(other)
    return ((file, module, *pair) for pair in others.values())


def sample(size: int, seed: int) -> Iterator[dict[str, Any]]:
    """Draw faults at `size` places, each place as likely as any other."""
    everywhere, generator = [place for file in heart() for place in places(file)], random.Random(seed)
    for file, module, node, others in generator.sample(everywhere, min(size, len(everywhere))):
        text = module.deep_replace(node, generator.choice(others)).code
        changes = [*difflib.unified_diff(module.code.splitlines(), text.splitlines(), lineterm="", n=0)][2:]
        was, becomes = (" ".join(line[1:].strip() for line in changes if line[0] == sign) for sign in "-+")
        name, line = str(file.relative_to(TREE)), int(re.findall(r"\d+", changes[0])[0])
        key = digest(name.encode(), text.encode())
        yield {"key": key, "file": name, "line": line, "was": was, "becomes": becomes, "text": text}


def in_fork(function: Callable[[], int], seconds: float) -> int | None:
    """Return the exit code of a function in a forked process; None beyond its CPU seconds, or thrice by the clock."""
    child = os.fork()
    if not child:
        code = 70
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), resource.RLIM_INFINITY))
            output = os.open(FOLDER / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(TREE)
            sys.path[:] = [str(TREE), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
            code = function()
        finally:
            os._exit(code)
    end, status = time.monotonic() + 3 * seconds, None
    try:
        while status is None and time.monotonic() < end:
            time.sleep(0.02)
            ended, found = os.waitpid(child, os.WNOHANG)
            status = found if ended else None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests have left running, too
    if status is None:
        os.waitpid(child, 0)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return None if code == -signal.SIGXCPU else code


def run_tests(files: list[str], plugin: Any, *options: str) -> int:
    quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", "--tb=line"]
    return int(pytest.main([*quiet, *options, *files], plugins=[plugin]))


class Recorder:
    """A pytest plugin that records which lines of some files each test executes, and its CPU seconds."""

    def __init__(self, files: list[Path]) -> None:
        self.coverage = coverage.Coverage(data_file=None, include=[str(file) for file in files], config_file=False)
        self.coverage.start()
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.contexts: dict[str, list[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.contexts[item.nodeid] = [item.nodeid, *(f"fixture {name}" for name in getattr(item, "fixturenames", ()))]
        self.coverage.switch_context(item.nodeid)
        began = sum(os.times()[:4])
        result = yield
        self.seconds[item.nodeid] = sum(os.times()[:4]) - began
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        # What a shared fixture executes belongs to every test that has it, not to the first one alone.
        if fixturedef.scope != "function":
            self.coverage.switch_context(f"fixture {fixturedef.argname}")
        result = yield
        self.coverage.switch_context(request._pyfuncitem.nodeid)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= set() if report.passed else {report.nodeid}

    def tests(self) -> dict[str, Any]:
        """Return the tests that passed, each with its seconds and the lines that it executes by file."""
        self.coverage.stop()
        data = self.coverage.get_data()
        of_context: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for file in data.measured_files():
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in contexts:
                    of_context[context][str(Path(file).relative_to(TREE))].add(line)
        tests: dict[str, Any] = {}
        for test in sorted(self.contexts.keys() - self.failed):
            executed = [of_context[context] for context in self.contexts[test] if context in of_context]
            lines = {file: sorted(set().union(*(part[file] for part in executed))) for file in {*chain(*executed)}}
            tests[test] = {"seconds": self.seconds[test], "lines": lines}
        return tests


class Chosen:
    """A pytest plugin that runs the given tests alone, in the given order."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {test: number for number, test in enumerate(tests)}

    def pytest_collection(self) -> None:
        # Any failing example will do: it need not be a small one.
        profile = {"phases": (Phase.explicit, Phase.generate), "database": None}
        settings.register_profile("mutants", settings.get_profile("bertgrid"), **profile)
        settings.load_profile("mutants")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda item: self.order[item.nodeid])


def baseline(module: Path) -> dict[str, Any]:
    """Return the tests of a test module, as recorded without a fault."""
    name, files = str(module.relative_to(TREE)), [file for file in heart() if module.parent.name in file.parts]
    kept = FOLDER / f"{name.replace('/', '.')}-{digest(*(file.read_bytes() for file in [*files, module]))}.json"

    def record() -> int:
        recorder = Recorder(files)
        code = run_tests([name], recorder)
        kept.write_text(json.dumps(recorder.tests()))
        return code

    if not kept.exists() and in_fork(record, 900) not in (0, pytest.ExitCode.NO_TESTS_COLLECTED):
        print(f"{name} fails without a fault: what fails of it is left out.", flush=True)
    if not kept.exists():
        kept.write_text("{}")
    return json.loads(kept.read_text())


def related(fault: dict[str, Any], tests: dict[str, Any]) -> list[str]:
    """Choose the tests that execute the faulty line or else its function or file, those of one module together."""
    file, line = fault["file"], fault["line"]
    functions = [
        range(node.body[0].lineno, (node.end_lineno or 0) + 1)
        for node in ast.walk(ast.parse((TREE / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    body = max(functions, key=lambda lines: lines.start, default=range(0))
    executed = {name: set(test["lines"].get(file, ())) for name, test in tests.items()}
    # Of a statement of several lines, not every line counts as executed.
    anchor = max((seen for lines in executed.values() for seen in lines if seen in body and seen <= line), default=0)
    rank = {name: 0 if anchor in lines else 1 if lines & {*body} else 2 for name, lines in executed.items() if lines}
    highest = 1 if min(rank.values(), default=2) < 2 else 2
    cost: dict[tuple[int, str], float] = defaultdict(float)
    for name, number in rank.items():
        cost[number, name.split("::")[0]] += tests[name]["seconds"]

    def order(name: str) -> tuple[Any, ...]:
        module = name.split("::")[0]
        return rank[name], cost[rank[name], module], module, tests[name]["seconds"]

    chosen, total = [], 0.0
    for name in sorted((name for name, number in rank.items() if number <= highest), key=order):
        total += tests[name]["seconds"]
        if not chosen or total <= MOST_SECONDS:
            chosen.append(name)
    return chosen


def outcome(fault: dict[str, Any], tests: dict[str, Any]) -> str:
    """Return `noticed`, `time limit` (noticed as well), `survived` or `no test`."""
    # A test of the file's own module that is not seen to execute it may do so in a process of its own.
    own = f"/test_{Path(fault['file']).stem}.py::"
    faulty, names = TREE / fault["file"], related(fault, tests)
    names += [name for name, test in tests.items() if own in name and fault["file"] not in test["lines"]]
    if not names:
        return "no test"
    original = faulty.read_text(encoding="utf-8")
    faulty.write_text(fault["text"], encoding="utf-8")
    modules = list(dict.fromkeys(name.split("::")[0] for name in names))
    seconds = 3 * sum(tests[name]["seconds"] for name in names) + 10
    code = in_fork(lambda: run_tests(modules, Chosen(names), "-x"), seconds)
    faulty.write_text(original, encoding="utf-8")
    return "time limit" if code is None else "noticed" if code else "survived"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=300, help="number of faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--only", default="", help="a part of the names of the files whose faults of the sample are put in"
    )
    arguments = parser.parse_args()
    shutil.rmtree(TREE, ignore_errors=True)
    shutil.copytree(ROOT, TREE, ignore=shutil.ignore_patterns(".*", "build", "results", "site", "__pycache__"))
    # Checked by contents: a fault may leave the size of a file and the second of its change as they were.
    compileall.compile_dir(TREE, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    os.environ.update(SETTINGS)
    for library in LIBRARIES.split():
        importlib.import_module(library)
    kept = FOLDER / "outcomes.jsonl"
    known = {line["key"]: line for line in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    reviewed = yaml.safe_load((TREE / "tests" / "survivors.yaml").read_text(encoding="utf-8")) or []
    words = {(entry["file"], entry["was"], entry["becomes"]): entry["word"] for entry in reviewed}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for fault in sample(arguments.sample, arguments.seed):
        if arguments.only not in fault["file"]:
            continue
        room = next(part for part in Path(fault["file"]).parts if part != "bertgrid_tf")
        own = f"test_{Path(fault['file']).stem}"
        modules = [
            file
            for file in sorted((TREE / "tests" / room).glob("test_*.py"))
            if file.stem == own or file.stem not in LONG.split()
        ]
        state = digest(*(module.read_bytes() for module in modules))
        last = known.get(fault["key"])
        if not last or (last["outcome"] in ("survived", "no test") and last["state"] != state):
            tests, began = (
                {name: test for module in modules for name, test in baseline(module).items()},
                time.monotonic(),
            )
            last = {**fault, "outcome": outcome(fault, tests), "state": state}
            del last["text"]
            with kept.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(last) + "\n")
            print(
                f"{time.monotonic() - began:5.1f} s  {last['outcome']:10}  {fault['file']}:{fault['line']}", flush=True
            )
            if last["outcome"] in ("survived", "no test"):
                print(f"    {fault['was']}\n  ▶ {fault['becomes']}", flush=True)
        counts[room][last["outcome"]] += 1
        if last["outcome"] in ("survived", "no test"):
            word = words.get((fault["file"], fault["was"], fault["becomes"]), "to be reviewed")
            survivors.append("| {file}:{line} | `{was}` | `{becomes}` |".format(**fault) + f" {word} |")
    total = sum(counts.values(), Counter())
    print("\n| room | faults | noticed | of these by the time limit |\n|---|---|---|---|")
    for room, count in [*sorted(counts.items()), ("all", total)]:
        noticed = count["noticed"] + count["time limit"]
        print(f"| {room} | {count.total()} | {noticed} ({noticed / count.total():.0%}) | {count['time limit']} |")
    print("\n| where | what it was | what it became | word |\n|---|---|---|---|", *sorted(survivors), sep="\n")
    return int(total["noticed"] + total["time limit"] < 0.9 * total.total())


if __name__ == "__main__":
    sys.exit(main())
