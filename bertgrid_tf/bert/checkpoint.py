"""A checkpoint (hub id, folder, or `scratch`) ▶ one built TensorFlow classifier and its tokenizer."""

import hashlib
import logging
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import transformers
from safetensors import SafetensorError
from safetensors.numpy import save_file
from transformers import (
    AddedToken,
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    BertTokenizerFast,
    TFBertForSequenceClassification,
)
from transformers import TFAutoModelForSequenceClassification as TFAutoClassifier
from transformers.modeling_tf_pytorch_utils import apply_transpose, convert_tf_weight_name_to_pt_weight_name

from bertgrid_tf.errors import UserError
from bertgrid_tf.system.container import LOCAL_ERRORS, check_writable

transformers.logging.set_verbosity_error()
logging.getLogger("tensorflow").setLevel(logging.ERROR)

SCRATCH = re.compile(r"scratch(?::(?P<layers>\d+)x(?P<width>\d+))?")
SCRATCH_VOCABULARY = 8_000
SCRATCH_ALPHABET = 3_000
HEAD_WIDTH = 32
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "tf_model.h5", "tf_model.h5.index.json")
VOCABULARY_FILES = ("vocab.txt", "tokenizer.json", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass
class Checkpoint:
    """A classifier that is built once and can be put back to its beginning any number of times.

    `initial` holds the value of every variable as loaded; those at the indices `fresh` stand in no file
    (the classifier's head; with `scratch` everything) and are drawn anew by `reset` from its seed.
    """

    name: str
    tokenizer: transformers.PreTrainedTokenizerFast
    model: transformers.TFPreTrainedModel
    initial: list[np.ndarray]
    fresh: frozenset[int]

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names in the order of their ids."""
        return tuple(self.model.config.id2label[i] for i in range(self.model.config.num_labels))

    def reset(self, seed: int) -> None:
        """Gives every variable its initial value; draws the fresh ones from `seed`, as BERT does:
        kernels and embeddings from N(0, initializer_range²) cut off at two deviations, biases 0, LayerNorm scales 1."""
        random = np.random.default_rng(seed)
        for index, (variable, value) in enumerate(zip(self.model.variables, self.initial, strict=True)):
            variable.assign(_drawn(variable, self.model.config, random) if index in self.fresh else value)

    def logits(self, ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """The model's own forward pass.

        Args:
            ids: token ids, int32 [batch, length].
            types: token types, int32 [batch, length].
            mask: 1 on tokens, 0 on padding, int32 [batch, length].
            training: whether dropout is on.

        Returns:
            float32 [batch, classes].
        """
        inputs = {"input_ids": ids, "attention_mask": mask}
        # DistilBERT has no token types; RoBERTa's has one, whatever the tokenizer says.
        if "token_type_ids" in signature(self.model.call).parameters:
            single = getattr(self.model.config, "type_vocab_size", 2) < 2
            inputs["token_type_ids"] = tf.zeros_like(types) if single else types
        return self.model(inputs, training=training).logits

    def save(self, folder: Path) -> None:
        """Writes model, tokenizer and label names so that plain transformers loads them, in TensorFlow and PyTorch.

        The folder appears whole or not at all, and only after the written model was loaded again and gave the
        same logits. Raises UserError where it cannot be written.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            self.tokenizer.save_pretrained(part)
            # A config from a hub names what was pretrained, one of `scratch` nothing; servers pick the class by it.
            self.model.config.architectures = [type(self.model).__name__.removeprefix("TF")]
            self.model.config.save_pretrained(part)
            save_file(_pytorch_weights(self.model), part / "model.safetensors", metadata={"format": "pt"})
            self._check_saved(part)
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise UserError(f"Cannot write the model to {folder}: {error.strerror or error}.") from error

    def _check_saved(self, folder: Path) -> None:
        """Raises RuntimeError where the saved model misses weights or its logits differ."""
        again = load(str(folder), self.labels)
        if again.fresh:
            raise RuntimeError(f"The model saved in {folder} misses {len(again.fresh)} of its own weights")
        pairs = zip(self.model.variables, again.initial, strict=True)
        if not all(np.array_equal(variable, value) for variable, value in pairs):
            raise RuntimeError(f"The model saved in {folder} has other weights than the one in memory")
        ids = tf.constant([[self.tokenizer.cls_token_id, self.tokenizer.sep_token_id]], tf.int32)
        inputs = (ids, tf.zeros_like(ids), tf.ones_like(ids))
        mine, theirs = self.logits(*inputs, training=False), again.logits(*inputs, training=False)
        if not np.allclose(mine, theirs, atol=1e-3):
            raise RuntimeError(f"The model saved in {folder} gives other logits than the one in memory")


def load(name: str, labels: Sequence[str], *, texts: Iterable[str] = (), markers: Sequence[str] = ()) -> Checkpoint:
    """Loads a checkpoint as a classifier into `labels`.

    Args:
        name: a folder, a hub id, or `scratch[:LAYERSxWIDTH]` (default 2x128), whose WordPiece vocabulary is
            trained on `texts` and whose weights are all drawn by `Checkpoint.reset`.
        labels: class names in the order of their ids.
        texts: the training texts; read only by `scratch`.
        markers: literal strings that become one token each; their embeddings begin as the
            mean of their pieces'.

    Raises:
        UserError: the folder lacks config, weights or vocabulary; the hub cannot be reached or knows no such
            model; the architecture has no TensorFlow classifier.
    """
    tokenizer = load_tokenizer(name, texts)
    scratch = SCRATCH.fullmatch(name)
    model, fresh = _scratch(scratch, labels, tokenizer) if scratch else _from_folder(_folder(name), labels, tokenizer)
    if markers:
        _add_markers(tokenizer, model, markers)
    initial = [variable.numpy() for variable in model.variables]
    return Checkpoint(name, tokenizer, model, initial, fresh)


def load_tokenizer(name: str, texts: Iterable[str] = (), markers: Sequence[str] = ()) -> Any:
    """The fast tokenizer of a checkpoint; arguments and errors as for `load`."""
    if SCRATCH.fullmatch(name):
        tokenizer: Any = train_tokenizer(texts)
    else:
        folder = _folder(name)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True)
        except Exception as error:  # for a damaged file the tokenizers library raises nothing narrower
            raise UserError(f"The vocabulary of checkpoint {folder} cannot be read: {_first_line(error)}") from error
    _add_tokens(tokenizer, markers)
    tokenizer.model_max_length = int(1e9)  # bert.encode cuts the texts; the tokenizer need not warn of their length
    return tokenizer


