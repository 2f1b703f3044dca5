from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from bertgrid_tf.corpus import (
    Dialogue,
    Utterance,
    dialogue_numbers,
    hold_out,
    label_counts,
    limit,
    load,
    sample,
    text_folds,
    utterances,
)
from bertgrid_tf.errors import UserError

_CLASSES = st.sampled_from("abcd")


@st.composite
def dialogue_lists(draw):
    """Dialogues whose utterances are all different."""
    shapes = draw(st.lists(st.lists(_CLASSES, min_size=1, max_size=6), min_size=2, max_size=25))
    return tuple(
        Dialogue(tuple(Utterance(f"{number}.{place}", label) for place, label in enumerate(labels)))
        for number, labels in enumerate(shapes)
    )


@st.composite
def text_lists(draw):
    labels = draw(st.lists(_CLASSES, min_size=10, max_size=200))
    return tuple(Dialogue((Utterance(str(number), label),)) for number, label in enumerate(labels))


@given(dialogue_lists(), st.floats(0.2, 0.8), st.integers(0, 99))
def test_whole_dialogues_are_held_out_and_every_class_stays(dialogues, share, seed):
    try:
        kept, held = hold_out(dialogues, share, seed)
    except UserError:
        reject()
    assert sorted(kept + held, key=dialogues.index) == list(dialogues)
    assert list(kept) == [dialogue for dialogue in dialogues if dialogue in kept]
    assert list(held) == [dialogue for dialogue in dialogues if dialogue in held]
    assert label_counts(kept).keys() == label_counts(dialogues).keys()
    assert hold_out(dialogues, share, seed) == (kept, held)


@given(text_lists(), st.floats(0.1, 0.9), st.integers(0, 99))
def test_independent_texts_are_held_out_by_class_exactly(texts, share, seed):
    counts = label_counts(texts)
    assume(min(counts.values()) >= 2 and share * len(texts) >= 1)
    kept, held = hold_out(texts, share, seed)
    assert len(kept) + len(held) == len(texts)
    for label, count in counts.items():
        assert abs(label_counts(held)[label] - share * count) <= 1
        assert label_counts(kept)[label] >= 1


def texts_of(dialogues) -> set[tuple[str, ...]]:
    return {dialogue.texts for dialogue in dialogues}


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 12), _CLASSES), min_size=12, max_size=80), st.integers(0, 99), st.booleans())
def test_equal_texts_are_on_one_side_unless_a_class_would_be_missing(drawn, seed, alone):
    lines = [Utterance(f"{label}{number}", label) for number, label in drawn]
    rest = () if alone else (Utterance("…", "a"),)
    dialogues = [Dialogue((line, *rest)) for line in lines]
    counts = label_counts(dialogues)
    assume(min(counts.values()) >= 5 and len(texts_of(dialogues)) > 3 * len(counts))
    kept, held = hold_out(dialogues, 0.3, seed)
    assert len(kept) + len(held) == len(dialogues)
    for line in {line.text: line for line in lines}.values():
        places = [line.text in {dialogue.texts[0] for dialogue in part} for part in (kept, held)]
        others = {dialogue.texts[0] for dialogue in held if dialogue.utterances[0].label == line.label} - {line.text}
        assert places.count(True) == 1 or (alone and not others)


def test_a_class_of_equal_texts_is_held_out_text_by_text():
    many = [Dialogue((Utterance("again", "x"),))] * 10
    unlike = [Dialogue((Utterance(str(number), "y"),)) for number in range(20)]
    for seed in range(5):
        kept, held = hold_out([*many, *unlike], 0.3, seed)
        assert label_counts(held) == {"x": 3, "y": 6}
        assert label_counts(kept) == {"x": 7, "y": 14}
    # Where all dialogues are equal, too.
    kept, held = hold_out([Dialogue((Utterance("one", "x"), Utterance("two", "y")))] * 10, 0.3, 0)
    assert (len(kept), len(held)) == (7, 3)


def test_a_few_equal_texts_change_little_of_what_is_held_out():
    texts = [Dialogue((Utterance(str(number), "xy"[number % 2]),)) for number in range(200)]
    unlike = texts_of(hold_out(texts, 0.2, 3)[1])
    equal = texts_of(hold_out([*texts, texts[0], texts[1]], 0.2, 3)[1])
    assert len(unlike & equal) >= 0.5 * len(unlike)


