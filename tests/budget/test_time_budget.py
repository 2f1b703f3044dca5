"""The part of a recipe that fits a budget, and the decisions for lack of time."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_study import tiny

from bertgrid_tf.budget.plan import stage_trials
from bertgrid_tf.budget.time_budget import (
    MARGIN,
    BudgetLog,
    candidates,
    choose,
    format_duration,
    left_out,
    parse_duration,
    too_short_error,
)
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe

WHOLE = {
    "sweeps": {"context": ["current", "current+previous"], "batch_size": [16], "max_length": [32, 48]},
    "learning_rate": 2e-3,
    "learning_rates": [8e-3, 4e-3, 2e-3, 1e-3, 5e-4, 2.5e-4],
    "epochs": 6,
}


def epochs(recipe: Recipe) -> float:
    return sum(trial.stop_epoch for _, trials in stage_trials(recipe) for trial in trials)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    rates = draw(st.lists(st.sampled_from(WHOLE["learning_rates"]), min_size=1, unique=True))
    sweeps = draw(st.sets(st.sampled_from(sorted(WHOLE["sweeps"]))))
    grid, search = draw(
        st.sampled_from([("shared", "grid"), ("shared", "surface"), ("shared", "genetic"), ("per-cell", "grid")])
    )
    return tiny(
        **{
            "learning_rates": rates,
            "epochs": draw(st.integers(1, 10)),
            "sweeps": {name: WHOLE["sweeps"][name] for name in sorted(sweeps)},
            # More than the grid's, so that no trial of a sweep is one of the grid's too.
            "sweep_epochs": 11,
            "grid_schedule": grid,
            "search": search,
            "final.model": draw(st.sampled_from(["none", "scratch:2x32"])),
        }
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("1h30m", 5400),
        ("5400s", 5400),
        (" 1.5H ", 5400),
        ("1m5s", 65),
        ("87599h", 315356400),
    ],
)
def test_a_budget_is_hours_minutes_and_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "0m", "-1h", "30m1h", "2 days", "87600h"])
def test_a_budget_that_is_no_duration_is_refused(text):
    with pytest.raises(UserError, match=r"is no time to spend: write it as 2h, 90m, 1h30m or 5400s"):
        parse_duration(text)


@given(st.floats(0.01, 1e7))
def test_a_time_as_written_can_be_given_as_a_budget_and_is_no_shorter(seconds):
    assert seconds <= parse_duration(format_duration(seconds)) < seconds + 1


def test_what_is_given_up_first_is_filling_the_grid_and_last_are_the_epochs():
    found = candidates(tiny(**WHOLE))
    kept = [(r.search_share, len(r.learning_rates), r.epochs, list(r.sweeps)) for r in found]
    every = ["context", "batch_size", "max_length"]
    assert kept == [
        (None, 6, 6, every),
        (0.5, 6, 6, every),
        (0.3, 6, 6, every),
        (0.15, 6, 6, every),
        (0.15, 5, 6, every),
        (0.15, 4, 6, every),
        (0.15, 4, 5, every),
        (0.15, 4, 4, every),
        (0.15, 4, 3, every),
        (0.15, 4, 3, ["context", "batch_size"]),
        (0.15, 4, 3, ["batch_size"]),
        (0.15, 3, 3, ["batch_size"]),
        (0.15, 2, 3, ["batch_size"]),
        (0.15, 1, 3, ["batch_size"]),
        (0.15, 1, 2, ["batch_size"]),
        (0.15, 1, 1, ["batch_size"]),
    ]
    assert [recipe.search for recipe in found] == ["grid"] + ["surface"] * 15
    # Those nearest to the start's, in the recipe's order; of equally near ones the first.
    assert found[5].learning_rates == [8e-3, 4e-3, 2e-3, 1e-3]
    assert found[11].learning_rates == [4e-3, 2e-3, 1e-3]
    assert found[-1].learning_rates == [2e-3]


def test_a_grid_too_small_to_be_searched_is_filled():
    found = candidates(tiny(**WHOLE | {"learning_rates": [4e-3, 2e-3, 1e-3], "epochs": 2, "sweeps": {}}))
    assert [(r.search, len(r.learning_rates), r.epochs) for r in found] == [
        ("grid", 3, 2),
        ("grid", 3, 1),
        ("grid", 2, 1),
        ("grid", 1, 1),
    ]


def test_a_grid_of_cells_is_always_filled_and_keeps_the_start_s_neighbours_until_the_sweeps_are_given_up():
    found = candidates(tiny(**WHOLE | {"grid_schedule": "per-cell", "epochs": 2, "sweeps": {"max_length": [32, 48]}}))
    assert [(r.search, len(r.learning_rates), r.epochs, len(r.sweeps)) for r in found] == [
        *(("grid", rates, 2, 1) for rates in (6, 5, 4, 3)),
        ("grid", 3, 1, 1),
        *(("grid", rates, 1, 0) for rates in (3, 2, 1)),
    ]


@given(recipes())
def test_every_candidate_is_a_recipe_that_trains_no_more_than_the_one_before_and_keeps_the_final_model(asked):
    found = candidates(asked)
    costs = [epochs(recipe) for recipe in found]
    assert costs == sorted(costs, reverse=True)
    for recipe in found:
        assert Recipe.model_validate(recipe.model_dump()) == recipe
        assert recipe.final == asked.final
        assert recipe.hyperparameters == asked.hyperparameters
    assert (found[-1].learning_rates, found[-1].epochs) == ([found[-1].learning_rates[0]], 1)


@given(recipes(), st.floats(1, 1000), st.floats(1, 1000), st.floats(0, 100), st.floats(0.1, 10))
def test_what_is_chosen_fits_and_a_larger_budget_never_leaves_more_out(asked, budget, more, spent, pace):
    def seconds(recipe: Recipe) -> float:
        return pace * epochs(recipe)

    chosen = choose(asked, seconds, budget, spent)
    if chosen is None:
        least = parse_duration(
            str(too_short_error(asked, seconds, budget, spent)).split("give --budget ")[1].split()[0]
        )
        assert least > budget
        chosen, budget = choose(asked, seconds, least, spent), least
    assert spent + MARGIN * seconds(chosen) <= budget
    larger = choose(asked, seconds, budget + more, spent)
    found = candidates(asked)
    assert found.index(larger) <= found.index(chosen)
    assert set(chosen.learning_rates) <= set(larger.learning_rates)
    assert chosen.epochs <= larger.epochs
    assert set(chosen.sweeps) <= set(larger.sweeps)


def test_a_recipe_that_takes_the_whole_budget_fits():
    asked = tiny(**WHOLE)
    assert choose(asked, lambda recipe: 0.0, 5, 5) == asked
    assert choose(asked, lambda recipe: 0.0, 5, 5.1) is None


@pytest.mark.parametrize(("seconds", "least"), [(535.0, "9m54s"), (540.9, "10m"), (541.0, "11m")])
def test_the_least_budget_is_whole_minutes_from_ten_on(seconds, least):
    refused = str(too_short_error(tiny(**WHOLE), lambda recipe: seconds, 20, 5))
    assert f"give --budget {least} or more" in refused


def test_a_budget_that_nothing_fits_is_refused_with_the_least_that_would_do():
    asked = tiny(**WHOLE)
    assert choose(asked, lambda recipe: 10 * epochs(recipe), 20, 5) is None
    assert str(too_short_error(asked, lambda recipe: 10 * epochs(recipe), 20, 5)) == (
        "--budget 20s is too short: one epoch at one learning rate and the final model would end after about 27s here: "
        "give --budget 27s or more, a smaller --final-model or --final-model none."
    )
    without = tiny(**WHOLE | {"final.model": "none"})
    assert str(too_short_error(without, lambda recipe: 1000 * epochs(recipe), 10, 5)).endswith(
        "one epoch at one learning rate would end after about 19m here: give --budget 19m or more or a smaller --model."
    )


def test_what_is_left_out_is_named():
    whole = tiny(**WHOLE)
    found = candidates(whole)
    assert left_out(whole, whole) == ""
    assert left_out(whole, found[1]) == "filling the grid, of which search surface trains up to 50%"
    assert left_out(whole, found[10]) == (
        "filling the grid, of which search surface trains up to 15%, the learning rates 0.0005 and 0.00025, "
        "3 of the grid's 6 epochs and the sweeps of context and max_length"
    )


def test_decisions_are_read_back_whatever_the_process_died_of(tmp_path):
    path = tmp_path / "budget.jsonl"
    whole = tiny(**WHOLE)
    chosen = candidates(whole)[10]
    BudgetLog(path).choose(60, whole, chosen)
    BudgetLog(path).add("stop", trial="learning_rate=0.001", epoch=2)
    with path.open("a") as file:
        file.write('{"decision": "en')
    log = BudgetLog(path)
    assert log.seconds == 60
    assert log.chosen(whole) == chosen
    assert not log.of("end")
    log.add("end")
    assert [json.loads(line)["decision"] for line in path.read_text().splitlines()] == ["recipe", "stop", "end"]
    chosen_for, late = BudgetLog(path).sentences()
    assert chosen_for.startswith("Chosen to fit --budget 1m, without filling the grid")
    assert late == (
        "For lack of time within --budget 1m: learning_rate=0.001 was ended after epoch 2, "
        "the search was ended before all of its trials had begun."
    )


def test_what_is_chosen_of_the_grid_after_the_sweeps_is_what_counts(tmp_path):
    whole = tiny(**WHOLE)
    decisions = BudgetLog(tmp_path / "budget.jsonl")
    decisions.choose(60, whole, candidates(whole)[6])
    decisions.choose_grid(whole, candidates(whole)[4])
    assert decisions.chosen(whole) == candidates(whole)[4]
    assert decisions.sentences() == [
        "Chosen to fit --budget 1m, without filling the grid, of which search surface trains up to 15% and the "
        "learning rate 0.00025."
    ]


def test_a_damaged_file_of_decisions_is_one_sentence(tmp_path):
    (tmp_path / "budget.jsonl").write_text('{"decision"\n{"decision": "end"}\n')
    with pytest.raises(UserError, match=r"budget\.jsonl is damaged .*: restore it from a copy"):
        BudgetLog(tmp_path / "budget.jsonl")


def test_a_study_without_a_budget_has_no_decisions(tmp_path):
    log = BudgetLog(tmp_path / "budget.jsonl")
    assert log.seconds is None
    assert log.sentences() == []
    assert log.chosen(tiny()) == tiny()
    assert not (tmp_path / "budget.jsonl").exists()
