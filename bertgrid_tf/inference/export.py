"""The final model for other programs, as a SavedModel or in ONNX."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert.batches import Batch, pipeline
from bertgrid_tf.bert.checkpoint import Checkpoint, load
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.bert.unpadded import Unpadded
from bertgrid_tf.corpus import Dialogue, Utterance
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters, Pooling
from bertgrid_tf.inference.predictor import ensemble
from bertgrid_tf.metrics.correction import Correction
from bertgrid_tf.storage.files import replacing_folder
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.encoding import encode_dialogues

TOLERANCE = 1e-4
"""The largest difference of a probability that rounding can explain, many times over."""
OPSET = 17
ONNX_FILE = "model.onnx"
CHECKED_TEXTS = 16

Served = Callable[[Batch], np.ndarray]


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        folder: The folder of its files.
        texts: The number of texts that it was checked on.
        difference: The largest difference of a probability from that of the study's own model.
    """

    folder: Path
    texts: int
    difference: float


def export(study_folder: StudyFolder, format: str, out: Path, quantize: str | None = None) -> Exported:
    """Write the final model, with its tokenizer and class names beside it, checked against the study's own.

    The model takes `input_ids`, `attention_mask` (1 on tokens, 0 on padding) and `token_type_ids`, int32
    [batch, length], both of any size, and returns float32 [batch, classes]: `logits`, and `probabilities` with the
    study's correction, as `predict` gives for a text of one window. It computes in float32, whatever the study's
    precision. `out` appears whole or not at all, and only after the format's own runtime has given the study's
    probabilities on made-up dialogues.

    Args:
        study_folder: The study.
        format: "savedmodel", for TensorFlow and its servers, or "onnx", for ONNX Runtime.
        out: The folder to write, which must not exist.
        quantize: "int8" writes the weights of an ONNX file as int8, and has their products with activations, quantized
            as they come, computed in int8. Its probabilities are allowed to differ. None for float32.

    Raises:
        UserError: There is no final model or no such format, a package is missing, `out` exists or cannot be written,
            or the written model gives other probabilities.
    """
    if format not in FORMATS:
        raise UserError(f"A model cannot be exported as {format!r}: choose from {', '.join(FORMATS)}.")
    if quantize is not None and (format, quantize) != ("onnx", "int8"):
        raise UserError(f"{format} cannot be quantized to {quantize}: only onnx can be, to int8.")
    if format == "onnx" and not (find_spec("tf2onnx") and find_spec("onnxruntime")):
        raise UserError(
            "onnx needs tf2onnx and ONNX Runtime, which are not installed: pip install 'bertgrid-tf[onnx]'."
        )
    hyperparameters, metadata = study_folder.read_final().hyperparameters, study_folder.read_metadata()
    models = study_folder.final_models()
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already: delete it, or name another folder with -o.")
    checkpoints = []
    for model in models:
        with study_folder.loading(model) as labels:
            checkpoints.append(load(str(model), labels))
    checkpoint = checkpoints[0]
    correction = study_folder.read_correction() or Correction(0, [1] * len(metadata.labels), 1)
    dialogue = _dialogue(checkpoint, hyperparameters, study_folder.read_recipe().has_pairs)
    one_input = hyperparameters.model_copy(update={"truncation": "head"})
    texts = encode_dialogues(checkpoint.tokenizer, [dialogue], one_input, metadata.speakers)
    count = len(texts)
    members = (Trainer(one, pooling=hyperparameters.pooling).probabilities(texts) for one in checkpoints)
    expected = correction.apply(ensemble(members))
    # A text alone, and the others padded to the longest of them.
    batches = [*pipeline(texts, np.zeros(count, np.int32), np.arange(count), np.array([1, count - 1]))]
    with replacing_folder(out) as part:
        checkpoint.tokenizer.model_max_length = hyperparameters.max_length
        checkpoint.tokenizer.save_pretrained(part)
        checkpoint.model.config.save_pretrained(part)
        served = FORMATS[format](_signature(checkpoints, correction, hyperparameters.pooling), checkpoints, part)
        difference = _difference(served, batches, expected)
        if not difference < TOLERANCE:
            raise UserError(
                f"The exported model was not kept, since its probabilities differ by up to {difference:.2g} from those "
                f"of {models[0]}: use `predict`."
            )
        if quantize:
            difference = _difference(_quantize(checkpoint, part), batches, expected)
    return Exported(out, count, difference)


def _difference(served: Served, batches: Sequence[tuple[Batch, ...]], expected: np.ndarray) -> float:
    return float(np.abs(np.concatenate([served(batch) for (batch,) in batches]) - expected).max())


