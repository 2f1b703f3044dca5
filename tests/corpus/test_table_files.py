"""Every kind of file is read as the same table, or refused by its kind."""

import csv
import gzip
import io
import json
import os
import sys
import threading
import zipfile
from pathlib import Path
from time import sleep

import openpyxl
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf.corpus import Columns, load_table, read_table, utterances
from bertgrid_tf.corpus.files import open_splits, open_table
from bertgrid_tf.corpus.table import BLANKS

ROWS = [("01", "좋다, 정말"), ("nan", 'so "great"; yes'), ("NULL", "two\nlines"), ("1", "-a\tb")]


def rows_of(path, names=("label", "text"), **options):
    return [tuple(cells) for _, cells in open_table(path, **options).select(names)]


def remarks_of(path, names=("text", "label"), **options):
    table = open_table(path, **options)
    list(table.select(names))
    return table.remarks


def test_half_of_a_surrogate_pair_is_replaced_with_a_remark(write):
    texts = ["broken \ud83d emoji", "fine", "\udc00"]
    path = write("t.jsonl", "".join(json.dumps({"text": text, "label": "a"}) + "\n" for text in texts).encode())
    for source in (path, pd.DataFrame({"text": pd.Series(texts, dtype=object), "label": "a"})):
        table = open_table(source)
        read = [text for _, (text, _) in table.select(("text", "label"))]
        assert read == ["broken \ufffd emoji", "fine", "\ufffd"]
        assert list(table.select(["text"])) and len(table.remarks) == 1
        assert "half of a character, as of a broken emoji, is read as \ufffd" in table.remarks[0]


def delimited(rows, delimiter=",", header=("label", "text"), **options):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, **options).writerows([header, *rows])
    return file.getvalue()


def json_lines(rows):
    return "".join(json.dumps({"label": label, "text": text}) + "\n" for label, text in rows)


def parquet(rows):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(dict(zip(("label", "text"), zip(*rows, strict=True), strict=True))), file)
    return file.getvalue()


def excel(rows, header=("label", "text")):
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in (header, *rows):
        book.active.append(row)
    book.save(file)
    return file.getvalue()


