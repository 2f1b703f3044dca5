"""How large a model is, read off its config alone."""

from transformers import BertConfig

from bertgrid_tf.bert.checkpoint import SCRATCH, _config, _folder, _scratch_size


def layers_and_width(name: str) -> tuple[int, int]:
    """The layers of a checkpoint's encoder and the width of its hidden states; errors as for `checkpoint.load`."""
    if scratch := SCRATCH.fullmatch(name):
        return _scratch_size(scratch)
    config: BertConfig = _config(_folder(name))
    return int(config.num_hidden_layers), int(config.hidden_size)
