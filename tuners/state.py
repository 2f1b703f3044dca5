"""Files of a study: `trial_*/trial.json` and `oracle.json`, written whole or not at all.

A trial's file holds its hyperparameters, metrics, status and the number of times that it has ended; it is written when
the trial starts, after every epoch and when the trial ends. `trial_*/hyperparameters.json` holds the hyperparameters
alone, so that a trial whose file is damaged is trained again under its own id. `oracle.json` holds the description of
the search, which a resumed study must share, and KerasTuner's own state; it is written before the first trial and at
the end of the search, so that the cost of a trial does not grow with their number. Where the two differ, the trials'
files are right.
"""

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from tuners.errors import DamagedError, TunerError
from tuners.files import delete, parse_json, read_limited, reading, write_text
from tuners.space import SearchSpace, Value, differences

ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)
DESCRIPTION = "casual_grid"
"""Key of the description of the search in the state of an oracle."""
_RUN_TIMES = "run_times"
_REMEDY = "restore it from a copy, or start over with overwrite=True"

_log = logging.getLogger(__name__)


def start_trial(path: Path, trial: Trial) -> None:
    """Write a trial that starts; nothing of an unreadable trial stays in its folder."""
    if path.parent.is_dir():
        empty_folder(path)
    write_text(_hyperparameters_file(path), json.dumps(trial.hyperparameters.values))
    save_trial(path, trial, 0)


def save_trial(path: Path, trial: Trial, run_times: int) -> None:
    """Write a trial, with the number of times that it has ended."""
    write_text(path, json.dumps({**trial.get_state(), _RUN_TIMES: run_times}))


