"""A checkpoint (hub id, folder, or `scratch`) ▶ one built TensorFlow classifier and its tokenizer."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
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
from tensorflow.python.autograph.core import ag_ctx
from transformers import TFAutoModelForSequenceClassification as TFAutoClassifier
from transformers import TFBertForSequenceClassification
from transformers.modeling_tf_pytorch_utils import apply_transpose, convert_tf_weight_name_to_pt_weight_name

from bertgrid_tf.bert import device  # noqa: F401  # lets memory grow before the first computation
from bertgrid_tf.bert.checkpoint_config import first_line
from bertgrid_tf.bert.checkpoint_files import complete_folder, read_config
from bertgrid_tf.bert.layers import layer_numbers
from bertgrid_tf.bert.scratch import scratch_config
from bertgrid_tf.bert.tokenizer import add_tokens, load_tokenizer, token_count
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.files import replacing_folder

logging.getLogger("tensorflow").setLevel(logging.ERROR)


@dataclass
class Checkpoint:
    """A classifier that is built once and can be reset to its initial weights any number of times.

    Attributes:
        name: Hub id, folder or `scratch` (`load`).
        tokenizer: The fast tokenizer.
        model: The built classifier.
        initial: The value of every variable as loaded.
        fresh: Indices of the variables that no file holds (the classifier's head; with `scratch` all), which `reset`
            draws.
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

    def reset(self, seed: int, reinit_layers: int = 0) -> None:
        """Give every variable its initial value, and draw the fresh ones as BERT does.

        Kernels and embeddings are normal with deviation `initializer_range`, truncated at two deviations; biases are 0,
        LayerNorm's scales 1.

        Args:
            seed: Decides what is drawn.
            reinit_layers: Top layers that are drawn too, with pooler and head, held by a file or not (Zhang et al.
                2021, arXiv 2006.05987, section 5); the fresh variables are drawn as without them.
        """
        # Of a generator of their own.
        random, of_layers = np.random.default_rng(seed), np.random.default_rng([seed, 1])
        numbers = layer_numbers(self.model.variables, self.model.base_model_prefix)
        redrawn = max(numbers) - reinit_layers if reinit_layers else np.inf
        for index, (variable, value) in enumerate(zip(self.model.variables, self.initial, strict=True)):
            if index in self.fresh or numbers[index] >= redrawn:
                value = _draw(variable, self.model.config, random if index in self.fresh else of_layers)
            variable.assign(value)

    def logits(self, ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
        """Compute the model's own forward pass of a `batches.Batch`, float32 [batch, classes]."""
        # DeBERTa's layers branch on tensors, of which only autograph makes a graph; tracing takes three times as long.
        branches = "deberta" in self.model.config.model_type
        with ag_ctx.ControlStatusCtx(ag_ctx.Status.ENABLED) if branches else nullcontext():
            return self.model(self._inputs(ids, types, mask), training=training).logits

    def hidden_states(self, ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Compute the vectors of the last layer by the model's own forward pass, float32 [batch, length, width]."""
        encoder = getattr(self.model, self.model.base_model_prefix)
        return encoder(self._inputs(ids, types, mask), training=False)[0]

    def _inputs(self, ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {"input_ids": ids, "attention_mask": mask}
        # DistilBERT has no token types; RoBERTa's has one, whatever the tokenizer says.
        if "token_type_ids" in signature(self.model.call).parameters:
            single = getattr(self.model.config, "type_vocab_size", 2) < 2
            inputs["token_type_ids"] = tf.zeros_like(types) if single else types
        return inputs

    def save(self, folder: Path) -> None:
        """Write model, tokenizer and label names so that plain transformers loads them, in TensorFlow and PyTorch.

        The folder appears whole or not at all, and only after the written model was loaded and gave the same logits.

        Raises:
            UserError: The folder cannot be written.
        """
        with replacing_folder(folder) as part:
            self.tokenizer.save_pretrained(part)
            # A config from a hub names the pretrained class, one of `scratch` none; servers pick the class by it.
            self.model.config.architectures = [type(self.model).__name__.removeprefix("TF")]
            self.model.config.save_pretrained(part)
            try:
                save_file(_pytorch_weights(self.model), part / "model.safetensors", metadata={"format": "pt"})
            except SafetensorError as error:  # its word for a full disk
                raise OSError(str(error)) from error
            self._check_saved(part)

    def _check_saved(self, folder: Path) -> None:
        """Raise RuntimeError where the saved model lacks weights or its logits differ."""
        saved = load(str(folder), self.labels)
        if saved.fresh:
            raise RuntimeError(f"The model saved in {folder} lacks {len(saved.fresh)} of its own weights")
        pairs = zip(self.model.variables, saved.initial, strict=True)
        if not all(np.array_equal(variable, value) for variable, value in pairs):
            raise RuntimeError(f"The model saved in {folder} has other weights than the one in memory")
        ids = tf.constant([[self.tokenizer.cls_token_id, self.tokenizer.sep_token_id]], tf.int32)
        inputs = (ids, tf.zeros_like(ids), tf.ones_like(ids), False)
        if not np.allclose(self.logits(*inputs), saved.logits(*inputs), atol=1e-3):
            raise RuntimeError(f"The model saved in {folder} gives other logits than the one in memory")


def load(name: str, labels: Sequence[str], *, texts: Iterable[str] = (), markers: Sequence[str] = ()) -> Checkpoint:
    """Load a checkpoint as a classifier.

    Args:
        name: A folder, a hub id or HUB_ID@REVISION, or `scratch[:LAYERSxWIDTH]` (default 2x128), whose WordPiece
            vocabulary is trained on `texts` and whose weights are all drawn by `Checkpoint.reset`.
        labels: Class names in the order of their ids.
        texts: The training texts; read only for `scratch`.
        markers: Strings that become one token each; an embedding begins as the mean of those of the marker's pieces.

    Raises:
        UserError: The folder lacks config, weights or vocabulary; the hub cannot be reached or has no such model; the
            architecture has no TensorFlow classifier.
    """
    tokenizer = load_tokenizer(name, texts)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    if config := scratch_config(name):
        config.update(names | {"vocab_size": tokenizer.vocab_size})
        model = TFBertForSequenceClassification(config)
        # Called rather than built: variables of model.build() lack the prefix by which from_pretrained finds them.
        model(model.dummy_inputs)
        fresh = frozenset(range(len(model.variables)))
    else:
        model, fresh = _load_weights(name, names, token_count(tokenizer))
    if markers:
        _add_markers(tokenizer, model, markers)
    initial = [variable.numpy() for variable in model.variables]
    for variable, value in zip(model.variables, initial, strict=True):
        if not np.isfinite(value).all():
            raise UserError(
                f"The weights of checkpoint {name} are damaged: {_pytorch_name(variable)[0]} holds values that are no "
                "finite numbers; download or train it anew."
            )
    return Checkpoint(name, tokenizer, model, initial, fresh)


def _load_weights(name: str, names: dict[str, Any], tokens: int) -> tuple[Any, frozenset[int]]:
    """Load the classifier of a checkpoint whose vocabulary has `tokens` tokens, and name its fresh variables."""
    folder = complete_folder(name)
    config = read_config(folder, **names)
    classifier = TFBertForSequenceClassification if config.model_type == "bert" else TFAutoClassifier
    try:
        model, info = classifier.from_pretrained(
            folder, config=config, ignore_mismatched_sizes=True, output_loading_info=True, trust_remote_code=False
        )
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:  # Every layer raises its own for a configuration that it cannot have.
        raise UserError(f"The weights of checkpoint {name} cannot be read: {first_line(error)}") from error
    if not hasattr(model.get_input_embeddings(), "weight"):
        raise UserError(
            f"Checkpoint {name} is of type {config.model_type!r}, whose word embeddings cannot be trained here: choose "
            "BERT, ELECTRA, RoBERTa, XLM-R, DistilBERT, ALBERT or DeBERTa."
        )
    fresh = _fresh_variables(name, model, info)
    if tokens > config.vocab_size:
        _grow_embeddings(model, tokens)
    return model, fresh


def _fresh_variables(name: str, model: Any, info: dict[str, Any]) -> frozenset[int]:
    """Return the indices of the variables that the files lack: the head's, and of a bare encoder the pooler's.

    Raises:
        UserError: The encoder itself is incomplete: from_pretrained only warns, and would train random weights.
    """
    # Named as in PyTorch, as in TensorFlow, or (in .h5) by the layer alone.
    mismatched = {key.split(":")[0] for key, *_ in info["mismatched_keys"]}
    missing = {key.split(":")[0] for key in info["missing_keys"]} | mismatched
    fresh = []
    for index, variable in enumerate(model.variables):
        weight, _ = _pytorch_name(variable)
        layers = list(accumulate(variable.name.split(":")[0].split("/")[1:], "{}/{}".format))
        if missing.intersection((weight, *layers)):
            fresh.append(index)
            absent_pooler = ".pooler." in weight and not mismatched.intersection((weight, *layers))
            if weight.startswith(f"{model.base_model_prefix}.") and not absent_pooler:
                raise UserError(
                    f"Checkpoint {name} lacks weights of its encoder ({weight} and perhaps others): it was saved by "
                    "another architecture or incompletely."
                )
    return frozenset(fresh)


def _grow_embeddings(model: Any, size: int) -> Any:
    """Give the word embeddings `size` rows, new ones the mean of the others; the variable of the embeddings."""
    held = model.get_input_embeddings().weight.numpy()
    model.resize_token_embeddings(size)
    table = model.get_input_embeddings().weight
    grown = table.numpy()
    grown[len(held) :] = held.mean(axis=0)
    table.assign(grown)
    return table


def _add_markers(tokenizer: Any, model: Any, markers: Sequence[str]) -> None:
    pieces = [tokenizer(marker, add_special_tokens=False)["input_ids"] for marker in markers]
    embeddings = model.get_input_embeddings().weight.numpy()
    add_tokens(tokenizer, markers)
    table = _grow_embeddings(model, token_count(tokenizer))
    grown = table.numpy()
    for marker, ids in zip(markers, pieces, strict=True):
        grown[tokenizer.convert_tokens_to_ids(marker)] = embeddings[ids].mean(axis=0)
    table.assign(grown)


def _draw(variable: tf.Variable, config: Any, random: np.random.Generator) -> np.ndarray:
    name = variable.name.split("/")[-1].split(":")[0]
    if name == "gamma" or name.endswith(("bias", "beta")):
        return np.full(variable.shape, name == "gamma", np.float32)
    draw = random.standard_normal(variable.shape, np.float32)
    while (outside := np.abs(draw) > 2).any():
        draw[outside] = random.standard_normal(int(outside.sum()), np.float32)
    return draw * np.float32(config.initializer_range)


def _pytorch_name(variable: tf.Variable) -> tuple[str, Any]:
    return convert_tf_weight_name_to_pt_weight_name(variable.name, tf_weight_shape=variable.shape)


def _pytorch_weights(model: Any) -> dict[str, np.ndarray]:
    """Return the weights under PyTorch's names and in its layout, which `from_pretrained` of both frameworks reads."""
    weights = {}
    for variable in model.variables:
        name, transpose = _pytorch_name(variable)
        weights[name] = np.ascontiguousarray(apply_transpose(transpose, variable.numpy()))
    return weights
