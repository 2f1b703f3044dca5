"""The analysis of a study folder: scores with intervals, tied sets, interaction checks, post-hoc gains, cost."""

from bertgrid_tf.analysis.analyze import analyze, class_report, dev_baseline
from bertgrid_tf.analysis.gains import fit_correction
from bertgrid_tf.analysis.mistakes import list_mistakes
from bertgrid_tf.analysis.records import (
    ADJUSTMENT,
    TEMPERATURE,
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
from bertgrid_tf.analysis.study_scores import RankedCandidate, StudyScores, compare_studies

__all__ = [
    "ADJUSTMENT",
    "TEMPERATURE",
    "CellAnalysis",
    "Change",
    "ClassReport",
    "Cost",
    "InteractionCheck",
    "LevelAnalysis",
    "PostHocGain",
    "RankedCandidate",
    "ScoreEstimate",
    "SeedRepeats",
    "StudyAnalysis",
    "StudyScores",
    "SweepAnalysis",
    "analyze",
    "class_report",
    "compare_studies",
    "dev_baseline",
    "fit_correction",
    "list_mistakes",
]
