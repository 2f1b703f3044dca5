"""A budget of time: the part of a recipe that fits it, and the decisions for lack of time."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator
from typing_extensions import Self

from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import LearningRate, shown
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.files import JsonLines
from bertgrid_tf.storage.records import Epoch

MARGIN = 1.1
"""Allowance for predictions that are too low, as a factor."""
LEAST_TO_FILL = 3
"""The start's learning rate and its neighbours: the least that shows whether it is a good one."""
LEAST_TO_SEARCH = 4
"""With fewer learning rates, one row is more than any of the shares below."""
SEARCH_SHARES = (0.5, 0.3, 0.15)
"""Shares of the grid that are searched where it cannot be filled."""
MOST_SECONDS = 10 * 365 * 86_400
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Budget:
    """The time that all sessions of a study may take together.

    Attributes:
        seconds: The time.
        began: When this session began, by `time.monotonic`.
    """

    seconds: float
    began: float

    @classmethod
    def of(cls, time: str | float) -> "Budget":
        """Make the budget of a session that begins now, of seconds or a text as for `parse_duration`.

        Raises:
            UserError: It is no time above 0 and below ten years.
        """
        if isinstance(time, str):
            return cls(parse_duration(time), monotonic())
        if isinstance(time, bool) or not isinstance(time, int | float) or not 0 < time < MOST_SECONDS:
            raise UserError(f"budget must be a time above 0 and below {MOST_SECONDS:,} seconds, not {shown(time)}.")
        return cls(time, monotonic())


