"""Formatting of an utterance and its neighbours as the segments of one input.

Source: Park, Chang, Kwon, Lee, "Casual Grid Search Method for Time-efficient Bert Tuning", the preprocessing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bertgrid_tf.corpus.dialogue import Dialogue, Utterance, utterances
from bertgrid_tf.errors import UserError

NONE_MARKER = "[None]"
"""The segment in place of a missing neighbour of a dialogue's first or last utterance; it keeps the shape constant."""

SAYS_MARKER = "[Says]"
"""The marker between speaker and sentence in the format "says"."""

_SPEAKER_PARTS = {
    "colon": "{speaker} : ",
    "plain": "{speaker} ",
    "brackets": "[{speaker}] ",
    "says": "[{speaker}] " + SAYS_MARKER + " ",
    "none": "",
}

SPEAKER_FORMATS = tuple(_SPEAKER_PARTS)
"""Formats: `speaker : sentence`, `speaker sentence`, `[speaker] sentence`, `[speaker] [Says] sentence`, `sentence`."""

_OFFSETS = {
    "current": (0,),
    "current+previous": (0, -1),
    "previous+current": (-1, 0),
    "current+next": (0, 1),
    "previous+current+next": (-1, 0, 1),
    "previous2+previous+current": (-2, -1, 0),
}

CONTEXTS = tuple(_OFFSETS)
"""The contexts: the utterances of an input in model order; previous2 is the utterance before the previous one."""


@dataclass(frozen=True, slots=True)
class Example:
    """An input of the model.

    Attributes:
        segments: The texts in model order: `[CLS] segments[0] [SEP] segments[1] [SEP]` and so on.
        focus: The index of the segment with the utterance to classify; None where that is a pair, whose texts are the
            segments.
        label: The class name of the utterance to classify, or None.
    """

    segments: tuple[str, ...]
    focus: int | None
    label: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """The format of an input.

    Attributes:
        context: The utterances of the input, one of `CONTEXTS`.
        speaker_format: The place of the speaker's name, one of `SPEAKER_FORMATS`.
        min_speaker_count: The number of training utterances below which the name of a speaker is left out; 0 keeps all
            names.

    Raises:
        UserError: On construction: the context or speaker format is unknown, or `min_speaker_count` is negative.
    """

    context: str = "current+previous"
    speaker_format: str = "colon"
    min_speaker_count: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.context not in CONTEXTS:
            raise UserError(f"There is no context {self.context!r}; choose from {', '.join(CONTEXTS)}.")
        if self.speaker_format not in SPEAKER_FORMATS:
            raise UserError(
                f"There is no speaker format {self.speaker_format!r}; choose from {', '.join(SPEAKER_FORMATS)}."
            )
        if self.min_speaker_count < 0:
            raise UserError(f"The threshold of rare speakers is {self.min_speaker_count}; it must be 0 or more.")


def segment_count(context: str) -> int:
    """Return the number of segments of an input."""
    return len(_OFFSETS[context])


def speaker_counts(dialogues: Iterable[Dialogue]) -> Counter[str]:
    """Count the utterances of each speaker, without those that have no speaker."""
    return Counter(utterance.speaker for utterance in utterances(dialogues) if utterance.speaker)


def format_inputs(
    dialogues: Iterable[Dialogue], layout: Layout, known_speakers: Mapping[str, int] | None = None
) -> tuple[Example, ...]:
    """Format every utterance as an input of the model; a pair of texts makes one without context.

    Args:
        dialogues: The dialogues of any split, labelled or not.
        layout: The format of the inputs.
        known_speakers: The `speaker_counts` of the training split, for every split; required only if
            `layout.min_speaker_count` is above 0. A speaker without an entry has 0 utterances.

    Returns:
        An example for every utterance, in the order of the dialogues and their utterances.

    Raises:
        ValueError: The argument `known_speakers` is required and None.

    Example:
        >>> from bertgrid_tf.corpus import Dialogue, Layout, Utterance, format_inputs
        >>> dialogue = Dialogue((Utterance("Hi.", "neutral", "Ada"), Utterance("Hooray!", "joy", "Ben")))
        >>> format_inputs([dialogue], Layout("current+previous", "colon"))[1].segments
        ('Ben : Hooray!', 'Ada : Hi.')
    """
    if layout.min_speaker_count and known_speakers is None:
        raise ValueError(
            "known_speakers is None; a layout with min_speaker_count needs the speaker_counts of the training split"
        )
    speaker_part = _SPEAKER_PARTS[layout.speaker_format]
    offsets = _OFFSETS[layout.context]
    focus = offsets.index(0)

    def segment(utterance: Utterance) -> str:
        named = utterance.speaker and (
            known_speakers is None or known_speakers.get(utterance.speaker, 0) >= layout.min_speaker_count
        )
        # Not str.format: a speaker's name may hold braces.
        part = speaker_part.replace("{speaker}", utterance.speaker or "") if named else ""
        return (part + utterance.text).strip()

    examples = []
    for dialogue in dialogues:
        texts = [segment(utterance) for utterance in dialogue.utterances]
        for place, utterance in enumerate(dialogue.utterances):
            if utterance.text_pair is not None:
                examples.append(Example((texts[place], utterance.text_pair), None, utterance.label))
                continue
            neighbours = (place + offset for offset in offsets)
            segments = tuple(texts[at] if 0 <= at < len(texts) else NONE_MARKER for at in neighbours)
            examples.append(Example(segments, focus, utterance.label))
    return tuple(examples)
