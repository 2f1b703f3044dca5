"""Final models that are the mean of several, and one that is trained on dev too."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tiny_study import Recorder, corpus_of, run, tiny
from typer.testing import CliRunner

from bertgrid_tf.analysis import analyze
from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.budget.disk_space import disk_space
from bertgrid_tf.budget.plan import plan
from bertgrid_tf.budget.time_budget import Budget
from bertgrid_tf.cli import app
from bertgrid_tf.corpus import utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.export import export
from bertgrid_tf.inference.predict import Prediction, dev_report
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.inference.push import push
from bertgrid_tf.report.summary import print_summary
from bertgrid_tf.storage.predictions import predictions_file, read_predictions
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.trial_config import FINAL

TINY = {"final.model": "none", "sweeps": {}, "learning_rates": [8e-3], "epochs": 1, "metric": "loss"}
FOLDS = TINY | {"final.folds": 2}
WITH_DEV = TINY | {"final.train_on": "train+dev", "final.n_seeds": 2}


class Stopping(Recorder):
    """Is interrupted in the first step of a trial."""

    def __init__(self, trial: str) -> None:
        super().__init__()
        self._trial = trial

    def on_train_batch_end(self, trial: str, step: int, steps: int, loss: float) -> None:
        if trial == self._trial:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def of_folds(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    folder = tmp_path_factory.mktemp("folds") / "study"
    run(folder, tiny(**FOLDS))
    return StudyFolder(folder)


@pytest.fixture(scope="module")
def with_dev(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    folder = tmp_path_factory.mktemp("with_dev") / "study"
    run(folder, tiny(**WITH_DEV))
    return StudyFolder(folder)


def test_the_final_model_is_the_mean_of_a_model_for_each_fold(of_folds):
    corpus, paths = corpus_of(tiny(**FOLDS)), of_folds.final_models()
    assert [path.relative_to(of_folds.path).as_posix() for path in paths] == [*("model", "model/members/2")]
    assert len({(path / "model.safetensors").read_bytes() for path in paths}) == 2
    own = [
        read_predictions(predictions_file(of_folds.predictions, f"final_{number}", 1), corpus.labels).probabilities
        for number in (1, 2)
    ]
    mean = read_predictions(predictions_file(of_folds.predictions, FINAL, 1), corpus.labels).probabilities
    np.testing.assert_array_equal(mean, np.mean(own, axis=0))
    np.testing.assert_allclose(Predictor(of_folds).probabilities(corpus.splits["dev"]), mean, atol=1e-5)
    truth = read_predictions(predictions_file(of_folds.predictions, FINAL, 1), corpus.labels).truth
    (epoch,) = of_folds.read_final().epochs
    assert epoch["loss"] == pytest.approx(-np.log(mean[np.arange(len(truth)), truth]).mean(), rel=1e-4)
    assert analyze(of_folds).cost.epochs == 1 + 2


def test_every_training_text_is_predicted_by_the_model_that_was_trained_without_it(of_folds):
    corpus = corpus_of(tiny(**FOLDS))
    train, read = corpus.splits["train"], read_predictions(of_folds.out_of_fold_file, corpus.labels)
    assert [corpus.labels[label] for label in read.truth] == [text.label for text in utterances(train)]
    of_each = [
        Trainer(load(str(path), corpus.labels)).probabilities(_encoded(of_folds, path))
        for path in of_folds.final_models()
    ]
    near = np.stack([np.abs(one - read.probabilities).max(axis=1) < 1e-5 for one in of_each])
    assert near.any(axis=0).all()
    assert near.any(axis=1).all()


def _encoded(study: StudyFolder, model: Path):
    from bertgrid_tf.training.encoding import encode_dialogues

    recipe = tiny(**FOLDS)
    tokenizer, corpus = load(str(model), corpus_of(recipe).labels).tokenizer, corpus_of(recipe)
    values, speakers = study.read_final().hyperparameters, study.read_metadata().speakers
    return encode_dialogues(tokenizer, corpus.splits["train"], values, speakers)


def _summary(study: StudyFolder) -> str:
    console = Console(width=500, record=True)
    print_summary(console, study, analyze(study))
    return console.export_text()


def test_interrupted_between_two_members_a_study_goes_on_with_the_second(of_folds, tmp_path):
    folder = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run(folder, tiny(**FOLDS), callback=Stopping("final_2"))
    assert not StudyFolder(folder).has_final_model()
    recorder = run(folder, tiny(**FOLDS))
    assert [config.held_out for config in recorder.configs] == [(1, 2)]
    whole = [file.relative_to(of_folds.path) for file in of_folds.path.rglob("*") if file.is_file()]
    assert sorted(whole) == sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    same = [
        file for file in whole if file.suffix == ".safetensors" or file.parts[0] in ("predictions", "out_of_fold.csv")
    ]
    same += [Path("model/correction.json"), Path("mistakes.csv")]
    assert len(same) > 7
    assert [file for file in same if (folder / file).read_bytes() != (of_folds.path / file).read_bytes()] == []
    shutil.rmtree(folder / "model" / "members" / "2")
    assert len(run(folder, tiny(**FOLDS)).trials) == 1
    # The folder of the first, in which the others' are, is written anew.
    for lost in ("final.json", "follow_up/final_1.json"):
        (folder / lost).unlink()
    assert len(run(folder, tiny(**FOLDS)).trials) == 2
    assert len(StudyFolder(folder).final_models()) == 2
    with pytest.raises(UserError, match=r"differ in final\.folds"):
        run(folder, tiny(**FOLDS | {"final.folds": 3}))


def test_members_that_are_no_longer_asked_for_leave_nothing(tmp_path):
    folder = tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        run(folder, tiny(**TINY, **{"final.n_seeds": 3}), callback=Stopping("final_3"))
    run(folder, tiny(**TINY))
    assert len(StudyFolder(folder).final_models()) == 1
    assert not [path for path in folder.rglob("*") if re.fullmatch(r"[23]|final_[123]", path.stem)]


@pytest.mark.slow
def test_members_that_do_not_fit_the_budget_are_not_begun(tmp_path, monkeypatch):
    from bertgrid_tf.budget.controller import BudgetController

    begin = BudgetController.begin_final

    def late(self, name, config, first):
        if name == "final_2":
            self._deadline.seconds = 1e-3
        return begin(self, name, config, first)

    monkeypatch.setattr(BudgetController, "begin_final", late)
    recipe = tiny(**TINY | {"final.n_seeds": 2})
    run(tmp_path / "study", recipe, budget=Budget.of("1h"))
    study = StudyFolder(tmp_path / "study")
    assert (study.read_final().members, len(study.final_models())) == (1, 1)
    assert "final_2 was not begun" in _summary(study)
    assert run(tmp_path / "study", recipe).trials == []


def test_trained_on_dev_too_a_final_model_has_no_score_and_says_so(with_dev):
    corpus = corpus_of(tiny(**WITH_DEV))
    assert with_dev.read_final().members == 2
    assert "loss" not in with_dev.read_final().epochs[-1]
    assert list(with_dev.predictions.glob("final*")) == []
    assert (with_dev.correction_file.exists(), dev_report(with_dev)) == (False, None)
    analysis = analyze(with_dev)
    assert (analysis.final_dev, analysis.calibration, analysis.cost.epochs) == (None, None, 1 + 2)
    card = (with_dev.model / "README.md").read_text()
    for text in (_summary(with_dev), card, with_dev.report_file.read_text()):
        assert "trained on dev too" in text.replace("<strong>", "").replace("</strong>", "")
    assert "`members/` has the others" in card
    assert all(mistake.split == "dev" for mistake in with_dev.read_mistakes())
    with pytest.raises(UserError, match="leave it out"):
        Prediction(with_dev, Predictor(with_dev), lambda _: [], correct_shift=True)
    texts = sum(1 for split in ("train", "dev") for _ in utterances(corpus.splits[split]))
    batch_size = int(tiny(**WITH_DEV).hyperparameters.batch_size)
    (stage,) = [stage for stage in plan(tiny(**WITH_DEV), corpus).stages if stage.name == FINAL]
    assert (stage.trials, stage.steps) == (2, 2 * -(-texts // batch_size))
    assert run(with_dev.path, tiny(**WITH_DEV)).trials == []


def test_evaluate_says_what_dev_no_longer_tells(with_dev):
    result = CliRunner().invoke(app, ["evaluate", str(with_dev.path), "--split", "dev"])
    assert result.exit_code == 0, result.output
    assert "The final model is trained on dev too" in result.output
    assert "final model is trained on dev too" in (with_dev.model / "README.md").read_text()


@pytest.mark.slow
def test_an_ensemble_is_exported_as_one_model_and_not_pushed(of_folds, tmp_path):
    exported = export(of_folds, "savedmodel", tmp_path / "exported")
    assert exported.difference < 1e-4
    with pytest.raises(UserError, match=r"the mean of 2 models, .* final\.n_seeds 1"):
        push(of_folds, "me/model", "card")


def test_members_count_in_the_plan_and_on_disk():
    one, two = tiny(**TINY | {"final.model": "scratch:2x32"}), tiny(**FOLDS | {"final.model": "scratch:2x32"})
    corpus = corpus_of(one)
    stages = [{stage.name: stage for stage in plan(recipe, corpus).stages}[FINAL] for recipe in (one, two)]
    assert [stage.trials for stage in stages] == [1, 2]
    assert stages[0].steps <= stages[1].steps < 2 * stages[0].steps
    assert disk_space(two, corpus).kept > 1.5 * disk_space(one, corpus).kept
