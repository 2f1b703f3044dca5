"""The analysis of a made-up study of Friends' size, with labels that a page must not take for mark-up."""

from dataclasses import replace

import numpy as np

from bertgrid_tf import recipe as recipes
from bertgrid_tf.analysis import (
    CellAnalysis,
    Change,
    ClassReport,
    Cost,
    InteractionCheck,
    LevelAnalysis,
    PostHocGain,
    ScoreEstimate,
    SeedRepeats,
    StudyAnalysis,
    SweepAnalysis,
)
from bertgrid_tf.metrics.calibration import Calibration, Reliability
from bertgrid_tf.metrics.classification import PER_CLASS, evaluate
from bertgrid_tf.metrics.compare import Split, compare_with_baseline
from bertgrid_tf.storage.records import HARD, LIKELY_ERROR, FinalTrial, Mistake, StudyMetadata

LABELS = ("neutral", "joy", "<b>fear</b> & 'awe'", "슬픔", "anger", "disgust", "non-neutral", "$surprise$")
PRIORS = np.array([0.42, 0.11, 0.03, 0.06, 0.08, 0.02, 0.19, 0.09])
RECIPE = recipes.load_recipe("friends", None, {"sweeps.max_length": [32, 64, 128], "sweeps.warmup_ratio": [0.1, 0.2]})
HALF_WIDTH = 0.028
MISTAKES = [
    Mistake("17", "Ross: 안녕. / Rachel: Hi!", "<i>What?</i> & why", "joy", "슬픔", 0.91, 0.02, 20, 20, LIKELY_ERROR),
    Mistake("8", "", "long " * 100, "anger", "neutral", 0.72, 0.2, 16, 20, HARD),
]


def estimate(value: float, half_width: float = HALF_WIDTH) -> ScoreEstimate:
    return ScoreEstimate(value, value - half_width, value + half_width)


def sweep(parameter: str, scores: list[float]) -> SweepAnalysis:
    best = max(scores)
    levels = [
        LevelAnalysis(
            level, 2, estimate(one), max(0.0004, 1 - 40 * (best - one)), best - one < 0.02, one == best, "COMPLETED"
        )
        for level, one in zip(RECIPE.sweeps[parameter], scores, strict=True)
    ]
    return SweepAnalysis(parameter, levels)


def running_sweep() -> SweepAnalysis:
    ended, failed = sweep("speaker_format", [0.571, 0.55, 0.54, 0.53]).levels[:2]
    return SweepAnalysis(
        "speaker_format",
        [
            replace(ended, chosen=False),
            replace(failed, epoch=None, score=None, p=None, tied=False, status="FAILED"),
            LevelAnalysis("brackets", None, None, None, False, False, "RUNNING"),
            LevelAnalysis("says", None, None, None, False, False, "IDLE"),
        ],
    )


def cells() -> list[CellAnalysis]:
    """Seven rows of ten epochs: learnt slowly at low rates, and overfitted late; the highest rate diverges."""
    made = []
    for row, rate in enumerate(RECIPE.learning_rates):
        for epoch in range(1, RECIPE.epochs + 1):
            pace = epoch * rate / 6e-6
            value = 0.58 - 0.13 * np.exp(-0.9 * pace) - 0.0025 * max(pace - 4, 0) ** 0.8
            value += 0.004 * np.sin(7 * row + 3 * epoch)
            metrics = {"train_loss": 1.7 * np.exp(-0.12 * pace) + 0.05, "accuracy": value, "seconds": 20.0}
            if row == 0 and epoch > 8:
                made.append(CellAnalysis(rate, epoch, None, None, False, dict.fromkeys(metrics, float("nan"))))
                continue
            made.append(CellAnalysis(rate, epoch, estimate(value), None, False, metrics))
    best = max(cell.score.value for cell in made if cell.score)
    return [
        replace(cell, p=1 - 40 * (best - cell.score.value), tied=True)
        if cell.score and best - cell.score.value < 0.008
        else cell
        for cell in made
    ]


