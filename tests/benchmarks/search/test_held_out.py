"""Searches on a bank of tables, each without the tables of its own task."""

import json

import pytest

from benchmarks.search.held_out import evaluate, main
from bertgrid_tf.bank.studies import read_studies

ROWS = {8e-5: (50, 52, 53), 4e-5: (60, 70, 72), 2e-5: (50, 55, 57), 1e-5: (45, 50, 51)}


@pytest.fixture
def bank(tmp_path):
    for task, best in {"one": 4e-5, "two": 4e-5, "three": 4e-5, "odd": 1e-5}.items():
        lines = ["learning_rate,1,2,3", *(f"{rate},{','.join(map(str, row))}" for rate, row in ROWS.items())]
        if best == 1e-5:
            lines[2], lines[4] = lines[2].replace("4e-05", "1e-05"), lines[4].replace("1e-05", "4e-05")
        (tmp_path / f"{task}-seed1.csv").write_text("\n".join(lines))
        card = {"task": task, "seeds": [1], "layers": 2, "width": 128, "pretrained": False, "dev_texts": 500}
        card["source"] = "recorded"
        (tmp_path / f"{task}.json").write_text(json.dumps(card))
    return tmp_path


def test_a_task_is_searched_without_its_own_tables(bank):
    outcomes, stated = evaluate(read_studies(bank), ["suggested rows", "random rows"], 0.25, 1, False)
    for name in ("surface", "suggested rows"):
        assert outcomes[name]["one"].tied.all()
        # Its own table is the only one that tells of its best row.
        assert not outcomes[name]["odd"].tied.any()
    assert (outcomes["surface"]["one"].shares == 0.25).all()
    assert stated.shape == (16, 2)
    unlike, _ = evaluate(read_studies(bank), ["suggested rows"], 0.25, 1, True)
    assert set(unlike["surface"]) == {"one", "two", "three", "odd"}


def test_the_command_prints_means_and_tasks(bank, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    main([str(bank), "--search", "suggested rows", "--search", "climb"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("surface", "suggested rows", "climb", "odd *", "bootstrap over tasks"))


@pytest.mark.parametrize(
    ("flags", "sentence"), [(["--search", "best"], "invalid choice: 'best'"), (["--share", "2"], "above 0 and up to 1")]
)
def test_wrong_flags_of_held_out_are_refused(bank, flags, sentence, capsys):
    with pytest.raises(SystemExit) as refused:
        main([str(bank), *flags])
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err
