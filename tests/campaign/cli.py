"""Command lines from the grammar of the console script itself: every flag, with values that make sense and others."""

import os
from collections.abc import Iterator
from typing import Any

import typer
from hypothesis import strategies as st

from bertgrid_tf import cli
from tests.campaign.case import BRIEF, TRAINING, Case

CASES = 300
SHARED: tuple[str, ...] = ("study",)
TABLE = b"text,label,id\nwhat a day,joy,1\nno,neutral,2\n" + b"".join(
    b"line %d,%s,%d\n" % (n, (b"joy", b"neutral")[n % 2], n) for n in range(3, 40)
)
SENSIBLE = {
    "name": ["sample", "mine", "friends"],
    "folder": ["results/sample"],
    "folders": ["results/sample", "results/sample/"],
    "file": ["table.csv", "-"],
    "data": ["table.csv", "-"],
    "out": ["out.csv", "out/there", "/dev/null", "-"],
    "format_": ["savedmodel", "onnx"],
    "quantize": ["int8"],
    "split": ["dev", "test", "train"],
    "model": ["scratch:1x32", "results/sample/model", "bert-base-cased"],
    "final_model": ["none", "scratch:1x32"],
    "learning_rates": ["1e-3", "1e-3,2e-3"],
    "epochs": ["1", "2"],
    "search": ["grid", "genetic", "surface"],
    "sweep": ["context=current,current+next", "max_length=16,32", "batch_size=8,16", "oversample_ratio=0,1"],
    "set_": ["batch_size=8", "sweep_epochs=1", "max_length=24", "sweeps={}", "precision=auto"],
    "metric": ["macro_f1", "loss", "f1_joy", "micro_f1:joy,neutral"],
    "text_column": ["text"],
    "label_column": ["label"],
    "id_column": ["id"],
    "out_columns": ["Id,Expected"],
    "workers": ["99"],
    "budget": ["1h", "90m"],
    "gpu_memory": ["16GB"],
    "seed": ["3"],
    "max_train_samples": ["40"],
    "n_seeds": ["2"],
    "final_gpus": ["1", "all"],
    "study": ["again"],
    "results": ["results", "elsewhere"],
    "validation_split": ["0.2"],
    "encoding": ["utf-8", "cp949", "utf-16"],
    "quoting": ["minimal", "none"],
    "dialogue_ids": ["unique"],
    "dialogue_column": ["id"],
    "recipe": ["recipe.yaml"],
}
ABSURD = (
    *(
        "",
        " ",
        "-",
        "--",
        "-1",
        "0",
        "1.5",
        "nan",
        "inf",
        "1e999",
        "9" * 5000,
        "99999999999999999999",
        "a=b=c",
        "=",
        ",",
    ),
    *(
        ",,,",
        "none",
        "null",
        "auto",
        "[a",
        "{a: b",
        "[1, [2, {a: 3}]]",
        "!!python/name:os.system",
        "&a [*a]",
        "../../x",
    ),
    *("/dev/zero", "/dev/null", "/proc/self/mem", "/", ".", "~", "table.csv", "*", "%s%n", "$(touch ran)", "é" * 300),
    *("x" * 5000, "two\nlines", "\t", "\x1b[31mred", "\u202eabc", "\udcff", "💥", "max_length=", "model=0", "[b]x[/b]"),
    *("[/]", "epochs=99999999999999999999", "learning_rate=nan", "http://127.0.0.1:9/x", "127.0.0.1:9", "True", "yes"),
)
WORDS = st.one_of(
    st.sampled_from(ABSURD),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    st.integers().map(str),
    st.floats().map(str),
)


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words and the parser of every command."""

    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk((*words, name), inner)
        if not hasattr(command, "commands"):
            yield words, command

    yield from walk((), typer.main.get_command(cli.app))


def run(case: Case) -> None:
    """Run one command line; what it trains is a study of seconds."""
    case.study()
    (case.folder / "table.csv").write_bytes(TABLE)
    (case.folder / "recipe.yaml").write_text("corpus: sample\nepochs: 1\n")
    every = dict(commands())
    words = case.draw(st.sampled_from([*every, ("tune",), ("tune",), ("predict",), ("data", "describe")]))
    trains = words == ("tune",) and case.chance(0.1)
    # What trains must end: absurd values are for what refuses, or only plans.
    line, environment = _arguments(case, every[words], absurd=0.0 if trains else case.random.choice((0.1, 0.5)))
    if words == ("tune",):
        line += ["--data-dir", ".", *BRIEF] if trains else ["--data-dir", ".", "--dry-run"]
    limit = TRAINING if trains else 2 * 30
    codes = (0, 1, 2) if words == ("doctor",) else (0, 2)
    case.bertgrid(*words, *line, limit=limit, environment=environment, stdin=TABLE).check(codes)


def _arguments(case: Case, command: Any, absurd: float) -> tuple[list[str], dict[str, str]]:
    """Draw arguments, most of the required ones and some of the flags, a few of them as environment variables."""
    words: list[str] = []
    environment: dict[str, str] = {}

    def value(name: str) -> str:
        known = SENSIBLE.get(name)
        if known is None or case.chance(absurd):
            return str(case.draw(WORDS)) if absurd else "1"
        return case.random.choice(known)

    for parameter in command.params:
        name = str(parameter.name)
        if parameter.param_type_name == "argument":
            count = case.random.choice((2, 2, 1, 3)) if parameter.nargs == -1 else 0 if case.chance(0.05) else 1
            words += [value(name) for _ in range(count)]
        elif case.chance(0.9 if parameter.required else 3 / len(command.params)):
            given = value(name)
            if case.chance(0.2) and parameter.envvar:
                environment[str(parameter.envvar)] = os.fsdecode(os.fsencode(given))
            else:
                words += [parameter.opts[0]] if parameter.is_flag else [parameter.opts[0], given]
    return words, environment
