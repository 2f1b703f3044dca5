"""A budget of time: which part of a recipe fits it, and what was decided because of it."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from time import monotonic
from typing import Any

from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import Recipe

MARGIN = 1.1
"""What is predicted may take so many times as long."""
LEAST_TO_FILL = 3
"""The start's learning rate and one on either side: the least that shows whether it is a good one."""
LEAST_TO_CLIMB = 4
"""Climbing trains a quarter of the grid's epochs: with fewer learning rates, less than one of them to its end."""


@dataclass(frozen=True)
class Budget:
    """How long all sessions of a study may take together.

    Attributes:
        seconds: how long.
        began: when this session began, by `time.monotonic`.
    """

    seconds: float
    began: float

    @classmethod
    def of(cls, text: str) -> "Budget":
        """A budget as it is written, for a session that begins now; errors as for `parse`."""
        return cls(parse(text), monotonic())


def parse(text: str) -> float:
    """The seconds of `2h`, `90m`, `1h30m` or `5400s`. Raises UserError for anything else, and for no time at all."""
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0
    )
    if not seconds:
        raise UserError(f"--budget {text!r} is no time to spend: write it as 2h, 90m, 1h30m or 5400s.")
    return seconds


def written(seconds: float) -> str:
    """Seconds, rounded up to whole ones, as `parse` reads them."""
    whole = ceil(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if count) or "0s"


# What fits


def choose(asked: Recipe, seconds: Callable[[Recipe], float], budget: float, spent: float) -> Recipe | None:
    """The first of the recipe's `candidates` that fits; None where none does.

    Args:
        asked: the whole recipe.
        seconds: what a recipe is predicted to take from now on, its final model included.
        budget: seconds that the study may take.
        spent: seconds that are over of them.
    """
    return next((recipe for recipe in candidates(asked) if spent + MARGIN * seconds(recipe) <= budget), None)


def too_short(asked: Recipe, seconds: Callable[[Recipe], float], budget: float, spent: float) -> UserError:
    """Why a budget is refused that nothing fits, with one that would do for the least; arguments as for `choose`."""
    least = spent + MARGIN * min(map(seconds, candidates(asked)))
    if least > 600:
        least = 60 * ceil(least / 60)
    final = " and the final model" if asked.final_models() else ""
    otherwise = ", a smaller --final-model or --final-model none" if final else " or a smaller --model"
    return UserError(
        f"--budget {written(budget)} is too short: one epoch at one learning rate{final} would end after about "
        f"{written(least)} here: give --budget {written(least)} or more{otherwise}."
    )


def candidates(asked: Recipe) -> list[Recipe]:
    """What can be searched of a recipe, from all of it to the least, one epoch of one learning rate.

    Given up, one after another: filling the grid, where climbing it instead leaves a row's worth of epochs or more; the
    learning rates farthest from the start's, as long as there are enough of them for the search; epochs, down to half;
    sweeps, the last first; then all learning rates but the nearest to the start's, and epochs down to one. The final
    model is never given up.
    """
    found = [asked]

    def give_up(**changes: Any) -> None:
        found.append(found[-1].model_copy(update=changes))

    rates, half = len(asked.learning_rates), ceil(asked.epochs / 2)
    if asked.search == "grid" and asked.grid_schedule == "shared" and rates >= LEAST_TO_CLIMB:
        give_up(search="climb")
    few = min(rates, LEAST_TO_FILL if found[-1].search == "grid" else LEAST_TO_CLIMB)
    for count in range(rates - 1, few - 1, -1):
        give_up(learning_rates=_nearest(asked, count))
    for epochs in range(asked.epochs - 1, half - 1, -1):
        give_up(epochs=epochs)
    for name in reversed(asked.sweeps):
        # A single level is adopted without a run.
        if len(asked.sweeps[name]) > 1:
            give_up(sweeps={other: levels for other, levels in found[-1].sweeps.items() if other != name})
    for count in range(few - 1, 0, -1):
        give_up(learning_rates=_nearest(asked, count))
    for epochs in range(half - 1, 0, -1):
        give_up(epochs=epochs)
    return found


