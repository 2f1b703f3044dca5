"""The files of a checkpoint: a folder, or a hub model in the local cache; and what its config alone states.

Nothing here imports TensorFlow, and no code of a checkpoint is run.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.modeling_tf_auto import TF_MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from bertgrid_tf.bert.checkpoint_config import (
    LARGEST_FILE,
    check_config,
    check_tokenizer_config,
    check_weights,
    first_line,
    read_json,
    shards,
)
from bertgrid_tf.bert.scratch import SCRATCH, scratch_config
from bertgrid_tf.errors import UserError
from bertgrid_tf.system.container import LOCAL_ERRORS, check_writable

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "tf_model.h5", "tf_model.h5.index.json")
"""In the order in which transformers looks for them."""
VOCABULARY_FILES = (
    *("vocab.txt", "tokenizer.json", "vocab.json"),
    *("spm.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model"),
)
_READ = (
    *("config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("merges.txt", *VOCABULARY_FILES),
)
"""The files beside the weights that transformers reads."""
_DESCRIPTION = ("*.json", "*.txt", "*.model")
_POINTER = b"version https://git-lfs.github.com/spec/"
_ROBERTAS = ("roberta", "xlm-roberta", "camembert")


def cached(name: str) -> Path | None:
    """Return the folder of a checkpoint: a folder itself, or a complete model in the hub's local cache.

    Returns:
        None for a hub model that must be downloaded first, and for `scratch`.

    Raises:
        UserError: The folder does not exist or is no checkpoint.
    """
    from huggingface_hub import errors, snapshot_download

    if SCRATCH.fullmatch(name):
        return None
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_complete(name, folder)
        return folder
    repository, revision = split_name(name)
    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        _check_complete(name, folder)
    except (errors.LocalEntryNotFoundError, UserError):
        return None
    return folder


def complete_folder(name: str) -> Path:
    """Return the folder of a checkpoint with config, weights and vocabulary; a hub model is downloaded if it is absent.

    Args:
        name: A folder or a hub id, which may end with `@` and a revision (branch, tag or commit).

    Raises:
        UserError: The folder does not exist or lacks a part; the hub cannot be reached or has no such model; no
            TensorFlow classifier can be made of it.
    """
    folder = described_folder(name)
    if not Path(name).expanduser().is_dir():
        folder = _download(name, weights=True)
    _check_complete(name, folder)
    return folder


def described_folder(name: str) -> Path:
    """Return the folder of a checkpoint with config and vocabulary; of a hub model, no weights are downloaded.

    What would keep the weights from being loaded is an error here already. Arguments and errors as for
    `complete_folder`.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_complete(name, folder)
    else:
        folder = _download(name)
        _check_description(name, folder)
    return folder


def split_name(name: str) -> tuple[str, str | None]:
    """Split the hub id of a model from its revision; raise UserError where it is neither a hub id nor a folder.

    Example:
        >>> split_name("klue/roberta-base@main"), split_name("bert-base-cased")
        (('klue/roberta-base', 'main'), ('bert-base-cased', None))
    """
    from huggingface_hub import errors
    from huggingface_hub.utils import validate_repo_id

    repository, at, revision = name.partition("@")
    if repository.startswith((".", "/", "~")) or repository.count("/") > 1:
        raise UserError(f"There is no checkpoint folder {name}.")
    try:
        validate_repo_id(repository)
    except errors.HFValidationError as error:
        raise UserError(f"{name!r} is neither a folder nor a model's name on the hub.") from error
    if at and not revision:
        raise UserError(f"{name!r} names no revision: write it as {repository}@REVISION, or without the @.")
    return repository, revision or None


def read_config(folder: Path, **overrides: Any) -> Any:
    """Read the transformers configuration in a folder; raise UserError where it cannot be read."""
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, **overrides)
    except Exception as error:  # Every class of transformers raises its own for the values of its own keys.
        raise UserError(f"Checkpoint {folder} cannot be read: {first_line(error)}") from error


def positions(name: str) -> int:
    """Return the longest input of a checkpoint in tokens, special tokens included; errors as for `complete_folder`."""
    config = scratch_config(name) or read_config(described_folder(name))
    # RoBERTa counts its positions from padding_idx + 1.
    offset = config.pad_token_id + 1 if config.model_type in _ROBERTAS else 0
    return int(config.max_position_embeddings) - offset


