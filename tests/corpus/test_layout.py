import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf.corpus import (
    CONTEXTS,
    NONE_MARKER,
    SPEAKER_FORMATS,
    Dialogue,
    Example,
    Layout,
    Utterance,
    format_inputs,
    speaker_counts,
)

THREE = Dialogue((Utterance("a", "x", "Ada"), Utterance("b", "y", "Ben"), Utterance("c", "z")))


SEGMENTS = {
    "current": ([("a",), ("b",), ("c",)], 0),
    "current+previous": ([("a", "[None]"), ("b", "a"), ("c", "b")], 0),
    "previous+current": ([("[None]", "a"), ("a", "b"), ("b", "c")], 1),
    "current+next": ([("a", "b"), ("b", "c"), ("c", "[None]")], 0),
    "previous+current+next": ([("[None]", "a", "b"), ("a", "b", "c"), ("b", "c", "[None]")], 1),
    "previous2+previous+current": ([("[None]", "[None]", "a"), ("[None]", "a", "b"), ("a", "b", "c")], 2),
}
"""By context, the segments of the three utterances, and which of them is the focus."""


@pytest.mark.parametrize("context", sorted({*SEGMENTS, *CONTEXTS}))
def test_each_context_orders_its_segments(context):
    segments, focus = SEGMENTS[context]
    assert format_inputs([THREE], Layout(context, "none")) == tuple(
        Example(ordered, focus, label) for ordered, label in zip(segments, "xyz", strict=True)
    )


FIRST = {"colon": "Ada : a", "plain": "Ada a", "brackets": "[Ada] a", "says": "[Ada] [Says] a", "none": "a"}
"""By speaker format, what the first utterance becomes."""


@pytest.mark.parametrize("speaker_format", sorted({*FIRST, *SPEAKER_FORMATS}))
def test_each_speaker_format_names_the_speaker_if_there_is_one(speaker_format):
    first, _, third = format_inputs([THREE], Layout("current", speaker_format))
    assert (first.segments, third.segments) == ((FIRST[speaker_format],), ("c",))


def test_each_sentence_carries_its_own_speaker():
    assert format_inputs([THREE], Layout("current+previous", "colon"))[1].segments == ("Ben : b", "Ada : a")


def test_a_speaker_rarer_than_the_threshold_in_training_loses_the_name():
    known = speaker_counts([THREE, Dialogue((Utterance("d", "x", "Ada"),))])
    assert known == {"Ada": 2, "Ben": 1}
    strangers = Dialogue((*THREE.utterances, Utterance("e", "x", "Cleo")))
    examples = format_inputs([strangers], Layout("current", "colon", min_speaker_count=2), known)
    assert [example.segments[0] for example in examples] == ["Ada : a", "b", "c", "e"]
    examples = format_inputs([strangers], Layout("current", "colon", min_speaker_count=1), known)
    assert [example.segments[0] for example in examples] == ["Ada : a", "Ben : b", "c", "e"]
    with pytest.raises(ValueError, match="speaker_counts"):
        format_inputs([strangers], Layout("current", "colon", min_speaker_count=2))


def test_a_speaker_named_with_braces_or_an_empty_text_is_rendered_as_it_is():
    dialogue = Dialogue((Utterance("", None, "{x}"), Utterance("{speaker}", None, "{}"), Utterance("")))
    examples = format_inputs([dialogue], Layout("current", "colon"))
    assert [example.segments[0] for example in examples] == ["{x} :", "{} : {speaker}", ""]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(("next", "colon"), "'next'"), (("current", "loud"), "'loud'"), (("current", "colon", -1), "-1")],
)
def test_an_unknown_level_is_refused(arguments, part, refusal):
    refusal(lambda: Layout(*arguments), part)


@given(st.lists(st.integers(1, 6), max_size=6), st.sampled_from(CONTEXTS), st.sampled_from(SPEAKER_FORMATS))
def test_every_utterance_is_once_the_focus_and_none_stands_only_for_missing_neighbours(
    lengths, context, speaker_format
):
    dialogues = [
        Dialogue(tuple(Utterance(f"{number}.{place}", f"{number}.{place}") for place in range(length)))
        for number, length in enumerate(lengths)
    ]
    examples = format_inputs(dialogues, Layout(context, speaker_format))
    assert [example.segments[example.focus] for example in examples] == [
        f"{number}.{place}" for number, length in enumerate(lengths) for place in range(length)
    ]
    for example in examples:
        assert example.segments[example.focus] == example.label
        number, place = map(int, example.label.split("."))
        for at, segment in enumerate(example.segments):
            # Whatever the order in the input, the segments of a context name their distance from the focus.
            name = context.split("+")[at]
            neighbour = place + {"previous2": -2, "previous": -1, "current": 0, "next": 1}[name]
            there = 0 <= neighbour < lengths[number]
            assert segment == (f"{number}.{neighbour}" if there else NONE_MARKER)
