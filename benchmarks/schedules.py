r"""Compare learning-rate schedules for the cells of a learning-rate × epoch grid.

    python -m benchmarks.schedules train friends --model DIR --learning-rates 2e-4,1e-4,5e-5 --epochs 4 --seeds 1,2,3
    python -m benchmarks.schedules train trec --data trec.csv --model DIR … (columns text, label, split)
    python -m benchmarks.schedules compare

A cell of learning rate r and epoch e should be worth what a run of r over a schedule of e epochs is worth ("per-cell").
The other schedules fill a row of cells for about the price of one run:

    shared          one schedule over all epochs, scored after each of them
    averaged        shared, scored with the mean of the weights in the last half of each epoch (LAWA; Kaddour 2022,
                    arXiv 2209.14981)
    branch F        the last F of an epoch of the shared row trained once more, the rate falling linearly to 0 from
                    where the row is (Hägele et al. 2024, arXiv 2405.18392)
    rsqrt, inverse  a row that needs no horizon, its rate falling like 1/√t (`lr_schedule: inverse_sqrt`) or 1/t after
                    0.4 epochs of warm-up, with a branch of the last 0.3 of each epoch
    own first       shared, but for the first epoch, which has a schedule of its own; with branches of 0.6 later

`train` appends to a CSV file (`--out`), a row of cells at a time, and goes on where it was stopped. `compare` reads all
of them. Dev selects, the test split scores.
"""

import argparse
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from rich.console import Console
from rich.table import Column, Table
from scipy.stats import spearmanr, t

from benchmarks import command
from benchmarks.layout import limit_splits, scored_corpus
from bertgrid_tf.bert.encode import EncodedDataset, joined
from bertgrid_tf.bert.optimizer import StepUpdate, cooldown_rates, learning_rates
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.hyperparameters import COOLDOWN, Hyperparameters
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.training.encoding import CorpusEncoder
from bertgrid_tf.training.model_cache import ModelCache
from bertgrid_tf.trial_config import TrialConfig

OUT = Path(__file__).parent / "schedules.csv"
PER_CELL, SHARED, OWN_FIRST = "per-cell", "shared", "own first"
BRANCHES = (0.3, 0.6)
WARMUP = 0.4
"""Epochs of warm-up of a row without a horizon."""
LARGEST_DEV, LARGEST_TEST = 400, 1000
CELL = ["corpus", "seed", "learning_rate", "epoch"]

Cells = Iterator[tuple[str, int, np.ndarray]]


