"""Tiny real BERTs and texts that they can learn."""

from pathlib import Path

import pytest
from tiny_bert import LABELS, labelled, sentences, trial

from bertgrid_tf.bert.checkpoint import Checkpoint, load
from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.bert.trainer import Trainer


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return sentences(64, seed=1)[0]


@pytest.fixture(scope="session")
def checkpoint(texts: list[str]) -> Checkpoint:
    """A BERT of one layer, 32 wide, as freshly drawn from seed 0. Tests that change its weights reset it first."""
    checkpoint = load("scratch:1x32", LABELS, texts=texts)
    checkpoint.reset(0)
    return checkpoint


@pytest.fixture(scope="session")
def trainer(checkpoint: Checkpoint, train: EncodedDataset) -> Trainer:
    """Its step is traced here, since any later trainer has the checkpoint's dropout layers draw by another key."""
    trainer = Trainer(checkpoint)
    trainer.time_steps(train, trial(), 1)
    return trainer


@pytest.fixture(scope="session")
def train(checkpoint: Checkpoint) -> EncodedDataset:
    return labelled(checkpoint, 40, seed=2)


@pytest.fixture(scope="session")
def dev(checkpoint: Checkpoint) -> EncodedDataset:
    return labelled(checkpoint, 20, seed=3)


@pytest.fixture
def saved(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """The tiny checkpoint in a folder."""
    checkpoint.reset(0)
    checkpoint.save(tmp_path / "saved")
    return tmp_path / "saved"
