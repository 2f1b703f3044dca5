"""The learning-rate × epoch table and its CSV."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuners.errors import TunerError
from tuners.table import Cell, Table, rows_in_order

FRIENDS = """learning_rate,1,2,3,4
2e-05,55.8,56.7,56.4,57.1
6e-06,54.2,57.4,58.0,58.0
1e-06,,,58.0,nan
"""
"""An extract of the paper's table of Friends, with an untried and a diverged cell put in."""


@pytest.fixture
def friends(tmp_path) -> Path:
    path = tmp_path / "friends.csv"
    path.write_text(FRIENDS)
    return path


def test_a_table_is_read_in_the_recipes_order(friends):
    table = Table.from_csv(friends)
    assert (table.learning_rates, table.epochs) == ((2e-5, 6e-6, 1e-6), 4)
    np.testing.assert_allclose(table.scores[0], [0.558, 0.567, 0.564, 0.571])
    np.testing.assert_array_equal(table.tried[2], [False, False, True, True])
    assert np.isnan(table.scores[2, 3])


def test_of_equal_cells_the_one_of_fewer_epochs_wins_then_the_earlier_rate(friends):
    assert Table.from_csv(friends).best() == Cell(6e-6, 3, pytest.approx(0.58))


def test_a_table_is_written_as_it_was_read(friends, tmp_path):
    Table.from_csv(friends).to_csv(tmp_path / "copy.csv", digits=1)
    assert (tmp_path / "copy.csv").read_text() == FRIENDS
    assert {path.name for path in tmp_path.iterdir()} == {"friends.csv", "copy.csv"}


def test_a_losss_best_cell_is_its_smallest():
    assert Table((1e-5, 2e-5), 2, [[0.5, 0.4], [0.3, 0.9]], direction="min").best() == Cell(2e-5, 1, 0.3)


def test_the_text_marks_the_best_cell(friends):
    assert (
        Table.from_csv(friends).to_text(scale=100, digits=1)
        == """\
learning rate    1     2     3     4
        2e-05 55.8  56.7  56.4  57.1
        6e-06 54.2  57.4  58.0* 58.0
        1e-06             58.0   nan"""
    )


def test_by_default_the_text_has_shares_with_four_digits_and_the_csv_percent_with_two(tmp_path):
    table = Table((2e-5, 6e-6), 2, [[0.5, 0.70004], [math.nan, math.nan]], [[True, True], [False, True]])
    assert (
        table.to_text() == "learning rate      1       2\n        2e-05 0.5000  0.7000*\n        6e-06            nan"
    )
    assert Table((2e-5,), 1, [[math.nan]], [[True]]).to_text() == "learning rate   1\n        2e-05 nan"
    table.to_csv(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text() == "learning_rate,1,2\n2e-05,50.00,70.00\n6e-06,,nan\n"


rates = st.lists(st.floats(1e-8, 1.0), min_size=1, max_size=4, unique=True)
cells = st.one_of(
    st.none(), st.just(math.nan), st.integers(-20_000, 20_000).map(lambda hundredths: hundredths / 10_000)
)


few_scores = st.sampled_from([None, math.nan, 0.5, 0.6])
"""So few that a table has several best cells."""


@st.composite
def tables(draw, cells=cells) -> Table:
    learning_rates, epochs = draw(rates), draw(st.integers(1, 5))
    rows = [[draw(cells) for _ in range(epochs)] for _ in learning_rates]
    scores = [[math.nan if cell is None else cell for cell in row] for row in rows]
    tried = np.array([[cell is not None for cell in row] for row in rows])
    return Table(tuple(learning_rates), epochs, scores, tried, draw(st.sampled_from(["max", "min"])))


@settings(max_examples=100, deadline=None)
@given(table=tables(), scale=st.sampled_from([1, 100]))
def test_a_table_survives_its_csv(tmp_path_factory, table, scale):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    table.to_csv(path, scale=scale, digits=2 if scale == 100 else 4)
    copy = Table.from_csv(path, scale=scale, direction=table.direction)
    np.testing.assert_allclose(copy.scores, table.scores, rtol=0, atol=1e-12)
    assert Table(copy.learning_rates, copy.epochs, table.scores, copy.tried, copy.direction) == table


@settings(max_examples=100, deadline=None)
@given(table=st.one_of(tables(), tables(few_scores)))
def test_no_cell_is_better_than_the_best_nor_as_good_and_earlier(table):
    if np.isnan(table.scores).all():
        with pytest.raises(TunerError, match="no cell"):
            table.best()
        return
    best = table.best()
    sign = 1 if table.direction == "max" else -1
    for row, rate in enumerate(table.learning_rates):
        for epoch, score in enumerate(table.scores[row], start=1):
            place = (epoch, table.learning_rates.index(rate))
            assert (
                math.isnan(score)
                or sign * score < sign * best.score
                or (score == best.score and place >= (best.epoch, table.learning_rates.index(best.learning_rate)))
            )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: the header"),
        ("rate,1,2\n1e-5,50,60\n", "line 1: the header"),
        ("learning_rate,1,3\n1e-5,50,60\n", "line 1: the header"),
        ("learning_rate,1,2\n", "no learning rate"),
        ("learning_rate,1,2\n1e-5,50\n", "line 2: 2 cells where the header has 3"),
        ("learning_rate,1,2\n1e-5,50,60\nfast,50,60\n", "line 3: 'fast' is not a number"),
        ("learning_rate,1,2\n1e-5,50,sixty\n", "line 2: 'sixty' is not a number"),
        ("learning_rate,1,2\n1e-5,50,inf\n", "line 2: 'inf' is no score"),
        *((f"learning_rate,1,2\n{rate},50,60\n", "line 2: a learning rate is positive") for rate in (-1e-5, 0, "inf")),
        (
            "learning_rate,1,2\n1e-5,50,60\n1e-5,50,60\n",
            "line 3: a learning rate is positive and stands once",
        ),
        ('learning_rate,1,2\n1e-5,"50,60\n', "cannot be read"),
    ],
)
def test_a_malformed_csv_is_refused_with_its_line(tmp_path, text, sentence):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(TunerError, match=sentence) as refused:
        Table.from_csv(path)
    assert str(path) in str(refused.value)


