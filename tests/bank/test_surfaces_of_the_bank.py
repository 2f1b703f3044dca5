"""The tables of the bank that `--search surface` starts from."""

import json

from bertgrid_tf.bank.studies import read_studies
from bertgrid_tf.bank.surfaces import baseline, expected_surfaces, full_tables, weigh


def record(folder, name, text="learning_rate,1,2\n1e-4,50,60\n1e-5,40,45\n", **card):
    known = {
        "task": name,
        "seeds": [1],
        "layers": 2,
        "width": 128,
        "pretrained": False,
        "texts": 10,
        "source": "recorded",
    }
    (folder / f"{name}.json").write_text(json.dumps(known | card))
    (folder / f"{name}-seed1.csv").write_text(text)


def test_full_tables_of_accuracies_are_chosen(tmp_path):
    record(tmp_path, "a")
    record(tmp_path, "b", "learning_rate,1,2\n1e-4,50,\n1e-5,40,45\n")
    record(tmp_path, "c", metric="macro_f1")
    record(tmp_path, "d", baseline=0.3)
    first, last = full_tables(read_studies(tmp_path))
    assert (first.name, baseline(first), last.name, baseline(last)) == ("a", 0.4, "d", 0.3)


def test_tables_weigh_by_the_size_of_their_checkpoint(tmp_path):
    for name, card in {
        "same": {},
        "wider": {"width": 192},
        "large": {"layers": 24},
    }.items():
        record(tmp_path, name, **card)
    record(tmp_path, "unknown", layers=None)
    bank = full_tables(read_studies(tmp_path))
    weights = {table.name: one.weight for table, one in zip(bank, weigh(bank, 2, 128), strict=True)}
    assert weights["same"] > weights["wider"] > weights["large"] > weights["unknown"] == 0
    assert 0.5 < sum(weights.values()) < 1


def test_tables_of_another_size_are_at_the_rates_that_the_bank_s_sizes_tell(tmp_path):
    record(tmp_path, "small")
    record(tmp_path, "large", "learning_rate,1,2\n1.25e-5,50,60\n1.25e-6,40,45\n", layers=16)
    small, large = full_tables(read_studies(tmp_path))[::-1]
    middle = [table.rates for table in weigh([small, large], 8, 128)]
    # Between the two a rate of each moves towards the other's.
    assert 1.25e-5 < middle[0].max() < 1e-4
    assert 1.25e-5 < middle[1].max() < 1e-4
    assert (weigh([small], 8, 128)[0].rates == small.rates).all()


def test_a_study_starts_from_the_package_s_tables_of_about_its_size():
    tables = expected_surfaces("scratch:2x128")
    assert len(tables) == len(full_tables(read_studies()))
    assert 0.5 < sum(table.weight for table in tables) < 1
    assert sum(table.weight for table in expected_surfaces("scratch:96x4096")) < 0.2
