from dataclasses import replace

import made_up_analysis as made_up
import numpy as np
import pytest

from bertgrid_tf.analysis import class_report
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.report.answer import answer, baselines, cost, first_epochs, overruled, to_html, to_text, unbeaten
from bertgrid_tf.report.format import score


def test_terminal_and_page_say_the_same_sentences():
    for sentence in answer(made_up.complete()):
        page = str(to_html(sentence)).replace("\u00a0", " ")
        for tag in ("strong", "code"):
            page = page.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
        assert page == to_text(sentence).plain


def test_a_name_with_the_letters_of_mark_up_stays_a_name():
    study = made_up.complete()
    for name in ("<b>[bold]x[/]</b>", "a**b", "c:\\models\\"):
        final = replace(study.final, hyperparameters=study.final.hyperparameters.model_copy(update={"model": name}))
        (sentence,) = [one for one in answer(replace(study, final=final)) if one.startswith("Final model")]
        assert f"Final model {name}, epoch" in to_text(sentence).plain
        assert "<b>" not in to_html(sentence)


def test_a_first_epoch_that_is_compared_is_named_where_a_run_of_its_own_would_be_another():
    study = made_up.complete()
    [sentence] = first_epochs(study)
    assert sentence.startswith("The first epoch at learning rate 2e-05 is among the tied cells. It was scored within a")
    assert sentence in answer(study)
    [several] = first_epochs(replace(study, cells=[replace(cell, tied=True) for cell in study.cells]))
    assert several.startswith("The first epoch at learning rates 2e-05, 6e-06, 5e-06,")
    later = [replace(cell, tied=cell.tied and cell.epoch > 1) for cell in study.cells]
    assert first_epochs(replace(study, cells=later)) == []
    per_cell = study.recipe.model_copy(update={"grid_schedule": "per-cell"})
    assert first_epochs(replace(study, recipe=per_cell)) == []
    constant = study.winner.hyperparameters.model_copy(update={"lr_schedule": "constant", "warmup_ratio": 0.0})
    assert first_epochs(replace(study, winner=study.winner.model_copy(update={"hyperparameters": constant}))) == []


def test_the_cost_stands_beside_that_of_every_combination_unless_that_is_the_grid_which_was_trained():
    study = made_up.complete()
    (sentence,) = cost(study)
    assert sentence == (
        "The study took **125** epochs and **2 h 45 min**; every combination of all levels would take 40,320 epochs."
    )
    (sentence,) = cost(replace(study, cost=replace(study.cost, product_epochs=70)))
    assert sentence == "The study took **125** epochs and **2 h 45 min**."
    (sentence,) = cost(replace(study, cost=replace(study.cost, product_epochs=70, epochs=20)))
    assert sentence.endswith("; every combination of all levels would take 70 epochs.")


def test_a_better_level_that_came_later_is_named_with_the_chosen_one_and_what_to_do():
    study = made_up.complete()
    sweep = study.sweeps[0]
    chosen = next(level for level in sweep.levels if level.chosen)
    later = replace(chosen, level="later", chosen=False, overruled=True)
    assert not overruled(study)
    grown = replace(study, sweeps=[replace(sweep, levels=[*sweep.levels, later])])
    (sentence,) = overruled(grown)
    reached = score(study.recipe.metric, chosen.score.value)
    assert to_text(sentence).plain == (
        f"The level {sweep.parameter}=later, {reached} in its sweep, came later and would have been adopted in place "
        f"of {chosen.level}, {reached} (the two are tied at the 5 % level). All that follows the sweep was trained "
        "with the latter, and stays; the same command with --study NAME makes a study that searches anew."
    )
    assert sentence in answer(grown)


def scored(predicted: np.ndarray, metric: str = "accuracy"):
    """The report of a model of three classes, of which half of the texts are neutral."""
    truth = np.array([0, 0, 1, 2] * 25)
    probabilities = np.eye(3)[predicted] * 0.7 + 0.1
    split = Split(truth, np.arange(100), ("neutral", "joy", "fear"))
    return class_report(split, probabilities[None], np.array([0.5, 0.3, 0.2]), metric)


SOME = np.array([0, 0, 1, 0] * 3 + [0, 1, 0, 0] * 2 + [0, 0, 0, 0] * 20)


@pytest.mark.parametrize(
    ("predicted", "sentence"),
    [
        (
            np.zeros(100, int),
            "Not better than always saying neutral (50.00 % on dev): the winner has accuracy 50.00 %, and says neutral "
            "for every text.",
        ),
        (
            np.array([0, 1] * 50),
            "Not better than always saying neutral (50.00 % on dev): the winner has accuracy 25.00 %.",
        ),
        (
            SOME,
            "Not significantly better than always saying neutral (50.00 % on dev): the winner has accuracy 51.00 %, a "
            "difference of +1.00 points (-3.39 to +5.39).",
        ),
    ],
    ids=["one class", "worse", "hardly better"],
)
def test_the_first_sentence_is_that_nothing_was_learned_where_that_is_so(predicted, sentence):
    study = replace(made_up.searched(), dev=scored(predicted))
    first, second, third = [to_text(one).plain for one in answer(study)[:3]]
    assert first == sentence
    assert second.startswith("On dev: accuracy ")
    assert second.endswith("; always neutral 50.00 %, guessing by frequency 37.50 %.")
    assert third.startswith("Winner: ")
    assert answer(made_up.searched())[0].startswith("On dev: ")


def test_a_final_model_and_a_test_split_have_their_baselines_too():
    study = replace(made_up.complete(), final_dev=scored(np.zeros(100, int)), test=scored(np.array([1, 0] * 50)))
    dev, test, best = [to_text(one).plain for one in answer(study)[:3]]
    assert dev.startswith(
        "Not better than always saying neutral (50.00 % on dev): the final model has accuracy 50.00 %"
    )
    assert test.startswith("Not better than always saying neutral (50.00 % on the test split): the final model has")
    assert best.startswith("On dev: ")


def test_where_guessing_is_the_better_baseline_it_is_the_one_to_beat():
    study = made_up.searched()
    study = replace(study, recipe=study.recipe.model_copy(update={"metric": "macro_f1"}))
    first = to_text(answer(replace(study, dev=scored(np.zeros(100, int), "macro_f1")))[0]).plain
    assert first.startswith(
        "Not better than guessing by the classes' frequencies (33.16 % on dev): the winner has macro_f1"
    )


def test_the_baseline_of_a_metric_of_probabilities_is_the_classes_frequencies():
    report = scored(np.zeros(100, int), "loss")
    shares = -(0.5 * np.log(0.5) + 0.25 * np.log(0.3) + 0.25 * np.log(0.2))
    assert baselines("loss", report.baseline) == f"the classes' frequencies as probabilities {shares:.4f}"


def test_labels_that_are_all_the_same_say_nothing_about_a_metric_of_probabilities():
    truth = np.array([0, 0, 1, 2] * 5)
    probabilities = np.array([[0.6, 0.2, 0.2], [0.6, 0.3, 0.1]] * 10)
    split = Split(truth, np.arange(20), ("neutral", "joy", "fear"))
    report = class_report(split, probabilities[None], np.array([0.5, 0.3, 0.2]), "roc_auc")
    (sentence,) = unbeaten("roc_auc", report, "the winner", "dev")
    assert report.only_label == "neutral"
    assert "as probabilities (50.00 % on dev): the winner has roc_auc" in sentence
    assert "for every text." not in sentence
