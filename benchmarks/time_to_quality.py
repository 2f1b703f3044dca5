r"""Measure the time until a search has a model as good as the full grid's: KerasTuner, Optuna, bertgrid-tf.

    python -m benchmarks.time_to_quality run trec --data trec.csv --model DIR --max-train-samples 600 --epochs 6 \
        --learning-rates 8e-4,4e-4,2e-4,1e-4,5e-5,2.5e-5,1.25e-5 --set batch_size=16 --out FILE
    python -m benchmarks.time_to_quality compare --out FILE

Contenders, one after another, each in a process of its own, on the same texts and learning rates, all with AdamW,
clipping, and a fifth of warm-up before linear decay (a seed draws the texts too):

* `kerastuner-grid`: GridSearch, a trial per cell, with a schedule over its epochs;
* `kerastuner-hyperband`: Hyperband over the learning rates with a factor of 3; trials go on from their checkpoints;
* `optuna-hyperband`: TPE over the learning rates and HyperbandPruner over the epochs of Hugging Face's Trainer;
* `ours-grid`, `ours-surface`: whole studies with report and final model, which is the searched checkpoint. `surface`
  knows no table of the task, nor of one whose texts have the same source.

`pip install '.[benchmarks]'` installs the others. They get their texts tokenised before the clock starts: Keras with
texts padded to the longest of their split, without XLA, which compiles every trial anew, and its steps are no faster on
a CPU; Trainer with dynamic padding and grouped lengths. Both save a model whenever it is the best of its trial. All
train in one precision, fp32 unless there is `--set precision=bf16`, which is everyone's faster one on a CPU that has
AVX512_BF16 (docs/speed.md), and far slower on one without. The machine must be quiet: PyTorch's threads wait for each
other, and suffer most from others.

The clock starts with the process, imports included, and stands still while the test split is scored, which is done for
the benchmark alone, after every epoch of everyone. At any time a search's *pick* is the model with the best dev score
so far, of equal ones the first. The *reference* of a task is the mean test score of the picks with which the full grids
end (`kerastuner-grid` and `ours-grid`, all seeds): what filling every cell is worth to a user, who selects on dev. The
best cell on test would be an optimistic reference, as the largest of many noisy scores; nothing here is selected on
test. A pick is *tied* if it is at most one standard error of the reference, √(p(1 − p)/n) on the n test texts, behind
it. The time to quality is that of the first model from which on the pick stays tied until the end. The end is when a
user, who does not see the test split, has the model.

`run` appends to a CSV file (`--out`), a whole search at a time, and goes on where it was stopped. One file holds runs
with the same flags. Ratios to a search that is never tied are missing; the last lines are geometric means of the
others, over tasks and seeds.
"""

import argparse
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from benchmarks import command
from benchmarks.contenders.process import Contender
from benchmarks.grid import Searched, search
from benchmarks.layout import our_request, scored_corpus, their_request
from benchmarks.suggest import ONE_SOURCE
from bertgrid_tf.bank.studies import read_studies
from bertgrid_tf.corpus import Corpus, utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import AUTO
from bertgrid_tf.storage.files import write_text

BASELINE = "kerastuner-grid"
PEERS = {
    BASELINE: ("keras_tuner_search", "tensorflow", "per-cell"),
    "kerastuner-hyperband": ("keras_tuner_search", "tensorflow", "hyperband"),
    "optuna-hyperband": ("optuna_search", "torch", "hyperband"),
}
"""Module, framework and kind of search of the other libraries' contenders."""
OURS = {"ours-grid": "grid", "ours-surface": "surface"}
FULL_GRIDS = (BASELINE, "ours-grid")
SEARCH = ["task", "seed", "contender"]
COLUMNS = [*SEARCH, "ends", "test_texts", "trial", "learning_rate", "seconds", "dev", "test"]
RATIOS = [(time, other) for other in (BASELINE, "best peer") for time in ("tied", "ends")]


