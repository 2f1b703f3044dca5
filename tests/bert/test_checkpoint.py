import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file
from tiny_bert import LABELS
from transformers import AutoTokenizer, TFBertForSequenceClassification, TFBertModel

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.checkpoint_files import identity, positions
from bertgrid_tf.bert.encode import EncodedDataset, encode
from bertgrid_tf.bert.layers import layer_numbers
from bertgrid_tf.bert.scratch import train_tokenizer
from bertgrid_tf.bert.tokenizer import checkpoint_notes
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.errors import UserError


def logits(checkpoint) -> np.ndarray:
    ids = tf.constant([[2, 5, 6, 7, 3]])
    return checkpoint.logits(ids, tf.zeros_like(ids), tf.ones_like(ids), training=False).numpy()


def weights(checkpoint) -> dict[str, np.ndarray]:
    return {v.name.split("/", 1)[1]: v.numpy() for v in checkpoint.model.variables}


def test_the_seed_draws_what_no_file_holds(checkpoint):
    checkpoint.reset(1)
    one = weights(checkpoint)
    checkpoint.reset(2)
    other = weights(checkpoint)
    checkpoint.reset(1)
    again = weights(checkpoint)
    assert all(np.array_equal(one[name], again[name]) for name in one)
    kernel, scale, bias = "classifier/kernel:0", "bert/embeddings/LayerNorm/gamma:0", "classifier/bias:0"
    assert (one[kernel] != other[kernel]).any()
    assert (one[scale] == 1).all()
    assert (one[bias] == 0).all()
    # A normal cut off at two deviations deviates by 0.88 of what it would.
    embeddings, deviation = one["bert/embeddings/word_embeddings/weight:0"], 32**-0.5
    assert 0.8 * deviation < embeddings.std() < deviation
    assert abs(embeddings).max() <= 2 * deviation


def test_a_saved_checkpoint_gives_the_same_logits_and_draws_nothing_anew(checkpoint, saved):
    again = load(str(saved), LABELS)
    np.testing.assert_allclose(logits(again), logits(checkpoint), atol=1e-6)
    assert again.fresh == frozenset()
    assert again.labels == LABELS
    again.reset(99)
    np.testing.assert_allclose(logits(again), logits(checkpoint), atol=1e-6)


def test_plain_transformers_loads_what_was_saved_with_its_label_names(checkpoint, saved):
    model = TFBertForSequenceClassification.from_pretrained(saved)
    tokenizer = AutoTokenizer.from_pretrained(saved)
    assert model.config.id2label == {0: "bad", 1: "good"}
    inputs = tokenizer("the film was fun", return_tensors="tf")
    ours = checkpoint.logits(inputs["input_ids"], inputs["token_type_ids"], inputs["attention_mask"], False)
    np.testing.assert_allclose(model(inputs).logits, ours, atol=1e-6)


def test_saved_weights_have_pytorch_s_names_and_layout(checkpoint, saved):
    held = load_file(saved / "model.safetensors")
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    assert held[name].shape == (128, 32)
    np.testing.assert_array_equal(
        held[name].T, weights(checkpoint)["bert/encoder/layer_._0/intermediate/dense/kernel:0"]
    )
    assert "bert.embeddings.word_embeddings.weight" in held
    assert "classifier.bias" in held


@pytest.mark.parametrize("safe", [True, False])
def test_a_bare_encoder_gets_a_head_from_the_seed_and_keeps_its_own_weights(checkpoint, saved, tmp_path, safe):
    TFBertModel.from_pretrained(saved).save_pretrained(tmp_path / "bare", safe_serialization=safe)
    AutoTokenizer.from_pretrained(saved).save_pretrained(tmp_path / "bare")
    bare = load(str(tmp_path / "bare"), ("a", "b", "c"))
    assert {bare.model.variables[i].name.split("/")[1] for i in bare.fresh} == {"classifier"}
    bare.reset(0)
    ours, theirs = weights(checkpoint), weights(bare)
    name = "bert/encoder/layer_._0/attention/self/query/kernel:0"
    np.testing.assert_array_equal(ours[name], theirs[name])
    assert theirs["classifier/kernel:0"].shape == (32, 3)


def test_a_head_of_other_classes_is_drawn_anew(saved):
    other = load(str(saved), ("a", "b", "c"))
    assert {other.model.variables[i].name.split("/")[1] for i in other.fresh} == {"classifier"}


