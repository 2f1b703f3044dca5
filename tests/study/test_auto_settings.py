"""Values for `auto`: measured once, in their order, and kept with the study."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_study
from tiny_study import corpus_of, tiny

from bertgrid_tf import cli
from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.memory import MIB, estimate
from bertgrid_tf.budget.callbacks import Callback
from bertgrid_tf.corpus import utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.records import MeasuredSetting
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study import auto_settings
from bertgrid_tf.study.auto_settings import (
    AUTO_SETTINGS,
    BATCH_SIZE,
    FINAL_BATCH_SIZE,
    LEAST_STEPS,
    PRECISION,
    HostShare,
    auto_keys,
    resolve,
    with_defaults,
)
from bertgrid_tf.study.execution import TrialExecution
from bertgrid_tf.study.workers import WorkerOptions

SETTING = MeasuredSetting(24, {}, "a device", "fits", [{"texts": 24}])


def setting_for(key: str, recipe: Recipe) -> MeasuredSetting:
    return replace(SETTING, of=AUTO_SETTINGS[key].of(recipe))


def not_measured(key: str, recipe: Recipe) -> MeasuredSetting:
    raise AssertionError(f"{key} is measured anew")


def test_a_recipe_without_auto_needs_nothing():
    assert resolve(tiny(), {}, not_measured, Callback()) == (tiny(), {})


def test_every_auto_gets_its_value_and_later_ones_see_earlier_ones():
    asked = tiny(**{"batch_size": "auto", "final.batch_size": "auto"})
    seen = []

    def measure(key: str, recipe: Recipe) -> MeasuredSetting:
        seen.append((key, auto_settings.key_value(recipe, BATCH_SIZE)))
        return setting_for(key, recipe)

    recipe, kept = resolve(asked, {}, measure, Callback())
    assert seen == [(BATCH_SIZE, "auto"), (FINAL_BATCH_SIZE, 24)]
    assert recipe == tiny(**{"batch_size": 24, "final.batch_size": 24})
    assert not auto_keys(recipe)
    assert resolve(asked, kept, not_measured, Callback()) == (recipe, kept)


def test_a_value_that_was_measured_for_something_else_is_measured_anew():
    asked = tiny(**{"final.batch_size": "auto"})
    _, kept = resolve(asked, {}, setting_for, Callback())
    other = tiny(**{"final.batch_size": "auto", "final.model": "scratch:3x32"})
    with pytest.raises(AssertionError, match=r"final\.batch_size is measured anew"):
        resolve(other, kept, not_measured, Callback())
    # The same model on other GPUs goes on with what it began with.
    more = tiny(**{"final.batch_size": "auto", "final.gpus": "all"})
    assert resolve(more, kept, not_measured, Callback())[0].final.batch_size == 24


def test_without_a_final_model_its_batch_is_not_measured():
    assert auto_keys(tiny(**{"final.model": "none", "final.batch_size": "auto"})) == []


def test_the_most_demanding_of_all_trials_is_measured():
    recipe = tiny(
        **{"batch_size": "auto", "sweeps": {"max_length": [16, 96], "model": ["scratch:1x64", "scratch:1x32"]}}
    )
    of = AUTO_SETTINGS[BATCH_SIZE].of(recipe)
    assert of == {"model": "scratch:1x32, scratch:1x64", "max_length": 96, "precision": "fp32"}
    question = auto_settings._most_demanding(BATCH_SIZE, recipe, corpus_of(recipe), 1)
    assert (question.model, question.max_length) == ("scratch:1x64", 96)


def test_the_fewest_frozen_layers_and_mean_pooling_are_the_most_demanding():
    def measured(**changes: object) -> tuple[int, str]:
        asked = tiny(**changes, batch_size="auto")
        question = auto_settings._most_demanding(BATCH_SIZE, asked, corpus_of(asked), 1)
        return question.frozen_layers, question.pooling

    assert measured() == (0, "cls")
    assert measured(frozen_layers=2, pooling="mean") == (2, "mean")
    sweeps = {"frozen_layers": [1, 3], "pooling": ["cls", "mean"]}
    assert measured(frozen_layers=2, sweeps=sweeps) == (1, "mean")
    of = AUTO_SETTINGS[BATCH_SIZE].of
    assert of(with_defaults(tiny())).keys() == {"model", "max_length", "precision"}
    assert of(tiny(frozen_layers=1))["frozen_layers"] == 1


def test_the_final_model_s_gpus_share_the_batch():
    recipe = tiny(**{"max_train_samples": 800, "final.batch_size": "auto"})
    corpus = corpus_of(recipe)
    one, each = (auto_settings._most_demanding(FINAL_BATCH_SIZE, recipe, corpus, gpus).most for gpus in (1, 4))
    assert 4 * each <= one < 4 * (each + 1)
    assert one == len(list(utterances(corpus.splits["train"]))) // LEAST_STEPS


def test_some_value_stands_in_where_it_does_not_matter():
    assert with_defaults(tiny(**{"batch_size": "auto", "final.batch_size": "auto"})) == tiny(
        **{"batch_size": 32, "final.batch_size": 32}
    )


AUTO = {
    "batch_size": "auto",
    "max_train_samples": 300,
    "sweeps": {},
    "learning_rates": [1e-3],
    "epochs": 1,
    "final.batch_size": "auto",
    "final.model": "none",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyFolder, tiny_study.Recorder]:
    """A study that measured its batch size."""
    folder = tmp_path_factory.mktemp("auto") / "study"
    recorder = tiny_study.run(folder, tiny(**AUTO))
    return StudyFolder(folder), recorder


def test_a_study_trains_with_the_batch_that_it_measured(study):
    study_folder, recorder = study
    batch = recorder.auto_settings[BATCH_SIZE].value
    assert [config.hyperparameters.batch_size for config in recorder.configs] == [batch]
    assert batch > 1
    assert recorder.trials[0][1] >= LEAST_STEPS
    assert study_folder.read_recipe().hyperparameters.batch_size == "auto"
    assert study_folder.read_best().hyperparameters.batch_size == batch
    assert study_folder.read_auto_settings() == recorder.auto_settings
    assert [row["texts"] for row in recorder.auto_settings[BATCH_SIZE].curve][:2] == [1, 2]


def test_a_study_that_goes_on_takes_what_it_began_with_though_another_would_be_measured(study, tmp_path, monkeypatch):
    study_folder, recorder = study
    monkeypatch.setitem(AUTO_SETTINGS, BATCH_SIZE, replace(AUTO_SETTINGS[BATCH_SIZE], measure=not_measured))
    resumed = tiny_study.run(study_folder.path, tiny(**AUTO))
    assert resumed.steps == 0
    assert not resumed.auto_settings
    batch = recorder.auto_settings[BATCH_SIZE].value
    assert resumed.messages == [f"batch_size auto is {batch}, as measured on the CPU when the study began."]


@pytest.mark.slow
def test_a_study_begun_afresh_measures_afresh(study, monkeypatch):
    study_folder, _ = study
    monkeypatch.setitem(AUTO_SETTINGS, BATCH_SIZE, replace(AUTO_SETTINGS[BATCH_SIZE], measure=lambda *_: SETTING))
    recorder = tiny_study.run(study_folder.path, tiny(**AUTO), fresh=True)
    assert recorder.configs[0].hyperparameters.batch_size == 24
    assert study_folder.read_auto_settings()[BATCH_SIZE].value == 24


def test_a_damaged_record_is_one_sentence(tmp_path):
    study_folder = StudyFolder(tmp_path)
    assert study_folder.read_auto_settings() == {}
    for damage in ("{", json.dumps({BATCH_SIZE: {"value": 1}})):
        study_folder.auto_settings_file.write_text(damage)
        with pytest.raises(UserError, match=r"auto_settings\.json is damaged"):
            study_folder.read_auto_settings()


def test_a_plan_of_an_auto_names_the_batch_of_its_steps(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = [
        "tune",
        "sample",
        "--set",
        "batch_size=auto",
        "--set",
        "final.batch_size=auto",
        "--max-train-samples",
        "600",
    ]
    monkeypatch.setattr("sys.argv", ["bertgrid-tf", *asked, "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr().out
    assert ended.value.code == 0
    # A model so small is kept from larger batches by the number of texts alone.
    texts = len(list(utterances(corpus_of(tiny(max_train_samples=600)).splits["train"])))
    batch = texts // LEAST_STEPS // 2 * 2
    for key in ("batch_size", "final.batch_size"):
        assert f"{key} auto is measured when the study begins; the steps above are those of {batch}, which" in out
    assert not Path("results").exists()


def test_a_worker_measures_with_the_values_that_were_measured_before(tmp_path):
    asked, given = tiny(**AUTO), []

    class Workers:
        def measure(self, config, key: str, final_gpus: int) -> MeasuredSetting:
            given.append(config.recipe)
            return SETTING

    execution = TrialExecution(corpus_of(asked), asked, StudyFolder(tmp_path), {}, Callback(), Workers())
    so_far = tiny(**AUTO, precision="bf16")
    assert execution.measure(BATCH_SIZE, so_far) == SETTING
    assert given == [so_far]


@pytest.mark.slow
def test_a_worker_measures_with_its_share_of_the_host(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    recorder = tiny_study.run(tmp_path / "study", tiny(**AUTO), workers=WorkerOptions(2))
    assert recorder.auto_settings[BATCH_SIZE].value > 1
    assert recorder.configs[0].hyperparameters.batch_size == recorder.auto_settings[BATCH_SIZE].value
    assert recorder.auto_settings[BATCH_SIZE].on == "the CPU"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_estimate_is_within_20_percent_of_what_is_measured(precision):
    recipe = tiny(**{"model": "scratch:4x256", "max_length": 64, "batch_size": "auto", "precision": precision})
    recipe = recipe.model_copy(update={"max_train_samples": None})
    corpus = corpus_of(recipe)
    setting = AUTO_SETTINGS[BATCH_SIZE].measure(recipe, corpus, HostShare())
    texts = [utterance.text for utterance in utterances(corpus.splits["train"])]
    size = Dimensions.of(
        load(recipe.hyperparameters.model, corpus.labels, texts=texts).model.config, len(corpus.labels)
    )
    for row in setting.curve:
        assert 0.8 < estimate(size, row["texts"], 64, precision, on_gpu=False) / MIB / row["peak, MiB"] < 1.2, row


@pytest.mark.slow
def test_the_fastest_precision_is_measured_in_a_process_of_its_own_and_before_the_batch_size():
    asked = tiny(precision="auto", batch_size="auto")
    assert auto_keys(asked) == [PRECISION, BATCH_SIZE]
    corpus = corpus_of(asked)
    setting = AUTO_SETTINGS[PRECISION].measure(asked, corpus, HostShare())
    assert setting.value in ("fp32", "bf16")
    assert [line["precision"] for line in setting.curve] == ["fp32", "bf16"]
    losses = [line["loss"] for line in setting.curve]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert all(line["examples/s"] > 0 for line in setting.curve)
    assert "as fast as fp32" in setting.because
    # What is measured after it sees it.
    recipe, _ = resolve(asked, {PRECISION: replace(setting, value="bf16")}, setting_for, Callback())
    assert AUTO_SETTINGS[BATCH_SIZE].of(recipe)["precision"] == "bf16"


def test_a_precision_that_cannot_be_measured_is_one_sentence(tmp_path, monkeypatch):
    # Here instead of in a child, whose errors come back (`system/test_isolated_process.py`) after TensorFlow's import.
    monkeypatch.setattr(auto_settings, "run_isolated", lambda function, argument: function(argument, print))
    asked = tiny(precision="auto", model=str(tmp_path))
    with pytest.raises(UserError, match=r"is not a checkpoint: it has no config\.json"):
        AUTO_SETTINGS[PRECISION].measure(asked, corpus_of(tiny()), HostShare())
