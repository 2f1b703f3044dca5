"""A time budget: which part of a recipe fits it, and the decisions for lack of time."""

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
"""Factor by which what is predicted may take longer."""
LEAST_TO_FILL = 3
"""Learning rates: the start's and one on either side show whether it is a good one."""
LEAST_TO_CLIMB = 4
"""Learning rates: climbing trains a quarter of the grid's epochs, of fewer rates less than one to its end."""


@dataclass(frozen=True)
class Budget:
    """The time that all sessions of a study may take together.

    Attributes:
        seconds: Wall seconds.
        began: When this session began, by `time.monotonic`.
    """

    seconds: float
    began: float

    @classmethod
    def of(cls, text: str) -> "Budget":
        """Parse the budget of a session that begins now; raises as `parse`."""
        return cls(parse(text), monotonic())


def parse(text: str) -> float:
    """Return the seconds of `2h`, `90m`, `1h30m` or `5400s`; raises UserError for anything else and for zero."""
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip().lower())
    seconds = (
        sum(float(part or 0) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0
    )
    if not seconds:
        raise UserError(f"--budget {text!r} is no time to spend: write it as 2h, 90m, 1h30m or 5400s.")
    return seconds


def written(seconds: float) -> str:
    """Return seconds, rounded up to whole ones, as `parse` reads them."""
    whole = ceil(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if count) or "0s"


# What fits


def choose(asked: Recipe, seconds: Callable[[Recipe], float], budget: float, spent: float) -> Recipe | None:
    """Return the first of the recipe's `candidates` that fits; None where none does.

    Args:
        asked: The whole recipe.
        seconds: Predicts what a recipe takes from now on, its final model included.
        budget: Seconds that the study may take.
        spent: Seconds of them that are over.
    """
    return next((recipe for recipe in candidates(asked) if spent + MARGIN * seconds(recipe) <= budget), None)


def too_short(asked: Recipe, seconds: Callable[[Recipe], float], budget: float, spent: float) -> UserError:
    """Return the error of a budget that nothing fits, with the least that would do; arguments as for `choose`."""
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
    """Return what can be searched of a recipe, from all of it to the least, one epoch of one learning rate.

    Given up, one after another: filling the grid, where climbing it instead leaves a row's worth of epochs or more; the
    learning rates farthest from the start's, as long as there are enough of them for the search; epochs, down to half;
    sweeps, the last first; then all learning rates but the nearest to the start's, and epochs down to one. The final
    model is never given up.
    """
    found = [asked]

    def give_up(**changes: Any) -> None:
        found.append(found[-1].model_copy(update=changes))

    rates, half = len(asked.learning_rates), ceil(asked.epochs / 2)
    if asked.search == "grid" and asked.grid == "row" and rates >= LEAST_TO_CLIMB:
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
    """Return in words what a chosen recipe does without; empty if nothing."""
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
    by_distance = sorted(recipe.learning_rates, key=lambda rate: abs(log(rate / recipe.settings.learning_rate)))
    return [rate for rate in recipe.learning_rates if rate in by_distance[:count]]


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


# The decisions


class BudgetLog:
    """The decisions for lack of time, in a file that is only appended to (`budget.jsonl`); a resumed study follows it.

    A line is one decision: `recipe` (the budget in seconds, and what is searched), `grid` (what of the grid is
    searched, chosen when the sweeps are decided), `stop` (a trial and the epoch it was ended after), `leave_out` (a
    trial that was not begun), `end` (of the search), `final` (the epoch that the final model was ended after).

    Args:
        path: The file.

    Raises:
        UserError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        # A killed process leaves at most its last line half written, a decision without effect yet.
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
            os.fsync(file.fileno())

    def of(self, *decisions: str) -> list[dict[str, Any]]:
        """Return the decisions of some kinds, in order."""
        return [line for line in self._lines if line["decision"] in decisions]

    @property
    def seconds(self) -> float | None:
        """The budget; None without one, or before anything was chosen."""
        return next((float(line["seconds"]) for line in self.of("recipe")), None)

    def choose(self, budget: float, asked: Recipe, chosen: Recipe) -> None:
        """Append what is searched of a recipe."""
        self.add("recipe", seconds=budget, sweeps=list(chosen.sweeps), **_kept(asked, chosen))

    def choose_grid(self, asked: Recipe, chosen: Recipe) -> None:
        """Append what is searched of the grid, when the sweeps are decided."""
        self.add("grid", **_kept(asked, chosen))

    def chosen(self, asked: Recipe) -> Recipe:
        """Return what is searched of a recipe."""
        lines = self.of("recipe", "grid")
        if not lines:
            return asked
        sweeps = {name: levels for name, levels in asked.sweeps.items() if name in lines[0]["sweeps"]}
        return asked.model_copy(update={"sweeps": sweeps} | {name: lines[-1][name] for name in _GRID})

    def sentences(self) -> list[str]:
        """Return what was left out, in words."""
        if self.seconds is None:
            return []
        budget, found = written(self.seconds), []
        if without := self.of("recipe", "grid")[-1]["without"]:
            found.append(f"Chosen to fit --budget {budget}, without {without}.")
        late = [f"{line['run']} was ended after epoch {line['epoch']}" for line in self.of("stop")]
        late += [f"{line['run']} was not begun" for line in self.of("leave_out")]
        late += [f"the final model was ended after epoch {line['epoch']}" for line in self.of("final")]
        if self.of("end"):
            late.append("the search was ended before all of its runs had begun")
        if late:
            found.append(f"For lack of time within --budget {budget}: {', '.join(late)}.")
        return found


_GRID = ("search", "learning_rates", "epochs")


def _kept(asked: Recipe, chosen: Recipe) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in _GRID} | {"without": left_out(asked, chosen)}
