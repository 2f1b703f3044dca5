"""How large a BERT is, by its config."""

from dataclasses import replace

import pytest
from families import RELATIVES, Family
from tiny_bert import BASE

from bertgrid_tf.bert.dimensions import Dimensions, dimensions


def test_parameters_are_counted_as_the_model_counts_them(checkpoint):
    assert Dimensions.of(checkpoint.model.config, 2).parameters == checkpoint.model.count_params()


@pytest.mark.parametrize("family", RELATIVES, ids=lambda family: family.name)
def test_a_relative_s_parameters_are_counted_too(family: Family):
    model = family.classifier()
    assert Dimensions.of(model.config, 2).parameters == model.count_params()


def test_albert_computes_each_group_of_layers_repeatedly():
    (albert,) = (family for family in RELATIVES if family.name == "albert")
    model = albert.classifier(num_hidden_layers=6, num_hidden_groups=2, inner_group_num=2, embedding_size=32)
    size = Dimensions.of(model.config, 2)
    assert (size.layers, size.distinct_layers) == (12, 4)
    assert size.parameters == model.count_params()


def test_bert_base_cased_has_as_many_parameters_as_its_files():
    assert BASE.parameters == 108_310_272 + 8 * 769  # the encoder with its pooler, and the classifier


def test_dimensions_are_read_off_the_config_alone(checkpoint, saved):
    (saved / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")  # a file of no tensors
    config = checkpoint.model.config
    assert dimensions(str(saved), 2) == Dimensions.of(config, 2)
    own = dimensions("scratch:1x32", 2)
    assert replace(own, vocabulary=config.vocab_size) == Dimensions.of(config, 2)
    assert own.vocabulary >= config.vocab_size
