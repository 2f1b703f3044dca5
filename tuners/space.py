"""The search space, and the trials that it takes.

Source: Park, Chang, Kwon and Lee, "Casual Grid Search Method for Time-efficient Bert Tuning": parameters that
are independent of the learning rate are varied one at a time and fixed at their best level (the sum of the
levels instead of their product); learning rate and number of epochs are coupled and get the full grid.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from tuners.errors import TunerError

Value = bool | int | float | str
GridSchedule = Literal["shared", "per-cell"]

MOST_EPOCHS = 1_000_000
"""The most epochs of a trial."""

COUPLED = ("learning_rate", "schedule_epochs", "stop_epoch")
"""Parameters of a configuration that belong to the grid: learning rate, horizon of the schedule, epochs to train."""

ADOPTED = "adopted"
"""Key of a description for the level of each sweep that stays adopted whatever levels are added to it."""

_RATES, _START, _SWEEPS, _ORDER = "learning_rates", "start.", "sweeps.", "order of the sweeps"

STAGE = "tuner/stage"
"""Key of a trial's values for its stage: `sweep:<parameter>` or `grid`."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a search, a sweep or the grid, with the configurations that no earlier stage has."""

    name: str
    configurations: tuple[Mapping[str, Value], ...]

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.configurations)

    @property
    def epochs(self) -> int:
        """Number of epochs to train."""
        return sum(int(configuration["stop_epoch"]) for configuration in self.configurations)


