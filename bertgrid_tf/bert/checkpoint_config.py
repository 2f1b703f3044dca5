"""What the files of a checkpoint may state, checked before anything is built of them.

Nothing here imports TensorFlow, and no code of a checkpoint is run.
"""

import json
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING

from bertgrid_tf.errors import UserError

LARGEST_FILE = 128 << 20
"""Bytes of the largest file that is read beside weights; XLM-R's tokenizer.json has 17 MB."""
_LONGEST_REASON = 300
_SHAPED = ("albert", "bert", "camembert", "deberta-v2", "distilbert", "electra", "roberta", "xlm-roberta")
"""The families whose names of tensors are known here; others are compared as they are loaded."""
_NAMES = {":0": "", "/": ".", "layer_._": "layer.", "embeddings.embeddings": "embeddings.weight", "kernel": "weight"}
"""TensorFlow's names of tensors and PyTorch's."""
_LAYER = re.compile(r"(?:^|\.)layer\.(\d+)\.")

Size = Annotated[int, Field(ge=1, le=1 << 24)]
Rate = Annotated[float, Field(ge=0, lt=1)]
# Of transformers' activations in TensorFlow, those that keep the width.
Activation = Literal[
    "gelu", "gelu_10", "gelu_fast", "gelu_new", "mish", "quick_gelu", "relu", "sigmoid", "silu", "swish", "tanh"
]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Config(_Strict):
    """The keys of config.json on which the model depends; a key that is not given has transformers' own default."""

    vocab_size: Size = 1
    hidden_size: Size = 1
    embedding_size: Size = 1
    intermediate_size: Size = 1
    hidden_dim: Size = 1
    num_hidden_layers: Annotated[int, Field(ge=1, le=1_000)] = 1
    num_hidden_groups: Annotated[int, Field(ge=1, le=1_000)] = 1
    inner_group_num: Annotated[int, Field(ge=1, le=1_000)] = 1
    num_attention_heads: Size = 1
    max_position_embeddings: Size = 1
    type_vocab_size: Annotated[int, Field(ge=0, le=1_000)] = 0
    pooler_hidden_size: Size = 1
    position_buckets: Annotated[int, Field(ge=-1, le=1 << 16)] = -1
    max_relative_positions: Annotated[int, Field(ge=-1, le=1 << 16)] = -1
    pos_att_type: str | list[str] = ""
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-12
    initializer_range: Annotated[float, Field(gt=0, le=1)] = 0.02
    hidden_dropout_prob: Rate = 0
    attention_probs_dropout_prob: Rate = 0
    classifier_dropout: Rate = 0
    classifier_dropout_prob: Rate = 0
    pooler_dropout: Rate = 0
    dropout: Rate = 0
    attention_dropout: Rate = 0
    seq_classif_dropout: Rate = 0
    summary_last_dropout: Rate = 0
    hidden_act: Activation = "gelu"
    activation: Activation = "gelu"
    pooler_hidden_act: Activation = "gelu"
    pad_token_id: Annotated[int, Field(ge=0)] | None = None
    num_labels: Size = 1
    id2label: dict[Annotated[str, Field(pattern=r"^\d{1,8}$")], Any] = {}
    architectures: list[str] = []
    # transformers' TensorFlow classes compute with absolute positions, whatever is stated here.
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    add_cross_attention: Literal[False] = False
    pruned_heads: dict[str, Any] = Field({}, max_length=0)
    return_dict: Literal[True] = True
    output_attentions: bool = False
    output_hidden_states: bool = False


class _Index(_Strict):
    """An index of shards, which lie beside it."""

    metadata: dict[str, Any]
    weight_map: dict[str, Annotated[str, Field(pattern=r"^[^/\\]+\.(safetensors|h5)$")]] = Field(min_length=1)


_Content = TypeVar("_Content", bound=_Strict)


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object, empty where there is no file; raise UserError where it is damaged."""
    try:
        if not file.is_file():
            return {}
        if file.stat().st_size > LARGEST_FILE:
            raise UserError(f"{file} cannot be read: it is larger than {LARGEST_FILE >> 20} MiB.")
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} cannot be read: it holds no JSON object.")
    return content


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened, with its type where it has none or a key alone."""
    line = next(iter(str(error).strip().splitlines()), "")
    line = line if line and not isinstance(error, KeyError) else f"{type(error).__name__} {line}".strip()
    return line[:_LONGEST_REASON].encode(errors="backslashreplace").decode()


def check_config(file: Path, config: Mapping[str, Any]) -> None:
    """Check the content of a config.json whose `model_type` transformers knows.

    Raises:
        UserError: No model can be built with a key's value, or transformers' TensorFlow classes ignore it.
    """
    known = CONFIG_MAPPING[config["model_type"]]
    defaults, names = known(), {own: name for name, own in known.attribute_map.items()}
    stated: dict[str, Any] = {}
    for own, value in config.items():
        name = names.get(own, own)
        # null is a value where it is transformers' default.
        if value is not None or getattr(defaults, name, None) is not None:
            stated[name] = value
    checked = _validated(_Config, file, stated, {name: own for own, name in names.items() if own in config})
    rows, pad = stated.get("vocab_size", defaults.vocab_size), checked.pad_token_id
    if pad is not None and rows is not None and pad >= rows:
        raise UserError(f"{file} is damaged: pad_token_id {pad} is beyond the {rows:,} tokens of vocab_size.")
    labels = len(checked.id2label)
    if labels and stated.get("num_labels", labels) != labels:
        raise UserError(f"{file} is damaged: num_labels is {checked.num_labels}, and id2label names {labels} labels.")


