"""The tokenizer of a checkpoint, and what its vocabulary alone decides. Nothing here imports TensorFlow."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import transformers
from tokenizers.models import WordPiece
from transformers import AddedToken, AutoTokenizer

from bertgrid_tf.bert.checkpoint_config import first_line, read_json
from bertgrid_tf.bert.checkpoint_files import described_folder, own_code, read_config, without_fast
from bertgrid_tf.bert.scratch import SCRATCH, train_tokenizer
from bertgrid_tf.errors import UserError

transformers.logging.set_verbosity_error()

LARGEST_GROWTH = 1.5
"""Beyond this ratio of tokens to rows of the embeddings, the vocabulary is another model's or a part."""
_FEW = 1_000
"""Tokens of which a vocabulary and a model may differ whatever their ratio: characters, special tokens, spare rows."""
# No word of an uncased vocabulary has a capital letter or an accent, unless by oversight; of a cased one, many have.
_CASED_SHARE = 0.05
_ACCENTED_SHARE = 0.005


def load_tokenizer(name: str, texts: Iterable[str] = (), markers: Sequence[str] = ()) -> Any:
    """Load the fast tokenizer of a checkpoint; of a hub model, no weights are downloaded.

    Args:
        name: As for `checkpoint.load`.
        texts: The training texts; read only for `scratch`.
        markers: Strings that become one token each.

    Raises:
        UserError: As for `checkpoint_files.complete_folder`; or the vocabulary cannot be read.
    """
    tokenizer = train_tokenizer(texts) if SCRATCH.fullmatch(name) else _load(name, described_folder(name))[0]
    add_tokens(tokenizer, markers)
    tokenizer.model_max_length = int(1e9)  # bert.encode truncates; the tokenizer need not warn of long texts.
    return tokenizer


def add_tokens(tokenizer: Any, markers: Sequence[str]) -> None:
    """Add strings to a tokenizer that become one token each."""
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in markers])


def token_count(tokenizer: Any) -> int:
    """Return the rows of embeddings that a tokenizer needs: one more than its highest id."""
    return max(tokenizer.get_vocab().values()) + 1


def checkpoint_notes(name: str) -> list[str]:
    """Return a sentence for everything that a checkpoint leaves open and that was decided here."""
    if SCRATCH.fullmatch(name):
        return []
    folder = described_folder(name)
    tokenizer, note = _load(name, folder)
    notes = [note] if note else []
    tokens, rows = token_count(tokenizer), read_config(folder).vocab_size
    if tokens > rows:
        notes.append(
            f"The vocabulary of {name} has {tokens:,} tokens and its embeddings {rows:,} rows: {tokens - rows:,} rows "
            "are added, which begin as the mean of the others."
        )
    return notes


def _load(name: str, folder: Path) -> tuple[Any, str | None]:
    """Load the tokenizer of a folder; the sentence about its case, where that was inferred."""
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        options, note = _case(name, folder, tokenizer)
        if options:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
        tokens, rows = token_count(tokenizer), read_config(folder).vocab_size
        tokenizer("龘")  # raises where the vocabulary has no token for characters that it lacks
    # For a damaged file, the tokenizers library raises nothing narrower, and of a panic in Rust not even an Exception.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"The vocabulary of checkpoint {name} cannot be read: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise without_fast(name, type(tokenizer))
    if absent := [role for role in ("cls_token", "sep_token", "pad_token") if getattr(tokenizer, role) is None]:
        raise UserError(
            f"The tokenizer of checkpoint {name} has no {absent[0]}: name one in its tokenizer_config.json."
        )
    if not rows / LARGEST_GROWTH - _FEW <= tokens <= rows * LARGEST_GROWTH:
        raise UserError(
            f"Checkpoint {name} does not fit together: its vocabulary has {tokens:,} tokens, its embeddings {rows:,} "
            "rows."
        )
    merges = folder / "merges.txt"
    if merges.is_file() and not (folder / "tokenizer.json").is_file():
        # Every token but characters and special ones is made by a merge.
        count = len(merges.read_bytes().splitlines())
        if tokens > 2 * count + _FEW:
            raise UserError(f"{merges} is damaged: it has {count:,} lines, for {tokens:,} tokens; restore it.")
    pieces = tokenizer.get_vocab()
    if isinstance(tokenizer.backend_tokenizer.model, WordPiece) and (
        sum(piece.startswith("▁") for piece in pieces) > len(pieces) / 100
    ):
        raise own_code(name, "its vocab.txt is that of a SentencePiece model")
    return tokenizer, note


def _case(name: str, folder: Path, tokenizer: Any) -> tuple[dict[str, bool], str | None]:
    """Infer the options of case and accents that tokenizer_config.json leaves open, where the default is lower case.

    Returns:
        Arguments of the tokenizer, and a sentence about them where the vocabulary decided.
    """
    if "do_lower_case" in read_json(folder / "tokenizer_config.json") or not getattr(tokenizer, "do_lower_case", False):
        return {}, None
    if (folder / "tokenizer.json").is_file():
        normalizer = read_json(folder / "tokenizer.json").get("normalizer") or {}
        # The tokenizer's own arguments, which have defaults, would override what the file states.
        names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents"}
        return {argument: normalizer[key] for key, argument in names.items() if key in normalizer}, None
    pieces = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    words = [piece.lstrip("▁") for piece in pieces if not piece.startswith(("##", "["))]
    letters = [word for word in words if word.lower() != word.upper()]
    capitals = sum(word != word.lower() for word in letters) / max(len(letters), 1)
    accented = sum(unicodedata.normalize("NFD", word) != word for word in words) / max(len(words), 1)
    cased, keep = capitals > _CASED_SHARE, accented > _ACCENTED_SHARE
    # ALBERT strips accents from cased texts too.
    accents = (
        {"keep_accents": keep} if hasattr(tokenizer, "keep_accents") else {} if cased else {"strip_accents": not keep}
    )
    done = "keep their case" if cased else f"are lower-cased, and {'keep' if keep else 'lose'} their accents"
    return {"do_lower_case": not cased} | accents, (
        f"{name} leaves open whether its vocabulary is cased (no do_lower_case in tokenizer_config.json): "
        f"{capitals:.0%} of its words have capital letters, so texts {done}."
    )
