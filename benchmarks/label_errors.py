"""Whether the likely label errors of a study of EmotionLines are texts on which its raters disagreed.

python -m benchmarks.label_errors results/friends
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bertgrid_tf.corpus import Utterance, utterances
from bertgrid_tf.corpus.votes import VOTED
from bertgrid_tf.data import data_dirs, open_corpus
from bertgrid_tf.storage.records import HARD, LIKELY_ERROR
from bertgrid_tf.storage.study_folder import StudyFolder

SPLIT = 3
"""The most of five raters that agree in a split vote."""


def votes_for(utterance: Utterance, label: str) -> int:
    """Return the raters who voted for a class; none for "non-neutral", which is no raters' class."""
    return dict(zip(VOTED, utterance.votes or (), strict=True)).get(label, 0)


def line(name: str, texts: Sequence[Utterance]) -> str:
    """Return the number of texts, the share with a split vote, and both of those with one of the raters' classes."""
    split = np.array([max(text.votes or (0,)) <= SPLIT for text in texts])
    voted = np.array([text.label in VOTED for text in texts])
    shares = [f"{some.mean():.1%}" if len(some) else "" for some in (split, split[voted])]
    return f"{name:22}{len(texts):6}{shares[0]:>10}{voted.sum():12}{shares[1]:>10}"


def main() -> None:
    """Print the raters' votes on the texts of each kind of mistake beside those on all texts of dev."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--data-dir", type=Path, default=Path("datasets"))
    flags = parser.parse_args()
    folder = StudyFolder.existing(flags.study)
    dev = list(utterances(open_corpus(folder.read_recipe(), data_dirs(flags.data_dir)).splits["dev"]))
    mistakes = {int(one.id) - 1: one for one in folder.read_mistakes()}
    print(f"{'':22}{'texts':>6}{'split':>10}{'of a class':>12}{'split':>10}")
    print(line("dev", dev))
    print(line("labelled alike", [text for at, text in enumerate(dev) if at not in mistakes]))
    for kind in (HARD, LIKELY_ERROR):
        of_kind = {at: one for at, one in mistakes.items() if one.kind == kind}
        print(line(kind, [dev[at] for at in of_kind]))
        voted = [votes_for(dev[at], one.predicted) > 0 for at, one in of_kind.items() if one.predicted in VOTED]
        print(f"    a rater voted for the predicted class: {sum(voted)} of {len(voted)}")


if __name__ == "__main__":
    main()