def parse_duration(text: str) -> float:
    """Return the seconds of `2h`, `90m`, `1h30m` or `5400s`.

    Example:
        >>> parse_duration("1h30m")
        5400.0

    Raises:
        UserError: The text is no duration, zero, or ten years and more.
    """
    parts = re.fullmatch("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS), text.strip().lower())
    numbers = parts.groups(default="0") if parts else ()
    seconds = sum(float(number) * unit for number, unit in zip(numbers, _UNITS.values(), strict=False))
    if not 0 < seconds < MOST_SECONDS:
        raise UserError(
            f"--budget {shown(text)} is no time to spend: write it as 2h, 90m, 1h30m or 5400s, below ten years."
        )
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds, rounded up to whole ones, as `parse_duration` reads them.

    Example:
        >>> format_duration(5399.2)
        '1h30m'
    """
    whole = ceil(seconds)
    counts = zip((whole // 3600, whole % 3600 // 60, whole % 60), _UNITS, strict=True)
    return "".join(f"{count}{unit}" for count, unit in counts if count) or "0s"


def choose(asked: Recipe, seconds: Callable[[Recipe], float], budget: float, spent: float) -> Recipe | None:
    """Return the first of the recipe's `candidates` that fits; None where none does.

    Args:
        asked: The whole recipe.
        seconds: Predicts the seconds that a recipe takes from now on, its final model included.
        budget: Seconds that the study may take.
        spent: Seconds of the budget that are over.
    """
    return next((recipe for recipe in candidates(asked) if spent + MARGIN * seconds(recipe) <= budget), None)


def too_short_error(asked: Recipe, seconds: Callable[[Recipe], float], budget: float, spent: float) -> UserError:
    """Return the error of a budget that nothing fits, with one that suffices; arguments as for `choose`."""
    least = spent + MARGIN * min(map(seconds, candidates(asked)))
    if least > 600:
        least = 60 * ceil(least / 60)
    final = "" if asked.adopts_winner else " and the final model"
    smaller = ", a smaller --final-model or --final-model none" if final and asked.final_models() else ""
    otherwise = smaller or " or a smaller --model"
    return UserError(
        f"--budget {format_duration(budget)} is too short: one epoch at one learning rate{final} would end after about "
        f"{format_duration(least)} here: give --budget {format_duration(least)} or more{otherwise}."
    )


def candidates(asked: Recipe) -> list[Recipe]:
    """List reduced recipes, from the whole one to one epoch of one learning rate.

    Given up, one after another: filling the grid, of which the search `surface` trains less and less; the learning
    rates farthest from the start's, as long as there are enough of them for the search; epochs, down to half; sweeps,
    the last first; then all learning rates but the nearest to the start's, and epochs down to one. The final model is
    never given up.
    """
    reduced = [asked]

    def give_up(**changes: Any) -> None:
        reduced.append(reduced[-1].model_copy(update=changes))

    rates, half = len(asked.learning_rates), ceil(asked.epochs / 2)
    if asked.search == "grid" and asked.grid_schedule == "shared" and rates >= LEAST_TO_SEARCH:
        for share in SEARCH_SHARES:
            give_up(search="surface", search_share=share)
    few = min(rates, LEAST_TO_FILL if reduced[-1].search == "grid" else LEAST_TO_SEARCH)
    for count in range(rates - 1, few - 1, -1):
        give_up(learning_rates=_nearest(asked, count))
    for epochs in range(asked.epochs - 1, half - 1, -1):
        give_up(epochs=epochs)
    for name in reversed(asked.sweeps):
        # A single level is adopted without a trial.
        if len(asked.sweeps[name]) > 1:
            give_up(sweeps={other: levels for other, levels in reduced[-1].sweeps.items() if other != name})
    for count in range(few - 1, 0, -1):
        give_up(learning_rates=_nearest(asked, count))
    for epochs in range(half - 1, 0, -1):
        give_up(epochs=epochs)
    return reduced


def left_out(asked: Recipe, chosen: Recipe) -> str:
    """Describe what a reduced recipe lacks of the whole one; empty if nothing."""
    parts = []
    if chosen.search != asked.search:
        parts.append(f"filling the grid, of which search {chosen.search} trains up to {chosen.search_share:.0%}")
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


_GRID = ("search", "search_share", "learning_rates", "epochs")
_KEYS = {
    "recipe": ("seconds", "sweeps", "without", *_GRID),
    "grid": ("without", *_GRID),
    "stop": ("trial", "epoch"),
    "leave_out": ("trial",),
    "end": (),
    "final": ("epoch",),
}
"""The keys of a line, by its decision."""


class _Decision(BaseModel):
    decision: Literal["recipe", "grid", "stop", "leave_out", "end", "final"]
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    sweeps: list[str] = []
    without: str = ""
    search: Literal["grid", "genetic", "surface"] = "grid"
    search_share: Annotated[float, Field(gt=0, le=1)] | None = None
    learning_rates: Annotated[list[LearningRate], Field(min_length=1)] = []
    epochs: Epoch = 1
    trial: str = ""
    epoch: Epoch = 1

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := {*_KEYS[self.decision]} - self.model_fields_set:
            raise ValueError(f"a decision lacks {', '.join(sorted(missing))}")
        return self


class BudgetLog:
    """The decisions for lack of time (`budget.jsonl`), which a resumed study repeats.

    A line is one decision: `recipe` (the budget in seconds, and the reduced recipe), `grid` (the grid as reduced when
    the sweeps were decided), `stop` (a trial and the epoch after which it was ended), `leave_out` (a trial that was not
    begun), `end` (of the search), `final` (the epoch after which the final model was ended). A study that grows has
    another `recipe`.

    Raises:
        UserError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._lines = JsonLines(path, _Decision)

    def add(self, decision: str, **details: Any) -> None:
        """Write a decision; it is on the disk when this returns."""
        self._lines.append({"decision": decision, **details})

    def of(self, *decisions: str) -> list[dict[str, Any]]:
        """List the decisions of some kinds, in order."""
        return [line for line in self._lines.records if line["decision"] in decisions]

    def since_growth(self, decision: str) -> list[dict[str, Any]]:
        """List the decisions of a kind since the study has last grown."""
        lines = self.of("recipe", decision)
        began = max((number for number, line in enumerate(lines) if line["decision"] == "recipe"), default=0)
        return [line for line in lines[began:] if line["decision"] == decision]

    @property
    def seconds(self) -> float | None:
        """The budget; None without one, and before anything was chosen for it."""
        return next((float(line["seconds"]) for line in reversed(self.of("recipe"))), None)

    @property
    def ended(self) -> bool:
        """Whether the search was ended, and the study has not grown since."""
        return bool(self.since_growth("end"))

    def choose(self, budget: float, asked: Recipe, chosen: Recipe) -> None:
        """Write which part of a recipe is searched."""
        self.add("recipe", seconds=budget, sweeps=list(chosen.sweeps), **_grid(asked, chosen))

    def grow(self, budget: float, former: Recipe, asked: Recipe) -> None:
        """Write which part of a recipe is searched that a former one has grown to, unless that is done."""
        chosen = self.grown(former, asked)
        line = {"decision": "recipe", "seconds": budget, "sweeps": list(chosen.sweeps), **_grid(asked, chosen)}
        if self._lines.records[-1:] != [line]:
            self._lines.append(line)

    def grown(self, former: Recipe, asked: Recipe) -> Recipe:
        """Return the part of a recipe that is searched: what was chosen of the former one, and what is new."""
        chosen = self.chosen(former)
        left_out = {*former.learning_rates} - {*chosen.learning_rates}
        return asked.model_copy(
            update={
                "search": chosen.search,
                "search_share": chosen.search_share,
                "learning_rates": [rate for rate in asked.learning_rates if rate not in left_out],
                "epochs": asked.epochs if chosen.epochs == former.epochs else chosen.epochs,
                "sweeps": {
                    name: levels
                    for name, levels in asked.sweeps.items()
                    if name in chosen.sweeps or name not in former.sweeps
                },
            }
        )

    def choose_grid(self, asked: Recipe, chosen: Recipe) -> None:
        """Write which part of the grid is searched after the sweeps."""
        self.add("grid", **_grid(asked, chosen))

    def chosen(self, asked: Recipe) -> Recipe:
        """Return the part of a recipe that is searched."""
        for recipe in self.of("recipe")[-1:]:
            latest = self.of("recipe", "grid")[-1]
            sweeps = {name: levels for name, levels in asked.sweeps.items() if name in recipe["sweeps"]}
            return asked.model_copy(update={"sweeps": sweeps} | {name: latest[name] for name in _GRID})
        return asked

    def sentences(self) -> list[str]:
        """Describe the decisions for a person."""
        if self.seconds is None:
            return []
        budget, sentences = format_duration(self.seconds), []
        if without := self.of("recipe", "grid")[-1]["without"]:
            sentences.append(f"Chosen to fit --budget {budget}, without {without}.")
        late = [f"{line['trial']} was ended after epoch {line['epoch']}" for line in self.of("stop")]
        late += [f"{line['trial']} was not begun" for line in self.of("leave_out")]
        late += [f"the final model was ended after epoch {line['epoch']}" for line in self.since_growth("final")]
        if self.ended:
            late.append("the search was ended before all of its trials had begun")
        if late:
            sentences.append(f"For lack of time within --budget {budget}: {', '.join(late)}.")
        return sentences


def _grid(asked: Recipe, chosen: Recipe) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in _GRID} | {"without": left_out(asked, chosen)}
