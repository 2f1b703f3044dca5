"""Texts ▶ token ids, once for each layout."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Truncation

# Above this share of [UNK] pieces, the vocabulary is of another language or script than the texts.
UNKNOWN_LIMIT = 0.5

CHUNK = 8_192
"""Texts that are tokenised at a time; encoded texts beyond as many lie on disk."""

Item = TypeVar("Item")
Segmented = tuple[tuple[str, ...], int | None]
"""The segments of a text and the index of its focus; None where none is context, as in a pair."""


@dataclass(frozen=True)
class EncodedTexts:
    """The token ids of n inputs in one array without padding: input i is `ids[starts[i]:starts[i + 1]]`.

    An input is a text, or one of a text's windows.

    The arrays of tokens may be maps of files without a name, which are gone with the arrays or the process.

    Attributes:
        ids: Token ids, special tokens included, int32 [tokens].
        types: Token types, int32 [tokens].
        starts: Index of each input's first token, and the number of tokens, int64 [n + 1].
        full_lengths: Tokens of each input's text before truncation, int64 [n].
        pad_id: Token id of padding.
        windows: Inputs of each text, which are neighbours, int64 [texts]; None where each is a text.
    """

    ids: np.ndarray
    types: np.ndarray
    starts: np.ndarray
    full_lengths: np.ndarray
    pad_id: int
    windows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each input, int64 [n]."""
        return np.diff(self.starts)

    def take(self, indices: np.ndarray) -> "EncodedTexts":
        """Take the inputs at `indices` (int64 [m], repeats allowed), in that order, each as a text."""
        lengths = self.starts[indices + 1] - self.starts[indices]
        where, starts = _runs(self.starts[indices], lengths), np.concatenate([[0], np.cumsum(lengths)])
        return EncodedTexts(self.ids[where], self.types[where], starts, self.full_lengths[indices], self.pad_id)

    def select(self, indices: np.ndarray) -> "EncodedTexts":
        """Take texts, with all of their windows; of any number of them: many are written to disk."""
        if np.array_equal(indices, np.arange(len(self) if self.windows is None else len(self.windows))):
            return self
        windows = None
        if self.windows is not None:
            firsts, windows = np.cumsum(self.windows) - self.windows, self.windows[indices]
            indices = _runs(firsts[indices], windows)
        taken = joined(self.take(indices[start : start + CHUNK]) for start in range(0, len(indices), CHUNK))
        return replace(taken, windows=windows)

    def mean_of_texts(self, rows: np.ndarray) -> np.ndarray:
        """Average rows of the inputs, float32 [n, …], over the windows of each text: float32 [texts, …]."""
        if self.windows is None:
            return rows
        sums = np.add.reduceat(rows, np.cumsum(self.windows) - self.windows)
        return (sums / self.windows[:, None]).astype(np.float32)


