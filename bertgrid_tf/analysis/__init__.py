"""What a study has found, how sure that is and what it cost: all that a report says, from the results folder alone."""

from bertgrid_tf.analysis.analyze import RankedCandidate, StudyScores, analyze, classes, compare_studies
from bertgrid_tf.analysis.records import (
    ADJUSTMENT,
    TEMPERATURE,
    CellAnalysis,
    Change,
    ClassReport,
    Cost,
    DataSummary,
    InteractionCheck,
    LevelAnalysis,
    PostHocGain,
    ScoreEstimate,
    SeedRepeats,
    StudyAnalysis,
    SweepAnalysis,
)

__all__ = [
    "ADJUSTMENT",
    "TEMPERATURE",
    "CellAnalysis",
    "Change",
    "ClassReport",
    "Cost",
    "DataSummary",
    "InteractionCheck",
    "LevelAnalysis",
    "PostHocGain",
    "RankedCandidate",
    "ScoreEstimate",
    "SeedRepeats",
    "StudyAnalysis",
    "StudyScores",
    "SweepAnalysis",
    "beside",
    "classes",
    "gather",
]