def classes(texts: int) -> ClassReport:
    random = np.random.default_rng(1)
    truth = random.choice(len(LABELS), texts, p=PRIORS)
    logits = random.normal(size=(texts, len(LABELS))) + np.log(PRIORS)
    logits[np.arange(texts), truth] += 1.6
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    np.add.at(confusion, (truth, probabilities.argmax(axis=1)), 1)
    support = {label: int(count) for label, count in zip(LABELS, confusion.sum(axis=1), strict=True)}
    metrics = evaluate(truth, probabilities, LABELS)
    split = Split(truth, np.arange(texts) // 12, LABELS)
    baseline = compare_with_baseline(split, probabilities[None], PRIORS, "accuracy")
    return ClassReport(LABELS, confusion, support, metrics, estimate(metrics["accuracy"]), baseline)


def complete() -> StudyAnalysis:
    """A study that has ended, with all that it can have."""
    grid, dev, test = cells(), classes(1178), classes(2764)
    best = max((cell for cell in grid if cell.score), key=lambda cell: cell.score.value)
    winner = RECIPE.model_copy(
        update={
            "hyperparameters": RECIPE.hyperparameters.model_copy(
                update={"context": "current+previous", "learning_rate": 5e-6}
            )
        }
    )
    confidence = np.linspace(0.35, 0.95, 10)
    share = np.full(10, 0.1)
    return StudyAnalysis(
        folder="results/friends",
        recipe=RECIPE,
        metadata=StudyMetadata(
            "9f2c41d07e55a8b3",
            LABELS,
            {"Ross": 900},
            {"bert-base-cased": "sha256:1b2c3d4e5f60718293a4b5c6d7e8f90a"},
            {"bertgrid-tf": "0.1.0", "tensorflow": "2.20.0", "transformers": "4.54.1", "numpy": "2.2.6"},
            "NVIDIA A10 (24 GB), 16 CPU cores",
            {
                split: dict(zip(LABELS, (PRIORS * texts).astype(int).tolist(), strict=True))
                for split, texts in (("train", 10561), ("dev", 1178), ("test", 2764))
            },
            began="2026-03-14T15:09:26+00:00",
        ),
        winner=winner,
        best=best,
        optimism=0.0052,
        sweeps=[
            sweep("context", [0.552, 0.574, 0.551, 0.533, 0.56, 0.569]),
            sweep("speaker_format", [0.571, 0.566, 0.557, 0.574]),
            sweep("oversample_ratio", [0.574, 0.523]),
            sweep("model", [0.574, 0.57]),
            sweep("max_length", [0.565, 0.574, 0.573]),
            sweep("warmup_ratio", [0.571, 0.574]),
        ],
        cells=grid,
        dev=dev,
        final=FinalTrial(
            RECIPE.hyperparameters.model_copy(update={"model": "bert-large-cased"}),
            10,
            [dict(dev.metrics)] * best.epoch,
        ),
        final_dev=dev,
        test=test,
        interaction_checks=[
            InteractionCheck(
                "context",
                "current+previous",
                "previous2+previous+current",
                estimate(0.005, 0.018),
                estimate(0.009, 0.019),
                estimate(0.004, 0.025),
                0.33,
                "too little data to tell",
            )
        ],
        seed_repeats=[SeedRepeats(5e-6, 3, [0.578, 0.571, 0.574]), SeedRepeats(4e-6, 3, [0.577, 0.575])],
        gains=[
            PostHocGain("soup", "accuracy", Change(0.578, 0.584, 0.21), None, True, "Mean of the weights of 3 cells."),
            PostHocGain(
                "logit adjustment",
                "macro_f1",
                Change(0.331, 0.352, 0.0004),
                Change(0.35, 0.37, 0.003),
                False,
                "Strength 0.4.",
            ),
            PostHocGain(
                "temperature",
                "loss",
                Change(1.3, 1.2, None),
                Change(1.35, 1.22, 0.001),
                True,
                "Temperature 1.68.",
            ),
        ],
        calibration=Calibration(
            1.68,
            Reliability(confidence, confidence**1.35, share),
            Reliability(confidence - 0.08, confidence**1.3, share),
            1.3,
            1.2,
        ),
        cost=Cost(
            {"sweep:context": 1260, "sweep:model": 410, "grid": 5200, "interactions": 130, "final": 2900},
            epochs=125,
            grid_epochs=70,
            product_epochs=40_320,
            tokens_per_second=18_432.7,
            padding_share=0.0,
            mfu=0.617,
            roofline=0.914,
        ),
        lengths=np.random.default_rng(1).gamma(3, 9, 10561).astype(int) + 3,
        command="bertgrid-tf tune friends --recipe results/friends/best.yaml --study again",
        predict_command="bertgrid-tf predict results/friends FILE -o OUT",
        mistakes=MISTAKES,
    )


def begun() -> StudyAnalysis:
    """The same before anything was scored."""
    return replace(
        complete(),
        winner=None,
        best=None,
        optimism=None,
        sweeps=[],
        cells=[],
        dev=None,
        final=None,
        final_dev=None,
        test=None,
        interaction_checks=[],
        seed_repeats=[],
        gains=[],
        calibration=None,
        cost=Cost({}, 0, 70, 40_320, None, None, None, None),
        lengths=None,
        command="",
        predict_command="",
        mistakes=[],
    )


def sweeping() -> StudyAnalysis:
    """The same during its second sweep."""
    ended = complete()
    return replace(
        begun(),
        sweeps=[ended.sweeps[0], running_sweep()],
        cost=Cost({"sweep:context": 900.0}, 16, 70, 40_320, None, None, None, None),
    )


def filling() -> StudyAnalysis:
    """The same in the third row of its grid."""
    ended = complete()
    some = ended.cells[:24]
    best = max((cell for cell in some if cell.score), key=lambda cell: cell.score.value)
    return replace(sweeping(), sweeps=ended.sweeps, cells=some, best=best, dev=ended.dev)


def searched() -> StudyAnalysis:
    """The same with its winner, and no final model yet."""
    return replace(complete(), final=None, final_dev=None, test=None, predict_command="")


def with_classes(count: int) -> StudyAnalysis:
    """The same with many classes, of which the first is often taken for the last, and the second for the third."""
    ended, labels = complete(), tuple(f"class {number}" for number in range(count))
    confusion = 9 * np.eye(count, dtype=int)
    confusion[0, -1], confusion[1, 2 % count] = 8, 7
    metrics = ended.dev.metrics | {f"{name}_{label}": 0.5 for name in PER_CLASS for label in labels}
    support = dict(zip(labels, confusion.sum(axis=1).tolist(), strict=True))
    report = replace(ended.dev, labels=labels, confusion=confusion, support=support, metrics=metrics)
    metadata = replace(ended.metadata, labels=labels, classes={"train": support, "dev": support})
    return replace(ended, dev=report, final_dev=report, test=report, metadata=metadata)


def one_cell() -> StudyAnalysis:
    """The same with one learning rate and one epoch, decided by a metric of a long name, before the final model."""
    metric = "precision_non-neutral"
    recipe = RECIPE.model_copy(update={"learning_rates": [5e-6], "epochs": 1, "metric": metric})
    cell = CellAnalysis(5e-6, 1, estimate(0.55), None, True, {"train_loss": 1.1, metric: 0.55})
    return replace(searched(), recipe=recipe, cells=[cell], best=cell, sweeps=[], calibration=None, seed_repeats=[])


STUDIES = {study.__name__: study for study in (complete, begun, sweeping, filling, searched)}
