"""A study's trials in TensorBoard: a row of its HParams table each, and a curve of every overall metric."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from keras_tuner.engine.trial import Trial, TrialStatus
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from bertgrid_tf.budget.plan import FINAL
from bertgrid_tf.recipe import Recipe, Value
from bertgrid_tf.results import Results
from bertgrid_tf.score.metrics import OVERALL
from tuners.space import STAGE

FOLDER = "tensorboard"
_STATUS = {TrialStatus.COMPLETED: api_pb2.STATUS_SUCCESS, TrialStatus.FAILED: api_pb2.STATUS_FAILURE}


@dataclass(frozen=True)
class _Log:
    """What is shown of a run.

    Attributes:
        name: of its folder.
        stage: that asked for it.
        values: every parameter, the `epochs` of its schedule, and its `seed` where that is not the study's.
        epochs: the metrics after each.
        status: TensorBoard's; None while it runs.
        written: when its last epoch had been scored, in Unix seconds.
    """

    name: str
    stage: str
    values: Mapping[str, Value]
    epochs: Sequence[Mapping[str, float]]
    status: int | None
    written: float


def write_logs(results: Results) -> None:
    """Writes the logs of all trials so far, as `write_log` does, of the runs after the search, and of the final model
    (`tensorboard/final`)."""
    for file in sorted(results.folder.glob("trial_*/trial.json")):
        write_log(results, file.parent.name.removeprefix("trial_"))
    for run in results.again():
        values, written = {**run.values, "seed": run.seed}, (results.again_folder / f"{run.name}.json").stat().st_mtime
        status = api_pb2.STATUS_SUCCESS if run.epochs else api_pb2.STATUS_FAILURE
        _write(results, _Log(run.name, run.stage, values, run.epochs, status, written))
    if results.final_file.is_file():
        final, written = results.final(), results.final_file.stat().st_mtime
        values = {**final.settings, "epochs": final.horizon}
        _write(results, _Log(FINAL, FINAL, values, final.epochs, api_pb2.STATUS_SUCCESS, written))


def write_log(results: Results, trial_id: str) -> None:
    """Writes the log of one trial to `tensorboard/<trial_id>` in the results folder, in place of an earlier one.

    Its hyperparameters are stage, seed, model, learning rate, epochs (the horizon of the schedule) and whatever is
    swept. Its scalars, a step for each epoch, are the overall metrics on dev, the one that decides, `train_loss`, and
    the epoch's `seconds`.
    """
    file = results.folder / f"trial_{trial_id}" / "trial.json"
    trial = Trial.from_state(json.loads(file.read_text(encoding="utf-8")))
    values = trial.hyperparameters.values
    epochs: dict[int, dict[str, float]] = {}
    for name, history in trial.metrics.metrics.items():
        for seen in history.get_history():
            epochs.setdefault(seen.step, {})[name] = float(seen.mean())
    metrics = [epochs[epoch] for epoch in sorted(epochs)]
    _write(results, _Log(trial_id, values[STAGE], values, metrics, _STATUS.get(trial.status), file.stat().st_mtime))


def _write(results: Results, log: _Log) -> None:
    recipe, folder = results.recipe(), results.folder / FOLDER / log.name
    earlier = list(folder.glob("events.*"))
    writer = EventFileWriter(str(folder))
    # All epochs are written at once, but shown at the times when they ended.
    began = log.written - sum(epoch["seconds"] for epoch in log.epochs)
    ends = accumulate((epoch["seconds"] for epoch in log.epochs), initial=began)

    def add(summary: Summary, step: int, time: float) -> None:
        writer.add_event(Event(wall_time=time, step=step, summary=summary))

    # Lets a TensorBoard that shows the earlier log forget it.
    writer.add_event(Event(wall_time=began, session_log=SessionLog(status=SessionLog.START)))
    add(hparams_pb(_hyperparameters(recipe, log), trial_id=log.name, start_time_secs=began), 0, next(ends))
    for step, (metrics, end) in enumerate(zip(log.epochs, ends, strict=True), start=1):
        for name in dict.fromkeys([*OVERALL, recipe.metric, "train_loss", "seconds"]):
            add(scalar_pb(name, metrics[name]), step, end)
    if log.status is not None:
        # Made with TensorFlow's copy of the message, which TensorBoard's own writer does not take.
        ended = session_end_pb(log.status, log.written).SerializeToString()
        add(Summary.FromString(ended), 0, log.written)
    writer.close()
    for file in earlier:
        file.unlink()


def _hyperparameters(recipe: Recipe, log: _Log) -> dict[str, Value]:
    names = dict.fromkeys(["model", "learning_rate", "epochs", *recipe.sweeps])
    seed = log.values.get("seed", recipe.seed)
    return {"stage": log.stage, "seed": seed} | {name: log.values[name] for name in names}
