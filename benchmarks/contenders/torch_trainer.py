"""Hugging Face's Trainer: a round is an epoch, from its beginning to its end."""

from collections.abc import Callable, Mapping
from typing import Any

from transformers import AutoTokenizer

from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.torch_model import EpochSeconds, build, trainer
from benchmarks.texts import Padded


def prepare(asked: Mapping[str, Any]) -> Callable[[], Reply]:
    model = build(asked["model"], asked["classes"])
    tokenizer = AutoTokenizer.from_pretrained(asked["model"])
    train = Padded.load(asked["train"])

    def play() -> Reply:
        clock = EpochSeconds()
        trainer(
            model,
            tokenizer,
            train,
            folder=asked["folder"],
            padding=asked["padding"],
            max_length=asked["max_length"],
            batch_size=asked["batch_size"],
            learning_rate=asked["learning_rate"],
            epochs=1,
            precision=asked["precision"],
            callbacks=[clock],
        ).train()
        return {"seconds": clock.seconds[-1]}

    return play


if __name__ == "__main__":
    serve(prepare)
