"""Tables of every format: texts, labels and ids of any letters, and files that another program has spoilt."""

import csv
import gzip
import io
import json
from typing import Any

from hypothesis import strategies as st

from bertgrid_tf.corpus import Columns, Corpus, load_table
from bertgrid_tf.corpus.files import open_table
from bertgrid_tf.errors import UserError
from tests.campaign.case import BRIEF, LIMIT, TRAINING, Case, CaseError

CASES = 300
SHARED: tuple[str, ...] = ("study",)
HEADER = ("text", "label", "dialogue", "speaker", "split")
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TEXTS = st.one_of(
    ANY,
    st.text(
        st.sampled_from("\"',;\t\n\r\\=#\0\u2028\ufeff\u0085\u200b[]💥é한") | st.characters(codec="ascii"), max_size=20
    ),
    st.sampled_from(["", " ", "nan", "NULL", '"', '""', "a\r\nb", "=1+1", "[CLS]", "[None]", "\ufeff", "x" * 200_000]),
)
LABELS = st.one_of(
    st.sampled_from(["joy", "neutral", "anger"]),
    st.sampled_from(
        ["", " joy", "Joy", "joy\u200b", "nan", "1", "1.0", "01", "-", "a,b", "p_x", "label", "../x", "<b>"]
    ),
    ANY,
)
ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "cp949", "latin-1", "utf-16-le", "utf-32")
FORMATS = ("csv", "tsv", "jsonl", "csv.gz", "parquet", "xlsx")
FLAGS = (
    *([], ["--strict"], ["--normalize-labels"], ["--yes-these-are-classes"], ["--quoting", "none"], ["--no-header"]),
    *(["--dialogue-column", "dialogue"], ["--dialogue-column", "dialogue", "--dialogue-ids", "consecutive"]),
    *(["--speaker-column", "speaker"], ["--split-column", "split"], ["--encoding", "cp949"], ["--quoting", "minimal"]),
    *(["--dialogue-column", "dialogue", "--order-column", "speaker"], ["--max-train-samples", "5"]),
)


@st.composite
def rows(draw: st.DrawFn) -> list[list[str]]:
    """Draw the rows of a table: one odd column at a time, else plain ones."""
    count = draw(st.sampled_from([0, 1, 2, 8, 30, 30, 30]))
    odd = draw(st.sampled_from(["text", "label", "all", "none"]))
    plain = [
        [f"line {n} of {n % 7}", ("joy", "neutral")[n % 2], f"d{n // 4}", "AB"[n % 2], ("train", "dev", "test")[n % 3]]
        for n in range(count)
    ]
    for row in plain:
        if odd in ("text", "all"):
            row[0] = draw(TEXTS)
        if odd in ("label", "all") and draw(st.booleans()):
            row[1] = draw(LABELS)
        if odd == "all":
            row[2:] = [draw(ANY), draw(ANY), draw(st.sampled_from(["train", "dev", "TEST", "valid", "", "x"]))]
    return plain