class Plan(NamedTuple):
    """Cost of a search in which no trial fails, and of the full product of all levels."""

    stages: list[Stage]
    full_product_epochs: int

    @property
    def trials(self) -> int:
        """Number of trials of all stages."""
        return sum(stage.trials for stage in self.stages)

    @property
    def epochs(self) -> int:
        """Number of epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)


@dataclass(frozen=True)
class SearchSpace:
    """A validated search space, made by `SearchSpace.of`.

    Example:
        >>> from tuners import SearchSpace
        >>> space = SearchSpace.of([2e-5, 6e-6], epochs=4, sweeps={"batch_size": [16, 32]})
        >>> plan = space.plan()
        >>> plan.trials, plan.epochs, plan.full_product_epochs
        (4, 10, 16)

    Attributes:
        learning_rates: Rows of the grid.
        epochs: Columns of the grid.
        sweeps: Levels of every swept parameter, in the order of the sweeps.
        start: Value of every parameter, `learning_rate` among them, at the beginning.
        sweep_epochs: Epochs of a trial in a sweep.
        grid_schedule: As for `CasualGridOracle`.
    """

    learning_rates: tuple[float, ...]
    epochs: int
    sweeps: Mapping[str, tuple[Value, ...]]
    start: Mapping[str, Value]
    sweep_epochs: int
    grid_schedule: GridSchedule

    @classmethod
    def of(
        cls,
        learning_rates: Iterable[float],
        epochs: int,
        sweeps: Mapping[str, Sequence[Value]] | None = None,
        start: Mapping[str, Value] | None = None,
        sweep_epochs: int = 1,
        grid_schedule: GridSchedule = "shared",
    ) -> "SearchSpace":
        """Validate and complete a search space.

        Parameters that `start` does not name start at their first level. The levels of a parameter have one type; whole
        and decimal numbers together are all taken as decimal.

        Raises:
            TunerError: A part cannot be searched.
        """
        rates = tuple(_learning_rate(rate) for rate in learning_rates)
        _no_twins("learning_rates", rates)
        if grid_schedule not in get_args(GridSchedule):
            known = ", ".join(map(repr, get_args(GridSchedule)))
            raise TunerError(f"grid_schedule is one of {known}, not {grid_schedule!r}")
        levels = {name: tuple(_plain(name, level) for level in given) for name, given in (sweeps or {}).items()}
        values = {name: _plain(name, value) for name, value in (start or {}).items()}
        for name in (*levels, *values):
            if not isinstance(name, str) or name.startswith("tuner/"):
                raise TunerError(
                    f"{name!r} cannot be the name of a parameter: choose a text that is not under `tuner/`"
                )
        for name in levels:
            if name in (*COUPLED, "epochs"):
                raise TunerError(
                    f"{name} belongs to the learning-rate × epoch grid and cannot be swept: drop its sweep"
                )
            _no_twins(f"the sweep of {name}", levels[name])
            values.setdefault(name, levels[name][0])
            *alike, values[name] = _of_one_type(name, (*levels[name], values[name]))
            levels[name] = tuple(alike)
        for name in ("epochs", "schedule_epochs", "stop_epoch"):
            if name in values:
                raise TunerError(f"start must not name {name}: the sweeps train sweep_epochs, the grid epochs")
        values["learning_rate"] = _learning_rate(values.get("learning_rate", rates[0]))
        columns, sweep_epochs = _epochs("epochs", epochs), _epochs("sweep_epochs", sweep_epochs)
        return cls(rates, columns, levels, values, sweep_epochs, grid_schedule)

    def sweep_trials(self, parameter: str, incumbent: Mapping[str, Value]) -> list[dict[str, Value]]:
        """List the configuration of every level of a sweep, everything else held at the incumbent."""
        schedule = {"schedule_epochs": self.sweep_epochs, "stop_epoch": self.sweep_epochs}
        return [{**incumbent, parameter: level, **schedule} for level in self.sweeps[parameter]]

    def grid_trials(self, incumbent: Mapping[str, Value]) -> list[dict[str, Value]]:
        """List the configuration of every trial of the grid, row by row."""
        horizons = [self.epochs] if self.grid_schedule == "shared" else range(1, self.epochs + 1)
        return [
            {**incumbent, "learning_rate": rate, "schedule_epochs": horizon, "stop_epoch": horizon}
            for rate in self.learning_rates
            for horizon in horizons
        ]

    def is_decided(self, parameter: str) -> bool:
        """Return whether a sweep has a single level, which is adopted without a trial."""
        return len(self.sweeps[parameter]) == 1

    def plan(self) -> Plan:
        """Plan the stages if no trial fails; a trial that two stages share counts in the first."""
        stages = []
        known: set[str] = set()
        incumbent = dict(self.start)

        def add(name: str, trials: list[dict[str, Value]]) -> None:
            new = [trial for trial in trials if key(trial) not in known]
            known.update(map(key, new))
            stages.append(Stage(name, tuple(new)))

        for parameter, levels in self.sweeps.items():
            add(f"sweep:{parameter}", [] if self.is_decided(parameter) else self.sweep_trials(parameter, incumbent))
            # The winner does not change the cost, since later stages reuse its trial.
            if incumbent[parameter] not in levels:
                incumbent[parameter] = levels[0]
        grid = self.grid_trials(incumbent)
        add("grid", grid)
        product = math.prod(map(len, self.sweeps.values()))
        return Plan(stages, product * sum(int(trial["stop_epoch"]) for trial in grid))

    def check(self, values: Mapping[str, Value]) -> None:
        """Check that values, with their stage, are those of a trial of this space.

        Raises:
            ValueError: They are not; the message names the first that is not.

        Example:
            >>> space = SearchSpace.of([2e-5, 6e-6], epochs=4)
            >>> space.check({"learning_rate": 2e-5, "schedule_epochs": 4, "stop_epoch": 5, "tuner/stage": "grid"})
            Traceback (most recent call last):
            ...
            ValueError: the value 5 of stop_epoch is not in the search space
        """
        if not isinstance(values, Mapping) or set(values) != {*self.start, *COUPLED, STAGE}:
            raise ValueError("its parameters are not those of the search space")
        horizons = range(1, max(self.epochs, self.sweep_epochs) + 1)
        known: dict[str, Iterable[Value]] = {
            name: (value, *self.sweeps.get(name, ())) for name, value in self.start.items()
        }
        known |= {"schedule_epochs": horizons, STAGE: ("grid", *(f"sweep:{name}" for name in self.sweeps))}
        horizon, rate = values["schedule_epochs"], values["learning_rate"]
        known["stop_epoch"] = range(1, horizon + 1) if isinstance(horizon, int) else ()
        # A strategy may propose rates between those of the grid.
        known["learning_rate"] = (rate,) if isinstance(rate, float) and 0 < rate < math.inf else ()
        for name, levels in known.items():
            # As JSON, which tells true and 1.0 from 1.
            if json.dumps(values[name]) not in map(json.dumps, levels):
                raise ValueError(f"the value {str(values[name])[:50]} of {name} is not in the search space")

    def describe(self) -> dict[str, Any]:
        """Describe the space in JSON's types, one key for each value; the order of the sweeps counts."""
        description = {
            _RATES: self.learning_rates,
            "epochs": self.epochs,
            "sweep_epochs": self.sweep_epochs,
            "grid_schedule": self.grid_schedule,
            **{f"{_START}{name}": value for name, value in self.start.items()},
            **{f"{_SWEEPS}{name}": levels for name, levels in self.sweeps.items()},
            _ORDER: list(self.sweeps),
        }
        return json.loads(json.dumps(description))

    @classmethod
    def described(cls, description: Mapping[str, Any]) -> "SearchSpace":
        """Return the space that a description, perhaps with further keys, is of.

        Example:
            >>> space = SearchSpace.of([2e-5, 6e-6], epochs=4, sweeps={"batch_size": [16, 32]})
            >>> SearchSpace.described(space.describe()) == space
            True
        """
        sweeps = {name: description[f"{_SWEEPS}{name}"] for name in description[_ORDER]}
        start = {key.removeprefix(_START): value for key, value in description.items() if key.startswith(_START)}
        schedule = (description["sweep_epochs"], description["grid_schedule"])
        return cls.of(description[_RATES], description["epochs"], sweeps, start, *schedule)

    def in_order_of(self, other: "SearchSpace") -> "SearchSpace":
        """Copy the space with another's order of the learning rates and of each sweep's levels, where these are equal.

        Example:
            >>> SearchSpace.of([1e-5, 2e-5], 4).in_order_of(SearchSpace.of([2e-5, 1e-5], 4)).learning_rates
            (2e-05, 1e-05)
        """
        sweeps = {name: tuple(former_order(other.sweeps.get(name, ()), levels)) for name, levels in self.sweeps.items()}
        rates = tuple(map(float, former_order(other.learning_rates, self.learning_rates)))
        return replace(self, learning_rates=rates, sweeps=sweeps)


