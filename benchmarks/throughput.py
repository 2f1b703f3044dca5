"""Measure the texts a second that BERT is trained on: bertgrid-tf, `model.fit` and Hugging Face's Trainer side by side.

    python -m benchmarks.throughput --model DIR --max-train-samples 1600 --rounds 5 [--precisions fp32] [--csv FILE]

Every contender is a process of its own, with the same checkpoint, texts, batch size, maximum length and optimizer
(AdamW, gradients clipped to a global norm of 1). In each round each of them trains one epoch while the others wait;
the first round, in which functions are traced, does not count. Numbers are medians over the rounds, ratios medians of
the rounds' ratios. Texts are current and previous utterance, or the layout of `--set context=…`.

The machine limit is the time of the matrix products on the texts' own tokens (`bertgrid_tf.bert.roofline`) at the
best rate that TensorFlow's matrix product reached in any round in the same precision, at this checkpoint's sizes.
"""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import command
from benchmarks.contenders.process import Contender, Process
from benchmarks.layout import our_request, their_request
from benchmarks.texts import PaddedTexts
from bertgrid_tf.bert.dimensions import Dimensions, dimensions
from bertgrid_tf.bert.roofline import training_flops
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.system.host import readable

FRAMEWORKS = ("tensorflow", "torch")
BASELINE = "model.fit, padded"


@dataclass(frozen=True)
class InPrecision(Contender):
    """A contender in one precision."""

    precision: str


@dataclass(frozen=True)
class Measurement:
    """A contender's epochs.

    Attributes:
        seconds: Seconds of each round's epoch.
        peak_bytes: Peak resident memory of its process.
    """

    seconds: tuple[float, ...]
    peak_bytes: int

    def rate(self, amount: float) -> float:
        """Return the amount a second, given the amount of an epoch."""
        return amount / median(self.seconds)

    def faster_than(self, other: "Measurement") -> float:
        """Return the median of the rounds' ratios of the other's seconds to these."""
        return median(theirs / mine for mine, theirs in zip(self.seconds, other.seconds, strict=True))