def layer_count(name: str) -> int:
    """Return the number of layers of a checkpoint's encoder; errors as for `complete_folder`."""
    return int((scratch_config(name) or read_config(described_folder(name))).num_hidden_layers)


def architecture(name: str) -> str:
    """Return the model type of a checkpoint in transformers, as "bert"; errors as for `complete_folder`."""
    return str((scratch_config(name) or read_config(described_folder(name))).model_type)


def identity(name: str) -> str:
    """Return a hash of a checkpoint's config and weights, or `scratch`'s own name; errors as for `complete_folder`."""
    import pooch

    if SCRATCH.fullmatch(name):
        return name
    folder = complete_folder(name)
    digest = hashlib.sha256()
    for file in sorted({"config.json", *WEIGHT_FILES, *_weights(folder)} & {path.name for path in folder.iterdir()}):
        digest.update(bytes.fromhex(pooch.file_hash(folder / file)))
    return digest.hexdigest()[:16]


def _check_complete(name: str, folder: Path) -> None:
    """Raise UserError where a folder lacks a part of a checkpoint, or no TensorFlow classifier can be made of it."""
    _check_description(name, folder)
    weights = _weights(folder)
    if not weights:
        raise _without_weights(
            name, {file.name for file in folder.iterdir()}, "put model.safetensors or tf_model.h5 there"
        )
    for file in weights:
        if not (folder / file).is_file():
            raise UserError(f"Checkpoint {name} lacks {file}, which its index names: put it there.")
        _check_pointer(folder / file)
    config = read_config(folder)
    check_weights(config, [folder / file for file in weights if not file.endswith(".json")])


def _check_description(name: str, folder: Path) -> None:
    """Check config and vocabulary; errors as for `_check_complete`."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{name} is not a checkpoint: it has no config.json.")
    for file in (*(folder / file for file in _READ), *folder.glob("additional_chat_templates/*.jinja")):
        _check_pointer(file)
        if file.is_file() and file.stat().st_size > LARGEST_FILE:
            raise UserError(f"{file} cannot be read: it is larger than {LARGEST_FILE >> 20} MiB.")
    config, tokenizer = read_json(folder / "config.json"), read_json(folder / "tokenizer_config.json")
    kind, tokenizer_class = config.get("model_type"), tokenizer.get("tokenizer_class") or config.get("tokenizer_class")
    if code := config.get("auto_map") or tokenizer.get("auto_map"):
        raise own_code(name, f"{code!r:.200}")
    if not kind:
        raise UserError(f'The config.json of {name} has no model_type: write one there, as "model_type": "bert".')
    if str(kind) not in TF_MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise UserError(
            f"Checkpoint {name} is of type {kind!r:.50}, for which transformers has no TensorFlow classifier; "
            "use a BERT, RoBERTa or ELECTRA checkpoint."
        )
    check_config(folder / "config.json", config)
    if kind in _ROBERTAS and config.get("pad_token_id", 1) != 1:
        raise UserError(
            f"Checkpoint {name} has the pad_token_id {config['pad_token_id']}, and transformers' {kind} in TensorFlow "
            "counts positions from 1 only: use another checkpoint."
        )
    if tokenizer_class:
        # The fast class has the name of the slow one with "Fast", or there is no slow one. Any class of transformers
        # can be named, those too that would run the code of further files.
        classes = [tokenizer_class_from_name(f"{tokenizer_class}{fast}") for fast in ("Fast", "")]
        known = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, PreTrainedTokenizerBase)]
        if not known:
            raise own_code(name, f"{tokenizer_class!r:.200}")
        if not any(issubclass(cls, PreTrainedTokenizerFast) for cls in known):
            raise without_fast(name, known[0])
    check_tokenizer_config(folder / "tokenizer_config.json", tokenizer)
    if not any((folder / file).is_file() for file in VOCABULARY_FILES):
        raise UserError(f"Checkpoint {name} has no vocabulary: put vocab.txt or tokenizer.json there.")


def own_code(name: str, what: str) -> UserError:
    """Return the error of a checkpoint that needs code of its own."""
    return UserError(
        f"Checkpoint {name} needs Python code of its own ({what}), and no code of a checkpoint is run: use one that "
        "transformers has classes for, as klue/bert-base or monologg/koelectra-base-v3-discriminator for Korean."
    )


def without_fast(name: str, tokenizer: type) -> UserError:
    """Return the error of a checkpoint whose class of tokenizers is written in Python alone."""
    return UserError(
        f"The tokenizer of checkpoint {name}, {tokenizer.__name__}, has no fast version in transformers: use a "
        "checkpoint with another one."
    )


def _weights(folder: Path) -> list[str]:
    """Return the names of the files whose weights transformers would load: one, or an index and its shards."""
    first = next((file for file in WEIGHT_FILES if (folder / file).is_file()), None)
    if first is None or not first.endswith(".index.json"):
        return [first] if first else []
    return [first, *shards(folder / first)]


def _without_weights(name: str, files: set[str], remedy: str) -> UserError:
    if not any(file.startswith("pytorch_model") for file in files):
        return UserError(f"Checkpoint {name} has no weights: {remedy}.")
    return UserError(
        f"Checkpoint {name} has no weights but pytorch_model.bin, and pytorch_model.bin alone cannot be read: {remedy} "
        "(where PyTorch is installed, AutoModel.from_pretrained(NAME).save_pretrained(FOLDER) writes it)."
    )


def _check_pointer(file: Path) -> None:
    """Raise UserError where a file is git-lfs's placeholder for another."""
    if file.is_file():
        with file.open("rb") as content:
            if content.read(len(_POINTER)) == _POINTER:
                raise UserError(
                    f"{file} is a git-lfs pointer and not the file itself: run `git lfs pull` there, or download it."
                )


