r"""Compare final models of several members, and of more texts, with a single one, on the sealed test split.

    python -m benchmarks.final train friends --model DIR --learning-rates 1e-4 --epochs 3 --seeds 1,11 --members 5
    python -m benchmarks.final train trec --data trec.csv --model DIR … (columns text, label, split)
    python -m benchmarks.final compare

A repetition is a seed of `--seeds`, with texts and seeds of its own. It trains three groups of `--members` models with
the same hyperparameters: on train with a seed each, on train and dev with a seed each, and on train without a fold
each. Scored are single models on average, the mean of their probabilities, and the mean of their weights (a soup).
`train` appends to a CSV file (`--out`), a group at a time, and goes on where it was stopped. `compare` reads all of it.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from benchmarks import command
from benchmarks.layout import scored_corpus
from benchmarks.schedules import mean_with_interval, with_interval
from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.budget.plan import final_trials
from bertgrid_tf.errors import UserError
from bertgrid_tf.inference.predictor import ensemble
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.recipe import load_recipe
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.training.encoding import CorpusEncoder
from bertgrid_tf.training.model_cache import ModelCache
from bertgrid_tf.trial_config import TrialConfig

OUT = Path(__file__).parent / "final.csv"
SINGLE = "single, seeds"
METRICS = {"accuracy": 100, "macro_f1": 100, "loss": 1}  # with the factor that makes points of a share
REPETITION = ["corpus", "seed", "members"]
COLUMNS = [*REPETITION, "group", "model", *METRICS, "train_seconds"]


def train(flags: argparse.Namespace) -> None:
    """Train the groups that the file does not have."""
    finals = {
        "seeds": {"final.n_seeds": flags.members},
        "train+dev": {"final.n_seeds": flags.members, "final.train_on": "train+dev"},
        "folds": {"final.folds": flags.members},
    }
    if len(flags.learning_rates) > 1:
        raise UserError("--learning-rates: all models are trained with one, so give one.")
    for seed in flags.seeds:
        recipe = command.task(flags, seed=seed, learning_rate=flags.learning_rates[0])
        corpus = scored_corpus(flags, recipe)
        encoder, models = CorpusEncoder(corpus), ModelCache(corpus)
        for group, keys in finals.items():
            place = {"corpus": flags.corpus, "seed": seed, "members": flags.members, "group": group}
            if tuple(place.values()) in (have := read(flags.out))[[*place]].itertuples(index=False, name=None):
                continue
            configs = final_trials(load_recipe(recipe.corpus, recipe, keys), recipe.epochs)
            lines = pd.DataFrame([place | line for line in train_group(group, configs, encoder, models)])
            write_text(flags.out, pd.concat([have, lines])[COLUMNS].to_csv(index=False, float_format="%.6g"))
            print(lines.to_string(index=False, header=False), flush=True)


def train_group(
    group: str, configs: Sequence[TrialConfig], encoder: CorpusEncoder, models: ModelCache
) -> Iterator[dict[str, object]]:
    """Train the models of a group; yield the test scores of the single ones on average, their mean, and their soup."""
    values = configs[0].hyperparameters
    trainer, dev, test = models.trainer(values), encoder.split(values, "dev"), encoder.split(values, "test")
    variables, predicted, seconds = trainer.checkpoint.model.variables, list[np.ndarray](), 0.0
    soup = [np.zeros(variable.shape, variable.dtype.as_numpy_dtype) for variable in variables]
    for config in configs:
        with tempfile.TemporaryDirectory() as folder:
            for result in trainer.run(encoder.training_set(config), dev, config, Path(folder)):
                seconds += result.metrics["train_seconds"]
        predicted.append(trainer.probabilities(test.texts))
        soup = [total + variable.numpy() / len(configs) for total, variable in zip(soup, variables, strict=True)]
    singles = pd.DataFrame([scores(test, one) for one in predicted]).mean(skipna=False)
    yield {"model": f"single, {group}", **singles, "train_seconds": seconds / len(configs)}
    yield {"model": f"mean, {group}", **scores(test, ensemble(predicted)), "train_seconds": seconds}
    for variable, value in zip(variables, soup, strict=True):
        variable.assign(value)
    yield {"model": f"soup, {group}", **scores(test, trainer.probabilities(test.texts)), "train_seconds": seconds}


def scores(test: EncodedDataset, probabilities: np.ndarray) -> dict[str, float]:
    """Return the metrics of probabilities; NaN where a run diverged."""
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(METRICS, np.nan)
    scored = evaluate(test.labels, probabilities, [str(number) for number in range(probabilities.shape[1])])
    return {metric: scored[metric] for metric in METRICS}


def read(file: Path) -> pd.DataFrame:
    """Read the scores so far, with the `COLUMNS`; accuracy and macro_f1 are fractions of 1, the loss is in nats."""
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)


def compare(lines: pd.DataFrame) -> pd.DataFrame:
    """Compare every model with a single one on train.

    Returns:
        A line for a model and a corpus, and one for all corpora ("all"): the mean difference on test, in points (loss:
        nats), with its 95 % interval over the repetitions, and the time of training as a multiple of the single one's.
    """
    models = lines.set_index(["model", *REPETITION])[[*METRICS, "train_seconds"]]
    compared = []
    for model in models.index.unique("model").drop(SINGLE):
        own, single = models.loc[model], models.loc[SINGLE]
        apart = ((own - single)[[*METRICS]] * pd.Series(METRICS)).dropna()
        apart["time"] = own["train_seconds"] / single["train_seconds"]
        for corpus, of in [*apart.groupby(level="corpus"), ("all", apart)]:
            line = {"model": model, "corpus": corpus, "repetitions": len(of), "time": of["time"].mean()}
            for metric in METRICS:
                line |= mean_with_interval(metric, of[metric])
            compared.append(line)
    return pd.DataFrame(compared)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; train, or compare and print."""
    top, training = command.task_parsers("final", __doc__, "train", OUT, "file of the scores")
    training.add_argument("--seeds", type=command.whole_numbers, required=True, help="a repetition each, far apart")
    training.add_argument("--members", type=command.count, default=5, help="models of a group")
    command.add_limits(training)
    flags = top.parse_args(arguments)
    if flags.command == "train":
        train(flags)
        return
    columns = (*(f"{name} − single's (95 %)" for name in METRICS), "× time", "repetitions")
    table = Table("model", "corpus", *(Column(name, justify="right", no_wrap=True) for name in columns))
    for one in compare(read(flags.out)).to_dict("records"):
        apart = [with_interval(one, name) for name in METRICS]
        table.add_row(one["model"], one["corpus"], *apart, f"{one['time']:.1f}", str(one["repetitions"]))
    Console(width=200).print(table)


if __name__ == "__main__":
    command.run(main)