def _runs(firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the indices of runs, one after another, by their first index and their length."""
    return np.repeat(firsts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())


@dataclass(frozen=True)
class EncodedDataset:
    """Encoded texts with labels and optional target distributions.

    Attributes:
        texts: The texts. Those to train on are its inputs, each with a label of its own; a prediction is a text's.
        labels: Label ids, int32 [texts].
        targets: The weight of each class's −log p in a text's loss (`bert.loss`), float32 [texts, classes]; None for 1
            at the label and 0 elsewhere. The loss of a batch is the mean over its texts, whatever the targets sum to.
    """

    texts: EncodedTexts
    labels: np.ndarray
    targets: np.ndarray | None = None


def encode(
    tokenizer: Any,
    texts: Iterable[Segmented],
    max_length: int,
    pieces: Mapping[str, list[int]] | None = None,
    truncation: Truncation = "head",
) -> EncodedTexts:
    """Encode texts of one or more segments as `[CLS] s0 [SEP] s1 [SEP] …`, with the tokenizer's own special tokens.

    Where a text is longer than `max_length`, tokens are removed one at a time from the end of the longest segment
    beside the focus, and from the focus only when no other is left. A pair without focus is truncated as transformers'
    `longest_first` does. The token types of the first segment are 0, and tell the focus from its context: where the
    first segment is context, the focus has type 1; else the context has, and so has a pair's second text.

    Args:
        tokenizer: A fast tokenizer.
        texts: Segments of each text and the index of its focus.
        max_length: Most tokens of a text, special tokens included.
        pieces: The ids of segments that have been tokenised already (`tokenized`).
        truncation: What is kept of a focus that is too long: its beginning, or a quarter of its beginning and the rest
            of its end (Sun et al. 2019, arXiv 1905.05583). With "windows", it has an input for every window. Windows
            overlap by half, so that every token but those at the ends stands in one of them with a quarter of a window
            around it on both sides; the last one is moved back to where it is full. The longer text of a pair is its
            focus then.

    Raises:
        UserError: `max_length` leaves no room for a token, or the disk none for the tokens of many texts.
    """
    return joined(_encoded_chunks(tokenizer, texts, max_length, pieces or {}, truncation))


def joined(parts: Iterable[EncodedTexts]) -> EncodedTexts:
    """Join encoded texts; the tokens of several parts are written to disk, and mapped into memory as they are read.

    Raises:
        UserError: There is no text, or no room on the disk.
    """
    parts = iter(parts)
    first, second = next(parts, None), next(parts, None)
    if first is None:
        raise UserError("There is no text to encode.")
    if second is None:
        return first
    lengths, full_lengths, windows = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
            for part in chain((first, second), parts):
                for file, tokens in zip(files, (part.ids, part.types), strict=True):
                    file.write(tokens.tobytes())
                lengths.append(part.lengths)
                full_lengths.append(part.full_lengths)
                windows += [] if part.windows is None else [part.windows]
            for file in files:
                file.flush()
            ids, types = (np.memmap(file, np.int32, "r") for file in files)
    except OSError as error:
        raise UserError(
            f"The encoded texts cannot be written to {tempfile.gettempdir()} ({error.strerror or error}): make room "
            "there, or name a folder of another disk in TMPDIR."
        ) from error
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    of_texts = np.concatenate(windows) if windows else None
    return EncodedTexts(ids, types, starts, np.concatenate(full_lengths), first.pad_id, of_texts)


def full_lengths(tokenizer: Any, texts: Iterable[Segmented]) -> np.ndarray:
    """Count the tokens of texts before truncation, special tokens included, int64 [n]."""
    prefix, between, suffix = map(len, _special_ids(tokenizer))
    return np.array(
        [
            prefix + suffix + between * (len(segments) - 1) + sum(len(pieces[segment]) for segment in segments)
            for chunk in chunks(texts)
            for pieces in [tokenized(tokenizer, (segment for segments, _ in chunk for segment in segments))]
            for segments, _ in chunk
        ],
        np.int64,
    )


def tokenized(tokenizer: Any, texts: Iterable[str]) -> dict[str, list[int]]:
    """Tokenise texts without special tokens: the ids of each different one."""
    backend = tokenizer.backend_tokenizer
    # Files of tokenizers may ask for either.
    backend.no_truncation()
    backend.no_padding()
    distinct = list(dict.fromkeys(texts))
    encodings = backend.encode_batch_fast(distinct, add_special_tokens=False)
    return {text: encoding.ids for text, encoding in zip(distinct, encodings, strict=True)}


def chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield the items in lists of `CHUNK`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _encoded_chunks(
    tokenizer: Any,
    texts: Iterable[Segmented],
    max_length: int,
    known: Mapping[str, list[int]],
    truncation: Truncation,
) -> Iterator[EncodedTexts]:
    prefix, between, suffix = _special_ids(tokenizer)
    two_types = any(tokenizer("a", "b", return_token_type_ids=True)["token_type_ids"])
    for chunk in chunks(texts):
        check_room(tokenizer, max(len(segments) for segments, _ in chunk), max_length)
        needed = dict.fromkeys(segment for segments, _ in chunk for segment in segments)
        new = tokenized(tokenizer, [segment for segment in needed if segment not in known])
        pieces = {segment: new[segment] if segment in new else known[segment] for segment in needed}
        ids: list[int] = []
        types: list[int] = []
        starts, lengths, windows = [0], [], []
        for segments, focus in chunk:
            whole = [pieces[segment] for segment in segments]
            special = len(prefix) + len(suffix) + len(between) * (len(whole) - 1)
            length = special + sum(map(len, whole))
            inputs = [whole] if length <= max_length else _truncated(whole, focus, max_length - special, truncation)
            for parts in inputs:
                for position, part in enumerate(parts):
                    opening = prefix if position == 0 else []
                    closing = suffix if position == len(parts) - 1 else between
                    ids += opening + part + closing
                    kind = int(two_types and (position == (focus or 0)) != (not focus))
                    types += [kind] * (len(opening) + len(part) + len(closing))
                starts.append(len(ids))
            lengths += [length] * len(inputs)
            windows.append(len(inputs))
        arrays = np.array(ids, np.int32), np.array(types, np.int32), np.array(starts), np.array(lengths)
        yield EncodedTexts(*arrays, tokenizer.pad_token_id, np.array(windows) if truncation == "windows" else None)


def _truncated(
    parts: Sequence[list[int]], focus: int | None, room: int, truncation: Truncation
) -> list[list[list[int]]]:
    """Return the segments' ids within `room` tokens, for every input that they make."""
    kept = truncated_lengths([len(part) for part in parts], focus, room)
    heads = [part[:keep] for part, keep in zip(parts, kept, strict=True)]
    if truncation == "head+tail":
        for place in range(len(parts)) if focus is None else (focus,):
            head, part = kept[place] // 4, parts[place]
            heads[place] = part[:head] + part[len(part) - kept[place] + head :]
    if truncation != "windows":
        return [heads]
    place = max(range(len(parts)), key=lambda at: len(parts[at])) if focus is None else focus
    size, long = kept[place], parts[place]
    begins = [*range(0, len(long) - size, max(size // 2, 1)), len(long) - size]
    return [[*heads[:place], long[begin : begin + size], *heads[place + 1 :]] for begin in begins]


def check_room(tokenizer: Any, segments: int, max_length: int) -> None:
    """Raise UserError where `max_length` leaves no room for a token beside the special tokens of `segments`."""
    prefix, between, suffix = _special_ids(tokenizer)
    special = len(prefix) + len(between) * (segments - 1) + len(suffix)
    if max_length <= special:
        raise UserError(f"max_length {max_length} leaves no room beside the {special} special tokens of an input.")


def truncated_lengths(lengths: Sequence[int], focus: int | None, room: int) -> list[int]:
    """Return the tokens that each segment keeps of at most `room` (≥ 0) in all; the focus is truncated last.

    Without focus, the longer of two segments is truncated first, as by transformers' `longest_first`.

    Example:
        >>> truncated_lengths([5, 4, 2], focus=1, room=7), truncated_lengths([9, 4], focus=None, room=7)
        ([1, 4, 2], [4, 3])
    """
    if focus is None:
        shorter = min(*lengths, room // 2)
        longer = min(max(lengths), room - shorter)
        return [shorter, longer] if lengths[0] <= lengths[1] else [longer, shorter]
    kept = list(lengths)
    excess = sum(kept) - room
    others = [i for i in range(len(kept)) if i != focus]
    while excess > 0 and any(kept[i] for i in others):
        longest = max(others, key=lambda i: kept[i])
        kept[longest] -= 1
        excess -= 1
    kept[focus] -= max(excess, 0)
    return kept


def check_vocabulary(tokenizer: Any, name: str, texts: Iterable[str]) -> None:
    """Raise UserError where the vocabulary of the checkpoint `name` has less than half of the texts' pieces."""
    coverage = Coverage(tokenizer, name)
    coverage.add(texts)
    coverage.check()


@dataclass
class Coverage:
    """Counts how much of texts a vocabulary knows.

    Attributes:
        tokenizer: The tokenizer of the checkpoint.
        name: The name of the checkpoint, for messages.
        texts: Number of texts.
        pieces: Pieces of the texts.
        unknown_pieces: Pieces that the vocabulary lacks.
        unknown_texts: Texts that have pieces, all of which the vocabulary lacks.
        examples: The first few of `unknown_texts`.
    """

    tokenizer: Any
    name: str
    texts: int = 0
    pieces: int = 0
    unknown_pieces: int = 0
    unknown_texts: int = 0
    examples: tuple[str, ...] = ()

    def add(self, texts: Iterable[str], worded_only: bool = False) -> dict[str, list[int]]:
        """Count texts, and return the ids of their pieces.

        With `worded_only`, the pieces of texts without a letter are not counted: emoji and numbers alone are of no
        language, so that the vocabulary is not that of another one.
        """
        pieces, unknown = dict[str, list[int]](), self.tokenizer.unk_token_id
        for chunk in chunks(texts):
            ids_of = tokenized(self.tokenizer, chunk)
            pieces |= ids_of
            self.texts += len(chunk)
            for text in chunk:
                ids = ids_of[text]
                lacking = ids.count(unknown)
                if not worded_only or any(map(str.isalpha, text)):
                    self.pieces += len(ids)
                    self.unknown_pieces += lacking
                if lacking and lacking == len(ids):
                    self.unknown_texts += 1
                    self.examples = (*self.examples, text)[:3]
        return pieces

    def remarks(self) -> list[str]:
        """Return a sentence about the texts whose labels are guesses, since the vocabulary has none of their pieces."""
        if not self.unknown_texts:
            return []
        examples = ", ".join(repr(text[:20]) for text in self.examples)
        return [
            f"The vocabulary has nothing of {self.unknown_texts:,} of the {self.texts:,} texts, as {examples}: their "
            "labels are guesses."
        ]

    @property
    def fits(self) -> bool:
        """Whether the vocabulary has at least half of the pieces."""
        return self.unknown_pieces <= UNKNOWN_LIMIT * self.pieces

    def check(self) -> None:
        """Raise UserError unless the vocabulary fits."""
        if not self.fits:
            raise UserError(
                f"The vocabulary of {self.name} does not know these texts: {self.unknown_pieces / self.pieces:.0%} of "
                f"their pieces are {self.tokenizer.unk_token}; choose a checkpoint of the texts' language."
            )


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