@cache
def _download(name: str, weights: bool = False) -> Path:
    """Return the folder of a hub model in the local cache, which is brought up to date if the hub can be reached.

    Args:
        name: A hub id with or without a revision.
        weights: Whether the weights are downloaded too; where not, the hub must have some that can be read.
    """
    from huggingface_hub import HfApi, errors, snapshot_download
    from huggingface_hub.utils import tqdm

    repository, revision = split_name(name)

    class NoBar(tqdm):
        """In place of a bar that counts the files, cached ones included; one that is downloaded has its own."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"disable": True})

    def snapshot(*patterns: str) -> Path:
        wanted = [*_DESCRIPTION, *patterns]
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted, tqdm_class=NoBar))

    try:
        folder = snapshot(*(["model*.safetensors"] if weights else []))
        if not (held := _weights(folder)) or (weights and not all((folder / file).is_file() for file in held)):
            siblings = HfApi().model_info(repository, revision=revision).siblings or ()
            files = {file.rfilename for file in siblings}
            if not files & set(WEIGHT_FILES):
                raise _without_weights(name, files, "give a folder with model.safetensors")
            if weights:
                folder = snapshot("tf_model*.h5")
    except errors.GatedRepoError as error:
        raise UserError(f"{repository} is gated on the hub: ask for access there and set HF_TOKEN.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{repository} is neither a folder here nor a (public) model on the hub.") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repository} has no revision {revision} on the hub.") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError, RuntimeError) as error:
        raise UserError(_why_not_downloaded(name, error)) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"Checkpoint {name} cannot be downloaded, since the hub's answer is none of a hub ({first_line(error)}): "
            "check HF_ENDPOINT."
        ) from error
    return folder


def _why_not_downloaded(name: str, error: Exception) -> str:
    """Return whether the hub or this machine kept a model from the local cache, and the remedy."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno in LOCAL_ERRORS):
        if not_writable := check_writable(cache, volume=cache.parent):
            subject = f"Checkpoint {name} must be downloaded, but the cache"
            return not_writable.sentence(subject, "set HF_HOME to another folder")
        place, why = error.filename or cache, error.strerror or first_line(error)
        return f"Checkpoint {name} cannot be stored in {place} ({why}): mend that, or set HF_HOME to another folder."
    if isinstance(error, RuntimeError):  # The hub's faster protocol raises no other type.
        return f"Checkpoint {name} cannot be downloaded: {first_line(error)}"
    return (
        f"Checkpoint {name} is not in the local cache and the hub cannot be reached: connect, or give --model a "
        "folder with config.json, vocab.txt and model.safetensors."
    )
