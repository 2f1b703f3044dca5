import numpy as np

from bertgrid_tf.corpus import (
    Corpus,
    Dialogue,
    DialogueLengths,
    SplitDescription,
    TokenLengths,
    Utterance,
    describe,
    describe_tokens,
)


def test_a_split_is_described_by_its_counts():
    two = Dialogue((Utterance("a", "x", "Ada"), Utterance("", "y", "Ben")))
    five = Dialogue(tuple(Utterance(text, "x", "Ada") for text in "abcde"))
    unlabelled = Dialogue((Utterance("a"),))
    corpus = Corpus.from_splits("c", {"train": [two, five, two], "dev": [five], "test": [unlabelled]})
    described = describe(corpus)
    assert described["train"] == SplitDescription(
        dialogues=3,
        utterances=9,
        speakers=2,
        empty=2,
        classes={"x": 7, "y": 2},
        unlabelled=0,
        lengths=DialogueLengths(min=2, mean=3.0, median=2.0, max=5),
    )
    assert described["dev"].classes == {"x": 5, "y": 0}
    assert described["test"].unlabelled == 1


def test_token_lengths_tell_the_share_that_is_longer_than_the_maximum():
    lengths = np.arange(1, 101)
    assert describe_tokens(lengths, 64) == TokenLengths(
        mean=50.5, median=50.5, p99=np.percentile(lengths, 99), max=100, max_length=64, over=0.36
    )
