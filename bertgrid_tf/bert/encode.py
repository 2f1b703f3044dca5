"""Texts ▶ token ids, once for each layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertgrid_tf.errors import UserError

# Above this share of [UNK] pieces, the vocabulary is of another language or script than the texts.
UNKNOWN_LIMIT = 0.5


@dataclass(frozen=True)
class EncodedTexts:
    """The token ids of n texts in one array without padding: text i is `ids[starts[i]:starts[i + 1]]`.

    Attributes:
        ids: Token ids, special tokens included, int32 [tokens].
        types: Token types, int32 [tokens].
        starts: Index of each text's first token, and the number of tokens, int64 [n + 1].
        full_lengths: Tokens of each text before truncation, int64 [n].
        pad_id: Token id of padding.
    """

    ids: np.ndarray
    types: np.ndarray
    starts: np.ndarray
    full_lengths: np.ndarray
    pad_id: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 [n]."""
        return np.diff(self.starts)

    def take(self, indices: np.ndarray) -> "EncodedTexts":
        """Take the texts at `indices` (int64 [m], repeats allowed), in that order."""
        lengths = self.lengths[indices]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        where = np.repeat(self.starts[indices] - starts[:-1], lengths) + np.arange(starts[-1])
        return EncodedTexts(self.ids[where], self.types[where], starts, self.full_lengths[indices], self.pad_id)


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded texts with labels and optional target distributions.

    Attributes:
        texts: The texts.
        labels: Label ids, int32 [texts].
        targets: The weight of each class's −log p in a text's loss (`bert.loss`), float32 [texts, classes]; None for 1
            at the label and 0 elsewhere. The loss of a batch is the mean over its texts, whatever the targets sum to.
    """

    texts: EncodedTexts
    labels: np.ndarray
    targets: np.ndarray | None = None


def encode(tokenizer: Any, texts: Sequence[tuple[tuple[str, ...], int]], max_length: int) -> EncodedTexts:
    """Encode texts of one or more segments as `[CLS] s0 [SEP] s1 [SEP] …`, with the tokenizer's own special tokens.

    Where a text is longer than `max_length`, tokens are removed one at a time from the end of the longest segment
    beside the focus, and from the focus only when no other is left. The token types of the first segment are 0, and
    tell the focus from its context: where the first segment is context, the focus has type 1; else the context has.

    Args:
        tokenizer: A fast tokenizer.
        texts: Segments of each text and the index of its focus.
        max_length: Most tokens of a text, special tokens included.

    Raises:
        UserError: `max_length` leaves no room for a token.
    """
    if not texts:
        raise UserError("There is no text to encode.")
    check_room(tokenizer, max(len(segments) for segments, _ in texts), max_length)
    prefix, between, suffix = _special_ids(tokenizer)
    two_types = any(tokenizer("a", "b", return_token_type_ids=True)["token_type_ids"])
    distinct = {segment: i for i, segment in enumerate(dict.fromkeys(s for segments, _ in texts for s in segments))}
    pieces = tokenizer(list(distinct), add_special_tokens=False, return_attention_mask=False)["input_ids"]

    ids: list[int] = []
    types: list[int] = []
    starts, full_lengths = [0], []
    for segments, focus in texts:
        parts = [pieces[distinct[segment]] for segment in segments]
        special = len(prefix) + len(suffix) + len(between) * (len(parts) - 1)
        full_lengths.append(special + sum(map(len, parts)))
        kept = truncated_lengths([len(part) for part in parts], focus, max_length - special)
        for position, (part, keep) in enumerate(zip(parts, kept, strict=True)):
            opening = prefix if position == 0 else []
            closing = suffix if position == len(parts) - 1 else between
            ids += opening + part[:keep] + closing
            kind = int(two_types and (position == focus) != (focus == 0))
            types += [kind] * (len(opening) + keep + len(closing))
        starts.append(len(ids))
    arrays = np.array(ids, np.int32), np.array(types, np.int32), np.array(starts), np.array(full_lengths)
    return EncodedTexts(*arrays, tokenizer.pad_token_id)


def check_room(tokenizer: Any, segments: int, max_length: int) -> None:
    """Raise UserError where `max_length` leaves no room for a token beside the special tokens of `segments`."""
    prefix, between, suffix = _special_ids(tokenizer)
    special = len(prefix) + len(between) * (segments - 1) + len(suffix)
    if max_length <= special:
        raise UserError(f"max_length {max_length} leaves no room beside the {special} special tokens of an input.")


def truncated_lengths(lengths: Sequence[int], focus: int, room: int) -> list[int]:
    """Return the tokens that each segment keeps of at most `room` (≥ 0) in all; the focus is truncated last.

    Example:
        >>> truncated_lengths([5, 4, 2], focus=1, room=7)
        [1, 4, 2]
    """
    kept = list(lengths)
    excess = sum(kept) - room
    others = [i for i in range(len(kept)) if i != focus]
    while excess > 0 and any(kept[i] for i in others):
        longest = max(others, key=lambda i: kept[i])
        kept[longest] -= 1
        excess -= 1
    kept[focus] -= max(excess, 0)
    return kept


def check_vocabulary(tokenizer: Any, name: str, texts: Sequence[str]) -> None:
    """Raise UserError where the vocabulary of the checkpoint `name` has less than half of the texts' pieces."""
    pieces = [piece for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"] for piece in ids]
    unknown = pieces.count(tokenizer.unk_token_id) / max(len(pieces), 1)
    if unknown > UNKNOWN_LIMIT:
        raise UserError(
            f"The vocabulary of {name} does not know these texts: {unknown:.0%} of their pieces are "
            f"{tokenizer.unk_token}; choose a checkpoint of the texts' language."
        )


def unknown_texts(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Return the indices of the texts that have pieces, all of which the vocabulary lacks."""
    pieces = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [index for index, ids in enumerate(pieces) if set(ids) == {tokenizer.unk_token_id}]


def _special_ids(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """Return the ids before, between and after segments, read off an encoded pair.

    BERT's is `[CLS] a [SEP] b [SEP]`, RoBERTa's `<s> a </s></s> b </s>`.
    """
    pair = tokenizer("a", "b")
    ids, sides = pair["input_ids"], pair.sequence_ids()
    first, last = sides.index(0), len(sides) - 1 - sides[::-1].index(1)
    between = [token for token, side in zip(ids[first:last], sides[first:last], strict=True) if side is None]
    if not (first and between):
        raise UserError(
            f"The tokenizer of {tokenizer.name_or_path} sets no special tokens around texts: its tokenizer_config.json "
            "should name the tokenizer of the model's own kind."
        )
    return ids[:first], between, ids[last + 1 :]
