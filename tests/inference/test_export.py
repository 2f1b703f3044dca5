"""The final model elsewhere: in plain transformers, in TensorFlow alone, in ONNX Runtime."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from transformers import AutoConfig, AutoTokenizer

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.encode import EncodedTexts, encode
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.corpus import Dialogue, Utterance
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.inference.export import FORMATS, Exported, export
from bertgrid_tf.inference.predictor import Predictor
from bertgrid_tf.metrics.correction import Correction
from bertgrid_tf.recipe import load_recipe
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.encoding import encode_dialogues

LABELS = ("bad", "good", "neither")
TEXTS = ["the film was fun", "it was", "the story of the film was boring and it was sad", "a film"]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

with_onnx = pytest.mark.skipif(
    not (find_spec("tf2onnx") and find_spec("onnxruntime")), reason="the extra `onnx` is not installed"
)
FORMATS_HERE = [pytest.param("onnx", marks=with_onnx) if name == "onnx" else name for name in FORMATS]


@pytest.fixture(scope="module")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study with a final model of one layer, in pairs of 16 tokens at most."""
    study_folder = StudyFolder(tmp_path_factory.mktemp("results") / "study")
    checkpoint = load("scratch:1x64", LABELS, texts=TEXTS * 3)
    checkpoint.reset(0)
    checkpoint.save(study_folder.model)
    hyperparameters = Hyperparameters(model="scratch:1x64", context="current+previous", max_length=16)
    counts = {split: dict.fromkeys(LABELS, 1) for split in ("train", "dev")}
    study_folder.write_recipe(load_recipe("sample"))
    study_folder.write_metadata(StudyMetadata("0" * 16, LABELS, {}, {}, {}, classes=counts))
    study_folder.write_final(FinalTrial(hyperparameters, 1, [{"accuracy": 0.5}]))
    return study_folder


@pytest.fixture(scope="module")
def own(study_folder: StudyFolder) -> Trainer:
    """The study's own model."""
    return Trainer(load(str(study_folder.model), LABELS))


def pairs(tokenizer: object) -> EncodedTexts:
    return encode(tokenizer, [((text, "it was fun"), 0) for text in TEXTS], 16)


def padded(texts: EncodedTexts, rows: slice) -> dict[str, np.ndarray]:
    """Some of the texts as a batch, by the names of the model's inputs."""
    chosen = texts.take(np.arange(len(texts))[rows])
    shape = (len(chosen), int(chosen.lengths.max()))
    batch = {name: np.zeros(shape, np.int32) for name in INPUTS}
    for row, (start, length) in enumerate(zip(chosen.starts, chosen.lengths, strict=False)):
        batch["input_ids"][row, :length] = chosen.ids[start : start + length]
        batch["token_type_ids"][row, :length] = chosen.types[start : start + length]
        batch["attention_mask"][row, :length] = 1
    return batch


