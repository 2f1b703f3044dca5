r"""Record learning-rate × epoch tables of Friends, on which search strategies are compared.

    python -m benchmarks.record --model DIR --max-train-samples 2000 --learning-rates 4e-4,2e-4,1e-4,5e-5,2.5e-5 \
        --epochs 6 --seeds 1,2,3 --name friends-2000 --work DIR

Every row is one trial, scored on dev after each epoch. Rows of all seeds take turns, and a killed recording resumes in
its work folder. After every epoch `--out` gets NAME-seedN.csv (percent, as `tuners.table` writes it) and NAME.json,
which describes the trials.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.trial_series import TimeLeft, TrialSeries
from bertgrid_tf.bert.checkpoint_files import identity
from bertgrid_tf.corpus import Corpus, utterances
from bertgrid_tf.metrics.classification import unit
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.storage.files import write_text
from tuners.table import Table


@dataclass(frozen=True)
class ScoredEpoch:
    """One cell of one seed's table, with the seconds that its epoch took."""

    seed: int
    learning_rate: float
    epoch: int
    score: float
    seconds: float


def rows(series: TrialSeries, recipe: Recipe, seeds: Sequence[int]) -> Iterator[ScoredEpoch]:
    """Train every learning rate with every seed; a row that diverges ends with an epoch of NaN."""
    for rate in recipe.learning_rates:
        for seed in seeds:
            for epoch, metrics in enumerate(series.train(f"seed{seed}-{rate!r}", seed, learning_rate=rate), start=1):
                yield ScoredEpoch(seed, rate, epoch, metrics[recipe.metric], metrics["seconds"])


def table(cells: Sequence[ScoredEpoch], recipe: Recipe, seed: int) -> Table:
    """Return one seed's table, as far as it has been trained."""
    shape = len(recipe.learning_rates), recipe.epochs
    scores, tried = np.full(shape, nan), np.zeros(shape, bool)
    for cell in cells:
        if cell.seed == seed:
            place = recipe.learning_rates.index(cell.learning_rate), cell.epoch - 1
            scores[place], tried[place] = cell.score, True
    return Table(tuple(recipe.learning_rates), recipe.epochs, scores, tried, recipe.direction())


def description(recipe: Recipe, corpus: Corpus, config: Any) -> dict[str, Any]:
    """Describe the trials without any path; `config` is the model's, of transformers."""
    return {
        "corpus": recipe.corpus,
        "utterances": {split: len(list(utterances(corpus.splits[split]))) for split in ("train", "dev")},
        "model": {
            "type": config.model_type,
            "layers": config.num_hidden_layers,
            "width": config.hidden_size,
            "vocabulary": config.vocab_size,
            "identity": identity(recipe.hyperparameters.model),
        },
        "metric": recipe.metric,
        "subset_seed": recipe.seed,
        "hyperparameters": recipe.hyperparameters.model_dump(exclude={"model", "learning_rate"}),
    }


def main() -> None:
    """Parse the command line, train, write."""
    parser = command.parser(__doc__)
    command.add_grid(parser)
    parser.add_argument("--seeds", type=command.whole_numbers, required=True, help="a table each")
    parser.add_argument("--name", required=True, help="name of the tables")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/search/tables"), help="folder of the tables")
    parser.add_argument("--work", type=Path, required=True, help="folder of the trials' states")
    flags = parser.parse_args()
    recipe = command.friends(flags, learning_rates=flags.learning_rates, epochs=flags.epochs)
    corpus = command.corpus(flags, recipe)
    series = TrialSeries(flags.work, recipe, corpus, free=("learning_rates",))
    described = {
        "command": command.command_line("record", flags, without=("work", "out")),
        **description(recipe, corpus, series.runner.models.trainer(recipe.hyperparameters).checkpoint.model.config),
        **command.circumstances(),
    }
    left = TimeLeft(len(flags.seeds) * len(recipe.learning_rates) * recipe.epochs)
    cells: list[ScoredEpoch] = []
    for cell in rows(series, recipe, flags.seeds):
        cells.append(cell)
        scale, digits = (100, 2) if unit(recipe.metric) == "%" else (1, 4)
        path = flags.out / f"{flags.name}-seed{cell.seed}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        table(cells, recipe, cell.seed).to_csv(path, scale, digits)
        described["median_epoch_seconds"] = round(median(one.seconds for one in cells), 2)
        write_text(flags.out / f"{flags.name}.json", json.dumps(described, indent=2) + "\n")
        print(
            f"seed {cell.seed}  learning rate {cell.learning_rate:g}  epoch {cell.epoch} of {recipe.epochs}  "
            f"{recipe.metric} {score(recipe.metric, cell.score)}  {duration(cell.seconds)}  "
            f"({left.after(cell.seconds)})",
            flush=True,
        )


if __name__ == "__main__":
    command.run(main)