def content(kind: str, table: list[list[str]], encoding: str = "utf-8", quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    """Return a table as a file of this kind."""
    if kind in ("parquet", "xlsx"):
        import pandas as pd

        file = io.BytesIO()
        frame = pd.DataFrame(table, columns=list(HEADER))
        frame.to_parquet(file) if kind == "parquet" else frame.to_excel(file, index=False)
        return file.getvalue()
    if kind == "jsonl":
        lines = (json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in table)
        return "".join(lines).encode(encoding, "replace")
    out = io.StringIO()
    delimiter = "\t" if kind == "tsv" else ","
    escape = "\\" if quoting == csv.QUOTE_NONE else None  # quotes need none, and Python would double backslashes too
    csv.writer(out, delimiter=delimiter, quoting=quoting, escapechar=escape).writerows([HEADER, *table])  # type: ignore[arg-type]
    text = out.getvalue().encode(encoding, "replace")
    return gzip.compress(text, mtime=0) if kind == "csv.gz" else text


def spoilt(case: Case, file: bytes) -> bytes:
    """Return a file as a broken transfer, a wrong editor or a tired person leaves it."""
    random = case.random
    at, to = sorted(random.randrange(len(file) + 1) for _ in range(2))
    line = file.splitlines(keepends=True)
    return random.choice(
        (
            lambda: file[:at],
            lambda: file[:at] + bytes(random.randrange(256) for _ in range(4)) + file[at:],
            lambda: file[:at] + file[to:],
            lambda: file[:at] + random.choice((b'"', b"\0", b"\r", b",", b"\n\n", b"\xff\xfe", b"\x1a")) + file[at:],
            lambda: b"".join(random.sample(line, len(line))),
            lambda: file + file,
            lambda: file.replace(b"\r\n", random.choice((b"\n", b"\r", b"\n\r"))),
            lambda: file.replace(b"text", b"label", 1),
            lambda: file[at:to] * 50,
            lambda: b'{"text": "\\ud800", "label": "joy"}\n' * 9 + file,
            lambda: b'{"text": ' + b"[" * 100_000,
            lambda: b'{"text": ' + b"9" * 5_000 + b', "label": 1}\n',
        )
    )()


def run(case: Case) -> None:
    """Describe, train on or predict a table; two formats of one table must be one corpus."""
    table, kind = case.draw(rows()), case.random.choice(FORMATS)
    if case.number % 4 == 0:
        _same_in_two_formats(case, table)
        return
    try:
        file = content(kind, table, case.random.choice(ENCODINGS), case.random.choice((0, 1, 3)))
    except (ValueError, csv.Error, ImportError, OSError):  # openpyxl writes no control characters
        file = content("csv", table)
    except Exception as error:
        if type(error).__name__ != "IllegalCharacterError":
            raise
        file = content("csv", table)
    if case.chance(0.5):
        file = spoilt(case, file)
    path = case.folder / f"table.{kind if case.chance(0.9) else case.random.choice(FORMATS)}"
    path.write_bytes(file)
    flags = case.random.choice(FLAGS)
    if case.number % 4 == 1:
        words: list[Any] = ["tune", "mine", *BRIEF, "--data", path.name, "--label-column", "label"]
        limit = TRAINING
    elif case.number % 4 == 2:
        words, limit = ["predict", case.study(), path.name, "-o", "out.csv", "--proba"], TRAINING
        flags = [*flags] if flags[:1] in (["--dialogue-column"], ["--encoding"], ["--quoting"], ["--no-header"]) else []
        flags = [flag for flag in flags if flag not in ("--dialogue-ids", "consecutive", "--order-column", "speaker")]
    else:
        words, limit = ["data", "describe", "mine", "--data", path.name, "--label-column", "label"], LIMIT
    case.bertgrid(*words, "--text-column", "text", *flags, limit=limit).check()


def _same_in_two_formats(case: Case, table: list[list[str]]) -> None:
    """Check that a CSV file and a JSON Lines file of one table are one corpus, or both none."""
    table = [[cell.replace("\0", "") for cell in row] for row in table]  # a CSV file with a NUL is no text
    read: dict[str, Corpus | str] = {}
    for kind in ("csv", "jsonl"):
        path = case.folder / f"table.{kind}"
        path.write_bytes(content(kind, table))
        try:
            source = open_table(path, quoting="minimal" if kind == "csv" else "auto")
            read[kind] = load_table(source, Columns("text", "label", "dialogue", "speaker"), name="mine")
        except UserError as error:
            read[kind] = str(error)
    one, other = read["csv"], read["jsonl"]
    if isinstance(one, Corpus) and isinstance(other, Corpus):
        if one.splits != other.splits:
            raise CaseError("difference", f"table.csv and table.jsonl in {case.folder} are two corpora")
    elif isinstance(one, Corpus) != isinstance(other, Corpus):
        raise CaseError("difference", f"one is a corpus, the other is none: {one!s:.300} | {other!s:.300}")
