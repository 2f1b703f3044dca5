"""Hugging Face's Trainer: a round is an epoch, from its beginning to its end."""

from collections.abc import Callable, Mapping
from typing import Any

from transformers import AutoTokenizer

from benchmarks.contenders.process import Reply, serve
from benchmarks.contenders.torch_model import EpochSeconds, build, trainer
from benchmarks.texts import PaddedTexts


def prepare(request: Mapping[str, Any]) -> Callable[[], Reply]:
    """Prepare rounds of one epoch."""
    model = build(request["model"], request["classes"])
    tokenizer = AutoTokenizer.from_pretrained(request["model"], trust_remote_code=False)
    train = PaddedTexts.load(request["train"])

    def play() -> Reply:
        clock = EpochSeconds()
        trainer(
            model,
            tokenizer,
            train,
            folder=request["folder"],
            padding=request["padding"],
            max_length=request["max_length"],
            batch_size=request["batch_size"],
            learning_rate=request["learning_rate"],
            epochs=1,
            precision=request["precision"],
            callbacks=[clock],
        ).train()
        return {"seconds": clock.seconds[-1]}

    return play


if __name__ == "__main__":
    serve(prepare)
