"""BertForSequenceClassification in PyTorch under Hugging Face's Trainer."""

from collections.abc import Iterator
from time import perf_counter
from typing import Any, Literal

import torch
import transformers
from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

from benchmarks.texts import PaddedTexts

transformers.logging.set_verbosity_error()

Padding = Literal["maximum", "dynamic", "grouped", "stock-grouped"]


class TextDataset(torch.utils.data.Dataset):
    """Texts without their padding, which a collator adds."""

    def __init__(self, texts: PaddedTexts) -> None:
        self._texts = texts
        self.lengths = texts.lengths.tolist()

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, row: int) -> dict[str, Any]:
        length = self.lengths[row]
        return {
            "input_ids": self._texts.ids[row, :length].tolist(),
            "token_type_ids": self._texts.types[row, :length].tolist(),
            "attention_mask": [1] * length,
            "labels": int(self._texts.labels[row]),
        }


class _Grouped(LengthGroupedSampler):
    """Sorts 50 batches together, as on a whole corpus; on few texts it would be fewer batches, and more padding."""

    def __iter__(self) -> Iterator[int]:
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, mega_batch_mult=50))


class GroupingTrainer(transformers.Trainer):
    """Hugging Face's Trainer with `_Grouped` as its sampler."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return _Grouped(self.args.train_batch_size, lengths=self.train_dataset.lengths)


class EpochSeconds(transformers.TrainerCallback):
    """Times every epoch without its evaluation."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop the clock, as it turns out for the last step."""
        self._last_step = perf_counter()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the seconds."""
        self.seconds.append(self._last_step - self._began)


def build(model: str, classes: int) -> Any:
    """Load a classifier with the checkpoint's weights."""
    return transformers.BertForSequenceClassification.from_pretrained(
        model, num_labels=classes, trust_remote_code=False
    )


def trainer(
    classifier: Any,
    tokenizer: Any,
    train: PaddedTexts,
    *,
    folder: str,
    padding: Padding,
    max_length: int,
    batch_size: int,
    learning_rate: float,
    epochs: int,
    precision: str,
    callbacks: list[Any],
    dev: PaddedTexts | None = None,
    seed: int = 42,
    save: bool = False,
) -> transformers.Trainer:
    """Make a Trainer with the optimizer and clipping of `bertgrid_tf`: AdamW and a largest global norm of 1.

    Args:
        classifier: Result of `build`.
        tokenizer: The checkpoint's, which pads.
        train: Texts to train on.
        folder: Folder of the Trainer's files.
        padding: To `max_length`, to each batch's longest text, or the latter with texts of similar length in a batch:
            "grouped" with the least padding, "stock-grouped" as transformers draws them, which is a better draw on few
            texts.
        max_length: Tokens of the longest text.
        batch_size: Texts of a batch.
        learning_rate: Peak learning rate.
        epochs: Epochs to train.
        precision: "fp32", "bf16" or "fp16".
        callbacks: Callbacks of transformers.
        dev: Texts that are evaluated after every epoch; None for none.
        seed: Seed of the order of the texts and of dropout.
        save: Whether the model of the best epoch is kept in the folder.
    """
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=64,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=0.01,
        max_grad_norm=1.0,
        warmup_ratio=0.2,
        group_by_length=padding.endswith("grouped"),
        seed=seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="no" if dev is None else "epoch",
        save_strategy="best" if save else "no",
        metric_for_best_model="accuracy",
        save_total_limit=1,
        save_only_model=True,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    pad = "max_length" if padding == "maximum" else "longest"
    collate = transformers.DataCollatorWithPadding(tokenizer, padding=pad, max_length=max_length)
    kind = GroupingTrainer if padding == "grouped" else transformers.Trainer
    return kind(
        classifier,
        arguments,
        collate,
        TextDataset(train),
        eval_dataset=None if dev is None else TextDataset(dev),
        compute_metrics=_accuracy,
        callbacks=callbacks,
    )


def _accuracy(evaluated: Any) -> dict[str, float]:
    return {"accuracy": float((evaluated.predictions.argmax(axis=1) == evaluated.label_ids).mean())}