def key(configuration: Mapping[str, Value]) -> str:
    """Return the identity of a configuration: every value with its type, without the stage."""
    return json.dumps({name: configuration[name] for name in configuration if name != STAGE}, sort_keys=True)


def former_order(former: Sequence[Value], given: Sequence[Value]) -> Sequence[Value]:
    """Return the former values where the given ones are the same in another order, else the given ones."""
    return former if sorted(map(json.dumps, former)) == sorted(map(json.dumps, given)) else given


def differences(saved: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """List the keys in which a given description is not the saved one or an extension of it, each with both values.

    A description extends another if it has all of its learning rates, epochs, sweeps and levels, and perhaps more: a
    new sweep has to have the start's value among its levels, and sweeps keep their order.

    Example:
        >>> saved = SearchSpace.of([2e-5, 1e-5], epochs=4).describe()
        >>> differences(saved, SearchSpace.of([2e-5, 1e-5, 5e-6], epochs=6).describe())
        []
        >>> differences(saved, SearchSpace.of([2e-5], epochs=4).describe())
        ['learning_rates ([2e-05, 1e-05] there, [2e-05] here)']
    """

    def shown(description: Mapping[str, Any], name: str) -> str:
        return json.dumps(description[name], ensure_ascii=False) if name in description else "absent"

    def extended(name: str) -> bool:
        there, here = saved.get(name), given.get(name)
        if name == "epochs" and here is not None:
            return bool(there <= here)
        if name.startswith(_SWEEPS) and there is None:
            there = [saved.get(f"{_START}{name.removeprefix(_SWEEPS)}")]
        if not isinstance(there, list) or not isinstance(here, list):
            return shown(saved, name) == shown(given, name)
        if name == _ORDER:
            return [sweep for sweep in here if sweep in there] == there
        known = name == _RATES or name.startswith(_SWEEPS)
        return set(map(json.dumps, there)) <= set(map(json.dumps, here)) if known else there == here

    differing = [name for name in dict.fromkeys([*saved, *given]) if name != ADOPTED and not extended(name)]
    # Sweeps that only one of them has differ in their order, too.
    names = [name for name in differing if name != _ORDER] or differing
    return [f"{name} ({shown(saved, name)} there, {shown(given, name)} here)" for name in names]


def _plain(name: str, value: Any) -> Value:
    # NumPy's scalars are welcome, but neither JSON nor KerasTuner's wire format takes them.
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, bool | int | float | str):
        raise TunerError(f"{name}: {value!r} is not a bool, int, float or str; give one of these as the level")
    if isinstance(value, float) and not math.isfinite(value):
        raise TunerError(f"{name}: {value!r} is not a finite number")
    return value


def _of_one_type(name: str, values: tuple[Value, ...]) -> tuple[Value, ...]:
    types = {type(value) for value in values}
    if types == {int, float}:
        return tuple(float(value) for value in values)
    if len(types) > 1:
        raise TunerError(
            f"{name}: the levels and the start value must be of one type, not {', '.join(map(repr, values))}"
        )
    return values


def _no_twins(what: str, levels: tuple[Value, ...]) -> None:
    if not levels:
        raise TunerError(f"{what} must name at least one level")
    if len({(isinstance(level, bool), level) for level in levels}) < len(levels):
        raise TunerError(f"{what} names a level twice: {', '.join(map(repr, levels))}")


def _learning_rate(value: Any) -> float:
    plain = _plain("learning_rate", value)
    if isinstance(plain, bool | str) or plain <= 0:
        raise TunerError(f"a learning rate must be a positive number, not {plain!r}")
    return float(plain)


def _epochs(name: str, value: Any) -> int:
    plain = _plain(name, value)
    if isinstance(plain, bool | str) or plain != int(plain) or not 1 <= plain <= MOST_EPOCHS:
        raise TunerError(f"{name} must be a whole number from 1 to {MOST_EPOCHS:,}, not {str(plain)[:50]}")
    return int(plain)
