"""What the cases share: a finished study, and a checkpoint of each family."""

import re
import shutil
from pathlib import Path

from tests.bert.families import FAMILIES
from tests.campaign.case import EXTENDED, STUDY, TRAINING, Case


def share(folder: Path) -> Path:
    """Make what all cases share, unless an earlier campaign of the same sources has; return its folder."""
    shared = folder / "shared"
    if not (shared / "complete").exists():
        shutil.rmtree(shared, ignore_errors=True)
        shared.mkdir(parents=True)
        case = Case("shared", 0, 0, shared)
        for words in EXTENDED:
            case.bertgrid(*words, limit=TRAINING).check((0,))
        (shared / "results").rename(shared / "extended")
        case.bertgrid(*STUDY, limit=TRAINING).check((0,))
        case.bertgrid("evaluate", "results/sample", limit=TRAINING).check((0,))
        case.fork(lambda: _write_families(shared / "families"), limit=TRAINING).check((0,))
        (shared / "complete").touch()
    return shared


def _write_families(folder: Path) -> None:
    from bertgrid_tf.corpus import sample, utterances

    texts = [line.text for line in utterances(sample().splits["train"])]
    for family in FAMILIES:
        family.write(folder / re.sub(r"\W+", "-", family.name), texts)