def save_oracle(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of an oracle."""
    write_text(path, json.dumps(state))


def described(state: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, Any]:
    """Add the description of the search to KerasTuner's state of an oracle."""
    return {**state, DESCRIPTION: description}


def empty_folder(trial_file: Path) -> None:
    """Delete everything in a trial's folder but its `trial.json`."""
    for path in trial_file.parent.iterdir():
        if path != trial_file:
            delete(path)


def lengthen_trial(trial: Trial, epochs: int) -> None:
    """Let a trial go on to further epochs of a schedule without a horizon; a failed one stays failed."""
    schedule = {"schedule_epochs": epochs, "stop_epoch": epochs}
    trial.hyperparameters.values = {**trial.hyperparameters.values, **schedule}
    if trial.status == TrialStatus.COMPLETED:
        trial.status, trial.score, trial.best_step = TrialStatus.RUNNING, None, 0


def save_lengthened(path: Path, trial: Trial) -> None:
    """Write a trial that was lengthened."""
    # A trial without the file of its hyperparameters started with those of its other file, the former or the new ones.
    delete(_hyperparameters_file(path))
    save_trial(path, trial, 0)
    write_text(_hyperparameters_file(path), json.dumps(trial.hyperparameters.values))


def load_study(
    path: Path, description: Mapping[str, Any], space: SearchSpace, objective: keras_tuner.Objective
) -> tuple[dict[str, Trial], dict[str, Any]]:
    """Read a study.

    A trial whose file is damaged is trained again, which a warning says: from its last saved epoch where its
    `hyperparameters.json` is whole, else from the first, when its configuration is proposed again.

    Args:
        path: The study's `oracle.json`.
        description: Description of the search that resumes or extends it.
        space: The search space in which every trial must lie.
        objective: The objective with which every completed trial must be scored.

    Returns:
        The trials by id, in the order of their start, and KerasTuner's state of the oracle in agreement with them:
        unfinished trials are queued under their own ids.

    Raises:
        TunerError: `oracle.json` is damaged, a file is missing, or the study belongs to another search.
    """
    with reading(path, _REMEDY) as file:
        state = parse_json(read_limited(file))
    if not isinstance(state, dict) or not isinstance(state.get(DESCRIPTION), dict):
        raise TunerError(f"{path} is of another oracle: choose another project_name or overwrite=True")
    with described_damage(path):
        differing = differences(state[DESCRIPTION], description)
    if differing:
        raise TunerError(
            f"{path} belongs to a search with other settings, {'; '.join(differing)}: "
            "give the former settings, or more learning rates, epochs or levels than they have, choose another "
            "project_name or overwrite=True"
        )
    with described_damage(path):
        started, end_order = (_texts(state[name]) for name in ("start_order", "end_order"))
        if not isinstance(state["seed"], int):
            raise TypeError("the seed is no number")
    trials, run_times = _load_trials(path.parent, started, space, objective)
    end = {trial_id: place for place, trial_id in enumerate(end_order)}
    ended = [trial_id for trial_id, trial in trials.items() if trial.status in ENDED]
    # The process may have been killed after the trials' files were written and before this one.
    state |= {
        "ongoing_trials": {},
        "start_order": list(trials),
        "end_order": sorted(ended, key=lambda trial_id: end.get(trial_id, len(end))),
        # KerasTuner takes from the end
        "retry_queue": [trial_id for trial_id, trial in trials.items() if trial.status not in ENDED][::-1],
        "run_times": run_times,
    }
    return trials, state


@contextmanager
def described_damage(path: Path) -> Iterator[None]:
    """Take whatever the block raises for a part of KerasTuner's state that `oracle.json` lacks."""
    try:
        yield
    except Exception as error:
        raise DamagedError(f"{path} lacks a part of KerasTuner's state ({error}): {_REMEDY}") from error


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{str(values)[:50]} is no list of texts")
    return values


def _load_trials(
    project: Path, started: Iterable[str], space: SearchSpace, objective: keras_tuner.Objective
) -> tuple[dict[str, Trial], dict[str, int]]:
    trials, run_times, damaged = {}, {}, set[str]()
    for path in project.glob("trial_*/trial.json"):
        trial_id = path.parent.name.removeprefix("trial_")
        try:
            trials[trial_id], run_times[trial_id] = _load_trial(path, trial_id, space, objective)
        except DamagedError as error:
            if not trial_id.isdecimal():
                raise TunerError(f"{path} is not a trial of a casual grid search: move it away") from error
            _log.warning("%s.", error)
            try:
                values = _load_values(_hyperparameters_file(path), space)
            except TunerError:
                damaged.add(trial_id)
            else:
                trials[trial_id], run_times[trial_id] = Trial(_hyperparameters(values), trial_id), 0
    for trial_id in {*started, *(f"{number:04d}" for number in range(len(trials)))} - set(trials) - damaged:
        raise TunerError(f"{project / f'trial_{trial_id}' / 'trial.json'} is missing: {_REMEDY}")
    return dict(sorted(trials.items(), key=lambda item: int(item[0]))), run_times


def _load_trial(path: Path, trial_id: str, space: SearchSpace, objective: keras_tuner.Objective) -> tuple[Trial, int]:
    """Read a trial and the number of times that it has ended; errors as for `reading`."""
    with reading(path, "the trial is trained again") as file:
        state = parse_json(read_limited(file))
        trial, run_times = Trial.from_state(state), state[_RUN_TIMES]
        known = (TrialStatus.RUNNING, TrialStatus.INVALID, *ENDED)
        if trial.trial_id != trial_id or trial.status not in known or not isinstance(run_times, int):
            raise ValueError("it is not a trial of a casual grid search under its own id")
        values = trial.hyperparameters.values
        space.check(values)
        if json.dumps(started := _started_with(path, space, values)) != json.dumps(values):
            raise ValueError(f"its hyperparameters are not {started}, with which it started")
        for name, history in trial.metrics.metrics.items():
            steps = [seen.step for seen in history.get_history()]
            if steps != list(range(1, len(steps) + 1)) or len(steps) > values["stop_epoch"]:
                raise ValueError(f"the metric {name} has the epochs {str(steps)[:50]}")
            if not all(isinstance(one, int | float) for seen in history.get_history() for one in seen.value):
                raise ValueError(f"the metric {name} holds no numbers")
        scored = trial.metrics.metrics.get(objective.name)
        scores = {seen.step: float(seen.mean()) for seen in scored.get_history()} if scored else {}
        if trial.status == TrialStatus.COMPLETED and scores.get(trial.best_step, math.nan) != trial.score:
            raise ValueError(f"its score is not that of its epoch {trial.best_step}")
    return trial, run_times


def _started_with(path: Path, space: SearchSpace, values: dict[str, Value]) -> dict[str, Value]:
    """Read the hyperparameters that a trial started with; where that is impossible, write those of the trial's file."""
    file = _hyperparameters_file(path)
    try:
        if file.exists():
            return _load_values(file, space)
    except DamagedError as error:
        _log.warning("%s: it is made anew.", str(error).partition(": the trial")[0])
    write_text(file, json.dumps(values))
    return values


def _load_values(path: Path, space: SearchSpace) -> dict[str, Value]:
    with reading(path, "the trial is trained again from its first epoch") as file:
        values: dict[str, Value] = parse_json(read_limited(file))
        space.check(values)
    return values


def _hyperparameters(values: dict[str, Value]) -> keras_tuner.HyperParameters:
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.values = values
    return hyperparameters


def _hyperparameters_file(trial_file: Path) -> Path:
    return trial_file.with_name("hyperparameters.json")
