"""Hyperparameters that an architecture cannot have are refused before anything is trained."""

from pathlib import Path

import pytest
import transformers
from tiny_study import corpus_of, tiny

from bertgrid_tf.bert.tokenizer import load_tokenizer
from bertgrid_tf.errors import UserError
from bertgrid_tf.training.encoding import training_texts
from bertgrid_tf.training.recipe_checks import check_recipe


@pytest.fixture
def described(tmp_path: Path):
    """Writes all of a checkpoint that is looked at before its weights; returns the folder."""

    def write(config: str) -> str:
        tokenizer = load_tokenizer("scratch", training_texts(corpus_of(tiny())))
        tokenizer.save_pretrained(tmp_path)
        getattr(transformers, f"{config}Config")(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")  # a file of no tensors
        return str(tmp_path)

    return write


@pytest.mark.parametrize(
    ("config", "changed", "reason"),
    [
        ("Albert", {"layer_decay": 0.9}, "layer_decay 0.9 is not for type 'albert', which DIR is of: use 1."),
        ("Albert", {"sweeps": {"layer_decay": [1, 0.8]}}, "layer_decay 0.8 is not for type 'albert', which DIR is of"),
        ("Albert", {"reinit_layers": 1}, "reinit_layers 1 is not for type 'albert', which DIR is of: use 0."),
        ("Bert", {"sweeps": {"reinit_layers": [0, 13]}}, "reinit_layers 13 is more than the 12 layers of DIR."),
        ("Bert", {"model": "scratch:1x32", "reinit_layers": 1}, "whose layers are drawn anyway: use 0."),
        ("Albert", {"frozen_layers": 1}, "frozen_layers 1 is not for type 'albert', which DIR is of: use 0."),
        ("Bert", {"frozen_layers": 12}, "frozen_layers 12 leaves none of the 12 layers of DIR to train: give fewer."),
        ("Bert", {"frozen_layers": 6, "reinit_layers": 7}, "7 and frozen_layers 6 are more than the 12 layers of DIR"),
        ("DebertaV2", {"pooling": "mean"}, "pooling mean is not for type 'deberta-v2', which DIR is of: use cls."),
        ("DebertaV2", {"hidden_dropout": 0.2}, "hidden_dropout 0.2 is not for type 'deberta-v2', which DIR is of"),
    ],
    ids=str,
)
def test_what_an_architecture_cannot_have_is_refused(described, config, changed, reason):
    folder = described(config)
    recipe = tiny(**{"model": folder, "final.model": "none", "sweeps": {}} | changed)
    with pytest.raises(UserError) as refused:
        check_recipe(recipe, corpus_of(recipe))
    assert reason in str(refused.value).replace(folder, "DIR")


@pytest.mark.parametrize("changed", [{"layer_decay": 0.9}, {"reinit_layers": 2, "frozen_layers": 22}], ids=str)
def test_what_it_can_have_is_not(described, changed):
    recipe = tiny(**{"model": described("DebertaV2"), "final.model": "none", "sweeps": {}} | changed)
    check_recipe(recipe, corpus_of(recipe))
