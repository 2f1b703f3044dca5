"""SIGINT and SIGTERM at random moments, from the first import on: a sentence, 130 or 143, and the study resumes."""

import signal
import time

from tests.campaign.case import STUDY, TRAINING, Case, CaseError
from tests.campaign.process import Process
from tests.stops import content, differences

CASES = 40
SHARED: tuple[str, ...] = ("study",)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
OTHERS = (
    ("evaluate", "results/sample", "--split", "dev"),
    ("predict", "results/sample", "texts.csv", "-o", "out.csv", "--text-column", "text"),
    ("data", "describe", "sample"),
    ("report", "results/sample"),
    ("export", "results/sample", "--format", "savedmodel"),
)


def run(case: Case) -> None:
    """Stop a command; resume a study and compare it with the uninterrupted one."""
    (case.folder / "texts.csv").write_text("text\n" + "a lovely day\n" * 50)
    tunes = case.number % 4 < 2
    words = STUDY if tunes else case.random.choice(OTHERS)
    if not tunes:
        case.study()
    # Half of them while libraries are imported, which takes some seconds.
    moment = case.random.choice((case.random.uniform(0, 4), case.random.uniform(0, 15 if tunes else 8)))
    number = case.random.choice([*CODES])
    process = Process(case, *words)
    time.sleep(moment)
    process.send(number)
    answer = process.wait(30)
    if answer is None:
        raise CaseError("hang", f"{words[0]}: {number.name} after {moment:.2f} s: still running 30 s later")
    try:
        # One that comes as the interpreter ends has its own effect, which a shell reports as the same code.
        answer.check((0, 2, CODES[number], -number))
        if answer.code and (lines := len(answer.err.splitlines())) > 1:
            raise CaseError("other", f"{lines} lines on stderr: {answer}")
        if tunes:
            case.bertgrid(*STUDY, limit=TRAINING).check((0,))
            whole, resumed = content(case.finished), content(case.folder / "results" / "sample")
            ignored = ("figures/", "evaluations", "model/README.md", "report.html")
            if changed := [one for one in differences(whole, resumed) if not one.startswith(ignored)]:
                raise CaseError("difference", f"{'; '.join(changed)}")
    except CaseError as failure:
        raise CaseError(failure.kind, f"{failure}\n{words[0]}: {number.name} after {moment:.2f} s") from failure
