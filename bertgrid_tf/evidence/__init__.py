"""What a study has found, how sure that is and what it cost: all that a report says, from the results folder alone."""

from bertgrid_tf.evidence.found import (
    ADJUSTMENT,
    TEMPERATURE,
    AuditEvidence,
    CellEvidence,
    Change,
    Classes,
    Cost,
    DataEvidence,
    Estimate,
    Evidence,
    GainEvidence,
    LevelEvidence,
    RepeatEvidence,
    SweepEvidence,
)
from bertgrid_tf.evidence.gather import Ranked, Scored, beside, classes, gather

__all__ = [
    "ADJUSTMENT",
    "TEMPERATURE",
    "AuditEvidence",
    "CellEvidence",
    "Change",
    "Classes",
    "Cost",
    "DataEvidence",
    "Estimate",
    "Evidence",
    "GainEvidence",
    "LevelEvidence",
    "Ranked",
    "RepeatEvidence",
    "Scored",
    "SweepEvidence",
    "beside",
    "classes",
    "gather",
]
