"""The recorded tables that `--search surface` starts from."""

import json

import numpy as np
import pytest

from bertgrid_tf.errors import UserError
from bertgrid_tf.study.recorded_tables import like_model, read_tables, weigh


def record(folder, name, text="learning_rate,1,2\n1e-4,50,60\n1e-5,40,45\n", **card):
    known = {"task": name, "seeds": [1], "layers": 2, "width": 128, "pretrained": False, "texts": 10}
    (folder / f"{name}.json").write_text(json.dumps(known | card))
    (folder / f"{name}-seed1.csv").write_text(text)


def test_full_tables_of_accuracies_are_read(tmp_path):
    record(tmp_path, "a")
    record(tmp_path, "b", "learning_rate,1,2\n1e-4,50,\n1e-5,40,45\n")
    record(tmp_path, "c", metric="loss")
    (table,) = read_tables(tmp_path)
    assert (table.name, table.baseline, table.scores.tolist()) == ("a", 0.4, [[[0.5, 0.6], [0.4, 0.45]]])
    assert read_tables(tmp_path / "nowhere") == []


@pytest.mark.parametrize("damage", [{"seeds": []}, {"seeds": [1, 2]}, {"layers": "two"}])
def test_a_damaged_table_is_named(tmp_path, damage):
    record(tmp_path, "a", **damage)
    with pytest.raises(UserError, match=r"a(-seed2)?\.(json|csv)"):
        read_tables(tmp_path)


def test_tables_weigh_by_the_size_of_their_checkpoint(tmp_path):
    for name, card in {
        "same": {},
        "wider": {"width": 192},
        "large": {"layers": 24},
        "real": {"pretrained": True},
    }.items():
        record(tmp_path, name, **card)
    record(tmp_path, "unknown", layers=None)
    bank = read_tables(tmp_path)
    weights = {table.name: one.weight for table, one in zip(bank, weigh(bank, 2, 128, False), strict=True)}
    assert weights["same"] > weights["wider"] > weights["large"]
    assert weights["real"] == weights["unknown"] == 0
    assert 0.5 < sum(weights.values()) < 1
    (same, *_) = (
        one for table, one in zip(bank, like_model(bank, "scratch:2x128"), strict=True) if table.name == "same"
    )
    assert same.weight == weights["same"]
    np.testing.assert_array_equal(same.scores, [[0.5, 0.6], [0.4, 0.45]])
