"""Searches on a bank of tables, each without the tables of its own task."""

import json
import math

import numpy as np
import pytest

from benchmarks.search.__main__ import evaluate, main, problems
from benchmarks.search.peers import peers, random_rows
from bertgrid_tf.bank.studies import read_studies
from tuners.space import SearchSpace
from tuners.strategies import ObservedTrial

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


def test_a_task_is_searched_without_the_tables_of_its_source(bank, monkeypatch):
    for file in ("odd-seed1.csv", "odd.json"):
        (bank / file.replace("odd", "twin")).write_text((bank / file).read_text().replace('"odd"', '"twin"'))
    tables = [study for study in read_studies(bank) if study.card.task in ("odd", "twin")]
    known, _ = evaluate(tables, ["suggested rows"], 0.25, 1, False)
    assert known["suggested rows"]["odd"].tied.all()
    monkeypatch.setattr("benchmarks.suggest.ONE_SOURCE", {"odd": "the same", "twin": "the same"})
    left_out, _ = evaluate(read_studies(bank), ["suggested rows"], 0.25, 1, False)
    assert not left_out["suggested rows"]["odd"].tied.any()


def test_the_truth_is_the_mean_over_the_seeds_and_a_search_sees_one(bank):
    lines = (bank / "one-seed1.csv").read_text()
    (bank / "one-seed2.csv").write_text(lines.replace("60.0", "62.0").replace(",60,", ",64,"))
    (bank / "one.json").write_text((bank / "one.json").read_text().replace("[1]", "[1, 2]"))
    table = next(study for study in read_studies(bank) if study.card.task == "one")
    found = list(problems(table, 1))
    # Every row as the start, with every seed of the table.
    assert [problem.space.start["learning_rate"] for problem in found] == [
        rate for rate in (8e-5, 4e-5, 2e-5, 1e-5) for _ in range(2)
    ]
    assert [problem.observed[1, 0] for problem in found[:2]] == pytest.approx([0.60, 0.64])
    assert found[0].truth[1, 0] == pytest.approx(0.62)
    assert found[0].standard_error == pytest.approx(math.sqrt(0.72 * 0.28 / 500))
    assert found[0].regret([ObservedTrial({"learning_rate": 8e-5}, (0.5, 0.52), True)]) == pytest.approx(0.2)
    assert found[0].regret([ObservedTrial({"learning_rate": 8e-5}, (math.nan,), True)]) == math.inf


@pytest.mark.parametrize("name", peers())
def test_a_peer_spends_its_budget_and_sees_no_more(name):
    rates = (8e-5, 4e-5, 2e-5)
    scores = np.array([[0.7 - 0.1 * abs(row - 1) - 0.02 * abs(epoch - 1) for epoch in range(4)] for row in range(3)])
    runs = peers()[name](SearchSpace.of(rates, 4), lambda rate: scores[rates.index(rate)].tolist(), 3, 7)
    assert sum(len(run.scores) for run in runs) <= 7
    for run in runs:
        assert list(run.scores) == scores[rates.index(run.rate)][: len(run.scores)].tolist()


def test_random_rows_train_row_after_row():
    space = SearchSpace.of((8e-5, 4e-5, 2e-5), 4)
    runs = random_rows(space, lambda rate: [0.1, 0.2, 0.3, 0.4], 0, 6)
    assert [len(run.scores) for run in runs] == [4, 2]


def test_the_command_prints_means_and_tasks(bank, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    main([str(bank), "--table", "odd", "--table", "one", "--search", "suggested rows", "--search", "genetic"])
    out = capsys.readouterr().out
    assert all(word in out for word in ("surface", "suggested rows", "genetic", "odd *", "bootstrap over tasks"))
    assert "three" not in out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--search", "best"], "invalid choice: 'best'"),
        (["--share", "2"], "above 0 and up to 1"),
        (["--seeds", "0"], "argument --seeds: '0' is no whole number of at least 1"),
        (["--table", "four"], "'four' is no full table: choose from"),
    ],
)
def test_wrong_flags_are_refused(bank, flags, sentence, capsys):
    with pytest.raises(SystemExit) as refused:
        main([str(bank), *flags])
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_folder_without_tables_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as refused:
        main([str(tmp_path / "none")])
    assert refused.value.code == 2
    assert "holds no NAME.json of a recorded table" in capsys.readouterr().err
