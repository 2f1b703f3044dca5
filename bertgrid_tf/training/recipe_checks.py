"""Whether a recipe fits its checkpoints, its texts and the devices, before anything is trained.

TensorFlow is imported only where GPUs are counted, and no weights are downloaded before they are hashed.
"""

from collections.abc import Collection, Mapping, Sequence

from bertgrid_tf.bert.checkpoint_files import architecture, identity, layer_count, positions
from bertgrid_tf.bert.encode import check_room, check_vocabulary
from bertgrid_tf.bert.families import FAMILIES
from bertgrid_tf.bert.layers import NUMBERED
from bertgrid_tf.bert.scratch import SCRATCH
from bertgrid_tf.bert.tokenizer import checkpoint_notes, load_tokenizer
from bertgrid_tf.corpus import Corpus, segment_count, text_folds, utterances
from bertgrid_tf.corpus.votes import vote_shares
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import CHECKPOINT, Value
from bertgrid_tf.recipe import Recipe
from bertgrid_tf.training.encoding import training_texts

SAMPLED_TEXTS = 2_000
"""Training texts by which a vocabulary is judged, evenly spread."""
_OF_TYPES: Mapping[str, tuple[Value, Collection[str]]] = {
    "precision": ("fp32", FAMILIES),
    "head_retraining": ("none", FAMILIES),
    "layer_decay": (1, NUMBERED),
    "reinit_layers": (0, NUMBERED),
    "frozen_layers": (0, NUMBERED),
    "pooling": ("cls", FAMILIES),
    "hidden_dropout": (CHECKPOINT, FAMILIES),
    "attention_dropout": (CHECKPOINT, FAMILIES),
    "classifier_dropout": (CHECKPOINT, FAMILIES),
}
"""Hyperparameters with the value that every architecture can have, and the types that can have others."""


def check_recipe(recipe: Recipe, corpus: Corpus, final_here: bool = True) -> None:
    """Check a recipe without training.

    Args:
        recipe: The recipe to check.
        corpus: The corpus of the recipe.
        final_here: Whether the final model is trained in this process, so that its GPUs are counted.

    Raises:
        UserError: The recipe does not fit a checkpoint, the texts or the devices.
    """
    for place, kind in enumerate(("first", "second") if recipe.has_pairs else ("training",)):
        if not any(utterance.texts[place].strip() for utterance in utterances(corpus.splits["train"])):
            raise UserError(f"The {kind} texts of {corpus.name} are all empty: is it the right column?")
    texts = [text for text in training_texts(corpus) if text.strip()]
    if recipe.final_models() and final_here:
        from bertgrid_tf.bert.replicas import replica_count

        replica_count(recipe.final.gpus)
    for model in sorted({*recipe.searched_models(), *recipe.final_models()}):
        _check_lengths(recipe, model, texts[:: -(-len(texts) // SAMPLED_TEXTS)])
    if any(recipe.levels("soft_label_weight")):
        vote_shares(corpus, recipe.final.train_on != "train")
    if recipe.final.folds:
        text_folds(corpus.splits["train"], recipe.final.folds, recipe.seed)
    models = _architectures(recipe)
    for parameter, (plain, kinds) in _OF_TYPES.items():
        for level in recipe.levels(parameter):
            for model, kind in models.items():
                if level != plain and kind not in kinds:
                    raise UserError(f"{parameter} {level} is not for type {kind!r}, which {model} is of: use {plain}.")
    for model in models:
        _check_layers(recipe, model)


def _check_lengths(recipe: Recipe, model: str, texts: Sequence[str]) -> None:
    reach, tokenizer = positions(model), load_tokenizer(model, texts)
    check_vocabulary(tokenizer, model, texts)
    for max_length in map(int, recipe.levels("max_length")):
        if max_length > reach:
            raise UserError(f"max_length {max_length} is beyond the {reach} positions of {model}.")
        for context in map(str, recipe.levels("context")):
            check_room(tokenizer, 2 if recipe.has_pairs else segment_count(context), max_length)


def _check_layers(recipe: Recipe, model: str) -> None:
    redrawn, frozen = (max(map(int, recipe.levels(name))) for name in ("reinit_layers", "frozen_layers"))
    if redrawn and SCRATCH.fullmatch(model):
        raise UserError(f"reinit_layers {redrawn} is not for {model}, all of whose layers are drawn anyway: use 0.")
    if not redrawn + frozen:
        return
    if redrawn > (layers := layer_count(model)):
        raise UserError(f"reinit_layers {redrawn} is more than the {layers} layers of {model}.")
    if frozen >= layers:
        raise UserError(f"frozen_layers {frozen} leaves none of the {layers} layers of {model} to train: give fewer.")
    if redrawn + frozen > layers:
        raise UserError(
            f"reinit_layers {redrawn} and frozen_layers {frozen} are more than the {layers} layers of {model}: "
            "what is drawn anew has to be trained."
        )


def padded_models(recipe: Recipe) -> dict[str, str]:
    """Return the type of every checkpoint that computes padding, since it is neither BERT nor a relative."""
    return {model: kind for model, kind in _architectures(recipe).items() if kind not in FAMILIES}


def _architectures(recipe: Recipe) -> dict[str, str]:
    return {model: architecture(model) for model in [*recipe.searched_models(), *recipe.final_models()]}


def model_notes(recipe: Recipe) -> list[str]:
    """Return a sentence for everything about the checkpoints that was decided for the user, or costs time."""
    models = dict.fromkeys([*recipe.searched_models(), *recipe.final_models()])
    return [note for model in models for note in checkpoint_notes(model)] + [
        f"{model} is of type {kind}, whose own forward pass computes padding too: unless group_by_length is set, texts "
        "of similar length share a batch."
        for model, kind in padded_models(recipe).items()
    ]


def checkpoint_identities(recipe: Recipe) -> dict[str, str]:
    """Return a hash of each checkpoint of the search (`bert.checkpoint.identity`), which reads all of its files."""
    return {model: identity(model) for model in sorted(recipe.searched_models())}
