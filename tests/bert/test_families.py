"""Every family of checkpoints loads, encodes, trains, and is read back by plain transformers."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from families import FAMILIES, LONGEST, Family
from tiny_bert import LABELS, labelled, trial
from transformers import AutoTokenizer, TFAutoModelForSequenceClassification

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.checkpoint_files import positions
from bertgrid_tf.bert.encode import encode
from bertgrid_tf.bert.tokenizer import checkpoint_notes
from bertgrid_tf.bert.trainer import Trainer

KOREAN = ["이 영화 정말 재미있다", "The film was Good", "정말 지루하다 café"]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_checkpoint_of_the_family_trains_and_is_read_by_plain_transformers(
    family: Family, texts: list[str], tmp_path: Path
):
    folder = family.write(tmp_path / "checkpoint", [*texts, *KOREAN])
    assert positions(str(folder)) == LONGEST
    assert checkpoint_notes(str(folder)) == []
    checkpoint = load(str(folder), LABELS)
    tokenizer = checkpoint.tokenizer

    encoded = encode(tokenizer, [(("정말 재미있다", "the film"), 0)], LONGEST)
    tokens = tokenizer.convert_ids_to_tokens(encoded.ids)
    special = [token for token in tokens if token in tokenizer.all_special_tokens]
    assert " ".join(special) == " ".join(family.tokens)
    assert tokens[0] == special[0]
    assert tokens[-1] == special[-1]
    assert tokenizer.decode(encoded.ids, skip_special_tokens=True).replace(" ", "") == "정말재미있다thefilm"
    second = len(tokens) - 1 - tokens[-2::-1].index(special[-2])
    assert encoded.types.tolist() == [0] * second + [int(family.types)] * (len(tokens) - second)

    trainer, (train, dev) = Trainer(checkpoint), (labelled(checkpoint, 8, seed) for seed in (0, 1))
    checkpoint.reset(1)
    before = [variable.numpy() for variable in checkpoint.model.trainable_variables]
    losses = []
    for name in ("one", "other"):
        (epoch,) = trainer.run(train, dev, trial(epochs=1, batch_size=4), tmp_path / name)
        losses.append(epoch.metrics["loss"])
    assert losses[0] == losses[1]
    unchanged = [
        variable.name
        for variable, value in zip(checkpoint.model.trainable_variables, before, strict=True)
        if np.array_equal(variable, value)
    ]
    assert not [name for name in unchanged if "position" not in name and "token_type" not in name], unchanged

    checkpoint.save(tmp_path / "saved")
    plain, pairs = TFAutoModelForSequenceClassification.from_pretrained(tmp_path / "saved"), ("the film", "was fun")
    inputs = AutoTokenizer.from_pretrained(tmp_path / "saved")(*pairs, return_tensors="tf")
    ours = encode(tokenizer, [(pairs, 0)], LONGEST)
    assert inputs["input_ids"].numpy().tolist() == [ours.ids.tolist()]
    if getattr(checkpoint.model.config, "type_vocab_size", 2) < 2:
        inputs.pop("token_type_ids", None)  # more than the model has embeddings for
    ids, types = tf.constant([ours.ids]), tf.constant([ours.types])
    logits = trainer._forward(ids, types, tf.ones_like(ids), False)
    np.testing.assert_allclose(plain(inputs).logits, logits, atol=1e-5)
