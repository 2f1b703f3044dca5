"""A synthetic corpus: short English dialogues whose labels follow a known rule.

The rule, which a search should discover:

* An informative line contains two cue words of one class, and has that class.
* A short reply ("Oh.", "Really?") has no cue; it has the class of the previous line.
* A vague line has no cue either; it is non-neutral if the speaker is `WRY_SPEAKER`, and neutral otherwise.
* A share `NOISE` of the labels is drawn at random, like disagreement of raters.

So the current line and the previous line, with their speakers, contain all information about a label. The next line
contains none: all lines are generated before the first label, the words of a line do not depend on any label, and the
kind of the next line depends on the current line alone.
"""

import random
from dataclasses import dataclass

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue, Utterance

SPEAKERS = ("Ada", "Ben", "Cleo", "Dan", "Eve")
WRY_SPEAKER = "Ben"
NOISE = 0.04

SHORT_REPLIES = ("Oh.", "Really?", "What?", "Wait, you too?", "Say that again.", "Same here.")
VAGUE_LINES = (
    "Well, here we go again.",
    "So that is the plan.",
    "I did not see that.",
    "Now you tell me.",
    "That is one way to do it.",
)

# The number of utterances per split: enough to learn from, few enough for an epoch in seconds.
_SIZES = {"train": 800, "dev": 200, "test": 200}
_LINES = (5, 12)
_KINDS = {"informative": 0.24, "short": 0.68, "vague": 0.08}

# The shares of the classes among informative lines. With the vague lines the corpus is as imbalanced as Friends, except
# for a lower bound: 800 lines with the shares of Friends would have too few examples to learn fear or disgust from.
_CLASSES = {
    "neutral": 0.36,
    "non-neutral": 0.12,
    "joy": 0.16,
    "surprise": 0.13,
    "anger": 0.085,
    "sadness": 0.06,
    "disgust": 0.045,
    "fear": 0.04,
}

_CUES = {
    "neutral": ("table", "ticket", "kitchen", "train"),
    "non-neutral": ("weird", "strange", "mixed", "odd"),
    "joy": ("wonderful", "happy", "love", "great"),
    "surprise": ("unbelievable", "sudden", "amazing", "unexpected"),
    "anger": ("furious", "hate", "stupid", "unfair"),
    "sadness": ("sorry", "lonely", "cry", "lost"),
    "disgust": ("gross", "rotten", "dirty", "sick"),
    "fear": ("afraid", "danger", "scary", "dark"),
}

# A line has two cues, so that a rare word occurs beside other words of its class.
_TEMPLATES = (
    "The {} thing is {}.",
    "It was {} and {} today.",
    "You know, {}, just {}.",
    "I said {} and then {}.",
    "My whole day: {} and {}.",
)


@dataclass(frozen=True, slots=True)
class _Line:
    speaker: str
    kind: str
    cue: str | None
    text: str


def sample(seed: int = 0) -> Corpus:
    """Generate the corpus "sample": 8 classes, about 800, 200 and 200 utterances in dialogues of 5 to 12 lines.

    Example:
        >>> from bertgrid_tf.corpus import sample
        >>> corpus = sample()
        >>> len(corpus.labels), list(corpus.splits)
        (8, ['train', 'dev', 'test'])
    """
    generator = random.Random(seed)
    return Corpus.from_splits("sample", {split: _split(generator, size) for split, size in _SIZES.items()})


def _split(generator: random.Random, size: int) -> list[Dialogue]:
    dialogues: list[Dialogue] = []
    written = 0
    while written < size:
        dialogue = _dialogue(generator)
        dialogues.append(dialogue)
        written += len(dialogue.utterances)
    return dialogues


def _dialogue(generator: random.Random) -> Dialogue:
    others = [name for name in SPEAKERS if name != WRY_SPEAKER]
    present = [WRY_SPEAKER, *generator.sample(others, k=2)]
    lines: list[_Line] = []
    for _ in range(generator.randint(*_LINES)):
        lines.append(_line(generator, present, lines[-1] if lines else None))
    labels = [_label(generator, line, previous) for line, previous in zip(lines, [None, *lines[:-1]], strict=True)]
    return Dialogue(tuple(Utterance(line.text, label, line.speaker) for line, label in zip(lines, labels, strict=True)))


def _line(generator: random.Random, present: list[str], previous: _Line | None) -> _Line:
    speaker = generator.choice([name for name in present if previous is None or name != previous.speaker])
    # A reply takes its class from the cue of the previous line.
    answerable = previous is not None and previous.cue is not None
    kinds = [kind for kind in _KINDS if kind != "short" or answerable]
    kind = generator.choices(kinds, [_KINDS[kind] for kind in kinds])[0]
    if kind == "short":
        return _Line(speaker, kind, None, generator.choice(SHORT_REPLIES))
    if kind == "vague":
        return _Line(speaker, kind, None, generator.choice(VAGUE_LINES))
    cue = _draw_class(generator)
    return _Line(speaker, kind, cue, generator.choice(_TEMPLATES).format(*generator.sample(_CUES[cue], k=2)))


def _label(generator: random.Random, line: _Line, previous: _Line | None) -> str:
    if generator.random() < NOISE:
        return _draw_class(generator)
    # Only a short reply depends on the previous line.
    cue = previous.cue if line.kind == "short" and previous is not None else line.cue
    return cue or ("non-neutral" if line.speaker == WRY_SPEAKER else "neutral")


def _draw_class(generator: random.Random) -> str:
    return generator.choices(list(_CLASSES), list(_CLASSES.values()))[0]
