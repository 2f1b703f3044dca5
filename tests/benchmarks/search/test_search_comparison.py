"""Searches compared on recorded and synthetic tables."""

import json
import math

import numpy as np
import pytest

from benchmarks.search.__main__ import main
from benchmarks.search.comparison import compare, recorded, simulated
from benchmarks.search.peers import peers, random_rows
from bertgrid_tf.errors import UserError
from tuners.space import SearchSpace
from tuners.strategies import ObservedTrial
from tuners.table import Table

RATES = (8e-5, 4e-5, 2e-5)


def table(best: float) -> Table:
    """Three rates × four epochs, best at 4e-5 and epoch 2."""
    scores = [[best - 0.1 * abs(row - 1) - 0.02 * abs(epoch - 1) for epoch in range(4)] for row in range(3)]
    return Table(RATES, 4, np.array(scores))


@pytest.fixture
def seeds(tmp_path):
    for seed, best in enumerate((0.7, 0.8), start=1):
        table(best).to_csv(tmp_path / f"mine-seed{seed}.csv")
    (tmp_path / "mine.json").write_text(json.dumps({"dev_texts": 400}))
    return tmp_path


def test_the_truth_is_the_mean_over_the_seeds_and_a_search_sees_one(seeds):
    problems = recorded(seeds, 5, None)
    assert [problem.observed.max() for problem in problems] == pytest.approx([0.7, 0.8, 0.7, 0.8, 0.7])
    # Every seed with every start, in turn.
    assert [problem.space.start["learning_rate"] for problem in problems] == [8e-5, 8e-5, 4e-5, 4e-5, 2e-5]
    assert problems[0].truth.max() == pytest.approx(0.75)
    assert problems[0].standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 400))
    assert problems[0].regret([ObservedTrial({"learning_rate": 8e-5}, (0.6, 0.65), True)]) == pytest.approx(0.1)


def test_a_stem_chooses_among_several_tables(seeds):
    table(0.6).to_csv(seeds / "other-seed1.csv")
    assert len(recorded(seeds / "mine", 3, None)) == 3
    with pytest.raises(UserError, match=r"several tables: give one of .*mine, .*other"):
        recorded(seeds, 3, None)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("holes.csv", "learning_rate,1,2\n1e-5,50,\n", "cells that were never tried"),
        ("mine.csv", "learning_rate,1,2\n1e-5,50,60\n", "give --dev-size"),
    ],
)
def test_a_table_that_cannot_be_replayed_is_refused(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=sentence):
        recorded(tmp_path / name, 1, None)
    with pytest.raises(UserError, match="is no recorded table"):
        recorded(tmp_path / "nothing", 1, None)


def test_a_diverged_cell_is_never_the_best(tmp_path):
    (tmp_path / "mine.csv").write_text("learning_rate,1,2\n8e-5,nan,nan\n4e-5,50,60\n")
    problems = recorded(tmp_path / "mine.csv", 4, 100)
    found = {
        one.search: one for one in compare(problems, ["climb", "asha", "bayes", "genetic", "surface"], 1, peers=False)
    }
    assert {one.median_regret for one in found.values()} == {0.0}


def test_the_grid_and_all_searches_are_measured(seeds):
    found = list(compare(recorded(seeds, 2, None), ["climb"], 0.5, peers=True))
    assert [one.search for one in found][:3] == ["grid", "climb", "asha, cut"]
    assert {f"{name}, cut" for name in peers()} < {one.search for one in found}
    grid, climb, *others = found
    assert (grid.epochs, grid.share, grid.median_regret, grid.tied) == (12, 1, 0, 1)
    assert climb.epochs <= 6
    assert all(one.epochs <= climb.epochs + 1e-9 and one.search.endswith(", cut") for one in others)


@pytest.mark.parametrize("name", peers())
def test_a_peer_spends_its_budget_and_sees_no_more(name):
    space = SearchSpace.of(RATES, 4)
    scores = table(0.7).scores
    runs = peers()[name](space, lambda rate: scores[RATES.index(rate)].tolist(), 3, 7)
    assert sum(len(run.scores) for run in runs) <= 7
    assert max(run.best for run in runs) <= 0.7
    for run in runs:
        assert list(run.scores) == scores[RATES.index(run.rate)][: len(run.scores)].tolist()


def test_random_rows_train_row_after_row():
    runs = random_rows(SearchSpace.of(RATES, 4), lambda rate: [0.1, 0.2, 0.3, 0.4], 0, 6)
    assert [len(run.scores) for run in runs] == [4, 2]


def test_made_up_surfaces_are_those_of_their_seed():
    one, two = simulated(2, 300), simulated(2, 300)
    np.testing.assert_array_equal(one[1].observed, two[1].observed)
    assert not np.array_equal(one[0].truth, one[1].truth)
    # Binomial noise: multiples of one example.
    np.testing.assert_allclose(one[0].observed * 300, (one[0].observed * 300).round(), atol=1e-9)


def test_the_command_prints_a_line_for_each_search(seeds, capsys):
    main([str(seeds), "--search", "climb,asha", "--seeds", "6"])
    out = capsys.readouterr().out
    assert [name for name in ("grid", "climb", "asha", "bayes") if f"│ {name} " in out] == ["grid", "climb", "asha"]
    assert "tied: selections within one standard error" in out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--search", "best"],
            "argument --search: no search 'best': choose from climb, asha, bayes, genetic, surface, or all",
        ),
        (["--seeds", "0"], "argument --seeds: '0' is no whole number of at least 1"),
        (["--dev-size", "x"], "argument --dev-size: 'x' is no whole number of at least 1"),
        (["--budget-share", "1.5"], "argument --budget-share: '1.5' is no number above 0 and up to 1"),
        (["--budget-share", "nan"], "argument --budget-share: 'nan' is no number above 0 and up to 1"),
    ],
)
def test_wrong_flags_are_refused(flags, sentence, capsys):
    with pytest.raises(SystemExit) as refused:
        main(["simulated", *flags])
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err
