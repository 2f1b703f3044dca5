import json
from itertools import islice

import pytest

from benchmarks import command
from benchmarks.record import description, rows, table
from benchmarks.trial_series import TimeLeft, TrialSeries
from bertgrid_tf.errors import UserError


@pytest.fixture(scope="module")
def overrides():
    return {"metric": "loss"}  # which differs wherever runs do


@pytest.mark.slow
def test_a_killed_recording_resumes_and_ends_with_the_same_tables(recipe, corpus, tmp_path):
    whole = list(rows(TrialSeries(tmp_path / "whole", recipe, corpus), recipe, (1, 2)))
    assert [(cell.learning_rate, cell.seed) for cell in whole[::2]] == [(2e-3, 1), (2e-3, 2), (1e-3, 1), (1e-3, 2)]

    series = TrialSeries(tmp_path / "killed", recipe, corpus)
    killed = list(islice(rows(series, recipe, (1, 2)), 3))
    assert table(killed, recipe, 2).tried.sum() == 1
    resumed = list(rows(series, recipe, (1, 2)))
    # An epoch from before the kill keeps its seconds, so it was not trained twice.
    assert resumed[:3] == killed
    for seed in (1, 2):
        assert table(resumed, recipe, seed) == table(whole, recipe, seed)
    assert table(resumed, recipe, 1) != table(resumed, recipe, 2)


def test_more_learning_rates_can_join_a_recording_and_another_schedule_cannot(recipe, corpus, tmp_path):
    TrialSeries(tmp_path, recipe, corpus, free=("learning_rates",))
    more = recipe.model_copy(update={"learning_rates": [2e-3, 1e-3, 5e-4]})
    TrialSeries(tmp_path, more, corpus, free=("learning_rates",))
    with pytest.raises(UserError, match=r"another recipe \(they differ in epochs\): choose another --work"):
        TrialSeries(tmp_path, more.model_copy(update={"epochs": 3}), corpus, free=("learning_rates",))


def test_the_description_beside_a_table_names_no_folder_of_the_machine(recipe, corpus, tmp_path):
    flags = command.parser("").parse_args(
        ["--model", str(tmp_path), "--data-dir", str(tmp_path), "--set", "context=current", "--max-train-samples", "60"]
    )
    flags.work, flags.learning_rates, flags.seeds, flags.csv = tmp_path, [2e-3, 1e-3], [1, 2], None
    line = command.command_line("record", flags, without=("work",))
    assert line == (
        "python -m benchmarks.record --model MODEL --max-train-samples 60 --set context=current "
        "--learning-rates 0.002,0.001 --seeds 1,2"
    )
    config = TrialSeries(tmp_path, recipe, corpus).runner.models.trainer(recipe.hyperparameters).checkpoint.model.config
    described = json.dumps(description(recipe, corpus, config) | command.circumstances())
    assert str(tmp_path) not in described
    assert '"layers": 1, "width": 32' in described


def test_time_left_is_the_mean_of_what_epochs_took():
    left = TimeLeft(4)
    left.after(10)
    assert left.after(20) == "2 of 4 epochs, 30 s left"


def test_a_benchmark_reports_a_persons_error_in_a_sentence(capsys):
    def main() -> None:
        raise UserError("There is no such thing: give another.")

    with pytest.raises(SystemExit) as ended:
        command.run(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == "There is no such thing: give another.\n"