KINDS = {
    "t.csv": delimited(ROWS),
    "semicolons.csv": delimited(ROWS, ";"),
    "sep.csv": "sep=|\r\n" + delimited(ROWS, "|"),
    "tabs.csv": delimited(ROWS, "\t", quoting=csv.QUOTE_ALL),
    "t.tsv": delimited(ROWS, "\t"),
    "t.jsonl": json_lines(ROWS),
    "lines.json": json_lines(ROWS),
    "lines.txt": json_lines(ROWS),
    "records.json": json.dumps([dict(zip(("label", "text"), row, strict=True)) for row in ROWS], indent=1),
    "t.parquet": parquet(ROWS),
    "t.xlsx": excel(ROWS),
    "utf16.csv": delimited(ROWS).encode("utf-16"),
    "utf16be.csv": "\ufeff".encode("utf-16-be") + delimited(ROWS).encode("utf-16-be"),
    "bom.csv": delimited(ROWS).encode("utf-8-sig"),
    "cp949.csv": delimited(ROWS).encode("cp949"),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_plain_or_compressed_is_the_same_table_of_texts(name, write):
    content = KINDS[name].encode() if isinstance(KINDS[name], str) else KINDS[name]
    assert rows_of(write(name, content)) == ROWS
    assert rows_of(write(f"{name}.gz", gzip.compress(content, mtime=0))) == ROWS


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"))).map(lambda text: text.strip(BLANKS))
TABLES = st.lists(st.tuples(TEXTS.filter(bool), TEXTS), min_size=1, max_size=6).filter(
    lambda rows: ("label", "text") not in rows
)


@given(TABLES, st.sampled_from([",", ";", "\t", "jsonl", "json", "parquet", "plain"]))
def test_any_table_reads_back_as_it_was_written(tmp_path_factory, rows, kind):
    rows = [(label, text) for label, text in rows if (label + text).strip()]  # wholly blank rows are passed over
    contents = {
        "jsonl": json_lines(rows),
        "json": json.dumps([{"label": label, "text": text} for label, text in rows]),
        "plain": "\n".join("\t".join(row) for row in [("label", "text"), *rows]),
    }
    if not rows:
        return
    content = parquet(rows) if kind == "parquet" else contents.get(kind) or delimited(rows, kind)
    names = {",": "t.csv", ";": "t.csv", "\t": "t.tsv", "plain": "t.tsv", "jsonl": "t.jsonl", "json": "t.json"}
    path = tmp_path_factory.getbasetemp() / names.get(kind, "t.parquet")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    quoting = {"plain": "none", "\t": "minimal"}.get(kind, "auto")
    assert rows_of(path, quoting=quoting) == rows


STRAY = (
    "".join(
        f"{text}\t{('pos', 'neg')[n % 2]}\n"
        for n, text in enumerate(["text", *("Nice start" if n == 10 else f"plain line {n}" for n in range(1, 101))])
        if n
    )
    .replace("Nice start", '"Nice start')
    .replace("plain line 40", 'plain line 40 end"')
)


def test_single_quotes_of_a_tsv_file_swallow_no_rows(write):
    path = write("t.tsv", "text\tlabel\n" + STRAY)
    rows = rows_of(path)
    assert len(rows) == 100
    assert rows[9] == ("pos", '"Nice start')
    [remark] = remarks_of(path)
    assert "quotes are read as plain characters; --quoting minimal" in remark


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ('"say ""hi"""\tx\nb\ty\n', ['say "hi"', "b"]),
        ('"tab\there\ttoo"\tx\nb\ty\n', ["tab\there\ttoo", "b"]),
        ('"two\nlines"\tx\nb\ty\n', ["two\nlines", "b"]),
        ('"a"\t"x"\n"b"\t"y"\n', ["a", "b"]),
        ('"a"\tx\n"b"\ty\n', ["a", "b"]),
        ('"a"\tx\nb\ty\n', ['"a"', "b"]),
        ('"a" or "b"\tx\nb\ty\n', ['"a" or "b"', "b"]),
        ('"say ""hi"""\tx\nan "odd" one\ty\n', ['"say ""hi"""', 'an "odd" one']),
    ],
)
def test_quotes_of_a_tsv_file_are_plain_unless_the_file_proves_otherwise(content, texts, write):
    path = write("t.tsv", "text\tlabel\n" + content)
    assert [text for _, text in rows_of(path)] == texts


def test_a_quoted_cell_that_takes_rows_is_refused_with_its_lines(write, refusal):
    comma = write("t.csv", 'text,label\nfirst,pos\n"Nice start,pos\nplain line,neg\nits end",neg\nlast,pos\n')
    before = write("label.csv", 'label,text\npos,first\npos,"Nice start\nneg,its end"\nneg,last\n')
    tabs = write("t.tsv", 'text\tlabel\n"Nice\tpos\nplain line\tneg\nits end"\tneg\n"tab\tin\tit"\tpos\n')
    for path, lines in ((comma, "3 to 5"), (before, "3 to 4"), (tabs, "2 to 4")):
        parts = [path, f"lines {lines}", "--quoting none", "--quoting minimal"]
        refusal(lambda path=path: read_table(path, Columns("text", "label")), *parts)
        assert len(rows_of(path, quoting="minimal")) < 4
    assert [row[0] for row in rows_of(comma, quoting="none")] == ["pos", "pos", "neg", "neg", "pos"]


def test_a_text_of_several_lines_with_commas_is_one_text(write):
    text = "I liked it, mostly.\nBut the end, well.\nFine, all in all."
    path = write("t.csv", delimited([("pos", text), ("neg", "no")]))
    assert [line.text for line in utterances(read_table(path, Columns("text", "label")))] == [text, "no"]


def test_a_cell_may_have_200_000_characters(write):
    text = "long, " * 40_000
    for name, content in (("t.csv", delimited([("x", text)])), ("t.tsv", f'label\ttext\nx\t"{text}""q"""\n')):
        assert len(rows_of(write(name, content))[0][1]) >= 200_000