def same_source(task: str) -> list[str]:
    """List the tasks of the bank whose texts are the task's or have the same source."""
    tasks = {study.card.task for study in read_studies()}
    return sorted(one for one in tasks if ONE_SOURCE.get(one, one) == ONE_SOURCE.get(task, task))


def contender(name: str, flags: argparse.Namespace, seed: int, folder: Path) -> tuple[Contender, Corpus]:
    """Return a contender with its corpus; the texts that another library needs are written into the folder.

    Raises:
        UserError: The task has no test split, or the precision is `auto`.
    """
    final = {"final.model": flags.model}
    recipe = command.task(flags, seed=seed, search=OURS.get(name, "grid"), **final)
    if recipe.hyperparameters.precision == AUTO:
        raise UserError("precision=auto is bertgrid-tf's alone: give --set precision=fp32, bf16 or fp16.")
    corpus = scored_corpus(flags, recipe)
    if name in OURS:
        dev = len(list(utterances(corpus.splits["dev"])))
        ours = {"record": "epochs", "dev_utterances": dev, "test": True, "left_out": same_source(flags.corpus)}
        return Contender(name, "ours_study", "tensorflow", our_request(flags, recipe, folder) | ours), corpus
    module, framework, kind = PEERS[name]
    theirs = their_request(recipe, corpus, folder, ("train", "dev", "test"), longest=True)
    theirs |= {"search": kind, "learning_rates": flags.learning_rates, "epochs": flags.epochs, "seed": seed}
    theirs |= {"precision": recipe.hyperparameters.precision, "padding": "stock-grouped"}
    return Contender(name, module, framework, theirs), corpus


def scored_models(searched: Searched) -> list[dict[str, Any]]:
    """Return a row for every scored model of a search, with the end of the search by its own clock."""
    return [
        {
            "contender": searched.name,
            "ends": searched.trials[-1].ended,
            "trial": number,
            "learning_rate": trial.learning_rate,
            "seconds": seconds,
            "dev": dev,
            "test": test,
        }
        for number, trial in enumerate(searched.trials, start=1)
        for seconds, dev, test in zip(trial.scored, trial.accuracy, trial.test, strict=True)
    ]


def run(flags: argparse.Namespace) -> None:
    """Run the searches that the file does not have."""
    names = flags.contender or [*PEERS, *OURS]
    if any(name in PEERS and PEERS[name][1] == "torch" for name in names):
        command.require("torch", "accelerate", "optuna")
    for seed, name in product(flags.seeds, names):
        have = read(flags.out)
        if (flags.corpus, seed, name) in have[SEARCH].itertuples(index=False, name=None):
            continue
        with tempfile.TemporaryDirectory() as folder:
            one, corpus = contender(name, flags, seed, Path(folder))
            models = pd.DataFrame(scored_models(search(one, Path(folder))))
        models = models.assign(task=flags.corpus, seed=seed, test_texts=len(list(utterances(corpus.splits["test"]))))
        text = pd.concat([have, models[COLUMNS]]).to_csv(index=False, float_format="%.6g")
        write_text(flags.out, text)
        print(
            f"{flags.corpus}  seed {seed}  {name}: {len(models)} epochs, {models['ends'].iloc[0]:.1f} s, "
            f"best on dev {100 * models['dev'].max():.2f} %",
            flush=True,
        )


def read(file: Path) -> pd.DataFrame:
    """Read the scored models so far."""
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)


def picks(models: pd.DataFrame) -> pd.Series:
    """Return the pick's test score after each model of one search, indexed by the seconds; NaN before there is one."""
    ordered = models.sort_values("seconds").set_index("seconds")
    dev = ordered["dev"].fillna(-np.inf)  # of one that diverged
    return ordered["test"].where(dev > dev.cummax().shift(fill_value=-np.inf)).ffill()


