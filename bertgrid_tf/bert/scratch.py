"""BERTs with random weights and a vocabulary of the training texts: the checkpoints named `scratch[:LAYERSxWIDTH]`."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from transformers import BertConfig, BertTokenizerFast

from bertgrid_tf.errors import UserError

SCRATCH = re.compile(r"scratch(?::(?P<layers>\d+)x(?P<width>\d+))?")
LARGEST_VOCABULARY = 8_000
LARGEST_ALPHABET = 3_000
HEAD_WIDTH = 32
LONGEST_WORD = 100
"""Characters beyond which WordPiece makes [UNK] of a word."""
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def scratch_config(name: str) -> BertConfig | None:
    """Return the configuration that a name stands for, with the largest vocabulary; None where it is no `scratch`.

    Raises:
        UserError: There is no model of this size.

    Example:
        >>> scratch_config("scratch:3x64").num_attention_heads
        2
    """
    if not (size := SCRATCH.fullmatch(name)):
        return None
    layers, width = int(size["layers"] or 2), int(size["width"] or 128)
    if layers < 1 or width < HEAD_WIDTH or width % HEAD_WIDTH:
        raise UserError(
            f"Model {name!r}: scratch:LAYERSxWIDTH takes at least 1 layer and a multiple of {HEAD_WIDTH} as width."
        )
    return BertConfig(
        vocab_size=LARGEST_VOCABULARY,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        intermediate_size=4 * width,
        # LeCun's 1/√width. BERT's own 0.02 keeps narrow models at the majority class for epochs.
        initializer_range=width**-0.5,
    )


def train_tokenizer(texts: Iterable[str]) -> BertTokenizerFast:
    """Train a lower-casing WordPiece tokenizer; the same texts give the same vocabulary in every process.

    Raises:
        UserError: The texts hold no character.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    # Accents are kept, since stripping them would break Hangul syllables into their letters.
    normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    texts, characters = list(texts), Counter[str]()
    for text in texts:
        characters.update(normalizer.normalize_str(text))
    letters = sorted(character for character in characters if not character.isspace())
    alphabet = sorted(letters, key=lambda c: -characters[c])[:LARGEST_ALPHABET]
    if not alphabet:
        raise UserError("The training split holds no text to train a vocabulary on.")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = splitter = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers single characters in the random order of its hash table, and breaks ties by number: only
    # tokens that are named beforehand have the same number every time.
    characters_first = [*SPECIAL_TOKENS, *alphabet, *(f"##{character}" for character in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(LARGEST_VOCABULARY, len(characters_first)),
        min_frequency=2,
        special_tokens=characters_first,
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        show_progress=False,
    )

    def short_words(run: re.Match[str]) -> str:
        words = (word for word, _ in splitter.pre_tokenize_str(run[0]))
        return " ".join(word for word in words if len(word) <= LONGEST_WORD)

    # Normalised twice, since the lines of millions of texts take more memory than time. No longer words: the time that
    # the trainer takes grows with the square of their length.
    normalized = (re.sub(rf"\S{{{LONGEST_WORD + 1},}}", short_words, normalizer.normalize_str(text)) for text in texts)
    tokenizer.train_from_iterator(normalized, trainer)
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda piece: piece[1])
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("".join(f"{piece}\n" for piece, _ in pieces), encoding="utf-8")
        return BertTokenizerFast(str(vocabulary), do_lower_case=True, strip_accents=False)
