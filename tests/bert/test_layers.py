"""Variables and their layers, in every family whose layers have weights of their own."""

import pytest
from families import FAMILIES, Family
from tiny_bert import LABELS

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.layers import NUMBERED, layer_numbers
from bertgrid_tf.corpus import NONE_MARKER

OWN_LAYERS = [family for family in FAMILIES if family.name != "albert"]


@pytest.mark.parametrize("family", OWN_LAYERS, ids=lambda family: family.name)
def test_every_variable_has_the_number_of_its_layer(family: Family):
    model = family.classifier(num_hidden_layers=2)
    assert model.config.model_type in NUMBERED
    numbers = layer_numbers(model.variables, model.base_model_prefix)
    for variable, number in zip(model.variables, numbers, strict=True):
        name = variable.name.split("/", 1)[1]
        if "layer_._" in name:
            assert f"layer_._{number - 1}/" in name
        else:
            assert number == (0 if "embeddings" in name or "encoder" in name else 3), name
    assert {*numbers} == {0, 1, 2, 3}
    # Two layers have as many variables each.
    assert numbers.count(1) == numbers.count(2)


def test_embeddings_that_markers_were_added_to_stay_the_lowest(texts):
    model = load("scratch:1x32", LABELS, texts=texts, markers=[NONE_MARKER]).model
    numbers = layer_numbers(model.variables, model.base_model_prefix)
    table = model.get_input_embeddings().weight
    assert [number for variable, number in zip(model.variables, numbers, strict=True) if variable is table] == [0]