def positions(name: str) -> int:
    """How many tokens a checkpoint's position embeddings reach, special ones included, read off its config alone;
    errors as for `load`."""
    if scratch := SCRATCH.fullmatch(name):
        _scratch_size(scratch)
        return int(BertConfig().max_position_embeddings)
    config = _config(_folder(name))
    # RoBERTa counts its positions from padding_idx + 1.
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return int(config.max_position_embeddings) - offset


def architecture(name: str) -> str:
    """What transformers calls a checkpoint's type, "bert" or "roberta", read off its config; errors as for `load`."""
    return "bert" if SCRATCH.fullmatch(name) else str(_config(_folder(name)).model_type)


def identity(name: str) -> str:
    """A hash of a checkpoint's config and weights (`scratch` is what it is called); errors as for `load`."""
    if SCRATCH.fullmatch(name):
        return name
    folder = _folder(name)
    digest = hashlib.sha256()
    for file in sorted({"config.json", *WEIGHT_FILES} & {path.name for path in folder.iterdir()}):
        with (folder / file).open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def _config(folder: Path, **overrides: Any) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, **overrides)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"Checkpoint {folder} cannot be read: {_first_line(error)}") from error


def _folder(name: str) -> Path:
    """The folder of a checkpoint that is not `scratch`, with all that is needed in it."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(name)
    _check_complete(folder)
    return folder


def cached(name: str) -> Path | None:
    """The folder of a checkpoint as far as it is on this machine: as itself, or complete in the hub's local cache.

    None for a hub model that must be downloaded first, and for `scratch`. Raises UserError for a folder that is not
    there or is no checkpoint.
    """
    from huggingface_hub import errors, snapshot_download

    if SCRATCH.fullmatch(name):
        return None
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_complete(folder)
        return folder
    _refuse_path(name)
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        _check_complete(folder)
    except errors.HFValidationError as error:
        raise _no_name(name) from error
    except (errors.LocalEntryNotFoundError, UserError):
        return None
    return folder


def _check_complete(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a checkpoint: it has no config.json.")
    if not any((folder / file).is_file() for file in WEIGHT_FILES):
        hint = " (pytorch_model.bin alone cannot be read)" if (folder / "pytorch_model.bin").exists() else ""
        raise UserError(f"Checkpoint {folder} has no weights{hint}: put model.safetensors or tf_model.h5 there.")
    if not any((folder / file).is_file() for file in VOCABULARY_FILES):
        raise UserError(f"Checkpoint {folder} has no vocabulary: put vocab.txt or tokenizer.json there.")


def _refuse_path(name: str) -> None:
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"There is no checkpoint folder {name}.")


def _no_name(name: str) -> UserError:
    return UserError(f"{name!r} is neither a folder nor a model's name on the hub.")


def _from_folder(folder: Path, labels: Sequence[str], tokenizer: Any) -> tuple[Any, frozenset[int]]:
    names = dict(enumerate(labels))
    config = _config(folder, num_labels=len(labels), id2label=names, label2id={label: i for i, label in names.items()})
    classifier = TFBertForSequenceClassification if config.model_type == "bert" else TFAutoClassifier
    try:
        model, info = classifier.from_pretrained(
            folder, config=config, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            raise UserError(
                f"Checkpoint {folder} is of type {config.model_type!r}, for which transformers has no TensorFlow "
                "classifier; use a BERT, RoBERTa or ELECTRA checkpoint."
            ) from error
        raise
    except (OSError, SafetensorError) as error:
        raise UserError(f"The weights of checkpoint {folder} cannot be read: {_first_line(error)}") from error
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"Checkpoint {folder} does not fit together: its vocabulary has {tokenizer.vocab_size} pieces, its "
            f"embeddings {config.vocab_size}."
        )
    return model, _fresh_variables(folder, model, info)


def _fresh_variables(folder: Path, model: Any, info: dict[str, Any]) -> frozenset[int]:
    """Indices of the variables that the files do not hold: the head's, and of a bare encoder the pooler's.

    Raises UserError where anything of the encoder itself is missing: from_pretrained only warns, and the model
    would be trained from random weights.
    """
    # Named as PyTorch names them, as TensorFlow does, or (for .h5) by the layer alone.
    missing = {key.split(":")[0] for key in info["missing_keys"]}
    missing |= {key.split(":")[0] for key, *_ in info["mismatched_keys"]}
    fresh = []
    for index, variable in enumerate(model.variables):
        name, _ = _pytorch_name(variable)
        layers = list(accumulate(variable.name.split(":")[0].split("/")[1:], "{}/{}".format))
        if missing.intersection((name, *layers)):
            fresh.append(index)
            if name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name:
                raise UserError(
                    f"Checkpoint {folder} lacks weights of its encoder ({name} and perhaps others): it was saved by "
                    "another architecture or incompletely."
                )
    return frozenset(fresh)


def _from_hub(name: str) -> Path:
    """The folder of a hub model in the local cache, downloaded where it is not there yet."""
    from huggingface_hub import errors, snapshot_download

    _refuse_path(name)
    wanted = ["*.json", "*.txt", "*.model", "model*.safetensors"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
        if not any((folder / file).exists() for file in WEIGHT_FILES):
            folder = Path(snapshot_download(name, allow_patterns=[*wanted, "tf_model*.h5"]))
    except errors.HFValidationError as error:
        raise _no_name(name) from error
    except errors.GatedRepoError as error:
        raise UserError(f"{name} is gated on the hub: ask for access there and set HF_TOKEN.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{name} is neither a folder here nor a (public) model on the hub.") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError, RuntimeError) as error:
        raise UserError(_not_downloaded(name, error)) from error
    return folder


def _not_downloaded(name: str, error: Exception) -> str:
    """Whether it was the hub or this machine that kept a hub model from the local cache, and what to do."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno in LOCAL_ERRORS):
        if found := check_writable(cache, volume=cache.parent):
            what = f"Checkpoint {name} must be downloaded, but the cache"
            return found.sentence(what, "set HF_HOME to another folder")
        place, why = error.filename or cache, error.strerror or _first_line(error)
        return f"Checkpoint {name} cannot be stored in {place} ({why}): mend that, or set HF_HOME to another folder."
    if isinstance(error, RuntimeError):  # of the hub's faster protocol, which tells no more than its sentence
        return f"Checkpoint {name} cannot be downloaded: {_first_line(error)}"
    return (
        f"Checkpoint {name} is not in the local cache and the hub cannot be reached: connect, or give --model a "
        "folder with config.json, vocab.txt and model.safetensors."
    )