def runner(folder: Path) -> Run:
    """What another program makes of an exported model."""
    if folder.name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        names = [output.name for output in session.get_outputs()]
        return lambda batch: dict(zip(names, session.run(names, batch), strict=True))
    loaded = tf.saved_model.load(str(folder))

    def run(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        inputs = {name: tf.constant(value) for name, value in batch.items()}
        return {name: value.numpy() for name, value in loaded.signatures["serving_default"](**inputs).items()}

    return run


def signature(folder: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Type and shape of every input, and of every output, of an exported model."""
    if folder.name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
        types = {"tensor(int32)": "int32", "tensor(float)": "float32"}

        def described(one: Any) -> tuple[str, list[object]]:
            return types[one.type], [size if isinstance(size, int) else "unknown" for size in one.shape]

        inputs, outputs = session.get_inputs(), session.get_outputs()
        return {one.name: described(one) for one in inputs}, {one.name: described(one) for one in outputs}
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    sides = (served.structured_input_signature[1], served.structured_outputs)
    inputs, outputs = ({name: (one.dtype.name, one.shape.as_list()) for name, one in side.items()} for side in sides)
    return inputs, outputs


@pytest.fixture(scope="module", params=FORMATS_HERE)
def exported(
    request: pytest.FixtureRequest, study_folder: StudyFolder, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """The model in a folder named after its format."""
    return export(study_folder, request.param, tmp_path_factory.mktemp("exported") / request.param)


def test_an_exported_model_gives_the_study_s_probabilities_in_batches_of_any_shape(own, exported):
    assert exported.difference < 1e-4
    texts = pairs(own.checkpoint.tokenizer)
    expected = own.probabilities(texts)
    assert np.ptp(expected, axis=0).min() > 1e-3
    run = runner(exported.folder)
    for rows in (slice(0, 4), slice(1, 2)):
        given = run(padded(texts, rows))
        np.testing.assert_allclose(given["probabilities"], expected[rows], atol=1e-5)
        np.testing.assert_allclose(tf.nn.softmax(given["logits"]), expected[rows], atol=1e-5)
        assert given["probabilities"].dtype == np.float32


@pytest.mark.parametrize("name", FORMATS_HERE)
def test_the_study_s_correction_is_in_the_probabilities_and_not_in_the_logits(study_folder, own, tmp_path, name):
    correction = Correction(1.0, [0.6, 0.3, 0.1], 1.5)
    study_folder.write_correction(correction)
    try:
        export(study_folder, name, tmp_path / name)
    finally:
        study_folder.correction_file.unlink()
    texts = pairs(own.checkpoint.tokenizer)
    plain = own.probabilities(texts)
    given = runner(tmp_path / name)(padded(texts, slice(0, 4)))
    np.testing.assert_allclose(given["probabilities"], correction.apply(plain), atol=1e-5)
    assert np.abs(given["probabilities"] - plain).max() > 0.01
    np.testing.assert_allclose(tf.nn.softmax(given["logits"]), plain, atol=1e-5)


def test_tokenizer_and_label_names_lie_beside_an_exported_model(own, exported):
    assert AutoConfig.from_pretrained(exported.folder).id2label == dict(enumerate(LABELS))
    tokenizer = AutoTokenizer.from_pretrained(exported.folder)
    assert tokenizer(TEXTS)["input_ids"] == own.checkpoint.tokenizer(TEXTS)["input_ids"]
    assert len(tokenizer("the film " * 20, truncation=True)["input_ids"]) == 16


def test_names_types_and_shapes_of_what_goes_in_and_what_comes_out(exported):
    dimension = {"savedmodel": None, "onnx": "unknown"}[exported.folder.name]
    inputs, outputs = signature(exported.folder)
    assert inputs == dict.fromkeys(INPUTS, ("int32", [dimension, dimension]))
    assert outputs == dict.fromkeys(["logits", "probabilities"], ("float32", [dimension, 3]))


@pytest.mark.parametrize("name", FORMATS_HERE)
def test_a_model_with_mean_pooling_is_exported_with_it(study_folder, own, tmp_path, name):
    final = study_folder.read_final()
    means = final.hyperparameters.model_copy(update={"pooling": "mean"})
    study_folder.write_final(replace(final, hyperparameters=means))
    try:
        done = export(study_folder, name, tmp_path / name)
        dialogue = Dialogue(tuple(map(Utterance, TEXTS)))
        predicted = Predictor(study_folder).probabilities([dialogue])
    finally:
        study_folder.write_final(final)
    texts = encode_dialogues(own.checkpoint.tokenizer, [dialogue], means, {})
    served = runner(done.folder)(padded(texts, slice(None)))["probabilities"]
    np.testing.assert_allclose(served, predicted, atol=1e-5)
    assert np.abs(served - own.probabilities(texts)).max() > 1e-3


def test_a_model_that_differs_from_the_study_s_is_not_kept(study_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("bertgrid_tf.inference.export.TOLERANCE", 0.0)
    with pytest.raises(UserError, match="was not kept, since its probabilities differ by up to"):
        export(study_folder, "savedmodel", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_not_touched(study_folder, tmp_path):
    (tmp_path / "mine").write_text("mine")
    for out in (tmp_path, tmp_path / "mine"):
        with pytest.raises(UserError, match="is there already: delete it, or name another folder with -o"):
            export(study_folder, "savedmodel", out)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(study_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Cannot write .*/file/out: Not a directory"):
        export(study_folder, "savedmodel", tmp_path / "file" / "out")


@pytest.mark.parametrize("name", FORMATS_HERE)
def test_a_full_disk_is_named_and_nothing_is_left_on_it(study_folder, tmp_path, name):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"Cannot write .*/out: .*File too large"):
            export(study_folder, name, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_format_that_there_is_not_is_refused_with_those_there_are(study_folder, tmp_path):
    with pytest.raises(UserError, match="exported as 'tflite': choose from savedmodel, onnx"):
        export(study_folder, "tflite", tmp_path / "out")


@with_onnx
def test_a_quantized_model_is_smaller_and_gives_nearly_the_study_s_probabilities(study_folder, own, tmp_path):
    done = export(study_folder, "onnx", tmp_path / "onnx", "int8")
    assert [path.name for path in done.folder.glob("*.onnx")] == ["model.onnx"]
    file, weights = done.folder / "model.onnx", study_folder.model / "model.safetensors"
    assert file.stat().st_size < 0.6 * weights.stat().st_size
    texts = pairs(own.checkpoint.tokenizer)
    given = runner(done.folder)(padded(texts, slice(0, 4)))["probabilities"]
    assert 0 < np.abs(given - own.probabilities(texts)).max() < 0.02
    assert 0 < done.difference < 0.02


@pytest.mark.parametrize(("name", "quantize"), [("savedmodel", "int8"), ("onnx", "int4")])
def test_what_cannot_be_quantized_is_refused(study_folder, tmp_path, name, quantize):
    with pytest.raises(UserError, match=f"{name} cannot be quantized to {quantize}: only onnx can be, to int8"):
        export(study_folder, name, tmp_path / "out", quantize)


def test_onnx_without_its_packages_says_how_to_get_them(study_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"not installed: pip install 'bertgrid-tf\[onnx\]'"):
        export(study_folder, "onnx", tmp_path / "out")


@with_onnx
def test_a_model_that_onnx_cannot_express_is_refused_and_not_kept(study_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("bertgrid_tf.inference.export.OPSET", 8)  # which has no erf
    with pytest.raises(UserError, match=r"A bert model of this kind cannot be exported as onnx \(.*as savedmodel"):
        export(study_folder, "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_study_without_a_final_model_has_nothing_to_export(tmp_path):
    with pytest.raises(UserError, match="has no final model"):
        export(StudyFolder(tmp_path / "study"), "savedmodel", tmp_path / "out")


PLAIN = """
import json, sys
from importlib.util import find_spec
import transformers
folder, texts = sys.argv[1], sys.argv[2:]
for framework, prefix in (("tf", "TF"), ("pt", "")):
    if framework == "pt" and not find_spec("torch"):
        continue
    auto = getattr(transformers, f"{prefix}AutoModelForSequenceClassification")
    model, info = auto.from_pretrained(folder, output_loading_info=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    logits = model(**tokenizer(texts, padding=True, return_tensors=framework)).logits
    classify = transformers.pipeline("text-classification", folder, framework=framework, torch_dtype=None, top_k=None)
    print(json.dumps({
        "framework": framework,
        "unlike": [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]],
        "logits": (logits.detach() if framework == "pt" else logits).numpy().tolist(),
        "pipeline": [{one["label"]: one["score"] for one in answer} for answer in classify(texts)],
    }))
"""


def test_the_study_s_model_is_the_same_in_plain_transformers_in_tensorflow_and_pytorch(study_folder, own):
    plain = {name: value for name, value in os.environ.items() if name not in ("USE_TORCH", "USE_TF")}
    command = [sys.executable, "-c", PLAIN, str(study_folder.model), *TEXTS]
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["framework"] for one in answers] == (["tf", "pt"] if find_spec("torch") else ["tf"])
    expected = own.probabilities(encode(own.checkpoint.tokenizer, [((text,), 0) for text in TEXTS], 16))
    for one in answers:
        assert one["unlike"] == []
        np.testing.assert_allclose(tf.nn.softmax(one["logits"]), expected, atol=1e-4)
        scores = [[answer[label] for label in LABELS] for answer in one["pipeline"]]
        np.testing.assert_allclose(scores, expected, atol=1e-4)
