"""What the cases share and none may change: finished studies, a checkpoint of each family."""

import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.bert.families import FAMILIES
from tests.campaign.case import EXTENDED, STUDY, TRAINING, Case


def share(folder: Path, parts: Iterable[str]) -> Path:
    """Make the parts that an earlier campaign of the same sources has not made; return their folder."""
    shared = folder / "shared"
    for name in parts:
        if not (complete := shared / name / "complete").exists():
            shutil.rmtree(shared / name, ignore_errors=True)
            (shared / name).mkdir(parents=True)
            PARTS[name](Case("shared", 0, 0, shared / name))
            complete.touch()
    return shared


def _study(case: Case) -> None:
    case.bertgrid(*STUDY, limit=TRAINING).check((0,))
    case.bertgrid("evaluate", "results/sample", limit=TRAINING).check((0,))


def _extended(case: Case) -> None:
    for words in EXTENDED:
        case.bertgrid(*words, limit=TRAINING).check((0,))


def _families(case: Case) -> None:
    def write() -> None:
        from bertgrid_tf.corpus import sample, utterances

        texts = [line.text for line in utterances(sample().splits["train"])]
        for family in FAMILIES:
            family.write(case.folder / "all" / re.sub(r"\W+", "-", family.name), texts)

    case.fork(write, limit=TRAINING).check((0,))


PARTS: dict[str, Callable[[Case], None]] = {"study": _study, "extended": _extended, "families": _families}