def test_top_layers_are_drawn_anew_with_all_above_them_and_the_rest_is_the_file_s(texts, tmp_path):
    held = load("scratch:2x32", LABELS, texts=texts)
    held.reset(0)
    for variable in held.model.variables:
        variable.assign_add(tf.fill(variable.shape, 0.01))
    held.save(tmp_path / "held")
    checkpoint = load(str(tmp_path / "held"), LABELS)
    model = checkpoint.model

    def values(seed: int, reinit_layers: int) -> list[np.ndarray]:
        checkpoint.reset(seed, reinit_layers)
        return [variable.numpy() for variable in model.variables]

    numbers = layer_numbers(model.variables, model.base_model_prefix)
    drawn, repeated, other = values(3, 1), values(3, 1), values(4, 1)
    everything = zip(model.variables, numbers, drawn, repeated, other, checkpoint.initial, strict=True)
    for variable, number, one, two, three, file in everything:
        assert np.array_equal(one, two)
        if number < 2:
            assert np.array_equal(one, file), variable.name
        elif variable.name.endswith(("bias:0", "beta:0", "gamma:0")):
            assert (one == variable.name.endswith("gamma:0")).all()
        else:
            assert (one != file).any() and (one != three).any()
            assert np.abs(one).max() <= 2 * model.config.initializer_range
    assert all(map(np.array_equal, values(3, 0), checkpoint.initial))
    # Compared trials begin with the same head.
    fresh = load(str(tmp_path / "held"), ("a", "b", "c"))
    heads = []
    for reinit_layers in (0, 2):
        fresh.reset(3, reinit_layers)
        heads.append([fresh.model.variables[index].numpy() for index in sorted(fresh.fresh)])
    assert len(heads[0]) == 2 and all(map(np.array_equal, *heads))


@pytest.mark.parametrize("safe", [True, False])
def test_tensorflow_s_own_files_load(checkpoint, saved, tmp_path, safe):
    folder = tmp_path / "tf"
    TFBertForSequenceClassification.from_pretrained(saved).save_pretrained(folder, safe_serialization=safe)
    AutoTokenizer.from_pretrained(saved).save_pretrained(folder)
    assert (folder / ("model.safetensors" if safe else "tf_model.h5")).is_file()
    again = load(str(folder), LABELS)
    assert again.fresh == frozenset()
    np.testing.assert_allclose(logits(again), logits(checkpoint), atol=1e-6)


