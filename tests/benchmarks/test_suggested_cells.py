import numpy as np
import pytest

from benchmarks.suggest import (
    CHOICES,
    calibration,
    fixed,
    interval,
    leave_one_out,
    likeliest,
    nearest,
    outcome,
    suggested,
    tables,
)
from bertgrid_tf.bank.card import Card
from bertgrid_tf.bank.studies import RecordedStudy


def study(task: str, best: float, width: int = 128, source: str = "recorded") -> RecordedStudy:
    rates = np.array([4e-4, 2e-4, 1e-4])
    scores = 0.7 - 0.1 * np.abs(np.log2(rates / best))[:, None] - 0.01 * np.arange(1, -1, -1)
    card = Card(task=task, source=source, seeds=(1,), dev_texts=10_000, width=width, layers=2, pretrained=False)
    if source == "published":
        scores = np.full(scores.shape, np.nan)
    return RecordedStudy(f"{task}-{width}", card, rates, scores[None], np.ones(scores.shape, bool))


BANK = [study("a", 4e-4), study("b", 4e-4), study("c", 1e-4, width=512), study("c", 4e-4, source="published")]


def test_regret_is_that_of_the_nearest_row_and_the_last_epoch_at_most():
    one = outcome(BANK[0], [(1.9e-4, 9)])
    assert one.regret == pytest.approx(0.1)
    assert not one.tied
    assert outcome(BANK[0], [(1e-4, 1), (1.0, 1)]).regret == pytest.approx(0.01)
    assert outcome(BANK[0], [(1.0, 1)]).tied


def test_a_task_s_own_tables_choose_nothing_for_it():
    seen = []
    leave_one_out(BANK, lambda one, others: seen.append((one.name, [other.name for other in others])) or [(1e-4, 1)])
    assert seen == [
        ("a-128", ["b-128", "c-512", "c-128"]),
        ("b-128", ["a-128", "c-512", "c-128"]),
        ("c-512", ["a-128", "b-128"]),
    ]
    seen.clear()
    leave_one_out(BANK, lambda one, others: seen.append(len(others)) or [(1e-4, 1)], new_checkpoint=True)
    assert seen == [1, 1, 2]
    assert len(tables(BANK)) == 3


def test_choices_choose_what_their_names_say():
    one, others = BANK[0], BANK[1:3]
    assert nearest(one, others) == [(pytest.approx(4e-4), 2)]
    assert suggested(one, others) == [(pytest.approx(4e-4), 2)]
    assert likeliest(one, others)[0][1] == 2
    assert fixed([1e-5, 2e-5], [1])(one, others) == [(1e-5, 1), (2e-5, 1)]
    for choice in CHOICES.values():
        assert leave_one_out(BANK, choice)


def test_what_suggestions_said_is_compared_with_what_was_so():
    assert calibration(BANK).startswith("On average ")


def test_every_task_weighs_the_same():
    outcomes = [outcome(one, [(4e-4, 2)]) for one in (*BANK[:1] * 9, BANK[2])]
    mean, low, high = interval(outcomes, lambda one: one.regret)
    assert mean == pytest.approx(0.1)
    assert low <= mean <= high
