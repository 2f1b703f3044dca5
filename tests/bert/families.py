"""Tiny checkpoints with the files, names and keys with which the hub holds those of each family."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import transformers
from safetensors.numpy import save_file

from bertgrid_tf.bert.checkpoint import _pytorch_weights

LONGEST = 40
"""Tokens of the longest input of every family."""
SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
KLUE_TOKENS = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
KLUE_TOKENIZER = {
    "do_lower_case": False,
    "do_basic_tokenize": True,
    "never_split": None,
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
    "bos_token": "[CLS]",
    "eos_token": "[SEP]",
    "tokenize_chinese_chars": True,
    "strip_accents": None,
    "model_max_length": 512,
}


@dataclass(frozen=True)
class Family:
    """One family's checkpoint.

    Attributes:
        name: Its name in the tests.
        model: The class whose weights the hub holds, without "TF".
        config: The config, but for the size of the vocabulary.
        vocabulary: Writes the vocabulary's files for some texts; returns the tokens.
        tokenizer: The tokenizer_config.json; None for none.
        tokens: The special tokens before, between and after two segments.
        types: Whether the second segment has the token type 1.
    """

    name: str
    model: str
    config: dict[str, Any]
    vocabulary: Callable[[Path, Sequence[str]], int]
    tokenizer: dict[str, Any] | None
    tokens: tuple[str, str, str] = ("[CLS]", "[SEP]", "[SEP]")
    types: bool = True

    def write(self, folder: Path, texts: Sequence[str]) -> Path:
        """Write the checkpoint, with weights in PyTorch's names and layout."""
        folder.mkdir(parents=True)
        size = self.vocabulary(folder, texts)
        if self.tokenizer is not None:
            (folder / "tokenizer_config.json").write_text(json.dumps(self.tokenizer))
        cls = getattr(transformers, f"TF{self.model}")
        config = cls.config_class(vocab_size=size, architectures=[self.model], **self.config)
        config.save_pretrained(folder)
        model = cls(config)
        model(model.dummy_inputs)
        save_file(_pytorch_weights(model), folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def classifier(self, **changes: int) -> transformers.TFPreTrainedModel:
        """Build a classifier of two classes and 90 tokens; `changes` are further keys of its config."""
        cls = getattr(transformers, f"TF{self.model}")
        config = cls.config_class(vocab_size=90, num_labels=2, **self.config | changes)
        model = transformers.TFAutoModelForSequenceClassification.from_config(config)
        model.build_in_name_scope()
        return model


def wordpiece(special: Sequence[str] = BERT_TOKENS) -> Callable[[Path, Sequence[str]], int]:
    """A vocab.txt of all words and characters."""

    def write(folder: Path, texts: Sequence[str]) -> int:
        words = sorted({word for text in texts for word in text.split()})
        characters = sorted({character for word in words for character in word})
        tokens = [*dict.fromkeys([*special, *words, *characters, *(f"##{one}" for one in characters)])]
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
        return len(tokens)

    return write


def pieces(file: str, rows: int, **options: Any) -> Callable[[Path, Sequence[str]], int]:
    """A SentencePiece model in `file`, to embeddings with as many more rows."""

    def write(folder: Path, texts: Sequence[str]) -> int:
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([*texts] * 3),
            model_writer=model,
            vocab_size=80,
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )
        (folder / file).write_bytes(model.getvalue())
        return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).vocab_size() + rows

    return write


def byte_pairs(folder: Path, texts: Sequence[str]) -> int:
    """RoBERTa's vocab.json and merges.txt."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(texts, vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.save_model(str(folder))
    return int(tokenizer.get_vocab_size())


_ROBERTA = {
    **SIZE,
    "max_position_embeddings": LONGEST + 2,
    "type_vocab_size": 1,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
_FROM_ZERO = {**SIZE, "max_position_embeddings": LONGEST}
_DEBERTA = {
    **_FROM_ZERO,
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "pooler_dropout": 0,
    "pooler_hidden_act": "gelu",
    "pooler_hidden_size": 32,
}
_ROBERTA_TOKENS = ("<s>", "</s> </s>", "</s>")

FAMILIES = (
    Family(
        "bert with one token type",
        "BertForPreTraining",
        {**_FROM_ZERO, "type_vocab_size": 1},
        wordpiece(),
        {"do_lower_case": False},
    ),
    Family(
        "koelectra",
        "ElectraForPreTraining",
        {**_FROM_ZERO, "embedding_size": 16},
        wordpiece(),
        {"do_lower_case": False, "model_max_length": 512},
    ),
    Family(
        "distilbert",
        "DistilBertForMaskedLM",
        {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": LONGEST},
        wordpiece(),
        {"do_lower_case": False, "model_max_length": 512},
    ),
    Family("roberta", "RobertaForMaskedLM", _ROBERTA, byte_pairs, {"model_max_length": 512}, _ROBERTA_TOKENS, False),
    Family(
        "klue",
        "RobertaForMaskedLM",
        {**_ROBERTA, "tokenizer_class": "BertTokenizer"},
        wordpiece(KLUE_TOKENS),
        KLUE_TOKENIZER,
    ),
    Family(
        "xlm-roberta",
        "XLMRobertaForMaskedLM",
        _ROBERTA,
        # <pad> and <mask> are the tokenizer's own.
        pieces("sentencepiece.bpe.model", 2, unk_id=0, bos_id=1, eos_id=2, pad_id=-1),
        {"model_max_length": 512},
        _ROBERTA_TOKENS,
        False,
    ),
    Family(
        "albert",
        "AlbertForPreTraining",
        {**_FROM_ZERO, "embedding_size": 16},
        pieces(
            "spiece.model", 0, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"]
        ),
        {"do_lower_case": True, "keep_accents": True, "model_max_length": 512},
    ),
    Family(
        "deberta-v3",
        "DebertaV2ForMaskedLM",
        _DEBERTA,
        # [MASK] is the tokenizer's own, and the embeddings have rows to spare.
        pieces(
            "spm.model",
            20,
            **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
            **{"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
        ),
        {"do_lower_case": False, "vocab_type": "spm"},
    ),
)

RELATIVES = tuple(family for family in FAMILIES if not family.name.startswith("deberta"))
"""The families that compute no padding."""