def _signature(checkpoints: Sequence[Checkpoint], correction: Correction, pooling: Pooling) -> Any:
    """Return the corrected mean of the models as one function, not yet traced."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    offset = (correction.strength * np.log(correction.priors)).astype(np.float32)

    def outputs(input_ids: tf.Tensor, attention_mask: tf.Tensor, token_type_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = (input_ids, token_type_ids, attention_mask)
        members = [
            _mean_logits(one, *inputs) if pooling == "mean" else one.logits(*inputs, training=False)
            for one in checkpoints
        ]
        logits = members[0]
        if len(members) > 1:
            logits = tf.math.log(tf.reduce_mean(tf.stack([tf.nn.softmax(member) for member in members]), axis=0))
        return {"logits": logits, "probabilities": tf.nn.softmax((logits - offset) / correction.temperature)}

    return tf.function(outputs, input_signature=[tf.TensorSpec([None, None], tf.int32, name) for name in names])


def _mean_logits(checkpoint: Checkpoint, ids: tf.Tensor, types: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Compute the logits of mean pooling, which transformers does not have, on padded texts."""
    own = tf.cast(mask, tf.float32)[:, :, None]
    states = checkpoint.hidden_states(ids, types, mask)
    return Unpadded(checkpoint.model).head(tf.reduce_sum(own * states, 1) / tf.reduce_sum(own, 1), training=False)


def _save_savedmodel(signature: Any, checkpoints: Sequence[Checkpoint], folder: Path) -> Served:
    module = tf.Module()
    # A SavedModel holds the variables of its module.
    module.variables_of_model = [variable for one in checkpoints for variable in one.model.variables]
    try:
        tf.saved_model.save(module, str(folder), signatures=signature)
    except tf.errors.OpError as error:  # TensorFlow's word for a full disk
        raise OSError(error.message) from error
    loaded = tf.saved_model.load(str(folder))

    def serve(batch: Batch) -> np.ndarray:
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
        return loaded.signatures["serving_default"](**inputs)["probabilities"].numpy()

    return serve


def _save_onnx(signature: Any, checkpoints: Sequence[Checkpoint], folder: Path) -> Served:
    import tf2onnx

    file = str(folder / ONNX_FILE)
    tf2onnx.convert.from_function(
        signature,
        input_signature=signature.input_signature,
        opset=OPSET,
        custom_op_handlers={"Erfc": (_convert_erfc, [])},
        output_path=file,
    )
    return _run_onnx(checkpoints[0], file)


def _quantize(checkpoint: Checkpoint, folder: Path) -> Served:
    """Replace the ONNX file by a quantized one."""
    from onnxruntime.quantization import quantize_dynamic, shape_inference

    file, prepared = folder / ONNX_FILE, folder / f"prepared-{ONNX_FILE}"
    with _blamed_on_onnx(checkpoint):
        # Sizes that only symbols express need a package that is not among onnxruntime's own, and no weight has any.
        shape_inference.quant_pre_process(file, prepared, skip_symbolic_shape=True)
        # A scale for each output. 7 bits: without VNNI, sums of two products of 8 bits saturate in 16.
        quantize_dynamic(prepared, file, per_channel=True, reduce_range=True)
    prepared.unlink()
    return _run_onnx(checkpoint, str(file))


def _run_onnx(checkpoint: Checkpoint, file: str) -> Served:
    import onnxruntime

    with _blamed_on_onnx(checkpoint):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def serve(batch: Batch) -> np.ndarray:
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
        with _blamed_on_onnx(checkpoint):
            (probabilities,) = session.run(["probabilities"], {name: value.numpy() for name, value in inputs.items()})
        return probabilities

    return serve


@contextmanager
def _blamed_on_onnx(checkpoint: Checkpoint) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's own have no class in common
        raise UserError(
            f"A {checkpoint.model.config.model_type} model of this kind cannot be exported as onnx ({error}): export "
            "it as savedmodel."
        ) from error


def _convert_erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """Replace erfc(x), which TensorFlow's GELU has and ONNX lacks, by 1 - erf(x)."""
    value, result = node.input[0], node.output[0]
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    graph.remove_node(name)
    erf = graph.make_node("Erf", [value], shapes=[shape], dtypes=[dtype])
    one = graph.make_const(f"{name}/one", np.ones((), np.float32))
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=[result], name=name, shapes=[shape], dtypes=[dtype])


FORMATS: dict[str, Callable[[Any, Sequence[Checkpoint], Path], Served]] = {
    "savedmodel": _save_savedmodel,
    "onnx": _save_onnx,
}


def _dialogue(checkpoint: Checkpoint, hyperparameters: Hyperparameters, pairs: bool) -> Dialogue:
    """Make up utterances of one word up to more than an input holds, drawn from the vocabulary; or pairs of them."""
    random = np.random.default_rng(0)
    words = sorted(word for word in checkpoint.tokenizer.get_vocab() if word.isalpha())
    counts = random.permutation(np.geomspace(1, hyperparameters.max_length, CHECKED_TEXTS).astype(int))
    texts = [" ".join(random.choice(words, count)) for count in counts]
    seconds = reversed(texts) if pairs else [None] * len(texts)
    return Dialogue(tuple(Utterance(text, text_pair=second) for text, second in zip(texts, seconds, strict=True)))
