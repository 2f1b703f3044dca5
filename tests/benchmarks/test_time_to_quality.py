"""The time to quality, from made-up logs."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.contenders import ours_study
from benchmarks.contenders.trials import Trial
from benchmarks.grid import Searched
from benchmarks.time_to_quality import (
    BASELINE,
    COLUMNS,
    SEARCH,
    compare,
    main,
    picks,
    read,
    reference,
    same_source,
    scored_models,
    tied_after,
)
from bertgrid_tf.bank import surfaces
from bertgrid_tf.errors import UserError


def log(contender, *models, task="trec", seed=1, ends=100.0):
    """Models of one search, each its seconds, dev score and test score; 100 test texts."""
    made = pd.DataFrame(models, columns=["seconds", "dev", "test"])
    own = dict(zip(SEARCH, (task, seed, contender), strict=True))
    return made.assign(**own, ends=ends, test_texts=100, trial=1, learning_rate=1e-4)[COLUMNS]


def test_the_pick_is_the_best_on_dev_so_far_and_of_equal_ones_the_first():
    picked = picks(log("x", (30, 0.6, 0.7), (10, 0.5, 0.9), (20, 0.4, 0.1), (40, 0.6, 0.2)))
    assert picked.to_dict() == {10: 0.9, 20: 0.9, 30: 0.7, 40: 0.7}


def test_a_model_that_diverged_is_no_pick():
    picked = picks(log("x", (10, np.nan, 0.9), (20, 0.1, 0.2), (30, np.nan, 0.9)))
    assert np.isnan(picked[10])
    assert picked[30] == 0.2
    assert tied_after(picked, 0.2) == 20


@pytest.mark.parametrize(
    ("scores", "after"),
    [
        ((0.8, 0.9, 0.9), 10),  # exactly at the limit
        ((0.7, 0.8, 0.9), 20),
        ((0.9, 0.7, 0.8), 30),  # tied, lost and tied for good
        ((0.9, 0.9, 0.7), np.nan),  # not tied at the end
    ],
)
def test_quality_is_reached_when_the_pick_is_tied_and_stays_so(scores, after):
    picked = picks(log("x", *((10 * n, 0.1 * n, score) for n, score in enumerate(scores, start=1))))
    assert tied_after(picked, 0.8) == pytest.approx(after, nan_ok=True)


def test_the_reference_is_the_mean_of_what_the_full_grids_select_on_dev():
    models = pd.concat(
        [
            log(BASELINE, (1, 0.6, 0.7), (2, 0.5, 1.0)),  # the best on test is not the best on dev
            log("ours-grid", (1, 0.6, 0.9)),
            log("ours-surface", (1, 0.9, 0.1)),
        ]
    )
    assert reference(models) == pytest.approx((0.8, 0.04))
    with pytest.raises(UserError, match=r"The full grids of trec are the reference: run --contender ours-grid too\."):
        reference(models[models["contender"] != "ours-grid"])


def test_searches_are_compared_within_their_task_and_seed():
    models = pd.concat(
        [
            log(BASELINE, (80, 0.6, 0.8), ends=120),
            log("kerastuner-hyperband", (30, 0.6, 0.8), ends=60),
            log("optuna-hyperband", (20, 0.6, 0.1), ends=40),
            log("ours-grid", (10, 0.6, 0.8), ends=20),
            log(BASELINE, (500, 0.6, 0.5), ends=600, task="subj"),
            log("ours-grid", (5, 0.6, 0.5), (6, 0.5, 0.5), ends=10, task="subj"),
        ]
    )
    compared = compare(models).set_index(["task", "contender"])
    ours = compared.loc[("trec", "ours-grid")]
    assert ours[["tied", "ends", "epochs", "pick"]].tolist() == [10, 20, 1, 0.8]
    assert [ours[time, BASELINE] for time in ("tied", "ends")] == [8, 6]
    # One peer ends first, and another is tied first: the first is never tied.
    assert [ours[time, "best peer"] for time in ("tied", "ends")] == [3, 2]
    assert np.isnan(compared.loc[("trec", "optuna-hyperband")]["tied"])
    other = compared.loc[("subj", "ours-grid")]
    assert (other["epochs"], other["tied", BASELINE], other["ends", "best peer"]) == (2, 100, 60)


def test_the_comparison_is_printed_from_the_file(tmp_path, capsys):
    file = tmp_path / "models.csv"
    with pytest.raises(SystemExit):
        main(["compare", "--out", str(file)])
    assert "models.csv is not there: let the other command write it first" in capsys.readouterr().err
    log(BASELINE, (80, 0.6, 0.8))[:0].to_csv(file, index=False)
    with pytest.raises(UserError, match=r"models\.csv holds no search: run one first"):
        main(["compare", "--out", str(file)])
    baseline, ours = log(BASELINE, (80, 0.6, 0.8)), log("ours-grid", (10, 0.6, 0.8), (20, 0.7, 0.7))
    pd.concat([baseline, ours]).to_csv(file, index=False)
    main(["compare", "--out", str(file)])
    printed = capsys.readouterr().out
    assert "trec: the reference is 75.00 %, a pick is tied from 70.67 % on." in printed
    assert "never" in printed


def test_every_epoch_is_a_scored_model():
    trials = (
        Trial(1e-4, 3, 20, [5, 5], [0.5, 0.6], [9, 14], [0.4, 0.7]),
        Trial(5e-5, 20, 31, [5], [0.3], [30], [0.2]),
    )
    models = pd.DataFrame(scored_models(Searched("ours-grid", 60, trials, 0)))
    assert models["ends"].unique() == [31]  # by the clock that stands still, not by the wall
    assert models[["trial", "seconds", "dev", "test"]].to_numpy().tolist() == [
        [1, 9, 0.5, 0.4],
        [1, 14, 0.6, 0.7],
        [2, 30, 0.3, 0.2],
    ]


def test_surface_knows_no_table_of_the_task_or_of_its_source(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(surfaces, "read_studies", surfaces.read_studies)  # put back after the test
    before = len(surfaces.expected_surfaces("scratch:2x128"))
    assert same_source("sst2") == ["movie-reviews", "sst2", "sst5"]
    own = [study for study in surfaces.full_tables(surfaces.read_studies()) if study.card.task == "trec"]
    request = {"recipe": recipe.model_dump(mode="json"), "data_dirs": [], "dev_utterances": 40, "folder": str(tmp_path)}
    ours_study.prepare(request | {"left_out": same_source("trec")})
    assert len(surfaces.expected_surfaces("scratch:2x128")) == before - len(own) < before


def table(folder, splits):
    """A table of forty texts, a file that the splits take in turn."""
    texts = [("pos", "good fun"), ("neg", "so dull")] * 20
    lines = [f"{text} {n},{label},{splits[n // 2 % len(splits)]}" for n, (label, text) in enumerate(texts)]
    (folder / "fun.csv").write_text("\n".join(["text,label,split", *lines]) + "\n")
    return ["run", "fun", "--data", str(folder / "fun.csv"), "--out", str(folder / "models.csv")]


GRID = ["--model", "scratch:1x32", "--learning-rates", "2e-3,1e-3", "--epochs", "2", "--contender", "ours-grid"]


def test_a_task_without_a_test_split_is_refused(tmp_path):
    with pytest.raises(UserError, match="fun has no test split"):
        main([*table(tmp_path, ["train", "dev"]), *GRID])


@pytest.mark.slow
def test_a_search_that_is_in_the_file_is_not_run_again(tmp_path):
    flags = [*table(tmp_path, ["train", "dev", "test"]), *GRID]
    main(flags)
    models = read(tmp_path / "models.csv")
    # Two rows, one of which has the final model's weights.
    assert models["trial"].tolist()[:4] == [1, 1, 2, 2]
    assert models["trial"].max() == 2
    assert models["seconds"].is_monotonic_increasing
    assert (models["test_texts"] == 12).all()
    assert (models["ends"] >= models["seconds"]).all()
    main(flags)
    assert read(tmp_path / "models.csv").equals(models)