def shards(index: Path) -> list[str]:
    """Return the names of the files that an index of weights names; raise UserError where it is damaged."""
    return sorted(set(_validated(_Index, index, read_json(index)).weight_map.values()))


def check_tokenizer_config(file: Path, content: Mapping[str, Any]) -> None:
    """Raise UserError where a tokenizer_config.json names files beside those of its folder, or objects to be built."""
    # Paths on the machine of whoever saved the tokenizer, which transformers ignores.
    stale = {"special_tokens_map_file", *(() if file.with_name("tokenizer.json").is_file() else ("tokenizer_file",))}
    pending: list[Any] = [content]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        for key, value in item.items() if isinstance(item, dict) else ():
            pending.append(value)
            named = key.endswith("_file") and isinstance(value, str) and key not in stale
            elsewhere = key == "fast_tokenizer_files" and "/" in str(value)
            if named or elsewhere or (key in ("init_inputs", "tokenizer_object") and value):
                raise UserError(
                    f"{file} names {reprlib.repr(value)} as {key}, and of a tokenizer only the files of its folder are "
                    "read, by their usual names: delete that key."
                )


def check_weights(config: Any, files: Iterable[Path]) -> None:
    """Compare the shapes of weights, of which no values are read, with the transformers configuration beside them.

    Raises:
        UserError: A file is damaged, or config and weights are those of different models.
    """
    if config.model_type not in _SHAPED:
        return
    width, layers = config.hidden_size, set()
    if width % config.num_attention_heads:
        raise UserError(
            f"Checkpoint {config.name_or_path} is damaged: its hidden_size {width} is no multiple of its "
            f"num_attention_heads {config.num_attention_heads}."
        )
    if getattr(config, "pooler_hidden_size", width) != width:
        raise UserError(
            f"Checkpoint {config.name_or_path} is damaged: its pooler_hidden_size {config.pooler_hidden_size} is not "
            f"its hidden_size {width}."
        )
    embedding = getattr(config, "embedding_size", None) or width
    inner = getattr(config, "intermediate_size", None) or config.hidden_dim
    expected = {
        "word_embeddings": (config.vocab_size, embedding),
        "position_embeddings": (config.max_position_embeddings, embedding),
        "token_type_embeddings": (getattr(config, "type_vocab_size", 0), embedding),
        **dict.fromkeys(("intermediate.dense", "ffn.lin1", "ffn"), (inner, width)),
    }
    for file in files:
        for tensor, shape in _tensors(file):
            layers.update(_LAYER.findall(tensor))
            for part, wanted in expected.items():
                # TensorFlow's kernels are PyTorch's, transposed.
                if tensor.endswith(f".{part}.weight") and sorted(shape) != sorted(wanted):
                    raise UserError(
                        f"The config.json beside {file} is that of another model: by it, {tensor} has the shape "
                        f"{wanted}, and the file has {tuple(shape)}."
                    )
    if layers and len(layers) != config.num_hidden_layers:
        raise UserError(
            f"The config.json beside {file} is that of another model: it states num_hidden_layers "
            f"{config.num_hidden_layers}, and the weights have {len(layers)} layers."
        )


def _tensors(file: Path) -> Iterator[tuple[str, list[int]]]:
    """Yield the name, as in PyTorch, and the shape of every tensor in a file."""
    try:
        if file.suffix == ".h5":
            import h5py

            shapes: dict[str, list[int]] = {}
            with h5py.File(file) as content:
                content.visititems(lambda name, item: shapes.update({name: [*getattr(item, "shape", ())]}))
        else:
            with safe_open(file, framework="numpy") as content:
                slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118
            shapes = {name: part.get_shape() for name, part in slices.items()}
            # Some files hold the numbers of the positions beside the weights.
            kinds = {part.get_dtype() for name, part in slices.items() if not name.endswith("_ids")}
            if others := kinds - {"F64", "F32", "F16", "BF16"}:
                raise ValueError(f"its values are of type {min(others)}, not F32")
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            f"The weights of checkpoint {file.parent} cannot be read: {file.name}: {first_line(error)}"
        ) from error
    for name, shape in shapes.items():
        for tensorflow, pytorch in _NAMES.items():
            name = name.replace(tensorflow, pytorch)
        yield name, shape


def _validated(
    kind: type[_Content], file: Path, content: Mapping[str, Any], own_names: Mapping[str, str] = {}
) -> _Content:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = own_names.get(str(first["loc"][0]), first["loc"][0])
        if first["type"] == "missing":
            raise UserError(f"{file} is damaged: it has no {key}.") from error
        reason = re.sub(r"^\w+ should", "must", first["msg"])
        raise UserError(f"{file} is damaged: {key} {reason}, not {reprlib.repr(first['input'])}.") from error