class StepwiseRun:
    """A training run whose learning rate is chosen step by step.

    Args:
        trainer: The model.
        train: The training texts.
        hyperparameters: Those of the run; its learning rate and schedule do not count.
        seed: Seed of the run.
    """

    def __init__(self, trainer: Trainer, train: EncodedDataset, hyperparameters: Hyperparameters, seed: int) -> None:
        self._trainer, self._train = trainer, train
        self._config = TrialConfig(hyperparameters, 1, 1, seed)  # the schedule is the caller's
        self._rows = trainer.used_rows(train)
        self.steps = -(-len(train.texts) // int(hyperparameters.batch_size))
        """Steps of an epoch."""

    def reset(self) -> None:
        """Begin anew."""
        self._trainer._reset(self._config)

    def train(self, first: int, rates: np.ndarray) -> None:
        """Train the steps from `first` on, counted from 0 over all epochs, one for each of `rates`."""
        trainer, values = self._trainer, self._config.hyperparameters
        gamma, decay = tf.constant(values.focal_gamma), tf.constant(values.weight_decay)
        clip, layer_decay = tf.constant(values.max_grad_norm), tf.constant(values.layer_decay)
        step, end = first, first + len(rates)
        while step < end:
            epoch, begin = divmod(step, self.steps)
            count = min(self.steps - begin, end - step)
            for batch in trainer._batches(self._train, self._config, epoch + 1, count, begin):
                rate = tf.constant(rates[step - first])
                update = StepUpdate(tf.constant(step), rate, decay, clip, self._rows, layer_decay)
                trainer._start_step(batch, gamma, update)
                step += 1
        trainer._optimizer.decay_others(self._rows, rates, values.weight_decay, values.layer_decay)

    def state(self) -> list[np.ndarray]:
        """Copy weights and optimizer."""
        return [variable.numpy() for variable in self._trainer._state()]

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Go back to a `state`, or to weights alone, which come first in it."""
        for variable, value in zip(self._trainer._state(), state, strict=False):
            variable.assign(value)

    def weights(self) -> list[np.ndarray]:
        """Copy the weights."""
        return [variable.numpy() for variable in self._trainer.checkpoint.model.variables]


def decaying(peak: float, steps: int, warmup_ratio: float) -> np.ndarray:
    """Return the rates of a schedule that ends after `steps`, float32 [steps]."""
    return learning_rates(peak, steps, round(warmup_ratio * steps), "linear")


def endless(peak: float, steps: int, warmup: int, power: float) -> np.ndarray:
    """Return the first rates of a schedule that never ends, float32 [steps]: linear warm-up, then t to −`power`.

    Example:
        >>> endless(1.0, steps=4, warmup=2, power=1).round(2).tolist()
        [0.5, 1.0, 0.67, 0.5]
    """
    done = np.arange(1, steps + 1) / warmup
    return (peak * np.minimum(done, done**-power)).astype(np.float32)


class RowSchedules:
    """The cells of one learning rate, under every schedule.

    Args:
        run: The run.
        scored: Returns the probabilities on dev and test of the model as it is, float32 [n, classes].
        peak: The learning rate.
        epochs: The epochs of a row.
        warmup_ratio: Share of a schedule's steps that warm up.
    """

    def __init__(self, run: StepwiseRun, scored: Any, peak: float, epochs: int, warmup_ratio: float) -> None:
        self._run, self._scored, self._peak, self._epochs, self._warmup = run, scored, peak, epochs, warmup_ratio

    def per_cell(self) -> Cells:
        """Yield schedule, epoch and probabilities of the cells with a schedule of their own, but for the last."""
        for epoch in range(1, self._epochs):
            self._run.reset()
            self._run.train(0, decaying(self._peak, epoch * self._run.steps, self._warmup))
            yield PER_CELL, epoch, self._scored()

    def shared(self) -> Cells:
        """Yield the cells of a row with one schedule, its averages, and the branches off it."""
        rates = decaying(self._peak, self._epochs * self._run.steps, self._warmup)
        for schedule, epoch, probabilities in self._row(rates, {f"branch {part}": part for part in BRANCHES}):
            yield schedule, epoch, probabilities
            if epoch == self._epochs and schedule == SHARED:
                yield PER_CELL, epoch, probabilities

    def rsqrt(self) -> Cells:
        """Yield the cells of branches off a row that falls like 1/√t."""
        return self._endless(0.5, "rsqrt")

    def inverse(self) -> Cells:
        """Yield the cells of branches off a row that falls like 1/t."""
        return self._endless(1, "inverse")

    def _endless(self, power: float, name: str) -> Cells:
        steps = self._run.steps
        rates = endless(self._peak, self._epochs * steps, round(WARMUP * steps), power)
        return self._row(rates, {name: COOLDOWN}, endless=True)

    def _row(self, rates: np.ndarray, branches: Mapping[str, float], endless: bool = False) -> Cells:
        """Train a row and the branches off it.

        Args:
            rates: The rates of the row, float32 [epochs × steps].
            branches: Epochs of each kind of branch, less than 1.
            endless: Whether the row is there for its branches alone, which its last epoch has too.
        """
        run, step = self._run, 0
        run.reset()
        for epoch in range(1, self._epochs + 1):
            end = epoch * run.steps
            starts = {name: end - max(round(length * run.steps), 1) for name, length in branches.items()}
            averaged = set() if endless else {round(end - part * run.steps) for part in np.linspace(0, 0.5, 11)}
            states, mean = dict[int, list[np.ndarray]](), list[np.ndarray]()
            for stop in sorted({*starts.values(), *averaged, end}):
                run.train(step, rates[step:stop])
                step = stop
                if stop in starts.values():
                    states[stop] = run.state()
                if stop in averaged:
                    parts = [(weights / len(averaged)).astype(weights.dtype) for weights in run.weights()]
                    mean = [sum_ + part for sum_, part in zip(mean, parts, strict=True)] if mean else parts
            own = run.state()
            if not endless:
                yield SHARED, epoch, self._scored()
                run.restore(mean)
                yield "averaged", epoch, self._scored()
            for name, start in starts.items() if endless or epoch < self._epochs else ():
                run.restore(states[start])
                run.train(start, cooldown_rates(rates[start:end]))
                yield name, epoch, self._scored()
            run.restore(own)


def open_task(flags: argparse.Namespace) -> tuple[Recipe, Corpus]:
    """Return the recipe and the corpus of the command line, dev and test no larger than they need be."""
    recipe = command.task(flags)
    corpus = limit_splits(scored_corpus(flags, recipe), LARGEST_DEV, recipe.seed, ("dev",))
    return recipe, limit_splits(corpus, LARGEST_TEST, recipe.seed, ("test",))


def train(flags: argparse.Namespace) -> None:
    """Train the rows that the file does not have."""
    recipe, corpus = open_task(flags)
    values, encoder, models = recipe.hyperparameters, CorpusEncoder(corpus), ModelCache(corpus)
    trainer = models.trainer(values)
    splits = {split: encoder.split(values, split) for split in ("dev", "test")}
    texts = joined(split.texts for split in splits.values())

    def scored() -> np.ndarray:
        return trainer.probabilities(texts)

    for seed, rate, kind in product(flags.seeds, flags.learning_rates, flags.rows):
        have = read(flags.out)
        if (flags.corpus, seed, rate, kind) in have[[*CELL[:3], "row"]].itertuples(index=False, name=None):
            continue
        run = StepwiseRun(trainer, encoder.training_set(TrialConfig(values, 1, 1, seed)), values, seed)
        rows = RowSchedules(run, scored, rate, recipe.epochs, values.warmup_ratio)
        cells = []
        for schedule, epoch, probabilities in getattr(rows, kind)():
            own = zip(splits.items(), np.split(probabilities, [len(splits["dev"].labels)]), strict=True)
            right = {name: np.mean(part.argmax(1) == split.labels) for (name, split), part in own}
            if not np.isfinite(probabilities).all():
                right = dict.fromkeys(splits, np.nan)
            cells.append({**dict(zip(CELL, (flags.corpus, seed, rate, epoch), strict=True)), "row": kind})
            cells[-1] |= {"schedule": schedule, **right}
        write_text(flags.out, pd.concat([have, pd.DataFrame(cells)]).to_csv(index=False, float_format="%.6g"))
        print(f"{flags.corpus}  seed {seed}  learning rate {rate:g}  {kind}: {len(cells)} cells", flush=True)


def read(file: Path) -> pd.DataFrame:
    """Read the cells so far, with the columns CELL, row, schedule, dev and test (accuracies)."""
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=[*CELL, "row", "schedule", "dev", "test"])


def complete(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells as a table, a cell a row and [split, schedule] a column, with the schedules that are derived.

    A branched schedule's last cell is that of the shared row; "own first" takes its first from per-cell.
    """
    table = cells.pivot(index=CELL, columns="schedule", values=["dev", "test"])
    first = table.index.get_level_values("epoch") == 1
    for split in ("dev", "test"):
        of = table[split]
        for part in BRANCHES:
            table[split, f"branch {part}"] = of[f"branch {part}"].fillna(of[SHARED])
        for name, later in ((OWN_FIRST, SHARED), (f"{OWN_FIRST}, branch {BRANCHES[-1]}", f"branch {BRANCHES[-1]}")):
            table[split, name] = table[split][later].where(~first, of[PER_CELL])
    return table


def epochs_trained(schedule: str, epochs: int) -> float:
    """Return the epochs that a row of cells costs."""
    if schedule == PER_CELL:
        return epochs * (epochs + 1) / 2
    before = 1 if OWN_FIRST in schedule else 0
    if (part := schedule.rpartition("branch ")[2]) != schedule:
        return epochs + before + float(part) * (epochs - 1 - before)
    if schedule in (SHARED, "averaged", OWN_FIRST):
        return epochs + before
    return epochs + COOLDOWN * (epochs - 1)  # nothing goes on from the last branch


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Compare every schedule with per-cell on the cells that both have.

    Returns:
        A line a schedule: epochs trained, of shared's; the mean difference to per-cell on test in points, with its 95 %
        interval over the pairs of corpus and seed, in all and by epoch; the mean absolute difference and Spearman's
        rank correlation of a grid's cells to per-cell's means over the *other* seeds, on test (some schedules have
        cells in common with per-cell of their own seed, with the same noise); the interval of the correlation less
        that of shared; and the test score of the cell that dev selects.
    """
    lines, epochs = [], int(table.index.get_level_values("epoch").max())
    grids, correlations = ["corpus", "seed"], dict[str, pd.Series]()
    for schedule in table["test"].columns:
        both = table.loc[table["test"][[schedule, PER_CELL]].dropna().index]
        apart = 100 * (both["test"][schedule] - both["test"][PER_CELL])
        line: dict[str, Any] = {"schedule": schedule, "grids": both.groupby(grids).ngroups}
        line["cost"] = epochs_trained(schedule, epochs) / epochs
        line |= mean_with_interval("difference", apart.groupby(grids).mean())
        line |= {f"epoch {epoch}": own.groupby(grids).mean().mean() for epoch, own in apart.groupby("epoch")}
        ranks, distances, picks = {}, [], []
        for (corpus, seed), grid in both.groupby(grids):
            others = table["test"][PER_CELL].loc[corpus].drop(seed).groupby(CELL[2:]).mean()
            cells = grid["test"][schedule].loc[corpus, seed]
            others = others.reindex(cells.index)
            ranks[corpus, seed] = spearmanr(cells, others).statistic if others.notna().all() else np.nan
            distances.append(100 * (cells - others).abs().mean())
            picks.append(100 * grid["test"][schedule].loc[grid["dev"][schedule].idxmax()])
        correlations[schedule] = pd.Series(ranks, dtype=float)
        line |= {"distance": np.nanmean(distances), "correlation": correlations[schedule].mean()}
        lines.append(line | {"pick": np.mean(picks)})
    for line in lines:
        nearer = (correlations[line["schedule"]] - correlations[SHARED]).dropna()
        line |= mean_with_interval("nearer", nearer)
    return pd.DataFrame(lines).sort_values("cost", ignore_index=True)


def mean_with_interval(name: str, values: pd.Series) -> dict[str, float]:
    """Return a mean under its name, and the limits of its 95 % interval as `NAME_low` and `NAME_high`."""
    reach = t.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return {name: values.mean(), f"{name}_low": values.mean() - reach, f"{name}_high": values.mean() + reach}


def with_interval(line: Mapping[Hashable, Any], name: str) -> str:
    """Format the values of `mean_with_interval`; of a single value there is no interval."""
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return f"{line[name]:+.2f}" + ("" if np.isnan(low) else f" ({low:+.2f} to {high:+.2f})")


def show(console: Console, compared: pd.DataFrame) -> None:
    """Print the comparison."""
    epochs = [str(name) for name in compared if str(name).startswith("epoch ")]
    columns = ("× shared", "− per-cell, points (95 %)", *epochs)
    columns += ("|−| other seeds'", "rank corr.", "− shared's", "pick on test", "grids")
    table = Table("schedule", *(Column(name, justify="right", no_wrap=True) for name in columns))
    for one in compared.to_dict("records"):
        table.add_row(
            one["schedule"],
            f"{one['cost']:.2f}",
            with_interval(one, "difference"),
            *(f"{one[name]:+.2f}" for name in epochs),
            f"{one['distance']:.2f}",
            f"{one['correlation']:.2f}",
            with_interval(one, "nearer"),
            f"{one['pick']:.2f}",
            str(one["grids"]),
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; train, or compare and print."""
    top, training = command.task_parsers("schedules", __doc__, "train", OUT, "file of the cells")
    training.add_argument("--seeds", type=command.whole_numbers, required=True, help="a grid each")
    kinds = ("shared", "per_cell", "rsqrt", "inverse")
    training.add_argument("--rows", type=lambda text: text.split(","), default=kinds, help=", ".join(kinds))
    flags = top.parse_args(arguments)
    if flags.command == "compare":
        show(Console(width=200), compare(complete(read(flags.out))))
        return
    if flags.epochs < 2:
        training.error("argument --epochs: one epoch has nothing to compare: give at least 2")
    train(flags)


if __name__ == "__main__":
    command.run(main)