def test_a_limit_of_one_text_still_has_every_class():
    rare = [Dialogue((Utterance("r", "rare"),)), Dialogue((Utterance("c", "common"), Utterance("r", "rarest")))]
    common = [Dialogue((Utterance(str(number), "common"),)) for number in range(50)]
    chosen = limit([*common, *rare], 1, 0)
    assert label_counts(chosen) == {"rare": 1, "common": 1, "rarest": 1}
    alone = limit([*common, rare[0]], 1, 0)
    assert label_counts(alone) == {"rare": 1, "common": 1}


def test_another_seed_holds_out_others():
    dialogues = sample().splits["train"]
    assert hold_out(dialogues, 0.1, 0) != hold_out(dialogues, 0.1, 1)


def test_held_out_dialogues_have_the_shares_of_the_whole():
    dialogues = sample().splits["train"]
    counts = label_counts(dialogues)
    for seed in range(5):
        held = label_counts(hold_out(dialogues, 0.2, seed)[1])
        assert held.total() == pytest.approx(0.2 * counts.total(), abs=5)
        for label, count in counts.items():
            assert held[label] == pytest.approx(0.2 * count, abs=2, rel=0.1)


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_outside_0_and_1_is_refused(share, refusal):
    refusal(lambda: hold_out(sample().splits["train"], share, 0), share, "between 0 and 1")


def test_too_few_dialogues_are_refused(refusal):
    refusal(
        lambda: hold_out((Dialogue((Utterance("a", "x"), Utterance("b", "y"))),), 0.1, 0),
        "1 dialogues",
        "too few",
    )


@given(st.one_of(dialogue_lists(), text_lists()), st.integers(1, 60), st.integers(0, 99))
def test_a_limit_keeps_whole_dialogues_every_class_and_about_the_number(dialogues, n_utterances, seed):
    chosen = limit(dialogues, n_utterances, seed)
    assert list(chosen) == [dialogue for dialogue in dialogues if dialogue in chosen]
    assert label_counts(chosen).keys() == label_counts(dialogues).keys()
    assert limit(dialogues, n_utterances, seed) == chosen
    number = len(list(utterances(chosen)))
    # Six utterances a dialogue at most, and one dialogue for each of four classes at worst.
    assert number <= n_utterances + 4 * 6
    if n_utterances >= len(list(utterances(dialogues))):
        assert chosen == dialogues


@pytest.mark.parametrize("n_utterances", [100, 300, 500])
def test_a_limit_comes_close_and_keeps_the_shares(n_utterances):
    dialogues = sample().splits["train"]
    counts = label_counts(dialogues)
    limited = label_counts(limit(dialogues, n_utterances, 0))
    assert limited.total() == pytest.approx(n_utterances, abs=6)
    for label, count in counts.items():
        assert limited[label] == pytest.approx(count * n_utterances / counts.total(), abs=3)


def test_a_limit_below_1_is_refused(refusal):
    refusal(lambda: limit(sample().splits["train"], 0, 0), "0", "at least 1")


def test_nsmc_holds_out_a_tenth_of_train_stratified(real_data):
    corpus = load("nsmc", [real_data], seed=1)
    sizes = {split: len(dialogues) for split, dialogues in corpus.splits.items()}
    assert sizes == {"train": 135_000, "dev": 15_000, "test": 50_000}
    counts = Counter({label: count / 9 for label, count in label_counts(corpus.splits["train"]).items()})
    for label, count in label_counts(corpus.splits["dev"]).items():
        assert count == pytest.approx(counts[label], abs=1)


@given(dialogue_lists(), st.integers(2, 6), st.integers(0, 99))
def test_folds_have_whole_dialogues_and_none_is_empty(dialogues, count, seed):
    if count > len(dialogues):
        with pytest.raises(UserError, match=f"cannot be divided into {count} folds"):
            text_folds(dialogues, count, seed)
        return
    folds = text_folds(dialogues, count, seed)
    assert sorted(set(folds)) == list(range(count))
    assert len(set(zip(dialogue_numbers(dialogues), folds, strict=True))) == len(dialogues)
    doubled = text_folds((*dialogues, *dialogues), count, seed)
    assert (doubled[: len(folds)] == doubled[len(folds) :]).all()


@given(text_lists(), st.integers(2, 9), st.integers(0, 99))
def test_folds_of_texts_have_the_same_number_of_every_class_to_within_one(dialogues, count, seed):
    folds, labels = text_folds(dialogues, count, seed), [text.label for text in utterances(dialogues)]
    sizes = np.zeros((count, len(set(labels))))
    np.add.at(sizes, (folds, [sorted(set(labels)).index(label) for label in labels]), 1)
    assert (np.ptp(sizes, axis=0) <= 1).all()
