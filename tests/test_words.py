"""The code uses the words of Keras, KerasTuner, Optuna, transformers and scikit-learn."""

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Each name with the field's word for it. Names that libraries or plain variables share are not listed.
NAMES = {
    "Run": "Trainable",
    "Runs": "TrialRunner",
    "Listener": "Callback",
    "Told": "Callback",
    "on_run": "on_trial_begin",
    "on_step": "on_train_batch_end",
    "on_epoch": "on_epoch_end",
    "on_loss": "on_worker_lost",
    "Results": "StudyFolder",
    "Facts": "StudyMetadata",
    "Measured": "MeasuredSetting",
    "Evidence": "StudyAnalysis",
    "Scored": "StudyScores",
    "beside": "compare_studies",
    "GainEvidence": "PostHocGain",
    "Again": "FollowUpTrial",
    "repeats": "seed_repeats",
    "audits": "interaction_checks",
    "audit": "check_interactions",
    "Auto": "AutoSetting",
    "Place": "HostShare",
    "stand_in": "with_defaults",
    "Tell": "Send",
    "last_told": "run_isolated",
    "Crew": "WorkerPool",
    "Job": "WorkerConfig",
    "_Order": "WorkerTask",
    "carriers": "workers",
    "Timekeeper": "BudgetController",
    "Clock": "TimeEstimator",
    "Pace": "Throughput",
    "Ahead": "RemainingWork",
    "Opening": "WarmupEpoch",
    "Tried": "ObservedTrial or PrecisionTiming",
    "Estimate": "ScoreEstimate or MemoryEstimate",
    "most_epochs": "max_epochs",
    "Wait": "Idle",
    "rehearse": "time_steps",
    "told_again": "restored",
    "Labelled": "EncodedDataset",
    "text_losses": "per_example_loss",
    "Rows": "UsedEmbeddingRows",
    "Ingredient": "SoupMember",
    "mend": "fix_encoding",
    "stop_after": "stop_epoch",
    "blocked": "check_writable",
    "loud": "needs_attention",
    "granted": "resolve_gpu_count",
    "NoGpu": "GpuUnavailable",
    "rare_speaker": "min_speaker_count",
}
FILES = {"again.py", "alone.py", "clock.py", "found.py", "gather.py", "measured.py", "opening.py", "timekeeper.py"}
FOLDERS = {"evidence", "machine", "score", "timekeeping"}
WORDS = re.compile(r"\b(told|said|so\s+many)\b", re.IGNORECASE)

PACKAGES = sorted([*ROOT.glob("bertgrid_tf/**/*.py"), *ROOT.glob("tuners/**/*.py")])
BENCHMARKS = sorted(ROOT.glob("benchmarks/**/*.py"))


def tokens(file: Path, kind: int) -> Iterator[tuple[int, str]]:
    """Line and text of every token of a kind."""
    with tokenize.open(file) as lines:
        for token in tokenize.generate_tokens(lines.readline):
            if token.type == kind:
                yield token.start[0], token.string


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every comment and every string that stands alone, docstrings among them."""
    yield from tokens(file, tokenize.COMMENT)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def test_names_are_the_fields():
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: {name} instead of {NAMES[name]}"
        for file in (*PACKAGES, *BENCHMARKS)
        for line, name in tokens(file, tokenize.NAME)
        if name in NAMES
    ]
    assert not wrong, "\n".join(wrong)


def test_docstrings_and_comments_state_facts():
    wrong = [
        f"{file.relative_to(ROOT)}:{line + text.count(chr(10), 0, match.start())}: {match[0]!r}"
        for file in PACKAGES
        for line, text in prose(file)
        for match in WORDS.finditer(text)
    ]
    assert not wrong, "\n".join(wrong)


def test_files_and_folders_have_the_fields_names():
    files = [file.relative_to(ROOT) for file in PACKAGES]
    wrong = [str(file) for file in files if file.name in FILES or FOLDERS & {*file.parts}]
    assert not wrong, "\n".join(wrong)
