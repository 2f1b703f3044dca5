from dataclasses import replace

import pandas as pd
import pytest
from tiny_study import Recorder, run, tiny

from bertgrid_tf.analysis import LevelAnalysis, ScoreEstimate, SweepAnalysis, analyze
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.storage.predictions import predictions_file
from bertgrid_tf.storage.records import FollowUpTrial
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.follow_up import interaction_checks, keep_ended, seed_repeats
from bertgrid_tf.trial_config import FINAL, INTERACTIONS, SEEDS, TrialConfig

SCORE = ScoreEstimate(0.5, 0.4, 0.6)
FOLLOW_UP = {"n_seeds": 2, "check_interactions": True, "final.model": "none"}


def level(value: str, score: float | None, chosen: bool = False) -> LevelAnalysis:
    return LevelAnalysis(value, 1, score and replace(SCORE, value=score), 0.5, True, chosen, "COMPLETED")


def winner(recipe: Recipe, schedule_epochs: int = 3, stop_epoch: int = 3, **changes: object) -> TrialConfig:
    return TrialConfig(recipe.hyperparameters, schedule_epochs, stop_epoch, recipe.seed).with_hyperparameters(**changes)


def test_every_row_with_tied_cells_is_repeated_up_to_the_last_of_them():
    tied = [(1e-3, 1), (1e-3, 2), (2e-4, 3)]
    recipe = tiny(n_seeds=3, epochs=3, seed=7)
    trials = seed_repeats(recipe, winner(recipe), tied)
    configs = [trial.config for trial in trials]
    assert [
        (config.seed, config.hyperparameters.learning_rate, config.schedule_epochs, config.stop_epoch)
        for config in configs
    ] == [(8, 1e-3, 3, 2), (8, 2e-4, 3, 3), (9, 1e-3, 3, 2), (9, 2e-4, 3, 3)]
    assert {config.stage for config in configs} == {SEEDS}
    assert len({trial.name for trial in trials}) == 4
    per_cell = tiny(n_seeds=2, epochs=3, grid_schedule="per-cell")
    schedules = [
        (trial.config.schedule_epochs, trial.config.stop_epoch)
        for trial in seed_repeats(per_cell, winner(per_cell), tied)
    ]
    assert schedules == [(1, 1), (2, 2), (3, 3)]
    assert seed_repeats(tiny(), winner(tiny()), tied) == []


def test_the_runner_up_is_the_best_level_that_was_not_chosen():
    sweeps = [
        SweepAnalysis(
            "context",
            [
                level("current", 0.4),
                level("current+previous", 0.7, True),
                level("previous+current+next", 0.6),
                level("current+next", None),
            ],
        ),
        SweepAnalysis("model", [level("scratch:1x32", None, True)]),
    ]
    recipe = tiny(check_interactions=True)
    best = winner(recipe, 3, 2, context="current+previous")
    (check,) = interaction_checks(recipe, best, sweeps)
    assert (check.config.parameter, check.config.stage) == ("context", INTERACTIONS)
    assert check.config.values == best.values | {"context": "previous+current+next"}
    (check,) = interaction_checks(tiny(check_interactions=True, metric="loss"), best, sweeps)
    assert check.config.hyperparameters.context == "current"
    assert interaction_checks(tiny(), best, sweeps) == []


@pytest.fixture(scope="module")
def followed_up(tmp_path_factory) -> tuple[StudyFolder, Recorder]:
    folder = tmp_path_factory.mktemp("follow_up") / "study"
    return StudyFolder(folder), run(folder, tiny(**FOLLOW_UP))


def test_tied_rows_get_another_seed_and_sweeps_an_interaction_check(followed_up):
    study_folder, recorder = followed_up
    analysis = analyze(study_folder)
    assert analysis.seed_repeats
    for repeat in analysis.seed_repeats:
        assert len(repeat.scores) == 2
    assert {config.seed for config in recorder.configs if config.stage == SEEDS} == {2}
    (check,) = analysis.interaction_checks
    assert {check.chosen, check.runner_up} == {"current", "current+previous"}
    assert [config.parameter for config in recorder.configs if config.stage == INTERACTIONS] == ["context"]
    # Another seed gives other numbers.
    cells = pd.read_csv(study_folder.cells_file)
    for trial in study_folder.read_follow_ups():
        if trial.config.stage == SEEDS:
            rate = trial.config.hyperparameters.learning_rate
            first = cells[(cells.learning_rate == rate) & (cells.epoch == 1)]
            assert trial.epochs[0]["train_loss"] != first["train_loss"].item()
    assert not [path for path in study_folder.follow_up.iterdir() if path.is_dir()]


@pytest.mark.slow
def test_interaction_checks_and_more_seeds_can_be_asked_for_afterwards_and_fewer_cannot(tmp_path):
    folder = tmp_path / "study"
    run(folder, tiny())
    assert run(folder, tiny(check_interactions=True)).stages == [INTERACTIONS]
    assert set(run(folder, tiny(check_interactions=True, n_seeds=2)).stages) <= {SEEDS, INTERACTIONS, FINAL}
    with pytest.raises(UserError, match=r"\(n_seeds is 1 instead of 2; check_interactions is False instead of True\)"):
        run(folder, tiny())


def test_a_trial_after_the_search_that_a_changed_winner_has_no_use_for_is_deleted_or_cut(tmp_path):
    folder, config = StudyFolder(tmp_path), winner(tiny(n_seeds=2))
    folder.write_recipe(tiny(n_seeds=2))
    metrics = [{"accuracy": 0.1 * epoch} for epoch in (1, 2, 3)]
    kept, cut, gone = (
        FollowUpTrial(name, replace(config, stage=SEEDS), metrics) for name in ("seed2_a", "seed2_b", "seed2_c")
    )
    for trial in (kept, cut, gone):
        folder.write_follow_up(trial)
        for epoch in (1, 2, 3):
            write_text(predictions_file(folder.predictions, trial.name, epoch), "")
    shorter, longer = replace(cut.config, stop_epoch=2), replace(gone.config, schedule_epochs=4)
    asked = [kept, replace(cut, config=shorter), replace(gone, config=longer)]
    assert keep_ended(SEEDS, asked, folder) == {"seed2_a", "seed2_b"}
    assert [trial.name for trial in folder.read_follow_ups()] == ["seed2_a", "seed2_b"]
    assert folder.read_follow_up(folder.follow_up_file("seed2_b")) == replace(cut, config=shorter, epochs=metrics[:2])
    left = sorted(path.stem for path in folder.predictions.iterdir())
    assert left == ["seed2_a-1", "seed2_a-2", "seed2_a-3", "seed2_b-1", "seed2_b-2"]
    assert keep_ended(INTERACTIONS, [], folder) == set()
    assert len(folder.read_follow_ups()) == 2