def test_a_missing_or_binary_csv_is_refused(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.csv", "binary.csv"):
        with pytest.raises(TunerError, match=rf"{name} cannot be read"):
            Table.from_csv(tmp_path / name)


@pytest.mark.parametrize(
    ("rates", "epochs", "scores", "tried", "sentence"),
    [
        ((), 1, [], None, "at least one learning rate and one epoch, not 0 × 1"),
        ((1e-5,), 0, [[]], None, "at least one learning rate and one epoch, not 1 × 0"),
        ((1e-5,), 2, [[0.5]], None, r"a table of 1 learning rates × 2 epochs has no room for \(1, 1\)"),
        ((1e-5,), 1, [[0.5]], [[True, True]], r"a table of 1 learning rates × 1 epochs has no room"),
        ((1e-5, 1e-5), 1, [[0.5], [0.5]], None, "must be positive and differ"),
        ((0.0,), 1, [[0.5]], None, "must be positive and differ"),
        ((math.inf,), 1, [[0.5]], None, "must be positive and differ"),
        ((1e-5,), 1, [[math.inf]], None, "must be a finite number in a tried cell, or NaN"),
        ((1e-5,), 1, [[0.5]], [[False]], "must be a finite number in a tried cell, or NaN"),
    ],
)
def test_what_makes_no_table_is_refused(rates, epochs, scores, tried, sentence):
    with pytest.raises(TunerError, match=sentence):
        Table(rates, epochs, scores, tried)


def test_a_table_has_one_of_two_directions():
    with pytest.raises(TunerError, match='"max" or "min", not \'up\''):
        Table((1e-5,), 1, [[0.5]], direction="up")


def test_tables_are_equal_that_have_the_same_cells_and_direction():
    table = Table((1e-5, 2e-5), 1, [[0.5], [math.nan]], [[True], [True]])
    assert table == Table((1e-5, 2e-5), 1, [[0.5], [math.nan]], [[True], [True]])
    assert table != Table((1e-5, 2e-5), 1, [[0.5], [math.nan]])
    assert table != Table((1e-5, 2e-5), 1, [[0.4], [math.nan]], [[True], [True]])
    assert table != Table((1e-5, 3e-5), 1, [[0.5], [math.nan]], [[True], [True]])
    assert table != Table((1e-5, 2e-5), 1, [[0.5], [math.nan]], [[True], [True]], "min")
    assert table != "a table"


def test_empty_lines_are_no_rows(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("learning_rate,1,2\n\n1e-5,50, \n\n2e-5,,nan\n\n")
    table = Table.from_csv(path)
    assert table.learning_rates == (1e-5, 2e-5)
    assert table.tried.tolist() == [[True, False], [False, True]]
    assert table.cell(1e-5, 1) == Cell(1e-5, 1, 0.5)


@pytest.mark.parametrize(
    ("rates", "others", "merged"),
    [
        ((3e-5, 1e-5), (2e-5, 1e-5), (3e-5, 2e-5, 1e-5)),
        ((1e-5, 3e-5), (2e-5, 4e-5), (1e-5, 2e-5, 3e-5, 4e-5)),
        ((2e-5, 3e-5, 1e-5), (4e-5, 2.5e-5), (2e-5, 3e-5, 1e-5, 2.5e-5, 4e-5)),
        ((2e-5,), (1e-5, 3e-5), (3e-5, 2e-5, 1e-5)),
    ],
)
def test_other_rates_take_their_place_where_the_rates_rise_or_fall(rates, others, merged):
    assert rows_in_order(rates, others) == merged


def test_a_table_cannot_be_changed():
    table = Table((1e-5,), 1, [[0.5]])
    with pytest.raises(ValueError, match="read-only"):
        table.scores[0, 0] = 1.0


def test_tables_are_read_without_tensorflow():
    code = "import sys; from tuners import Table; assert not {'keras_tuner', 'tensorflow'} & {*sys.modules}"
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


@pytest.mark.parametrize(
    ("name", "shape", "tried", "best"),
    [
        ("friends", (7, 10), 70, Cell(6e-6, 3, pytest.approx(0.58))),
        ("nsmc", (2, 10), 20, Cell(2e-5, 5, pytest.approx(0.876))),
        ("friends_oversampled", (8, 10), 17, Cell(9e-6, 3, pytest.approx(0.547))),
    ],
)
def test_the_papers_tables_are_read_and_written(tmp_path, name, shape, tried, best):
    folder = os.environ.get("BERTGRID_TEST_TABLES")
    if not folder or not (Path(folder) / f"{name}.csv").exists():
        pytest.skip("set BERTGRID_TEST_TABLES to the folder with the paper's tables to read them")
    path = Path(folder) / f"{name}.csv"
    table = Table.from_csv(path)
    assert (table.scores.shape, table.tried.sum(), table.best()) == (shape, tried, best)
    table.to_csv(tmp_path / "copy.csv", digits=1)
    assert (tmp_path / "copy.csv").read_text() == path.read_text()
