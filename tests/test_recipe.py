"""A recipe as people write it: read, overridden, refused in a sentence, written, read back."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf import recipe as recipes
from bertgrid_tf.corpus import CONTEXTS, SPEAKER_FORMATS
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import SWEEPABLE, Hyperparameters
from bertgrid_tf.recipe import Recipe, differing_keys, load_recipe

RATES = st.floats(min_value=1e-9, max_value=0.999)
RECIPES = st.builds(
    Recipe,
    corpus=st.sampled_from(["sample", "mein korpus", "영화"]),
    max_train_samples=st.none() | st.integers(1, 10**6),
    metric=st.sampled_from(["accuracy", "macro_f1", "weighted_f1", "loss", "f1_joy", "recall_a b", "precision_분노"]),
    seed=st.integers(0, 2**40),
    hyperparameters=st.builds(
        Hyperparameters,
        model=st.sampled_from(["scratch:1x32", "bert-base-cased", "../a folder", "no", "123"]),
        learning_rate=RATES,
        batch_size=st.integers(1, 512) | st.just("auto"),
        max_length=st.integers(3, 512),
        context=st.sampled_from(CONTEXTS),
        speaker_format=st.sampled_from(SPEAKER_FORMATS),
        oversample_ratio=st.floats(0, 1),
        warmup_ratio=st.floats(0, 1),
        weight_decay=st.floats(0, 1),
    ),
    sweeps=st.fixed_dictionaries(
        {},
        optional={
            "context": st.lists(st.sampled_from(CONTEXTS), min_size=1, unique=True),
            "max_length": st.lists(st.integers(3, 512), min_size=1, unique=True),
            "oversample_ratio": st.lists(st.floats(0, 1), min_size=1, unique=True),
            "model": st.lists(st.sampled_from(["a", "no", "1e5", "null", "12"]), min_size=1, unique=True),
        },
    ),
    learning_rates=st.lists(RATES, min_size=1, max_size=4, unique=True),
    epochs=st.integers(1, 50),
    grid_schedule=st.sampled_from(["shared", "per-cell"]),
    final=st.sampled_from(
        [
            recipes.Final(),
            recipes.Final(model="big", batch_size=10, gpus=2),
            recipes.Final(model={"a": "b", "no": "none"}, batch_size="auto", gpus="all"),
        ]
    ),
)


def refusal(**overrides: object) -> str:
    with pytest.raises(UserError) as refused:
        load_recipe("sample", None, overrides)
    return str(refused.value)


@pytest.fixture
def written(tmp_path: Path):
    """Writes a recipe file of this text."""

    def write(text: str) -> Path:
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "recipe.yaml"

    return write


@pytest.mark.parametrize("name", recipes.recipe_names())
def test_the_recipes_of_the_package_load_and_name_their_corpus(name):
    assert load_recipe(name).corpus == name


def test_friends_has_the_ranges_of_the_paper():
    friends = load_recipe("friends")
    assert set(friends.sweeps["context"]) == set(CONTEXTS)
    assert friends.sweeps["speaker_format"] == ["colon", "plain", "brackets", "says"]
    assert 6e-6 in friends.learning_rates
    assert friends.final.batch_size == 10


def test_an_override_reaches_the_hyperparameters_with_and_without_their_name():
    assert load_recipe("sample", None, {"max_length": "20"}).hyperparameters.max_length == 20
    assert load_recipe("sample", None, {"hyperparameters.max_length": "20"}) == load_recipe(
        "sample", None, {"max_length": "20"}
    )


def test_an_override_of_a_nested_key_leaves_its_neighbours():
    overridden = load_recipe("friends", None, {"final.model": "other", "sweeps.context": ["current"]})
    assert overridden.final == recipes.Final(model="other", batch_size=10)
    assert list(overridden.sweeps) == list(load_recipe("friends").sweeps)
    assert overridden.sweeps["context"] == ["current"]


@pytest.mark.parametrize(("given", "gpus"), [("4", 4), (4, 4), ("all", "all")])
def test_the_final_model_s_gpus_are_a_number_or_all(given, gpus):
    assert load_recipe("sample").final.gpus == 1
    assert load_recipe("sample", None, {"final.gpus": given}).final.gpus == gpus


def test_an_emptied_sweep_is_the_base_for_those_that_follow():
    overridden = load_recipe("sample", None, {"sweeps": {}, "sweeps.oversample_ratio": ["0", "0.5"]})
    assert overridden.sweeps == {"oversample_ratio": [0.0, 0.5]}


@pytest.mark.parametrize(
    ("parameter", "levels", "typed"),
    [
        ("max_length", ["32", "64"], [32, 64]),
        ("oversample_ratio", ["0", "1"], [0.0, 1.0]),
        ("model", ["1", "2"], None),
        ("undersample", ["none", "neutral:0.5"], ["none", "neutral:0.5"]),
        ("group_by_length", ["always", "never"], ["always", "never"]),
        ("hidden_dropout", ["checkpoint", "0", 0.25], ["checkpoint", "0.0", "0.25"]),
    ],
)
def test_levels_take_the_type_of_their_parameter(parameter, levels, typed):
    swept = load_recipe("sample", None, {"sweeps": {parameter: levels}}).sweeps[parameter]
    assert swept == (typed or levels)
    assert {type(level) for level in swept} == {type(getattr(Hyperparameters(), parameter))}


def test_levels_are_the_same_however_they_are_written(written):
    file = written("sweeps: {max_length: [32, '64'], oversample_ratio: [0, 1]}")
    typed = load_recipe("sample", None, {"sweeps": {"max_length": [32, 64], "oversample_ratio": ["0", "1.0"]}})
    assert load_recipe("sample", file).sweeps == typed.sweeps


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {"hidden_dropout": "1"},
            "hidden_dropout must be a number from 0 to below 1, or checkpoint, not '1'",
        ),
        (
            {"sweeps": {"classifier_dropout": ["none"]}},
            "classifier_dropout=none is no level to sweep: must be a number from 0 to below 1, or checkpoint",
        ),
        ({"epochs": "0"}, "epochs must be a whole number from 1 to 10,000, not '0'"),
        ({"epochs": "1.5"}, "epochs must be a whole number from 1 to 10,000, not '1.5'"),
        ({"sweep_epochs": 0}, "sweep_epochs must be a whole number from 1 to 10,000, not 0"),
        ({"learning_rates": ["0"]}, "each of learning_rates must be a number above 0 and below 1, not '0'"),
        ({"learning_rates": ["-1e-4"]}, "each of learning_rates must be a number above 0 and below 1, not '-1e-4'"),
        ({"learning_rates": ["1e30"]}, "each of learning_rates must be a number above 0 and below 1, not '1e30'"),
        ({"learning_rates": ["nan"]}, "each of learning_rates must be a number above 0 and below 1, not 'nan'"),
        ({"learning_rates": ["fast"]}, "each of learning_rates must be a number above 0 and below 1, not 'fast'"),
        (
            {"learning_rates": ["1e-4;2e-4"]},
            "each of learning_rates must be a number above 0 and below 1, not '1e-4;2e-4'",
        ),
        ({"learning_rates": ["1e-4", "0.0001"]}, "learning_rates: a learning rate stands there twice"),
        ({"learning_rates": "1e-4"}, "learning_rates must be a list, as [a, b], not '1e-4'"),
        ({"learning_rates": []}, "learning_rates must not be empty"),
        ({"learning_rate": "0"}, "learning_rate must be a number above 0 and below 1, not '0'"),
        ({"max_length": "2"}, "max_length must be a whole number from 3 to 65,536, not '2'"),
        ({"batch_size": "0"}, "batch_size must be a whole number from 1 to 1,048,576, or auto, not '0'"),
        ({"min_speaker_count": "-1"}, "min_speaker_count must be a whole number from 0 to 1,000,000,000, not '-1'"),
        ({"oversample_ratio": "1.1"}, "oversample_ratio must be a number from 0 to 1, not '1.1'"),
        ({"warmup_ratio": "-0.1"}, "warmup_ratio must be a number from 0 to 1, not '-0.1'"),
        ({"weight_decay": "1e39"}, "weight_decay must be a number from 0 to 1e+09, not '1e39'"),
        ({"max_grad_norm": "inf"}, "max_grad_norm must be a number above 0 and at most 1e+09, not 'inf'"),
        ({"max_grad_norm": "nan"}, "max_grad_norm must be a number above 0 and at most 1e+09, not 'nan'"),
        ({"seed": "-1"}, "seed must be a whole number from 0 to 9,223,372,036,854,775,807, not '-1'"),
        ({"max_train_samples": "0"}, "max_train_samples must be a whole number from 1 to 1,000,000,000, not '0'"),
        ({"n_seeds": "9" * 20}, f"n_seeds must be a whole number from 1 to 1,000, not '{'9' * 20}'"),
        ({"epochs": "1e9"}, "epochs must be a whole number from 1 to 10,000, not '1e9'"),
        ({"epochs": 10**5000}, "epochs must be a whole number from 1 to 10,000, not a number of thousands of digits"),
        ({"epochs": float("nan")}, "epochs must be a whole number from 1 to 10,000, not nan"),
        ({"max_length": 10**9}, "max_length must be a whole number from 3 to 65,536, not 1000000000"),
        ({"batch_size": 1e300}, "batch_size must be a whole number from 1 to 1,048,576, or auto, not 1e+300"),
        ({"focal_gamma": "inf"}, "focal_gamma must be a number from 0 to 1,000, not 'inf'"),
        ({"learning_rates": [1e-4] * 2000}, "learning_rates must not have more than 1,000 items"),
        ({"metric": "x" * 1000}, f"metric: there is no '{'x' * 78}…; choose from accuracy"),
        ({"model": ""}, "model must not be empty"),
        ({"model": None}, "model must be a word, not None"),
        ({"final.model": ""}, "final.model must not be empty"),
        ({"final.batch_size": "0"}, "final.batch_size must be a whole number from 1 to 1,048,576, or auto, not '0'"),
        ({"final.gpus": "0"}, "final.gpus must be a whole number from 1 to 1,024, or all, not '0'"),
        ({"final.gpus": 1.5}, "final.gpus must be a whole number from 1 to 1,024, or all, not 1.5"),
        ({"final.folds": 1}, "final.folds must be a whole number from 2 to 100, not 1"),
        ({"final.folds": 5, "final.n_seeds": 2}, "final: folds divides the training texts"),
        ({"final.folds": 5, "final.train_on": "train+dev"}, "final: folds divides the training texts, and each"),
        ({"final.gpus": "both"}, "final.gpus must be a whole number from 1 to 1,024, or all, not 'both'"),
        ({"final": "big"}, "final must be keys with values, as {key: value}, not 'big'"),
        ({"final.size": 3}, "there is no key 'final.size'; choose from model, batch_size"),
        (
            {"hyperparameters.lenght": 3},
            "there is no key 'lenght'; choose from model, learning_rate, batch_size, max_length",
        ),
        ({"data.text_column": "text"}, "data.label_column is missing; give --label-column"),
        ({"data.file": "x.csv"}, "data.text_column is missing; give --text-column"),
        ({"data": {"file": "x", "text_column": "t"}}, "data.label_column is missing; give --label-column"),
        ({"grid_schedule": "full"}, "grid_schedule must be 'shared' or 'per-cell', not 'full'"),
        ({"markers": "none"}, "markers must be 'pieces' or 'tokens', not 'none'"),
        ({"lr_schedule": "cosine"}, "lr_schedule must be 'linear', 'constant' or 'inverse_sqrt', not 'cosine'"),
        ({"group_by_length": "sorted"}, "group_by_length must be 'auto', 'always' or 'never', not 'sorted'"),
        ({"context": "next"}, "context: there is no 'next'; choose from current, current+previous"),
        ({"speaker_format": "dash"}, "speaker_format: there is no 'dash'; choose from colon, plain"),
        (
            {"metric": "f1"},
            "metric: there is no 'f1'; choose from accuracy, macro_f1, weighted_f1, loss, balanced_accuracy, mcc",
        ),
        ({"sweeps": "context"}, "sweeps must be keys with values, as {key: value}, not 'context'"),
        ({"sweeps.context": "current"}, "sweeps.context must be a list, as [a, b], not 'current'"),
        ({"sweeps.context": []}, "the sweep of context has no level"),
        ({"sweeps.context": [None]}, "each of sweeps.context must be a number or a word, not None"),
        ({"sweeps.context": ["current", ""]}, "the sweep of context has an empty level; give its levels as a,b,c"),
        ({"sweeps.context": ["current", "all"]}, "context=all is no level to sweep: there is no 'all'; choose from"),
        (
            {"sweeps.max_length": ["64", "x"]},
            "max_length=x is no level to sweep: must be a whole number from 3 to 65,536, not 'x'",
        ),
        ({"sweeps.oversample_ratio": ["0", "0.0"]}, "the sweep of oversample_ratio has a level twice"),
        ({"sweeps.batch_size": ["16", "auto"]}, "batch_size=auto is measured once, before the search, and no level to"),
        ({"sweeps.contxt": ["current"]}, "there is no parameter 'contxt' to sweep; choose from model, batch_size"),
        (
            {"sweeps.learning_rate": ["1e-4"]},
            "learning_rate is coupled and has the grid: give learning_rates and epochs",
        ),
        ({"sweeps.epochs": ["1"]}, "epochs is coupled and has the grid"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_key_and_what_it_must_be(overrides, sentence):
    assert refusal(**overrides).startswith(f"Recipe sample: {sentence}")
    assert refusal(**overrides).endswith(".")


def test_an_unknown_setting_is_refused_with_those_there_are():
    assert refusal(lenght=3).startswith("There is no setting 'lenght'; choose from model, learning_rate")


def test_an_unknown_recipe_is_refused_with_those_there_are():
    with pytest.raises(UserError, match="no recipe 'freinds': choose from friends, nsmc, sample, or give --data FILE"):
        load_recipe("freinds")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", " is empty."),
        ("just words", " holds no keys: write it as KEY: VALUE, a line each."),
        ("- a list", " holds no keys: write it as KEY: VALUE, a line each."),
        ("epochs: 3\nmetric: [", " is not YAML: line 2, column 10: "),
        ("epochs: 3\nepochs: 4", " is not YAML: line 2, column 1: the key 'epochs' stands there twice."),
        ("seed: &a 1\nepochs: *a", " is not YAML: line 2, column 9: a recipe has no aliases: write the value again."),
        ("&a [*a]", " is not YAML: line 1, column 5: a recipe has no aliases"),
        ("[" * 10_000, " is not YAML: it is nested too deeply."),
        ("seed: " + "1" * 5000, " is not YAML: Exceeds the limit (4300 digits)"),
        ("seed: 2026-99-99", " is not YAML: month must be in 1..12."),
        ("seed: !!bool perhaps", " is not YAML: 'perhaps'."),
        ("seed: !!python/object:os.system x", " is not YAML: line 1, column 7: could not determine a constructor"),
        ('sweeps: {model: ["\\ud800"]}', ": a text in it is not UTF-8; write it in UTF-8."),
        ("#" * 2**20 + "\nseed: 1", " has more than 1 MiB, the most that is read; divide it."),
        ("1: 2", ": Keys should be strings, not 1."),
        ("epoch: 3", ": there is no key 'epoch'; choose from corpus, data, max_train_samples"),
        ("hyperparameters: {lr: 3}", ": there is no key 'lr'; choose from model, learning_rate"),
        ("epochs: many", ": epochs must be a whole number from 1 to 10,000, not 'many'."),
        ("sweeps:\n  context:", ": sweeps.context must be a list, as [a, b], not None."),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_its_name(written, text, sentence):
    file = written(text)
    with pytest.raises(UserError) as refused:
        load_recipe("sample", file)
    assert f"{file}{sentence}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_recipe_file_a_folder_and_broken_utf_8_are_refused(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("corpus: \xfc".encode("latin-1"))
    for name, sentence in (
        ("none.yaml", "does not exist"),
        (".", "is a folder"),
        ("latin.yaml", "is not UTF-8: line 1"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_recipe("sample", tmp_path / name)


def test_a_recipe_file_takes_the_place_of_the_package_s(written):
    file = written("epochs: 2")
    assert load_recipe("sample", file) == Recipe(corpus="sample", epochs=2)


def test_a_value_that_overrides_is_checked_as_one_that_is_written(written):
    assert load_recipe("sample", written("epochs: 2"), {"epochs": "3"}).epochs == 3


def test_a_class_that_the_corpus_lacks_is_refused_with_those_it_has():
    for overrides, sentence in (
        ({"metric": "f1_rage"}, "Metric f1_rage: there is no class 'rage'; choose from anger, joy."),
        ({"undersample": "rage"}, "there is no class 'rage'; the classes are anger, joy"),
        ({"sweeps": {"undersample": ["none", "joy:0.5", "rage"]}}, "there is no class 'rage'"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_recipe("sample", None, overrides).check_classes(["anger", "joy"])
    load_recipe("sample", None, {"metric": "f1_joy", "undersample": "joy:0.5"}).check_classes(["anger", "joy"])


@given(RECIPES)
def test_a_recipe_written_and_read_back_is_the_same(tmp_path_factory, recipe):
    file = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    reread = load_recipe("anything", file)
    assert reread == recipe
    assert differing_keys(reread, recipe) == []
    assert [[type(level) for level in levels] for levels in reread.sweeps.values()] == [
        [type(level) for level in levels] for levels in recipe.sweeps.values()
    ]


@given(RECIPES, RECIPES)
def test_recipes_differ_in_the_keys_whose_values_differ(one, other):
    keys = differing_keys(one, other)
    assert keys == differing_keys(other, one) or set(keys) == set(differing_keys(other, one))
    assert bool(keys) == (one != other or list(one.sweeps) != list(other.sweeps))
    assert ("seed" in keys) == (one.seed != other.seed)
    assert ("hyperparameters.max_length" in keys) == (
        one.hyperparameters.max_length != other.hyperparameters.max_length
    )
    assert not {"hyperparameters", "final"}.intersection(keys)


def test_a_sweep_more_a_level_more_and_another_order_each_count_as_a_difference():
    sweeps = {"context": ["current", "current+next"], "oversample_ratio": [0, 1]}
    one = load_recipe("sample", None, {"sweeps": sweeps})
    for other, keys in (
        ({"context": sweeps["context"]}, ["sweeps.oversample_ratio"]),
        ({**sweeps, "context": ["current+next", "current"]}, ["sweeps.context"]),
        (dict(reversed(sweeps.items())), ["sweeps"]),
        ({}, ["sweeps.context", "sweeps.oversample_ratio"]),
    ):
        assert differing_keys(one, load_recipe("sample", None, {"sweeps": other})) == keys


def test_data_of_one_s_own_against_none_is_one_difference():
    data = {"file": "a.csv", "text_column": "t", "label_column": "l"}
    assert differing_keys(load_recipe("sample"), load_recipe("sample", None, {"data": data})) == ["data"]
    assert differing_keys(
        load_recipe("x", None, {"data": data}), load_recipe("x", None, {"data": data | {"file": "b.csv"}})
    ) == ["data.file"]


def test_a_final_model_follows_the_model_that_the_search_chose():
    final = load_recipe("friends").final
    assert final.model_for("bert-base-uncased") == "bert-large-uncased"
    assert final.model_for("another") == "another"
    assert recipes.Final(model="big").model_for("another") == "big"
    assert recipes.Final().model_for("another") is None
    assert recipes.Final(model={"a": "none"}).model_for("a") is None


def test_only_the_loss_is_better_when_less():
    assert {m: load_recipe("sample", None, {"metric": m}).direction() for m in ("accuracy", "loss", "f1_joy")} == {
        "accuracy": "max",
        "loss": "min",
        "f1_joy": "max",
    }


def test_every_hyperparameter_but_the_learning_rate_can_be_swept():
    assert set(SWEEPABLE) == set(Hyperparameters.model_fields) - {"learning_rate"}


def test_every_key_of_a_written_recipe_is_there_so_that_later_defaults_change_nothing():
    written = yaml.safe_load(load_recipe("sample").to_yaml())
    assert list(written) == list(Recipe.model_fields)
    assert list(written["hyperparameters"]) == list(Hyperparameters.model_fields)


def test_a_hyperparameter_that_is_set_is_not_swept_by_the_package_s_recipe():
    assert "model" not in load_recipe("friends", None, {"model": "other"}).sweeps
    swept = load_recipe("friends", None, {"model": "other", "sweeps.model": ["other", "another"]})
    assert swept.sweeps["model"] == ["other", "another"]
    assert list(swept.sweeps) == list(load_recipe("friends").sweeps)


def test_a_recipe_takes_overrides_as_a_file_does(written):
    recipe = load_recipe("friends", None, {"epochs": 2})
    file = written(recipe.to_yaml())
    for overrides in ({}, {"model": "other", "final.model": "none"}):
        assert load_recipe("friends", recipe, overrides) == load_recipe("friends", file, overrides)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("final_model", "final.model"),
        ("final_batch_size", "final.batch_size"),
        ("text_column", "data.text_column"),
        ("model", "model"),
        ("sweeps.context", "sweeps.context"),
        ("final", "final"),
    ],
)
def test_a_name_without_dots_stands_for_a_key_of_the_recipe(name, key):
    assert recipes.recipe_key(name) == key


def test_a_description_for_the_terminal_has_no_markdown():
    for key in (*Recipe.model_fields, *Hyperparameters.model_fields, "final.batch_size", "data.file"):
        text = recipes.description(key)
        assert text
        assert not set("`]") & set(text.replace("[None]", "").replace("[Ross]", "").replace("[Says]", ""))


def test_metrics_of_named_classes_are_known_by_the_names_without_spaces():
    assert load_recipe("sample", None, {"metric": "micro_f1:anger, joy"}).metric == "micro_f1:anger,joy"
    assert load_recipe("sample", None, {"metric": "average_precision: joy"}).direction() == "max"
    for metric in ("micro_f1:", "micro_f1:joy,", "roc_auc:joy, joy"):
        assert "name each class of" in refusal(metric=metric)
    assert "there is no 'micro_f1'; choose from accuracy," in refusal(metric="micro_f1")


@pytest.mark.parametrize(
    ("metric", "labels", "sentence"),
    [
        ("micro_f1:anger,joy", ("joy", "sadness"), "there is no class 'anger'; choose from joy, sadness."),
        ("roc_auc:fear", ("joy", "sadness"), "there is no class 'fear'; choose from joy, sadness."),
        (
            "quadratic_kappa",
            ("good", "bad"),
            "good, bad have no order that is known; give the classes as whole numbers",
        ),
    ],
)
def test_a_metric_that_the_classes_do_not_allow_is_refused(metric, labels, sentence):
    recipe = load_recipe("sample", None, {"metric": metric})
    with pytest.raises(UserError, match=f"Metric {metric}: {sentence}"):
        recipe.check_classes(labels)
    load_recipe("sample", None, {"metric": "quadratic_kappa"}).check_classes(("1", "2", "10"))
