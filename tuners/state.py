"""Files of a study: `trial_*/trial.json` and `oracle.json`, written whole or not at all.

A trial's file holds its hyperparameters, metrics, status and the number of times that it has ended; it is written when
the trial starts, after every epoch and when the trial ends. `oracle.json` holds the description of the search, which a
resumed study must share, and KerasTuner's own state; it is written before the first trial and at the end of the search,
so that the cost of a trial does not grow with their number. Where the two differ, the trials' files are right.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_tuner.engine.trial import Trial, TrialStatus

from tuners.errors import TunerError
from tuners.files import delete, write_text
from tuners.space import STAGE, differences

ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)
_DESCRIPTION = "casual_grid"
_RUN_TIMES = "run_times"
_REMEDY = "restore it from a copy, or start over with overwrite=True"


def save_trial(path: Path, trial: Trial, run_times: int) -> None:
    """Write a trial, with the number of times that it has ended."""
    write_text(path, json.dumps({**trial.get_state(), _RUN_TIMES: run_times}))


def save_oracle(path: Path, state: Mapping[str, Any]) -> None:
    """Write the state of an oracle."""
    write_text(path, json.dumps(state))


def empty_folder(trial_file: Path) -> None:
    """Delete everything in a trial's folder but its `trial.json`."""
    for path in trial_file.parent.iterdir():
        if path != trial_file:
            delete(path)


def described(state: Mapping[str, Any], trials: Mapping[str, Trial], description: Mapping[str, Any]) -> dict[str, Any]:
    """Add the description of the search to KerasTuner's state of an oracle."""
    # KerasTuner saves an ended trial as ongoing still, and would run it twice.
    ongoing = {tuner: id_ for tuner, id_ in state["ongoing_trials"].items() if trials[id_].status not in ENDED}
    return {**state, "ongoing_trials": ongoing, _DESCRIPTION: description}


def load_study(path: Path, description: Mapping[str, Any]) -> tuple[dict[str, Trial], dict[str, Any]]:
    """Read a study.

    Args:
        path: The study's `oracle.json`.
        description: Description of the search that resumes it.

    Returns:
        The trials by id, in the order of their start, and KerasTuner's state of the oracle in agreement with them:
        unfinished trials are queued under their own ids.

    Raises:
        TunerError: A file is damaged or missing, or belongs to another search.
    """
    state = _read_json(path)
    if not isinstance(state, dict) or not isinstance(state.get(_DESCRIPTION), dict):
        raise TunerError(f"{path} is of another oracle: choose another project_name or overwrite=True")
    if differing := differences(state[_DESCRIPTION], description):
        raise TunerError(
            f"{path} belongs to a search with other settings, {'; '.join(differing)}: "
            "give the former settings, choose another project_name or overwrite=True"
        )
    try:
        trials, run_times = _load_trials(path.parent, state["start_order"])
        end = {trial_id: place for place, trial_id in enumerate(state["end_order"])}
        unfinished = [trial_id for trial_id, trial in trials.items() if trial.status not in ENDED]
        ended = [trial_id for trial_id, trial in trials.items() if trial.status in ENDED]
        # The process may have been killed after the trials' files were written and before this one.
        state |= {
            "ongoing_trials": {},
            "start_order": list(trials),
            "end_order": sorted(ended, key=lambda trial_id: end.get(trial_id, len(end))),
            "retry_queue": unfinished[::-1],  # KerasTuner takes from the end
            "run_times": run_times,
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise lacking(path, error) from error
    return trials, state


def lacking(path: Path, error: Exception) -> TunerError:
    """Return the error of an `oracle.json` without a part of KerasTuner's state."""
    return TunerError(f"{path} lacks a part of KerasTuner's state ({error}): {_REMEDY}")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TunerError(f"{path} cannot be read ({error}): {_REMEDY}") from error


def _load_trials(project: Path, started: Iterable[str]) -> tuple[dict[str, Trial], dict[str, int]]:
    trials, run_times = {}, {}
    for path in project.glob("trial_*/trial.json"):
        state = _read_json(path)
        try:
            trial = Trial.from_state(state)
            run_times[trial.trial_id] = int(state[_RUN_TIMES])
            whole = path.parent.name == f"trial_{trial.trial_id}" and STAGE in trial.hyperparameters.values
        except (AttributeError, KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise TunerError(f"{path} is not a trial of a casual grid search: {_REMEDY}")
        trials[trial.trial_id] = trial
    for trial_id in {*started, *(f"{number:04d}" for number in range(len(trials)))} - set(trials):
        raise TunerError(f"{project / f'trial_{trial_id}' / 'trial.json'} is missing: {_REMEDY}")
    return dict(sorted(trials.items(), key=lambda item: int(item[0]))), run_times
