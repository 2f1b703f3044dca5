"""The stages of a study, with the workloads that their times are predicted from."""

from dataclasses import replace

import pytest
from tiny_study import corpus_of, tiny

from bertgrid_tf.budget.plan import final_trials, plan, planned_finals, stage_trials, stage_works
from bertgrid_tf.budget.time_estimator import StageWork
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.workload import EpochWorkload
from bertgrid_tf.trial_config import FINAL, TrialConfig

WHOLE = {
    "sweeps": {"context": ["current", "current+previous"], "max_length": [32, 48], "batch_size": [16]},
    "sweep_epochs": 1,
    "learning_rates": [4e-3, 2e-3, 1e-3],
    "epochs": 4,
    "n_seeds": 3,
    "check_interactions": True,
}


def workload(config: TrialConfig) -> EpochWorkload:
    """One whose tokens tell a configuration's maximum length, and its width the GPUs."""
    parameters = config.hyperparameters
    return EpochWorkload(parameters.context, parameters.model, 1, config.gpus, 4, float(parameters.max_length), 10.0)


def works(undecided: tuple[str, ...] = (), **overrides) -> dict[str, StageWork]:
    return {stage.name: stage for stage in stage_works(tiny(**WHOLE | overrides), workload, undecided, 2)}


@pytest.mark.parametrize(("search", "at_most"), [("grid", {"seeds"}), ("surface", {"grid", "seeds"})])
def test_what_a_search_may_leave_out_is_planned_at_most(search, at_most):
    stages = works(search=search)
    assert list(stages) == [
        "sweep:context",
        "sweep:max_length",
        "sweep:batch_size",
        "grid",
        "seeds",
        "interactions",
        "final",
    ]
    assert {name for name, stage in stages.items() if stage.at_most} == at_most
    recipe = tiny(**WHOLE | {"search": search})
    planned = {stage.name for stage in plan(recipe, corpus_of(recipe)).stages if stage.at_most}
    assert planned == at_most | {"interactions", "final"}


def test_the_stages_after_the_search_train_every_row_again_and_check_every_sweep():
    stages = dict(stage_trials(tiny(**WHOLE)))
    assert [trial.hyperparameters.learning_rate for trial in stages["seeds"]] == [4e-3, 2e-3, 1e-3] * 2
    assert {(trial.stage, trial.stop_epoch) for trial in stages["seeds"]} == {("seeds", 4)}
    # The sweep of one level has no runner-up.
    assert [(check.stage, check.seed, check.stop_epoch) for check in stages["interactions"]] == [
        ("interactions", tiny().seed, 4)
    ] * 2
    assert "interactions" not in dict(stage_trials(tiny(**WHOLE | {"check_interactions": False})))
    assert "seeds" not in dict(stage_trials(tiny(**WHOLE | {"n_seeds": 1})))


def test_each_stage_is_predicted_at_the_levels_of_the_earlier_sweeps_that_are_open():
    stages = works(undecided=("context", "max_length"))
    open_sweeps = {
        name: [[level.tokens for level in levels] for _, levels in stage.undecided] for name, stage in stages.items()
    }
    assert open_sweeps == {
        "sweep:context": [],
        "sweep:max_length": [[48.0, 48.0]],
        "sweep:batch_size": [[48.0, 48.0], [32.0, 48.0]],
        **{name: [[48.0, 48.0], [32.0, 48.0]] for name in ("grid", "seeds", "interactions", "final")},
    }
    assert all(start.kind == "current" for start, _ in stages["grid"].undecided)
    assert not any(stage.undecided for stage in works().values())


def test_the_final_model_alone_is_trained_by_all_gpus():
    gpus = {name: {work.width for work, _ in stage.trials} for name, stage in works().items() if stage.trials}
    assert gpus.pop("final") == {2}
    assert set(map(tuple, gpus.values())) == {(1,)}


def test_a_final_trial_has_the_profile_s_model_and_batch_size():
    recipe: Recipe = tiny(**WHOLE | {"final.batch_size": 8})
    (trial,) = final_trials(recipe, 3, 2)
    assert (trial.stop_epoch, trial.schedule_epochs, trial.gpus, trial.stage) == (3, 4, 2, "final")
    assert (trial.hyperparameters.model, trial.hyperparameters.batch_size) == ("scratch:2x32", 8)
    (shared,) = final_trials(tiny(**WHOLE), 3)
    assert (shared.gpus, shared.hyperparameters.batch_size) == (1, recipe.hyperparameters.batch_size)
    assert replace(trial, gpus=1).seed == recipe.seed


@pytest.mark.parametrize(
    ("final", "changes", "adopts"),
    [
        ({}, {}, True),
        ({"final.model": "scratch:1x32", "final.batch_size": 16}, {}, True),
        # Another cell than the best one may win.
        ({}, {"n_seeds": 2}, False),
        ({}, {"selection": "cheapest-equivalent"}, False),
        # The final trial is another than the winner's.
        ({"final.model": "scratch:2x32"}, {}, False),
        ({"final.model": "scratch:1x32", "final.batch_size": 8}, {}, False),
        ({"final.model": "scratch:1x32", "final.gpus": 2}, {}, False),
        ({"final.n_seeds": 2}, {}, False),
        ({"final.folds": 2}, {}, False),
        ({"final.train_on": "train+dev"}, {}, False),
    ],
)
def test_a_final_trial_is_planned_unless_it_is_sure_to_be_the_winning_one(final, changes, adopts):
    recipe = tiny(**{"batch_size": 16, "final.model": "none", **final, **changes})
    assert (not planned_finals(recipe, 2)) == adopts
    assert ([name for name, _ in stage_trials(recipe)][-1] == FINAL) != adopts


def test_without_a_final_profile_the_final_trial_is_the_winner_s_on_one_gpu():
    recipe = tiny(**{"final.model": "none", "final.batch_size": 8, "final.gpus": 2})
    assert final_trials(recipe, 1, 2) == [TrialConfig(recipe.hyperparameters, 2, 1, recipe.seed, FINAL)]


@pytest.mark.parametrize("rates", [[2e-3], [4e-3, 2e-3, 1e-3]])
def test_a_search_that_is_not_filled_is_planned_with_the_epochs_that_it_may_take(rates):
    (_, filled), (_, searched) = (
        stage_trials(tiny(**WHOLE | {"learning_rates": rates, "sweeps": {}, "search": search}))[0]
        for search in ("grid", "surface")
    )
    assert sum(trial.stop_epoch for trial in filled) == 4 * len(rates)
    # One row at least.
    assert sum(trial.stop_epoch for trial in searched) == 4
