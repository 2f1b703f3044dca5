"""bertgrid-tf: time-efficient tuning of BERT text classifiers in TensorFlow.

Example:
    >>> import bertgrid_tf as bg
    >>> bg.load_recipe("sample", overrides={"epochs": 4}).epochs
    4
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# transformers' TensorFlow models are tf_keras models, and TensorFlow decides which Keras `tf.keras` is, and how
# much it prints, when it is first imported. Hence here, before anything of ours can import it.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
# Where PyTorch is installed, transformers would load it into every process: 4 seconds and 300 MB for nothing.
os.environ.setdefault("USE_TORCH", "0")
# Whatever this process starts is executed anew, so that the tokenizers need not warn of each fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

if TYPE_CHECKING:
    from bertgrid_tf.api import Best, Study, load_corpus, open_study, suggest, tune
    from bertgrid_tf.budget.callbacks import Callback
    from bertgrid_tf.errors import UserError
    from bertgrid_tf.recipe import Recipe, load_recipe

__version__ = "0.1.0"

__all__ = [
    "Best",
    "Callback",
    "Recipe",
    "Study",
    "UserError",
    "load_corpus",
    "load_recipe",
    "open_study",
    "suggest",
    "tune",
]

_MODULES = {"Callback": "budget.callbacks", "Recipe": "recipe", "UserError": "errors", "load_recipe": "recipe"}


def __getattr__(name: str) -> Any:
    # pandas and pydantic take a second that a program of the command line's help need not wait for.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
