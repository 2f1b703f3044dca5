"""The files of a checkpoint: a folder, or a hub model in the local cache; and what its config alone states."""

import hashlib
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from bertgrid_tf.bert.scratch import SCRATCH, scratch_config
from bertgrid_tf.errors import UserError
from bertgrid_tf.system.container import LOCAL_ERRORS, check_writable

WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json", "tf_model.h5", "tf_model.h5.index.json")
VOCABULARY_FILES = ("vocab.txt", "tokenizer.json", "vocab.json", "spiece.model", "sentencepiece.bpe.model")


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
        _check_complete(folder)
        return folder
    _check_hub_name(name)
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        _check_complete(folder)
    except (errors.LocalEntryNotFoundError, UserError):
        return None
    return folder


def complete_folder(name: str) -> Path:
    """Return the folder of a checkpoint with config, weights and vocabulary; a hub model is downloaded if it is absent.

    Args:
        name: A folder or a hub id.

    Raises:
        UserError: The folder does not exist or lacks a part; the hub cannot be reached or has no such model.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _download(name)
    _check_complete(folder)
    return folder


def read_config(folder: Path, **overrides: Any) -> Any:
    """Read a transformers configuration; of a path that is a hub id, the config alone is downloaded.

    Raises:
        UserError: The config cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(folder, **overrides)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"Checkpoint {folder} cannot be read: {first_line(error)}") from error


def positions(name: str) -> int:
    """Return the longest input of a checkpoint in tokens, special tokens included; errors as for `complete_folder`."""
    config = scratch_config(name) or read_config(complete_folder(name))
    # RoBERTa counts its positions from padding_idx + 1.
    offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return int(config.max_position_embeddings) - offset


def architecture(name: str) -> str:
    """Return the model type of a checkpoint in transformers, as "bert"; errors as for `complete_folder`."""
    return str((scratch_config(name) or read_config(complete_folder(name))).model_type)


def identity(name: str) -> str:
    """Return a hash of a checkpoint's config and weights, or `scratch`'s own name; errors as for `complete_folder`."""
    import pooch

    if SCRATCH.fullmatch(name):
        return name
    folder = complete_folder(name)
    digest = hashlib.sha256()
    for file in sorted({"config.json", *WEIGHT_FILES} & {path.name for path in folder.iterdir()}):
        digest.update(bytes.fromhex(pooch.file_hash(folder / file)))
    return digest.hexdigest()[:16]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_complete(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a checkpoint: it has no config.json.")
    if not any((folder / file).is_file() for file in WEIGHT_FILES):
        hint = " (pytorch_model.bin alone cannot be read)" if (folder / "pytorch_model.bin").exists() else ""
        raise UserError(f"Checkpoint {folder} has no weights{hint}: put model.safetensors or tf_model.h5 there.")
    if not any((folder / file).is_file() for file in VOCABULARY_FILES):
        raise UserError(f"Checkpoint {folder} has no vocabulary: put vocab.txt or tokenizer.json there.")


def _check_hub_name(name: str) -> None:
    from huggingface_hub import errors
    from huggingface_hub.utils import validate_repo_id

    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"There is no checkpoint folder {name}.")
    try:
        validate_repo_id(name)
    except errors.HFValidationError as error:
        raise UserError(f"{name!r} is neither a folder nor a model's name on the hub.") from error


def _download(name: str) -> Path:
    """Return the folder of a hub model in the local cache, which is brought up to date if the hub can be reached."""
    from huggingface_hub import errors, snapshot_download

    _check_hub_name(name)
    patterns = ["*.json", "*.txt", "*.model", "model*.safetensors"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if not any((folder / file).exists() for file in WEIGHT_FILES):
            folder = Path(snapshot_download(name, allow_patterns=[*patterns, "tf_model*.h5"]))
    except errors.GatedRepoError as error:
        raise UserError(f"{name} is gated on the hub: ask for access there and set HF_TOKEN.") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"{name} is neither a folder here nor a (public) model on the hub.") from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError, RuntimeError) as error:
        raise UserError(_why_not_downloaded(name, error)) from error
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
