"""Measure what `export --format onnx --quantize int8` costs and gains, on a study's dev split.

    python -m benchmarks.quantize results/friends [--rounds 5] [--data-dir DIR]

Both ONNX files label all texts of dev, one at a time and in batches of 32, turn about; texts/s is a median of rounds.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from benchmarks import command
from bertgrid_tf.bert.batches import equal_sizes, padded_batches
from bertgrid_tf.bert.tokenizer import load_tokenizer
from bertgrid_tf.corpus import utterances
from bertgrid_tf.data import data_dirs, open_corpus
from bertgrid_tf.inference.export import ONNX_FILE, export
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.encoding import encode_dialogues

BATCHES = (1, 32)


def main() -> None:
    """Parse the command line, export, measure, print."""
    import onnxruntime

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--rounds", type=command.count, default=5)
    parser.add_argument("--data-dir", type=Path, default=Path("datasets"))
    flags = parser.parse_args()
    folder = StudyFolder.existing(flags.study)
    metadata, dev = folder.read_metadata(), open_corpus(folder.read_recipe(), data_dirs(flags.data_dir)).splits["dev"]
    labels = np.array([metadata.labels.index(utterance.label) for utterance in utterances(dev)], np.int32)
    tokenizer, hyperparameters = load_tokenizer(str(folder.final_models()[0])), folder.read_final().hyperparameters
    encoded = encode_dialogues(tokenizer, dev, hyperparameters, metadata.speakers)
    batches = {
        size: [
            {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
            for (batch,) in padded_batches(encoded, labels, np.arange(len(labels)), equal_sizes(len(labels), size))
        ]
        for size in BATCHES
    }
    sessions, megabytes = {}, {}
    with tempfile.TemporaryDirectory() as work:
        for name, quantize in (("float32", None), ("int8", "int8")):
            file = export(folder, "onnx", Path(work, name), quantize).folder / ONNX_FILE
            sessions[name], megabytes[name] = onnxruntime.InferenceSession(str(file)), file.stat().st_size / 1e6
    seconds: dict[tuple[str, int], list[float]] = {(name, size): [] for name in sessions for size in BATCHES}
    probabilities = {}
    for _ in range(flags.rounds + 1):
        for (name, size), taken in seconds.items():
            begin = time.perf_counter()
            answers = [sessions[name].run(["probabilities"], batch)[0] for batch in batches[size]]
            taken.append(time.perf_counter() - begin)
            probabilities[name] = np.concatenate(answers)
    console = Console(width=160, highlight=False)
    titles = ("MB", "accuracy", "macro-F1", "loss", "same label", *(f"texts/s, {size} a pass" for size in BATCHES))
    table = Table("weights", *(Column(title, justify="right") for title in titles))
    for name, own in probabilities.items():
        scores = evaluate(labels, own, metadata.labels)
        same = (own.argmax(1) == probabilities["float32"].argmax(1)).mean()
        # The first round warms up.
        rates = [f"{len(labels) / np.median(seconds[name, size][1:]):.0f}" for size in BATCHES]
        shares = [f"{100 * share:.2f}" for share in (scores["accuracy"], scores["macro_f1"])]
        table.add_row(name, f"{megabytes[name]:.1f}", *shares, f"{scores['loss']:.4f}", f"{same:.1%}", *rates)
    console.print(f"{len(labels):,} texts of dev")
    console.print(table)
    command.print_system(console)


if __name__ == "__main__":
    command.run(main)