def test_wholly_blank_rows_are_passed_over_and_counted(write):
    path = write("t.csv", "text,label\na,x\n\n , \n,\nb,y\n")
    assert [number for number, _ in open_table(path).select(["text"])] == [2, 6]
    assert remarks_of(path) == [f"{path}: 3 wholly blank rows are passed over."]
    assert remarks_of(write("t.xlsx", excel([("x", "a"), (None, None), ("y", "b")]))) == [
        f"{path.with_name('t.xlsx')}: 1 wholly blank row is passed over."
    ]


@pytest.mark.parametrize(
    ("name", "codec"), [("utf16.csv", "UTF-16-LE"), ("utf16be.csv", "UTF-16-BE"), ("cp949.csv", "CP949")]
)
def test_an_encoding_that_is_recognised_is_reported(name, codec, write):
    path = write(name, KINDS[name])
    assert remarks_of(path) == [f"{path} is encoded in {codec}, not UTF-8: it is read as that."]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "euc-jp", "gbk", "shift_jis", "big5"])
def test_other_encodings_are_refused_unless_they_are_named(encoding, write, refusal):
    text = {"euc-jp": "とても良い映画でした", "shift_jis": "とても良い映画でした", "gbk": "这部电影非常好看我喜欢"}
    text = text.get(encoding, "這部電影非常好看我喜歡" if encoding == "big5" else "caf\xe9 d\xe9j\xe0 vu")
    path = write("t.csv", delimited([("x", text)]).encode(encoding))
    refusal(lambda: rows_of(path), path, "is not UTF-8: line 2", "--encoding")
    assert rows_of(path, encoding=encoding) == [("x", text)]


def test_an_encoding_that_there_is_not_or_that_does_not_fit_is_refused(write, refusal):
    path = write("t.csv", delimited([("x", "caf\xe9")]).encode("latin-1"))
    refusal(lambda: rows_of(path, encoding="klingon"), "no text encoding 'klingon'")
    refusal(lambda: rows_of(path, encoding="hex"), "no text encoding 'hex'")
    refusal(lambda: rows_of(path, encoding="ascii"), path, "is not ASCII: line 2 has the byte 0xe9")


def test_the_columns_of_a_file_without_header_have_numbers(write, refusal):
    content = delimited([("neg", "no")], header=("pos", "a; b"))
    for name, data in (("t.csv", content), ("t.xlsx", excel([("neg", "no")], ("pos", "a; b")))):
        assert rows_of(write(name, data), ("1", "2"), no_header=True) == [("pos", "a; b"), ("neg", "no")]
    path = write("t.csv", content)
    refusal(lambda: rows_of(path, ("1", "2")), path, "no column '1'", "--no-header")
    refusal(lambda: rows_of(path, ("1", "3"), no_header=True), path, "no column '3'", "1, 2")
    assert rows_of(write("t.csv", "1,2\n1,2\n"), ("2",), no_header=True) == [("2",), ("2",)]


def test_without_header_two_possible_delimiters_are_refused(write, refusal):
    path = write("t.csv", "Hi, you;pos\nOh, no;neg\n")
    refusal(lambda: rows_of(path, ("1",), no_header=True), path, "commas or semicolons", "sep=;")
    path = write("t.csv", "Hi, you;pos\nOh;neg\n")
    assert rows_of(path, ("1", "2"), no_header=True) == [("Hi, you", "pos"), ("Oh", "neg")]