def left_out(asked: Recipe, chosen: Recipe) -> str:
    """What of a recipe another one, chosen for it, does without; empty if nothing."""
    parts = []
    if chosen.search != asked.search:
        parts.append("filling the grid, which is climbed instead")
    if rates := [f"{rate:g}" for rate in asked.learning_rates if rate not in chosen.learning_rates]:
        parts.append(f"the learning rate{'s' if len(rates) > 1 else ''} {_listed(rates)}")
    if chosen.epochs < asked.epochs:
        parts.append(f"{asked.epochs - chosen.epochs} of the grid's {asked.epochs} epochs")
    if sweeps := [name for name in asked.sweeps if name not in chosen.sweeps]:
        parts.append(f"the sweep{'s' if len(sweeps) > 1 else ''} of {_listed(sweeps)}")
    return _listed(parts)


def _nearest(recipe: Recipe, count: int) -> list[float]:
    by_distance = sorted(recipe.learning_rates, key=lambda rate: abs(log(rate / recipe.hyperparameters.learning_rate)))
    return [rate for rate in recipe.learning_rates if rate in by_distance[:count]]


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


# What was decided


class BudgetLog:
    """What was decided for lack of time, in a file that is only ever appended to (`budget.jsonl`): a resumed study
    reads there what it must decide again.

    A line is one decision: `recipe` (the budget in seconds, and what was chosen to be searched), `grid` (what of the
    grid was chosen anew when the sweeps were decided), `stop` (a run and the epoch it was ended after), `leave_out` (a
    run that was not begun), `end` (of the search), `final` (the epoch that the final model was ended after).

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        # A killed process leaves at most its last line half written; what it said had no effect yet.
        whole, _, self._torn = text.rpartition("\n")
        try:
            self._lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise UserError(
                f"{path} is damaged: restore it from a copy, or start the study over with --fresh."
            ) from error

    def add(self, decision: str, **facts: Any) -> None:
        """Writes a decision down; it is on the disk when this returns."""
        if self._torn:
            os.truncate(self._path, self._path.stat().st_size - len(self._torn.encode()))
            self._torn = ""
        self._lines.append({"decision": decision, **facts})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self._lines[-1], ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def of(self, *decisions: str) -> list[dict[str, Any]]:
        """All decisions of some sorts, in order."""
        return [line for line in self._lines if line["decision"] in decisions]

    @property
    def seconds(self) -> float | None:
        """The budget; None where there was none, or nothing was chosen yet."""
        return next((float(line["seconds"]) for line in self.of("recipe")), None)

    def choose(self, budget: float, asked: Recipe, chosen: Recipe) -> None:
        """Writes down what is searched of a recipe."""
        self.add("recipe", seconds=budget, sweeps=list(chosen.sweeps), **_kept(asked, chosen))

    def choose_grid(self, asked: Recipe, chosen: Recipe) -> None:
        """Writes down what is searched of the grid, the sweeps being decided."""
        self.add("grid", **_kept(asked, chosen))

    def swept(self, asked: Recipe) -> Recipe:
        """A recipe without the sweeps that were left out."""
        for line in self.of("recipe"):
            kept = {name: levels for name, levels in asked.sweeps.items() if name in line["sweeps"]}
            return asked.model_copy(update={"sweeps": kept})
        return asked

    def chosen(self, asked: Recipe) -> Recipe:
        """What is searched of a recipe."""
        for line in self.of("recipe", "grid")[-1:]:
            return self.swept(asked).model_copy(update={name: line[name] for name in _GRID})
        return asked

    def sentences(self) -> list[str]:
        """What was left out, for a person."""
        if self.seconds is None:
            return []
        budget, found = written(self.seconds), []
        if without := self.of("recipe", "grid")[-1]["without"]:
            found.append(f"Chosen to fit --budget {budget}, without {without}.")
        late = [f"{line['trial']} was ended after epoch {line['epoch']}" for line in self.of("stop")]
        late += [f"{line['trial']} was not begun" for line in self.of("leave_out")]
        late += [f"the final model was ended after epoch {line['epoch']}" for line in self.of("final")]
        if self.of("end"):
            late.append("the search was ended before all of its trials had begun")
        if late:
            found.append(f"For lack of time within --budget {budget}: {', '.join(late)}.")
        return found


_GRID = ("search", "learning_rates", "epochs")


def _kept(asked: Recipe, chosen: Recipe) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in _GRID} | {"without": left_out(asked, chosen)}