def contenders(recipes: Mapping[str, Recipe], theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[InPrecision]:
    """List the contenders in every precision.

    Args:
        recipes: Recipe of each precision.
        theirs: Request of the other libraries, without precision and padding.
        ours: Request of bertgrid-tf, without the recipe.
    """
    made = []
    for precision, recipe in recipes.items():
        request = {**theirs, "precision": precision}
        mine, maximum, grouped = (
            {**ours, "recipe": recipe.model_dump(mode="json")},
            {**request, "padding": "maximum"},
            {**request, "padding": "grouped"},
        )
        made += [
            InPrecision("bertgrid-tf", "ours", "tensorflow", mine, precision),
            InPrecision(BASELINE, "keras_fit", "tensorflow", request, precision),
            InPrecision("Trainer, padded", "torch_trainer", "torch", maximum, precision),
            InPrecision("Trainer, dynamic, grouped", "torch_trainer", "torch", grouped, precision),
        ]
    return made


def products(size: Dimensions, tokens: int) -> list[tuple[int, int, int]]:
    """List the sizes (m, k, n) of the encoder's matrix products [m, k]·[k, n] on a number of tokens.

    They are those of its layers, and those of their weights' gradients.
    """
    width, inner = size.width, size.intermediate
    forward = [(tokens, width, width), (tokens, width, inner), (tokens, inner, width)]
    return forward + [(k, m, n) for m, k, n in forward]


def main() -> None:
    """Parse the command line, measure, print."""
    parser = command.parser(__doc__, csv="file for every round's seconds")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument(
        "--precisions", type=command.precisions, default=["fp32", "bf16"], help="of fp32, bf16 and fp16, by commas"
    )
    flags = parser.parse_args()
    command.require("torch", "accelerate")
    context = {"context": "current+previous"}
    recipes = {precision: command.friends(flags, precision=precision, **context) for precision in flags.precisions}
    first = recipes[flags.precisions[0]]
    hyperparameters, corpus = first.hyperparameters, command.corpus(flags, first)
    size = dimensions(hyperparameters.model, len(corpus.labels))

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        theirs = their_request(first, corpus, folder) | {"learning_rate": hyperparameters.learning_rate}
        texts = PaddedTexts.load(theirs["train"])
        tokens_a_step = int(texts.lengths.mean() * hyperparameters.batch_size)
        everyone = contenders(recipes, theirs, our_request(flags, first, folder))
        running = [
            stack.enter_context(one.process(folder / f"{index}-{one.module}.log")) for index, one in enumerate(everyone)
        ]
        matmuls = {
            framework: stack.enter_context(
                Process(
                    "matmul",
                    framework,
                    {
                        "framework": framework,
                        "products": products(size, tokens_a_step),
                        "precisions": flags.precisions,
                    },
                    folder / f"{framework}-matmul.log",
                )
            )
            for framework in FRAMEWORKS
        }
        seconds: list[list[float]] = [[] for _ in everyone]
        peaks = [0] * len(everyone)
        rates = {(framework, precision): 0.0 for framework in FRAMEWORKS for precision in flags.precisions}
        for round_ in range(flags.rounds + 1):
            shown = f"round {round_} of {flags.rounds}" if round_ else "warm-up"
            for framework, process in matmuls.items():
                reply = process.play()
                for precision in flags.precisions:
                    rates[framework, precision] = max(rates[framework, precision], reply[precision])
            for index, (one, process) in enumerate(zip(everyone, running, strict=True)):
                reply = process.play()
                peaks[index] = reply["peak_bytes"]
                print(f"{shown}  {one.name}, {one.precision}: {reply['seconds']:.2f} s", flush=True)
                if round_:
                    seconds[index].append(reply["seconds"])

    measured = {
        (one.name, one.precision): Measurement(tuple(taken), peak)
        for one, taken, peak in zip(everyone, seconds, peaks, strict=True)
    }
    flops = training_flops(size, texts.lengths)
    limits = {precision: rates["tensorflow", precision] * len(texts) / flops for precision in flags.precisions}
    table = Table(
        f"{len(texts)} texts of {texts.lengths.mean():.1f} tokens",
        "precision",
        "texts/s",
        "slowest to fastest",
        "tokens/s",
        f"× model.fit {flags.precisions[0]}",
        "of the machine limit",
        "peak memory",
    )
    for (name, precision), seen in measured.items():
        table.add_row(
            name,
            precision,
            f"{seen.rate(len(texts)):.1f}",
            f"{len(texts) / max(seen.seconds):.1f} to {len(texts) / min(seen.seconds):.1f}",
            f"{seen.rate(texts.lengths.sum()):.0f}",
            f"{seen.faster_than(measured[BASELINE, flags.precisions[0]]):.2f}",
            f"{seen.rate(len(texts)) / limits[precision]:.0%}",
            readable(seen.peak_bytes),
        )
    console = Console(width=140)
    console.print(table)
    grouped = "Trainer, dynamic, grouped"
    for precision in flags.precisions:
        ours_now = measured["bertgrid-tf", precision]
        console.print(
            f"{precision}: bertgrid-tf is {ours_now.faster_than(measured[BASELINE, precision]):.2f} × {BASELINE} and "
            f"{ours_now.faster_than(measured[grouped, precision]):.2f} × {grouped}, each in {precision}. "
            f"Machine limit {limits[precision]:.1f} texts/s: {flops / len(texts) / 1e9:.2f} GFLOP a text at "
            f"TensorFlow's {rates['tensorflow', precision] / 1e9:.0f} GFLOP/s; PyTorch's best product reached "
            f"{rates['torch', precision] / 1e9:.0f}."
        )
    command.print_system(console)
    if flags.csv:
        rows = [
            {"name": name, "precision": precision, "round": number, "seconds": taken, "peak_bytes": one.peak_bytes}
            for (name, precision), one in measured.items()
            for number, taken in enumerate(one.seconds, start=1)
        ]
        write_table(flags.csv, pd.DataFrame(rows))


if __name__ == "__main__":
    command.run(main)
