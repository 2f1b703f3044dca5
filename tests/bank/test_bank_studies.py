import json
from concurrent.futures import ThreadPoolExecutor
from math import nan

import numpy as np
import pytest

from bertgrid_tf.bank.card import Card, meta_features, script
from bertgrid_tf.bank.studies import read_studies, user_bank, write_study
from bertgrid_tf.corpus import sample
from bertgrid_tf.errors import UserError
from bertgrid_tf.recipe import load_recipe
from bertgrid_tf.training.encoding import CorpusEncoder
from tuners.table import Table

CARD = Card(task="fun", source="recorded", dev_texts=100)
TABLE = Table((1e-3, 1e-4), 2, [[0.5, 0.75], [0.25, nan]])


def test_the_studies_of_the_package_can_all_be_read():
    studies = read_studies()
    assert len({study.name for study in studies}) == len(studies) >= 5
    for study in studies:
        assert study.scores.shape == (len(study.card.seeds), len(study.rates), study.tried.shape[1])
        assert np.isnan(study.mean).all() == (study.card.source == "published")


def test_what_is_written_is_read_back_and_a_seed_may_come_later(tmp_path):
    write_study(tmp_path / "bank", "one", CARD, {1: TABLE})
    write_study(tmp_path / "bank", "one", CARD, {3: TABLE})
    (study,) = read_studies(tmp_path / "bank")
    assert (study.name, study.card.seeds, study.card.task) == ("one", (1, 3), "fun")
    assert np.array_equal(study.scores, [TABLE.scores] * 2, equal_nan=True)
    assert study.noise == pytest.approx((0.75 * 0.25 / 100) ** 0.5)


def test_of_a_loss_more_is_better_too(tmp_path):
    write_study(tmp_path, "one", CARD.model_copy(update={"metric": "loss"}), {1: TABLE})
    (study,) = read_studies(tmp_path)
    assert np.nanmax(study.mean) == -0.25


def test_without_a_folder_there_are_no_studies(tmp_path, monkeypatch):
    assert read_studies(tmp_path / "none") == ()
    monkeypatch.setenv("BERTGRID_BANK", str(tmp_path))
    assert user_bank() == tmp_path
    monkeypatch.delenv("BERTGRID_BANK")
    assert user_bank().name == "bank"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("b.json", "{"),
        ("b.json", '{"task": "b", "source": "recorded", "seeds": [1], "texts": -1}'),
        ("b.json", '{"task": "b", "source": "recorded", "seeds": []}'),
        ("b.json", '{"task": "b", "source": "recorded", "seeds": [1, 2]}'),
        ("b-seed1.csv", "learning_rate,1\n"),
        ("b-seed1.csv", "learning_rate,1\n0.001,nan\n"),
        ("b-seed1.csv", None),
    ],
    ids=["json", "number", "no-seed", "no-table", "no-row", "no-score", "missing"],
)
def test_a_damaged_study_is_left_out_with_one_sentence(tmp_path, file, content):
    for name in "abc":
        write_study(tmp_path, name, CARD, {1: TABLE})
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_text(content)
    sentences = []
    assert [study.name for study in read_studies(tmp_path, sentences.append)] == ["a", "c"]
    (sentence,) = sentences
    assert str(tmp_path) in sentence
    assert sentence.endswith("delete it, or restore it from a copy.")
    with pytest.raises(UserError):
        read_studies(tmp_path)


def test_several_studies_may_be_added_at_the_same_time(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: write_study(tmp_path, f"s{n}", CARD, {1: TABLE}), range(24)))
    assert len(read_studies(tmp_path)) == 24
    assert len(list(tmp_path.iterdir())) == 48


def test_a_bank_that_is_no_folder_is_refused_and_read_as_empty(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write"):
        write_study(tmp_path / "file", "one", CARD, {1: TABLE})
    assert read_studies(tmp_path / "file") == ()


def test_a_task_is_measured_in_numbers_that_name_no_class():
    recipe, corpus = load_recipe("sample", overrides={"model": "scratch:1x32", "metric": "f1_joy"}), sample()
    features = meta_features(recipe, CorpusEncoder(corpus))
    assert (features.classes, features.layers, features.width, features.script) == (8, 1, 32, "latin")
    assert features.steps == -(-features.texts // recipe.hyperparameters.batch_size)
    assert (features.pretrained, features.family, features.metric) == (False, "bert", "f1")
    assert 0 < features.label_entropy < 3
    assert features.tokens_mean < features.tokens_p99
    assert features.vector_variance == pytest.approx(0.7737 / 32, rel=1e-3)
    written = json.dumps(features.model_dump())
    assert not any(label in written for label in corpus.labels)


def test_the_script_is_that_of_most_letters():
    assert script(["좋은 영화", "ok"]) == "hangul"
    assert script(["123 !"]) is None
