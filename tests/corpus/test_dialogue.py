from dataclasses import replace

import pytest

from bertgrid_tf.corpus import Corpus, Dialogue, Utterance


def _dialogue(*labels):
    return Dialogue(tuple(Utterance(f"text {label}", label) for label in labels))


def test_labels_are_the_sorted_classes_of_the_training_split():
    corpus = Corpus.from_splits("c", {"train": [_dialogue("joy", "anger", "joy")], "dev": [_dialogue("joy")]})
    assert corpus.labels == ("anger", "joy")
    with pytest.raises(ValueError, match="sorted"):
        replace(corpus, labels=("joy", "anger"))


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "9", "2", "1"], ("1", "2", "9", "10")),
        (["1", "0", "-1", "-10"], ("-10", "-1", "0", "1")),
        (["10", "9", "2", "unknown"], ("10", "2", "9", "unknown")),
        (["10", "9.5"], ("10", "9.5")),
    ],
)
def test_classes_that_are_whole_numbers_are_in_the_order_of_numbers(labels, order):
    lines = [Dialogue(tuple(Utterance("a", label) for label in labels))]
    assert Corpus.from_splits("graded", {"train": lines, "dev": lines}).labels == order


@pytest.mark.parametrize("splits", [{}, {"train": [_dialogue("a", "b")]}, {"train": [_dialogue("a", "b")], "dev": []}])
def test_a_corpus_needs_train_and_dev(splits, refusal):
    refusal(lambda: Corpus.from_splits("mine", splits), "mine", "no utterances")


def test_one_class_only_is_refused(refusal):
    splits = {"train": [_dialogue("joy", "joy")], "dev": [_dialogue("joy")]}
    refusal(lambda: Corpus.from_splits("mine", splits), "mine", "'joy'", "two classes")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_label_that_train_lacks_is_refused(split, refusal):
    splits = {"train": [_dialogue("a", "b")], "dev": [_dialogue("a")], split: [_dialogue("a", "fear")]}
    refusal(lambda: Corpus.from_splits("mine", splits), "mine", split, "'fear'", "a, b")


def test_only_the_test_split_may_be_unlabelled(refusal):
    train = [_dialogue("a", "b")]
    Corpus.from_splits("mine", {"train": train, "dev": train, "test": [_dialogue(None, None)]})
    refusal(
        lambda: Corpus.from_splits("mine", {"train": train, "dev": [_dialogue("a", None)]}),
        "mine",
        "dev split",
    )


def test_the_fingerprint_is_of_the_content_alone():
    line = Utterance("hello", "a", "Ada", (1, 2), "7")

    def corpus(line, name="c", split="train"):
        splits = {"train": [Dialogue((Utterance("x", "a"), Utterance("y", "b")))], "dev": [_dialogue("a")]}
        return Corpus.from_splits(name, {**splits, split: [*splits[split], Dialogue((line,))]})

    same = corpus(line).fingerprint()
    assert corpus(line).fingerprint() == same
    assert corpus(line, name="other").fingerprint() == same
    assert len(same) == 16
    others = [
        corpus(replace(line, text="hello!")),
        corpus(replace(line, label="b")),
        corpus(replace(line, speaker=None)),
        corpus(replace(line, votes=(2, 1))),
        corpus(replace(line, key="8")),
        corpus(replace(line, text_pair="")),
        corpus(line, split="dev"),
    ]
    assert len({same, *(other.fingerprint() for other in others)}) == 8


def test_the_fingerprint_sees_where_a_dialogue_ends():
    one = Corpus.from_splits("c", {"train": [_dialogue("a", "b")], "dev": [_dialogue("a")]})
    two = Corpus.from_splits("c", {"train": [_dialogue("a"), _dialogue("b")], "dev": [_dialogue("a")]})
    assert one.fingerprint() != two.fingerprint()