def test_a_workbook_whose_sheet_is_damaged_is_one_sentence(write, refusal):
    whole, damaged = zipfile.ZipFile(io.BytesIO(excel([("pos", "a")] * 50))), io.BytesIO()
    with zipfile.ZipFile(damaged, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name)
            archive.writestr(name, content[: len(content) // 2] if "sheet1" in name else content)
    path = write("t.xlsx", damaged.getvalue())
    refusal(lambda: rows_of(path), path, "damaged Excel file")


PNG = b"\x89PNG\r\n\x1a\n\0\0"


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("t.csv", PNG, ["this is a PNG image"]),
        ("t.csv.gz", gzip.compress(PNG, mtime=0), ["this is a PNG image"]),
        ("t.csv", b"%PDF-1.4", ["a PDF document"]),
        ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ["an Office file of before 2007"]),
        ("t.zip", b"PK\x03\x04broken", ["damaged zip or Excel file"]),
        ("t.csv", "<!DOCTYPE html><html>", ["a web page"]),
        ("t.csv", "version https://git-lfs.github.com/spec/v1\noid", ["a Git LFS pointer", "git lfs pull"]),
        ("t.csv", b"\0\1\2\3" * 9, ["binary data"]),
        ("t.csv", "text,label\na,x\n".encode("utf-16-le"), ["UTF-16 without a byte order mark", "utf-16-le"]),
        ("t.gz", gzip.compress(b"text,label\n", mtime=0)[:-9], ["damaged gzip"]),
        ("t.parquet", b"PAR1broken", ["damaged Parquet"]),
        ("t.json", '{"text": {"0": "a"}, "label": {"0": "x"}}', ["one JSON object", "orient='records'"]),
        ("t.json", '{"text":\n ["a"]}', ["one JSON object"]),
        ("t.json", '[[{"utterance": "a"}]]', ["record 1", "list of lists", "EmotionLines"]),
        ("t.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"\n', ["line 2", "no JSON"]),
        ("t.txt", '{"text": "a", "label": "x"}\noops\n', ["line 2", "no JSON"]),
        ("t.jsonl", '{"text": "a", "label": "x"}\n"b"\n', ["line 2", "no record"]),
        ("t.jsonl", '{"text": "a", "label": "x"}\n{"text": "a", "label": ["x", "y"]}\n', ["line 2", "'label'", "list"]),
        ("t.json", "[{", ["no JSON"]),
    ],
)
def test_what_is_no_table_is_named_by_its_kind(name, content, parts, write, refusal):
    path = write(name, content)
    refusal(lambda: rows_of(path), path, *parts)


def test_a_csv_file_may_begin_like_json(write):
    assert rows_of(write("t.csv", "[text],label\na,x\n"), ("[text]", "label")) == [("a", "x")]


def test_keys_that_json_records_lack_are_empty_and_numbers_are_as_written(write):
    path = write("t.jsonl", '{"text": "a", "label": 1.0}\n\n{"label": true}\n{"text": null, "label": 2}\n')
    assert list(open_table(path).select(["text", "label"])) == [(1, ["a", "1.0"]), (3, ["", "true"]), (4, ["", "2"])]


