"""Measure how much faster BERT and its relatives are trained without padding than by transformers' own pass.

    python -m benchmarks.families --model scratch:6x384 --max-train-samples 480 --rounds 5 [--xla] [--csv FILE]

With `scratch:LAYERSxWIDTH`, every family is measured (`--families`), with random weights, this size, embeddings of its
own default width and the vocabulary that `scratch` trains; with a folder or hub id, that checkpoint alone. Three
trainers with the same optimizer take turns in one process, in fp32: without padding, with the model's own pass on
batches that texts of similar length share, and with its own pass on random batches padded to the maximum length. In
each round each of them trains one epoch; the first, in which functions are traced, does not count. Numbers are medians
over the rounds, ratios medians of the rounds' ratios. `--xla` adds a fourth: the grouped one's pass, padded to
multiples of 16 tokens and compiled by XLA for each size. Texts are current and previous utterance of Friends, or the
layout of `--set context=…`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from transformers import CONFIG_MAPPING, TFAutoModelForSequenceClassification

from benchmarks import command
from benchmarks.throughput import Measurement
from bertgrid_tf.bert.checkpoint import Checkpoint, load
from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.bert.families import FAMILIES
from bertgrid_tf.bert.scratch import scratch_config
from bertgrid_tf.bert.trainer import ForwardPass, Trainer
from bertgrid_tf.bert.unpadded import supports
from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.files import write_table
from bertgrid_tf.system.host import process_memory
from bertgrid_tf.training.encoding import CorpusEncoder, training_texts
from bertgrid_tf.trial_config import TrialConfig

OURS, GROUPED, PADDED = PASSES = ("no padding", "own pass, grouped", "own pass, padded")
XLA = "own pass, XLA"
XLA_TOKENS = 16
"""Of which the padded lengths are multiples, so that XLA has few sizes to compile."""


def checkpoints(model: str, kinds: Sequence[str], corpus: Corpus) -> Iterator[Checkpoint]:
    """Build the checkpoints to measure, one at a time.

    Raises:
        UserError: A family is not known, or the checkpoint is of none.
    """
    if unknown := sorted({*kinds} - {*FAMILIES}):
        raise UserError(f"--families {', '.join(unknown)}: only {', '.join(FAMILIES)} compute no padding.")
    checkpoint = load(model, corpus.labels, texts=training_texts(corpus))
    if scratch_config(model):
        yield from (relative(kind, checkpoint) for kind in kinds)
    elif supports(checkpoint.model):
        yield checkpoint
    else:
        raise UserError(f"--model {model} is of type {checkpoint.model.config.model_type!r}, which computes padding.")


def relative(kind: str, bert: Checkpoint) -> Checkpoint:
    """Make a classifier of another family with the sizes and the tokenizer of a BERT, and random weights."""
    of = bert.model.config
    same = {name: getattr(of, name) for name in ("vocab_size", "initializer_range", "id2label", "label2id")}
    heads = {name: getattr(of, name) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    # DistilBERT's own name beside that of the others.
    inner = dict.fromkeys(("intermediate_size", "hidden_dim"), of.intermediate_size)
    model = TFAutoModelForSequenceClassification.from_config(
        CONFIG_MAPPING[kind](**same, **heads, **inner), trust_remote_code=False
    )
    model(model.dummy_inputs)
    initial = [variable.numpy() for variable in model.variables]
    return Checkpoint(kind, bert.tokenizer, model, initial, frozenset(range(len(initial))))


def padded(checkpoint: Checkpoint, tokens: int, xla: bool = False) -> ForwardPass:
    """Return the model's own pass on texts padded to a multiple of `tokens`, with `xla` compiled for each size."""
    # Only here, after `command` has kept transformers from importing PyTorch.
    import tensorflow as tf

    own = tf.function(checkpoint.logits, jit_compile=True) if xla else checkpoint.logits

    def forward(ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        rest = [[0, 0], [0, -tf.shape(ids)[1] % tokens]]
        ids = tf.pad(ids, rest, constant_values=checkpoint.tokenizer.pad_token_id)
        return own(ids, tf.pad(types, rest), tf.pad(mask, rest), training)

    return forward


def measure(
    checkpoint: Checkpoint, train: EncodedDataset, config: TrialConfig, rounds: int, xla: bool = False
) -> dict[str, Measurement]:
    """Train epochs of one checkpoint by each of the passes in turn."""
    forwards = {OURS: None, GROUPED: checkpoint.logits, PADDED: padded(checkpoint, config.hyperparameters.max_length)}
    if xla:
        forwards[XLA] = padded(checkpoint, XLA_TOKENS, xla=True)
    steps = -(-len(train.texts) // int(config.hyperparameters.batch_size))
    trainers: dict[str, tuple[Trainer, TrialConfig]] = {}
    for name, forward in forwards.items():
        grouping = config.with_hyperparameters(group_by_length="always" if name in (GROUPED, XLA) else "never")
        trainers[name] = Trainer(checkpoint, forward=forward), grouping
        # The Dropout layers draw by the key of the latest trainer, so that each is traced before the next is made.
        trainers[name][0].time_steps(train, grouping, steps)
    seconds: dict[str, list[float]] = {name: [] for name in forwards}
    for round_ in range(1, rounds + 1):
        for name, (trainer, grouping) in trainers.items():
            seconds[name].append(float(trainer.time_steps(train, grouping, steps)[1].sum()))
            print(f"round {round_} of {rounds}  {checkpoint.name}, {name}: {seconds[name][-1]:.2f} s", flush=True)
    return {name: Measurement(tuple(taken), process_memory("VmHWM")) for name, taken in seconds.items()}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = command.parser(__doc__, csv="file for every round's seconds")
    parser.add_argument("--families", default=",".join(FAMILIES), help="the families to measure with scratch:LxW")
    parser.add_argument("--rounds", type=command.count, default=5, help="rounds that count")
    parser.add_argument("--xla", action="store_true", help="compare with a pass that XLA compiles too")
    flags = parser.parse_args()
    recipe = command.friends(flags, context="current+previous")
    corpus, config = command.corpus(flags, recipe), TrialConfig(recipe.hyperparameters, 1, 1, recipe.seed)
    train = CorpusEncoder(corpus).training_set(config)
    lengths = train.texts.lengths
    heading = f"{len(lengths)} texts of {lengths.mean():.1f} tokens, texts/s"
    passes = [*PASSES, XLA] if flags.xla else PASSES
    table = Table(heading, *passes, *(f"× {name}" for name in passes[1:]))
    rows: list[dict[str, Any]] = []
    for checkpoint in checkpoints(flags.model, flags.families.split(","), corpus):
        measured = measure(checkpoint, train, config, flags.rounds, flags.xla)
        rates = [f"{measured[name].rate(len(lengths)):.1f}" for name in passes]
        ratios = [f"{measured[OURS].faster_than(measured[name]):.2f}" for name in passes[1:]]
        table.add_row(checkpoint.name, *rates, *ratios)
        rows += [
            {"checkpoint": checkpoint.name, "pass": name, "round": number, "seconds": taken}
            for name, one in measured.items()
            for number, taken in enumerate(one.seconds, start=1)
        ]
    console = Console(width=140)
    console.print(table)
    command.print_system(console)
    if flags.csv:
        write_table(flags.csv, pd.DataFrame(rows))


if __name__ == "__main__":
    command.run(main)
