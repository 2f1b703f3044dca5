"""Plain-text summary of a study."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from keras_tuner.engine.trial import TrialStatus

if TYPE_CHECKING:
    from tuners.decisions import SweepLevel
    from tuners.oracle import CasualGridOracle


def summary(oracle: "CasualGridOracle", scale: float = 1, digits: int = 4) -> str:
    """Format the sweeps, the learning-rate × epoch table, and the trials that failed or diverged.

    `*` marks the level that a sweep adopted and the best cell of the table.

    Args:
        oracle: Oracle of the search, which may still be running.
        scale: Factor of the scores; 100 shows fractions in percent.
        digits: Decimals of a score.
    """
    parts = []
    if levels := oracle.sweep_results:
        parts.append(_sweeps(levels, scale, digits))
    table = oracle.table()
    parts.append(f"Learning rate × epoch\n{table.to_text(scale, digits)}")
    if np.isnan(table.scores).all():
        parts.append("No cell of the grid has a score.")
    else:
        best = table.best()
        score = f"{best.score * scale:.{digits}f}"
        parts.append(f"Best: {score} at learning rate {best.learning_rate!r}, epoch {best.epoch}")
    if notes := list(_notes(oracle)):
        parts.append("\n".join(notes))
    return "\n\n".join(parts)


def _sweeps(levels: "list[SweepLevel]", scale: float, digits: int) -> str:
    lines = [["Sweep", "Level", "Epoch", "Score "]]
    for level in levels:
        shown = level.status.lower() if math.isnan(level.score) else f"{level.score * scale:.{digits}f}"
        mark = "*" if level.chosen else " "
        lines.append([level.parameter, str(level.level), str(level.epoch or ""), shown + mark])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{parameter:{widths[0]}}  {level:{widths[1]}}  {epoch:>{widths[2]}}  {score:>{widths[3]}}".rstrip()
        for parameter, level, epoch, score in lines
    )


def _notes(oracle: "CasualGridOracle") -> Iterator[str]:
    for trial in oracle.trials.values():
        diverged = next((epoch for epoch, score in oracle.history(trial) if math.isnan(score)), None)
        if diverged is not None:
            yield f"Trial {trial.trial_id} diverged in epoch {diverged}."
        elif trial.status == TrialStatus.FAILED:
            reason, *_ = (trial.message or "").strip().splitlines() or ["no reason given"]
            yield f"Trial {trial.trial_id} failed: {reason}"
