"""A time budget: the part of a recipe that fits it, and the log of the decisions."""

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
from tuners.files import sync

MARGIN = 1.1
"""Factor on predicted seconds that must still fit."""
LEAST_TO_FILL = 3
"""The start's learning rate and one on either side: the least that shows whether it is a good one."""
LEAST_TO_CLIMB = 4
"""Climbing trains a quarter of the grid's epochs: with fewer learning rates, less than one of them to its end."""


@dataclass(frozen=True)
class Budget:
    """The time that all sessions of a study may take together.

    Attributes:
        seconds: The time in seconds.
        began: When this session began, by `time.monotonic`.
    """

    seconds: float
    began: float

    @classmethod
    def of(cls, text: str) -> "Budget":
        """Read a budget, for a session that begins now; errors as for `parse`."""
        return cls(parse(text), monotonic())


def parse(text: str) -> float:
    """Return the seconds of `2h`, `90m`, `1h30m` or `5400s`.

    Example:
        >>> parse("1h30m")
        5400.0

    Raises:
        UserError: The text is anything else, or no time at all.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    numbers = parts.groups() if parts else (0, 0, 0)
    seconds = sum(float(number or 0) * unit for number, unit in zip(numbers, (3600, 60, 1), strict=True))
    if not seconds:
        raise UserError(f"--budget {text!r} is no time to spend: write it as 2h, 90m, 1h30m or 5400s.")
    return seconds


def written(seconds: float) -> str:
    """Write seconds, rounded up to whole ones, as `parse` reads them."""
    whole = ceil(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if count) or "0s"


# Choice


def choose(asked: Recipe, seconds: Callable[[Recipe], float], budget: float, spent: float) -> Recipe | None:
    """Return the first of the recipe's `candidates` that fits; None where none does.

    Args:
        asked: The whole recipe.
        seconds: Predicts the seconds of a recipe from now on, its final model included.
        budget: Seconds that the study may take.
        spent: Seconds that are over of them.
    """
    return next((recipe for recipe in candidates(asked) if spent + MARGIN * seconds(recipe) <= budget), None)


def too_short(asked: Recipe, seconds: Callable[[Recipe], float], budget: float, spent: float) -> UserError:
    """Return the refusal of a budget that nothing fits, with the least that would do; arguments as for `choose`."""
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
    """List the recipes that a recipe can be cut down to, from all of it to one epoch of one learning rate.

    Given up, one after another: filling the grid, where climbing it instead leaves a row's worth of epochs or more; the
    learning rates farthest from the start's, as long as there are enough of them for the search; epochs, down to half;
    sweeps, the last first; then all learning rates but the nearest to the start's, and epochs down to one. The final
    model is never given up.
    """
    fitting = [asked]

    def give_up(**changes: Any) -> None:
        fitting.append(fitting[-1].model_copy(update=changes))

    rates, half = len(asked.learning_rates), ceil(asked.epochs / 2)
    if asked.search == "grid" and asked.grid_schedule == "shared" and rates >= LEAST_TO_CLIMB:
        give_up(search="climb")
    few = min(rates, LEAST_TO_FILL if fitting[-1].search == "grid" else LEAST_TO_CLIMB)
    for count in range(rates - 1, few - 1, -1):
        give_up(learning_rates=_nearest(asked, count))
    for epochs in range(asked.epochs - 1, half - 1, -1):
        give_up(epochs=epochs)
    for name in reversed(asked.sweeps):
        # A single level is adopted without a trial.
        if len(asked.sweeps[name]) > 1:
            give_up(sweeps={other: levels for other, levels in fitting[-1].sweeps.items() if other != name})
    for count in range(few - 1, 0, -1):
        give_up(learning_rates=_nearest(asked, count))
    for epochs in range(half - 1, 0, -1):
        give_up(epochs=epochs)
    return fitting


def left_out(asked: Recipe, chosen: Recipe) -> str:
    """Name the parts of a recipe that a recipe chosen for it does without; empty if none."""
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


# Decisions


class BudgetLog:
    """The decisions for lack of time, by which a resumed study decides alike (`budget.jsonl`, only appended to).

    A line is one decision: `recipe` (the budget in seconds, and the search chosen for it), `grid` (the grid as chosen
    anew after the sweeps), `stop` (a trial and its last epoch), `leave_out` (a trial that was not begun), `end` (of the
    search), `final` (the last epoch of the final model).

    Args:
        path: The file, which need not exist yet.

    Raises:
        UserError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        # A killed process leaves at most its last line half written, a decision without effect so far.
        whole, _, self._torn = text.rpartition("\n")
        try:
            self._lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise UserError(
                f"{path} is damaged: restore it from a copy, or start the study over with --fresh."
            ) from error

    def add(self, decision: str, **facts: Any) -> None:
        """Append a decision; it is on the disk when this returns."""
        if self._torn:
            os.truncate(self._path, self._path.stat().st_size - len(self._torn.encode()))
            self._torn = ""
        self._lines.append({"decision": decision, **facts})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self._lines[-1], ensure_ascii=False) + "\n")
            file.flush()
            sync(file.fileno())

    def of(self, *decisions: str) -> list[dict[str, Any]]:
        """Return all decisions of some kinds, in order."""
        return [line for line in self._lines if line["decision"] in decisions]

    @property
    def seconds(self) -> float | None:
        """The budget; None where there was none, or nothing was chosen yet."""
        return next((float(line["seconds"]) for line in self.of("recipe")), None)

    def choose(self, budget: float, asked: Recipe, chosen: Recipe) -> None:
        """Append the search chosen for a recipe."""
        self.add("recipe", seconds=budget, sweeps=list(chosen.sweeps), **_kept(asked, chosen))

    def choose_grid(self, asked: Recipe, chosen: Recipe) -> None:
        """Append the grid chosen after the sweeps."""
        self.add("grid", **_kept(asked, chosen))

    def swept(self, asked: Recipe) -> Recipe:
        """Return a recipe without the sweeps that were left out."""
        for line in self.of("recipe"):
            kept = {name: levels for name, levels in asked.sweeps.items() if name in line["sweeps"]}
            return asked.model_copy(update={"sweeps": kept})
        return asked

    def chosen(self, asked: Recipe) -> Recipe:
        """Return the part of a recipe that is searched."""
        for line in self.of("recipe", "grid")[-1:]:
            return self.swept(asked).model_copy(update={name: line[name] for name in _GRID})
        return asked

    def sentences(self) -> list[str]:
        """Describe in sentences what was left out."""
        if self.seconds is None:
            return []
        budget, sentences = written(self.seconds), []
        if without := self.of("recipe", "grid")[-1]["without"]:
            sentences.append(f"Chosen to fit --budget {budget}, without {without}.")
        late = [f"{line['trial']} was ended after epoch {line['epoch']}" for line in self.of("stop")]
        late += [f"{line['trial']} was not begun" for line in self.of("leave_out")]
        late += [f"the final model was ended after epoch {line['epoch']}" for line in self.of("final")]
        if self.of("end"):
            late.append("the search was ended before all of its trials had begun")
        if late:
            sentences.append(f"For lack of time within --budget {budget}: {', '.join(late)}.")
        return sentences


_GRID = ("search", "learning_rates", "epochs")


def _kept(asked: Recipe, chosen: Recipe) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in _GRID} | {"without": left_out(asked, chosen)}