@pytest.mark.parametrize(("library", "name"), [("pyarrow", "t.parquet"), ("openpyxl", "t.xlsx")])
def test_a_library_that_is_missing_is_named(library, name, write, refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    path = write(name, KINDS[name])
    refusal(lambda: rows_of(path), path, library, "pip install bertgrid-tf[files]")


def test_values_of_parquet_that_are_no_texts_are_written_as_texts(write, refusal):
    frame = pd.DataFrame({"label": [1, None, 0], "text": pd.Categorical(["a", "b", None]), "flag": [True, False, None]})
    file = io.BytesIO()
    frame.assign(many=[["x"], ["y"], []]).to_parquet(file)
    path = write("t.parquet", file.getvalue())
    assert rows_of(path, ("label", "text", "flag")) == [("1", "a", "true"), ("", "b", "false"), ("0", "", "")]
    refusal(lambda: rows_of(path, ("many",)), path, "'many' holds list")


def saved_dataset(folder, rows, names=None):
    """Write what `Dataset.save_to_disk` writes: two shards of an Arrow stream, the state and the features."""
    folder.mkdir(parents=True)
    table = pyarrow.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    files = []
    for number, shard in enumerate((table.slice(0, 1), table.slice(1))):
        files.append(f"data-0000{number}-of-00002.arrow")
        with pyarrow.OSFile(str(folder / files[-1]), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as out:
            out.write_table(shard)
    state = {"_data_files": [{"filename": name} for name in files], "_split": "train", "_format_type": None}
    (folder / "state.json").write_text(json.dumps(state))
    label = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "string", "_type": "Value"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": label}
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_a_folder_that_datasets_wrote_is_a_table_whose_class_ids_become_names(tmp_path, refusal):
    saved_dataset(tmp_path / "one", [("a", 1), ("b", 0), ("c", -1)], ["neg", "pos"])
    assert rows_of(tmp_path / "one") == [("pos", "a"), ("neg", "b"), ("", "c")]
    refusal(lambda: rows_of(tmp_path), tmp_path, "is a folder", "save_to_disk")
    (tmp_path / "one" / "data-00001-of-00002.arrow").write_bytes(b"broken")
    refusal(lambda: rows_of(tmp_path / "one"), tmp_path / "one", "damaged dataset")


def test_the_splits_that_datasets_wrote_are_those_of_the_corpus(tmp_path, refusal):
    names = ["train", "validation", "unsupervised"]
    for name in names:
        saved_dataset(tmp_path / "all" / name, [("a", 1), (f"b {name}", 0)], ["neg", "pos"])
    (tmp_path / "all" / "dataset_dict.json").write_text(json.dumps({"splits": names}))
    tables = open_splits(tmp_path / "all")
    corpus = load_table(tables["train"], Columns("text", "label"), dev=tables["dev"])
    assert [line.text for line in utterances(corpus.splits["dev"])] == ["a", "b validation"]
    assert tables["train"].remarks == [f"{tmp_path / 'all'}: the splits unsupervised are passed over."]
    refusal(lambda: rows_of(tmp_path / "all"), tmp_path / "all", "several splits")
    (tmp_path / "all" / "dataset_dict.json").write_text(json.dumps({"splits": ["test"]}))
    refusal(lambda: open_splits(tmp_path / "all"), "no split train", "test")


def test_a_pipe_to_which_no_process_writes_is_not_waited_for(tmp_path, monkeypatch, refusal):
    monkeypatch.setattr("bertgrid_tf.corpus.text.WRITER_SECONDS", 0.1)
    os.mkfifo(tmp_path / "idle")
    refusal(lambda: rows_of(tmp_path / "idle"), tmp_path / "idle", "is a pipe to which no process writes")


def test_a_pipe_whose_process_is_slow_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("bertgrid_tf.corpus.text.WRITER_SECONDS", 30)
    os.mkfifo(tmp_path / "slow")

    def write():
        with (tmp_path / "slow").open("w") as pipe:
            for part in ("text,la", "bel\na,x\n"):
                sleep(0.3)
                pipe.write(part)
                pipe.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert rows_of(tmp_path / "slow") == [("x", "a")]
    writer.join()


def test_what_has_no_end_is_refused(tmp_path, write, monkeypatch, refusal):
    (tmp_path / "zero").symlink_to("/dev/zero")
    refusal(lambda: open_table(tmp_path / "zero"), "zero is a device, which has no end")
    refusal(lambda: open_table(Path("/dev/null")), "/dev/null is empty")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**31 + 1)
    refusal(lambda: open_table(tmp_path / "sparse"), "sparse has more than 2 GiB, the most that is read")
    for module in ("files", "text"):
        monkeypatch.setattr(f"bertgrid_tf.corpus.{module}.LARGEST", 2**16)
    bomb = write("bomb.gz", gzip.compress(b"text,label\n" * 2**16))
    refusal(lambda: open_table(bomb), "bomb.gz unpacks to more than")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * 2**17)
    refusal(lambda: open_table(write("bomb.xlsx", bomb.getvalue())), "bomb.xlsx unpacks to more than")


@pytest.mark.parametrize("content", ["{", "[]", '{"splits": 1}', "[" * 10_000, '{"splits": [1]}'])
def test_a_damaged_list_of_splits_is_named(write, content, tmp_path, refusal):
    write("dataset_dict.json", content)
    refusal(lambda: open_splits(tmp_path), "dataset_dict.json is damaged (")


def test_a_pipe_can_be_opened_twice(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("text,label\na,x\n"))
    writer.start()
    assert rows_of(tmp_path / "pipe") == rows_of(tmp_path / "pipe") == [("x", "a")]
    writer.join()


def test_a_header_that_is_a_text_is_shortened_in_a_refusal(write, refusal):
    path = write("t.csv", delimited([("neg", "no")], header=("pos", "a\nlong, long text " * 9)))
    refusal(lambda: rows_of(path), path, "its columns are pos, a long, long text a long", "… (give --no-header if")