def tied_after(picked: pd.Series, lowest: float) -> float:
    """Return the seconds from which on the pick's test score is `lowest` or higher to the end; NaN for never."""
    behind = np.flatnonzero(~(picked >= lowest))
    first = behind[-1] + 1 if len(behind) else 0
    return float(picked.index[first]) if first < len(picked) else np.nan


def reference(models: pd.DataFrame) -> tuple[float, float]:
    """Return the reference of one task with its standard error, from the scored models of all its searches.

    Raises:
        UserError: A full grid is missing.
    """
    task, grids = models["task"].iloc[0], models[models["contender"].isin(FULL_GRIDS)]
    if missing := set(FULL_GRIDS) - set(grids["contender"]):
        raise UserError(f"The full grids of {task} are the reference: run --contender {min(missing)} too.")
    mean = float(np.mean([picks(one).iloc[-1] for _, one in grids.groupby(SEARCH)]))
    return mean, float(np.sqrt(mean * (1 - mean) / models["test_texts"].iloc[0]))


def compare(models: pd.DataFrame) -> pd.DataFrame:
    """Compare the searches.

    Returns:
        A line a search: epochs trained, the seconds after which it is "tied" (NaN for never) and "ends", the test score
        of its last pick; and how many times sooner than the baseline and the best peer it is either, a column for each
        of `RATIOS`.
    """
    lines = []
    for _, of_task in models.groupby("task", sort=False):
        mean, error = reference(of_task)
        for key, one in of_task.groupby(SEARCH, sort=False):
            picked = picks(one)
            line = {**dict(zip(SEARCH, key, strict=True)), "epochs": len(one), "pick": picked.iloc[-1]}
            lines.append(line | {"tied": tied_after(picked, mean - error), "ends": one["ends"].iloc[0]})
    table = pd.DataFrame(lines).set_index(["task", "seed"])
    for time, other in RATIOS:
        theirs = table[table["contender"].isin([BASELINE] if other == BASELINE else PEERS)]
        table[time, other] = theirs.groupby(level=["task", "seed"])[time].min().reindex(table.index) / table[time]
    return table.reset_index()


def show(console: Console, models: pd.DataFrame) -> None:
    """Print the comparison."""
    compared = compare(models)
    columns = ("tied after", "ends after", "epochs", "pick on test", *(f"{time} × {other}" for time, other in RATIOS))
    table = Table("task", "seed", "contender", *(Column(name, justify="right") for name in columns))
    for one in compared.to_dict("records"):
        tied = "never" if np.isnan(one["tied"]) else f"{one['tied']:.1f} s"
        measured = (f"{one['ends']:.1f} s", str(one["epochs"]), f"{100 * one['pick']:.2f} %")
        table.add_row(one["task"], str(one["seed"]), one["contender"], tied, *measured, *_times(one))
    table.add_section()
    for name, own in compared.groupby("contender", sort=False):
        table.add_row("mean", "", str(name), "", "", "", "", *_times(np.exp(np.log(own[RATIOS]).mean())))
    console.print(table)
    for task, of_task in models.groupby("task", sort=False):
        mean, error = reference(of_task)
        console.print(
            f"{task}: the reference is {100 * mean:.2f} %, a pick is tied from {100 * (mean - error):.2f} % on."
        )


def _times(ratios: Any) -> list[str]:
    return ["–" if np.isnan(ratios[name]) else f"{ratios[name]:.1f}" for name in RATIOS]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; run, or compare and print."""
    top, running = command.task_parsers("time_to_quality", __doc__, "run", None, "file of the scored models")
    running.add_argument("--contender", action="append", choices=[*PEERS, *OURS], help="repeatable; default all")
    running.add_argument("--seeds", type=command.whole_numbers, default=[1], help="a search each; default 1")
    flags = top.parse_args(arguments)
    console = Console(width=180)
    if flags.command == "run":
        run(flags)
        command.print_system(console)
        return
    models = read(flags.out)
    if models.empty:
        raise UserError(f"{flags.out} holds no search: run one first.")
    show(console, models)


if __name__ == "__main__":
    command.run(main)