def _scratch_size(spec: re.Match[str]) -> tuple[int, int]:
    """Layers and width."""
    layers, width = int(spec["layers"] or 2), int(spec["width"] or 128)
    if layers < 1 or width < HEAD_WIDTH or width % HEAD_WIDTH:
        raise UserError(
            f"Model {spec[0]!r}: scratch:LAYERSxWIDTH takes at least 1 layer and a multiple of {HEAD_WIDTH} as width."
        )
    return layers, width


def _scratch(spec: re.Match[str], labels: Sequence[str], tokenizer: Any) -> tuple[Any, frozenset[int]]:
    layers, width = _scratch_size(spec)
    names = dict(enumerate(labels))
    config = BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        intermediate_size=4 * width,
        pad_token_id=tokenizer.pad_token_id,
        # LeCun's 1/√width. BERT's own 0.02 keeps narrow models at the majority class for epochs.
        initializer_range=width**-0.5,
        num_labels=len(labels),
        id2label=names,
        label2id={label: i for i, label in names.items()},
    )
    model = TFBertForSequenceClassification(config)
    # Called rather than built: variables of model.build() lack the prefix by which from_pretrained finds them.
    model(model.dummy_inputs)
    return model, frozenset(range(len(model.variables)))


def train_tokenizer(texts: Iterable[str]) -> BertTokenizerFast:
    """A lower-casing WordPiece tokenizer trained on `texts`; the same texts give the same vocabulary in every process.

    Raises UserError where the texts hold no character.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    # Accents are kept, since stripping them would break Hangul syllables into their letters.
    normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    lines = [normalizer.normalize_str(text) for text in texts]
    characters = Counter(character for line in lines for character in line if not character.isspace())
    alphabet = sorted(sorted(characters), key=lambda c: -characters[c])[:SCRATCH_ALPHABET]
    if not alphabet:
        raise UserError("The training split holds no text to train a vocabulary on.")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers single characters in the random order of its hash table, and breaks ties by number;
    # naming them all beforehand is what makes it repeatable.
    characters_first = [*SPECIAL_TOKENS, *alphabet, *(f"##{character}" for character in alphabet)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=max(SCRATCH_VOCABULARY, len(characters_first)),
        min_frequency=2,
        special_tokens=characters_first,
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda piece: piece[1])
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocab.txt"
        vocabulary.write_text("".join(f"{piece}\n" for piece, _ in pieces), encoding="utf-8")
        return BertTokenizerFast(str(vocabulary), do_lower_case=True, strip_accents=False)


def _add_tokens(tokenizer: Any, markers: Sequence[str]) -> None:
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in markers])


def _add_markers(tokenizer: Any, model: Any, markers: Sequence[str]) -> None:
    pieces = [tokenizer(marker, add_special_tokens=False)["input_ids"] for marker in markers]
    embeddings = model.get_input_embeddings().weight.numpy()
    _add_tokens(tokenizer, markers)
    model.resize_token_embeddings(len(tokenizer))
    table = model.get_input_embeddings().weight
    grown = table.numpy()
    for marker, ids in zip(markers, pieces, strict=True):
        grown[tokenizer.convert_tokens_to_ids(marker)] = embeddings[ids].mean(axis=0)
    table.assign(grown)


def _drawn(variable: tf.Variable, config: Any, random: np.random.Generator) -> np.ndarray:
    name = variable.name.split("/")[-1].split(":")[0]
    if name == "gamma":
        return np.ones(variable.shape, np.float32)
    if name in ("bias", "beta"):
        return np.zeros(variable.shape, np.float32)
    draw = random.standard_normal(variable.shape, np.float32)
    while (outside := np.abs(draw) > 2).any():
        draw[outside] = random.standard_normal(int(outside.sum()), np.float32)
    return draw * np.float32(config.initializer_range)


def _pytorch_name(variable: tf.Variable) -> tuple[str, Any]:
    return convert_tf_weight_name_to_pt_weight_name(variable.name, tf_weight_shape=variable.shape)


def _pytorch_weights(model: Any) -> dict[str, np.ndarray]:
    """The weights under PyTorch's names and in its layout, which both frameworks' `from_pretrained` reads
    (transformers' own TensorFlow `.safetensors` are read by TensorFlow alone)."""
    weights = {}
    for variable in model.variables:
        name, transpose = _pytorch_name(variable)
        weights[name] = np.ascontiguousarray(apply_transpose(transpose, variable.numpy()))
    return weights


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