def test_missing_encoder_weights_are_an_error_and_not_drawn(saved):
    held = load_file(saved / "model.safetensors")
    del held["bert.encoder.layer.0.output.dense.weight"]
    save_file(held, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights of its encoder \(bert.encoder.layer.0.output.dense.weight"):
        load(str(saved), LABELS)


def test_as_long_a_text_as_the_positions_reach_can_be_trained(checkpoint):
    assert positions(checkpoint.name) == 512
    ids = tf.fill([1, 512], 5)
    assert np.isfinite(checkpoint.logits(ids, tf.zeros_like(ids), tf.ones_like(ids), training=False)).all()


def test_damaged_files_are_named(saved):
    (saved / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=r"weights of checkpoint .* cannot be read"):
        load(str(saved), LABELS)
    (saved / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load(str(saved), LABELS)


def test_a_scratch_vocabulary_is_the_same_every_time(texts):
    # Its trainer's hash tables are seeded anew at every call, so that one process shows what several would.
    vocabularies = [train_tokenizer(texts).get_vocab() for _ in range(5)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


def test_a_scratch_vocabulary_keeps_hangul_syllables_and_accents():
    tokenizer = train_tokenizer(["영화 정말 재미있다", "영화 café"] * 3)
    assert tokenizer.tokenize("영화") == ["영화"]
    assert tokenizer.tokenize("Café") == ["café"]


def test_a_word_that_is_unknown_for_its_length_is_no_part_of_a_scratch_vocabulary():
    plain, long = ["abc abd,abc"] * 3, "x" * 100_000  # which as a part takes minutes and a piece of each length
    spelt = [text.replace("abd", f"abd,{long}") for text in plain]
    vocabulary = train_tokenizer(spelt).get_vocab()
    assert vocabulary.keys() == train_tokenizer([*plain, "x"]).get_vocab().keys()
    assert train_tokenizer(spelt).tokenize(long) == ["[UNK]"]


def test_scratch_says_its_size(texts):
    config = load("scratch:3x64", LABELS, texts=texts).model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 64, 2)


@pytest.mark.parametrize("name", ["scratch:0x64", "scratch:2x50"])
def test_an_impossible_size_is_refused(name, texts):
    with pytest.raises(UserError, match="multiple of 32"):
        load(name, LABELS, texts=texts)


def test_scratch_without_text_is_refused():
    with pytest.raises(UserError, match="no text to train a vocabulary on"):
        load("scratch", LABELS, texts=["", " "])


def test_markers_become_tokens_that_begin_as_the_mean_of_their_pieces(texts):
    plain = load("scratch:1x32", LABELS, texts=[*texts, "[none] none says"])
    marked = load("scratch:1x32", LABELS, texts=[*texts, "[none] none says"], markers=["[None]", "[Says]"])
    assert len(plain.tokenizer.tokenize("fun [None]")) > 2
    assert marked.tokenizer.tokenize("fun [None]") == ["fun", "[None]"]
    encoded = encode(marked.tokenizer, [(("[Says] it", "[None]"), 0)], 16)
    labels = EncodedDataset(encoded, np.zeros(1, np.int32))
    assert Trainer(marked).probabilities(labels.texts).shape == (1, 2)


def test_marked_embeddings_are_means_where_the_checkpoint_holds_them(saved):
    marked = load(str(saved), LABELS, markers=["[None]"])
    table = marked.model.get_input_embeddings().weight.numpy()
    pieces = AutoTokenizer.from_pretrained(saved)("[None]", add_special_tokens=False)["input_ids"]
    np.testing.assert_allclose(table[-1], table[pieces].mean(axis=0), rtol=1e-5)
    assert len(table) == len(marked.tokenizer)
    assert marked.fresh == frozenset()


def test_token_types_reach_the_model(checkpoint):
    checkpoint.reset(0)
    ids = tf.constant([[2, 5, 6, 3, 7, 3]])
    plain = checkpoint.logits(ids, tf.zeros_like(ids), tf.ones_like(ids), training=False)
    typed = checkpoint.logits(ids, tf.constant([[0, 0, 0, 0, 1, 1]]), tf.ones_like(ids), training=False)
    assert not np.allclose(plain, typed)


def test_tokens_beyond_the_embeddings_get_rows_that_begin_as_the_mean_of_the_others(saved, checkpoint):
    (saved / "tokenizer.json").unlink()
    with (saved / "vocab.txt").open("a", encoding="utf-8") as vocabulary:
        vocabulary.write("zebra\nzoo\n")
    rows = checkpoint.model.config.vocab_size
    assert checkpoint_notes(str(saved)) == [
        f"The vocabulary of {saved} has {rows + 2} tokens and its embeddings {rows} rows: 2 rows are added, which "
        "begin as the mean of the others."
    ]
    grown = load(str(saved), LABELS)
    table = grown.model.get_input_embeddings().weight.numpy()
    assert grown.tokenizer("zoo", add_special_tokens=False)["input_ids"] == [rows + 1]
    np.testing.assert_allclose(table[rows:], [table[:rows].mean(axis=0)] * 2, rtol=1e-5)
    assert grown.fresh == frozenset()
    encoded = encode(grown.tokenizer, [(("zoo", "film"), 0)], 16)
    assert np.isfinite(Trainer(grown).probabilities(encoded)).all()


def test_another_model_s_vocabulary_is_refused(saved, checkpoint):
    (saved / "tokenizer.json").unlink()
    with (saved / "vocab.txt").open("a", encoding="utf-8") as vocabulary:
        vocabulary.writelines(f"other{number}\n" for number in range(checkpoint.model.config.vocab_size))
    with pytest.raises(
        UserError, match=r"does not fit together: its vocabulary has \d+ tokens, its embeddings \d+ rows"
    ):
        load(str(saved), LABELS)


def test_weights_that_are_no_numbers_are_refused(saved):
    held = load_file(saved / "model.safetensors")
    held["bert.pooler.dense.bias"][3] = np.nan
    save_file(held, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"are damaged: bert.pooler.dense.bias holds values that are no finite numbers"):
        load(str(saved), LABELS)


def test_a_family_whose_word_embeddings_are_not_trained_here_is_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(UserError, match="is of type 'gpt2', whose word embeddings cannot be trained here: choose BERT"):
        load(str(saved), LABELS)


def test_the_identity_of_a_checkpoint_is_that_of_its_content(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    assert identity(str(saved)) == identity(str(tmp_path / "copy"))
    held = load_file(saved / "model.safetensors")
    held["classifier.bias"] = held["classifier.bias"] + 1
    save_file(held, saved / "model.safetensors", metadata={"format": "pt"})
    assert identity(str(saved)) != identity(str(tmp_path / "copy"))
    assert identity("scratch:2x64") == "scratch:2x64"


def test_positions_are_read_off_the_config(saved):
    assert positions(str(saved)) == 512
    assert positions("scratch") == 512
