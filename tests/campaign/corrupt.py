"""One file of a finished study is damaged; what reads it refuses, and the way out that the sentence names works."""

import shutil
from pathlib import Path
from typing import Any

from tests.campaign.case import STUDY, TRAINING, Answer, Case, CaseError
from tests.campaign.damage import damage, delete, restore
from tests.stops import content, differences

CASES = 200
SHARED: tuple[str, ...] = ("study",)
TEXTS = b"dialogue,speaker,text\n" + b"".join(b"d%d,A,what a lovely day %d\n" % (n // 3, n) for n in range(9))
READERS = (
    ("results", "results/sample"),
    ("report", "results/sample"),
    ("compare", "results/sample", "results/other"),
    ("evaluate", "results/sample", "--split", "dev"),
    ("predict", "results/sample", "texts.csv", "-o", "out.csv", "--text-column", "text", "--correct-shift"),
    ("predict", "results/sample", "texts.csv", "-o", "out.csv", "--text-column", "text", "--soup"),
    ("export", "results/sample", "--format", "savedmodel"),
)
UNREAD = ("figures/", "tensorboard/", "report.html", "study.lock", "times.csv")
"""What is written for people alone, or holds times."""


def run(case: Case) -> None:
    """Damage a file, read it, and bring the study to its end again."""
    study, whole = case.study(), case.study("whole")
    shutil.copytree(whole, case.folder / "results" / "other")
    (case.folder / "texts.csv").write_bytes(TEXTS)
    files = [path for path in sorted(study.rglob("*")) if path.is_file()]
    path = case.random.choice([one for one in files if not str(one.relative_to(study)).startswith(UNREAD[:-1])])
    name = path.relative_to(study)
    try:
        how = damage(path, case.random)
        words = case.random.choice(READERS)
        read = case.bertgrid(*words, limit=TRAINING if words[0] in ("export", "evaluate") else 60).check()
        again, deleted = case.bertgrid(*STUDY, limit=TRAINING).check(), False
        if again.code == 2:
            again, deleted = _way_out(case, path, whole / name, again)
        changed = [one for one in differences(_content(whole), _content(study)) if not one.startswith(UNREAD)]
        # Weights are the user's from then on, nothing needs the state of a trial that has ended, and some files may go.
        if deleted or name.parts[0] in ("model", "soup") or name.name == "state.npz":
            changed = [one for one in changed if not one.startswith(str(name))]
        changed = [one for one in changed if not one.startswith(("evaluations", "savedmodel", "model/README.md"))]
        if changed:
            raise CaseError("difference", f"after {again}\n{'; '.join(changed)}\nand before {read}")
    except CaseError as failure:
        raise CaseError(failure.kind, f"{failure}\n{name} {how}") from failure


def _way_out(case: Case, path: Path, whole: Path, refused: Answer) -> tuple[Answer, bool]:
    """Do what the sentences advise, one after the other.

    Returns:
        How the study then ended, and whether it was to go on without the file.
    """
    without = False
    for _ in range(3):
        words, delete_it = STUDY, any(word in refused.err for word in ("delete it", "remove"))
        if delete_it and "restore it" in refused.err:
            delete_it = case.chance(0.5)
        if delete_it:
            without = "restore it" in refused.err
            delete(path)
        elif "move that away" in refused.err:
            delete(path)
        elif "restore it" in refused.err or "bring" in refused.err:
            restore(path, whole)
        elif "--fresh" in refused.err:
            words = (*STUDY, "--fresh")
        if (refused := case.bertgrid(*words, limit=TRAINING).check()).code == 0:
            return refused, without
    raise CaseError("other", f"no way out: {refused}")


def _content(study: Path) -> dict[str, Any]:
    """The content of a study folder; trials have begun and ended in another order where one was trained again."""
    kept = content(study)
    for order in ("start_order", "end_order") if "oracle.json" in kept else ():
        kept["oracle.json"][order].sort()
    return kept
