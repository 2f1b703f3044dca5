"""How an utterance and its neighbours become the segments of one input.

Source: Park, Chang, Kwon, Lee, "Casual Grid Search Method for Time-efficient Bert Tuning", the preprocessing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bertgrid_tf.corpus.dialogue import Dialogue, Utterance, utterances
from bertgrid_tf.errors import UserError

NONE_MARKER = "[None]"
"""Stands where the first or last utterance of a dialogue has no neighbour, so that the shape stays the
same."""

SAYS_MARKER = "[Says]"
"""Stands between speaker and sentence in the format "says"."""

_SPEAKER_PARTS = {
    "colon": "{speaker} : ",
    "plain": "{speaker} ",
    "brackets": "[{speaker}] ",
    "says": "[{speaker}] " + SAYS_MARKER + " ",
    "none": "",
}

SPEAKER_FORMATS = tuple(_SPEAKER_PARTS)
"""`speaker : sentence`, `speaker sentence`, `[speaker] sentence`, `[speaker] [Says] sentence`, `sentence`."""

_OFFSETS = {
    "current": (0,),
    "current+previous": (0, -1),
    "previous+current": (-1, 0),
    "current+next": (0, 1),
    "previous+current+next": (-1, 0, 1),
    "previous2+previous+current": (-2, -1, 0),
}

CONTEXTS = tuple(_OFFSETS)
"""Which utterances an input holds, in their order; previous2 is the previous but one."""


@dataclass(frozen=True, slots=True)
class Example:
    """One input of the model.

    Attributes:
        segments: The texts in model order: `[CLS] segments[0] [SEP] segments[1] [SEP]` and so on.
        focus: The index of the segment that is the utterance to classify.
        label: The name of that utterance's class, or None.
    """

    segments: tuple[str, ...]
    focus: int
    label: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """What an input shows of a dialogue.

    Attributes:
        context: One of `CONTEXTS`.
        speaker_format: One of `SPEAKER_FORMATS`.
        rare_speaker: A speaker with fewer training utterances than this loses the name; 0 keeps all names.

    Raises:
        UserError: On construction, for an unknown level.
    """

    context: str = "current+previous"
    speaker_format: str = "colon"
    rare_speaker: int = 0

    def __post_init__(self) -> None:
        if self.context not in CONTEXTS:
            raise UserError(f"There is no context {self.context!r}; choose from {', '.join(CONTEXTS)}.")
        if self.speaker_format not in SPEAKER_FORMATS:
            raise UserError(
                f"There is no speaker format {self.speaker_format!r}; choose from {', '.join(SPEAKER_FORMATS)}."
            )
        if self.rare_speaker < 0:
            raise UserError(f"The threshold of rare speakers is {self.rare_speaker}; it must be 0 or more.")


def segment_count(context: str) -> int:
    """How many segments an input of that context has."""
    return len(_OFFSETS[context])


def speaker_counts(dialogues: Iterable[Dialogue]) -> Counter[str]:
    """The number of utterances of each speaker; those without a speaker are not counted."""
    return Counter(utterance.speaker for utterance in utterances(dialogues) if utterance.speaker)


def format_inputs(
    dialogues: Iterable[Dialogue], layout: Layout, known_speakers: Mapping[str, int] | None = None
) -> tuple[Example, ...]:
    """One example for every utterance, in the order of the dialogues and their utterances.

    Args:
        dialogues: Of any split, labelled or not.
        layout: What an input shows.
        known_speakers: The training split's `speaker_counts`, whichever split is rendered; needed only where
            `layout.rare_speaker` is above 0. A speaker whom it does not hold has 0 utterances.

    Raises:
        ValueError: `known_speakers` is needed and None.
    """
    if layout.rare_speaker and known_speakers is None:
        raise ValueError("rare speakers can only be told by the training split's speaker_counts")
    spoken = _SPEAKER_PARTS[layout.speaker_format]
    offsets = _OFFSETS[layout.context]
    focus = offsets.index(0)

    def segment(utterance: Utterance) -> str:
        named = utterance.speaker and (
            known_speakers is None or known_speakers.get(utterance.speaker, 0) >= layout.rare_speaker
        )
        # Not str.format: a speaker's name may hold braces.
        part = spoken.replace("{speaker}", utterance.speaker or "") if named else ""
        return (part + utterance.text).strip()

    examples = []
    for dialogue in dialogues:
        texts = [segment(utterance) for utterance in dialogue.utterances]
        for place, utterance in enumerate(dialogue.utterances):
            neighbours = (place + offset for offset in offsets)
            segments = tuple(texts[at] if 0 <= at < len(texts) else NONE_MARKER for at in neighbours)
            examples.append(Example(segments, focus, utterance.label))
    return tuple(examples)
